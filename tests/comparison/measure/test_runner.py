"""Measuring on a real engine with the tiny base: nothing is asked twice, and nothing that was answered is lost."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from backends.contract import Delta, Event, Failed, Request
from backends.local.backend import LocalBackend
from comparison.chain import StepBegan
from comparison.checks.check import Tools
from comparison.live import Answered, Comparison, Pane, PaneEvent
from comparison.measure.folder import ANSWERS, Record, RunFolder
from comparison.measure.plan import Plan
from comparison.measure.prepare import Wanted
from comparison.measure.runner import Progress, Runner, Stopped
from comparison.receipt import StepDone
from errors import CounterpointError, WorkFailed
from tests.comparison.measure.conftest import SUITE, Planned


def measured(folder: RunFolder, comparison: Comparison, tools: Tools | None = None) -> list[Progress]:
    told: list[Progress] = []
    Runner(folder, comparison, tools or Tools(), told.append).run()
    return told


@pytest.fixture(scope="module")
def whole(
    comparison: Comparison, tmp_path_factory: pytest.TempPathFactory
) -> tuple[RunFolder, list[Progress]]:
    from comparison.measure import prepare
    from tests.comparison.measure.conftest import MODES, suite

    plan = prepare.plan([suite()], MODES, comparison.catalogue, Wanted(alone=1), 1)
    folder = RunFolder.begin(tmp_path_factory.mktemp("whole") / "run", plan)
    return folder, measured(folder, comparison)


def test_every_question_is_answered_once_and_graded(whole: tuple[RunFolder, list[Progress]]) -> None:
    folder, told = whole
    plan, records = folder.plan(), folder.records()
    assert set(records) == {item.key for item in plan.items}
    assert (folder.path / ANSWERS).read_text().count("\n") == len(plan.items)
    graded = [key for key, record in records.items() if record.kind in ("answer", "repeat")]
    assert set(folder.grades()) == set(graded)
    assert [one.done for one in told if one.phase != "grading"] == list(range(1, len(plan.items) + 1))
    assert told[-1].phase == "grading"
    assert told[-1].done == told[-1].total


def test_an_answers_receipt_says_what_was_planned(whole: tuple[RunFolder, list[Progress]]) -> None:
    folder, _ = whole
    records = folder.records()
    for item in folder.plan().items:
        record = records[item.key]
        assert record.receipt is not None
        assert record.receipt["seed"] == item.seed == record.seed
        assert record.receipt["sampling"]["max_tokens"] == 5
        assert (record.receipt["adapter"] == "one") is (item.slot.id == "adapter:one")
        assert (record.receipt["persona"] == "teller") is (item.slot.id == "persona:teller")
        assert item.case.question in record.receipt["prompt"]
        if item.kind == "repeat":
            assert record.receipt["sampling"]["temperature"] == 1.5
    changed = next(one for one in records.values() if one.kind == "adapt" and one.slot == "persona:teller")
    assert changed.receipt is not None
    assert "Keep every answer to one short sentence." in changed.receipt["prompt"]


def test_only_what_is_asked_alone_is_timed(whole: tuple[RunFolder, list[Progress]]) -> None:
    for record in whole[0].records().values():
        assert (record.seconds is not None) is (record.kind in ("adapt", "alone"))


def test_a_run_that_is_stopped_goes_on_where_it_was(
    comparison: Comparison, planned: Planned, tmp_path: Path, whole: tuple[RunFolder, list[Progress]]
) -> None:
    folder = RunFolder.begin(tmp_path / "run", planned())
    runner = Runner(
        folder, comparison, Tools(), lambda told: runner.stop() if told.done == 7 else None, at_once=4
    )
    with pytest.raises(Stopped):
        runner.run()
    before = (folder.path / ANSWERS).read_bytes()
    assert 7 <= before.count(b"\n") < len(folder.plan().items)
    measured(folder, comparison)
    after = (folder.path / ANSWERS).read_bytes()
    assert after.startswith(before)
    assert after.count(b"\n") == len(folder.plan().items)
    # Seeds are the plan's, so that a broken run says what an unbroken one does.
    told = {key: record.answer for key, record in folder.records().items() if record.kind == "answer"}
    unbroken = whole[0].records()
    same = sum(unbroken[key].answer == answer for key, answer in told.items())
    assert same == len(told)


def test_half_a_line_that_a_killed_run_left_is_asked_again(
    comparison: Comparison, planned: Planned, tmp_path: Path
) -> None:
    folder = RunFolder.begin(tmp_path / "run", planned(modes=("base",)))
    measured(folder, comparison)
    whole = (folder.path / ANSWERS).read_bytes()
    lines = whole.splitlines(keepends=True)
    (folder.path / ANSWERS).write_bytes(b"".join(lines[:-1]) + lines[-1][:40])
    assert len(folder.records()) == len(lines) - 1
    measured(folder, comparison)
    again = (folder.path / ANSWERS).read_bytes()
    assert again.startswith(b"".join(lines[:-1]))
    assert len(folder.records()) == len(lines)


def test_a_broken_line_is_told_with_its_number(
    comparison: Comparison, planned: Planned, tmp_path: Path
) -> None:
    folder = RunFolder.begin(tmp_path / "run", planned(modes=("base",)))
    (folder.path / ANSWERS).write_text('{"kind": "answer"}\n')
    with pytest.raises(CounterpointError, match=r"answers\.jsonl:1: the line is broken: take it out"):
        measured(folder, comparison)


def test_two_runs_do_not_measure_into_one_folder(
    comparison: Comparison, planned: Planned, tmp_path: Path
) -> None:
    folder = RunFolder.begin(tmp_path / "run", planned(modes=("base",)))
    with folder.running(), pytest.raises(CounterpointError, match="by another process"):
        measured(RunFolder(folder.path), comparison)


def test_a_folder_with_something_in_it_is_left_alone(planned: Planned, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "mine.txt").write_text("mine")
    with pytest.raises(CounterpointError, match="name an empty or a new one"):
        RunFolder.begin(tmp_path / "run", planned())
    RunFolder.begin(tmp_path / "other", planned())
    with pytest.raises(CounterpointError, match="--resume"):
        RunFolder.begin(tmp_path / "other", planned())


def test_a_folder_that_cannot_be_written_ends_the_run_with_its_mend(
    comparison: Comparison, planned: Planned, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = RunFolder.begin(tmp_path / "run", planned(modes=("base",)))

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("comparison.measure.folder.os.fsync", full)
    with pytest.raises(WorkFailed, match=r"No space left on device.*make room"):
        measured(folder, comparison)


def test_a_question_that_cannot_be_asked_counts_as_wrong_and_the_others_go_on(
    comparison: Comparison, planned: Planned, tmp_path: Path
) -> None:
    long = "fox " * 3000
    tests = "".join(f"  - {{question: '{asked}'}}\n" for asked in (long[:7900], "a fox?"))
    check = "defaultTest: {assert: [{type: not-equals, value: ''}]}"
    text = f"name: s\ntitle: S\nmax_tokens: 3\n{check}\ntests:\n{tests}"
    folder = RunFolder.begin(tmp_path / "run", planned(text, modes=("base",), wanted=Wanted(alone=0)))
    measured(folder, comparison)
    first, second = (folder.records()[item.key] for item in folder.plan().items)
    assert first.failed is not None
    assert second.failed is None
    grades = folder.grades()
    assert (grades[first.key].passed, grades[first.key].reason) == (False, first.failed)
    assert grades[second.key].passed is True


def test_a_backend_that_dies_ends_the_run_and_keeps_what_was_answered(
    comparison: Comparison, planned: Planned, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = RunFolder.begin(tmp_path / "run", planned(modes=("base",), wanted=Wanted(alone=0)))
    backend = comparison.catalogue.backends.get(None)
    real, calls = backend.stream, []

    def dying(requests: list[Request]) -> Iterator[Event]:
        calls.append(requests)
        if len(calls) == 1:
            yield from real(requests)
        else:
            yield Failed(requests[0].id, "the engine died: ask again", "work")

    monkeypatch.setattr(backend, "stream", dying)
    with pytest.raises(WorkFailed, match="the engine died"):
        Runner(folder, comparison, Tools(), at_once=1).run()
    assert len(folder.records()) == 1
    monkeypatch.undo()
    measured(folder, comparison)
    assert len(folder.records()) == len(folder.plan().items)


def test_a_mode_judges_by_a_rubric_and_without_one_the_check_cannot_be_made(
    comparison: Comparison, planned: Planned, tmp_path: Path
) -> None:
    text = SUITE.replace("{type: icontains, value: opens}", "{type: llm-rubric, value: It is short.}")
    folder = RunFolder.begin(tmp_path / "run", planned(text, modes=("base",), wanted=Wanted(alone=0)))
    measured(folder, comparison)
    cannot = [graded.cannot for graded in folder.grades().values() if graded.cannot]
    assert cannot
    assert all("name one as the suite's judge" in why for why in cannot)
    judged = RunFolder.begin(
        tmp_path / "judged",
        planned(text.replace("title:", "judge: base\ntitle:"), modes=("base",), wanted=Wanted(alone=0)),
    )
    measured(judged, comparison)
    # The tiny base talks nonsense: a verdict that is none is told, never taken for one.
    cannot = [graded.cannot for graded in judged.grades().values() if graded.cannot]
    assert all("gave no verdict" in why for why in cannot)


def test_checks_that_need_what_is_measured_get_it(
    comparison: Comparison, planned: Planned, tmp_path: Path
) -> None:
    checks = "[{type: latency, threshold: 600000}, {type: perplexity, threshold: 1000000}, {type: cost, threshold: 1}]"
    text = f"name: s\ntitle: S\nmax_tokens: 4\ntests: [{{question: 'a fox?', assert: {checks}}}]\n"
    from comparison.measure.plan import Prices

    wanted = Wanted(alone=0, prices=Prices(machine_hour=1.0))
    folder = RunFolder.begin(tmp_path / "run", planned(text, modes=("base",), wanted=wanted))
    measured(folder, comparison)
    [graded] = folder.grades().values()
    assert (graded.passed, graded.cannot) == (True, None)
    assert len(graded.parts) == 3


def test_python_checks_see_the_answer_and_cannot_hold_up_a_run(
    comparison: Comparison, planned: Planned, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("comparison.measure.grading._PYTHON_S", 20.0)
    text = """\
name: s
title: S
max_tokens: 4
tests:
  - question: a {{what}}?
    vars: {what: fox}
    assert:
      - {type: python, value: "len(output) > 0 and context['vars']['what'] == 'fox'"}
      - type: python
        value: |
          import json
          return json.loads('{"pass": true, "score": 0.5}')
"""
    folder = RunFolder.begin(
        tmp_path / "run", planned(text, modes=("base",), wanted=Wanted(alone=0, python=True))
    )
    measured(folder, comparison)
    [graded] = folder.grades().values()
    assert (graded.cannot, graded.passed) == (None, True)
    monkeypatch.setattr("comparison.measure.grading._PYTHON_S", 0.5)
    endless = text.replace("len(output) > 0", "[1 for _ in iter(int, 1)]")
    folder = RunFolder.begin(
        tmp_path / "endless", planned(endless, modes=("base",), wanted=Wanted(alone=0, python=True))
    )
    measured(folder, comparison)
    [graded] = folder.grades().values()
    assert graded.cannot is not None
    assert "took longer" in graded.cannot


def test_what_is_busy_is_asked_again(
    comparison: Comparison, planned: Planned, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("comparison.measure.runner._PAUSE_S", 0.0)
    folder = RunFolder.begin(tmp_path / "run", planned(modes=("base",), wanted=Wanted(alone=0)))
    backend = comparison.catalogue.backends.get(None)
    real: Callable[..., object] = backend.stream
    refused = threading.Event()

    def busy(requests: list[object]) -> object:
        if not refused.is_set():
            refused.set()
            yield Failed(requests[0].id, "busy: ask again later", "busy")  # type: ignore[attr-defined]
            return
        yield from real(requests)  # type: ignore[misc]

    monkeypatch.setattr(backend, "stream", busy)
    measured(folder, comparison)
    assert refused.is_set()
    assert set(folder.records()) == {item.key for item in folder.plan().items}


def test_to_wait_for_what_is_busy_is_not_the_answers_time_and_steps_before_the_last_are(
    comparison: Comparison, planned: Planned, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [0.0]
    monkeypatch.setattr("comparison.measure.runner.time", SimpleNamespace(monotonic=lambda: clock[0]))
    folder = RunFolder.begin(tmp_path / "run", planned(modes=("base",)))
    runner = Runner(folder, comparison, Tools())
    monkeypatch.setattr(runner._stop, "wait", lambda seconds: clock.__setitem__(0, clock[0] + 100))
    refused: list[str] = []

    def ask(question: str, panes: object) -> Iterator[PaneEvent]:
        if not refused:
            refused.append(question)
            yield PaneEvent(0, Failed("x", "busy: ask again later", "busy"))
            return
        for seconds, event in (
            (0.0, StepBegan(1, 2, "outline")),
            (1.0, Delta("x", "an outline", 2, 1.0, None)),
            (1.0, StepBegan(2, 2, "answer")),
            (2.0, Delta("x", "an answer", 2, 2.0, None)),
            (3.0, ended),
        ):
            clock[0] += seconds
            yield PaneEvent(0, event)

    [ended] = [
        each.event
        for each in comparison.ask("a?", [Pane("base", sampling={"max_tokens": 2})], seed=1)
        if isinstance(each.event, Answered)
    ]
    monkeypatch.setattr(comparison, "ask", ask)
    [item] = [item for item in folder.plan().items if item.kind == "alone"][:1]
    record = runner._asked(item)
    assert refused
    assert (record.seconds, record.first_s) == (7.0, 4.0)


def test_a_step_that_fails_loses_none_of_those_before_it(
    comparison: Comparison, planned: Planned, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = RunFolder.begin(tmp_path / "run", planned(modes=("base",), wanted=Wanted(alone=0)))
    [ended] = [
        each.event
        for each in comparison.ask("a?", [Pane("base", sampling={"max_tokens": 2})], seed=1)
        if isinstance(each.event, Answered)
    ]
    outline = StepDone("outline", "an outline", "stop", ended.receipt)

    def ask(question: str, panes: object) -> Iterator[PaneEvent]:
        for event in (StepBegan(1, 2, "outline"), outline, StepBegan(2, 2, "answer")):
            yield PaneEvent(0, event)
        yield PaneEvent(0, Failed("x", "Step answer (2 of 2): its prompt is too long", "context"))

    monkeypatch.setattr(comparison, "ask", ask)
    measured(folder, comparison)
    for record in folder.records().values():
        assert record.failed == "Step answer (2 of 2): its prompt is too long"
        assert [(step["name"], step["answer"]) for step in record.steps] == [("outline", "an outline")]


def test_an_adapters_time_to_adapt_has_its_loading_in_it_whoever_used_it_before(
    comparison: Comparison, planned: Planned, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = comparison.catalogue.backends.get(None)
    assert isinstance(backend, LocalBackend)
    assert backend.probe("one") is None  # loaded from now on
    loaded: list[tuple[str, int]] = []
    real = comparison.ask

    def ask(question: str, panes: list[Pane]) -> Iterator[PaneEvent]:
        loaded.append((panes[0].mode, backend.statistics()["adapters_loaded"]))
        yield from real(question, panes)

    monkeypatch.setattr(comparison, "ask", ask)
    folder = RunFolder.begin(tmp_path / "run", planned(modes=("adapter:one",)))
    measured(folder, comparison)
    places = [number for number, (mode, _) in enumerate(loaded) if mode == "adapter:one"]
    assert loaded[places[0]] == ("adapter:one", 0)
    assert {count for mode, count in loaded[places[1] :]} == {1}


def test_tokens_of_all_steps_are_counted() -> None:
    receipt = {
        "prompt_tokens": 10,
        "completion_tokens": 3,
        "steps": [{"prompt_tokens": 7, "completion_tokens": 2}],
    }
    record = Record(kind="answer", suite="s", case="1.0", slot="base", seed=0, question="a?", receipt=receipt)
    assert (record.prompt_tokens, record.completion_tokens) == (17, 5)


def test_a_plan_from_another_time_is_told(tmp_path: Path) -> None:
    (tmp_path / "plan.json").write_text('{"schema_version": 1}')
    with pytest.raises(CounterpointError, match="is broken"):
        RunFolder(tmp_path).plan()
    with pytest.raises(CounterpointError, match="holds no measurement"):
        RunFolder(tmp_path / "none").plan()
    assert Plan.model_fields["schema_version"].default == 1
