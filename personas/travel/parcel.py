"""What all formats share: a persona that has arrived, a file that leaves, and how a persona is made of texts."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from pydantic import ValidationError

from errors import CounterpointError
from personas.schema import MAX_FILE_BYTES, MAX_ORIGIN_CHARS, Origin, Persona
from personas.travel.macros import BRACES, as_typed
from strict_json import parse, show
from strict_yaml import dotted, friendly, joined

Kind = Literal["card", "webui", "modelfile"]
OWN = "counterpoint"
"""Under this key a file of another format carries the persona itself, which loses nothing when it comes home."""
CHANGED = "what Counterpoint kept in the file: it was changed since, and read as it is now"
"""The note where what stands under OWN is not what the rest of the file says."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """A persona that was imported; `carried` says what became what, `left` what did not come along."""

    persona: Persona
    carried: tuple[str, ...] = ()
    left: tuple[str, ...] = ()

    def after(self, notes: Sequence[str]) -> Arrival:
        """The same, with these notes before those of what did not come along."""
        return replace(self, left=(*notes, *self.left))


@dataclass(frozen=True, slots=True)
class Parcel:
    """A persona's file in another format; `left` says what that format has no place for, `carried` what is in it where
    that is not plain."""

    content: bytes
    left: tuple[str, ...] = ()
    carried: tuple[str, ...] = ()


def decoded(raw: bytes, source: str, most: int = MAX_FILE_BYTES) -> str:
    """A text file's text, its lines ended by \\n alone. Raises CounterpointError if it is too large or no UTF-8."""
    if len(raw) > most:
        raise CounterpointError(f"{source} has {len(raw):,} bytes, and {most:,} fit: shorten it.")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise CounterpointError(f"{source} is not UTF-8 text: save it as UTF-8.") from None
    return unix(text)


def check_text(data: object, source: str) -> None:
    """Raises CounterpointError where data that was read holds what no file can hold: half a character."""
    try:
        json.dumps(data, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise CounterpointError(
            f"{source} holds half a character (a lone surrogate), which is no text."
        ) from None


def unix(text: str) -> str:
    """Lines ended by \\n, as the formats that are read line by line need it."""
    return text.replace("\r\n", "\n").replace("\r", "\n")


def slug(*texts: str, otherwise: str = "imported") -> str:
    """A persona's name out of the first of these texts that has letters for one."""
    for text in texts:
        plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
        name = re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:64].strip("-")
        if name:
            return name
    return otherwise


def one_line(text: str) -> str:
    return " ".join(text.split())


KEPT = "; kept for an export"
"""In a note of what has no place in a persona but stays with it as its file said it."""


def arrived(
    content: dict[str, Any],
    source: str,
    origin: tuple[Kind, dict[str, Any]],
    carried: Sequence[str] = (),
    left: Sequence[str] = (),
    worth: Sequence[Collection[str]] = (),
) -> Arrival:
    """The persona of these fields, whose texts hold no variable of ours: braces in them stay as typed.

    `origin` is the format and what its file said, `worth` as `with_origin` takes it. Raises CounterpointError with all
    that does not fit a persona.
    """
    try:
        persona = Persona.model_validate(as_typed(content))
    except ValidationError as error:
        raise wrong(error, f"{source}, as a persona") from None
    persona, lost = with_origin(persona, *origin, worth)
    if persona.origin is None:  # nothing was kept, so no note may say so
        left = [note.partition(KEPT)[0] for note in left]
    return Arrival(persona, tuple(carried), (*left, *lost))


def with_origin(
    persona: Persona, kind: Kind, data: dict[str, Any], worth: Sequence[Collection[str]] = ()
) -> tuple[Persona, list[str]]:
    """The persona that remembers what its file said, as far as there is room, and a note of what there is none for.

    `worth` are the file's fields in groups that stay or go together, the dearest first: what fits of them is kept
    where the whole does not fit.
    """
    kept: dict[str, Any] = {}
    for group in (data, *worth):
        more = {key: value for key, value in data.items() if key in kept or key in group}
        fuller = _remembering(persona, kind, more) if len(more) > len(kept) else None
        if fuller is not None:
            persona, kept = fuller, more
    lost = {key: value for key, value in data.items() if key not in kept}
    if not lost:
        return persona, []
    what = names(list(lost)) if kept else "the file as it was"
    return persona, [f"{what} ({len(_as_json(lost)):,} characters): too large to keep for an export"]


def _remembering(persona: Persona, kind: Kind, data: dict[str, Any]) -> Persona | None:
    """The persona with this as its origin; None where that does not fit into its file."""
    kept = _as_json(data)
    if len(kept) > MAX_ORIGIN_CHARS:
        return None
    whole = persona.model_copy(update={"origin": Origin(format=kind, data=kept)})
    return whole if len(whole.to_yaml().encode()) <= MAX_FILE_BYTES else None


def _as_json(data: dict[str, Any]) -> str:
    return json.dumps(data, ensure_ascii=False, indent=1)


def origin_of(persona: Persona, kind: Kind) -> dict[str, Any] | None:
    """What the persona's file said, where it came from one of this format."""
    if persona.origin is None or persona.origin.format != kind:
        return None
    return parse(persona.origin.data.encode())


def is_unedited(persona: Persona, reread: Callable[[], Arrival]) -> bool:
    """Whether the persona is still what its file, which `reread` reads again, makes of it."""
    try:
        return reread().persona == persona
    except CounterpointError:
        return False  # An origin that was edited by hand is no longer what came in.


def packed(persona: Persona) -> dict[str, Any]:
    """The persona as plain data for a file of another format to carry along, without where it came from."""
    return persona.model_dump(mode="json", exclude_defaults=True, exclude={"origin"})


def unpacked(value: object, name: str | None) -> Persona | None:
    """The persona that `packed` made, under `name` if one is given; None where it is none (any more)."""
    if not isinstance(value, Mapping):
        return None
    content = {key: each for key, each in value.items() if key != "origin"}
    try:
        return Persona.model_validate_json(
            json.dumps(content | ({"name": name} if name else {})), strict=True
        )
    except (ValidationError, ValueError):
        return None


def wrong(error: ValidationError, source: str, within: Sequence[str] = ()) -> CounterpointError:
    """All that pydantic found in a file, each as "file: field: what is wrong"."""
    told = [
        f"{source}: {dotted([*within, *problem['loc']])}: {friendly(problem)}"
        for problem in error.errors(include_url=False)
    ]
    return CounterpointError(joined(told))


def unsaid(persona: Persona, kind: Kind, *fields: str) -> list[str]:
    """Notes of what a format has no place for: among these fields, those that the persona has, and whatever a
    file of another format said."""
    notes = []
    filled_in = [name for name in persona.variables if name != BRACES]
    if filled_in:
        notes.append(f"variables ({names(filled_in)}): written with their defaults")
    there = [
        field for field in fields if getattr(persona, field) != Persona.model_fields[field].get_default()
    ]
    if there:
        notes.append(f"{', '.join(there)}: no place there; only Counterpoint finds them again in the file")
    if persona.origin and persona.origin.format != kind:
        notes.append(f"what its {persona.origin.format} file said besides: only such a file takes it back")
    return notes


def shown(examples: int, rest: str) -> str:
    """Where an example conversation went, for a note."""
    places = [f"examples ({examples})"] if examples else []
    return ", ".join([*places, *(["context"] if rest else [])])


def names(keys: Sequence[str]) -> str:
    """Foreign keys for a note: a few of them, printable."""
    told = [show(key, 40).strip("'") for key in keys[:8]]
    return ", ".join([*told, "…"] if len(keys) > 8 else told)
