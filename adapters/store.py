"""The adapters that are there: those that ship, and those that a person trained or brought.

Theirs live in DATA_DIR/adapters/NAME, each folder written whole or not at all. Looking is cheap: a folder is
inspected again only when one of its files, or the base, has changed.
"""

from __future__ import annotations

import json
import os
import shutil
import threading
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any, Literal

import durable
from adapters import passport
from adapters.inspection import Inspection, gated
from adapters.validator import CONFIG, MAX_WEIGHT_BYTES, WEIGHTS, inspect, is_own_file
from backends.contract import AdapterSource, BaseFacts
from errors import CounterpointError
from strict_json import parse, show

Origin = Literal["library", "yours"]

OVERRIDE = "override.json"
KNOWN_FILES = (CONFIG, WEIGHTS, passport.FILE, "README.md")
MAX_TEXT_BYTES = 2**20


@dataclass(frozen=True, slots=True)
class AdapterEntry:
    """An adapter in the list, usable or not; `inspection.problems` says why not."""

    name: str
    inspection: Inspection
    origin: Origin

    @property
    def usable(self) -> bool:
        return self.inspection.usable


class AdapterStore:
    """All adapters by name. Safe to use from several threads.

    `base` tells what is known of the base in memory; it may raise CounterpointError while there is none.
    """

    def __init__(self, library: Path, data_dir: Path, base: Callable[[], BaseFacts]) -> None:
        self._library = library
        self._yours = data_dir / "adapters"
        self._base = base
        self._lock = threading.RLock()
        self._seen: dict[Path, tuple[object, Inspection]] = {}
        self._marks: dict[str, str] = {}

    def base(self) -> BaseFacts:
        """The base that adapters are judged against. Raises CounterpointError while there is none."""
        return self._base()

    def list(self) -> list[AdapterEntry]:
        """Every adapter, the library's first, by name; the unusable ones too."""
        base = self._base()
        with self._lock:
            entries: dict[str, AdapterEntry] = {}
            places: tuple[tuple[Origin, Path], ...] = (("library", self._library), ("yours", self._yours))
            for origin, root in places:
                for folder in _folders(root):
                    entry = AdapterEntry("", self._look(folder, root, base), origin)
                    entry = replace(entry, name=entry.inspection.name)
                    if entry.name in entries:
                        entry = _clash(entry, entries)
                    entries[entry.name] = entry
            return list(entries.values())

    def get(self, name: str) -> AdapterEntry:
        """The adapter of this name. Raises CounterpointError that lists what exists for an unknown one."""
        entries = {entry.name: entry for entry in self.list()}
        if name not in entries:
            there = ", ".join(entries) or "none"
            raise CounterpointError(f"There is no adapter {show(name)}: choose one of these: {there}.")
        return entries[name]

    def source(self, name: str) -> AdapterSource:
        """What an engine loads. Raises CounterpointError where the adapter is unknown or unusable."""
        inspection = self.get(name).inspection
        if inspection.source is None:
            raise CounterpointError(f"The adapter {name} can't be used: {_told(inspection)}")
        return inspection.source

    def check(
        self, path: Path, name: str | None = None, override_base: bool = False, accept_failed: bool = False
    ) -> Inspection:
        """What an import of `path` would find; changes nothing. Raises CounterpointError without a base."""
        return gated(inspect(path, self._base(), override_base=override_base, name=name), accept_failed)

    def refuse_taken(self, name: str) -> None:
        """Raises CounterpointError where there is an adapter of this name."""
        if any(entry.name == name for entry in self.list()):
            raise CounterpointError(f"There is an adapter {name} already: delete it, or give another name.")

    def import_folder(
        self, path: Path, name: str | None = None, override_base: bool = False, accept_failed: bool = False
    ) -> AdapterEntry:
        """Copies an adapter's own files from `path` into the data folder, once they are found usable.

        `override_base` accepts an adapter that names another base, for the base in memory alone; `accept_failed`
        one that did not pass the test after its training, for these weights alone. Both are recorded beside the
        copy. Raises CounterpointError with all that is wrong, or if the name is taken.
        """
        base = self._base()
        found = gated(inspect(path, base, override_base=override_base, name=name), accept_failed)
        if not found.usable:
            raise CounterpointError(f"{show(path.name)} can't be used as an adapter: {_told(found)}")
        self.refuse_taken(found.name)
        for folder in (self._yours.parent, self._yours):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        _sweep(self._yours)
        target = self._yours / found.name
        temporary = self._yours / f".import-{uuid.uuid4().hex}"
        temporary.mkdir(mode=0o700)
        try:
            for file in KNOWN_FILES:
                _copy(path / file, temporary / file)
            record: dict[str, object] = {}
            if override_base and not inspect(path, base, name=name).usable:
                record |= {"override_base": True, "base_sha256": base.sha256, "named_base": found.base_named}
            if accept_failed and found.passport and found.passport.gate and not found.passport.gate.passed:
                record |= {"accept_failed": found.sha256}
            if record:
                durable.write(temporary / OVERRIDE, json.dumps(record, indent=2) + "\n")
            # What was copied is what counts: the original may have changed meanwhile.
            copied = inspect(temporary, base, override_base=override_base, name=found.name)
            copied = gated(copied, accept_failed)
            if not copied.usable:
                raise CounterpointError(f"{show(path.name)} changed while it was copied: {_told(copied)}")
            durable.sync(temporary)
            temporary.rename(target)
            durable.sync(self._yours)
        except OSError as error:
            if target.exists():
                raise CounterpointError(
                    f"There is an adapter {found.name} already: give another name."
                ) from None
            raise CounterpointError(
                f"{found.name} can't be copied to {self._yours} ({error.strerror}): make room or "
                "choose another --data-dir."
            ) from None
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        return self.get(found.name)

    def delete(self, name: str) -> None:
        """Removes one of yours. Raises CounterpointError for an unknown adapter, or one of the library's."""
        entry = self.get(name)
        if entry.origin != "yours":
            raise CounterpointError(
                f"{name} ships with Counterpoint: only adapters of your own can be deleted."
            )
        folder = entry.inspection.folder
        with self._lock:
            self._seen.pop(folder, None)
            try:
                if folder.is_symlink():
                    folder.unlink()
                    return
                durable.remove(folder)
            except OSError as error:
                raise CounterpointError(
                    f"{name} can't be deleted ({error.strerror}): remove {folder}."
                ) from None

    def mark(self, name: str, problem: str | None) -> None:
        """Keeps what an engine's probe found ("no effect on the answers…") for these very weights and scaling.

        None takes it back. The mark holds until the program ends: the next start probes again.
        """
        folder = self.get(name).inspection.folder
        with self._lock:
            source = self._seen[folder][1].source
            if source and problem:
                self._marks[source.version] = " ".join(problem.split())
            elif source:
                self._marks.pop(source.version, None)

    def _look(self, folder: Path, root: Path, base: BaseFacts) -> Inspection:
        files = (folder, *(folder / file for file in (*KNOWN_FILES, OVERRIDE)))
        signature = (base.id, base.sha256, *map(_stamp, files))
        seen = self._seen.get(folder)
        if seen is None or seen[0] != signature:
            seen = (signature, self._inspect(folder, root, base))
            self._seen[folder] = seen
        inspection = seen[1]
        source = inspection.source
        if source and (problem := self._marks.get(source.version)):
            return replace(inspection, problems=(*inspection.problems, problem), source=None)
        return inspection

    def _inspect(self, folder: Path, root: Path, base: BaseFacts) -> Inspection:
        record = _overrides(folder)
        its_base = record.get("override_base") is True and record.get("base_sha256") == base.sha256
        found = inspect(folder, base, override_base=its_base)
        inspection = gated(found, record.get("accept_failed") == found.sha256)
        if folder.resolve().parent != root.resolve():
            problem = f"{show(folder.name)} is a link out of the adapters' folder: import the folder itself."
            return replace(inspection, problems=(problem, *inspection.problems), source=None)
        return inspection


def _folders(root: Path) -> list[Path]:
    """The adapters' folders in `root`; hidden ones are half made or half deleted."""
    try:
        return sorted(path for path in root.iterdir() if path.name[0] not in "._" and path.is_dir())
    except OSError:
        return []


def _sweep(root: Path) -> None:
    """Removes what a crash left half made or half deleted, more than an hour ago."""
    for path in (*root.glob(".import-*"), *root.glob(".deleted-*")):
        with suppress(FileNotFoundError):  # another import has ended meanwhile
            if time.time() - path.lstat().st_mtime > 3600:
                shutil.rmtree(path, ignore_errors=True)


def _stamp(path: Path) -> tuple[int, ...] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino


def _overrides(folder: Path) -> dict[str, Any]:
    """What a person said of this adapter when it was imported."""
    path = folder / OVERRIDE
    try:
        record = parse(path.read_bytes()) if path.stat().st_size <= MAX_TEXT_BYTES else None
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


def _clash(entry: AdapterEntry, entries: dict[str, AdapterEntry]) -> AdapterEntry:
    """The second adapter of a name, under a name of its own and unusable: which was meant can't be told."""
    number = next(n for n in range(2, len(entries) + 3) if f"{entry.name}-{n}" not in entries)
    problem = (
        f"another adapter is called {entry.name} too: rename the folder {show(entry.inspection.folder.name)}."
    )
    name = f"{entry.name}-{number}"
    problems = (*entry.inspection.problems, problem)
    return AdapterEntry(
        name, replace(entry.inspection, name=name, problems=problems, source=None), entry.origin
    )


def _told(inspection: Inspection) -> str:
    return " ".join(inspection.problems) or "nothing usable is in it."


def _copy(source: Path, target: Path) -> None:
    """Copies one of the known files if it is there, up to the size that is ever read, and makes it last."""
    most = MAX_WEIGHT_BYTES if source.name == WEIGHTS else MAX_TEXT_BYTES
    if not is_own_file(source) or source.stat().st_size > most:
        return
    with source.open("rb") as reader, _create(target) as writer:
        shutil.copyfileobj(reader, writer, 2**20)
        writer.flush()
        os.fsync(writer.fileno())


def _create(target: Path) -> IO[bytes]:
    return os.fdopen(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")
