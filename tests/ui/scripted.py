"""A backend that gives the events it was told to give: repaints and notices depend on their order alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NoReturn

from backends.contract import (
    Backend,
    Delta,
    Done,
    Event,
    Identity,
    Message,
    Rendered,
    Request,
    Status,
    Usage,
)

Script = Callable[[Sequence[Request]], Iterator[Event]]


class ScriptedBackend(Backend):
    name = "scripted"
    own: tuple[str, ...] | None = None
    """The adapters that it brings itself, as it tells them now; None: those of this machine."""

    def __init__(self, script: Script, status: Status | None = None) -> None:
        self._script = script
        self._status = status or Status("ready", "Ready")
        self.stopped: list[str] = []
        self.asked: list[Request] = []
        self.closed = False

    def stream(self, requests: Sequence[Request]) -> Iterator[Event]:
        self.asked += requests
        try:
            yield from self._script(requests)
        finally:
            self.closed = True

    def stop(self, request_ids: Sequence[str]) -> None:
        self.stopped += request_ids

    def status(self) -> Status:
        return self._status

    def becomes(self, status: Status) -> None:
        self._status = status

    def render(self, messages: Sequence[Message]) -> Rendered:
        return Rendered("\n".join(message["content"] for message in messages), 7, 100)

    def adapters(self, timeout: float = 0) -> tuple[str, ...] | None:
        return self.own

    def probe(self, adapter: str) -> str | None:
        return None

    def close(self) -> None:
        return None


def delta(request: Request, text: str, tokens: int = 1) -> Delta:
    return Delta(request.id, text, tokens, 0.2, 20.0)


def done(request: Request, reason: str = "stop") -> Done:
    identity = Identity(
        "scripted", "base", "ab" * 32, None, None, None, None, "the prompt", "cd" * 32, request.sampling
    )
    return Done(request.id, reason, Usage(5, 3, 0, 0.2, 20.0), identity)  # type: ignore[arg-type]


def no_instruments() -> NoReturn:
    raise AssertionError("nothing is measured here")
