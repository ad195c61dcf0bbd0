"""The formats that personas travel in, and which of them a file is."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from backends.contract import Message
from errors import CounterpointError
from personas.schema import SLUG, Persona, parse_persona
from personas.travel import card, dataset, modelfile, png, webui
from personas.travel.parcel import Arrival, Parcel, decoded
from strict_json import show

MAX_FILE_BYTES = 20 * 10**6
"""Of a picture; the texts in it, and the other formats, have narrower limits of their own."""

_OURS = re.compile(rb"""^["']?(?:role|instructions)["']?[ \t]*:""", re.MULTILINE)
"""What our own YAML has and a character's has not; reading the whole YAML for it would take seconds twice."""


@dataclass(frozen=True, slots=True)
class Format:
    """A format: what its files are called, and how one is read and written.

    `read` takes the bytes, the file's name for messages, and the persona's new name if one is wished.
    """

    ending: str
    read: Callable[[bytes, str, str | None], Arrival]
    write: Callable[[Persona], Parcel]


def _read_own(raw: bytes, source: str, name: str | None) -> Arrival:
    persona = parse_persona(decoded(raw, source), source)
    return Arrival(persona.model_copy(update={"name": name}) if name else persona, ("everything",))


def _write_own(persona: Persona) -> Parcel:
    return Parcel(persona.to_yaml().encode())


FORMATS = {
    "card": Format(".card.json", card.read, card.write),
    "card-png": Format(".card.png", card.read_png, card.write_png),
    "webui": Format(".webui.yaml", webui.read, webui.write),
    "modelfile": Format(".Modelfile", modelfile.read, modelfile.write),
    "yaml": Format(".yaml", _read_own, _write_own),
}
"""By the name that a command gives; "yaml" is Counterpoint's own."""

DATASET = "dataset"
ENDINGS = {name: each.ending for name, each in FORMATS.items()} | {DATASET: ".jsonl"}
"""How files are called that are written; from a dataset's no persona can be read."""


def read_file(path: Path, name: str | None = None) -> Arrival:
    """The persona of a file, whichever of the formats it is.

    Raises CounterpointError where it cannot be read, or with all that is wrong with it.
    """
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise CounterpointError(
            f"{show(str(path), 300)} cannot be read ({error.strerror or error}): give the path of a file."
        ) from None
    return read(raw, path.name, name)


def read(raw: bytes, file_name: str, name: str | None = None) -> Arrival:
    """The persona of a file's bytes; `name` is what it shall be called, else the file says it.

    Raises CounterpointError with all that is wrong with it.
    """
    source = show(file_name).strip("'")
    if len(raw) > MAX_FILE_BYTES:
        raise CounterpointError(
            f"{source} is larger than {MAX_FILE_BYTES // 10**6} MB: no persona is that large."
        )
    if name is not None and (not SLUG.fullmatch(name) or len(name) > 64):
        raise CounterpointError(
            f"{show(name)} is no persona's name: use small letters, digits and single hyphens (at most 64)."
        )
    return FORMATS[_format(raw, source)].read(raw, source, name)


def write(
    persona: Persona,
    to: str,
    base: str | None = None,
    adapter: str | None = None,
    rated: Sequence[Sequence[Message]] = (),
    unfit: int = 0,
) -> Parcel:
    """The persona as a file of the format `to`; only a Modelfile names a base and an adapter, only a dataset holds chats
    whose answers are `rated` good, and says how many such are `unfit` for it.

    Raises CounterpointError for an unknown format, or what the format cannot hold.
    """
    if to not in ENDINGS:
        raise CounterpointError(f"{show(to)} is no format of personas: choose {', '.join(ENDINGS)}.")
    if to == "modelfile":
        return modelfile.write(persona, base, adapter)
    if adapter:
        raise CounterpointError("Only a Modelfile can name an adapter: choose the format modelfile.")
    return dataset.write(persona, rated, unfit) if to == DATASET else FORMATS[to].write(persona)


def _format(raw: bytes, source: str) -> str:
    """Which format a file is in: by its first bytes, its name, and what stands in it."""
    ending = source.lower().rpartition(".")[2]
    if raw.startswith(png.SIGNATURE):
        return "card-png"
    if ending == "json" or raw[:64].lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{"):
        return "card"
    if ending in ("yaml", "yml"):
        return "yaml" if _OURS.search(raw) else "webui"
    if "modelfile" in source.lower():
        return "modelfile"
    raise CounterpointError(
        f"{source} is in no format that personas are read from: give a character card (.json, .png), a character's "
        "or a persona's .yaml, or a Modelfile whose name says so."
    )
