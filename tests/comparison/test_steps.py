"""Personas with steps, through one comparison: on a real engine with the tiny base, and on scripted backends."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from backends.contract import Delta, Done, Event, Failed, Request
from backends.local.backend import LocalBackend
from backends.local.protocol import Options
from comparison.backends import Backends
from comparison.chain import StepBegan, Told
from comparison.live import Comparison, Pane, PaneEvent
from comparison.modes import Catalogue
from comparison.receipt import Answered, StepDone
from personas.schema import Persona, parse_persona
from tests.comparison.test_live import ENDLESS, HOT, settle
from tests.ui.scripted import ScriptedBackend, delta, done

QUESTION = "What is the capital of France?"
HEAD = """\
name: teller
title: Steps
description: Tells it step by step.
role: You tell the fox what is so.
instructions: [Be brief.]
sampling: {temperature: 0.0, max_tokens: 12}
"""
THREE = """\
steps:
  - {name: outline, prompt: "Outline: {{question}}", max_tokens: 5}
  - {name: draft, prompt: "Draft of <{{outline}}>"}
  - {name: polish, prompt: "Polish <{{draft}}> by <{{outline}}>", max_tokens: 7}
"""


def persona(steps: str = THREE, head: str = HEAD) -> Persona:
    return parse_persona(head + steps, "teller.yaml")


def chained(steps: str = THREE, sampling: Mapping[str, Any] | None = None, **more: Any) -> Pane:
    """Greedy unless it says otherwise: by chance the tiny base says nothing now and then, and a chain ends there."""
    return Pane(
        "persona:teller", persona=persona(steps), sampling={"temperature": 0.0, **(sampling or {})}, **more
    )


def of_pane(events: Sequence[PaneEvent], pane: int = 0) -> list[Told]:
    return [each.event for each in events if each.pane == pane]


def answered(events: Sequence[PaneEvent], pane: int = 0) -> Answered:
    end = of_pane(events, pane)[-1]
    assert isinstance(end, Answered), end
    return end


@pytest.fixture(scope="module")
def backend(
    tiny_base: Path, catalogue: Catalogue, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LocalBackend]:
    options = Options(str(tiny_base), "none", "auto", tmp_path_factory.mktemp("engine"))
    made = LocalBackend(options, catalogue.adapters.source)
    made.wait()
    yield made
    made.close()


@pytest.fixture
def comparison(catalogue: Catalogue, backend: LocalBackend) -> Comparison:
    return Comparison(Catalogue(catalogue.personas, catalogue.adapters, Backends(backend)))


Over = Callable[[ScriptedBackend], Comparison]


@pytest.fixture
def over(catalogue: Catalogue) -> Over:
    return lambda backend: Comparison(Catalogue(catalogue.personas, catalogue.adapters, Backends(backend)))


# --- on the engine


def test_each_steps_output_is_in_the_prompts_of_those_after_it(comparison: Comparison) -> None:
    events = list(comparison.ask(QUESTION, [chained()], seed=3))
    end = answered(events)
    outline, draft = end.steps
    prompts = [each.receipt.identity.prompt or "" for each in (*end.steps, end)]
    assert outline.answer == outline.answer.strip() != ""
    assert f"Outline: {QUESTION}" in prompts[0]
    assert f"Draft of <{outline.answer}>" in prompts[1]
    assert f"Polish <{draft.answer}> by <{outline.answer}>" in prompts[2]
    assert all("You tell the fox what is so." in prompt for prompt in prompts)
    assert QUESTION not in prompts[2]
    used = [each.receipt.usage for each in (*end.steps, end)]
    assert [usage.completion_tokens <= most for usage, most in zip(used, (5, 12, 7), strict=True)] == [
        True
    ] * 3
    assert end.receipt.total.completion_tokens == sum(usage.completion_tokens for usage in used)
    assert end.receipt.total.prompt_tokens == sum(usage.prompt_tokens or 0 for usage in used)


def test_steps_are_told_as_they_begin_and_end(comparison: Comparison) -> None:
    told = of_pane(list(comparison.ask(QUESTION, [chained()])))
    marks = [each for each in told if not isinstance(each, Delta)]
    assert [type(each) for each in marks] == [
        StepBegan, StepDone, StepBegan, StepDone, StepBegan, Answered,
    ]  # fmt: skip
    began = [each for each in marks if isinstance(each, StepBegan)]
    assert [(each.number, each.of, each.name) for each in began] == [
        (1, 3, "outline"),
        (2, 3, "draft"),
        (3, 3, "polish"),
    ]
    ends = [each for each in marks if isinstance(each, StepDone | Answered)]
    for begin, end in zip(began, ends, strict=True):
        text = "".join(
            each.text for each in told[told.index(begin) : told.index(end)] if isinstance(each, Delta)
        )
        assert text.strip() == end.answer.strip()


def test_a_receipt_lists_the_earlier_steps_and_that_of_other_personas_has_none(
    comparison: Comparison,
) -> None:
    events = list(comparison.ask(QUESTION, [chained(), Pane("base", sampling={"max_tokens": 4})]))
    receipt = answered(events).receipt.as_dict()
    assert [step["name"] for step in receipt["steps"]] == ["outline", "draft"]
    for step in receipt["steps"]:
        assert list(step) == [
            "name", "answer", "finish_reason", "prompt_tokens", "completion_tokens", "ttft_s", "tokens_per_s",
            "prompt", "prompt_sha256",
        ]  # fmt: skip
        assert step["ttft_s"] > 0
    assert receipt["persona_sha256"] == persona().sha256
    assert "Polish <" in receipt["prompt"]
    assert "steps" not in answered(events, 1).receipt.as_dict()
    assert answered(events, 1).steps == ()


def test_a_stepless_pane_answers_as_it_does_alone(comparison: Comparison) -> None:
    panes = [Pane("base", sampling=HOT), chained(sampling=HOT), Pane("adapter:one", sampling=HOT)]
    together = list(comparison.ask(QUESTION, panes, seed=11))
    alone = [list(comparison.ask(QUESTION, [pane], seed=11)) for pane in panes]
    assert [answered(together, number).answer for number in range(3)] == [
        answered(one).answer for one in alone
    ]
    assert answered(together, 1).steps[0].answer == answered(alone[1]).steps[0].answer


def test_the_conversation_stands_before_every_steps_prompt(comparison: Comparison) -> None:
    history = ({"role": "user", "content": "Before?"}, {"role": "assistant", "content": "Long before."})
    end = answered(list(comparison.ask(QUESTION, [chained(history=history)])))
    for each in (*end.steps, end):
        prompt = each.receipt.identity.prompt or ""
        assert prompt.index("Before?") < prompt.index("Long before.") < prompt.rindex("<|im_start|>user")


def test_the_most_tokens_asked_for_are_the_answers(comparison: Comparison) -> None:
    asked = {"max_tokens": 9}
    end = answered(list(comparison.ask(QUESTION, [chained(sampling=asked)])))
    limits = [each.receipt.identity.sampling.max_tokens for each in (*end.steps, end)]
    assert limits == [5, 9, 9], "the first keeps its own"


def test_how_likely_tokens_were_is_told_of_the_answers_alone(comparison: Comparison) -> None:
    events = of_pane(list(comparison.ask(QUESTION, [chained(logprobs=True)])))
    last = next(each for each in events if isinstance(each, StepBegan) and each.number == 3)
    told = [bool(each.logprobs) for each in events[: events.index(last)] if isinstance(each, Delta)]
    end = events[-1]
    assert not any(told)
    assert isinstance(end, Answered)
    assert end.logprob is not None


def test_a_pane_is_stopped_in_its_second_step_and_no_third_begins(
    comparison: Comparison, backend: LocalBackend
) -> None:
    panes = [chained(sampling=ENDLESS), Pane("base", sampling={**ENDLESS, "max_tokens": 60})]
    told: list[PaneEvent] = []
    for event in comparison.ask(QUESTION, panes, run_id="run"):
        told.append(event)
        is_second = StepBegan(2, 3, "draft") in of_pane(told)
        if is_second and event.pane == 0 and isinstance(event.event, Delta):
            comparison.stop("run", 0)
    end = answered(told)
    assert end.finish_reason == "cancelled"
    assert [step.name for step in end.steps] == ["outline"]
    assert "Draft of <" in (end.receipt.identity.prompt or "")
    assert StepBegan(3, 3, "polish") not in of_pane(told)
    assert answered(told, 1).finish_reason == "length"
    assert settle(backend)["rows"] == 0


def test_closing_in_a_later_step_leaves_nothing_running(
    comparison: Comparison, backend: LocalBackend
) -> None:
    run = comparison.ask(QUESTION, [chained(sampling=ENDLESS), Pane("base", sampling=ENDLESS)])
    next(event for event in run if event.event == StepBegan(2, 3, "draft"))
    next(event for event in run if isinstance(event.event, Delta) and event.pane == 0)
    run.close()
    figures = settle(backend)
    assert (figures["rows"], figures["waiting"]) == (0, 0)


def test_a_step_whose_prompt_is_too_long_fails_the_pane_by_its_name(comparison: Comparison) -> None:
    steps = (
        'steps: [{name: seed, prompt: "{{question}}"}, {name: flood, prompt: "' + "{{seed}} " * 300 + '"}]'
    )
    events = list(comparison.ask(QUESTION, [chained(steps), Pane("base", sampling=HOT)]))
    told = of_pane(events)
    failed = told[-1]
    assert isinstance(failed, Failed)
    assert failed.cause == "context"
    assert failed.message.startswith("Step flood (2 of 2): The prompt has ")
    assert "fewer max_tokens" in failed.message
    assert any(isinstance(each, StepDone) for each in told), "what was written stays"
    answered(events, 1)


def test_a_chain_that_cannot_be_asked_fails_alone_before_its_first_step(comparison: Comparison) -> None:
    events = list(comparison.ask(QUESTION, [chained(variables={"outline": "x"}), Pane("base", sampling=HOT)]))
    [failed] = of_pane(events)
    assert isinstance(failed, Failed)
    assert "no variable 'outline'" in failed.message
    answered(events, 1)


def test_a_preview_shows_the_first_steps_prompt(comparison: Comparison) -> None:
    shown = comparison.preview(chained(), QUESTION)
    end = answered(list(comparison.ask(QUESTION, [chained()])))
    assert shown.prompt == end.steps[0].receipt.identity.prompt


# --- scripted


def echo(requests: Sequence[Request]) -> Iterator[Event]:
    for request in requests:
        yield delta(request, f" ({request.messages[-1]['content']}) ")
        yield done(request)


def test_outputs_are_trimmed_and_never_read_as_variables(over: Over) -> None:
    backend = ScriptedBackend(echo)
    end = answered(list(over(backend).ask("{{outline}} {{draft}}", [chained()], "run")))
    prompts = [request.messages[-1]["content"] for request in backend.asked]
    assert prompts[0] == "Outline: {{outline}} {{draft}}"
    assert prompts[1] == f"Draft of <({prompts[0]})>"
    assert prompts[2] == f"Polish <({prompts[1]})> by <({prompts[0]})>"
    assert end.answer == f" ({prompts[2]}) "
    assert [request.id for request in backend.asked] == ["run/0", "run/0/2", "run/0/3"]


def test_all_first_calls_are_one_batch_and_a_next_step_waits_for_nobody(over: Over) -> None:
    """The stepless pane ends only once the other one's last step was asked."""
    batches: list[list[str]] = []
    last_asked = threading.Event()

    def script(requests: Sequence[Request]) -> Iterator[Event]:
        batches.append([request.id for request in requests])
        if requests[0].id.endswith("/3"):
            last_asked.set()
        *slow, quick = requests
        yield delta(quick, "So.")
        yield done(quick)
        for request in slow:
            assert last_asked.wait(30)
            yield done(request)

    events = list(over(ScriptedBackend(script)).ask("Why?", [Pane("base"), chained()], "run"))
    assert batches == [["run/0", "run/1"], ["run/1/2"], ["run/1/3"]]
    assert isinstance(answered(events), Answered)
    assert len(answered(events, 1).steps) == 2


@pytest.mark.parametrize(("number", "name"), [(1, "outline"), (2, "draft")])
def test_a_step_that_writes_nothing_fails_and_says_so(over: Over, number: int, name: str) -> None:
    def script(requests: Sequence[Request]) -> Iterator[Event]:
        [request] = requests
        is_it = request.id.count("/") == 1 if number == 1 else request.id.endswith(f"/{number}")
        yield delta(request, " \n" if is_it else "So.")
        yield done(request)

    backend = ScriptedBackend(script)
    told = of_pane(list(over(backend).ask("Why?", [chained()])))
    failed = told[-1]
    assert isinstance(failed, Failed)
    assert failed.message.startswith(f"Step {name} ({number} of 3) answered nothing: ")
    assert failed.cause == "input"
    assert len(backend.asked) == number
    assert sum(isinstance(each, StepDone) for each in told) == number - 1


def test_an_answer_may_be_empty_as_it_may_without_steps(over: Over) -> None:
    def script(requests: Sequence[Request]) -> Iterator[Event]:
        if not requests[0].id.endswith("/3"):
            yield delta(requests[0], "So.")
        yield done(requests[0])

    assert answered(list(over(ScriptedBackend(script)).ask("Why?", [chained()]))).answer == ""


def test_a_step_that_the_backend_fails_fails_the_pane_by_its_name(over: Over) -> None:
    def script(requests: Sequence[Request]) -> Iterator[Event]:
        if requests[0].id.endswith("/2"):
            yield Failed(requests[0].id, "The queue is full: try again.", "busy")
        else:
            yield delta(requests[0], "So.")
            yield done(requests[0])

    failed = of_pane(list(over(ScriptedBackend(script)).ask("Why?", [chained()])))[-1]
    assert failed == Failed(
        failed.request_id,
        "Step draft (2 of 3): The queue is full: try again.",
        "busy",  # type: ignore[union-attr]
    )


def test_stopped_between_two_steps_the_next_is_not_asked(over: Over) -> None:
    held: list[Comparison] = []

    def script(requests: Sequence[Request]) -> Iterator[Event]:
        yield delta(requests[0], "An outline.")
        held[0].stop("run", 0)
        yield done(requests[0])  # it had ended just before it was stopped

    backend = ScriptedBackend(script)
    held.append(over(backend))
    end = answered(list(held[0].ask("Why?", [chained()], "run")))
    assert (end.answer, end.finish_reason, end.steps) == ("An outline.", "cancelled", ())
    assert len(backend.asked) == 1
    assert backend.stopped == ["run/0"]


def test_a_step_that_is_stopped_before_the_backend_has_it_ends_with_the_step_before(over: Over) -> None:
    held: list[Comparison] = []

    def script(requests: Sequence[Request]) -> Iterator[Event]:
        if requests[0].id.endswith("/2"):
            held[0].stop("run")
            yield Failed(requests[0].id, "Stopped before it began: ask again when you like.")
            return
        yield delta(requests[0], "An outline.")
        yield done(requests[0])

    backend = ScriptedBackend(script)
    held.append(over(backend))
    end = answered(list(held[0].ask("Why?", [chained()], "run")))
    assert (end.answer, end.finish_reason, end.steps) == ("An outline.", "cancelled", ())
    assert backend.stopped == ["run/0/2"]


def test_a_stop_after_the_run_or_before_it_goes_to_its_first_calls(over: Over) -> None:
    backend = ScriptedBackend(echo)
    comparison = over(backend)
    list(comparison.ask("Why?", [chained()], "run"))
    comparison.stop("run", 0)
    assert backend.stopped == ["run/0"]


def test_leaving_in_a_later_step_stops_that_call(over: Over) -> None:
    stopped = threading.Event()

    class Endless(ScriptedBackend):
        def stop(self, request_ids: Sequence[str]) -> None:
            super().stop(request_ids)
            stopped.set()

    def script(requests: Sequence[Request]) -> Iterator[Event]:
        yield delta(requests[0], "on and on")
        if requests[0].id.endswith("/2"):
            assert stopped.wait(30)
            yield done(requests[0], "cancelled")
        else:
            yield done(requests[0])

    backend = Endless(script)
    events = over(backend).ask("Why?", [chained()], "run")
    assert any(each.event == StepBegan(2, 3, "draft") for each in events)
    assert any(isinstance(each.event, Delta) for each in events)
    events.close()
    assert "run/0/2" in backend.stopped
    assert len(backend.asked) == 2


def test_one_step_is_a_question_in_other_words(over: Over) -> None:
    backend = ScriptedBackend(echo)
    told = of_pane(
        list(over(backend).ask("Why?", [chained('steps: [{name: one, prompt: "So: {{question}}"}]')]))
    )
    assert told[0] == StepBegan(1, 1, "one")
    assert [request.messages[-1]["content"] for request in backend.asked] == ["So: Why?"]
    assert isinstance(told[-1], Answered)
    assert "steps" not in told[-1].receipt.as_dict()


def test_a_server_is_sent_each_step_and_the_receipt_shows_it(over: Over) -> None:
    def script(requests: Sequence[Request]) -> Iterator[Event]:
        [request] = requests
        yield delta(request, "So.")
        ended = done(request)
        identity = replace(
            ended.identity, prompt=None, server="http://gpu/v1", messages=request.messages, claimed=("base",)
        )
        yield Done(request.id, "stop", replace(ended.usage, prompt_tokens=None), identity)

    end = answered(list(over(ScriptedBackend(script)).ask("Why?", [chained()])))
    first = end.receipt.as_dict()["steps"][0]
    assert first["prompt"] is None
    assert first["messages"][-1]["content"] == "Outline: Why?"
    assert end.receipt.total.prompt_tokens is None
    assert end.receipt.total.completion_tokens == 9
