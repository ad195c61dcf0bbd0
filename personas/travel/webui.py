"""Characters of text-generation-webui: YAML with name, greeting and context, example dialogue in the context."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from errors import CounterpointError
from personas.render import greeting, render
from personas.schema import Persona, dump
from personas.travel import dialogue
from personas.travel.macros import USER, worded
from personas.travel.parcel import (
    CHANGED,
    KEPT,
    OWN,
    Arrival,
    Parcel,
    arrived,
    check_text,
    decoded,
    is_unedited,
    names,
    one_line,
    origin_of,
    packed,
    shown,
    slug,
    unix,
    unpacked,
    unsaid,
    wrong,
)
from strict_yaml import load_plain

TEXTS = ("name", "greeting", "context")
_MENTIONED = (*TEXTS, "bot", "user", "your_name", "example_dialogue", OWN)
_DIALOGUE = re.compile(r"^[ \t]*(?:<START>|\{\{user\}\}:|<USER>:|You:)", re.IGNORECASE | re.MULTILINE)
"""Where the example dialogue in a context begins."""


class _Character(BaseModel):
    model_config = ConfigDict(extra="allow", strict=True, frozen=True)

    name: Annotated[
        str,
        StringConstraints(strip_whitespace=True, min_length=1, max_length=200),
        Field(validation_alias=AliasChoices("name", "bot")),
    ]
    context: str = ""
    greeting: str = ""
    example_dialogue: str = ""
    your_name: Annotated[str, Field(validation_alias=AliasChoices("your_name", "user"))] = ""


def read(raw: bytes, source: str, name: str | None = None) -> Arrival:
    """The persona of a character's YAML. Raises CounterpointError with all that is wrong with it."""
    data = load_plain(decoded(raw, source), source)
    if not isinstance(data, dict) or not data.keys() & set(_MENTIONED):
        raise CounterpointError(f"{source} is no character: it has neither a name nor a context.")
    check_text(data, source)
    if "turn_template" in data and not data.get("context"):
        raise CounterpointError(
            f"{source} is an instruction template, not a character: give a character's file."
        )
    left = []
    if OWN in data:
        ours = unpacked(data.pop(OWN), name)
        if ours and _mapped(ours) == {key: data.get(key) for key in TEXTS}:
            return Arrival(ours, ("all that Counterpoint wrote into the file",))
        left.append(CHANGED)
    return _foreign(data, source, name).after(left)


def write(persona: Persona) -> Parcel:
    """The persona as a character's YAML, its whole system message in the context."""
    came = origin_of(persona, "webui")
    if came is not None and is_unedited(persona, lambda: _foreign(came, "character", persona.name)):
        return Parcel(dump(came).encode())
    rest = {key: value for key, value in (came or {}).items() if key not in _MENTIONED}
    left = unsaid(persona, "webui", "description", "tags", "sampling", "questions", "language", "steps")
    return Parcel(dump({**_mapped(persona), **rest, OWN: packed(persona)}).encode(), tuple(left))


def _mapped(persona: Persona) -> dict[str, str]:
    system, *turns, _ = render(persona, "")
    said = [turn["content"] for turn in turns]
    examples = dialogue.write(zip(said[::2], said[1::2], strict=True))
    context = "\n\n".join(part for part in (system["content"], examples) if part)
    return {"name": persona.title, "greeting": unix(greeting(persona)), "context": unix(context)}


def _foreign(data: dict[str, Any], source: str, name: str | None) -> Arrival:
    given = {key: value for key, value in data.items() if value is not None}
    try:
        character = _Character.model_validate(given)
    except ValidationError as error:
        raise wrong(error, source) from None
    title = one_line(character.name)
    user = one_line(character.your_name) or USER
    users = (user,) if user != USER else ()
    about, speech = _split(character.context)
    examples, rest = dialogue.read("\n<START>\n".join([speech, character.example_dialogue]), title, users)
    context = [about, f"How {title} speaks:\n{rest}" if rest else ""]
    content = {
        "name": name or slug(title, source.partition(".")[0]),
        "title": title,
        "description": f"{title}, from a text-generation-webui character.",
        "role": f"You are {title}.",
        "instructions": [f"Answer as {title}, in {title}'s own words."],
        "context": worded("\n\n".join(part.strip() for part in context if part.strip()), title, user),
        "examples": [{who: worded(said, title, user) for who, said in each.items()} for each in examples],
        "greeting": worded(character.greeting, title, user),
    }
    carried = [
        f"{what} → {where}"
        for what, where, there in (
            ("name", "title, role", True),
            ("context", "context", about.strip()),
            ("example dialogue", shown(len(examples), rest), examples or rest),
            ("greeting", "greeting", character.greeting.strip()),
            ("your_name", "what {{user}} was replaced by", users),
        )
        if there
    ]
    others = [key for key, value in given.items() if key not in _MENTIONED and value not in ("", [], {})]
    left = [f"{names(others)}: no place in a persona{KEPT} to such a file"] if others else []
    return arrived(content, source, ("webui", data), carried, left)


def _split(context: str) -> tuple[str, str]:
    """The context before its example dialogue, and the dialogue."""
    begins = _DIALOGUE.search(context)
    return (context[: begins.start()], context[begins.start() :]) if begins else (context, "")
