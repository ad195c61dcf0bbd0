"""The app's measurements on the tiny base: one at a time, and whatever ends one, it can be gone on with."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

from backends.contract import Failed, Status
from backends.wheels import Report
from comparison.checks.check import Tools
from comparison.live import Comparison
from comparison.measure import runs as module
from comparison.measure.folder import ANSWERS, RunFolder
from comparison.measure.plan import Plan
from comparison.measure.prepare import Wanted
from comparison.measure.runner import AT_ONCE, Progress
from comparison.measure.runs import Measurement, Runs
from comparison.measure.shelf import STATE, State
from errors import CounterpointError, WorkFailed
from tests.comparison.measure import made
from tests.comparison.measure.conftest import SUITE, Planned, suite
from tests.comparison.measure.kit import Kit

END_S = 60.0


@pytest.fixture
def kit() -> Kit:
    return Kit()


@pytest.fixture
def runs(comparison: Comparison, kit: Kit, tmp_path: Path) -> Iterator[Runs]:
    with closing(Runs(tmp_path, comparison, lambda: kit)) as made:
        yield made


@pytest.fixture
def short(planned: Planned) -> Plan:
    return planned(modes=("base", "adapter:one"), wanted=Wanted(alone=1))


def ended(runs: Runs, name: str) -> Measurement:
    """How it stands when its thread is through."""
    under_way = runs._under_way
    if under_way and under_way.thread:
        under_way.thread.join(END_S)
    found = runs.get(name)
    assert found.state != "running"
    return found


@dataclass
class Gate:
    """Where a measurement is held: `reached` is set when it is there, and it goes on when `opened` is."""

    reached: threading.Event = field(default_factory=threading.Event)
    opened: threading.Event = field(default_factory=threading.Event)


Held = Callable[[int], Gate]


@pytest.fixture
def held(comparison: Comparison, monkeypatch: pytest.MonkeyPatch) -> Held:
    """Holds the backend's call of that number, until its gate is opened or the measurement is told to stop."""

    def hold(number: int) -> Gate:
        gate, calls = Gate(), []
        backend = comparison.catalogue.backends.get(None)
        real, stop = backend.stream, module.Runner.stop

        def stream(requests: object) -> object:
            calls.append(requests)
            if len(calls) == number:
                gate.reached.set()
                assert gate.opened.wait(END_S)
            yield from real(requests)  # type: ignore[arg-type]

        def stopped(self: module.Runner) -> None:
            stop(self)
            gate.opened.set()

        monkeypatch.setattr(backend, "stream", stream)
        monkeypatch.setattr(module.Runner, "stop", stopped)
        return gate

    return hold


def test_a_measurement_is_carried_out_in_the_apps_data_folder_and_then_complete(
    runs: Runs, short: Plan, tmp_path: Path
) -> None:
    name = runs.start(short)
    assert name == "foxes-1"
    found = ended(runs, name)
    assert (found.state, found.problem, found.title) == ("complete", None, "Foxes")
    assert found.done == found.total == len(short.items)
    assert found.modes == ("base", "adapter:one")
    assert (tmp_path / "measurements" / name / "plan.json").is_file()
    told = runs.results(name)
    assert told is not None
    assert told.complete
    assert told.row("customisation/all") is not None
    assert "Foxes" in runs.page(name)


def test_how_far_it_is_can_be_seen_meanwhile(runs: Runs, short: Plan, held: Held) -> None:
    gate = held(5)
    name = runs.start(short)
    assert gate.reached.wait(END_S)
    found = runs.get(name)
    assert runs.going_on() == name
    assert (found.state, found.here) == ("running", True)
    assert found.progress is not None
    assert found.progress.phase == "alone"
    assert 0 < found.done < found.total
    gate.opened.set()
    assert ended(runs, name).state == "complete"
    assert runs.going_on() is None


def test_one_that_is_stopped_goes_on_and_nothing_is_asked_twice(runs: Runs, short: Plan, held: Held) -> None:
    gate = held(5)
    name = runs.start(short)
    assert gate.reached.wait(END_S)
    runs.stop(name)
    found = ended(runs, name)
    assert (found.state, found.problem) == ("stopped", None)
    assert 0 < found.done < found.total
    answers = runs.get(name).folder / ANSWERS
    before = answers.read_bytes()
    runs.resume(name)
    assert ended(runs, name).state == "complete"
    assert answers.read_bytes().startswith(before)
    assert answers.read_bytes().count(b"\n") == len(short.items) == len(RunFolder(answers.parent).records())
    with pytest.raises(CounterpointError, match="foxes-1 is complete already: start a new measurement"):
        runs.resume(name)


def test_answers_that_could_not_be_graded_are_graded_when_it_is_gone_on_with(
    runs: Runs, planned: Planned, kit: Kit, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = SUITE.replace("{type: icontains, value: opens}", "{type: similar, value: It opens.}")
    name = runs.start(planned(text, modes=("base",), wanted=Wanted(alone=0)))
    found = ended(runs, name)
    assert (found.state, found.goes_on) == ("complete", True)
    assert "1 answer could not be graded" in (found.problem or "")
    monkeypatch.setattr(kit, "tools", lambda plan: Tools(similarity=lambda a, b: 1.0))
    runs.resume(name)
    found = ended(runs, name)
    assert (found.state, found.problem, found.goes_on) == ("complete", None, False)
    assert all(graded.cannot is None for graded in RunFolder(found.folder).grades().values())


def test_figures_of_one_that_was_stopped_say_what_is_right_so_far(
    runs: Runs, short: Plan, comparison: Comparison, tmp_path: Path
) -> None:
    folder = RunFolder.begin(tmp_path / "measurements" / "foxes-1", short)
    first = sum(item.kind in ("adapt", "alone") for item in short.items)
    runner = module.Runner(
        folder, comparison, Tools(), lambda told: runner.stop() if told.done == first + 4 else None
    )
    with pytest.raises(module.Stopped):
        runner.run()
    told = runs.results("foxes-1")
    assert told is not None
    assert not told.complete
    assert told.row("customisation/all") is not None


def test_how_long_it_takes_is_not_told_by_answers_that_all_began_together(
    comparison: Comparison, planned: Planned, tmp_path: Path
) -> None:
    plan = planned(modes=("base",), wanted=Wanted(alone=0))
    assert len(plan.items) < AT_ONCE
    told: list[Progress] = []
    module.Runner(RunFolder.begin(tmp_path / "run", plan), comparison, Tools(), told.append).run()
    assert {one.phase for one in told} == {"answers", "grading"}
    assert all(one.seconds_left is None for one in told)


def test_a_second_one_is_refused_while_one_goes_on_also_by_another_app(
    runs: Runs, short: Plan, tmp_path: Path, held: Held
) -> None:
    gate = held(2)
    name = runs.start(short)
    assert gate.reached.wait(END_S)
    with pytest.raises(CounterpointError, match="foxes-1 is being measured: wait for it, or stop it"):
        runs.start(short)
    with pytest.raises(CounterpointError, match="is being measured: stop it first"):
        runs.delete(name)
    gate.opened.set()
    ended(runs, name)
    assert [one.name for one in runs.list()] == [name]
    # As another app says that it measures: its process goes on, and is not this one.
    other = psutil.Process().parent()
    assert other is not None
    told = {"state": "running", "pid": other.pid, "created": other.create_time()}
    state = tmp_path / "measurements" / name / STATE
    state.write_text(json.dumps(told))
    assert (runs.get(name).state, runs.get(name).here) == ("running", False)
    with pytest.raises(CounterpointError, match="foxes-1 is being measured by another Counterpoint"):
        runs.start(short)
    with pytest.raises(CounterpointError, match="stop it there"):
        runs.stop(name)
    # That process's number belongs to another by now.
    state.write_text(json.dumps(told | {"created": other.create_time() - 1000}))
    assert runs.get(name).state == "stopped"


@pytest.mark.parametrize(
    "left", [None, "", "{", "[]", '{"state": "odd"}', '{"state": "failed", "problem": 3}']
)
def test_one_that_a_crash_broke_off_is_listed_as_stopped_and_goes_on(
    runs: Runs, short: Plan, tmp_path: Path, left: str | None
) -> None:
    folder = RunFolder.begin(tmp_path / "measurements" / "foxes-4", short)
    if left is not None:
        (folder.path / STATE).write_text(left)
    found = runs.get("foxes-4")
    assert (found.state, found.done, found.problem) == ("stopped", 0, None)
    if left is None:
        runs.resume("foxes-4")
        assert ended(runs, "foxes-4").state == "complete"
        assert runs.start(short) == "foxes-5"
        runs.stop("foxes-5")


def test_a_broken_folder_is_told_and_hides_no_others(runs: Runs, short: Plan, tmp_path: Path) -> None:
    root = tmp_path / "measurements"
    RunFolder.begin(root / "foxes-1", short)
    RunFolder.begin(root / "foxes-2", short)
    (root / "foxes-2" / "plan.json").write_text('{"schema_version": 1}')
    (root / "empty").mkdir()
    (root / "stray.txt").write_text("no folder")
    found = {one.name: one for one in runs.list()}
    assert found.keys() == {"foxes-1", "foxes-2", "empty"}
    assert found["foxes-1"].state == "stopped"
    assert found["foxes-2"].state == found["empty"].state == "failed"
    assert "plan.json is broken" in (found["foxes-2"].problem or "")
    assert "holds no measurement" in (found["empty"].problem or "")
    with pytest.raises(CounterpointError, match=r"plan\.json is broken"):
        runs.resume("foxes-2")
    runs.delete("empty")
    assert {one.name for one in runs.list()} == {"foxes-1", "foxes-2"}
    with pytest.raises(
        CounterpointError, match="There is no measurement 'empty': choose one of these: foxes-1"
    ):
        runs.get("empty")


def test_a_backend_that_dies_is_the_measurements_state_and_loses_nothing(
    runs: Runs, short: Plan, comparison: Comparison, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = comparison.catalogue.backends.get(None)
    real, calls = backend.stream, []

    def dying(requests: list[object]) -> object:
        calls.append(requests)
        if len(calls) > 4:
            yield Failed(requests[0].id, "The engine died: ask again.", "work")  # type: ignore[attr-defined]
            return
        yield from real(requests)  # type: ignore[arg-type]

    monkeypatch.setattr(backend, "stream", dying)
    name = runs.start(short)
    found = ended(runs, name)
    assert (found.state, found.problem) == ("failed", "The engine died: ask again.")
    assert found.done > 0
    # Another app, or this one after a restart, is told the same.
    again = Runs(found.folder.parents[1], comparison, Kit)
    assert again.get(name).problem == found.problem
    monkeypatch.undo()
    runs.resume(name)
    assert ended(runs, name).state == "complete"


def test_a_full_disk_is_told_even_where_the_state_cannot_be_written_either(
    runs: Runs, short: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, begun = module.Shelf.begun, threading.Event()

    def full(*given: object) -> None:
        raise OSError(28, "No space left on device")

    def then_full(self: module.Shelf, folder: Path) -> None:
        real(self, folder)
        monkeypatch.setattr("comparison.measure.folder.os.fsync", full)
        begun.set()

    monkeypatch.setattr(module.Shelf, "begun", then_full)
    name = runs.start(short)
    found = ended(runs, name)
    assert begun.is_set()
    assert found.state == "failed"
    assert "No space left on device): make room" in (found.problem or "")
    with pytest.raises(WorkFailed, match="No space left on device"):
        runs.start(short)
    assert [one.name for one in runs.list()] == [name], "nothing half made is left"
    monkeypatch.undo()
    runs.resume(name)
    assert ended(runs, name).state == "complete"


def test_what_nobody_foresaw_is_told_too(runs: Runs, short: Plan, kit: Kit) -> None:
    def broken(report: Report) -> None:
        raise ZeroDivisionError

    kit.loading = broken
    name = runs.start(short)
    found = ended(runs, name)
    assert found.state == "failed"
    assert "the program's log says what" in (found.problem or "")


def test_one_can_be_stopped_while_its_instruments_are_fetched(runs: Runs, short: Plan, kit: Kit) -> None:
    fetching = threading.Event()

    def slow(report: Report) -> None:
        report(0.5, "Fetching the embedding model")
        fetching.set()
        under_way = runs._under_way
        assert under_way is not None
        assert under_way.told_to_stop.wait(END_S)
        report(0.6, "Fetching the embedding model")

    kit.loading = slow
    name = runs.start(short)
    assert fetching.wait(END_S)
    assert runs.get(name).preparing == "Fetching the embedding model … 50%"
    runs.stop(name)
    assert ended(runs, name).state == "stopped"


@pytest.mark.parametrize(
    ("state", "told"), [("loading", "still loading: measure as soon as it is there"), ("failed", "is gone")]
)
def test_a_base_that_cannot_answer_is_told_before_anything_is_made(
    runs: Runs, short: Plan, comparison: Comparison, monkeypatch: pytest.MonkeyPatch, state: State, told: str
) -> None:
    backend = comparison.catalogue.backends.get(None)
    monkeypatch.setattr(backend, "status", lambda: Status(state, "The engine is gone: start anew."))  # type: ignore[arg-type]
    with pytest.raises(WorkFailed, match=told):
        runs.start(short)
    assert runs.list() == []


def test_figures_are_reckoned_once_while_nothing_changes_and_not_while_answers_are_timed(
    runs: Runs, kit: Kit, tmp_path: Path, short: Plan, held: Held
) -> None:
    old = made.folder(tmp_path / "measurements" / "old-1", made.plan([suite()], "base", "persona:p"))
    first = runs.results("old-1")
    assert first is not None
    assert runs.results("old-1") is first
    assert kit.reckoned == ["old-1"]
    assert runs.page("old-1")
    with (old.path / "grades.jsonl").open("a") as file:
        file.write(made.graded(old.plan().items[-1], False).model_dump_json() + "\n")
    assert runs.results("old-1") is not first

    gate = held(2)
    name = runs.start(short)
    assert gate.reached.wait(END_S)
    assert runs.timing
    assert runs.page(name) == ""
    with pytest.raises(CounterpointError, match="no figures yet: wait until its answers are timed"):
        runs.export(name)
    assert kit.reckoned == ["old-1", "old-1"]
    gate.opened.set()
    ended(runs, name)
    assert "Foxes" in runs.page(name)


def test_figures_of_one_that_goes_on_stand_a_while(
    runs: Runs, kit: Kit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = made.folder(tmp_path / "measurements" / "old-1", made.plan([suite()], "base", "persona:p"))
    monkeypatch.setattr(runs, "going_on", lambda: "old-1")
    first = runs.results("old-1")
    with (folder.path / ANSWERS).open("a") as file:
        file.write(made.record(folder.plan().items[-1], "another").model_dump_json() + "\n")
    assert runs.results("old-1") is first
    monkeypatch.setattr(module, "FRESH_S", 0.0)
    monkeypatch.setattr(module.time, "monotonic", lambda: 1e12)
    assert runs.results("old-1") is not first


def test_its_files_are_written_and_two_are_compared(runs: Runs, tmp_path: Path) -> None:
    for number in (1, 2):
        made.folder(tmp_path / "measurements" / f"old-{number}", made.plan([suite()], "base", "persona:p"))
    written = runs.export("old-1")
    assert [path.name for path in written] == ["report.html", "report.json", "figures.csv", "answers.csv"]
    assert all(path.parent.name == "old-1" and path.stat().st_size for path in written)
    assert "base" in runs.compared("old-1", "old-2")
    RunFolder.begin(tmp_path / "measurements" / "new-1", made.plan([suite()], "base"))
    with pytest.raises(CounterpointError, match="new-1 has no figures yet"):
        runs.compared("old-1", "new-1")


def test_how_long_one_takes_is_told_by_an_earlier_one_of_the_same_base(
    runs: Runs, short: Plan, planned: Planned
) -> None:
    assert runs.forecast(short).answers == len(short.items)
    assert runs.forecast(short).seconds is None
    name = runs.start(short)
    ended(runs, name)
    once = runs.forecast(short).seconds
    assert once is not None
    assert 0 < once < END_S
    text = (
        "name: s\ntitle: S\nmax_tokens: MOST\ntests: [{question: 'a?', assert: [{type: equals, value: b}]}]\n"
    )
    told = []
    for most in ("5", "10", "500"):
        plan = planned(text.replace("MOST", most), modes=("base",), wanted=Wanted(alone=1))
        told.append(runs.forecast(plan).seconds)
    assert told[0] is not None
    assert told[1] == pytest.approx(2 * told[0])
    assert told[2] is None, "answers a hundred times as long are other ones"


def test_the_newest_is_first(runs: Runs, tmp_path: Path) -> None:
    for name, date in (("old-2", "2026-01-02"), ("old-10", "2026-01-02"), ("new-1", "2026-03-01")):
        plan = made.plan([suite()], "base").model_copy(update={"date": date})
        RunFolder.begin(tmp_path / "measurements" / name, plan)
    assert [one.name for one in runs.list()] == ["new-1", "old-10", "old-2"]


def test_closing_stops_what_goes_on_and_leaves_it_to_be_gone_on_with(
    comparison: Comparison, short: Plan, tmp_path: Path, held: Held
) -> None:
    gate = held(3)
    runs = Runs(tmp_path, comparison, Kit)
    name = runs.start(short)
    assert gate.reached.wait(END_S)
    runs.close()
    assert ended(runs, name).state == "stopped"
    assert Runs(tmp_path, comparison, Kit).get(name).state == "stopped"
