"""A backend's events on an event loop: drawn in a thread of their own, stopped when nobody waits any more."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncGenerator, Sequence
from contextlib import closing

from backends.contract import Backend, Event, Request
from errors import Busy, CounterpointError, WorkFailed

log = logging.getLogger("counterpoint")

MAX_OPEN = 128
"""Calls under way, a thread each: more than the local engine has rows and places in its queue."""
_open = threading.BoundedSemaphore(MAX_OPEN)


async def draw(backend: Backend, requests: Sequence[Request]) -> AsyncGenerator[list[Event], None]:
    """The events of `backend.stream(requests)`, those together that have come together.

    Closing it stops what is under way. Raises CounterpointError as the backend does, and Busy where too many
    calls are under way already.
    """
    if not _open.acquire(blocking=False):
        raise Busy(f"{MAX_OPEN} requests are under way already: try again in a moment.")
    loop = asyncio.get_running_loop()
    arrived: asyncio.Queue[Event | CounterpointError | None] = asyncio.Queue()
    over = threading.Event()

    def put(item: Event | CounterpointError | None) -> None:
        try:
            loop.call_soon_threadsafe(arrived.put_nowait, item)
        except RuntimeError:
            over.set()  # the loop has ended, and with it whoever waited

    def work() -> None:
        try:
            with closing(backend.stream(requests)) as events:
                for event in events:
                    put(event)
                    if over.is_set():
                        return
        except CounterpointError as error:
            put(error)
        except Exception:
            log.exception("the backend %s failed", backend.name)
            put(WorkFailed(f"{backend.name} gave no answer: ask again."))
        finally:
            _open.release()
            put(None)

    threading.Thread(target=work, name="api-draw", daemon=True).start()
    ended = False
    try:
        while not ended:
            items = [await arrived.get()]
            while not arrived.empty():
                items.append(arrived.get_nowait())
            ended = items[-1] is None
            for item in items:
                if isinstance(item, CounterpointError):
                    raise item
            events = [item for item in items if item is not None and not isinstance(item, CounterpointError)]
            if events:
                yield events
    finally:
        over.set()
        if not ended:
            backend.stop([request.id for request in requests])
