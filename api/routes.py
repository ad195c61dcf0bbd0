"""/v1/models, /v1/chat/completions, /health and /metrics beside the page."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect
from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from api import schema
from api.completions import END, Completion, event_bytes
from api.draw import draw
from api.errors import STATUS, NoSuchModel, refusal, refused, shape
from api.metrics import Metrics
from backends.contract import Done, Failed, Queued, Request, Sampling, Waiting
from backends.served import OWN
from comparison.live import Comparison
from comparison.modes import ModeId, ModeInfo
from errors import Busy, CounterpointError

log = logging.getLogger("counterpoint")

HEALTH_S = 30.0
"""What a one-token generation may take."""
MODELS, CHAT = "/v1/models", "/v1/chat/completions"
HEALTH, METRICS = "/health", "/metrics"
EVERY_METHOD = ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
STATISTICS_S = 5.0
"""What telling its figures may take."""
BUSY: tuple[dict[str, Any], int] = {"status": "busy"}, 200
"""Alive, and at work for others."""
FAILED: tuple[dict[str, Any], int] = {"status": "failed"}, 503
OUT_OF_TOKENS = "output limit was reached"
"""What OpenAI says of an answer that ended in the model's thoughts."""
HEALTH_LASTS_S = 2.0
"""How long its result holds."""
ELSEWHERE_LASTS_S = 60.0
"""How long a good one of a backend elsewhere does: who probes every few seconds shall not pay for each."""


class Api:
    """The API over one comparison. Holds nothing of a request."""

    def __init__(self, comparison: Comparison, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` tells seconds: by it a result of /health grows old."""
        self._clock = clock
        self._comparison = comparison
        self._catalogue = comparison.catalogue
        self._main = comparison.catalogue.backends.get(None)
        self._metrics = Metrics(self._main)
        self._began = int(time.time())
        self._generation: asyncio.Task[tuple[dict[str, Any], int]] | None = None
        self._holds_until = 0.0

    @property
    def routes(self) -> list[Route]:
        return [
            Route(MODELS, _told(self.models), methods=["GET"]),
            Route(f"{MODELS}/", _told(self.models), methods=["GET"]),
            Route(f"{MODELS}/{{model:path}}", _told(self.model), methods=["GET"]),
            Route(CHAT, _told(self.chat), methods=["POST"]),
            Route(f"{CHAT}/", _told(self.chat), methods=["POST"]),
            Route(HEALTH, _told(self.health), methods=["GET"]),
            Route(METRICS, _told(self.metrics), methods=["GET"]),
            *(
                Route(path, _told(self.elsewhere), methods=[*EVERY_METHOD])
                for path in ("/v1", "/v1/{rest:path}", HEALTH, METRICS)
            ),
        ]

    async def models(self, request: HttpRequest) -> Response:
        modes = await run_in_threadpool(self._catalogue.list)
        return JSONResponse({"object": "list", "data": [self._entry(mode) for mode in modes if mode.usable]})

    async def model(self, request: HttpRequest) -> Response:
        wanted = request.path_params["model"].rstrip("/")
        modes = await run_in_threadpool(self._catalogue.list)
        found = next((mode for mode in modes if mode.id == wanted and mode.usable), None)
        if found is None:
            raise NoSuchModel(f"{wanted[:200]!r} is no mode here: /v1/models lists them.")
        return JSONResponse(self._entry(found))

    def _entry(self, mode: ModeInfo) -> dict[str, Any]:
        """A mode as a model; `parent` marks an adapter, as vLLM does, `root` tells the base."""
        entry: dict[str, Any] = {
            "id": mode.id,
            "object": "model",
            "created": self._began,
            "owned_by": OWN,
            "name": mode.label,
        }
        parsed = ModeId.parse(mode.id)
        if not parsed.backend:
            entry["root"] = self._main.base()
            entry["parent"] = "base" if parsed.adapter and not parsed.persona else None
        return entry

    async def chat(self, request: HttpRequest) -> Response:
        completion = await run_in_threadpool(self._completion, await request.body())
        if not completion.asked.stream:
            async with _stopped_without(request, completion):
                return JSONResponse(await completion.whole())
        chunks = completion.chunks()
        # Answered only once the first words are there: until then a refusal can be told by its status.
        async with _stopped_without(request, completion):
            first = await anext(chunks)
        events = _events(request, completion, first, chunks)
        # A proxy such as nginx would keep the words until it has many.
        headers = {"cache-control": "no-cache", "x-accel-buffering": "no"}
        return StreamingResponse(events, media_type="text/event-stream", headers=headers)

    def _completion(self, body: bytes) -> Completion:
        return Completion.of(schema.read(body), self._comparison, self._metrics)

    async def health(self, request: HttpRequest) -> Response:
        """Those who ask within a while share one generation: without a key nobody keeps the engine busy."""
        now, state = self._clock(), self._main.status().state
        if state != "ready":
            self._holds_until = now
            return JSONResponse({"status": state}, 503)
        if self._generation is None or (self._generation.done() and now >= self._holds_until):
            self._holds_until = now + HEALTH_LASTS_S
            self._generation = asyncio.create_task(self._one_token())
        body, status = await asyncio.shield(self._generation)
        return JSONResponse(body, status)

    async def _one_token(self) -> tuple[dict[str, Any], int]:
        """What /health says, and its status. Why it failed stands in the log: who asks here has shown no key."""
        began, stepped, waits = time.monotonic(), await self._steps(), False
        request = Request(
            f"health-{secrets.token_hex(8)}/0", ({"role": "user", "content": "Hi"},), Sampling(max_tokens=1)
        )
        try:
            async with asyncio.timeout(HEALTH_S), contextlib.aclosing(draw(self._main, [request])) as drawn:
                async for together in drawn:
                    for event in together:
                        waits = isinstance(event, Queued | Waiting)
                        if isinstance(event, Failed):
                            # Out of tokens before it said a word, as a model that thinks is: there were some.
                            if self._main.is_elsewhere and OUT_OF_TOKENS in event.message:
                                self._holds_until = self._clock() + ELSEWHERE_LASTS_S
                                return {"status": "ok"}, 200
                            log.warning("/health: %s", event.message)
                            return BUSY if event.cause == "busy" else FAILED
                        if isinstance(event, Done):
                            if self._main.is_elsewhere:
                                self._holds_until = self._clock() + ELSEWHERE_LASTS_S
                            seconds = round(time.monotonic() - began, 4)
                            return {
                                "status": "ok",
                                "tokens": event.usage.completion_tokens,
                                "seconds": seconds,
                            }, 200
        except Busy:
            return BUSY
        except TimeoutError:
            if waits and await self._steps() > stepped:
                return BUSY
            log.warning("/health: no token came in %.0f s", HEALTH_S)
        except CounterpointError as error:
            log.warning("/health: %s", error)
        return FAILED

    async def _steps(self) -> int:
        """Steps that the engine has decoded, 0 where that is not to be had: while they grow it is at work."""
        statistics = getattr(self._main, "statistics", None)
        if statistics is None:
            return 0
        try:
            async with asyncio.timeout(STATISTICS_S):
                return int((await run_in_threadpool(statistics))["steps"])
        except (TimeoutError, CounterpointError):
            return 0

    async def metrics(self, request: HttpRequest) -> Response:
        return Response(await run_in_threadpool(self._metrics.text), media_type=CONTENT_TYPE_LATEST)

    async def elsewhere(self, request: HttpRequest) -> Response:
        path = request.url.path
        reads = path in (HEALTH, METRICS) or f"{path}/".startswith(f"{MODELS}/")
        takes = "POST" if path.rstrip("/") == CHAT else "GET" if reads else None
        if takes:
            response = refusal(405, f"{path} takes {takes} only.")
            response.headers["allow"] = takes
            return response
        return refusal(404, f"There is no {request.method} {path} here: {MODELS} and {CHAT} are.")


def _told(
    endpoint: Callable[[HttpRequest], Awaitable[Response]],
) -> Callable[[HttpRequest], Awaitable[Response]]:
    """The endpoint, but errors are told in OpenAI's shape, and every answer has an id that the log knows too."""

    async def told(request: HttpRequest) -> Response:
        name = f"req_{secrets.token_hex(16)}"
        response = await answer(request, name)
        response.headers["x-request-id"] = name
        return response

    async def answer(request: HttpRequest, name: str) -> Response:
        try:
            return await endpoint(request)
        except CounterpointError as error:
            return refused(error)
        except ClientDisconnect:
            return Response(status_code=499)  # nobody reads it
        except Exception:
            log.exception("%s failed (%s)", request.url.path, name)
            return refusal(500, "The server failed at this: its log says more.")

    return told


async def _events(
    request: HttpRequest,
    completion: Completion,
    first: dict[str, Any],
    chunks: AsyncGenerator[dict[str, Any], None],
) -> AsyncGenerator[bytes, None]:
    """The stream's bytes; a failure that comes after the first words is its last event."""
    async with contextlib.aclosing(chunks), _stopped_without(request, completion):
        try:
            yield event_bytes(first)
            async for chunk in chunks:
                yield event_bytes(chunk)
            yield END
        except CounterpointError as error:
            yield event_bytes(shape(STATUS[Failed.of("", error).cause], str(error)))


@contextlib.asynccontextmanager
async def _stopped_without(request: HttpRequest, completion: Completion) -> AsyncIterator[None]:
    """Stops the completion when its client goes away."""

    async def gone() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass
        completion.stop()

    watch = asyncio.create_task(gone())
    try:
        yield
    finally:
        watch.cancel()
