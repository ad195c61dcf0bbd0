"""A server behind the OpenAI API that sends what is no answer, or too much of one."""

from __future__ import annotations

import gzip
import re
from typing import Any

import pytest

from backends import server_bytes
from backends.contract import Delta, Done, Failed, Request, Sampling
from backends.server_answer import LONGEST_TOKEN, SLACK
from tests.backends.asked import asked_of, end_message, end_of, endless, request, text_of
from tests.backends.scripted_server import Call, Script


def piece(content: Any, **more: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": {"content": content}, "finish_reason": None, **more}]}


END = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}


def sends(*events: Any) -> Script:
    """A stream of these events, and bytes as they are."""

    def script(call: Call) -> None:
        call.begin()
        for event in events:
            call.write(event) if isinstance(event, bytes) else call.event(event)

    return script


@pytest.mark.parametrize(
    ("events", "told", "cause"),
    [
        ([{"error": {"message": "out of memory", "code": 500}}], "failed while it answered: .*out of memory", "work"),
        ([{"error": "out of memory"}], "failed while it answered: .*out of memory", "work"),
        ([b'event: error\ndata: {"message": "out of memory"}\n\n'], "failed while it answered: .*out of memory", "work"),
        ([{"error": {"message": "too long", "code": 400}}], "refuses: too long", "input"),
        ([{"object": "error", "message": "too long", "code": 400}], "refuses: too long", "input"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("begun", [[], [piece("So")]])
def test_an_error_in_the_midst_of_a_stream_is_told_in_the_servers_words_and_not_asked_again(
    events: list[Any], told: str, cause: str, begun: list[Any]
) -> None:
    with asked_of(sends(*begun, *events)) as (backend, server):
        end = end_of(list(backend.stream([request()])))
        assert len(server.asked) == 1
    assert isinstance(end, Failed)
    assert re.search(told, end.message), end.message
    assert end.cause == cause


@pytest.mark.parametrize(
    "odd",
    [
        {"id": "1"},
        {"choices": None},
        {"choices": []},
        {"choices": [{"index": 0, "delta": None}]},
        {"choices": [], "usage": None},
        b"retry: soon\n\n",
    ],
)
def test_events_that_say_nothing_are_passed_over(odd: Any) -> None:
    with asked_of(sends(odd, piece("So."), END)) as (backend, _):
        events = list(backend.stream([request()]))
    assert text_of(events) == "So."
    assert isinstance(end_of(events), Done)


@pytest.mark.parametrize(
    "last",
    [
        [END],
        [END, {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 1}}],
        [{"choices": [{"index": 0, "finish_reason": "stop"}]}],
    ],
)
def test_an_answer_is_whole_at_its_finish_reason_whatever_of_the_rest_is_missing(last: list[Any]) -> None:
    with asked_of(sends(piece("So."), *last)) as (backend, _):
        end = end_of(list(backend.stream([request()])))
    assert isinstance(end, Done)
    assert (end.finish_reason, end.usage.completion_tokens) == ("stop", 1)


@pytest.mark.parametrize(
    "odd",
    [
        piece(5),
        piece([{"type": "text", "text": "So"}]),
        piece("So", logprobs={"content": [{"token": "So", "logprob": None}]}),
        b'data: {"choices": [{"delta": {}, "logprobs": {"content": [{"token": "S", "logprob": NaN}]}}]}\n\n',
        {"choices": [None]},
        b"data: \xff\xfe\n\n",
        b"data: " + b"[" * 200_000 + b"\n\n",
    ],
)
def test_what_is_no_part_of_an_answer_is_shown_to_nobody(odd: Any) -> None:
    with asked_of(sends(odd, END)) as (backend, _):
        assert "sent what is no answer of the OpenAI API" in end_message(backend)
    with asked_of(sends(piece("Half"), odd, END)) as (backend, _):
        events = list(backend.stream([request()]))
    assert text_of(events) == "Half"
    end = end_of(events)
    assert isinstance(end, Failed)
    assert "in the midst of one: look at its own log" in end.message, "its address is right"


def test_halves_of_characters_are_shown_as_what_can_be_shown() -> None:
    half = b'data: {"model": "m\\ud800", "choices": [{"index": 0, "delta": {"content": "a\\ud800"}}]}\n\n'
    with asked_of(sends(half, END)) as (backend, server):
        events = list(backend.stream([request()]))
        assert text_of(events) == "a\ufffd"
        server.script = lambda call: call.status(400, '{"error": {"message": "a\\ud800"}}')
        shown = repr(events) + end_message(backend)
    shown.encode()
    assert "\\ud800" not in shown


def test_alternatives_of_no_probability_are_left_out() -> None:
    told = b'[{"token": "a", "logprob": -0.5, "top_logprobs": [{"token": "b", "logprob": -Infinity}]}]'
    event = (
        b'data: {"choices": [{"index": 0, "delta": {"content": "a"}, "logprobs": {"content": %s}}]}\n\n'
        % told
    )
    with asked_of(sends(event, END)) as (backend, _):
        events = list(backend.stream([request(top_logprobs=1)]))
    (delta,) = [event for event in events if isinstance(event, Delta)]
    assert [(each.token, each.logprob, each.top) for each in delta.logprobs] == [("a", -0.5, ())]


def test_an_endless_answer_in_one_piece_is_cut_off_as_well() -> None:
    with asked_of(sends(piece("x" * 1_000_000), END)) as (backend, _):
        events = list(backend.stream([request(sampling=Sampling(max_tokens=2))]))
    end = end_of(events)
    assert isinstance(end, Done)
    assert end.finish_reason == "length"
    assert len(text_of(events)) == (2 + SLACK) * LONGEST_TOKEN


def test_a_count_that_nothing_could_have_is_not_told() -> None:
    usage = {"prompt_tokens": 10**400, "completion_tokens": 10**400}
    with asked_of(sends(piece("a"), {"choices": [], "usage": usage}, piece("b"), END)) as (backend, _):
        end = end_of(list(backend.stream([request()])))
    assert isinstance(end, Done)
    assert (end.usage.prompt_tokens, end.usage.completion_tokens) == (None, 2)


@pytest.mark.parametrize(
    "sent", ["{not json", '"text"', '{"choices": "none"}', '{"error": {"message": "out of memory"}}']
)
def test_nonsense_in_a_stream_fails_its_pane_alone(sent: str) -> None:
    def script(call: Call) -> None:
        if call.body["messages"][0]["content"] == "well":
            return call.answer("Fine")
        call.begin()
        call.event(sent)
        return None

    with asked_of(script) as (backend, _):
        well = Request("b", ({"role": "user", "content": "well"},), Sampling(max_tokens=20))
        events = list(backend.stream([request(), well]))
    assert isinstance(end_of(events), Failed)
    assert text_of(events, "b") == "Fine"


def endless_line(call: Call) -> None:
    call.begin()
    call.write(b'data: {"choices": [{"index": 0, "delta": {"content": "')
    while True:
        call.write(b"x" * 10_000)


def endless_refusal(call: Call) -> None:
    call.write(b"HTTP/1.1 500 Oh\r\nContent-Length: 100000000000\r\n\r\n")
    while True:
        call.write(b"x" * 10_000)


@pytest.mark.parametrize("script", [endless_line, endless_refusal])
def test_more_bytes_than_any_answer_has_are_not_kept(script: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_bytes, "MOST_BYTES", 1_000_000)
    with asked_of(script) as (backend, server):
        assert end_message(backend) == "lab sent more than any answer has: look at its own log."
        assert server.gone.wait(10), "the server writes to nobody"
        assert len(server.asked) == 1


def test_what_is_packed_is_not_unpacked() -> None:
    data = gzip.compress(
        b'data: {"choices": [{"index": 0, "delta": {"content": "%s"}}]}\n\n' % (b"x" * 1_000_000)
    )

    def packed(call: Call) -> None:
        call.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Encoding: gzip\r\n")
        call.write(b"Content-Length: %d\r\n\r\n" % len(data))
        call.write(data)

    with asked_of(packed) as (backend, server):
        assert "lab packs its answers (gzip) though it was asked not to" in end_message(backend)
        assert {each["accept-encoding"] for each in server.headers} == {"identity"}


def test_a_stop_ends_its_pane_whatever_the_server_said_of_its_tokens() -> None:
    def script(call: Call) -> None:
        call.begin()
        usage = {"prompt_tokens": "a", "completion_tokens": "abc", "total_tokens": -1}
        call.event({"id": "1", "object": "chat.completion.chunk", "choices": [], "usage": usage})
        endless(call)

    with asked_of(script) as (backend, _):
        events = []
        for event in backend.stream([request(sampling=Sampling(max_tokens=8192))]):
            events.append(event)
            if isinstance(event, Delta):
                backend.stop(["a"])
        end = end_of(events)
    assert isinstance(end, Done)
    assert end.finish_reason == "cancelled"
    assert end.usage.prompt_tokens is None
