"""The app's measurements: each has a folder in the data folder, and one at a time is carried out in a thread of the app.

What is measured goes on whatever becomes of the page. What the app did not end itself, because it was killed, is found
stopped, and can be gone on with like any other.
"""

from __future__ import annotations

import builtins
import logging
import shutil
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from filelock import FileLock

from adapters.verdict import Figure
from backends.wheels import Report
from comparison.checks.check import Tools
from comparison.live import Comparison
from comparison.measure import variants
from comparison.measure.folder import ANSWERS, GRADES, PLAN, RunFolder
from comparison.measure.forecast import seconds_for
from comparison.measure.plan import Plan, Slot
from comparison.measure.results import Results
from comparison.measure.runner import Progress, Runner, Stopped
from comparison.measure.shelf import Measurement, Shelf, State, stamp
from comparison.modes import ModeId
from errors import CounterpointError, WorkFailed
from personas.schema import Persona

FRESH_S = 15.0
"""Figures of a measurement that goes on stand for so long at least, and for ten times what it took to reckon them: the
answers need the same processor."""
_KEPT = 4
"""Measurements whose figures are kept in memory."""
_END_S = 5.0
"""How long who stops a measurement waits for its end."""
_LATEST = 3
"""How many earlier measurements are looked at for how fast a base is."""

log = logging.getLogger("counterpoint")


class Kit(Protocol):
    """What a measurement is made and looked at with; see Instruments."""

    def load(self, plan: Plan, report: Report) -> None: ...
    def tools(self, plan: Plan) -> Tools: ...
    def results(self, folder: RunFolder) -> Results: ...
    def check_data(self, slot: Slot) -> float | None: ...


@dataclass(frozen=True, slots=True)
class Forecast:
    """How many answers a plan asks for, and in about how many seconds, where that can be told."""

    answers: int
    seconds: float | None


@dataclass(slots=True)
class _UnderWay:
    name: str
    folder: RunFolder
    plan: Plan
    told_to_stop: threading.Event = field(default_factory=threading.Event)
    runner: Runner | None = None
    progress: Progress | None = None
    preparing: str = ""
    thread: threading.Thread | None = None

    def stop(self) -> None:
        self.told_to_stop.set()
        if self.runner:
            self.runner.stop()


@dataclass(frozen=True, slots=True)
class _Figures:
    """As they were at a time, with what they were reckoned from."""

    of: object
    results: Results
    page: str
    at: float
    took: float


class Runs:
    """All measurements of a data folder. Safe for threads."""

    def __init__(self, data: Path, comparison: Comparison, kit: Callable[[], Kit]) -> None:
        """`kit` makes the instruments, when they are first needed: they take seconds to import."""
        self._shelf = Shelf(data / "measurements")
        self._comparison, self._make_kit = comparison, kit
        self._kit: Kit | None = None
        self._under_way: _UnderWay | None = None
        self._figures: OrderedDict[str, _Figures] = OrderedDict()
        self._beginning, self._reckoning, self._making = (threading.Lock() for _ in range(3))

    def list(self) -> list[Measurement]:
        """All of them, the newest first; those that cannot be read are the last."""
        # Asked for before the folders are: one that ends meanwhile is told as going on, never as broken off.
        under_way = self._under_way
        return [_as_known(one, under_way) for one in self._shelf.list()]

    def get(self, name: str) -> Measurement:
        """Raises CounterpointError that lists what exists for an unknown one."""
        under_way = self._under_way
        return _as_known(self._shelf.read(self._shelf.folder(name)), under_way)

    def going_on(self) -> str | None:
        """The name of the one that this app carries out, if there is one."""
        under_way = self._under_way
        return under_way.name if under_way else None

    def start(self, plan: Plan) -> str:
        """Begins to measure what a plan says, and returns its name at once.

        Raises CounterpointError where another goes on, the base is not there yet, or the disk takes no more.
        """
        self._refuse_what_cannot_answer(plan)
        with self._alone():
            folder = self._shelf.root / self._shelf.free_name(plan.suite.name)
            try:
                self._begin(RunFolder.begin(folder, plan), plan)
            except CounterpointError:
                shutil.rmtree(folder, ignore_errors=True)  # half made, and nothing was asked
                raise
        return folder.name

    def resume(self, name: str, trusted: bool = True) -> None:
        """Goes on with what was stopped or failed; what is answered is not asked again. Raises as `start` does, and where
        its suite is code that who is not `trusted` may not run."""
        folder = RunFolder(self._shelf.folder(name))
        plan = folder.plan()
        if plan.python and not trusted:
            raise CounterpointError(
                f"{name} runs python checks, which a page that is served to others does not: go on with it in the terminal."
            )
        self._refuse_what_cannot_answer(plan)
        with self._alone():
            if not self.get(name).goes_on:
                raise CounterpointError(f"{name} is complete already: start a new measurement.")
            self._begin(folder, plan)

    def stop(self, name: str) -> None:
        """Ends a measurement that this app carries out; what is answered stays. Returns when it has ended, or after a
        few seconds, when it soon will have."""
        under_way = self._under_way
        if under_way is not None and under_way.name == name:
            under_way.stop()
            if under_way.thread:
                under_way.thread.join(_END_S)
        elif self.get(name).state == "running":
            raise CounterpointError(f"Another Counterpoint is measuring {name}: stop it there.")

    def delete(self, name: str) -> None:
        """Removes a measurement with its answers. Raises CounterpointError for one that goes on."""
        with self._beginning:
            if self.get(name).state == "running":
                raise CounterpointError(f"{name} is being measured: stop it first.")
            self._shelf.delete(self._shelf.folder(name))
            self._figures.pop(name, None)

    def close(self) -> None:
        """Stops what goes on: to be called before the backends are closed."""
        if under_way := self._under_way:
            self.stop(under_way.name)

    def forecast(self, plan: Plan) -> Forecast:
        """What a plan takes, in seconds too where an earlier measurement tells how fast its bases answer. Raises
        CounterpointError for a backend that is not there."""
        bases = {}
        for name in {ModeId.parse(slot.mode).backend for slot in plan.slots}:
            backend = self._comparison.catalogue.backends.get(name)
            bases[name] = (backend.name, backend.base() or "")
        earlier = [one for one in self.list() if one.state != "running"][:_LATEST]
        told = (seconds_for(plan, bases, self._shelf.pace(one.folder)) for one in earlier)
        return Forecast(len(plan.items), next((seconds for seconds in told if seconds is not None), None))

    # --- figures

    def results(self, name: str) -> Results | None:
        """The figures as far as they are; None where there are none yet. While answers are timed nothing is reckoned,
        since that would slow what is timed."""
        found = self._reckoned(name)
        return found.results if found else None

    def page(self, name: str) -> str:
        """The report as HTML to be put into a page; empty where there are no figures yet."""
        found = self._reckoned(name)
        return found.page if found else ""

    @property
    def timing(self) -> bool:
        """Whether answers are timed, or about to be, so that nothing is reckoned."""
        under_way = self._under_way
        return under_way is not None and (under_way.progress is None or under_way.progress.phase == "alone")

    def compared(self, name: str, other: str) -> str:
        """What differs between two measurements, as HTML. Raises CounterpointError where one has no figures."""
        from comparison.measure.report.page import compare

        one, another = (self._told(each) for each in (name, other))
        return compare(one, another)

    def variants(self, name: str) -> builtins.list[tuple[str, Figure]]:
        """Of a measurement that varies a persona each variant with how much it got right, the best first; of another, and
        while there are no figures, none."""
        found, plan = self.results(name), RunFolder(self._shelf.folder(name)).plan()
        if found is None or found.row(variants.RIGHT) is None or not any(slot.persona for slot in plan.slots):
            return []
        return variants.ranked(found, plan)

    def variant(self, name: str, slot: str, persona: str) -> Persona:
        """A variant as a persona of that name. Raises CounterpointError where it is none, or the name cannot be."""
        return variants.winner(RunFolder(self._shelf.folder(name)).plan(), slot, persona)

    def export(self, name: str) -> builtins.list[Path]:
        """Writes the report and its tables into the measurement's folder. Raises CounterpointError where it cannot."""
        from comparison.measure.report.files import write

        return write(RunFolder(self._shelf.folder(name)), self._told(name))

    def _told(self, name: str) -> Results:
        found = self.results(name)
        if found is None:
            why = "until its answers are timed" if self.timing else "for its first answers, or go on with it"
            raise CounterpointError(f"{name} has no figures yet: wait {why}.")
        return found

    def _reckoned(self, name: str) -> _Figures | None:
        folder = self._shelf.folder(name)
        with self._reckoning:
            kept = self._figures.get(name)
            of = tuple(stamp(folder / file) for file in (PLAN, ANSWERS, GRADES))
            if (kept and kept.of == of) or self._stands(name, kept):
                return kept
            found = self._reckon(RunFolder(folder), of)
            if found:
                self._figures[name] = found
                self._figures.move_to_end(name)
                while len(self._figures) > _KEPT:
                    self._figures.popitem(last=False)
            return found

    def _stands(self, name: str, kept: _Figures | None) -> bool:
        """Whether nothing is reckoned for now, although there is more."""
        if self.timing:  # what is timed has the processor for itself, whichever measurement is looked at
            return True
        if kept is None or self.going_on() != name:
            return False
        return time.monotonic() - kept.at < max(FRESH_S, 10 * kept.took)

    def _reckon(self, folder: RunFolder, of: object) -> _Figures | None:
        from comparison.measure.report.page import fragment

        kit = self._instruments()
        began = time.monotonic()
        records = folder.records()
        if not records:
            return None
        found = kit.results(folder)
        page = fragment(found, folder.plan(), records, folder.grades())
        now = time.monotonic()
        return _Figures(of, found, page, now, now - began)

    # --- carrying out

    def _begin(self, folder: RunFolder, plan: Plan) -> None:
        """With `_alone` held."""
        try:
            self._shelf.begun(folder.path)
        except OSError as error:
            raise self._full(error) from None
        under_way = _UnderWay(folder.path.name, folder, plan)
        under_way.thread = threading.Thread(
            target=self._measure, args=(under_way,), name="measuring", daemon=True
        )
        self._under_way = under_way
        under_way.thread.start()

    def _measure(self, under_way: _UnderWay) -> None:
        """The thread of a measurement: how it ended is on disk before it is no longer under way."""
        state: State = "failed"
        problem: str | None = None
        try:
            self._carry_out(under_way)
            state, problem = "complete", _ungraded(under_way.folder)
        except Stopped:
            state = "stopped"
        except CounterpointError as error:
            state, problem = "failed", str(error)
            if under_way.told_to_stop.is_set():  # as the app ends, its backend may be gone first
                state, problem = "stopped", None
        except Exception as error:
            log.error("a measurement failed", exc_info=error)
            problem = "Something went wrong here; the program's log says what. What is answered is kept: go on with it."
        finally:
            self._shelf.ended(under_way.folder.path, state, problem)
            self._under_way = None

    def _carry_out(self, under_way: _UnderWay) -> None:
        def fetching(share: float, what: str) -> None:
            under_way.preparing = f"{what} … {share:.0%}" if share else what
            if under_way.told_to_stop.is_set():
                raise Stopped

        def told(progress: Progress) -> None:
            under_way.progress = progress

        kit, plan = self._instruments(), under_way.plan
        kit.load(plan, fetching)
        under_way.preparing = "Asking for the first answers …"
        runner = Runner(under_way.folder, self._comparison, kit.tools(plan), told, check_data=kit.check_data)
        under_way.runner = runner
        if under_way.told_to_stop.is_set():  # while there was nothing to stop yet
            runner.stop()
        runner.run()

    def _instruments(self) -> Kit:
        with self._making:
            if self._kit is None:
                self._kit = self._make_kit()
            return self._kit

    def _refuse_what_cannot_answer(self, plan: Plan) -> None:
        """Raises CounterpointError for a base that loads still, or that failed."""
        for name in dict.fromkeys(ModeId.parse(slot.mode).backend for slot in plan.slots):
            status = self._comparison.catalogue.backends.get(name).status()
            if status.state == "loading":
                raise WorkFailed("The base model is still loading: measure as soon as it is there.")
            status.refuse()

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Held while one is begun: of two pages, or two apps on one data folder, one is the first.

        Raises CounterpointError where a measurement goes on already.
        """
        root = self._shelf.root
        with self._beginning:
            try:
                for folder in (root.parent, root):
                    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
                held = FileLock(root / ".lock").acquire()
            except OSError as error:
                raise self._full(error) from None
            with held:
                busy = next((one for one in self.list() if one.state == "running"), None)
                if busy:
                    where = "" if busy.here else " by another Counterpoint"
                    raise CounterpointError(
                        f"{busy.name} is being measured{where}: wait for it, or stop it. Two at once would spoil each "
                        "other's times."
                    )
                yield

    def _full(self, error: OSError) -> WorkFailed:
        return WorkFailed(
            f"{self._shelf.root} cannot be written ({error.strerror or error}): make room or choose another --data-dir."
        )


def _ungraded(folder: RunFolder) -> str | None:
    """What is to be said of answers whose checks could not be made."""
    its = [graded.cannot for graded in folder.grades().values() if graded.cannot]
    if not its:
        return None
    answers = "1 answer" if len(its) == 1 else f"{len(its)} answers"
    return f"{answers} could not be graded ({its[0]}): mend that, and go on with it to have them graded."


def _as_known(one: Measurement, under_way: _UnderWay | None) -> Measurement:
    """What this app carries out is known better here than from its folder."""
    if under_way is None or under_way.name != one.name:
        return one
    progress = under_way.progress
    return replace(
        one,
        state="running",
        problem=None,
        done=progress.done if progress and progress.phase != "grading" else one.done,
        progress=progress,
        preparing=under_way.preparing,
        stopping=under_way.told_to_stop.is_set(),
        here=True,
    )
