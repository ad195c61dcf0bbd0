"""The form of one declared server: from its fields to a declaration and back, and what is wrong with it."""

from __future__ import annotations

import os
from collections.abc import Sequence

from pydantic import ValidationError

import strict_yaml
from comparison.servers import KEY_PREFIX, KEY_VARIABLE, Declared, Entry
from errors import CounterpointError
from ui.words import say

FIELDS = ("name", "url", "model", "key_env", "adapters", "extended")
"""The fields in the order in which they stand on the page; named as in the file."""
KNOWS = {"says": None, "yes": True, "no": False}
"""The choices of `extended`."""
EMPTY = ("", "", "", "", "", "says")
KEY_EXAMPLE = f"{KEY_PREFIX}GPU"


def to_fields(server: Declared | None) -> tuple[str, ...]:
    """The fields' values for a declaration; empty ones for none."""
    if server is None:
        return EMPTY
    knows = next(choice for choice, value in KNOWS.items() if value is server.extended)
    adapters = "\n".join(f"{name} = {id_}" for name, id_ in server.adapters.items())
    return (server.name, server.url, server.model or "", server.key_env or "", adapters, knows)


def read(fields: Sequence[str | None], before: Sequence[Declared] = ()) -> Entry:
    """The declaration that the fields make. What the form has no field for stays as it is in the one of that name
    `before`.

    Raises CounterpointError with every mistake, each with its field.
    """
    name, url, model, key_env, adapters, knows = ((value or "").strip() for value in fields)
    told, problems = _adapters(adapters)
    silence = next((each.silence_s for each in before if each.name == name), None)
    try:
        declared = Entry(
            name=name,
            url=url,
            model=model or None,
            key_env=key_env or None,
            adapters=told,
            extended=KNOWS.get(knows),
            silence_s=silence,
        )
    except ValidationError as error:
        wrong = {str(problem["loc"][0]): strict_yaml.friendly(problem) for problem in error.errors()}
        problems = [*(f"{say('server_' + field)} {what}" for field, what in wrong.items()), *problems]
    if problems:
        raise CounterpointError("; ".join(problems) + ".")
    return declared


def key_note(name: str | None) -> str:
    """Whether the variable that is named holds a key; never what it holds. Empty where no name can be."""
    name = (name or "").strip()
    if not KEY_VARIABLE.fullmatch(name):
        return ""
    return say("server_key_set" if os.environ.get(name) else "server_key_unset", name=name)


def _adapters(text: str) -> tuple[dict[str, str], list[str]]:
    """The lines NAME = MODEL ID, and what is wrong with them."""
    found: dict[str, str] = {}
    problems = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        name, equals, id_ = (part.strip() for part in line.partition("="))
        if not (name and equals and id_):
            problems.append(say("server_adapter_line", line=number))
        elif name in found:
            problems.append(say("server_adapter_twice", line=number, name=name[:80]))
        else:
            found[name] = id_
    return found, problems
