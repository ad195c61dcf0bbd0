"""Several backends asked at once: one call each, their events as they come."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable, Generator, Sequence
from contextlib import closing

from backends.contract import Backend, Done, Event, Failed, Request
from errors import CounterpointError, WorkFailed

log = logging.getLogger("counterpoint")

Call = tuple[Backend, Sequence[Request]]


def gather(calls: Sequence[Call]) -> Generator[Event, None, None]:
    """The events of every call until all have ended; closing this stops what is under way.

    With one call a backend's refusal is raised, as `Backend.stream` says; with several it is the Failed of that
    backend's own requests, and the others go on.
    """
    if len(calls) != 1:
        yield from Gathering().events(calls)
        return
    backend, requests = calls[0]
    with closing(backend.stream(requests)) as events:
        yield from events


class Gathering:
    """Calls at once, a thread each; others may begin while they run. A backend's refusal is the Failed of its requests."""

    def __init__(self) -> None:
        self._arrived: queue.SimpleQueue[tuple[int, Event | None]] = queue.SimpleQueue()
        self._over = threading.Event()
        self._threads: list[threading.Thread] = []
        self._running: dict[int, Call] = {}

    def begin(self, backend: Backend, requests: Sequence[Request]) -> None:
        """One call more, whose events come with the others': to be called by whoever reads `events`."""
        number = len(self._threads)

        def put(event: Event | None) -> None:
            self._arrived.put((number, event))

        thread = threading.Thread(target=draw, args=(backend, requests, put, self._over), daemon=True)
        self._running[number] = (backend, requests)
        self._threads.append(thread)
        thread.start()

    def events(self, calls: Sequence[Call]) -> Generator[Event, None, None]:
        """The events of these calls, and of those that begin meanwhile, until all have ended; closing this stops what
        is under way."""
        try:
            for call in calls:
                self.begin(*call)
            while self._running:
                number, event = self._arrived.get()
                if event is None:
                    del self._running[number]
                else:
                    yield event
        finally:
            self._over.set()
            for backend, requests in self._running.values():
                backend.stop([request.id for request in requests])
            for thread in self._threads:
                thread.join()


def draw(
    backend: Backend,
    requests: Sequence[Request],
    put: Callable[[Event | None], None],
    over: threading.Event,
) -> None:
    """Hands a backend's events to `put`, and None after the last; ends early once `over` is set.

    Never raises: what refuses or breaks the call is the Failed of every request that has not ended.
    """
    waiting = {request.id for request in requests}
    failure: CounterpointError = WorkFailed(f"{backend.name} gave no answer: ask again.")
    try:
        with closing(backend.stream(requests)) as events:
            for event in events:
                if isinstance(event, Done | Failed):
                    waiting.discard(event.request_id)
                put(event)
                if over.is_set():
                    return
    except CounterpointError as error:
        failure = error
    except Exception:
        log.exception("the backend %s failed", backend.name)
    finally:
        for request_id in waiting:
            put(Failed.of(request_id, failure))
        put(None)
