"""A server behind the OpenAI API: what each of its faults is told as."""

from __future__ import annotations

import re
import socket
import ssl
import threading
import time
from contextlib import ExitStack, closing

import httpx
import openai
import pytest

from backends import server_client, server_errors, server_exchange
from backends.circuit import Circuit
from backends.contract import Done, Failed, Sampling
from backends.openai_server import OpenAIServer
from backends.server_client import RETRIES, Server
from tests.backends.asked import MODELS, asked_of, end_message, end_of, endless, request, text_of, wait_until
from tests.backends.scripted_server import Call, Script, serving


def test_an_endless_answer_is_cut_off_soon_after_its_limit() -> None:
    with asked_of(endless) as (backend, server):
        events = list(backend.stream([request(sampling=Sampling(max_tokens=5))]))
        assert server.gone.wait(10)
    end = end_of(events)
    assert isinstance(end, Done)
    assert end.finish_reason == "length"
    assert end.usage.completion_tokens < 20


def test_a_server_without_https_is_told_as_that() -> None:
    with (
        serving(endless) as server,
        closing(OpenAIServer(Server("lab", f"https{server.url[4:]}"))) as backend,
    ):
        told = end_message(backend)
    assert "is it http, not https, that its address begins with?" in told


def test_a_certificate_that_nobody_vouches_for_is_told_as_that() -> None:
    refused = ssl.SSLCertVerificationError(1, "certificate verify failed")
    refused.verify_message = "self-signed certificate"
    unreachable = openai.APIConnectionError(request=httpx.Request("GET", "https://lab/v1/models"))
    unreachable.__cause__ = ConnectionError()
    unreachable.__cause__.__context__ = refused
    assert "self-signed certificate" in str(server_errors.told(unreachable, "lab", None))


def test_an_answer_cut_off_in_the_middle_fails_and_is_not_asked_again() -> None:
    def cut(call: Call) -> None:
        call.begin()
        call.text("Half")

    with asked_of(cut) as (backend, server):
        events = list(backend.stream([request()]))
    end = end_of(events)
    assert text_of(events) == "Half"
    assert isinstance(end, Failed)
    assert "broke off after 1 tokens" in end.message
    assert len(server.asked) == 1


def test_a_stream_that_breaks_before_its_first_token_is_asked_again() -> None:
    def second_time(call: Call) -> None:
        call.begin() if call.number == 1 else call.answer("Now")

    with asked_of(second_time) as (backend, server):
        events = list(backend.stream([request()]))
    assert text_of(events) == "Now"
    assert len(server.asked) == 2


def test_thoughts_of_a_try_that_broke_off_do_not_count_towards_the_next() -> None:
    def second_time(call: Call) -> None:
        call.begin()
        if call.number == 1:
            for _ in range(10):
                call.text(None, delta={"reasoning_content": "hm"})
            return call.usage(900, 800)
        for piece in "12345":
            call.text(piece)
        return call.text(None, "stop")

    with asked_of(second_time) as (backend, server):
        events = list(backend.stream([request(sampling=Sampling(max_tokens=5))]))
        assert len(server.asked) == 2
    end = end_of(events)
    assert isinstance(end, Done)
    assert (text_of(events), end.finish_reason) == ("12345", "stop")
    assert (end.usage.prompt_tokens, end.usage.completion_tokens) == (None, 5)


@pytest.mark.parametrize(
    ("script", "told", "cause"),
    [
        (lambda call: call.status(401, '{"error": {"message": "bad key"}}'), r"refuses us: if it wants.*bad key", "work"),
        (lambda call: call.status(404, '{"error": {"message": "gone"}}'), r"no such model or address.*gone", "work"),
        (lambda call: call.status(400, '{"error": {"message": "too long"}}'), r"refuses: .*too long", "input"),
        (
            lambda call: call.status(400, '{"error": {"message": "no", "code": "context_length_exceeded"}}'),
            r"refuses: no",
            "context",
        ),
        (
            lambda call: call.status(400, '{"error": {"message": "its maximum context length is 9"}}'),
            r"context length is 9",
            "context",
        ),
        (lambda call: call.status(422, '{"detail": "too long"}'), r"refuses: too long", "input"),
        (lambda call: call.status(400, '[{"error": {"message": "bad", "code": 400}}]'), r"refuses: bad$", "input"),
        (lambda call: call.status(400, '["bad"]'), r"refuses: bad$", "input"),
        (lambda call: call.status(200, "<html>hello</html>", "text/html"), r"no answer .*\(text/html\)", "work"),
        (lambda call: call.status(200, '{"choices": []}'), r"no answer of the OpenAI API \(application/json\)", "work"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_request_is_told_in_plain_words_at_once(
    script: Script, told: str, cause: str
) -> None:
    with asked_of(script) as (backend, server):
        end = end_of(list(backend.stream([request()])))
        assert len(server.asked) == 1
        assert backend.status().state == "ready", "the server itself is well"
    assert isinstance(end, Failed)
    assert re.search(told, end.message), end.message
    assert end.cause == cause, "only what was asked is the asker's to mend"


def test_an_adapter_that_a_server_does_not_have_is_the_askers_to_mend() -> None:
    def gone(call: Call) -> None:
        call.status(404, '{"error": {"message": "The model does not exist"}}')

    with asked_of(gone, models=MODELS) as (backend, _):
        ends = [end_of(list(backend.stream([request(adapter=name)]))) for name in ("nobody", "support")]
    assert [end.cause for end in ends if isinstance(end, Failed)] == ["input", "input"]


@pytest.mark.parametrize(("code", "told"), [(429, "is asked too much"), (500, "failed: look at its own log")])
def test_a_server_that_has_trouble_is_tried_again_and_then_told(code: int, told: str) -> None:
    def troubled(call: Call) -> None:
        call.status(code, '{"error": {"message": "busy"}}', Retry_After="0")

    def for_a_moment(call: Call) -> None:
        troubled(call) if call.number < 3 else call.answer("Now")

    with asked_of(troubled) as (backend, server):
        assert told in end_message(backend)
        assert len(server.asked) == 3
    with asked_of(for_a_moment) as (backend, _):
        assert text_of(list(backend.stream([request()]))) == "Now"


def test_all_that_keeps_an_answer_from_beginning_counts_as_one_kind_of_try() -> None:
    def troubled(call: Call) -> None:
        if call.number % 2:
            call.status(503, '{"error": {"message": "busy"}}', Retry_After="0")
        else:
            call.begin()

    def hangs_up(call: Call) -> None:
        call.hang_up() if call.number < 3 else call.answer("Now")

    with asked_of(troubled) as (backend, server):
        end_message(backend)
        assert len(server.asked) == 1 + RETRIES
    with asked_of(hangs_up) as (backend, _):
        assert text_of(list(backend.stream([request()]))) == "Now"


def test_a_server_that_stayed_silent_is_not_waited_for_again() -> None:
    release = threading.Event()
    with asked_of(lambda call: release.wait(30) and None, silence_s=0.2) as (backend, server):
        assert "sent nothing of its answer for 0.2 s" in end_message(backend)
        assert len(server.asked) == 1
        release.set()


def test_who_asks_for_a_long_pause_is_not_asked_again() -> None:
    with asked_of(lambda call: call.status(429, "{}", Retry_After="3600")) as (backend, server):
        assert "try later" in end_message(backend)
        assert len(server.asked) == 1


def test_a_silent_server_is_given_up_after_its_time() -> None:
    release = threading.Event()

    def silent(call: Call) -> None:
        call.begin()
        release.wait(30)

    with asked_of(silent, silence_s=0.2) as (backend, _):
        assert "sent nothing of its answer for 0.2 s" in end_message(backend)
        release.set()


def headers(call: Call) -> None:
    call.write(b"HTTP/1.1 200 OK\r\n")
    call.trickle(b"X-More: x\r\n")


def refusal(call: Call) -> None:
    call.write(b"HTTP/1.1 500 Oh\r\nContent-Length: 1000000\r\n\r\n")
    call.trickle(b"x")


def comments(call: Call) -> None:
    call.begin()
    call.trickle(b": ping\n\n")


def empty_deltas(call: Call) -> None:
    call.begin()
    call.trickle(b'data: {"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]}\n\n')


def half_a_line(call: Call) -> None:
    call.begin()
    call.write(b"data: {")
    call.trickle(b" ")


@pytest.mark.parametrize("trickle", [headers, refusal, comments, empty_deltas, half_a_line])
def test_a_server_that_sends_and_says_nothing_is_given_up_after_its_time(trickle: Script) -> None:
    with asked_of(trickle, silence_s=0.4, circuit=Circuit(failures=1)) as (backend, server):
        assert end_message(backend) == "lab sent nothing of its answer for 0.4 s: look at its own log."
        assert len(server.asked) == 1, "nobody waits as long again"
        assert "sent nothing" in backend.status().message
        assert server.gone.wait(10), "the server writes to nobody"


@pytest.mark.parametrize("field", ["content", "refusal", "reasoning_content", "reasoning"])
def test_a_server_that_says_something_from_time_to_time_is_waited_for(field: str) -> None:
    silence_s = 0.5

    def slow(call: Call) -> None:
        call.begin()
        end = time.monotonic() + 1.5 * silence_s
        while time.monotonic() < end:
            call.text(None, delta={field: "hm "})
            call.server.over.wait(0.05)
        call.text("So.", "stop")

    with asked_of(slow, silence_s=silence_s) as (backend, _):
        events = list(backend.stream([request(sampling=Sampling(max_tokens=1000))]))
    assert text_of(events).endswith("So.")


def test_a_stop_while_a_server_says_nothing_is_a_stop() -> None:
    begun = threading.Event()

    def silent(call: Call) -> None:
        begun.set()
        comments(call)

    with asked_of(silent) as (backend, _):
        stopped = threading.Thread(target=lambda: begun.wait(20) and backend.stop(["a"]))
        stopped.start()
        end = end_of(list(backend.stream([request()])))
        stopped.join()
    assert isinstance(end, Done)
    assert end.finish_reason == "cancelled"


@pytest.mark.parametrize("then", [lambda call: call.trickle(b": ping\n\n"), lambda call: call.hang_up()])
def test_an_answer_that_has_ended_is_whole_whatever_follows(
    then: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_exchange, "LAST_S", 0.2)

    def script(call: Call) -> None:
        # More is announced than comes.
        call.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 100000\r\n\r\n")
        call.text("Whole.", "stop")
        then(call)

    with asked_of(script) as (backend, server):
        events = list(backend.stream([request()]))
        assert len(server.asked) == 1
    end = end_of(events)
    assert isinstance(end, Done)
    assert (text_of(events), end.finish_reason, end.usage.completion_tokens) == ("Whole.", "stop", 1)


def test_a_server_that_is_down_is_told_at_once_and_comes_back_by_itself() -> None:
    with serving(lambda call: call.answer("Back")) as server:
        url = server.url
    backend = OpenAIServer(Server("lab", url), None, Circuit(failures=1, pause_s=0.05))
    try:
        assert "does not answer" in end_message(backend)
        assert backend.status().state == "failed"
        assert "counts as down" in end_message(backend)
        with serving(lambda call: call.answer("Back"), port=int(url.rpartition(":")[2].partition("/")[0])):
            wait_until(lambda: backend.status().state == "ready")
            assert text_of(list(backend.stream([request()]))) == "Back"
    finally:
        backend.close()


def test_a_server_that_takes_no_connection_is_told_as_that(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_client, "CONNECT_S", 0.2)
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full, ExitStack() as waiting:
        for _ in range(3):
            caller = waiting.enter_context(socket.socket())
            caller.setblocking(False)
            caller.connect_ex(full.getsockname())
        backend = OpenAIServer(Server("lab", f"http://127.0.0.1:{full.getsockname()[1]}/v1"))
        with closing(backend):
            assert "does not answer: start it, or mend its address" in end_message(backend)


def test_a_server_that_points_elsewhere_is_told_and_nobody_else_is_asked() -> None:
    with serving(lambda call: call.answer("x")) as other:

        def moved(call: Call) -> None:
            call.status(307, "", Location=f"{other.url}/chat/completions")

        with asked_of(moved) as (backend, _):
            end = end_of(list(backend.stream([request()])))
    assert isinstance(end, Failed)
    assert f"has moved to {other.url}" in end.message
    assert (other.asked, other.headers) == ([], [])


def test_endless_thoughts_without_an_answer_are_cut_off_as_well() -> None:
    def script(call: Call) -> None:
        call.begin()
        while True:
            call.text(None, delta={"reasoning_content": "hm"})

    with asked_of(script) as (backend, server):
        end = end_of(list(backend.stream([request(sampling=Sampling(max_tokens=4))])))
        assert server.gone.wait(20)
    assert isinstance(end, Done)
    assert (end.finish_reason, end.usage.completion_tokens) == ("length", 0)


def test_a_filtered_answer_and_one_without_the_log_probabilities_asked_for_are_told() -> None:
    def filtered(call: Call) -> None:
        call.begin()
        call.text("Once", None)
        call.text(None, "content_filter")
        call.event("[DONE]")

    with asked_of(filtered) as (backend, _):
        assert "content filter" in getattr(end_of(list(backend.stream([request()]))), "message", "")
    with asked_of(lambda call: call.answer("x")) as (backend, _):
        asked = request(top_logprobs=2)
        assert "no log-probabilities" in getattr(end_of(list(backend.stream([asked]))), "message", "")


def test_a_server_that_answers_again_if_only_to_refuse_is_no_longer_down(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("backends.server_client.RETRIES", 0)
    with asked_of(lambda call: call.status(500, "{}")) as (backend, server):
        while backend.status().state == "ready":
            list(backend.stream([request()]))
        server.listed = lambda call: call.status(401, '{"error": {"message": "who are you?"}}')
        wait_until(lambda: backend.status().state == "ready")
