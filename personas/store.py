"""Where personas are kept: those that ship with the app, and a person's own in the data folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import durable
from errors import CounterpointError
from personas.schema import MAX_FILE_BYTES, SLUG, Persona, parse_persona

Origin = Literal["library", "yours"]
_Stamp = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class PersonaEntry:
    """One persona's file: either `persona`, or the `problem` that keeps it from being used.

    `shadows` tells that this file of yours stands in for a shipped persona of the same name.
    """

    name: str
    persona: Persona | None
    problem: str | None
    origin: Origin
    path: Path
    shadows: bool = False


@dataclass(frozen=True, slots=True)
class _Reading:
    """What a file held when its `stamp` was taken. `name` is what it says itself, where that is a text."""

    stamp: _Stamp | None
    persona: Persona | None
    problem: str | None
    name: str | None


class PersonaStore:
    """Personas by name. A file is read again only when it has changed on disk."""

    def __init__(self, library: Path, data_dir: Path) -> None:
        self._library = library
        self._yours = data_dir / "personas"
        self._read: dict[tuple[Path, tuple[str, ...]], _Reading] = {}

    def list(self) -> list[PersonaEntry]:
        """All personas by name; one of yours hides a shipped one of its name. A bad file is one entry."""
        shipped = _files(self._library)
        yours = _files(self._yours)
        entries = [self._entry(path, "library", False) for name, path in shipped.items() if name not in yours]
        entries += [self._entry(path, "yours", name in shipped) for name, path in yours.items()]
        return sorted(entries, key=lambda entry: entry.name)

    def get(self, name: str) -> Persona:
        """Raises CounterpointError where there is no such persona (naming those there are), or it is bad."""
        persona, problem = self._parsed(self._path(name))
        if persona is None:
            raise CounterpointError(f"The persona {name} cannot be used: {problem}")
        return persona

    def text(self, name: str) -> str:
        """The file as it was written, comments included. Raises CounterpointError like `get`, but for a
        bad persona only where its text cannot be read at all."""
        return _text(self._path(name))

    def save(self, text: str) -> Persona:
        """Keeps a persona in the data folder, under its own name, replacing yours of that name.

        Raises CounterpointError with all that is wrong with it, or with the disk, and then changes nothing.
        """
        persona = parse_persona(text, "persona.yaml")
        try:
            self._yours.mkdir(mode=0o700, parents=True, exist_ok=True)
            durable.write(self._yours / f"{persona.name}.yaml", text)
        except OSError as error:
            raise CounterpointError(
                f"The persona {persona.name} could not be saved in {self._yours} "
                f"({error.strerror or error}): check its space and permissions."
            ) from None
        return persona

    def add(self, persona: Persona, replace: bool = False) -> Persona:
        """Saves a persona that came from elsewhere, over one of its name only where told to `replace` it.

        Raises CounterpointError where the name is taken, or as `save` does.
        """
        if not replace and self._taken(persona.name):
            raise CounterpointError(
                f"There is a persona {persona.name} already: choose another name, or have it replaced."
            )
        return self.save(persona.to_yaml())

    def duplicate(self, name: str, new_name: str) -> Persona:
        """A copy of yours under a new name. Raises CounterpointError where that is taken or no name."""
        content = self.get(name).model_dump(exclude_defaults=True)
        _checked(new_name)
        if self._taken(new_name):
            raise CounterpointError(f"There is a persona {new_name} already: choose another name.")
        return self.save(Persona.model_validate(content | {"name": new_name}).to_yaml())

    def delete(self, name: str) -> None:
        """Removes one of yours; a shipped persona that it hid is there again.

        Raises CounterpointError for a shipped persona, an unknown name, or where the disk refuses.
        """
        path = self._path(name)
        if path.parent != self._yours:
            raise CounterpointError(f"The persona {name} ships with the app: only your own can be deleted.")
        try:
            path.unlink(missing_ok=True)
            durable.sync(self._yours)
        except OSError as error:
            raise CounterpointError(
                f"The persona {name} could not be deleted from {self._yours} "
                f"({error.strerror or error}): check its permissions."
            ) from None
        self._read.pop((path, ()), None)

    def _taken(self, name: str) -> bool:
        return name in _files(self._library) or name in _files(self._yours)

    def _path(self, name: str) -> Path:
        _checked(name)
        path = _files(self._yours).get(name) or _files(self._library).get(name)
        if path is None:
            known = ", ".join(entry.name for entry in self.list()) or "none"
            raise CounterpointError(f"There is no persona {name}. There are: {known}.")
        return path

    def _entry(self, path: Path, origin: Origin, shadows: bool) -> PersonaEntry:
        persona, problem = self._parsed(path)
        return PersonaEntry(path.stem, persona, problem, origin, path, shadows)

    def _parsed(self, path: Path) -> tuple[Persona | None, str | None]:
        reading = self._reading(path)
        if reading.name not in (None, path.stem):
            others = [other for other in _files(path.parent).values() if other != path]
            twins = [other.name for other in others if self._reading(other).name == reading.name]
            reading = self._reading(path, tuple(sorted(twins)))
        return reading.persona, reading.problem

    def _reading(self, path: Path, twins: tuple[str, ...] = ()) -> _Reading:
        """The file, read again where it has changed. `twins` are the files that give its name too."""
        try:
            status = path.stat()
        except OSError as error:
            return _Reading(None, None, _unreadable(path, error), None)
        stamp = (status.st_mtime_ns, status.st_size, status.st_ino)
        known = self._read.get((path, twins))
        if known is None or known.stamp != stamp:
            known = self._read[path, twins] = _read_file(path, stamp, twins)
        return known


def _read_file(path: Path, stamp: _Stamp, twins: tuple[str, ...]) -> _Reading:
    given: list[str] = []

    def judge(name: str) -> str | None:
        given.append(name)
        if name == path.stem:
            return None
        also = f" like that of {', '.join(twins)}" if twins else ""
        return f"is {name[:80]!r}{also}, but the file's name says {path.stem!r}: make them the same"

    persona, problem = None, None
    try:
        persona = parse_persona(_text(path), path.name, judge)
    except CounterpointError as error:
        problem = str(error)
    return _Reading(stamp, persona, problem, given[0] if given else None)


def _files(folder: Path) -> dict[str, Path]:
    """Persona files by name. Hidden files are ours while they are written; they are passed over."""
    if not folder.is_dir():
        return {}
    return {path.stem: path for path in folder.glob("*.yaml") if not path.name.startswith(".")}


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_FILE_BYTES + 1)
        if len(raw) > MAX_FILE_BYTES:
            raise CounterpointError(f"{path.name} is larger than {MAX_FILE_BYTES:,} bytes: shorten it.")
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise CounterpointError(f"{path.name} is not UTF-8 text: save it as UTF-8.") from None
    except OSError as error:
        raise CounterpointError(_unreadable(path, error)) from None


def _unreadable(path: Path, error: OSError) -> str:
    return f"{path.name} cannot be read ({error.strerror or error}): check the file and its permissions."


def _checked(name: str) -> None:
    if not SLUG.fullmatch(name) or len(name) > 64:
        raise CounterpointError(
            f"{name[:80]!r} is no persona's name: use small letters, digits and single hyphens (at most 64)."
        )
