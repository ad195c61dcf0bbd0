"""A backend in front of a scripted server, and what tests ask of it."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from backends.circuit import Circuit
from backends.contract import Delta, Done, Event, Failed, Request, Sampling
from backends.openai_server import OpenAIServer
from backends.server_client import Server
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


def end_message(backend: OpenAIServer, **settings: Any) -> str:
    end = end_of(list(backend.stream([request(**settings)])))
    assert isinstance(end, Failed), end
    return end.message


def endless(call: Call) -> None:
    call.begin()
    for number in itertools.count():
        call.text(f"{number} ")


def wait_until(true: Callable[[], bool], limit: float = 20.0) -> None:
    end = time.monotonic() + limit
    while not true():
        assert time.monotonic() < end, "it never came"
        threading.Event().wait(0.02)
