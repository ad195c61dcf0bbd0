"""Any server that speaks the OpenAI API as a backend: vLLM, SGLang, Ray Serve LLM, llama-server, Ollama, hosted ones.

All requests of one call go out at once, so that the server batches them. What happens at the server is its own
word: the identity says which fields are only claimed.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import math
import queue
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from backends import server_errors
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
from backends.served import EXTENDED, Offer, offered
from backends.server_answer import ServerAnswer, parameters, plain
from errors import CounterpointError, WorkFailed

if TYPE_CHECKING:
    import httpx
    from openai import AsyncOpenAI

T = TypeVar("T")

PATIENCE_S = 1.0
"""A stream that has nothing new says so this often."""
CONNECT_S = 5.0
SILENCE_S = 120.0
"""A server that sends nothing for so long has stopped answering."""
OFFER_S = 30.0
"""How long what a server offers is believed."""
EARLY_STOPS = 256
"""Stops remembered for requests that have not arrived yet."""
SENT = frozenset(
    {"accept", "accept-encoding", "connection", "content-length", "content-type", "host", "transfer-encoding",
     "user-agent"}
)  # fmt: skip
"""The headers that a server gets, beside the key of its own."""
RETRIES = 2
"""Further tries of a request whose answer has not begun, whatever kept it from beginning."""


@dataclass(frozen=True, slots=True)
class Server:
    """Where a server is, and what it does not tell itself.

    `model` is the base's id there, needed where it serves several; `adapters` maps names to its model ids.
    `extended` is whether it takes top_k, min_p and repetition_penalty; None: told by who owns its models.
    """

    name: str
    url: str
    model: str | None = None
    adapters: Mapping[str, str] = field(default_factory=dict)
    extended: bool | None = None
    silence_s: float = SILENCE_S


class OpenAIServer(Backend):
    """One server. Safe for threads: its requests run on an event loop in a thread of their own."""

    def __init__(self, server: Server, key: str | None = None, circuit: Circuit | None = None):
        """Returns at once; the first look at the server happens when something is asked of it.

        `key` is sent as a bearer token and kept nowhere else.
        """
        self.name = server.name
        self._server = server
        self._circuit = circuit or Circuit()
        self._offer: Offer | None = None
        self._offer_at = 0.0
        self._tasks: dict[str, asyncio.Task[None] | None] = {}  # None: to begin
        self._stopped: set[str] = set()
        self._early_stops: dict[str, None] = {}
        self._recovery: asyncio.Task[None] | None = None
        self._closed = False
        # What is given to the loop is given while it is sure to run: a stopped loop never answers.
        self._lock = threading.Lock()
        self._key = key
        self._known_client: AsyncOpenAI | None = None
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
        return self._result(self._known_offer(fresh))

    def base(self) -> str | None:
        return self._offer.base_name if self._offer else None

    def adapters(self, timeout: float = 0) -> tuple[str, ...]:
        """What it was last known to have; a look that is due is begun, and waited for at most so long."""
        with self._lock:
            if not self._closed and (self._look is None or self._look.done()) and self._is_due():
                self._look = self._begun(self._known_offer())
            look = self._look
        if look is not None and timeout:
            with contextlib.suppress(CounterpointError, TimeoutError, concurrent.futures.CancelledError):
                look.result(timeout)
        return tuple(sorted(self._offer.adapters)) if self._offer else ()

    def status(self) -> Status:
        down = self._circuit.down
        if down is not None:
            return Status("failed", self._down(down))
        return Status("ready", f"{self.name}: {self._offer.base_name if self._offer else self._server.url}")

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
                await self._client().post("/load_lora_adapter", body=body, cast_to=object)
            except (openai.NotFoundError, openai.PermissionDeniedError):
                raise CounterpointError(
                    f"{self.name} does not load adapters on request: start it with the adapter, or (vLLM) with "
                    "VLLM_ALLOW_RUNTIME_LORA_UPDATING=True."
                ) from None
            except openai.OpenAIError as error:
                raise self._told(error) from None
            self._offer_at = -math.inf

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
                    if self._known_client is not None:
                        await self._known_client.close()
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

    def _client(self) -> AsyncOpenAI:
        if self._known_client is None:
            import openai

            async def only_ours(request: httpx.Request) -> None:
                # The library adds what other programs' variables say, keys among it (OPENAI_CUSTOM_HEADERS).
                for name in set(request.headers) - SENT:
                    del request.headers[name]
                request.headers["authorization"] = f"Bearer {self._key or 'none'}"

            self._known_client = openai.AsyncOpenAI(
                # A server that was declared is the one that is asked: not whoever it points to.
                http_client=openai.DefaultAsyncHttpxClient(
                    follow_redirects=False, event_hooks={"request": [only_ours]}
                ),
                base_url=self._server.url,
                api_key=self._key or "none",
                max_retries=0,  # _persist is the only place that tries again
                timeout=openai.Timeout(self._server.silence_s, connect=CONNECT_S),
            )
        return self._known_client

    async def _known_offer(self, fresh: bool = False) -> Offer:
        import openai

        if fresh or self._offer is None or self._is_due():
            if not fresh:
                self._refuse_if_down()
            try:
                if fresh:
                    listed = await self._client().with_options(timeout=CONNECT_S).models.list()
                else:
                    listed = await self._persist(self._client().models.list)
                models = [dict(model) for model in listed.data or ()]
            except openai.OpenAIError as error:
                missing = isinstance(error, openai.APIStatusError) and error.status_code in (404, 405)
                if not missing or self._server.model is None:
                    raise self._failed(error, CONNECT_S if fresh else None) from None
                models = []  # Some have no list: what was declared is believed.
            except (TypeError, ValueError, AttributeError):
                raise self._nonsense() from None
            self._circuit.worked()
            try:
                self._offer = offered(self.name, models, self._server.model, self._server.adapters)
            except (TypeError, AttributeError):
                raise self._nonsense() from None
            self._offer_at = time.monotonic()
        return self._offer

    def _is_due(self) -> bool:
        return self._offer is None or time.monotonic() - self._offer_at > OFFER_S

    async def _answer(self, request: Request, tell: Callable[[Event], None]) -> None:
        """One request from its beginning to its Done or Failed, which is told whatever happens."""
        task = asyncio.current_task()
        if request.id in self._tasks:
            self._tasks[request.id] = task
        answer = ServerAnswer(request, time.monotonic())
        try:
            if request.id in self._stopped:
                raise asyncio.CancelledError
            await self._stream(request, answer, tell)
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

    async def _stream(self, request: Request, answer: ServerAnswer, tell: Callable[[Event], None]) -> None:
        import openai

        self._refuse_if_down()
        offer = await self._known_offer()
        answer.offer = offer
        answer.model = offer.model(request.adapter)
        if request.adapter and request.adapter_scale != 1:
            raise CounterpointError(f"{self.name} has adapters at their trained strength only: set it to 1.")
        extended = offer.owner in EXTENDED if self._server.extended is None else self._server.extended
        answer.sampling = request.sampling if extended else plain(request.sampling)
        try:
            # What was shown cannot be taken back by asking again.
            await self._persist(
                lambda: self._attempt(request, answer, extended, tell), begun=lambda: answer.pieces > 0
            )
        except server_errors.BrokenOff:
            told = f"{self.name} broke off after {answer.pieces} tokens without ending its answer: ask again."
            raise self._failed(WorkFailed(told)) from None
        except openai.NotFoundError as error:
            self._offer_at = -math.inf
            if request.adapter is None:
                raise self._failed(error) from None
            said = server_errors.words(error, self._key)
            raise CounterpointError(f"{self.name} no longer has {request.adapter}. It says: {said}") from None
        except openai.OpenAIError as error:
            raise self._failed(error) from None
        except (ValueError, TypeError, AttributeError, LookupError):
            raise self._nonsense() from None
        self._circuit.worked()
        if answer.is_filtered:
            raise CounterpointError(
                f"{self.name} ended this answer by its content filter: ask in other words."
            )
        if request.top_logprobs is not None and answer.pieces and not answer.has_logprobs:
            raise CounterpointError(f"{self.name} gives no log-probabilities: ask without them.")
        tell(answer.done(self.name, self._server.url))

    async def _persist(
        self, attempt: Callable[[], Awaitable[T]], begun: Callable[[], bool] = lambda: False
    ) -> T:
        """What the attempt gives: tried again while that may help, and nothing of it has `begun` to be shown."""
        import openai

        tried = 0
        while True:
            try:
                return await attempt()
            except (openai.OpenAIError, server_errors.BrokenOff) as error:
                pause = server_errors.pause(error, tried)
                if tried == RETRIES or pause is None or begun():
                    raise
            tried += 1
            await asyncio.sleep(pause)

    async def _attempt(
        self, request: Request, answer: ServerAnswer, extended: bool, tell: Callable[[Event], None]
    ) -> None:
        """Asks once and reads to the end. Raises BrokenOff where the stream ends before the answer does."""
        import openai

        while True:
            asked = parameters(request, answer, extended)
            try:
                stream = await self._client().chat.completions.create(**asked)
                break
            except openai.BadRequestError as error:
                if not answer.leave_out(error.code, error.param, asked):
                    raise
        async with stream:
            kind = stream.response.headers.get("content-type", "")
            if "text/event-stream" not in kind:
                raise self._nonsense(kind)
            try:
                async for chunk in stream:
                    answer.take(chunk, tell)
                    if answer.over:
                        return
            except openai.APITimeoutError:
                raise
            except openai.APIConnectionError:
                raise server_errors.BrokenOff from None
        if answer.reason is None:
            raise server_errors.BrokenOff

    def _failed(self, error: Exception, waited_s: float | None = None) -> CounterpointError:
        """What a person is told; a server that cannot be reached, or fails, is counted against its circuit.

        `waited_s` is how long it was waited for, where that was not its own time.
        """
        import openai

        told = error if isinstance(error, CounterpointError) else self._told(error, waited_s)
        if isinstance(error, openai.APIConnectionError | openai.InternalServerError | CounterpointError):
            self._circuit.failed(str(told))
            if self._circuit.down is not None and self._recovery is None:
                self._recovery = self._loop.create_task(self._recover())
        elif isinstance(error, openai.APIStatusError):
            self._circuit.worked()  # It answers, if only to refuse.
        return told

    async def _recover(self) -> None:
        """Looks at a server that is down until it answers again, if only to refuse."""
        import openai

        try:
            while self._circuit.down is not None:
                await asyncio.sleep(self._circuit.pause_s)
                try:
                    await self._client().with_options(timeout=CONNECT_S).models.list()
                except openai.APIStatusError as error:
                    if error.status_code >= 500:
                        continue
                except Exception:
                    continue  # Whatever it was, it was no answer.
                self._circuit.worked()
        finally:
            self._recovery = None

    def _refuse_if_down(self) -> None:
        why = self._circuit.down
        if why is not None:
            raise WorkFailed(self._down(why))

    def _down(self, why: str) -> str:
        return f"{why} It counts as down until it answers; it is looked for again by itself."

    def _nonsense(self, kind: str = "") -> WorkFailed:
        return server_errors.nonsense(self.name, self._server.url, kind)

    def _told(self, error: Exception, waited_s: float | None = None) -> CounterpointError:
        where = f"{self.name} ({self._server.url})"
        return server_errors.told(error, where, waited_s or self._server.silence_s, self._key)
