"""Between a persona's YAML and the fields of a form. Pure: a form edits one field at a time, as data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from errors import CounterpointError
from personas.schema import Persona, dump, parse_persona
from strict_yaml import load_plain
from ui.words import say

LINES = ("instructions", "constraints", "style")
"""Fields that are lists in the file and one line each in the form."""
FIELDS = (
    "title",
    "description",
    "language",
    "tags",
    "role",
    "instructions",
    "context",
    "constraints",
    "style",
    "greeting",
    "examples",
)
"""The form's fields, in the order in which they stand there; the rest is edited as YAML."""


def to_fields(persona: Persona) -> list[Any]:
    """One value for each of FIELDS; examples are rows of (question, answer)."""
    values: list[Any] = []
    for name in FIELDS:
        value = getattr(persona, name)
        if name in LINES:
            values.append("\n".join(value))
        elif name == "tags":
            values.append(", ".join(value))
        elif name == "examples":
            values.append([[example.user, example.assistant] for example in value])
        else:
            values.append(value)
    return values


def as_written(text: str) -> list[Any] | None:
    """One value for each of FIELDS of a file that is no valid persona, as far as it tells them; None where it is not
    even a mapping, so that no field of it can be edited."""
    content = _content(text)
    if content is None:
        return None
    values = [_as_field(name, content.get(name)) for name in FIELDS]
    return [value if isinstance(value, list) else "" if value is None else str(value) for value in values]


def with_field(text: str, name: str, value: Any) -> str:
    """The YAML with one field as the form has it, or as it was where the field says nothing new.

    The other values stay as they are. Raises CounterpointError where the YAML is no mapping of plain data.
    """
    content = _content(text)
    if content is None:
        raise CounterpointError(say("yaml_broken"))
    parsed = _from_form(name, value)
    if parsed == _from_form(name, _as_field(name, content.get(name))):
        return text
    if parsed:
        content[name] = parsed
    else:
        content.pop(name, None)
    return dump(content)


def checked(text: str, name: str) -> Persona:
    """The edited persona. Raises CounterpointError with all that is wrong, or where it was renamed."""
    persona = parse_persona(text, f"{name}.yaml")
    if persona.name != name:
        raise CounterpointError(say("renamed", name=name, new=persona.name))
    return persona


def free_name(name: str, taken: Sequence[str]) -> str:
    """A name for a copy that nobody has yet."""
    return next(each for number in range(2, len(taken) + 3) if (each := f"{name}-{number}") not in taken)


def _content(text: str) -> dict[str, Any] | None:
    """The file's mapping; None where it cannot be read as one."""
    try:
        content = load_plain(text, "persona.yaml")
    except CounterpointError:
        return None
    return content if isinstance(content, dict) else None


def _as_field(name: str, content: Any) -> Any:
    """What the form would show of a field of the file, also where the file is not valid yet."""
    if name == "examples":
        rows = content if isinstance(content, list) else []
        return [[row.get("user"), row.get("assistant")] for row in rows if isinstance(row, dict)]
    if isinstance(content, list):
        return (", " if name == "tags" else "\n").join(map(str, content))
    return content


def _from_form(name: str, value: Any) -> Any:
    if name == "examples":
        rows = [[str(cell or "").strip() for cell in row[:2]] for row in value or []]
        return [{"user": row[0], "assistant": row[1]} for row in rows if len(row) == 2 and any(row)]
    text = str(value or "").strip()
    if name in LINES:
        return [line.strip() for line in text.splitlines() if line.strip()]
    if name == "tags":
        return [tag.strip() for tag in text.split(",") if tag.strip()]
    return text
