"""The measurements that a data folder holds, and how each stands: looked up often, so what has not changed is kept."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import durable
import processes
from comparison.measure.folder import ANSWERS, PLAN, RunFolder
from comparison.measure.forecast import Base, Pace, paces
from comparison.measure.runner import Progress
from errors import CounterpointError
from strict_json import show

STATE = "state.json"

State = Literal["running", "stopped", "failed", "complete"]


@dataclass(frozen=True, slots=True)
class Measurement:
    """How one stands. `done` of `total` answers are there. `here` is whether this app carries it out; then `progress` is
    how far it is, `preparing` what it does before the first answer, and `stopping` whether it was told to end."""

    name: str
    folder: Path
    state: State
    title: str
    date: str = ""
    modes: tuple[str, ...] = ()
    done: int = 0
    total: int = 0
    problem: str | None = None
    progress: Progress | None = None
    preparing: str = ""
    stopping: bool = False
    here: bool = False

    @property
    def goes_on(self) -> bool:
        """Whether there is something left of it that can be gone on with: answers to be asked, or to be graded again."""
        if self.state == "complete":
            return self.problem is not None
        return self.state != "running" and self.total > 0


@dataclass(frozen=True, slots=True)
class _Planned:
    """What a folder's plan says."""

    of: object
    title: str
    date: str
    modes: tuple[str, ...]
    total: int


class Shelf:
    """Their folders. Safe for threads: at worst, two look at the same at once."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._planned: dict[str, _Planned] = {}
        self._counted: dict[str, tuple[int, int]] = {}
        self._paces: dict[str, tuple[object, Mapping[Base, Pace]]] = {}
        self._unwritten: dict[str, tuple[State, str | None]] = {}

    def list(self) -> list[Measurement]:
        """All of them, the newest first; those that cannot be read are the last."""
        found = [self.read(folder) for folder in self._folders()]
        return sorted(found, key=lambda one: (one.date, _number(one.name)), reverse=True)

    def folder(self, name: str) -> Path:
        """Raises CounterpointError that lists what exists for an unknown one."""
        folders = {folder.name: folder for folder in self._folders()}
        if name not in folders:
            there = ", ".join(folders) or "none"
            raise CounterpointError(f"There is no measurement {show(name)}: choose one of these: {there}.")
        return folders[name]

    def free_name(self, suite: str) -> str:
        """The suite's, and the number that comes next."""
        taken = [_number(folder.name) for folder in self._folders() if _stem(folder.name) == suite]
        return f"{suite}-{max(taken, default=0) + 1}"

    def read(self, folder: Path) -> Measurement:
        """How it stands, as its folder says."""
        name = folder.name
        state, problem = self._state(folder)
        try:
            plan = self._plan(folder)
        except CounterpointError as error:  # what became of one hides no other
            return Measurement(name, folder, "failed", name, problem=str(error))
        count = self._count(folder)
        return Measurement(name, folder, state, plan.title, plan.date, plan.modes, count, plan.total, problem)

    def begun(self, folder: Path) -> None:
        """Says that this process carries it out. Raises OSError where that cannot be written."""
        told = {"state": "running", **processes.told()}
        durable.write(folder / STATE, json.dumps(told) + "\n")
        self._unwritten.pop(folder.name, None)

    def ended(self, folder: Path, state: State, problem: str | None) -> None:
        """Says how it ended; where the disk takes no more, this process at least knows it."""
        try:
            durable.write(folder / STATE, json.dumps({"state": state, "problem": problem}) + "\n")
        except OSError:
            self._unwritten[folder.name] = (state, problem)

    def delete(self, folder: Path) -> None:
        """Raises CounterpointError where it cannot."""
        try:
            durable.remove(folder)
        except OSError as error:
            raise CounterpointError(
                f"The measurement {folder.name} can't be deleted ({error.strerror}): remove {folder}."
            ) from None
        self._planned.pop(folder.name, None)
        self._counted.pop(folder.name, None)
        self._paces.pop(folder.name, None)
        self._unwritten.pop(folder.name, None)

    def pace(self, folder: Path) -> Mapping[Base, Pace]:
        """How fast bases answered in it."""
        of = stamp(folder / ANSWERS)
        kept = self._paces.get(folder.name)
        if kept is None or kept[0] != of:
            found: Mapping[Base, Pace] = {}
            with suppress(CounterpointError):
                run = RunFolder(folder)
                found = paces(run.plan(), run.records().values())
            kept = self._paces[folder.name] = (of, found)
        return kept[1]

    def _folders(self) -> Iterator[Path]:
        """A hidden one is half deleted."""
        found = sorted(self.root.iterdir()) if self.root.is_dir() else ()
        return (folder for folder in found if folder.name[0] != "." and folder.is_dir())

    def _state(self, folder: Path) -> tuple[State, str | None]:
        """As it was left; one that says that it goes on, but whose process does not, was broken off."""
        if folder.name in self._unwritten:
            return self._unwritten[folder.name]
        try:
            told = json.loads((folder / STATE).read_text(encoding="utf-8"))
            state, problem = told["state"], told.get("problem")
            if state == "running":
                return ("running" if _goes_on(told) else "stopped"), None
            if state in ("stopped", "failed", "complete") and isinstance(problem, str | None):
                return state, problem
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            pass
        return "stopped", None

    def _plan(self, folder: Path) -> _Planned:
        of = stamp(folder / PLAN)
        known = self._planned.get(folder.name)
        if known is None or known.of != of:
            plan = RunFolder(folder).plan()
            modes = tuple(slot.id for slot in plan.slots)
            known = _Planned(of, plan.suite.title, plan.date, modes, len(plan.items))
            self._planned[folder.name] = known
        return known

    def _count(self, folder: Path) -> int:
        """Its answers. They are only ever added to: what was counted once is not read again."""
        size, count = self._counted.get(folder.name, (0, 0))
        with suppress(OSError), (folder / ANSWERS).open("rb") as file:
            if os.fstat(file.fileno()).st_size < size:  # somebody took lines out, or half a line was cut off
                size, count = 0, 0
            file.seek(size)
            for piece in iter(lambda: file.read(1 << 20), b""):
                size, count = size + len(piece), count + piece.count(b"\n")
        self._counted[folder.name] = (size, count)
        return count


def stamp(path: Path) -> tuple[int, int] | None:
    """What a file has another of when it was written to."""
    try:
        told = os.stat(path)
    except OSError:
        return None
    return told.st_mtime_ns, told.st_size


def _goes_on(told: Mapping[str, object]) -> bool:
    """Whether another process carries it out: what this one does is known without its file."""
    process = processes.find(told)
    return process is not None and process.pid != os.getpid()


def _stem(name: str) -> str:
    return re.sub(r"-\d+$", "", name)


def _number(name: str) -> int:
    found = re.search(r"-(\d{1,9})$", name)
    return int(found[1]) if found else 0
