"""Any server that speaks the OpenAI API as a backend: vLLM, SGLang, Ray Serve LLM, llama-server, Ollama, hosted ones.

All requests of one call go out at once, so that the server batches them. What happens at the server is its own
word: the identity says which fields are only claimed.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import queue
import threading
import time
from collections.abc import Callable, Coroutine, Generator, Sequence
from typing import Any, TypeVar

from backends.circuit import Circuit
from backends.contract import (
    Backend,
    Done,
    Event,
    Failed,
    Message,
    Rendered,
    Request,
    Status,
    Waiting,
)
from backends.served import Offer
from backends.server_answer import ServerAnswer
from backends.server_client import CONNECT_S, Server, ServerClient
from backends.server_errors import words
from backends.server_exchange import exchange
from backends.server_offer import ServerOffer
from errors import CounterpointError, WorkFailed

T = TypeVar("T")

PATIENCE_S = 1.0
"""A stream that has nothing new says so this often."""
EARLY_STOPS = 256
"""Stops remembered for requests that have not arrived yet."""


class OpenAIServer(Backend):
    """One server. Safe for threads: its requests run on an event loop in a thread of their own."""

    is_elsewhere = True

    def __init__(self, server: Server, key: str | None = None, circuit: Circuit | None = None):
        """Returns at once; the first look at the server happens when something is asked of it.

        `key` is sent as a bearer token and kept nowhere else.
        """
        self.name = server.name
        self._server = server
        self._client = ServerClient(server, key, circuit or Circuit())
        self._offer = ServerOffer(self._client)
        self._tasks: dict[str, asyncio.Task[None] | None] = {}  # None: to begin
        self._stopped: set[str] = set()
        self._early_stops: dict[str, None] = {}
        self._closed = False
        # What is given to the loop is given while it is sure to run: a stopped loop never answers.
        self._lock = threading.Lock()
        self._look: concurrent.futures.Future[Offer] | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._serve, name=f"server-{self.name}", daemon=True)
        self._thread.start()

    def stream(self, requests: Sequence[Request]) -> Generator[Event, None, None]:
        arrived: queue.SimpleQueue[Event] = queue.SimpleQueue()
        open_ids = {request.id for request in requests}
        with self._lock:
            self._refuse_if_over()
            if not open_ids.isdisjoint(self._tasks) or len(open_ids) < len(requests):
                raise CounterpointError("Two requests under way have the same id: give each its own.")
            self._tasks.update(dict.fromkeys(open_ids))
            for request_id in open_ids & self._early_stops.keys():
                del self._early_stops[request_id]
                self._stopped.add(request_id)
            answers = [self._begun(self._answer(request, arrived.put)) for request in requests]
        try:
            while open_ids:
                for event in self._arrived(arrived, open_ids):
                    if isinstance(event, Done | Failed):
                        open_ids.discard(event.request_id)
                    yield event
        finally:
            with self._lock:
                for request, answer in zip(requests, answers, strict=True):
                    answer.cancel()
                    self._tasks.pop(request.id, None)
                    self._stopped.discard(request.id)

    def _arrived(self, arrived: queue.SimpleQueue[Event], open_ids: set[str]) -> list[Event]:
        """What comes next; after a second without anything, a word for who waits."""
        try:
            return [arrived.get(timeout=PATIENCE_S)]
        except queue.Empty:
            if self._closed:
                return [Failed(request_id, self._over()) for request_id in open_ids]
            return [Waiting(next(iter(open_ids)))]

    def stop(self, request_ids: Sequence[str]) -> None:
        with self._lock:
            if self._closed:
                return
            for request_id in request_ids:
                if request_id not in self._tasks:
                    # Its own stream may be about to begin: the page shows Stop before the request gets here.
                    self._early_stops[request_id] = None
                    while len(self._early_stops) > EARLY_STOPS:
                        del self._early_stops[next(iter(self._early_stops))]
                elif request_id not in self._stopped:
                    self._stopped.add(request_id)
                    if task := self._tasks[request_id]:
                        self._loop.call_soon_threadsafe(task.cancel)

    def offer(self, fresh: bool = False) -> Offer:
        """The base and the adapters that the server has. Raises CounterpointError where it does not tell.

        `fresh` looks anew whatever is known, at a server that counts as down too, and waits for it but shortly.
        """
        return self._result(self._offer.get(fresh))

    def base(self) -> str | None:
        return self._offer.known.base_name if self._offer.known else None

    def adapters(self, timeout: float = 0) -> tuple[str, ...]:
        """What it was last known to have; a look that is due is begun, and waited for at most so long."""
        with self._lock:
            if not self._closed and (self._look is None or self._look.done()) and self._offer.is_due:
                self._look = self._begun(self._offer.get())
            look = self._look
        if look is not None and timeout:
            with contextlib.suppress(CounterpointError, TimeoutError, concurrent.futures.CancelledError):
                look.result(timeout)
        return tuple(sorted(self._offer.known.adapters)) if self._offer.known else ()

    def status(self) -> Status:
        down = self._client.down
        if down is not None:
            return Status("failed", down)
        return Status("ready", f"{self.name}: {self.base() or self._server.url}")

    def render(self, messages: Sequence[Message]) -> Rendered:
        """The messages as they are sent: the server's own template renders them, out of our sight."""
        shown = "\n\n".join(f"[{message['role']}]\n{message['content']}" for message in messages)
        return Rendered(shown, None, None)

    def probe(self, adapter: str) -> str | None:
        """None where the server lists the adapter; what it does to an answer cannot be proven from here."""
        try:
            self.offer().model(adapter)
        except CounterpointError as error:
            return str(error)
        return None

    def load_adapter(self, name: str, folder: str) -> None:
        """Has the server load an adapter that lies in `folder` on *its* disk (vLLM: /v1/load_lora_adapter).

        Raises CounterpointError where the server does not allow it, with the mend.
        """

        async def load() -> None:
            import openai

            body = {"lora_name": name, "lora_path": folder}
            try:
                async with asyncio.timeout(self._server.silence_s):
                    await self._client.api.post("/load_lora_adapter", body=body, cast_to=object)
            except TimeoutError:
                told = (
                    f"{self.name} has not loaded it within {self._server.silence_s:g} s: look at its own log."
                )
                raise WorkFailed(told) from None
            except (openai.NotFoundError, openai.PermissionDeniedError) as error:
                if "No adapter found" in words(error, None):  # vLLM's 404 where loading is allowed
                    raise CounterpointError(
                        f"{self.name} finds no adapter in {folder}: give the folder as it is on the server's own disk."
                    ) from None
                raise CounterpointError(
                    f"{self.name} does not load adapters on request: start it with the adapter, or (vLLM) with "
                    "VLLM_ALLOW_RUNTIME_LORA_UPDATING=True."
                ) from None
            except openai.OpenAIError as error:
                raise self._client.told(error) from None
            self._offer.doubt()

        self._result(load())

    def close(self) -> None:

        async def end() -> None:
            under_way = asyncio.all_tasks() - {asyncio.current_task()}
            for task in under_way:
                task.cancel()
            try:
                async with asyncio.timeout(CONNECT_S):
                    await asyncio.gather(*under_way, return_exceptions=True)
                    await self._loop.shutdown_asyncgens()
                    await self._client.close()
            finally:
                self._loop.stop()

        with self._lock:
            if self._closed:
                return
            self._closed = True
            self._begun(end())
        self._thread.join(2 * CONNECT_S)

    def _serve(self) -> None:
        """The thread's whole life: a loop is closed by who ran it, when nothing can use it any more."""
        self._loop.run_forever()
        self._loop.close()

    def _begun(self, work: Coroutine[Any, Any, T]) -> concurrent.futures.Future[T]:
        """Hands work to the loop. The lock is held."""
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def _result(self, work: Coroutine[Any, Any, T]) -> T:
        """What comes of this work. Raises CounterpointError where all is closed before or meanwhile."""
        with self._lock:
            if self._closed:
                work.close()
            self._refuse_if_over()
            begun = self._begun(work)
        while not begun.done() and not self._closed:
            concurrent.futures.wait([begun], PATIENCE_S)
        try:
            return begun.result(0 if self._closed else None)
        except (TimeoutError, concurrent.futures.CancelledError):
            raise CounterpointError(self._over()) from None

    def _refuse_if_over(self) -> None:
        if self._closed:
            raise CounterpointError(self._over())

    def _over(self) -> str:
        return f"{self.name} is no longer in use here: pick another mode."

    async def _answer(self, request: Request, tell: Callable[[Event], None]) -> None:
        """One request from its beginning to its Done or Failed, which is told whatever happens."""
        task = asyncio.current_task()
        if request.id in self._tasks:
            self._tasks[request.id] = task
        answer = ServerAnswer(request, time.monotonic())
        try:
            if request.id in self._stopped:
                raise asyncio.CancelledError
            await exchange(self._client, self._offer, answer, tell)
        except asyncio.CancelledError:
            if request.id not in self._stopped:
                # Whoever asked has left, or all is closed while somebody still waits.
                tell(Failed(request.id, self._over()))
                raise
            answer.reason = "cancelled"
            tell(answer.done(self.name, self._server.url))
        except CounterpointError as error:
            tell(Failed.of(request.id, error))
        except Exception as error:
            why = f"{self.name}: this could not be asked ({type(error).__name__}: {error})."
            tell(Failed(request.id, why, "work"))
