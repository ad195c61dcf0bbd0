"""One comparison over several backends: real threads, scripted events."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from backends.contract import Delta, Done, Event, Failed, Request, Status
from comparison.backends import Backends
from comparison.gather import gather
from comparison.live import Answered, Comparison, Pane
from comparison.modes import Catalogue, ModeId
from comparison.servers import Declared, ServerStore
from errors import CounterpointError, WorkFailed
from tests.ui.scripted import ScriptedBackend, delta, done


def named(name: str, backend: ScriptedBackend) -> ScriptedBackend:
    backend.name = name
    return backend


def answering(text: str) -> ScriptedBackend:
    def script(requests: Sequence[Request]) -> Iterator[Event]:
        for request in requests:
            yield delta(request, text)
            yield done(request)

    return ScriptedBackend(script)


def refusing(requests: Sequence[Request]) -> Iterator[Event]:
    raise WorkFailed("It is down.")
    yield


def request(name: str) -> Request:
    return Request(name, ({"role": "user", "content": "Why?"},))


def test_backends_answer_at_the_same_time() -> None:
    both = threading.Barrier(2, timeout=30)

    def together(requests: Sequence[Request]) -> Iterator[Event]:
        both.wait()  # neither goes on before the other has begun
        yield done(requests[0])

    ends = list(
        gather([(ScriptedBackend(together), [request("a")]), (ScriptedBackend(together), [request("b")])])
    )
    assert {end.request_id for end in ends if isinstance(end, Done)} == {"a", "b"}


def test_a_backend_that_refuses_fails_its_own_requests_alone() -> None:
    calls = [(ScriptedBackend(refusing), [request("a"), request("b")]), (answering("So."), [request("c")])]
    ends = {end.request_id: end for end in gather(calls) if isinstance(end, Done | Failed)}
    assert isinstance(ends["c"], Done)
    for name in "ab":
        assert isinstance(ends[name], Failed)
        assert ends[name].message == "It is down."


def test_alone_it_refuses_the_whole_question() -> None:
    with pytest.raises(WorkFailed, match="It is down"):
        list(gather([(ScriptedBackend(refusing), [request("a")])]))


def test_a_backend_that_breaks_is_one_line_and_no_pane_waits_for_ever() -> None:
    def broken(requests: Sequence[Request]) -> Iterator[Event]:
        yield delta(requests[0], "So")
        raise RuntimeError("secret detail")

    ends = {
        end.request_id: end
        for end in gather(
            [(named("lab", ScriptedBackend(broken)), [request("a")]), (answering("x"), [request("b")])]
        )
        if isinstance(end, Done | Failed)
    }
    assert isinstance(ends["a"], Failed)
    assert ends["a"].message == "lab gave no answer: ask again."


def test_leaving_stops_every_backend() -> None:
    stopped = threading.Event()

    class Endless(ScriptedBackend):
        def stop(self, request_ids: Sequence[str]) -> None:
            super().stop(request_ids)
            stopped.set()

    def until_stopped(requests: Sequence[Request]) -> Iterator[Event]:
        yield delta(requests[0], "on and on")
        assert stopped.wait(30)
        yield done(requests[0], "cancelled")

    endless = Endless(until_stopped)
    events = gather([(endless, [request("a")]), (answering("So."), [request("b")])])
    assert any(isinstance(event, Delta) for event in events)
    events.close()
    assert endless.stopped == ["a"]
    assert endless.closed


def test_one_question_goes_to_each_panes_own_backend(catalogue: Catalogue, tmp_path: Path) -> None:
    store = ServerStore(tmp_path)
    store.save(Declared(name="lab", url="http://lab/v1"))

    class Serving(ScriptedBackend):
        def adapters(self, timeout: float = 0) -> tuple[str, ...]:
            return ("org/far+away",)

    def script(requests: Sequence[Request]) -> Iterator[Event]:
        yield from (done(each) for each in requests)

    lab = named("lab", Serving(script))
    main = answering("Here.")
    backends = Backends(main, store, lambda declared: lab)
    mixed = Catalogue(catalogue.personas, catalogue.adapters, backends)
    listed = {mode.id: mode for mode in mixed.list()}
    assert listed["lab/base"].backend == "lab"
    assert "lab/adapter:one" not in listed, "the server has its own adapters"
    tuned = "lab/adapter:org/far+away+persona:teller"
    assert listed[tuned].family == "both"
    assert ModeId.parse(tuned) == ModeId("org/far+away", "teller", "lab")
    mixed.check(ModeId.parse(tuned))

    for unknown in (Status("failed", "lab is down."), Status("ready", "lab")):
        lab.becomes(unknown)
        with pytest.raises(WorkFailed):  # It may well have it: nobody is told that there is none.
            mixed.check(ModeId.parse("lab/adapter:unheard-of"))

    panes = [Pane("base"), Pane("lab/base"), Pane(tuned), Pane("nowhere/base")]
    ends = {each.pane: each.event for each in Comparison(mixed).ask("Why?", panes, "run", seed=1)}
    assert [type(ends[number]) for number in range(4)] == [Answered, Answered, Answered, Failed]
    assert [each.id for each in main.asked] == ["run/0"]
    assert [(each.id, each.adapter) for each in lab.asked] == [("run/1", None), ("run/2", "org/far+away")]
    assert lab.asked[1].sampling.max_tokens == 9, "its persona says how to sample there too"
    assert "There is no server nowhere" in ends[3].message  # type: ignore[union-attr]


def test_a_server_that_is_down_is_listed_with_its_reason(catalogue: Catalogue, tmp_path: Path) -> None:
    from backends.contract import Status

    store = ServerStore(tmp_path)
    store.save(Declared(name="lab", url="http://lab/v1"))
    lab = ScriptedBackend(lambda requests: iter(()), Status("failed", "lab is down."))
    mixed = Catalogue(
        catalogue.personas, catalogue.adapters, Backends(answering("x"), store, lambda declared: lab)
    )
    modes = {mode.id: mode for mode in mixed.list()}
    assert (modes["lab/base"].usable, modes["lab/base"].note) == (False, "lab is down.")
    assert modes["base"].usable
    with pytest.raises(CounterpointError):
        Comparison(mixed).preview(Pane("gone/base"), "Why?")
