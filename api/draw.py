"""A backend's events on an event loop: drawn in a thread of their own, stopped when nobody waits any more."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Sequence

from backends.contract import Backend, Event, Request
from comparison import gather
from errors import Busy

MAX_OPEN = 128
"""Calls under way, a thread each: more than the local engine has rows and places in its queue."""
_open = threading.BoundedSemaphore(MAX_OPEN)


async def draw(backend: Backend, requests: Sequence[Request]) -> AsyncGenerator[list[Event], None]:
    """The events of `gather.draw`, those together that have come together. Closing it stops what is under way.

    Raises Busy where too many calls are under way already.
    """
    if not _open.acquire(blocking=False):
        raise Busy(f"{MAX_OPEN} requests are under way already: try again in a moment.")
    loop = asyncio.get_running_loop()
    arrived: asyncio.Queue[Event | None] = asyncio.Queue()
    over = threading.Event()

    def put(event: Event | None) -> None:
        try:
            loop.call_soon_threadsafe(arrived.put_nowait, event)
        except RuntimeError:
            over.set()  # the loop has ended, and with it whoever waited

    def work() -> None:
        try:
            gather.draw(backend, requests, put, over)
        finally:
            _open.release()

    threading.Thread(target=work, name="api-draw", daemon=True).start()
    ended = False
    try:
        while not ended:
            together = [await arrived.get()]
            while not arrived.empty():
                together.append(arrived.get_nowait())
            ended = together[-1] is None
            events = [event for event in together if event is not None]
            if events:
                yield events
    finally:
        over.set()
        if not ended:
            backend.stop([request.id for request in requests])
