"""Carrying out a measurement: asks what its folder does not hold yet, many questions of many modes at once, and grades
the answers.

What is timed is asked first, one answer at a time, while nothing else runs; all else goes as full batches. An answer is
on disk before it counts, so a run that was stopped or killed goes on where it was.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Literal

from backends.contract import Delta, Failed
from backends.local.engine import ROWS
from comparison.chain import StepBegan
from comparison.checks.check import Need, Tools
from comparison.live import Answered, Comparison, Pane
from comparison.measure import grading
from comparison.measure.folder import Graded, Record, RunFolder
from comparison.measure.plan import Item, Kind, Plan, Slot
from comparison.modes import ModeId
from comparison.receipt import StepDone
from errors import Busy, WorkFailed
from personas.schema import Persona

AT_ONCE = ROWS
"""Answers under way: as many as the local engine decodes at once."""
_JOIN = 4
"""So many have ended before as many others are asked."""
_CHANGED = "Keep every answer to one short sentence."
"""The instruction that a persona gets more, to time how soon a change shows."""
_TRIES, _PAUSE_S = 60, 2.0
"""How often, and after how long, what is too busy is asked again."""
_GRADERS = 8
_LATER: set[Need] = {"judge", "python"}
"""What checks need that are made when all is answered: they take long, or ask the same backend."""

Phase = Literal["alone", "answers", "grading"]


@dataclass(frozen=True, slots=True)
class Progress:
    """`done` of `total` answers are there, or graded. `seconds_left` is None until there is something to tell it by."""

    phase: Phase
    done: int
    total: int
    seconds_left: float | None


class Stopped(Exception):
    """The run was told to stop; what is there stays."""


class Runner:
    """Measures what a folder's plan says."""

    def __init__(
        self,
        folder: RunFolder,
        comparison: Comparison,
        tools: Tools,
        report: Callable[[Progress], None] = lambda progress: None,
        check_data: Callable[[Slot], float | None] = lambda slot: None,
        at_once: int = AT_ONCE,
    ) -> None:
        """`check_data` checks the dataset of a slot's adapter, and tells in how many seconds; None where it is not at
        hand."""
        self._folder, self._comparison, self._report = folder, comparison, report
        self._plan: Plan = folder.plan()
        judge = self._judge if "judge" in self._plan.needs else None
        python = grading.run_python if self._plan.python else None
        self._tools = replace(tools, judge=judge, python=python)
        self._check_data, self._at_once = check_data, at_once
        self._stop, self._leave = threading.Event(), threading.Event()
        self._records: dict[str, Record] = {}

    def stop(self) -> None:
        """Ends the run soon; what is under way is left. Safe from any thread."""
        self._stop.set()

    def run(self) -> None:
        """Returns when all is measured and graded. Raises Stopped, WorkFailed where the backend or the disk gave up, or
        CounterpointError where another process measures into the folder."""
        with self._folder.running():
            self._records = self._folder.records()
            items = [item for item in self._plan.items if item.key not in self._records]
            self._pace = _Pace(len(self._plan.items), len(self._records), items)
            self._time("adapt", items, self._bare())
            self._time("alone", items, self._plan.slots)
            for record in self._together([item for item in items if item.kind in ("answer", "repeat")]):
                self._keep(record)
            self._grade()

    def _time(self, kind: Kind, items: Sequence[Item], warm: Sequence[Slot]) -> None:
        """One after the other, with `warm` ones loaded."""
        its = [item for item in items if item.kind == kind]
        if its:
            self.warm_up(warm)
        self._pace.begin()
        for item in its:
            self._keep(self._timed(item))

    def _keep(self, record: Record) -> None:
        """With its grade, so that figures so far say what is right."""
        self._folder.answered(record)
        self._records[record.key] = record
        case = self._plan.cases[record.suite][record.case]
        if record.kind in ("answer", "repeat") and not case.needs & _LATER:
            graded = self._graded(record)
            if graded is not None:
                self._folder.graded(graded)
        self._report(self._pace.told(record.kind))

    def warm_up(self, slots: Sequence[Slot] | None = None) -> None:
        """A token of each slot, of all where none are named, that nobody times: an engine's first answer compiles what the
        others use, and what a persona always begins with is read once."""
        for slot in self._plan.slots if slots is None else slots:
            self._asked(replace(self._plan.items[0], slot=slot, kind="warm"))

    def _bare(self) -> list[Slot]:
        """The bare base of each backend: what is to be changed must not be loaded before its change is timed."""
        backends = dict.fromkeys(ModeId.parse(slot.mode).backend for slot in self._plan.slots)
        return [Slot(id=mode, mode=mode) for mode in map(str, (ModeId(backend=one) for one in backends))]

    def _timed(self, item: Item) -> Record:
        """An answer with nothing beside it, and how long the whole of it took; an adapter's first one with its loading."""
        checked = None
        if item.kind == "adapt":
            checked = self._check_data(item.slot) if item.slot.made else None
            self._comparison.forget(item.slot.mode)
        return self._asked(item).model_copy(update={"checked_s": checked})

    def _together(self, items: Sequence[Item]) -> Iterator[Record]:
        """The answers to all of them, each as it ends; about so many are under way all the time, since a batch that waits
        for its longest answer is soon half empty. Raises Stopped, or WorkFailed."""
        waiting, under_way = deque(items), set[Future[Record]]()
        with ThreadPoolExecutor(self._at_once) as pool:
            try:
                while waiting or under_way:
                    # Prompts that join together are read in one pass, which takes less than one after the other.
                    if self._at_once - len(under_way) >= min(_JOIN, self._at_once):
                        while waiting and len(under_way) < self._at_once:
                            under_way.add(pool.submit(self._asked, waiting.popleft()))
                    done, under_way = wait(under_way, return_when=FIRST_COMPLETED)
                    for future in done:
                        yield future.result()
            finally:
                self._leave.set()
        self._leave.clear()

    def _asked(self, item: Item) -> Record:
        """Its answer; asked again while what answers is busy. Raises Stopped, or WorkFailed."""
        for _ in range(_TRIES):
            try:
                return self._in_one_call(item)
            except Busy:
                if self._stop.wait(_PAUSE_S):
                    raise Stopped from None
        raise WorkFailed("What answers is busy with other things: go on when it is free.")

    def _in_one_call(self, item: Item) -> Record:
        began, first, steps = time.monotonic(), None, []
        with closing(self._comparison.ask(item.case.question, [self._pane(item)])) as events:
            for each in events:
                if self._stop.is_set() or self._leave.is_set():
                    raise Stopped
                event = each.event
                if isinstance(event, StepBegan):  # what is said in a step before the last is no answer yet
                    first = None
                elif isinstance(event, StepDone):
                    steps.append(event.as_dict())
                elif isinstance(event, Delta):
                    first = first or time.monotonic() - began
                if isinstance(event, Answered):
                    record = _record(item, event)
                    if item.kind not in ("adapt", "alone"):
                        return record
                    seconds = time.monotonic() - began
                    times = {
                        "seconds": round(seconds, 4),
                        "first_s": None if first is None else round(first, 4),
                    }
                    return record.model_copy(update=times)
                if isinstance(event, Failed):
                    if event.cause in ("busy", "work"):
                        raise (Busy if event.cause == "busy" else WorkFailed)(event.message)
                    return _record(item, failed=event.message).model_copy(update={"steps": tuple(steps)})
        raise WorkFailed("What answers gave no end to an answer: go on with it.")

    def _pane(self, item: Item) -> Pane:
        suite = next(one for one in self._plan.suites if one.name == item.suite)
        sampling: dict[str, float] = {"seed": item.seed}
        if item.kind == "repeat" and suite.repeat and suite.repeat.temperature is not None:
            sampling["temperature"] = suite.repeat.temperature
        if suite.max_tokens is not None:
            sampling["max_tokens"] = suite.max_tokens
        if item.kind == "warm":
            sampling["max_tokens"] = 1
        slot = item.slot
        persona = slot.persona
        if item.kind == "adapt":
            persona = self._changed(slot)
        return Pane(
            slot.mode,
            persona=persona,
            variables=slot.variables,
            sampling=sampling,
            logprobs="logprobs" in item.case.needs,
        )

    def _changed(self, slot: Slot) -> Persona | None:
        """The slot's persona with an instruction more, which nothing has read yet."""
        persona = slot.persona or self._comparison.catalogue.persona(ModeId.parse(slot.mode))
        if persona is None:
            return None
        return persona.model_copy(update={"instructions": (_CHANGED, *persona.instructions)})

    def _grade(self) -> None:
        """Grades what has no grade yet; one that could not be made is tried again, with what there is now."""
        grades = self._folder.grades()
        wanted = [
            record
            for record in self._records.values()
            if record.kind in ("answer", "repeat")
            and (record.key not in grades or grades[record.key].cannot is not None)
        ]
        graders = _GRADERS if self._tools.judge or self._tools.python else 1
        total = len(grades.keys() | {record.key for record in wanted})
        done = total - len(wanted)
        self._report(Progress("grading", done, total, None))
        with ThreadPoolExecutor(graders) as pool:
            for graded in pool.map(self._graded, wanted):
                if graded is not None and graded != grades.get(graded.key):
                    self._folder.graded(graded)
                done += 1
                self._report(Progress("grading", done, total, None))

    def _graded(self, record: Record) -> Graded | None:
        if self._stop.is_set():
            raise Stopped
        return grading.graded(self._plan, record, self._records, self._tools)

    def _judge(self, prompt: str, mode: str | None) -> str:
        """What the mode that judges says, greedily. Raises CannotGrade through its check where it says nothing."""
        judge = mode or self._plan.suite.judge
        if judge is None:
            raise grading.CannotGrade("there is no mode that judges: name one as the suite's judge")
        pane = Pane(judge, sampling={"temperature": 0.0, "max_tokens": 200})
        with closing(self._comparison.ask(prompt, [pane], seed=0)) as events:
            for each in events:
                if self._stop.is_set():
                    raise Stopped
                if isinstance(each.event, Failed):
                    raise grading.CannotGrade(f"the judge {judge} did not answer: {each.event.message}")
                if isinstance(each.event, Answered):
                    return each.event.answer
        raise grading.CannotGrade(f"the judge {judge} did not answer")


def _record(item: Item, answered: Answered | None = None, failed: str | None = None) -> Record:
    return Record(
        kind=item.kind,
        suite=item.suite,
        case=item.case.id,
        slot=item.slot.id,
        repeat=item.repeat,
        seed=item.seed,
        question=item.case.question,
        answer=answered.answer if answered else "",
        finish_reason=answered.finish_reason if answered else None,
        failed=failed,
        logprob=answered.logprob if answered else None,
        receipt=answered.receipt.as_dict() if answered else None,
    )


class _Pace:
    """How long the rest will take, by how long what is there took: timed answers, and those of batches."""

    def __init__(self, total: int, done: int, items: Sequence[Item]) -> None:
        self._total, self._done = total, done
        self._left = {"alone": 0, "answers": 0}
        for item in items:
            self._left[_phase(item.kind)] += 1
        self._spent = {"alone": 0.0, "answers": 0.0}
        self._made = {"alone": 0, "answers": 0}
        self._at = time.monotonic()

    def begin(self) -> None:
        self._at = time.monotonic()

    def told(self, kind: str) -> Progress:
        """Takes in one answer more."""
        now, phase = time.monotonic(), _phase(kind)
        self._spent[phase] += now - self._at
        self._made[phase] += 1
        self._left[phase] -= 1
        self._done += 1
        self._at = now
        return Progress(phase, self._done, self._total, self._seconds_left())

    def _seconds_left(self) -> float | None:
        # As many as are under way begin together: until they have ended, how long one takes is not to be told by them.
        enough = {"alone": 1, "answers": AT_ONCE}
        each = {name: self._spent[name] / made for name, made in self._made.items() if made >= enough[name]}
        if not each:
            return None
        # Until the others have been timed: four at once take about as long as one.
        alone = each.get("alone", each.get("answers", 0.0) * 4)
        answers = each.get("answers", alone / 4)
        return self._left["alone"] * alone + self._left["answers"] * answers


def _phase(kind: str) -> Literal["alone", "answers"]:
    return "alone" if kind in ("adapt", "alone") else "answers"
