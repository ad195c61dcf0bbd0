"""The API over real HTTP, mostly through OpenAI's own client."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import httpx
import openai
import pytest

from backends.contract import Event, Queued, Request
from backends.local.backend import LocalBackend
from backends.openai_server import OpenAIServer
from backends.server_client import Server
from comparison.live import Comparison, Pane
from tests.api.asking import EVERY_MODE, KEY, WHY, client, greedy, text
from tests.api.conftest import Serve
from tests.backends.scripted_server import Call, serving
from tests.ui.scripted import ScriptedBackend, delta, done


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


def test_fields_that_clients_send_unasked_are_passed_over(tiny_api: str) -> None:
    told = {"user": "me", "metadata": {"a": "b"}, "service_tier": "auto", "safety_identifier": "me"}
    sooner = {"prediction": {"type": "content", "content": "Blue"}, "prompt_cache_key": "sky"}
    sent = {**told, **sooner, "parallel_tool_calls": True, "extra_body": {"seed": None}}
    assert text(greedy(tiny_api, **sent)) == text(greedy(tiny_api))


@pytest.mark.parametrize("choice", ["none", "auto"])
def test_fields_that_are_filled_in_and_ask_for_nothing_are_passed_over(tiny_api: str, choice: str) -> None:
    tools = {"tools": [], "tool_choice": choice, "functions": [], "function_call": choice}
    usual = {"modalities": ["text"], "reasoning_effort": "none", "verbosity": "medium", "store": False}
    sent = {**tools, **usual, "logit_bias": {}, "logprobs": False, "top_logprobs": 0}
    assert text(greedy(tiny_api, **sent)) == text(greedy(tiny_api))


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
        asked.set()  # who left is noticed at the first event, and no more is taken then
        if begun:
            yield delta(requests[0], "on and on", 3)
        else:
            yield Queued(requests[0].id, 3)
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
