"""The local engine as a backend: starts its process, speaks to it, starts it again when it dies."""

from __future__ import annotations

import contextlib
import itertools
import multiprocessing
import queue
import threading
import time
from collections.abc import Callable, Generator, Sequence
from typing import Any

from backends.contract import (
    AdapterResolver,
    AdapterSource,
    Backend,
    BaseFacts,
    Done,
    Event,
    Failed,
    Message,
    Rendered,
    Request,
    Status,
    Waiting,
)
from backends.local import engine_process
from backends.local.fetch import at_hand
from backends.local.protocol import Call, Options, Quit, Reply, Stop, Submit
from errors import CounterpointError, WorkFailed

RESTARTS = 3
"""An engine that dies this often without ever having been ready is not started again."""

PATIENCE_S = 1.0
"""A stream that has nothing new says so this often."""
LOADING_CLOSES_S = 20.0
"""What an engine that still loads may take to end by itself: it looks for the end between two steps only."""
EARLY_STOPS = 256
"""Stops remembered for requests that have not arrived yet."""
SHUTTING_DOWN = "Counterpoint is shutting down."
STOPPED_EARLY = "Stopped before it began: ask again when you like."


class LocalBackend(Backend):
    """One engine process. Safe for threads; every stream has a queue of its own."""

    name = "local"

    def __init__(
        self,
        options: Options,
        resolve_adapter: AdapterResolver,
        announce: Callable[[str], None] = lambda why: None,
    ):
        """Starts the engine and returns at once: `status` tells how far it is.

        `announce` is called once, from a thread of its own, with why the engine is given up for good.
        """
        self._announce = announce
        self._options = options
        self._resolve = resolve_adapter
        self._lock = threading.Lock()
        self._streams: dict[str, queue.SimpleQueue[Event]] = {}
        self._unsent: dict[str, Submit | None] = {}  # what waits for its adapter's check, or for the engine
        self._early_stops: dict[str, None] = {}
        self._calls: dict[int, queue.SimpleQueue[Reply]] = {}
        self._numbers = itertools.count()
        self._facts: BaseFacts | None = at_hand(options.base, options.cache)
        self._located = threading.Event()
        if self._facts:
            self._located.set()
        self._settled = threading.Event()
        self._closed = False
        self._deaths = 0
        self._status = Status("loading", "Starting the engine", 0.0)
        self._start()

    def stream(self, requests: Sequence[Request]) -> Generator[Event, None, None]:
        now, arrived = time.monotonic(), queue.SimpleQueue[Event]()
        open_ids = {request.id for request in requests}
        with self._lock:
            self._refuse_if_over()
            if len(open_ids) < len(requests) or not open_ids.isdisjoint(self._streams):
                raise CounterpointError("Two requests under way have the same id: give each its own.")
            self._streams.update(dict.fromkeys(open_ids, arrived))
            self._unsent.update(dict.fromkeys(open_ids))
        try:
            self._submit(requests, arrived, now)
            while open_ids:
                try:
                    event = arrived.get(timeout=PATIENCE_S)
                except queue.Empty:
                    loading = self._status.state == "loading"
                    event = Waiting(next(iter(open_ids)), self._status.message if loading else "")
                if isinstance(event, Done | Failed):
                    open_ids.discard(event.request_id)
                yield event
        finally:
            with self._lock:
                for request in requests:
                    self._streams.pop(request.id, None)
                    self._unsent.pop(request.id, None)
                if open_ids:
                    self._send(Stop(tuple(sorted(open_ids))))

    def _submit(self, requests: Sequence[Request], arrived: queue.SimpleQueue[Event], now: float) -> None:
        """Sends the requests together; those whose adapter is refused or that were stopped already fail."""
        ready: dict[str, tuple[Request, AdapterSource | None]] = {}
        for request in requests:
            try:
                ready[request.id] = (request, self._resolve(request.adapter) if request.adapter else None)
            except CounterpointError as error:
                arrived.put(Failed.of(request.id, error))
        with self._lock:
            for request_id in list(ready):
                if request_id not in self._streams:
                    # The engine ended meanwhile, and the stream was told.
                    del ready[request_id]
                elif request_id in self._early_stops:
                    del self._early_stops[request_id], ready[request_id]
                    arrived.put(Failed(request_id, STOPPED_EARLY))
            for request in requests:
                self._unsent.pop(request.id, None)
            if self._status.state == "ready":
                self._send(Submit(tuple(ready.values()), now))
            else:
                self._unsent.update({key: Submit((value,), now) for key, value in ready.items()})

    def stop(self, request_ids: Sequence[str]) -> None:
        with self._lock:
            for request_id in request_ids:
                held = self._unsent.get(request_id)
                if held is not None:
                    del self._unsent[request_id]
                    self._streams[request_id].put(Failed(request_id, STOPPED_EARLY))
                elif request_id in self._unsent or request_id not in self._streams:
                    # Its own stream may be about to begin: the page shows Stop before the request gets here.
                    self._early_stops[request_id] = None
                    while len(self._early_stops) > EARLY_STOPS:
                        del self._early_stops[next(iter(self._early_stops))]
            self._send(Stop(tuple(request_ids)))

    def status(self) -> Status:
        return self._status

    def base(self) -> str | None:
        return self._facts.id if self._facts else None

    def facts(self, timeout: float | None = None) -> BaseFacts:
        """What is known of the base. Waits up to `timeout` seconds (None: as long as it takes) for it.

        Raises CounterpointError where the base cannot be found, or is not found yet.
        """
        self._located.wait(timeout)
        if self._facts is None:
            self._status.refuse()
            raise WorkFailed("The base model is still being fetched: try again in a moment.")
        return self._facts

    def wait(self, watch: Callable[[Status], None] = lambda status: None) -> None:
        """Returns when the engine is ready; raises CounterpointError where it cannot start.

        `watch` is told five times a second how far it is.
        """
        while not self._settled.wait(0.2):
            watch(self._status)
        watch(self._status)
        self._status.refuse()

    def render(self, messages: Sequence[Message]) -> Rendered:
        rendered: Rendered = self._call("render", tuple(messages))
        return rendered

    def probe(self, adapter: str) -> str | None:
        problem: str | None = self._call("probe", self._resolve(adapter))
        return problem

    def forget(self, adapter: str) -> None:
        self._call("forget", adapter)

    def statistics(self) -> dict[str, int]:
        """Rows, bytes and counts inside the engine; see Engine.call_statistics."""
        figures: dict[str, int] = self._call("statistics", None)
        return figures

    def close(self) -> None:
        with self._lock:
            self._closed = True
            # Closing our end would not reach the engine while the listener still waits in a read of it.
            self._send(Quit())
        self._process.join(5.0 if self._settled.is_set() else LOADING_CLOSES_S)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        self._listener.join(5)

    def _refuse_if_over(self) -> None:
        """With the lock held: raises CounterpointError where no engine will ever answer."""
        if self._closed:
            raise CounterpointError(SHUTTING_DOWN)
        self._status.refuse()

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        outbox: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._outbox = outbox
        self._process = context.Process(
            target=engine_process.main, args=(self._options, theirs), name="counterpoint-engine", daemon=True
        )
        self._process.start()
        theirs.close()
        self._listener = threading.Thread(target=self._listen, args=(ours, self._process), daemon=True)
        self._listener.start()
        threading.Thread(target=_post, args=(outbox, ours), daemon=True).start()

    def _send(self, message: Any) -> None:
        """Never waits: an engine that is loading, or busy with one long step, reads when it can."""
        self._outbox.put(message)

    def _call(self, method: str, argument: Any) -> Any:
        number = next(self._numbers)
        answer: queue.SimpleQueue[Reply] = queue.SimpleQueue()
        with self._lock:
            self._refuse_if_over()
            if self._status.state != "ready":
                raise CounterpointError(
                    f"The base model is still loading ({self._status.message}): try again in a moment."
                )
            self._calls[number] = answer
            self._send(Call(number, method, argument))
        reply = answer.get()
        if reply.error is not None:
            raise CounterpointError(reply.error)
        return reply.value

    def _listen(self, connection: Any, process: Any) -> None:
        """Hands out what the engine sends, until it ends; then says so to all who wait, and starts another."""
        try:
            while not self._closed:
                for message in connection.recv():
                    self._dispatch(message)
        except (EOFError, OSError):
            pass
        self._outbox.put(None)
        if self._closed:
            # An engine that is still loading learns of it when it next tells how far it is.
            connection.close()
        process.join()
        with self._lock:
            if self._closed:
                self._fail_all(SHUTTING_DOWN)
                return
            self._deaths += 1
            if self._status.state != "failed" and self._deaths < RESTARTS:
                self._settled.clear()
                self._status = Status("loading", "The engine stopped and is starting again", 0.0)
                self._fail_all(
                    f"The engine stopped while answering ({_cause(process.exitcode)}) and is starting again: "
                    "ask again in a few seconds."
                )
                self._start()
                return
            if self._status.state != "failed":
                why = (
                    f"The engine stopped {self._deaths} times in a row while starting "
                    f"({_cause(process.exitcode)}): see its last lines in the terminal."
                )
                self._status = Status("failed", why)
            self._fail_all(self._status.message)
        self._located.set()
        self._settled.set()
        self._announce(self._status.message)

    def _fail_all(self, why: str) -> None:
        """With the lock held: tells all who wait, and forgets them."""
        for request_id, arrived in self._streams.items():
            arrived.put(Failed(request_id, why, "work"))
        for number, answer in self._calls.items():
            answer.put(Reply(number, error=why))
        self._streams.clear()
        self._unsent.clear()
        self._calls.clear()

    def _dispatch(self, message: Any) -> None:
        if isinstance(message, Status):
            with self._lock:
                self._status = message
                if message.state == "ready":
                    self._deaths = 0
                    held = [submit for submit in self._unsent.values() if submit is not None]
                    for submit in held:
                        self._send(submit)
                    self._unsent = {key: value for key, value in self._unsent.items() if value is None}
            if message.state == "ready":
                self._settled.set()
        elif isinstance(message, BaseFacts):
            self._facts = message
            self._located.set()
        elif isinstance(message, Reply):
            with self._lock:
                answer = self._calls.pop(message.number, None)
            if answer is not None:
                answer.put(message)
        else:
            with self._lock:
                arrived = self._streams.get(message.request_id)
            if arrived is not None:
                arrived.put(message)


def _post(outbox: queue.SimpleQueue[Any], connection: Any) -> None:
    """Sends what is put into the outbox, until None comes or the other side is gone."""
    # TypeError: a connection that is closed while it sends has no handle any more.
    with contextlib.suppress(OSError, ValueError, TypeError):
        while (message := outbox.get()) is not None:
            connection.send(message)


def _cause(exitcode: int | None) -> str:
    if exitcode == -9:
        return "killed, most likely for want of memory"
    return f"exit code {exitcode}"
