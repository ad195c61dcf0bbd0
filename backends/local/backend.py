"""The local engine as a backend: starts its process, speaks to it, starts it again when it dies."""

from __future__ import annotations

import contextlib
import itertools
import multiprocessing
import queue
import threading
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
)
from backends.local import engine
from backends.local.protocol import Call, Options, Quit, Reply, Stop, Submit
from errors import CounterpointError

RESTARTS = 3
"""An engine that dies this often without ever having been ready is not started again."""

SHUTTING_DOWN = "Counterpoint is shutting down."


class LocalBackend(Backend):
    """One engine process. Safe for threads; every stream has a queue of its own."""

    name = "local"
    can_adapt = True

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
        self._calls: dict[int, queue.SimpleQueue[Reply]] = {}
        self._numbers = itertools.count()
        self._facts: BaseFacts | None = None
        self._located = threading.Event()
        self._settled = threading.Event()
        self._closed = False
        self._deaths = 0
        self._status = Status("loading", "Starting the engine", 0.0)
        self._start()

    def stream(self, requests: Sequence[Request]) -> Generator[Event, None, None]:
        arrived: queue.SimpleQueue[Event] = queue.SimpleQueue()
        sources: list[tuple[Request, AdapterSource | None]] = []
        for request in requests:
            try:
                sources.append((request, self._resolve(request.adapter) if request.adapter else None))
            except CounterpointError as error:
                arrived.put(Failed(request.id, str(error)))
        if self._status.state == "failed":
            raise CounterpointError(self._status.message)
        with self._lock:
            taken = [request.id for request in requests if request.id in self._streams]
            if taken or len({request.id for request in requests}) < len(requests):
                raise CounterpointError("Two requests under way have the same id: give each its own.")
            self._streams.update({request.id: arrived for request in requests})
        open_ids = {request.id for request in requests}
        try:
            self._send(Submit(tuple(sources)))
            while open_ids:
                event = arrived.get()
                if isinstance(event, Done | Failed):
                    open_ids.discard(event.request_id)
                yield event
        finally:
            with self._lock:
                for request in requests:
                    self._streams.pop(request.id, None)
            if open_ids:
                self.stop(sorted(open_ids))

    def stop(self, request_ids: Sequence[str]) -> None:
        # Once closed there is nothing left to stop.
        with contextlib.suppress(CounterpointError):
            self._send(Stop(tuple(request_ids)))

    def status(self) -> Status:
        return self._status

    def facts(self, timeout: float | None = None) -> BaseFacts:
        """What is known of the base. Waits up to `timeout` seconds (None: as long as it takes) for it.

        Raises CounterpointError where the base cannot be found, or is not found yet.
        """
        self._located.wait(timeout)
        if self._facts is None:
            if self._status.state == "failed":
                raise CounterpointError(self._status.message)
            raise CounterpointError("The base model is still being fetched: try again in a moment.")
        return self._facts

    def wait(self) -> None:
        """Returns when the engine is ready; raises CounterpointError where it cannot start."""
        self._settled.wait()
        if self._status.state == "failed":
            raise CounterpointError(self._status.message)

    def render(self, messages: Sequence[Message]) -> Rendered:
        rendered: Rendered = self._call("render", tuple(messages))
        return rendered

    def probe(self, adapter: str) -> str | None:
        problem: str | None = self._call("probe", self._resolve(adapter))
        return problem

    def statistics(self) -> dict[str, int]:
        """Rows, bytes and counts inside the engine; see Engine.call_statistics."""
        figures: dict[str, int] = self._call("statistics", None)
        return figures

    def forget(self) -> None:
        """Empties the prefix store."""
        self._call("forget", None)

    def close(self) -> None:
        self._closed = True
        # Closing our end would not reach the engine while the listener still waits in a read of it.
        with contextlib.suppress(CounterpointError):
            self._send(Quit())
        self._process.join(5)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        self._listener.join(5)

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        self._connection = ours
        self._writing = threading.Lock()
        self._process = context.Process(
            target=engine.main, args=(self._options, theirs), name="counterpoint-engine", daemon=True
        )
        self._process.start()
        theirs.close()
        self._listener = threading.Thread(target=self._listen, args=(ours, self._process), daemon=True)
        self._listener.start()

    def _send(self, message: Any) -> None:
        with self._writing:
            try:
                self._connection.send(message)
            except (OSError, ValueError):
                # The engine is gone; the listener tells everyone who waits, us included.
                if self._closed:
                    raise CounterpointError(SHUTTING_DOWN) from None

    def _call(self, method: str, argument: Any) -> Any:
        if self._status.state != "ready":
            raise CounterpointError(self._not_ready())
        number = next(self._numbers)
        answer: queue.SimpleQueue[Reply] = queue.SimpleQueue()
        with self._lock:
            self._calls[number] = answer
        try:
            self._send(Call(number, method, argument))
            reply = answer.get()
        finally:
            with self._lock:
                self._calls.pop(number, None)
        if reply.error is not None:
            raise CounterpointError(reply.error)
        return reply.value

    def _not_ready(self) -> str:
        if self._status.state == "failed":
            return self._status.message
        return f"The base model is still loading ({self._status.message}): try again in a moment."

    def _listen(self, connection: Any, process: Any) -> None:
        """Hands out what the engine sends, until it ends; then says so to all who wait, and starts another."""
        try:
            while not self._closed:
                for message in connection.recv():
                    self._dispatch(message)
        except (EOFError, OSError):
            pass
        if self._closed:
            # An engine that is still loading learns of it when it next tells how far it is.
            connection.close()
            self._fail_all(SHUTTING_DOWN)
            return
        process.join()
        self._deaths += 1
        if self._status.state == "failed":
            self._give_up(self._status.message)
        elif self._deaths >= RESTARTS:
            self._give_up(
                f"The engine stopped {self._deaths} times in a row while starting "
                f"({_cause(process.exitcode)}): see its last lines in the terminal."
            )
        else:
            self._status = Status("loading", "The engine stopped and is starting again", 0.0)
            self._settled.clear()
            self._start()
            self._fail_all(
                f"The engine stopped while answering ({_cause(process.exitcode)}) and is starting again: ask "
                "again in a few seconds."
            )

    def _give_up(self, why: str) -> None:
        self._status = Status("failed", why)
        self._located.set()
        self._settled.set()
        self._announce(why)
        self._fail_all(why)

    def _fail_all(self, why: str) -> None:
        with self._lock:
            for request_id, arrived in self._streams.items():
                arrived.put(Failed(request_id, why))
            for number, answer in self._calls.items():
                answer.put(Reply(number, error=why))

    def _dispatch(self, message: Any) -> None:
        if isinstance(message, Status):
            self._status = message
            if message.state == "ready":
                self._deaths = 0
                self._settled.set()
        elif isinstance(message, BaseFacts):
            self._facts = message
            self._located.set()
        elif isinstance(message, Reply):
            with self._lock:
                answer = self._calls.get(message.number)
            if answer is not None:
                answer.put(message)
        else:
            with self._lock:
                arrived = self._streams.get(message.request_id)
            if arrived is not None:
                arrived.put(message)


def _cause(exitcode: int | None) -> str:
    if exitcode == -9:
        return "killed, most likely for want of memory"
    return f"exit code {exitcode}"
