"""Whether the API tells its health and its figures as they are."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing

import httpx
import openai
import pytest

from api import routes
from backends.contract import Event, Failed, Queued, Request, Status
from backends.openai_server import OpenAIServer
from backends.server_client import Server
from comparison.live import Comparison
from tests.api.asking import greedy
from tests.api.conftest import Serve
from tests.backends.scripted_server import Call, serving
from tests.ui.scripted import ScriptedBackend, done


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
    assert "# TYPE counterpoint_engine_row_steps_total counter" in told


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
