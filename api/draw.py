"""A backend's events on an event loop: drawn in a thread of their own, stopped when nobody waits any more."""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import AsyncGenerator, Callable, Sequence

from backends.contract import Backend, Event, Request
from comparison import gather
from errors import Busy

MAX_OPEN = 128
"""Calls under way, a thread each: more than the local engine has rows and places in its queue."""
_open = threading.BoundedSemaphore(MAX_OPEN)

Follow = Callable[[Event], Request | None]
"""Told each event, what is to be asked next because of it, if anything."""


async def draw(
    backend: Backend, requests: Sequence[Request], follow: Follow = lambda event: None
) -> AsyncGenerator[list[Event], None]:
    """The events of `gather.draw`, those together that have come together; and of the calls that follow them, each of
    which begins at once. Closing it stops what is under way.

    Raises Busy where too many calls are under way already.
    """
    loop = asyncio.get_running_loop()
    arrived: asyncio.Queue[tuple[int, Event | None]] = asyncio.Queue()
    over = threading.Event()
    running: dict[int, Sequence[Request]] = {}
    numbers = itertools.count()

    def begin(requests: Sequence[Request]) -> None:
        if not _open.acquire(blocking=False):
            raise Busy(f"{MAX_OPEN} requests are under way already: try again in a moment.")
        number = next(numbers)

        def put(event: Event | None) -> None:
            try:
                loop.call_soon_threadsafe(arrived.put_nowait, (number, event))
            except RuntimeError:
                over.set()  # the loop has ended, and with it whoever waited

        def work() -> None:
            try:
                gather.draw(backend, requests, put, over)
            finally:
                _open.release()

        running[number] = requests
        threading.Thread(target=work, name="api-draw", daemon=True).start()

    begin(requests)
    try:
        while running:
            together = [await arrived.get()]
            while not arrived.empty():
                together.append(arrived.get_nowait())
            events = [event for _, event in together if event is not None]
            for number in [number for number, event in together if event is None]:
                del running[number]
            for following in filter(None, map(follow, events)):
                begin([following])
            if events:
                yield events
    finally:
        over.set()
        if running:
            backend.stop([request.id for requests in running.values() for request in requests])
