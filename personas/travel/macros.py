"""Braces in foreign texts: {{char}} and {{user}} become plain words, all others stay as they were typed."""

from __future__ import annotations

import re
from typing import Any

from personas.schema import PLACEHOLDER

USER = "the user"
BRACES = "braces"
"""The variable that stands for two opening braces, so that {{x}} of a foreign text is no variable of ours."""

_MACRO = re.compile(r"\{\{[ \t]*(char|user)[ \t]*\}\}|<(BOT|CHAR|USER)>", re.IGNORECASE)
_TEXTS = ("role", "instructions", "context", "constraints", "style", "examples", "greeting")


def worded(text: str, char: str, user: str = USER) -> str:
    """`text` with {{char}}, {{user}}, <BOT> and <USER> as plain words, whatever their case."""
    return _MACRO.sub(lambda match: user if (match[1] or match[2]).lower() == "user" else char, text)


def as_typed(content: dict[str, Any]) -> dict[str, Any]:
    """A persona's fields with every {{x}} in its texts kept from being read as a variable of ours.

    One variable can only be two opening braces: "{{x}}" is written "{{braces}}x}}" and read as it was typed.
    """
    kept = {key: _kept(value) if key in _TEXTS else value for key, value in content.items()}
    if kept == content:
        return content
    variable = {
        "description": "Two opening braces, as they were typed in the imported file",
        "default": "{{",
        "choices": ["{{"],
    }
    return {**kept, "variables": {BRACES: variable}}


def _kept(value: Any) -> Any:
    if isinstance(value, str):
        return PLACEHOLDER.sub(lambda match: f"{{{{{BRACES}}}}}{match[0][2:]}", value)
    if isinstance(value, dict):
        return {key: _kept(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_kept(each) for each in value]
    return value
