"""A server behind the OpenAI API: what it is asked, what its answers become, and what each of its faults is told as."""

from __future__ import annotations

import itertools
import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from backends import openai_server
from backends.circuit import Circuit
from backends.contract import Delta, Done, Event, Failed, Request, Sampling
from backends.openai_server import EARLY_STOPS, OpenAIServer
from backends.server_client import RETRIES, Server
from errors import CounterpointError, WorkFailed
from tests.backends.scripted_server import BASE, Call, Script, ScriptedServer, serving

MODELS = [
    {"id": BASE, "object": "model", "owned_by": "vllm"},
    {"id": "support", "object": "model", "owned_by": "vllm", "parent": BASE},
    {"id": f"{BASE}:orders", "object": "model", "owned_by": "vllm"},
]


@contextmanager
def asked_of(
    script: Script, *, key: str | None = None, models: Any = None, circuit: Circuit | None = None, **told: Any
) -> Iterator[tuple[OpenAIServer, ScriptedServer]]:
    with serving(script, models) as server:
        backend = OpenAIServer(Server("lab", server.url, **told), key, circuit)
        try:
            yield backend, server
        finally:
            backend.close()


def request(name: str = "a", **settings: Any) -> Request:
    sampling = settings.pop("sampling", Sampling(max_tokens=20))
    return Request(name, ({"role": "user", "content": "Why?"},), sampling, **settings)


def text_of(events: list[Event], name: str = "a") -> str:
    return "".join(event.text for event in events if isinstance(event, Delta) and event.request_id == name)


def end_of(events: list[Event], name: str = "a") -> Done | Failed:
    (end,) = [event for event in events if isinstance(event, Done | Failed) and event.request_id == name]
    return end


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
    assert (part.identity.sampling.top_k, part.identity.sampling.temperature) == (0, 0.7)


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
    assert end.identity.sampling == Sampling(temperature=1.0, top_p=0.9, max_tokens=20)
    assert (end.identity.server or "").endswith("does not take seed, temperature")
    assert len(server.asked) == 3
    assert server.asked[-1]["max_completion_tokens"] == 20
    assert "max_tokens" not in server.asked[-1]
    with asked_of(refuses, extended=False) as (backend, server):
        assert "refuses: no" in end_message(backend)
        assert len(server.asked) == 1


def test_a_fresh_look_sees_what_is_new_and_a_server_that_is_back() -> None:
    circuit = Circuit(failures=1, pause_s=1000)
    with asked_of(lambda call: call.answer("x"), circuit=circuit) as (backend, server):
        assert dict(backend.offer().adapters) == {}
        server.models = MODELS
        assert dict(backend.offer().adapters) == {}, "believed for a while"
        circuit.failed("gone")
        assert set(backend.offer(fresh=True).adapters) == {"support", "orders"}
        assert backend.status().state == "ready"


def test_adapters_are_looked_up_again_after_one_was_loaded_and_known_meanwhile() -> None:
    with asked_of(lambda call: call.answer("x"), models=MODELS) as (backend, server):
        backend.offer()
        server.other = lambda call: call.status(200, "{}")
        backend.load_adapter("mine", "/adapters/mine")
        assert backend.base() == BASE
        server.models = [*MODELS, {"id": "mine", "parent": BASE}]
        assert "mine" in backend.offer().adapters


def test_adapters_are_those_with_the_base_as_parent_or_in_their_id_and_those_of_the_map() -> None:
    with asked_of(lambda call: call.answer("x"), models=MODELS, adapters={"mine": "hidden"}) as (backend, _):
        assert dict(backend.offer().adapters) == {
            "support": "support", "orders": f"{BASE}:orders", "mine": "hidden",
        }  # fmt: skip
        assert backend.offer().base == BASE
        assert backend.probe("support") is None
        assert "has no adapter nobody" in (backend.probe("nobody") or "")


def test_another_counterpoints_modes_are_its_base_and_its_adapters() -> None:
    own = {"object": "model", "owned_by": "counterpoint"}
    models = [
        {"id": "base", "root": "org/small", **own},
        {"id": "persona:clerk", **own},
        {"id": "adapter:orders", "parent": "base", **own},
        {"id": "adapter:orders+persona:clerk", **own},
    ]
    with asked_of(lambda call: call.answer("x"), models=models) as (backend, server):
        offer = backend.offer()
        list(backend.stream([request(adapter="orders")]))
    assert (offer.base, offer.base_name, dict(offer.adapters)) == (
        "base",
        "org/small",
        {"orders": "adapter:orders"},
    )
    assert server.asked[0]["model"] == "adapter:orders"


def test_of_several_bases_one_must_be_named() -> None:
    models = [{"id": "one"}, {"id": "two"}]
    with asked_of(lambda call: call.answer("x"), models=models) as (backend, _):
        with pytest.raises(CounterpointError, match=r"name one of them as `model`: one, two"):
            backend.offer()
        assert "name one of them" in end_message(backend)
    with asked_of(lambda call: call.answer("x"), models=models, model="two") as (backend, server):
        list(backend.stream([request()]))
        assert server.asked[0]["model"] == "two"


def end_message(backend: OpenAIServer, **settings: Any) -> str:
    end = end_of(list(backend.stream([request(**settings)])))
    assert isinstance(end, Failed), end
    return end.message


def test_all_requests_of_one_call_are_at_the_server_together() -> None:
    meeting = threading.Barrier(4, timeout=10)

    def together(call: Call) -> None:
        meeting.wait()
        call.answer("x")

    with asked_of(together) as (backend, _):
        events = list(backend.stream([request(str(number)) for number in range(4)]))
    assert [isinstance(end_of(events, str(number)), Done) for number in range(4)] == [True] * 4


def endless(call: Call) -> None:
    call.begin()
    for number in itertools.count():
        call.text(f"{number} ")


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


def test_an_endless_answer_is_cut_off_soon_after_its_limit() -> None:
    with asked_of(endless) as (backend, server):
        events = list(backend.stream([request(sampling=Sampling(max_tokens=5))]))
        assert server.gone.wait(10)
    end = end_of(events)
    assert isinstance(end, Done)
    assert end.finish_reason == "length"
    assert end.usage.completion_tokens < 20


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


@pytest.mark.parametrize(
    ("script", "told", "cause"),
    [
        (lambda call: call.status(401, '{"error": {"message": "bad key"}}'), r"refuses us: if it wants.*bad key", "work"),
        (lambda call: call.status(404, '{"error": {"message": "gone"}}'), r"no such model or address.*gone", "work"),
        (lambda call: call.status(400, '{"error": {"message": "too long"}}'), r"refuses: .*too long", "input"),
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


def test_a_named_model_is_believed_of_a_provider_and_looked_up_in_ones_own_servers_list() -> None:
    hosted = [{"id": "models/other", "owned_by": "google"}]
    with asked_of(lambda call: call.answer("x"), models=hosted, model="new") as (backend, server):
        assert text_of(list(backend.stream([request()]))) == "x"
        assert server.asked[0]["model"] == "new"
    with asked_of(lambda call: call.answer("x"), model="new") as (backend, server):
        assert f"has no model new. It has: {BASE}" in end_message(backend)
        assert server.asked == []


def test_adapters_whose_names_no_mode_can_have_are_left_out() -> None:
    names = ["org/fine one", "two\nlines", "bell\x07", "a+persona:b", "a+adapter:b", " ", "x" * 201]
    models = [{"id": BASE, "owned_by": "vllm"}, *({"id": name, "parent": BASE} for name in names)]
    with asked_of(lambda call: call.answer("x"), models=models) as (backend, _):
        assert list(backend.offer().adapters) == ["org/fine one"]


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
        assert "sent nothing for" in end_message(backend)
        assert len(server.asked) == 1
        release.set()


def test_who_asks_for_a_long_pause_is_not_asked_again() -> None:
    with asked_of(lambda call: call.status(429, "{}", Retry_After="3600")) as (backend, server):
        assert "try later" in end_message(backend)
        assert len(server.asked) == 1


def test_an_adapter_is_loaded_once_whatever_comes_of_it() -> None:
    with asked_of(lambda call: call.answer("x")) as (backend, server):
        server.other = lambda call: call.status(500, "{}", Retry_After="0")
        with pytest.raises(WorkFailed, match="failed: look at its own log"):
            backend.load_adapter("mine", "/adapters/mine")
        assert len(server.posted) == 1


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


def test_a_silent_server_is_given_up_after_its_time() -> None:
    release = threading.Event()

    def silent(call: Call) -> None:
        call.begin()
        release.wait(30)

    with asked_of(silent, silence_s=0.2) as (backend, _):
        assert "sent nothing for" in end_message(backend)
        release.set()


def wait_until(true: Callable[[], bool], limit: float = 20.0) -> None:
    end = time.monotonic() + limit
    while not true():
        assert time.monotonic() < end, "it never came"
        threading.Event().wait(0.02)


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


def test_a_server_that_points_elsewhere_is_told_and_nobody_else_is_asked() -> None:
    with serving(lambda call: call.answer("x")) as other:

        def moved(call: Call) -> None:
            call.status(307, "", Location=f"{other.url}/chat/completions")

        with asked_of(moved) as (backend, _):
            end = end_of(list(backend.stream([request()])))
    assert isinstance(end, Failed)
    assert f"has moved to {other.url}" in end.message
    assert (other.asked, other.headers) == ([], [])


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


def test_a_server_without_a_list_answers_as_the_model_that_was_declared() -> None:
    with asked_of(lambda call: call.answer("x"), model="org/other") as (backend, server):
        server.listed = lambda call: call.status(404, "{}")
        assert text_of(list(backend.stream([request()]))) == "x"
    assert server.asked[0]["model"] == "org/other"


@pytest.mark.parametrize("entry", [{"owned_by": ["a"]}, {"parent": {}, "owned_by": {}}])
def test_a_list_of_models_that_makes_no_sense_is_told(entry: dict[str, Any]) -> None:
    with asked_of(lambda call: call.answer("x"), models=[{"id": BASE, **entry}], model="org/x") as (
        backend,
        _,
    ):
        assert backend.adapters(20) == ()
        assert "no answer of the OpenAI API" in getattr(
            end_of(list(backend.stream([request()]))), "message", ""
        )


def test_a_server_that_answers_again_if_only_to_refuse_is_no_longer_down(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("backends.server_client.RETRIES", 0)
    with asked_of(lambda call: call.status(500, "{}")) as (backend, server):
        while backend.status().state == "ready":
            list(backend.stream([request()]))
        server.listed = lambda call: call.status(401, '{"error": {"message": "who are you?"}}')
        wait_until(lambda: backend.status().state == "ready")


def test_loading_an_adapter_where_the_server_has_it_disabled_names_the_mend() -> None:
    with (
        asked_of(lambda call: call.answer("x")) as (backend, server),
        pytest.raises(CounterpointError, match="VLLM_ALLOW_RUNTIME_LORA_UPDATING"),
    ):
        backend.load_adapter("mine", "/adapters/mine")
    assert server.posted == [("/v1/load_lora_adapter", {"lora_name": "mine", "lora_path": "/adapters/mine"})]


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


def test_what_was_known_of_a_server_holds_while_its_list_fails_for_a_moment() -> None:
    with asked_of(lambda call: call.answer("Still here.")) as (backend, server):
        backend.offer()
        backend._offer.doubt()
        server.listed = lambda call: call.status(401, '{"error": {"message": "not now"}}')
        assert text_of(list(backend.stream([request()]))) == "Still here."


def test_panes_that_need_the_list_look_once_together() -> None:
    looks: list[Call] = []

    def listed(call: Call) -> None:
        looks.append(call)
        call.status(200, json.dumps({"object": "list", "data": call.server.models}))

    with asked_of(lambda call: call.answer("x")) as (backend, server):
        server.listed = listed
        list(backend.stream([request(str(number)) for number in range(4)]))
    assert len(looks) == 1


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
