"""A server behind the OpenAI API: what it is asked, what its answers become, and how they are ended."""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Iterator

import pytest

from backends import openai_server
from backends.contract import Delta, Done, Event, Failed, Request, Sampling
from backends.openai_server import EARLY_STOPS
from errors import CounterpointError
from tests.backends.asked import MODELS, asked_of, end_message, end_of, endless, request, text_of, wait_until
from tests.backends.scripted_server import BASE, Call


def test_an_answer_streams_with_the_servers_own_count_and_a_receipt_of_what_is_only_claimed() -> None:
    with asked_of(lambda call: call.answer("Be", "cause", "."), models=MODELS) as (backend, server):
        events = list(backend.stream([request(adapter="support")]))
    assert text_of(events) == "Because."
    end = end_of(events)
    assert isinstance(end, Done)
    assert (end.finish_reason, end.usage.prompt_tokens, end.usage.completion_tokens) == ("stop", 11, 3)
    assert end.usage.ttft_s is not None
    identity = end.identity
    assert (identity.backend, identity.base, identity.adapter) == ("lab", BASE, "support")
    assert identity.base_sha256 is None
    assert identity.adapter_sha256 is None
    claimed = ("base", "adapter", "adapter_scale", "sampling", "prompt_tokens", "completion_tokens")
    assert identity.claimed == claimed
    assert identity.messages == ({"role": "user", "content": "Why?"},)
    assert server.url in (identity.server or "")
    assert "model support" in (identity.server or "")
    assert server.asked[0]["model"] == "support"


def test_sampling_goes_out_whole_to_a_server_that_knows_it_and_the_rest_is_not_pretended() -> None:
    sampling = Sampling(
        temperature=0.7, top_p=0.9, top_k=40, min_p=0.05, repetition_penalty=1.1, seed=7, max_tokens=5,
        stop=("\n",), presence_penalty=0.5,
    )  # fmt: skip
    with asked_of(lambda call: call.answer("x")) as (backend, server):
        whole = end_of(list(backend.stream([request(sampling=sampling)])))
    with asked_of(lambda call: call.answer("x"), extended=False) as (backend, hosted):
        part = end_of(list(backend.stream([request(sampling=sampling)])))
    assert server.asked[0].items() >= {
        "temperature": 0.7, "top_p": 0.9, "top_k": 40, "min_p": 0.05, "repetition_penalty": 1.1, "seed": 7,
        "max_tokens": 5, "stop": ["\n"], "presence_penalty": 0.5,
    }.items()  # fmt: skip
    assert not {"top_k", "min_p", "repetition_penalty"} & set(hosted.asked[0])
    assert isinstance(whole, Done)
    assert isinstance(part, Done)
    assert whole.identity.sampling == sampling
    assert part.identity.unsent == ("min_p", "repetition_penalty", "top_k")


@pytest.mark.parametrize("owner", ["llamacpp", "me"])
def test_llama_cpps_servers_get_the_repetition_penalty_by_the_name_that_they_read(owner: str) -> None:
    def picky(call: Call) -> None:
        error = {"message": "no", "code": "unsupported_parameter", "param": "repeat_penalty"}
        refused = "repeat_penalty" in call.body
        call.status(400, json.dumps({"error": error})) if refused else call.answer("x")

    sampling = Sampling(top_k=40, min_p=0.05, repetition_penalty=1.1, max_tokens=5)
    models = [{"id": BASE, "owned_by": owner}]
    with asked_of(lambda call: call.answer("x"), models=models) as (backend, server):
        end = end_of(list(backend.stream([request(sampling=sampling)])))
    with asked_of(picky, models=models) as (backend, _):
        without = end_of(list(backend.stream([request(sampling=sampling)])))
    assert (
        server.asked[0].items()
        >= {"top_k": 40, "min_p": 0.05, "repeat_penalty": 1.1, "max_tokens": 5}.items()
    )
    assert isinstance(end, Done)
    assert isinstance(without, Done)
    assert end.identity.sampling == sampling
    assert (end.identity.unsent, without.identity.unsent) == ((), ("repetition_penalty",))


@pytest.mark.parametrize("owner", ["vllm", "llamacpp", "counterpoint", "sglang"])
def test_a_top_k_that_is_off_is_sent_by_the_number_that_the_server_takes_for_it(owner: str) -> None:
    models = [{"id": BASE, "owned_by": owner}]
    with asked_of(lambda call: call.answer("x"), models=models) as (backend, server):
        list(backend.stream([request(sampling=Sampling(top_k=0))]))
        list(backend.stream([request(sampling=Sampling(top_k=40))]))
    off, on = server.asked
    assert off.get("top_k") == (-1 if owner == "sglang" else 0)
    assert on["top_k"] == 40


def test_ollama_is_not_sent_what_it_passes_over_and_the_receipt_does_not_claim_it() -> None:
    sampling = Sampling(temperature=0.7, top_k=40, min_p=0.05, repetition_penalty=1.1, max_tokens=5)
    models = [{"id": BASE, "owned_by": "library"}]
    with asked_of(lambda call: call.answer("x"), models=models) as (backend, server):
        end = end_of(list(backend.stream([request(sampling=sampling)])))
    passed_over = {"top_k", "min_p", "repetition_penalty", "max_completion_tokens"}
    assert passed_over.isdisjoint(server.asked[0])
    assert server.asked[0]["max_tokens"] == 5
    assert isinstance(end, Done)
    assert end.identity.unsent == ("min_p", "repetition_penalty", "top_k")
    with asked_of(lambda call: call.answer("x"), models=models, model="new") as (backend, _):
        assert f"has no model new. It has: {BASE}" in end_message(backend)


def test_a_parameter_that_a_provider_does_not_take_is_left_out_and_the_receipt_says_so() -> None:
    def picky(call: Call) -> None:
        for name in ("temperature", "seed"):
            if name in call.body:
                error = {"message": "no", "code": "unsupported_value", "param": name}
                return call.status(400, json.dumps({"error": error}))
        return call.answer("x")

    def refuses(call: Call) -> None:
        error = {"message": "no", "code": "unsupported_parameter", "param": "messages"}
        call.status(400, json.dumps({"error": error}))

    sampling = Sampling(temperature=0.5, seed=7, top_p=0.9, max_tokens=20)
    with asked_of(picky, extended=False) as (backend, server):
        end = end_of(list(backend.stream([request(sampling=sampling)])))
    assert isinstance(end, Done)
    assert end.identity.unsent == ("min_p", "repetition_penalty", "seed", "temperature", "top_k")
    assert (end.identity.server or "").endswith("does not take seed, temperature")
    assert len(server.asked) == 3
    assert server.asked[-1]["max_completion_tokens"] == 20
    assert "max_tokens" not in server.asked[-1]
    with asked_of(refuses, extended=False) as (backend, server):
        assert "refuses: no" in end_message(backend)
        assert len(server.asked) == 1


@pytest.mark.parametrize("is_a_list", [True, False])
def test_names_that_google_does_not_know_are_left_out_and_the_receipt_says_so(is_a_list: bool) -> None:
    def google(call: Call) -> None:
        unknown = [name for name in ("seed", "presence_penalty") if name in call.body]
        if not unknown:
            return call.answer("x")
        said = [
            f'Invalid JSON payload received. Unknown name "{name}": Cannot find field.' for name in unknown
        ]
        error = {"error": {"code": 400, "message": "\n".join(said), "status": "INVALID_ARGUMENT"}}
        return call.status(400, json.dumps([error] if is_a_list else error))

    sampling = Sampling(seed=7, presence_penalty=0.5, top_p=0.9, max_tokens=20)
    with asked_of(google, extended=False) as (backend, server):
        end = end_of(list(backend.stream([request(sampling=sampling)])))
    assert isinstance(end, Done)
    assert end.identity.unsent == ("min_p", "presence_penalty", "repetition_penalty", "seed", "top_k")
    assert (end.identity.server or "").endswith("does not take presence_penalty, seed")
    assert len(server.asked) == 2


def test_a_name_that_was_not_sent_or_is_needed_is_not_asked_for_again() -> None:
    said = 'Unknown name "role" at \'messages[0]\': Cannot find field. Unknown name "messages": Cannot find field.'
    refusal = json.dumps([{"error": {"code": 400, "message": said}}])
    with asked_of(lambda call: call.status(400, refusal), extended=False) as (backend, server):
        assert 'refuses: Unknown name "role"' in end_message(backend)
        assert len(server.asked) == 1


def test_all_requests_of_one_call_are_at_the_server_together() -> None:
    meeting = threading.Barrier(4, timeout=10)

    def together(call: Call) -> None:
        meeting.wait()
        call.answer("x")

    with asked_of(together) as (backend, _):
        events = list(backend.stream([request(str(number)) for number in range(4)]))
    assert [isinstance(end_of(events, str(number)), Done) for number in range(4)] == [True] * 4


def test_a_stop_ends_the_pane_and_the_servers_work() -> None:
    with asked_of(endless) as (backend, server):
        events: list[Event] = []
        for event in backend.stream([request(sampling=Sampling(max_tokens=8192))]):
            events.append(event)
            if isinstance(event, Delta) and event.completion_tokens == 3:
                backend.stop(["a"])
        assert server.gone.wait(10), "the server writes to nobody"
    end = end_of(events)
    assert isinstance(end, Done)
    assert end.finish_reason == "cancelled"


def test_a_stop_that_comes_before_the_request_has_begun_is_not_lost() -> None:
    begun = threading.Event()

    def held(call: Call) -> None:
        begun.set()
        endless(call)

    with asked_of(held) as (backend, _):
        blocked = threading.Event()
        backend._loop.call_soon_threadsafe(blocked.wait, 10)
        events: list[Event] = []
        reader = threading.Thread(
            target=lambda: events.extend(backend.stream([request(sampling=Sampling(max_tokens=8192))]))
        )
        reader.start()
        wait_until(lambda: "a" in backend._tasks)
        backend.stop(["a"])
        blocked.set()
        reader.join(20)
        assert not reader.is_alive()
    end = end_of(events)
    assert isinstance(end, Done)
    assert end.finish_reason == "cancelled"
    assert not begun.is_set(), "the server was asked for nothing"


def test_a_stop_that_comes_before_the_request_itself_is_not_lost() -> None:
    with asked_of(lambda call: call.answer("x")) as (backend, server):
        backend.stop(["a"])
        end = end_of(list(backend.stream([request()])))
        again = end_of(list(backend.stream([request()])))
    assert isinstance(end, Done)
    assert isinstance(again, Done)
    assert (end.finish_reason, again.finish_reason) == ("cancelled", "stop")
    assert len(server.asked) == 1


def test_stops_for_requests_that_never_come_are_not_kept_for_ever() -> None:
    with asked_of(lambda call: call.answer("x")) as (backend, _):
        backend.stop(["a", *(str(number) for number in range(EARLY_STOPS))])
        end = end_of(list(backend.stream([request()])))
    assert isinstance(end, Done)
    assert end.finish_reason == "stop"


def test_a_request_that_closing_overtakes_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openai_server, "PATIENCE_S", 0.01)

    class Overtaken(list[Request]):
        def __iter__(self) -> Iterator[Request]:
            backend.close()
            return super().__iter__()

    with asked_of(lambda call: call.answer("x")) as (backend, _):
        with pytest.raises(CounterpointError, match="no longer in use"):
            list(itertools.islice(backend.stream(Overtaken([request()])), 20))
        assert backend._loop.is_closed()


def test_who_waits_is_told_even_where_closing_takes_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openai_server, "PATIENCE_S", 0.01)
    monkeypatch.setattr(openai_server, "CONNECT_S", 0.01)
    with asked_of(lambda call: call.answer("x")) as (backend, _):
        blocked = threading.Event()
        backend._loop.call_soon_threadsafe(blocked.wait, 20)
        stream = backend.stream([request()])
        next(stream)
        backend.close()
        end = end_of(list(itertools.islice(stream, 20)))
        blocked.set()
    assert isinstance(end, Failed)
    assert "no longer in use" in end.message


def test_closing_tells_who_still_waits() -> None:
    with asked_of(endless) as (backend, _):
        stream = backend.stream([request(sampling=Sampling(max_tokens=8192))])
        next(event for event in stream if isinstance(event, Delta))
        backend.close()
        end = end_of(list(stream))
    assert isinstance(end, Failed)
    assert "no longer in use" in end.message


def test_leaving_the_stream_ends_the_servers_work() -> None:
    with asked_of(endless) as (backend, server):
        stream = backend.stream([request(sampling=Sampling(max_tokens=8192))])
        next(event for event in stream if isinstance(event, Delta))
        stream.close()
        assert server.gone.wait(10)


def test_the_key_goes_to_the_server_and_into_nothing_that_is_shown() -> None:
    with asked_of(lambda call: call.answer("x"), key="secret-1") as (backend, server):
        events = list(backend.stream([request()]))
        shown = repr((events, backend.status(), backend.offer()))
    assert server.keys == ["Bearer secret-1"]
    assert "secret-1" not in shown


def test_what_other_programs_variables_hold_goes_to_no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "Authorization: Bearer other-secret\nX-Team: other-secret")
    monkeypatch.setenv("OPENAI_ORG_ID", "other-secret")
    monkeypatch.setenv("OPENAI_PROJECT_ID", "other-secret")
    with asked_of(lambda call: call.answer("x"), key="secret-1") as (backend, server):
        assert text_of(list(backend.stream([request()]))) == "x"
    assert len(server.headers) == 2
    assert {each["authorization"] for each in server.headers} == {"Bearer secret-1"}
    assert "other-secret" not in repr(server.headers)


def test_a_server_that_repeats_the_key_does_not_make_it_known() -> None:
    said = '{"error": {"message": "Incorrect key: Bearer secret-1"}}'
    with asked_of(lambda call: call.status(401, said), key="secret-1") as (backend, _):
        end = end_of(list(backend.stream([request()])))
        shown = repr((end, backend.status()))
    assert "Incorrect key" in shown
    assert "secret-1" not in shown


def test_a_strength_that_the_server_cannot_give_is_refused() -> None:
    with asked_of(lambda call: call.answer("x"), models=MODELS) as (backend, server):
        assert "trained strength only" in end_message(backend, adapter="support", adapter_scale=0.5)
        assert server.asked == []


def test_log_probabilities_come_with_their_tokens() -> None:
    told = {"content": [{"token": "x", "logprob": -0.5, "top_logprobs": [{"token": "y", "logprob": -0.1}]}]}

    def script(call: Call) -> None:
        call.begin()
        call.text("x", logprobs=told)
        call.text(None, "stop")

    with asked_of(script) as (backend, server):
        events = list(backend.stream([request(top_logprobs=1)]))
    assert server.asked[0]["top_logprobs"] == 1
    (delta,) = [event for event in events if isinstance(event, Delta)]
    assert (delta.logprobs[0].token, delta.logprobs[0].logprob, delta.logprobs[0].top) == (
        "x",
        -0.5,
        (("y", -0.1),),
    )


def test_a_closed_backend_refuses() -> None:
    with asked_of(lambda call: call.answer("x")) as (backend, _):
        backend.close()
        with pytest.raises(CounterpointError, match="no longer in use"):
            list(backend.stream([request()]))


@pytest.mark.parametrize(
    ("key", "told"),
    [
        (None, "COUNTERPOINT_KEY_LAB is not set where Counterpoint runs"),
        ("secret-1", "refuses the key in COUNTERPOINT_KEY_LAB"),
        ("schlüssel", "COUNTERPOINT_KEY_LAB holds characters that no key has"),
    ],
)
def test_what_is_wrong_with_a_key_names_its_variable_and_never_the_key(key: str | None, told: str) -> None:
    with asked_of(
        lambda call: call.status(401, '{"error": {"message": "who?"}}'),
        key=key,
        key_env="COUNTERPOINT_KEY_LAB",
    ) as (backend, _):
        message = end_message(backend)
    assert told in message
    assert key is None or key not in message
