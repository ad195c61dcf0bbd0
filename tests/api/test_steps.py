"""A persona with steps over HTTP: the last step's text, and the tokens of all."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence

import httpx
import openai
import pytest

from backends.contract import Event, Failed, Request
from comparison.live import Comparison, Pane
from comparison.receipt import Answered
from tests.api.asking import WHY, client, greedy, text
from tests.api.conftest import Serve
from tests.comparison.conftest import PLAIN
from tests.ui.scripted import ScriptedBackend, delta, done

MODEL = "persona:stepper"
STEPPER = (
    PLAIN.replace("name: plain", "name: stepper")
    + """\
steps:
  - {name: outline, prompt: "Outline: {{question}}", max_tokens: 6}
  - {name: polish, prompt: "Polish: {{outline}}"}
"""
)


@pytest.fixture(autouse=True)
def stepper(tiny_comparison: Comparison) -> Iterator[None]:
    tiny_comparison.catalogue.personas.save(STEPPER)
    yield
    tiny_comparison.catalogue.personas.delete("stepper")


def is_last(request: Request) -> bool:
    return request.id.endswith("/2")


def test_it_answers_as_in_a_comparison_and_counts_every_step(
    tiny_api: str, tiny_comparison: Comparison
) -> None:
    pane = Pane(MODEL, sampling={"temperature": 0.0, "max_tokens": 12})
    events = tiny_comparison.ask(WHY[0]["content"], [pane], seed=3)
    (expected,) = [each.event for each in events if isinstance(each.event, Answered)]
    answered = greedy(tiny_api, MODEL)
    total = expected.receipt.total
    assert text(answered) == expected.answer
    assert answered.usage.completion_tokens == total.completion_tokens > 6
    assert answered.usage.prompt_tokens == total.prompt_tokens
    chunks = list(greedy(tiny_api, MODEL, stream=True, stream_options={"include_usage": True}))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks[:-1]) == text(answered)
    assert chunks[-1].usage.completion_tokens == total.completion_tokens
    assert chunks[-2].choices[0].finish_reason == answered.choices[0].finish_reason
    tokens = greedy(tiny_api, MODEL, logprobs=True).choices[0].logprobs.content
    assert len(tokens) == expected.receipt.usage.completion_tokens, "of the answer alone"


def test_every_choice_goes_through_its_steps_on_its_own(serve: Serve) -> None:
    """The second choice's outline ends only once the first choice has its answer."""
    first_is_answered = threading.Event()

    def script(requests: Sequence[Request]) -> Iterator[Event]:
        for request in requests:
            if request.id.endswith("/1"):
                assert first_is_answered.wait(30)
            yield delta(request, request.messages[-1]["content"].upper(), 4)
            yield done(request)
            if request.id.endswith("/0/2"):
                first_is_answered.set()

    backend = ScriptedBackend(script)
    answered = client(serve(backend)).chat.completions.create(model=MODEL, messages=WHY, n=2, seed=5)
    assert [text(answered, choice) for choice in range(2)] == ["POLISH: OUTLINE: WHY IS THE SKY BLUE?"] * 2
    assert [request.sampling.seed for request in backend.asked] == [5, 6, 5, 6]
    assert [request.id.partition("/")[2] for request in backend.asked] == ["0", "1", "0/2", "1/2"]
    assert answered.usage.prompt_tokens == 10
    assert answered.usage.completion_tokens == 12


def test_metrics_count_every_steps_tokens(serve: Serve) -> None:
    def script(requests: Sequence[Request]) -> Iterator[Event]:
        yield delta(requests[0], "So.", 3)
        yield done(requests[0])

    address = serve(ScriptedBackend(script))
    assert text(greedy(address, MODEL)) == "So."
    told = httpx.get(f"{address}/metrics").text
    assert f'counterpoint_tokens_total{{kind="completion",model="{MODEL}"}} 6.0' in told
    assert f'counterpoint_tokens_total{{kind="prompt",model="{MODEL}"}} 10.0' in told
    assert f'counterpoint_requests_total{{model="{MODEL}",outcome="answered"}} 1.0' in told
    assert f'counterpoint_time_to_first_token_seconds_count{{model="{MODEL}"}} 1.0' in told


@pytest.mark.parametrize("streamed", [False, True])
def test_a_step_that_fails_is_told_by_its_name(serve: Serve, streamed: bool) -> None:
    def failing(requests: Sequence[Request]) -> Iterator[Event]:
        if is_last(requests[0]):
            yield Failed(requests[0].id, "All rows are taken.", "busy")
        else:
            yield delta(requests[0], "So.")
            yield done(requests[0])

    def silent(requests: Sequence[Request]) -> Iterator[Event]:
        yield done(requests[0])

    with pytest.raises(openai.RateLimitError, match=r"Step polish \(2 of 2\): All rows are taken"):
        list(greedy(serve(ScriptedBackend(failing)), MODEL, stream=streamed))
    with pytest.raises(openai.BadRequestError, match=r"Step outline \(1 of 2\) answered nothing"):
        list(greedy(serve(ScriptedBackend(silent)), MODEL, stream=streamed))


def test_who_leaves_in_a_later_step_stops_that_one(serve: Serve) -> None:
    asked, stopped = threading.Event(), threading.Event()

    class Endless(ScriptedBackend):
        def stop(self, request_ids: Sequence[str]) -> None:
            super().stop(request_ids)
            stopped.set()

    def script(requests: Sequence[Request]) -> Iterator[Event]:
        yield delta(requests[0], "on")
        if is_last(requests[0]):
            asked.set()
            assert stopped.wait(30)
            yield done(requests[0], "cancelled")
        else:
            yield done(requests[0])

    backend = Endless(script)
    address = serve(backend)
    body = {"model": MODEL, "messages": WHY, "stream": True}
    with httpx.stream("POST", f"{address}/v1/chat/completions", json=body, timeout=30) as response:
        next(response.iter_bytes())
        assert asked.wait(30)
    assert stopped.wait(30)
    assert any(each.endswith("/0/2") for each in backend.stopped)
