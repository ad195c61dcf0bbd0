"""What a server sends, as bytes: not packed, and no more of them than an answer can have.

A client library keeps a line until it ends, a body until it is whole, and unpacks what is packed: a server that sends
without end, or little that unpacks to much, would take all memory there is.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

import httpx2

from errors import WorkFailed

MOST_BYTES = 64 * 2**20
"""Of one response. An answer of 8192 tokens with twenty alternatives each has about a third of it."""


class Bounded(httpx2.AsyncByteStream):
    """The bytes of a response as they come. Raises WorkFailed where they are too many."""

    def __init__(self, whole: httpx2.AsyncByteStream, name: str) -> None:
        self._whole = whole
        self._name = name

    async def __aiter__(self) -> AsyncIterator[bytes]:
        size = 0
        async for part in self._whole:
            size += len(part)
            if size > MOST_BYTES:
                raise WorkFailed(f"{self._name} sent more than any answer has: look at its own log.")
            yield part

    async def aclose(self) -> None:
        await self._whole.aclose()


def bounds(name: str) -> Callable[[httpx2.Response], Awaitable[None]]:
    """A hook that bounds every response of the server of that name before it is read."""

    async def bound(response: httpx2.Response) -> None:
        packed = response.headers.get("content-encoding", "").strip().lower()
        if packed not in ("", "identity"):
            raise WorkFailed(
                f"{name} packs its answers ({packed[:20]}) though it was asked not to: switch that off there, or in "
                "the proxy before it."
            )
        assert isinstance(response.stream, httpx2.AsyncByteStream)
        response.stream = Bounded(response.stream, name)

    return bound
