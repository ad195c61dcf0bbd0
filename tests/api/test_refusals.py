"""What the API tells who asks for what it cannot do, and of answers that fail."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

import httpx
import openai
import pytest

from backends.contract import Event, Failed, Request
from errors import Busy, WorkFailed
from tests.api.asking import WHY, greedy
from tests.api.conftest import Serve
from tests.ui.scripted import ScriptedBackend, delta


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
        ({"model": "base", "messages": WHY, "reasoning_effort": "high"}, 400, "reasoning_effort: nothing here thinks"),
        ({"model": "base", "messages": WHY, "verbosity": "low"}, 400, "verbosity: how long an answer is"),
        ({"model": "base", "messages": WHY, "store": True}, 400, "store: no answer is kept"),
        ({"model": "base", "messages": WHY, "metadata": [1]}, 400, "metadata: must be"),
        ({"model": "base", "messages": WHY, "user": 5}, 400, "user: must be text"),
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


def test_another_path_is_told_in_openais_shape(tiny_api: str) -> None:
    answer = httpx.post(f"{tiny_api}/v1/embeddings", json={})
    assert answer.status_code == 404
    assert "POST /v1/embeddings" in answer.json()["error"]["message"]
    assert "GET /v1 " in httpx.get(f"{tiny_api}/v1").json()["error"]["message"]
    for method, path, allowed in (
        ("GET", "v1/chat/completions", "POST"),
        ("OPTIONS", "v1/chat/completions", "POST"),
        ("PATCH", "v1/models", "GET"),
        ("DELETE", "v1/models/base", "GET"),
        ("POST", "health", "GET"),
        ("PUT", "metrics", "GET"),
    ):
        answer = httpx.request(method, f"{tiny_api}/{path}")
        assert (answer.status_code, answer.headers["allow"]) == (405, allowed)
        assert answer.json()["error"]["type"] == "invalid_request_error"
        assert f"{allowed} only" in answer.json()["error"]["message"]


def test_what_is_wrong_in_a_message_is_all_that_is_told(tiny_api: str) -> None:
    body = {"model": "base", "messages": [{"role": "robot", "content": "x"}], "n": 0}
    told = httpx.post(f"{tiny_api}/v1/chat/completions", json=body).json()["error"]["message"]
    assert "messages[0].role: must be 'system'" in told
    assert "n: must be 1 or more" in told
    assert "needs at least" not in told


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


def test_a_prompt_that_is_too_long_is_told_by_the_code_that_clients_know(tiny_api: str) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        greedy(tiny_api, "base", messages=[{"role": "user", "content": "why so? " * 1000}])
    assert (refused.value.code, refused.value.param) == ("context_length_exceeded", "messages")
    assert "this base reads" in str(refused.value)
