"""The engine's process as its callers see it: streams, stops, queues, errors, death and recovery."""

from __future__ import annotations

import os
import shutil
import signal
import threading
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest

from adapters.store import AdapterStore
from backends.contract import Delta, Done, Failed, Queued, Request, Sampling, Status
from backends.local import engine
from backends.local.backend import LocalBackend
from backends.local.protocol import Options
from errors import CounterpointError, WorkFailed
from tests import tiny


@pytest.fixture(scope="module")
def backend(
    tiny_base: Path, tiny_adapters: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LocalBackend]:
    place = tmp_path_factory.mktemp("engine")
    for name, folder in tiny_adapters.items():
        shutil.copytree(folder, place / "library" / name)
    tiny.make_adapter(place / "library" / "nothing", tiny_base, scale=1e-4)
    made: list[LocalBackend] = []
    store = AdapterStore(place / "library", place / "data", lambda: made[0].facts())
    made.append(LocalBackend(Options(str(tiny_base), "none", "auto", place / "cache"), store.source))
    made[0].wait()
    yield made[0]
    made[0].close()


def request(name: str, text: str = "What is the capital of France?", **options: object) -> Request:
    sampling = Sampling(**{"max_tokens": 12, **options.pop("sampling", {})})  # type: ignore[arg-type, dict-item]
    return Request(name, ({"role": "user", "content": text},), sampling, **options)  # type: ignore[arg-type]


def endless(name: str) -> Request:
    """Greedy with a penalty below 1 repeats itself for ever: it ends by max_tokens or by a stop only."""
    return request(name, sampling={"max_tokens": 450, "repetition_penalty": 0.5})


def ends(backend: LocalBackend, *requests: Request) -> dict[str, Done | Failed]:
    return {event.request_id: event for event in backend.stream(requests) if isinstance(event, Done | Failed)}


def idle(backend: LocalBackend) -> bool:
    figures = backend.statistics()
    return figures["rows"] == 0 and figures["waiting"] == 0


def test_all_panes_stream_and_each_ends_with_what_really_ran(backend: LocalBackend) -> None:
    events = list(backend.stream([request("a"), request("b", adapter="one"), request("c", adapter="two")]))
    texts = {
        name: "".join(e.text for e in events if isinstance(e, Delta) and e.request_id == name)
        for name in "abc"
    }
    done = {event.request_id: event for event in events if isinstance(event, Done)}
    assert len(set(texts.values())) == 3
    assert done["a"].identity.adapter is None
    assert done["a"].identity.adapter_sha256 is None
    assert done["b"].identity.adapter == "one"
    assert done["b"].identity.adapter_sha256 != done["c"].identity.adapter_sha256
    assert (
        done["a"].identity.prompt
        == "<|im_start|>user\nWhat is the capital of France?<|im_end|>\n<|im_start|>assistant\n"
    )
    assert done["a"].identity.base_sha256 == backend.facts().sha256
    assert done["a"].usage.completion_tokens <= 12
    assert done["a"].usage.ttft_s > 0
    first_end = min(events.index(event) for event in done.values())
    started = {event.request_id for event in events[:first_end] if isinstance(event, Delta)}
    assert started == set("abc"), "all panes stream before the first one ends"


def test_a_prompt_longer_than_the_context_fails_alone_and_says_how_long_it_is(backend: LocalBackend) -> None:
    ended = ends(backend, request("long", "word " * 600), request("short"))
    assert isinstance(ended["short"], Done)
    assert isinstance(ended["long"], Failed)
    assert "512" in ended["long"].message
    assert "shorten" in ended["long"].message


def test_an_answer_stops_where_the_context_is_full(backend: LocalBackend) -> None:
    done = ends(
        backend, request("full", "word " * 200, sampling={"max_tokens": 8000, "repetition_penalty": 0.5})
    )["full"]
    assert isinstance(done, Done)
    assert done.finish_reason == "length"
    assert done.usage.prompt_tokens + done.usage.completion_tokens == 512


def test_one_pane_can_be_stopped_while_the_other_goes_on(backend: LocalBackend) -> None:
    seen, stopped = 0, False
    done: dict[str, Done] = {}
    for event in backend.stream(
        [endless("stop-me"), request("go-on", sampling={"max_tokens": 40, "repetition_penalty": 0.5})]
    ):
        if isinstance(event, Delta) and event.request_id == "stop-me":
            seen += 1
            if seen == 5 and not stopped:
                backend.stop(["stop-me"])
                stopped = True
        if isinstance(event, Done):
            done[event.request_id] = event
    assert done["stop-me"].finish_reason == "cancelled"
    assert done["stop-me"].usage.completion_tokens < 450
    assert done["go-on"].usage.completion_tokens == 40


def test_closing_the_stream_leaves_nothing_running(backend: LocalBackend) -> None:
    stream = backend.stream([endless("left-1"), endless("left-2")])
    next(event for event in stream if isinstance(event, Delta))
    stream.close()
    for _ in range(50):
        if idle(backend):
            break
    assert idle(backend)


def test_beyond_the_rows_requests_queue_see_their_place_and_then_answer(backend: LocalBackend) -> None:
    many = [request(f"q{number}") for number in range(engine.ROWS + 3)]
    events = list(backend.stream(many))
    places = [event.place for event in events if isinstance(event, Queued)]
    assert set(places) == {1, 2, 3}
    assert sum(isinstance(event, Done) for event in events) == len(many)


def test_a_full_queue_refuses_with_a_plain_message(backend: LocalBackend) -> None:
    many = [endless(f"f{number}") for number in range(engine.ROWS + engine.QUEUE)]
    stream = backend.stream([*many, endless("one too many")])
    refused = next(event for event in stream if isinstance(event, Failed))
    assert refused.request_id == "one too many"
    assert "waiting already" in refused.message
    stream.close()
    for _ in range(50):
        if idle(backend):
            break
    assert idle(backend)


def test_an_adapter_without_effect_is_reported_and_never_shown_as_if_it_worked(backend: LocalBackend) -> None:
    ended = ends(backend, request("n", adapter="nothing"), request("o", adapter="one"))
    assert isinstance(ended["n"], Failed)
    assert "no effect" in ended["n"].message
    assert isinstance(ended["o"], Done)
    assert "no effect" in (backend.probe("nothing") or "")
    assert backend.probe("one") is None


def test_an_unknown_adapter_fails_alone(backend: LocalBackend) -> None:
    ended = ends(backend, request("u", adapter="unheard-of"), request("k"))
    assert isinstance(ended["u"], Failed)
    assert "unheard-of" in ended["u"].message
    assert isinstance(ended["k"], Done)


def test_the_prompt_can_be_seen_before_asking(backend: LocalBackend) -> None:
    rendered = backend.render([{"role": "user", "content": "Hello"}])
    done = ends(backend, request("r", "Hello"))["r"]
    assert isinstance(done, Done)
    assert rendered.prompt == done.identity.prompt
    assert rendered.prompt_tokens == done.usage.prompt_tokens
    assert rendered.context == 512


def test_requests_from_several_threads_keep_apart(backend: LocalBackend) -> None:
    answers: dict[int, str] = {}

    def ask(number: int) -> None:
        events = backend.stream([request(f"t{number}", f"Question {number}?")])
        answers[number] = "".join(event.text for event in events if isinstance(event, Delta))

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number in range(4):
        again = "".join(
            event.text
            for event in backend.stream([request("y", f"Question {number}?")])
            if isinstance(event, Delta)
        )
        assert answers[number] == again, "beside three others it is the same as alone"


def test_a_killed_engine_is_started_again_and_the_panes_say_so(backend: LocalBackend) -> None:
    stream = backend.stream([endless("killed")])
    next(event for event in stream if isinstance(event, Delta))
    os.kill(backend._process.pid or 0, signal.SIGKILL)
    failed = next(event for event in stream if isinstance(event, Failed))
    assert "starting again" in failed.message
    assert list(stream) == []
    backend.wait()
    assert isinstance(ends(backend, request("again", adapter="one"))["again"], Done)


def test_a_base_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    backend = LocalBackend(
        Options(str(tmp_path / "nowhere"), "none", "auto", tmp_path / "cache"),
        lambda name: pytest.fail(name),
    )
    try:
        with pytest.raises(CounterpointError, match="no such folder") as raised:
            backend.wait()
        assert not isinstance(raised.value, WorkFailed)
        assert backend.status().state == "failed"
        with pytest.raises(CounterpointError, match="no such folder"):
            list(backend.stream([request("any")]))
    finally:
        backend.close()


def test_an_engine_that_dies_each_time_it_starts_is_failed_work_and_not_bad_input(
    tiny_base: Path, tmp_path: Path
) -> None:
    backend = LocalBackend(Options(str(tiny_base), "none", "auto", tmp_path), lambda name: pytest.fail(name))

    def kill(_: Status) -> None:
        with suppress(ProcessLookupError):
            os.kill(backend._process.pid or 0, signal.SIGKILL)

    with closing(backend), pytest.raises(WorkFailed, match="stopped 3 times in a row"):
        backend.wait(kill)


def test_a_stop_that_comes_before_its_request_still_stops_it(backend: LocalBackend) -> None:
    backend.stop(["early"])
    (ended,) = ends(backend, endless("early")).values()
    assert isinstance(ended, Failed)
    assert "Stopped" in ended.message
    assert isinstance(ends(backend, request("early"))["early"], Done), (
        "only the one that was meant is stopped"
    )


def test_while_the_base_loads_streams_say_so_and_can_be_stopped(tiny_base: Path, tmp_path: Path) -> None:
    loading = LocalBackend(Options(str(tiny_base), "none", "auto", tmp_path), lambda name: pytest.fail(name))
    try:
        stream = loading.stream([endless("a"), request("b")])
        threading.Timer(0.01, loading.stop, [["a"]]).start()
        ended = {event.request_id: event for event in stream if isinstance(event, Done | Failed)}
        assert isinstance(ended["b"], Done)
        if isinstance(ended["a"], Failed):
            assert "Stopped" in ended["a"].message
        else:
            assert ended["a"].finish_reason == "cancelled"
    finally:
        loading.close()


def test_a_request_that_cannot_even_be_encoded_fails_alone(backend: LocalBackend) -> None:
    ended = ends(backend, request("broken", "hi \udcff"), request("fine"))
    assert isinstance(ended["broken"], Failed)
    assert "broken character" in ended["broken"].message
    assert isinstance(ended["fine"], Done)


def test_closing_does_not_wait_for_an_engine_that_reads_nothing(tiny_base: Path, tmp_path: Path) -> None:
    stuck = LocalBackend(Options(str(tiny_base), "none", "auto", tmp_path), lambda name: pytest.fail(name))
    stuck.wait()
    os.kill(stuck._process.pid or 0, signal.SIGSTOP)
    stream = stuck.stream([request("large", "word " * 400_000)])
    thread = threading.Thread(target=lambda: list(stream))
    thread.start()
    stuck.close()
    thread.join(20)
    assert not thread.is_alive()
    assert not stuck._process.is_alive()
