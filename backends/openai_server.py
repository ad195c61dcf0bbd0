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
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from backends.circuit import Circuit
from backends.contract import (
    Backend,
    Delta,
    Done,
    Event,
    Failed,
    FinishReason,
    Identity,
    Message,
    Rendered,
    Request,
    Sampling,
    Status,
    TokenLogprob,
    Usage,
    Waiting,
)
from backends.served import Offer, offered
from errors import CounterpointError, WorkFailed

if TYPE_CHECKING:
    from openai import AsyncOpenAI

PATIENCE_S = 1.0
"""A stream that has nothing new says so this often."""
CONNECT_S = 5.0
SILENCE_S = 120.0
"""A server that sends nothing for so long has stopped answering."""
OFFER_S = 30.0
"""How long what a server offers is believed."""
RETRIES = 2
"""Further tries of a request whose answer has not begun."""
SLACK = 8
"""Pieces beyond max_tokens after which an answer is cut off: the server does not keep to it."""
EXTENDED = frozenset({"vllm", "sglang", "llamacpp", "library", "counterpoint"})
"""Owners in /v1/models whose servers know top_k, min_p and repetition_penalty. OpenAI's own refuses them."""


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


class _BrokenOff(Exception):
    """A stream that ended before its answer did."""


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
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._stopped: set[str] = set()
        self._recovery: asyncio.Task[None] | None = None
        self._closed = False
        self._key = key
        self._known_client: AsyncOpenAI | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name=f"server-{self.name}", daemon=True
        )
        self._thread.start()

    def stream(self, requests: Sequence[Request]) -> Generator[Event, None, None]:
        self._refuse_if_over()
        arrived: queue.SimpleQueue[Event] = queue.SimpleQueue()
        open_ids = {request.id for request in requests}
        answers = [self._run(self._answer(request, arrived.put)) for request in requests]
        try:
            while open_ids:
                try:
                    event = arrived.get(timeout=PATIENCE_S)
                except queue.Empty:
                    event = Waiting(next(iter(open_ids)))
                if isinstance(event, Done | Failed):
                    open_ids.discard(event.request_id)
                yield event
        finally:
            for answer in answers:
                answer.cancel()

    def stop(self, request_ids: Sequence[str]) -> None:
        def end() -> None:
            for request_id in request_ids:
                task = self._tasks.get(request_id)
                if task is not None and request_id not in self._stopped:
                    self._stopped.add(request_id)
                    task.cancel()

        if not self._closed:
            self._loop.call_soon_threadsafe(end)

    def offer(self) -> Offer:
        """The base and the adapters that the server has now. Raises CounterpointError where it does not tell."""
        self._refuse_if_over()
        return self._run(self._known_offer()).result()

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
        self._refuse_if_over()

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
            self._offer = None

        self._run(load()).result()

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True

        async def end() -> None:
            under_way = [*self._tasks.values(), *([self._recovery] if self._recovery else [])]
            for task in under_way:
                task.cancel()
            await asyncio.gather(*under_way, return_exceptions=True)
            await self._loop.shutdown_asyncgens()
            if self._known_client is not None:
                await self._known_client.close()

        with contextlib.suppress(Exception):
            self._run(end()).result(timeout=CONNECT_S)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(CONNECT_S)

    def _run(self, work: Any) -> concurrent.futures.Future[Any]:
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def _refuse_if_over(self) -> None:
        if self._closed:
            raise CounterpointError(f"{self.name} is no longer in use here: pick another mode.")

    def _client(self) -> AsyncOpenAI:
        if self._known_client is None:
            import openai

            self._known_client = openai.AsyncOpenAI(
                base_url=self._server.url,
                api_key=self._key or "none",
                max_retries=RETRIES,
                timeout=openai.Timeout(self._server.silence_s, connect=CONNECT_S),
            )
        return self._known_client

    async def _known_offer(self) -> Offer:
        import openai

        if self._offer is None or time.monotonic() - self._offer_at > OFFER_S:
            self._refuse_if_down()
            try:
                listed = await self._client().models.list()
                models = [dict(model) for model in listed.data or ()]
            except openai.OpenAIError as error:
                raise self._failed(error) from None
            except (TypeError, ValueError, AttributeError):
                raise self._nonsense() from None
            self._circuit.worked()
            self._offer = offered(self.name, models, self._server.model, self._server.adapters)
            self._offer_at = time.monotonic()
        return self._offer

    async def _answer(self, request: Request, tell: Callable[[Event], None]) -> None:
        """One request from its beginning to its Done or Failed, which is told whatever happens."""
        task = asyncio.current_task()
        assert task is not None
        self._tasks[request.id] = task
        answer = _Answer(request, time.monotonic())
        try:
            await self._stream(request, answer, tell)
        except asyncio.CancelledError:
            if request.id not in self._stopped:
                raise
            answer.reason = "cancelled"
            tell(answer.done(self.name, self._server.url))
        except CounterpointError as error:
            tell(Failed(request.id, str(error)))
        except Exception as error:
            tell(
                Failed(request.id, f"{self.name}: this could not be asked ({type(error).__name__}: {error}).")
            )
        finally:
            del self._tasks[request.id]
            self._stopped.discard(request.id)

    async def _stream(self, request: Request, answer: _Answer, tell: Callable[[Event], None]) -> None:
        import openai

        self._refuse_if_down()
        offer = await self._known_offer()
        answer.offer = offer
        answer.model = offer.model(request.adapter)
        if request.adapter and request.adapter_scale != 1:
            raise CounterpointError(f"{self.name} has adapters at their trained strength only: set it to 1.")
        extended = offer.owner in EXTENDED if self._server.extended is None else self._server.extended
        answer.sampling = request.sampling if extended else _plain(request.sampling)
        for left in range(RETRIES, -1, -1):
            try:
                await self._attempt(request, answer, extended, tell)
                break
            except _BrokenOff:
                # What was shown cannot be taken back by asking again.
                if answer.pieces or not left:
                    raise self._failed(
                        WorkFailed(
                            f"{self.name} broke off after {answer.pieces} tokens without ending its answer: "
                            "ask again."
                        )
                    ) from None
            except openai.OpenAIError as error:
                raise self._failed(error) from None
            except (ValueError, TypeError, AttributeError, LookupError):
                raise self._nonsense() from None
        self._circuit.worked()
        tell(answer.done(self.name, self._server.url))

    async def _attempt(
        self, request: Request, answer: _Answer, extended: bool, tell: Callable[[Event], None]
    ) -> None:
        """Asks once and reads to the end. Raises _BrokenOff where the stream ends before the answer does."""
        import openai

        stream = await self._client().chat.completions.create(**_parameters(request, answer, extended))
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
                raise _BrokenOff from None
        if answer.reason is None:
            raise _BrokenOff

    def _failed(self, error: Exception) -> CounterpointError:
        """What a person is told; a server that cannot be reached, or fails, is counted against its circuit."""
        import openai

        told = error if isinstance(error, CounterpointError) else self._told(error)
        if isinstance(error, openai.APIConnectionError | openai.InternalServerError | WorkFailed):
            self._circuit.failed(str(told))
            if self._circuit.down is not None and self._recovery is None:
                self._recovery = self._loop.create_task(self._recover())
        return told

    async def _recover(self) -> None:
        """Looks at a server that is down until it answers again."""
        try:
            while self._circuit.down is not None:
                await asyncio.sleep(self._circuit.pause_s)
                with contextlib.suppress(Exception):
                    await self._client().with_options(max_retries=0).models.list()
                    self._circuit.worked()
        finally:
            self._recovery = None

    def _refuse_if_down(self) -> None:
        why = self._circuit.down
        if why is not None:
            raise WorkFailed(self._down(why))

    def _down(self, why: str) -> str:
        return f"{self.name} is down ({why}) It is looked for again by itself: ask it later."

    def _nonsense(self, kind: str = "") -> CounterpointError:
        sent = f" ({kind.partition(';')[0]})" if kind else ""
        return CounterpointError(
            f"{self.name} sent what is no answer of the OpenAI API{sent}: check that its address ends in /v1 "
            f"({self._server.url})."
        )

    def _told(self, error: Exception) -> CounterpointError:
        """A client library's error in plain words."""
        import openai

        where = f"{self.name} ({self._server.url})"
        if isinstance(error, openai.APITimeoutError):
            return WorkFailed(
                f"{where} sent nothing for {self._server.silence_s:.0f} s: look at its own log."
            )
        if isinstance(error, openai.APIConnectionError):
            return WorkFailed(f"{where} does not answer: start it, or mend its address.")
        said = _server_words(error)
        if isinstance(error, openai.AuthenticationError | openai.PermissionDeniedError):
            return CounterpointError(
                f"{where} refuses the key: set the environment variable of its key. It says: {said}"
            )
        if isinstance(error, openai.RateLimitError):
            return WorkFailed(
                f"{where} is asked too much, or its quota is used up: try later. It says: {said}"
            )
        if isinstance(error, openai.InternalServerError):
            return WorkFailed(f"{where} failed: look at its own log. It says: {said}")
        if isinstance(error, openai.NotFoundError):
            return CounterpointError(
                f"{where} has no such model or address (it ends in /v1 mostly). It says: {said}"
            )
        return CounterpointError(f"{where} refuses: {said}")


@dataclass(slots=True)
class _Answer:
    """What has arrived of one answer. Seconds are `time.monotonic`'s."""

    request: Request
    began: float
    offer: Offer | None = None
    model: str = ""
    sampling: Sampling = field(default_factory=Sampling)
    pieces: int = 0
    first: float | None = None
    last: float | None = None
    reason: FinishReason | None = None
    usage: Any = None
    said_model: str | None = None

    @property
    def over(self) -> bool:
        """Whether the server goes on past the end that was asked for."""
        if self.pieces <= self.request.sampling.max_tokens + SLACK:
            return False
        self.reason = "length"
        return True

    @property
    def ttft_s(self) -> float | None:
        return None if self.first is None else self.first - self.began

    @property
    def tokens(self) -> int:
        counted = getattr(self.usage, "completion_tokens", None)
        return self.pieces if counted is None else int(counted)

    @property
    def tokens_per_s(self) -> float | None:
        if self.tokens < 2 or self.first is None or self.last is None or self.last <= self.first:
            return None
        return (self.tokens - 1) / (self.last - self.first)

    def take(self, chunk: Any, tell: Callable[[Event], None]) -> None:
        """One event of the server's stream."""
        self.usage = getattr(chunk, "usage", None) or self.usage
        self.said_model = getattr(chunk, "model", None) or self.said_model
        choices = getattr(chunk, "choices", None)
        if not choices:
            return
        choice = choices[0]
        text = getattr(choice.delta, "content", None) if choice.delta else None
        if text:
            self.pieces += 1
            self.last = time.monotonic()
            self.first = self.first or self.last
            tell(Delta(self.request.id, text, self.pieces, self.ttft_s, self.tokens_per_s, _logprobs(choice)))
        if choice.finish_reason:
            self.reason = "length" if choice.finish_reason == "length" else "stop"

    def done(self, backend: str, url: str) -> Done:
        request, details = self.request, getattr(self.usage, "prompt_tokens_details", None)
        usage = Usage(
            prompt_tokens=getattr(self.usage, "prompt_tokens", None),
            completion_tokens=self.tokens,
            cached_tokens=getattr(details, "cached_tokens", None) or 0,
            ttft_s=self.ttft_s,
            tokens_per_s=self.tokens_per_s,
        )
        claimed = ("base", "adapter") if request.adapter else ("base",)
        identity = Identity(
            backend=backend,
            base=self.offer.base_name if self.offer else "",
            base_sha256=None,
            quantization=None,
            adapter=request.adapter,
            adapter_sha256=None,
            adapter_scale=1.0 if request.adapter else None,
            prompt=None,
            prompt_sha256=None,
            sampling=self.sampling,
            server=f"{url}, model {self.said_model or self.model}",
            claimed=claimed,
            messages=request.messages,
        )
        return Done(request.id, self.reason or "stop", usage, identity)


def _plain(sampling: Sampling) -> Sampling:
    """What a server hears that knows OpenAI's own parameters only."""
    return replace(sampling, top_k=0, min_p=0.0, repetition_penalty=1.0)


def _parameters(request: Request, answer: _Answer, extended: bool) -> dict[str, Any]:
    sampling = answer.sampling
    told: dict[str, Any] = {
        "model": answer.model,
        "messages": list(request.messages),
        "stream": True,
        "stream_options": {"include_usage": True},
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "seed": sampling.seed,
        "max_tokens": sampling.max_tokens,
    }
    if sampling.stop:
        told["stop"] = list(sampling.stop)
    for name in ("presence_penalty", "frequency_penalty"):
        if getattr(sampling, name):
            told[name] = getattr(sampling, name)
    if request.top_logprobs is not None:
        told |= {"logprobs": True, "top_logprobs": request.top_logprobs}
    if extended:
        extra = {"min_p": sampling.min_p, "repetition_penalty": sampling.repetition_penalty}
        told["extra_body"] = extra | ({"top_k": sampling.top_k} if sampling.top_k else {})
    return told


def _logprobs(choice: Any) -> tuple[TokenLogprob, ...]:
    content = getattr(getattr(choice, "logprobs", None), "content", None) or ()
    return tuple(
        TokenLogprob(
            item.token, item.logprob, tuple((other.token, other.logprob) for other in item.top_logprobs or ())
        )
        for item in content
    )


def _server_words(error: Any) -> str:
    """The server's own message in one line of bounded length."""
    body = getattr(error, "body", None)
    said = body.get("message") if isinstance(body, dict) else None
    text = " ".join(str(said or getattr(error, "message", error)).split())
    return text if len(text) <= 300 else f"{text[:300]}…"
