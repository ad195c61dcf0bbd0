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
    if len(calls) == 1:
        backend, requests = calls[0]
        with closing(backend.stream(requests)) as events:
            yield from events
        return
    arrived: queue.SimpleQueue[Event | None] = queue.SimpleQueue()
    over = threading.Event()
    threads = [threading.Thread(target=draw, args=(*call, arrived.put, over), daemon=True) for call in calls]
    for thread in threads:
        thread.start()
    running = len(calls)
    try:
        while running:
            event = arrived.get()
            if event is None:
                running -= 1
            else:
                yield event
    finally:
        over.set()
        if running:
            for backend, requests in calls:
                backend.stop([request.id for request in requests])
        for thread in threads:
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
