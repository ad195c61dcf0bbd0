"""Tavern character cards: V2 (github.com/malfoyslastname/character-card-spec-v2), and V1 and V3 as far as they are V2.

An imported card is kept in the persona's origin: until the persona is edited, it goes out as it came in. Of one that
is too large for that, what is found nowhere else is kept first.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Collection, Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, JsonValue, StringConstraints, ValidationError, model_validator

from errors import CounterpointError
from personas.render import filled, greeting, render, variable_values
from personas.schema import Persona
from personas.travel import dialogue, png
from personas.travel.macros import worded
from personas.travel.parcel import (
    CHANGED,
    KEPT,
    OWN,
    Arrival,
    Parcel,
    arrived,
    is_unedited,
    names,
    one_line,
    origin_of,
    packed,
    shown,
    slug,
    unpacked,
    unsaid,
    with_origin,
    wrong,
)
from strict_json import parse, show

MAX_CARD_BYTES = 4 * 2**20
MAX_GREETING = 8_000
V2, V3 = "chara_card_v2", "chara_card_v3"
TEXTS = (
    "name",
    "description",
    "personality",
    "scenario",
    "first_mes",
    "mes_example",
    "system_prompt",
    "post_history_instructions",
)
"""What makes up the character. `creator_notes` must never be among it: it is for people alone."""
_EMPTY: dict[str, Any] = {
    **dict.fromkeys(TEXTS, ""),
    "creator_notes": "",
    "alternate_greetings": [],
    "tags": [],
    "creator": "",
    "character_version": "",
    "extensions": {},
}
_MENTIONED = (
    *TEXTS,
    "creator_notes",
    "tags",
    "nickname",
    "alternate_greetings",
    "character_book",
    "extensions",
)
_SMALL = ("creator_notes", "creator", "character_version", "tags", "nickname")


class _Lenient(BaseModel):
    # Unknown fields must never be destroyed, says the specification.
    model_config = ConfigDict(extra="allow", strict=True, frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _null_is_absent(cls, data: Any) -> Any:
        return (
            {key: value for key, value in data.items() if value is not None}
            if isinstance(data, dict)
            else data
        )


class _Entry(_Lenient):
    content: str = ""
    enabled: bool = True
    constant: bool | None = None
    insertion_order: float = 0
    position: JsonValue = None

    @property
    def always(self) -> bool:
        """Whether it is told in every conversation, without a keyword."""
        return bool(self.enabled and self.constant and self.content.strip())


class _Book(_Lenient):
    entries: list[_Entry] = []


class _Card(_Lenient):
    name: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200)]
    description: str = ""
    personality: str = ""
    scenario: str = ""
    first_mes: str = ""
    mes_example: str = ""
    system_prompt: str = ""
    post_history_instructions: str = ""
    creator_notes: str = ""
    creator: str = ""
    nickname: str = ""
    alternate_greetings: list[str] = []
    tags: list[str] = []
    character_book: _Book = _Book()
    extensions: dict[str, JsonValue] = {}


def read(raw: bytes, source: str, name: str | None = None) -> Arrival:
    """The persona of a card's JSON. Raises CounterpointError with all that is wrong with it."""
    data, notes = _data(raw, source)
    extensions = data.get("extensions")
    if isinstance(extensions, dict) and OWN in extensions:
        ours = unpacked(extensions[OWN], name)
        data["extensions"] = {key: value for key, value in extensions.items() if key != OWN}
        if ours and all(_mapped(ours)[field] == data.get(field) for field in TEXTS):
            lost: list[str] = []
            if data != _native(ours):
                ours, lost = with_origin(ours, "card", data, _worth(data))
            return Arrival(ours, ("all that Counterpoint wrote into the card",), (*notes, *lost))
        notes.append(CHANGED)
    return _foreign(data, source, name).after(notes)


def read_png(raw: bytes, source: str, name: str | None = None) -> Arrival:
    """The persona of a card in a picture. Raises CounterpointError as `read` does, or where there is none."""
    card, notes = png.read(raw, source)
    return read(card, source, name).after(notes)


def write(persona: Persona) -> Parcel:
    """The persona as a V2 card in JSON."""
    data, left = _card(persona)
    card = {"spec": V2, "spec_version": "2.0", "data": data}
    return Parcel((json.dumps(card, ensure_ascii=False, indent=2) + "\n").encode(), tuple(left))


def write_png(persona: Persona) -> Parcel:
    """The persona as a V2 card in a picture of one colour, another one for each persona."""
    parcel = write(persona)
    return Parcel(png.write(parcel.content, f"#{persona.sha256[:6]}"), parcel.left)


def _data(raw: bytes, source: str) -> tuple[dict[str, Any], list[str]]:
    """The card's own fields, wherever its version puts them, and notes."""
    if len(raw) > MAX_CARD_BYTES:
        raise CounterpointError(f"{source} has a card of {len(raw):,} bytes, and {MAX_CARD_BYTES:,} fit.")
    try:
        card = parse(raw.removeprefix(codecs.BOM_UTF8))
    except ValueError as error:
        raise CounterpointError(f"{source} cannot be read as a card: {error}: mend the file.") from None
    spec = card.get("spec") if isinstance(card, dict) else None
    if spec not in (None, V2, V3):
        raise CounterpointError(
            f"{source}: spec: {show(spec)} is not supported: give a card of V1, V2 ({V2}) or V3 ({V3})."
        )
    data = card.get("data", None if spec else card) if isinstance(card, dict) else None
    if not isinstance(data, dict) or not data.keys() & set(TEXTS[1:]):
        raise CounterpointError(f"{source} is no character card: it has none of a card's fields.")
    return dict(data), ["chara_card_v3: read as far as it is V2"] if spec == V3 else []


def _checked(data: Mapping[str, Any], source: str) -> _Card:
    try:
        return _Card.model_validate(data)
    except ValidationError as error:
        raise wrong(error, source) from None


def _foreign(data: dict[str, Any], source: str, name: str | None) -> Arrival:
    """The persona of a card that another program wrote."""
    card = _checked(data, source)
    title = one_line(card.name)
    char = one_line(card.nickname) or title
    usual = f"Answer as {title}, in {title}'s own words."
    examples, rest = dialogue.read(card.mes_example, char, (title,) if char != title else ())
    fits = len(worded(card.first_mes, char).strip()) <= MAX_GREETING
    tags = _tags(card)
    last = _ORIGINAL.sub("", worded(card.post_history_instructions, char)).strip()
    content = {
        "name": name or slug(card.name, source.partition(".")[0]),
        "title": title,
        "description": _about(card),
        "tags": tags,
        "role": f"You are {title}.",
        "instructions": [
            _ORIGINAL.sub(lambda _: usual, worded(card.system_prompt, char))
            if card.system_prompt.strip()
            else usual
        ],
        "context": _context(card, char, rest),
        "constraints": [last] if last else [],
        "examples": [{who: worded(said, char) for who, said in example.items()} for example in examples],
        "greeting": worded(card.first_mes, char) if fits else "",
    }
    carried = _carried(card, shown(len(examples), rest), fits, bool(tags))
    arrival = arrived(content, source, ("card", data), carried, worth=_worth(data))
    left = _left(card, data, origin_of(arrival.persona, "card") or {})
    if not fits:
        left.insert(
            0, f"first_mes ({len(card.first_mes):,} characters): a greeting may have {MAX_GREETING:,}"
        )
    lost_tags = [tag for tag in card.tags if slug(tag, otherwise="") not in tags]
    if lost_tags:
        left.append(f"tags ({names(lost_tags)}): not made of letters and digits, or more than 16")
    return arrival.after(left)


def _worth(data: Mapping[str, Any]) -> list[Collection[str]]:
    """A card's fields as `with_origin` takes them. Without its name nothing else of it could be read again; the
    persona says its texts too, and what it holds of a book's entries they say themselves."""
    unknown = data.keys() - {*_MENTIONED, *_SMALL}
    return [["name"], ["extensions"], _SMALL, unknown, ["alternate_greetings"], TEXTS, ["character_book"]]


_ORIGINAL = re.compile(r"\{\{[ \t]*original[ \t]*\}\}", re.IGNORECASE)
"""Where a card's system prompt wants the one that it takes the place of."""


def _about(card: _Card) -> str:
    """What a person reads before picking the character: never part of a prompt."""
    notes = card.creator_notes.strip()
    if not notes:
        by = f" by {one_line(card.creator)}" if card.creator.strip() else ""
        notes = f"{one_line(card.name)}, from a character card{by}."
    return notes if len(notes) <= 1_000 else notes[:999].rstrip() + "…"


def _tags(card: _Card) -> list[str]:
    return list(dict.fromkeys(tag for each in card.tags if (tag := slug(each, otherwise=""))))[:16]


def _context(card: _Card, char: str, rest: str) -> str:
    book = sorted(
        (each for each in card.character_book.entries if each.always), key=lambda each: each.insertion_order
    )
    before = [each.content for each in book if each.position != "after_char"]
    after = [each.content for each in book if each.position == "after_char"]
    parts = [*before, card.description, _headed("Personality: ", card.personality)]
    parts += [_headed("Scenario: ", card.scenario), *after, _headed(f"How {char} speaks:\n", rest)]
    return "\n\n".join(worded(part, char).strip() for part in parts if part.strip())


def _headed(heading: str, text: str) -> str:
    return heading + text.strip() if text.strip() else ""


def _carried(card: _Card, examples: str, greets: bool, tagged: bool) -> list[str]:
    always = sum(entry.always for entry in card.character_book.entries)
    told = [field for field in ("description", "personality", "scenario") if getattr(card, field).strip()]
    told += [f"character_book ({always} constant)"] if always else []
    found = [
        ("name", "title, role"),
        (", ".join(told), "context"),
        ("system_prompt" if card.system_prompt.strip() else "", "instructions"),
        ("post_history_instructions" if card.post_history_instructions.strip() else "", "constraints"),
        ("first_mes" if greets and card.first_mes.strip() else "", "greeting"),
        ("mes_example" if card.mes_example.strip() else "", examples),
        ("tags" if tagged else "", "tags"),
        ("creator_notes" if card.creator_notes.strip() else "", "description, which no model reads"),
    ]
    return [f"{what} → {where}" for what, where in found if what]


def _left(card: _Card, data: Mapping[str, Any], origin: Mapping[str, Any]) -> list[str]:
    """Notes of what a persona has no place for; what the `origin` lacks of it is told as too large elsewhere."""

    def kept(key: str) -> str:
        return f"{KEPT} to a card" if key in origin else ""

    left = []
    if card.alternate_greetings:
        count = len(card.alternate_greetings)
        left.append(f"alternate_greetings ({count}): a persona has one greeting{kept('alternate_greetings')}")
    waiting = sum(not entry.always for entry in card.character_book.entries)
    if waiting:
        left.append(
            f"character_book ({waiting} not constant): nothing here looks for keywords{kept('character_book')}"
        )
    if card.extensions:
        left.append(f"extensions ({names(list(card.extensions))}): other programs' own{kept('extensions')}")
    others = [key for key, value in data.items() if key not in _MENTIONED and value not in (None, "", [], {})]
    for some in ([key for key in others if key in origin], [key for key in others if key not in origin]):
        if some:
            left.append(f"{names(some)}: no place in a persona{kept(some[0])}")
    return left


def _mapped(persona: Persona) -> dict[str, str]:
    """TEXTS as a persona says them, its variables filled with their defaults."""
    values = variable_values(persona)
    texts = [filled(each, values) for each in persona.constraints]
    turns = [(filled(each.user, values), filled(each.assistant, values)) for each in persona.examples]
    prompt = persona.model_copy(update={"context": "", "constraints": (), "examples": ()})
    return {
        "name": persona.title,
        "description": filled(persona.context, values),
        "personality": "",
        "scenario": "",
        "first_mes": greeting(persona),
        "mes_example": dialogue.write(turns),
        "system_prompt": render(prompt, "")[0]["content"],
        "post_history_instructions": texts[0]
        if len(texts) == 1
        else "\n".join(f"- {text}" for text in texts),
    }


def _native(persona: Persona) -> dict[str, Any]:
    """The card of a persona that comes from none."""
    return {**_EMPTY, **_mapped(persona), "creator_notes": persona.description, "tags": list(persona.tags)}


def _card(persona: Persona) -> tuple[dict[str, Any], list[str]]:
    """A card's fields: as they came where nothing was edited, else the persona's with what else they held."""
    came = origin_of(persona, "card")
    if came is not None and is_unedited(persona, lambda: _foreign(came, "card", persona.name)):
        return {**_EMPTY, **{key: value for key, value in came.items() if value is not None}}, []
    data = _native(persona) | (_rest(came, persona) if came else {})
    data["extensions"] = {**data["extensions"], OWN: packed(persona)}
    return data, unsaid(persona, "card", "sampling", "questions", "language", "steps")


def _rest(came: dict[str, Any], persona: Persona) -> dict[str, Any]:
    """What an edited persona's card still says as it did."""
    rest = {key: value for key, value in came.items() if key not in TEXTS and value is not None}
    try:
        card = _checked(came, "card")
    except CounterpointError:
        return {"extensions": {}}
    if _about(card) != persona.description:
        rest.pop("creator_notes", None)
    if tuple(_tags(card)) != persona.tags:
        rest.pop("tags", None)
    book = rest.get("character_book")
    if book:
        # Constant entries stand in the context by now, and would be told twice.
        entries = [
            {**entry, "enabled": False} if known.always else entry
            for entry, known in zip(book.get("entries") or [], card.character_book.entries, strict=True)
        ]
        rest["character_book"] = {**book, "entries": entries}
    if len(card.first_mes) > MAX_GREETING and not persona.greeting:
        rest["first_mes"] = card.first_mes
    return rest
