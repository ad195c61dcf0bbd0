"""The API over real HTTP, mostly through OpenAI's own client."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

import httpx
import openai
import pytest
from openai import OpenAI

from api import routes
from backends.contract import Event, Failed, Queued, Request, Status
from backends.local.backend import LocalBackend
from backends.openai_server import OpenAIServer
from backends.server_client import Server
from comparison.live import Comparison, Pane
from errors import Busy, WorkFailed
from tests.api.conftest import Serve
from tests.backends.scripted_server import Call, serving
from tests.ui.scripted import ScriptedBackend, delta, done

KEY = "a-key-of-24-characters--"
WHY: list[Any] = [{"role": "user", "content": "Why is the sky blue?"}]
EVERY_MODE = (
    "base", "persona:teller", "persona:plain", "adapter:one", "adapter:two", "adapter:one+persona:teller",
    "adapter:one+persona:plain", "adapter:two+persona:teller", "adapter:two+persona:plain",
)  # fmt: skip


def client(address: str, key: str = "none") -> OpenAI:
    return OpenAI(base_url=f"{address}/v1", api_key=key, max_retries=0, timeout=60)


def greedy(address: str, model: str = "base", **more: Any) -> Any:
    asked = {"temperature": 0, "max_tokens": 12, "messages": WHY, **more}
    return client(address).chat.completions.create(model=model, **asked)


def text(completion: Any, choice: int = 0) -> str:
    return str(completion.choices[choice].message.content)


def test_every_usable_mode_is_a_model_and_adapters_name_their_base(tiny_api: str) -> None:
    models = {model.id: model.model_dump() for model in client(tiny_api).models.list()}
    assert tuple(sorted(models)) == tuple(sorted(EVERY_MODE)), "the unusable adapter is not among them"
    assert {model["owned_by"] for model in models.values()} == {"counterpoint"}
    assert [name for name, model in models.items() if model["parent"]] == ["adapter:one", "adapter:two"]
    assert client(tiny_api).models.retrieve("adapter:one+persona:teller").id == "adapter:one+persona:teller"
    with pytest.raises(openai.NotFoundError, match="no mode here"):
        client(tiny_api).models.retrieve("adapter:dora")


@pytest.mark.parametrize("model", EVERY_MODE)
def test_a_mode_answers_as_it_does_in_a_comparison(
    tiny_api: str, tiny_comparison: Comparison, model: str
) -> None:
    pane = Pane(model, sampling={"temperature": 0.0, "max_tokens": 12})
    events = tiny_comparison.ask(WHY[0]["content"], [pane], seed=3)
    (expected,) = [each.event for each in events if hasattr(each.event, "receipt")]
    answered = greedy(tiny_api, model)
    assert text(answered) == expected.answer
    assert answered.usage.prompt_tokens == expected.receipt.usage.prompt_tokens
    assert answered.usage.completion_tokens == expected.receipt.usage.completion_tokens
    assert answered.model == model


def test_a_stream_gives_the_same_words_its_usage_and_its_end(tiny_api: str) -> None:
    whole = greedy(tiny_api, "adapter:two")
    chunks = list(greedy(tiny_api, "adapter:two", stream=True, stream_options={"include_usage": True}))
    assert chunks[0].choices[0].delta.role == "assistant"
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks[:-1]) == text(whole)
    assert chunks[-2].choices[0].finish_reason == whole.choices[0].finish_reason
    assert chunks[-1].choices == []
    assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens
    assert chunks[-1].system_fingerprint == whole.system_fingerprint
    assert len({chunk.id for chunk in chunks}) == 1


def test_usage_is_null_where_a_server_does_not_count(serve: Serve) -> None:
    def uncounted(call: Call) -> None:
        call.begin()
        call.text("So")
        call.text(None, "stop")
        call.event("[DONE]")

    with serving(uncounted) as server, closing(OpenAIServer(Server("gpu", server.url))) as backend:
        address = serve(backend)
        assert greedy(address).usage is None
        chunks = list(greedy(address, stream=True, stream_options={"include_usage": True}))
    assert (chunks[-1].choices, chunks[-1].usage) == ([], None)


def test_the_fingerprint_tells_apart_what_answered(tiny_api: str) -> None:
    prints = {greedy(tiny_api, model).system_fingerprint for model in EVERY_MODE}
    assert len(prints) == len(EVERY_MODE)


def test_several_choices_differ_by_seed_and_come_again_with_it(tiny_api: str) -> None:
    asked = {"n": 3, "temperature": 1.5, "seed": 11, "max_tokens": 10}
    first, again = greedy(tiny_api, **asked), greedy(tiny_api, **asked)
    texts = [text(first, choice) for choice in range(3)]
    assert len(set(texts)) == 3
    assert texts == [text(again, choice) for choice in range(3)]
    streamed: dict[int, str] = dict.fromkeys(range(3), "")
    for chunk in greedy(tiny_api, stream=True, **asked):
        for choice in chunk.choices:
            streamed[choice.index] += choice.delta.content or ""
    assert list(streamed.values()) == texts


@pytest.mark.parametrize("seed", [-1, -(2**63), 2**63 - 1])
def test_any_signed_seed_of_64_bits_is_one(tiny_api: str, seed: int) -> None:
    first, again, other = (
        greedy(tiny_api, temperature=1.5, seed=each, n=2) for each in (seed, seed % 2**63, 7)
    )
    assert text(first) == text(again) != text(other)
    assert text(first, 1) == text(again, 1) != text(first)
    with pytest.raises(openai.BadRequestError, match="seed: must be"):
        greedy(tiny_api, seed=2**63)


def test_it_stops_at_a_stop_text_and_at_the_most_tokens(tiny_api: str) -> None:
    long = greedy(tiny_api, "adapter:one", max_tokens=16)
    assert long.choices[0].finish_reason == "length"
    middle = text(long)[3:6]
    cut = greedy(tiny_api, "adapter:one", max_tokens=16, stop=[middle, "never"])
    assert text(cut) == text(long)[: text(long).index(middle)]
    assert cut.choices[0].finish_reason == "stop"
    assert greedy(tiny_api, max_completion_tokens=2, max_tokens=openai.omit).usage.completion_tokens == 2


def test_log_probabilities_come_with_each_token_whole_and_streamed(tiny_api: str) -> None:
    whole = greedy(tiny_api, logprobs=True, top_logprobs=3)
    tokens = whole.choices[0].logprobs.content
    assert len(tokens) == whole.usage.completion_tokens
    for token in tokens:
        assert len(token.top_logprobs) == 3
        assert token.logprob == max(other.logprob for other in token.top_logprobs), "it was greedy"
    streamed = [
        token.logprob
        for chunk in greedy(tiny_api, logprobs=True, top_logprobs=3, stream=True)
        for token in (chunk.choices[0].logprobs.content if chunk.choices[0].logprobs else ())
    ]
    assert streamed == pytest.approx([token.logprob for token in tokens])


def test_penalties_reach_the_engine(tiny_api: str) -> None:
    asked = {"max_tokens": 40, "extra_body": {"repetition_penalty": 1.0}}
    plain = greedy(tiny_api, **asked)
    assert text(plain) != text(greedy(tiny_api, presence_penalty=2, **asked))
    assert text(plain) != text(greedy(tiny_api, frequency_penalty=2, **asked))


def test_top_p_reaches_the_engine(tiny_api: str) -> None:
    """At any temperature only the likeliest token is left of so little."""
    hot = {"temperature": 2, "seed": 1, "max_tokens": 40}
    likeliest = text(greedy(tiny_api, max_tokens=40))
    assert text(greedy(tiny_api, top_p=1e-9, **hot)) == likeliest
    assert text(greedy(tiny_api, **hot)) != likeliest


def test_a_clients_own_system_message_is_read_where_no_persona_brings_one(tiny_api: str) -> None:
    told = [{"role": "developer", "content": "You are a fox."}, *WHY]
    assert greedy(tiny_api, messages=told).usage.prompt_tokens > greedy(tiny_api).usage.prompt_tokens
    with pytest.raises(openai.BadRequestError, match="brings the system message itself"):
        greedy(tiny_api, "persona:teller", messages=told)


def test_an_answers_message_is_sent_back_as_it_came(tiny_api: str) -> None:
    message = greedy(tiny_api).choices[0].message
    second = greedy(tiny_api, messages=[*WHY, message, {"role": "user", "content": "And the sea?"}])
    assert second.usage.prompt_tokens > greedy(tiny_api).usage.prompt_tokens + 10
    elsewhere = {**message.model_dump(), "tool_calls": [], "annotations": [], "reasoning_content": "Hm."}
    third = greedy(tiny_api, messages=[*WHY, elsewhere, {"role": "user", "content": "And the sea?"}])
    assert text(third) == text(second)


def test_text_in_parts_is_the_text(tiny_api: str) -> None:
    hint = {"cache_control": {"type": "ephemeral"}}
    parts = [{"type": "text", "text": "Why is the ", **hint}, {"type": "text", "text": "sky blue?"}]
    assert text(greedy(tiny_api, messages=[{"role": "user", "content": parts}])) == text(greedy(tiny_api))


@pytest.mark.parametrize(
    ("body", "status", "told"),
    [
        ("{", 400, "cannot be read"),
        ("[]", 400, "must be an object"),
        ('{"model": "base", "model": "base", "messages": []}', 400, "cannot be read"),
        ({"model": "base"}, 400, "messages: is missing"),
        ({"model": "base", "messages": []}, 400, "messages"),
        ({"model": "gpt-4", "messages": WHY}, 404, "is not a mode"),
        ({"model": "adapter:gone", "messages": WHY}, 404, "gone"),
        ({"model": "adapter:dora", "messages": WHY}, 404, "DoRA"),
        ({"model": "persona:gone", "messages": WHY}, 404, "gone"),
        ({"model": "lab/base", "messages": WHY}, 404, "There is no server lab"),
        ({"model": "base", "messages": WHY, "temprature": 1}, 400, "temprature"),
        ({"model": "base", "messages": WHY, "temperature": 9}, 400, "temperature must lie between"),
        ({"model": "base", "messages": WHY, "temperature": "hot"}, 400, "temperature: must be a number"),
        ({"model": "base", "messages": WHY, "max_tokens": 0}, 400, "max_tokens must lie between"),
        ({"model": "base", "messages": WHY, "max_tokens": 1, "max_completion_tokens": 2}, 400, "differ"),
        ({"model": "base", "messages": WHY, "n": 17}, 400, "n: "),
        ({"model": "base", "messages": WHY, "top_logprobs": 2}, 400, "needs logprobs"),
        ({"model": "base", "messages": WHY, "tools": [{"type": "function"}]}, 400, "tools: no tool can be"),
        ({"model": "base", "messages": WHY, "tool_choice": "required"}, 400, "tool_choice: no tool can be"),
        ({"model": "base", "messages": WHY, "functions": [{"name": "f"}]}, 400, "functions: no tool can be"),
        ({"model": "base", "messages": WHY, "function_call": {"name": "f"}}, 400, "function_call: no tool can be"),
        ({"model": "base", "messages": WHY, "logit_bias": {"50256": -100}}, 400, "logit_bias: no token can be"),
        ({"model": "base", "messages": WHY, "modalities": ["text", "audio"]}, 400, "modalities: answers are text"),
        ({"model": "base", "messages": WHY, "response_format": {"type": "json_object"}}, 400, "response_format"),
        ({"model": "base", "messages": [*WHY, {"role": "assistant", "content": "x"}]}, 400, "the user's"),
        ({"model": "base", "messages": [*WHY, {"role": "system", "content": "x"}, *WHY]}, 400, "comes first"),
        ({"model": "base", "messages": [{"role": "tool", "content": "x"}]}, 400, "messages[0].role"),
        ({"model": "base", "messages": [{"role": "user", "content": " "}]}, 400, "no question"),
        ({"model": "base", "messages": [{"role": "assistant", "content": "x", "tool_calls": [{}]}]}, 400, "tool_calls"),
        ({"model": "base", "messages": [{"role": "user", "content": "x " * 15_000}]}, 400, "tokens"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("stream", [False, True])
def test_what_cannot_be_asked_is_told_in_openais_shape(
    tiny_api: str, body: Any, status: int, told: str, stream: bool
) -> None:
    if isinstance(body, dict):
        body = json.dumps({**body, "stream": stream})
    answer = httpx.post(f"{tiny_api}/v1/chat/completions", content=body, timeout=60)
    assert answer.status_code == status
    error = answer.json()["error"]
    assert told in error["message"]
    assert error["type"] == "invalid_request_error"
    assert set(error) == {"message", "type", "param", "code"}
    assert (error["code"] == "model_not_found") == (status == 404)


@pytest.mark.parametrize(
    ("sent", "param", "told"),
    [
        ({"temperature": 9}, "temperature", "Sampling: temperature must lie between 0 and 5, not 9.0."),
        ({"top_p": 0, "seed": 5}, "top_p", "Sampling: top_p must be above 0."),
        ({"max_tokens": 0}, "max_tokens", "Sampling: max_tokens must lie between 1 and 8192, not 0."),
        ({"max_completion_tokens": 0}, "max_completion_tokens", "Sampling: max_completion_tokens must lie"),
        ({"max_tokens": 1, "max_completion_tokens": 2}, "max_tokens", "max_tokens and"),
        ({"temprature": 1}, "temprature", "temprature: is not a field"),
        ({"model": "gpt-4"}, "model", "'gpt-4' is not a mode"),
        ({"stop": 5}, "stop", "stop: must be text or a list of texts"),
        ({"stop": ["x", True]}, "stop", "stop[1]: must be text"),
        ({"response_format": {"type": "json_object"}}, "response_format", "response_format.type: must be 'text'"),
        ({"messages": [{"role": "user"}]}, "messages", "messages[0].content: is missing"),
        ({"messages": [{"role": "user", "content": " "}]}, "messages", "messages: There is no question"),
        ({"messages": [*WHY, {"role": "system", "content": "x"}, *WHY]}, "messages", "messages: there may be one"),
    ],
)  # fmt: skip
def test_the_field_at_fault_is_named(tiny_api: str, sent: dict[str, Any], param: str, told: str) -> None:
    body = {"model": "base", "messages": WHY, **sent}
    error = httpx.post(f"{tiny_api}/v1/chat/completions", json=body).json()["error"]
    assert error["param"] == param
    assert error["message"].startswith(told)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (5, "messages[0].content: must be text or a list of text parts"),
        ([{"type": "image_url", "image_url": {"url": "x"}}], "messages[0].content[0].type: must be 'text'"),
        ([{"type": "text", "text": "x"}, {"type": "text"}], "messages[0].content[1].text: is missing"),
    ],
)
def test_what_is_wrong_in_a_messages_content_is_told_once_at_its_place_in_the_body(
    tiny_api: str, content: Any, told: str
) -> None:
    body = {"model": "base", "messages": [{"role": "user", "content": content}]}
    assert httpx.post(f"{tiny_api}/v1/chat/completions", json=body).json()["error"]["message"] == told


def test_fields_that_clients_send_unasked_are_passed_over(tiny_api: str) -> None:
    sent = {"user": "me", "metadata": {"a": "b"}, "store": False, "extra_body": {"seed": None}}
    assert text(greedy(tiny_api, **sent)) == text(greedy(tiny_api))


@pytest.mark.parametrize("choice", ["none", "auto"])
def test_fields_that_are_filled_in_and_ask_for_nothing_are_passed_over(tiny_api: str, choice: str) -> None:
    tools = {"tools": [], "tool_choice": choice, "functions": [], "function_call": choice}
    sent = {**tools, "logit_bias": {}, "modalities": ["text"], "logprobs": False, "top_logprobs": 0}
    assert text(greedy(tiny_api, **sent)) == text(greedy(tiny_api))


def test_another_path_is_told_in_openais_shape(tiny_api: str) -> None:
    answer = httpx.post(f"{tiny_api}/v1/embeddings", json={})
    assert answer.status_code == 404
    assert "POST /v1/embeddings" in answer.json()["error"]["message"]
    for method, path, allowed in (
        ("GET", "chat/completions", "POST"),
        ("OPTIONS", "chat/completions", "POST"),
        ("PATCH", "models", "GET"),
        ("DELETE", "models/base", "GET"),
    ):
        answer = httpx.request(method, f"{tiny_api}/v1/{path}")
        assert (answer.status_code, answer.headers["allow"]) == (405, allowed)
        assert answer.json()["error"]["type"] == "invalid_request_error"
        assert f"{allowed} only" in answer.json()["error"]["message"]


def test_a_slash_at_the_end_of_a_path_changes_nothing(tiny_api: str) -> None:
    for path in ("models", "models/base"):
        assert httpx.get(f"{tiny_api}/v1/{path}/").json() == httpx.get(f"{tiny_api}/v1/{path}").json()
    body = {"model": "base", "messages": WHY, "max_tokens": 1}
    assert httpx.post(f"{tiny_api}/v1/chat/completions/", json=body, timeout=60).status_code == 200


def test_every_answer_has_an_id_of_its_own_and_a_stream_is_not_held_up(tiny_api: str) -> None:
    answered = greedy(tiny_api)
    with pytest.raises(openai.BadRequestError) as refused:
        greedy(tiny_api, temperature=9)
    body = {"model": "base", "messages": WHY, "max_tokens": 1, "stream": True}
    streamed = httpx.post(f"{tiny_api}/v1/chat/completions", json=body, timeout=60)
    assert streamed.headers["x-accel-buffering"] == "no", "a proxy passes each word on"
    ids = {answered._request_id, refused.value.request_id, streamed.headers["x-request-id"]}
    assert len(ids) == 3
    assert None not in ids


def test_what_is_wrong_in_a_message_is_all_that_is_told(tiny_api: str) -> None:
    body = {"model": "base", "messages": [{"role": "robot", "content": "x"}], "n": 0}
    told = httpx.post(f"{tiny_api}/v1/chat/completions", json=body).json()["error"]["message"]
    assert "messages[0].role: must be 'system'" in told
    assert "n: must be 1 or more" in told
    assert "needs at least" not in told


def test_those_who_wait_together_are_decoded_together(serve: Serve) -> None:
    """Each answer goes on only once all have begun: one after another would never end."""
    together = threading.Barrier(4, timeout=30)

    def script(requests: Sequence[Request]) -> Iterator[Event]:
        together.wait()
        yield delta(requests[0], requests[0].adapter or "bare")
        yield done(requests[0])

    address = serve(ScriptedBackend(script))
    modes = ["base", "adapter:one", "adapter:two", "adapter:one+persona:teller"]
    with ThreadPoolExecutor(4) as pool:
        texts = list(pool.map(lambda mode: text(greedy(address, mode)), modes))
    assert texts == ["bare", "one", "two", "one"]


def test_the_real_engine_decodes_requests_of_all_modes_in_the_same_steps(
    tiny_api: str, tiny_comparison: Comparison
) -> None:
    backend = tiny_comparison.catalogue.backends.main
    assert isinstance(backend, LocalBackend)
    modes = ["base", "adapter:one", "adapter:two", "adapter:one+persona:teller"]
    begun = threading.Barrier(len(modes), timeout=60)

    def asked(mode: str) -> None:
        body = {
            "model": mode,
            "messages": [{"role": "user", "content": "Hello?"}],
            "max_tokens": 400,
            "temperature": 1,
            "stream": True,
        }
        begun.wait()
        with httpx.stream("POST", f"{tiny_api}/v1/chat/completions", json=body, timeout=60) as answer:
            assert "[DONE]" in [line.removeprefix("data: ") for line in answer.iter_lines()]

    before = backend.statistics()
    with ThreadPoolExecutor(len(modes)) as pool:
        list(pool.map(asked, modes))
    after = backend.statistics()
    steps, rows = (after[name] - before[name] for name in ("steps", "row_steps"))
    assert 0 < steps < rows, "each answer alone would need a step for each of its tokens"


def test_a_client_that_goes_away_frees_its_row_in_the_real_engine(
    tiny_api: str, tiny_comparison: Comparison
) -> None:
    backend = tiny_comparison.catalogue.backends.main
    assert isinstance(backend, LocalBackend)
    most = 400
    assert greedy(tiny_api, max_tokens=most).usage.completion_tokens == most
    before = backend.statistics()["steps"]
    body = {"model": "base", "messages": WHY, "max_tokens": most, "temperature": 0, "stream": True}
    with httpx.stream("POST", f"{tiny_api}/v1/chat/completions", json=body, timeout=60) as answer:
        assert next(answer.iter_lines()).startswith("data: ")
    end = time.monotonic() + 30
    while (after := backend.statistics())["rows"] and time.monotonic() < end:
        pass
    assert after["rows"] == 0
    assert after["steps"] - before < most - 1, "its answer was decoded to the end"


@pytest.mark.parametrize("begun", [False, True])
@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_goes_away_stops_its_generation_whose_tokens_are_counted(
    serve: Serve, stream: bool, begun: bool
) -> None:
    asked, stopped = threading.Event(), threading.Event()

    class Endless(ScriptedBackend):
        def stop(self, request_ids: Sequence[str]) -> None:
            super().stop(request_ids)
            stopped.set()

    def script(requests: Sequence[Request]) -> Iterator[Event]:
        if begun:
            yield delta(requests[0], "on and on", 3)
        else:
            yield Queued(requests[0].id, 3)
        asked.set()
        assert stopped.wait(30)
        yield done(requests[0], "cancelled")

    backend = Endless(script)
    address = serve(backend)

    def leave() -> None:
        body = {"model": "base", "messages": WHY, "stream": stream}
        with httpx.Client(timeout=30) as http:
            if stream and begun:
                with http.stream("POST", f"{address}/v1/chat/completions", json=body) as answer:
                    assert next(answer.iter_lines()).startswith("data: ")
            else:
                with pytest.raises(httpx.ReadTimeout):
                    http.post(f"{address}/v1/chat/completions", json=body, timeout=1)

    leave()
    assert asked.wait(30)
    assert stopped.wait(30)
    assert backend.stopped[0] == backend.asked[0].id
    told, end = "", time.monotonic() + 30
    while "counterpoint_requests_total{" not in told and time.monotonic() < end:
        told = httpx.get(f"{address}/metrics").text
    assert 'counterpoint_tokens_total{kind="completion",model="base"} 3.0' in told
    assert "counterpoint_request_seconds_count{" not in told, "times are of whole answers"


@pytest.mark.parametrize(
    ("failure", "status", "kind"),
    [
        (Failed("", "64 questions are waiting already.", "busy"), 429, "rate_limit_error"),
        (Failed("", "The engine died.", "work"), 503, "server_error"),
        (Failed("", "No effect.", "adapter"), 400, "invalid_request_error"),
        (Busy("Too many."), 429, "rate_limit_error"),
        (WorkFailed("It is down."), 503, "server_error"),
        (RuntimeError("secret"), 503, "server_error"),
    ],
)
def test_a_failure_has_the_status_of_its_cause_and_hides_what_is_nobodys_business(
    serve: Serve, failure: Failed | Exception, status: int, kind: str
) -> None:
    def script(requests: Sequence[Request]) -> Iterator[Event]:
        if isinstance(failure, Exception):
            raise failure
        yield Failed(requests[0].id, failure.message, failure.cause)

    address = serve(ScriptedBackend(script))
    for stream in (False, True):
        body = {"model": "base", "messages": WHY, "stream": stream}
        answer = httpx.post(f"{address}/v1/chat/completions", json=body)
        assert answer.status_code == status
        assert answer.json()["error"]["type"] == kind
        assert "secret" not in answer.text
        assert ("retry-after" in answer.headers) == (status in (429, 503))


def test_a_failure_after_the_first_words_is_the_streams_last_event(serve: Serve) -> None:
    def script(requests: Sequence[Request]) -> Iterator[Event]:
        yield delta(requests[0], "So")
        yield Failed(requests[0].id, "The engine died.", "work")

    address = serve(ScriptedBackend(script))
    with pytest.raises(openai.APIError, match="The engine died"):
        list(greedy(address, stream=True))
    answer = httpx.post(
        f"{address}/v1/chat/completions", json={"model": "base", "messages": WHY, "stream": True}
    )
    assert "[DONE]" not in answer.text


def test_health_answers_after_a_real_token_and_says_when_there_is_none(tiny_api: str, serve: Serve) -> None:
    sound = httpx.get(f"{tiny_api}/health", timeout=60)
    assert (sound.status_code, sound.json()["status"], sound.json()["tokens"]) == (200, "ok", 1)
    loading = serve(ScriptedBackend(lambda requests: iter(()), Status("loading", "Fetching")))
    assert httpx.get(f"{loading}/health").status_code == 503

    def failing(requests: Sequence[Request]) -> Iterator[Event]:
        yield Failed(requests[0].id, "The engine died.", "work")

    answer = httpx.get(f"{serve(ScriptedBackend(failing))}/health")
    assert (answer.status_code, answer.json()) == (503, {"status": "failed"})

    def full(requests: Sequence[Request]) -> Iterator[Event]:
        yield Failed(requests[0].id, "64 wait already.", "busy")

    assert httpx.get(f"{serve(ScriptedBackend(full))}/health").json() == {"status": "busy"}


@pytest.mark.parametrize(("works", "told"), [(True, (200, "busy")), (False, (503, "failed"))])
def test_who_waits_for_health_behind_others_is_told_whether_they_are_being_answered(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, works: bool, told: tuple[int, str]
) -> None:
    class Full(ScriptedBackend):
        steps = 0

        def statistics(self) -> dict[str, int]:
            self.steps += works
            return {"steps": self.steps}

    def script(requests: Sequence[Request]) -> Iterator[Event]:
        yield Queued(requests[0].id, 3)
        assert ended.wait(30)

    ended = threading.Event()
    monkeypatch.setattr(routes, "HEALTH_S", 0.2)
    try:
        answer = httpx.get(f"{serve(Full(script))}/health", timeout=60)
    finally:
        ended.set()
    assert (answer.status_code, answer.json()["status"]) == told


def test_a_server_whose_model_thinks_is_in_good_health_though_one_token_is_too_few(serve: Serve) -> None:
    def thinking(call: Call) -> None:
        said = "Could not finish the message because max_tokens or model output limit was reached."
        call.status(400, json.dumps({"error": {"message": said, "type": "invalid_request_error"}}))

    with serving(thinking) as server, closing(OpenAIServer(Server("gpt", server.url))) as backend:
        answer = httpx.get(f"{serve(backend)}/health", timeout=60)
    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})


def test_a_servers_good_health_holds_for_a_minute_and_its_failures_do_not(serve: Serve) -> None:
    def failing(call: Call) -> None:
        call.status(400, '{"error": {"message": "no"}}')

    def sound(call: Call) -> None:
        call.answer("Hi")

    now = [0.0]
    with serving(failing) as server, closing(OpenAIServer(Server("gpu", server.url))) as backend:
        address = serve(backend, clock=lambda: now[0])

        def health(at: float) -> tuple[int, int]:
            """The status at that time, and how many generations there have been."""
            now[0] = at
            return httpx.get(f"{address}/health", timeout=60).status_code, len(server.asked)

        assert [health(at) for at in (0, 1, 3)] == [(503, 1), (503, 1), (503, 2)]
        server.script = sound
        assert [health(at) for at in (6, 16, 65, 67)] == [(200, 3), (200, 3), (200, 3), (200, 4)]


def test_health_on_this_machine_is_generated_anew(serve: Serve) -> None:
    now = [0.0]
    backend = ScriptedBackend(lambda requests: iter([done(requests[0])]))
    address = serve(backend, clock=lambda: now[0])
    for at in (0.0, 1.0, 3.0):
        now[0] = at
        assert httpx.get(f"{address}/health").status_code == 200
    assert len(backend.asked) == 2


def test_a_backend_that_failed_is_told_at_once_whatever_health_held(serve: Serve) -> None:
    class Elsewhere(ScriptedBackend):
        is_elsewhere = True

    backend = Elsewhere(lambda requests: iter([done(requests[0])]))
    address = serve(backend, clock=lambda: 0.0)
    statuses = []
    for state in (Status("ready", ""), Status("failed", "It is down."), Status("ready", "")):
        backend.becomes(state)
        statuses.append(httpx.get(f"{address}/health").status_code)
    assert statuses == [200, 503, 200]
    assert len(backend.asked) == 2, "what held before it failed holds no longer"


def test_metrics_count_requests_tokens_and_the_engine(serve: Serve, tiny_comparison: Comparison) -> None:
    address = serve(tiny_comparison.catalogue.backends.get(None))
    greedy(address, "adapter:one", n=2)
    with pytest.raises(openai.BadRequestError):
        greedy(address, "adapter:one", messages=[{"role": "user", "content": "x " * 15_000}])
    told = httpx.get(f"{address}/metrics").text
    assert 'counterpoint_requests_total{model="adapter:one",outcome="answered"} 1.0' in told
    assert 'counterpoint_requests_total{model="adapter:one",outcome="context"} 1.0' in told
    assert 'counterpoint_tokens_total{kind="completion",model="adapter:one"} 24.0' in told
    assert "counterpoint_up 1.0" in told
    assert "counterpoint_engine_rows 0.0" in told


def test_a_backend_that_cannot_answer_is_not_up(serve: Serve) -> None:
    backend = ScriptedBackend(lambda requests: iter(()))
    address = serve(backend)
    ups = []
    for state in ("loading", "ready", "failed"):
        backend.becomes(Status(state, ""))
        ups += [
            line for line in httpx.get(f"{address}/metrics").text.splitlines() if "counterpoint_up" in line
        ]
    told = "1 while the main backend can answer; 0 while it loads, has failed, or counts as down."
    assert ups[:2] == [f"# HELP counterpoint_up {told}", "# TYPE counterpoint_up gauge"]
    assert ups[2::3] == ["counterpoint_up 0.0", "counterpoint_up 1.0", "counterpoint_up 0.0"]


def test_with_keys_nothing_but_health_is_told_without_one(serve: Serve, tiny_comparison: Comparison) -> None:
    address = serve(tiny_comparison.catalogue.backends.get(None), keys=["another-key-of-its-own", KEY])
    for path in ("/v1/models", "/metrics", "/"):
        assert httpx.get(address + path).status_code == 401
    for wrong in ("", KEY[:-1], f"{KEY}x"):
        with pytest.raises(openai.AuthenticationError, match="asks for a key"):
            client(address, wrong or "none").models.list()
    assert httpx.get(f"{address}/health", timeout=60).status_code == 200
    assert len(list(client(address, KEY).models.list())) == len(EVERY_MODE)
    assert httpx.get(f"{address}/metrics", auth=("anybody", KEY)).status_code == 200
    asked = httpx.get(address + "/")
    assert asked.headers["www-authenticate"].startswith("Basic")


def test_a_prompt_that_is_too_long_is_told_by_the_code_that_clients_know(tiny_api: str) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        greedy(tiny_api, "base", messages=[{"role": "user", "content": "why so? " * 1000}])
    assert (refused.value.code, refused.value.param) == ("context_length_exceeded", "messages")
    assert "this base reads" in str(refused.value)
