"""A server of the OpenAI API as it is called: where it is, what it is sent, how often, and whether it is down."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from backends import server_errors
from backends.circuit import Circuit
from errors import CounterpointError, WorkFailed

if TYPE_CHECKING:
    import httpx2
    from openai import AsyncOpenAI

T = TypeVar("T")

CONNECT_S = 5.0
SILENCE_S = 120.0
"""A server that sends nothing for so long has stopped answering."""
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
    `key_env` is the variable that its key was looked for in, for who has to mend it.
    """

    name: str
    url: str
    model: str | None = None
    adapters: Mapping[str, str] = field(default_factory=dict)
    extended: bool | None = None
    silence_s: float = SILENCE_S
    key_env: str | None = None


class ServerClient:
    """Calls one server. Its methods run on one event loop; `down` and `refuse_if_down` are safe for threads."""

    def __init__(self, server: Server, key: str | None, circuit: Circuit) -> None:
        """`key` is sent as a bearer token and kept nowhere else."""
        self.server = server
        self.key = key
        self._circuit = circuit
        self._known: AsyncOpenAI | None = None
        self._recovery: asyncio.Task[None] | None = None

    @property
    def api(self) -> AsyncOpenAI:
        """The client library, made when it is first needed. Raises CounterpointError for a key that is none."""
        if self._known is None:
            import openai

            from backends.server_bytes import bounds

            if self.key and not (self.key.isascii() and self.key.isprintable()):
                raise CounterpointError(
                    f"{self.server.name}: {self.server.key_env or 'its key'} holds characters that no key has: set it "
                    "anew and start Counterpoint again."
                )

            async def only_ours(request: httpx2.Request) -> None:
                # The library adds what other programs' variables say, keys among it (OPENAI_CUSTOM_HEADERS).
                for name in set(request.headers) - SENT:
                    del request.headers[name]
                request.headers["accept-encoding"] = "identity"
                request.headers["authorization"] = f"Bearer {self.key or 'none'}"

            self._known = openai.AsyncOpenAI(
                # A server that was declared is the one that is asked: not whoever it points to.
                http_client=openai.DefaultAsyncHttpxClient(
                    follow_redirects=False,
                    event_hooks={"request": [only_ours], "response": [bounds(self.server.name)]},
                ),
                base_url=self.server.url,
                api_key=self.key or "none",
                max_retries=0,  # `persist` is the only place that tries again
                timeout=openai.Timeout(None, connect=CONNECT_S),  # whoever asks waits by the clock
            )
        return self._known

    async def persist(
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

    async def models(self, patience_s: float) -> list[dict[str, Any]]:
        """The entries of its list. Raises TimeoutError where the list is not whole in time, however its bytes come;
        openai.OpenAIError where it refuses, and what NONSENSE names for what is no list."""
        async with asyncio.timeout(patience_s):
            listed = await self.api.models.list()
        return [dict(model) for model in listed.data or ()]

    async def close(self) -> None:
        if self._known is not None:
            await self._known.close()

    @property
    def down(self) -> str | None:
        """What a person is told while it counts as down; None while it does not."""
        why = self._circuit.down
        if why is None:
            return None
        return f"{why} It counts as down until it answers; it is looked for again by itself."

    def refuse_if_down(self) -> None:
        down = self.down
        if down is not None:
            raise server_errors.Down(down)

    def worked(self) -> None:
        self._circuit.worked()

    def failed(self, error: Exception) -> CounterpointError:
        """What a person is told; a server that cannot be reached, or fails, is counted against its circuit."""
        import openai

        told = error if isinstance(error, CounterpointError) else self.told(error)
        if isinstance(error, openai.APIConnectionError | openai.InternalServerError | CounterpointError):
            self._circuit.failed(str(told))
            if self._circuit.down is not None and self._recovery is None:
                self._recovery = asyncio.create_task(self._recover())
        elif isinstance(error, openai.APIStatusError):
            self._circuit.worked()  # It answers, if only to refuse.
        return told

    def told(self, error: Exception) -> CounterpointError:
        """A failure that is no sign of the server's health, in plain words."""
        server = self.server
        return server_errors.told(error, f"{server.name} ({server.url})", self.key, server.key_env)

    def no_list(self, error: Exception) -> WorkFailed:
        """What is told of a server that answers a look with this: that there is no list."""
        self.worked()
        server = self.server
        return server_errors.no_list(server.name, server.url, server_errors.words(error, self.key))

    def nonsense(self, kind: str = "", begun: bool = False) -> WorkFailed:
        """What is told of an answer that is none; `kind` is its content type, `begun` whether it was one at first."""
        return server_errors.nonsense(self.server.name, self.server.url, kind, begun)

    async def _recover(self) -> None:
        """Looks at a server that is down until it answers again, if only to refuse."""
        import openai

        try:
            while self._circuit.down is not None:
                await asyncio.sleep(self._circuit.pause_s)
                try:
                    async with asyncio.timeout(CONNECT_S):
                        await self.api.models.list()
                except openai.APIStatusError as error:
                    if error.status_code >= 500:
                        continue
                except Exception:
                    continue  # Whatever it was, it was no answer.
                self._circuit.worked()
        finally:
            self._recovery = None
