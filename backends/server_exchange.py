"""One request to a server of the OpenAI API: asked, tried again where that may help, and read to its end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from backends import server_errors
from backends.contract import Event
from backends.served import EXTENDED
from backends.server_answer import NOT_OPENAIS, ServerAnswer, parameters
from backends.server_client import ServerClient
from backends.server_offer import ServerOffer
from errors import CounterpointError, WorkFailed

if TYPE_CHECKING:
    from openai import AsyncStream

LAST_S = 5.0
"""How long an answer that has ended is waited for to tell its usage."""


async def exchange(
    client: ServerClient, offers: ServerOffer, answer: ServerAnswer, tell: Callable[[Event], None]
) -> None:
    """Asks for one answer, reads it to its end, and tells its events, the Done as well.

    Raises CounterpointError where there is none.
    """
    import openai

    server, request = client.server, answer.request
    client.refuse_if_down()
    offer = await offers.get()
    answer.offer = offer
    answer.model = offer.model(request.adapter)
    if request.adapter and request.adapter_scale != 1:
        raise CounterpointError(f"{server.name} has adapters at their trained strength only: set it to 1.")
    extended = offer.owner in EXTENDED if server.extended is None else server.extended
    if not extended:
        answer.unsent |= NOT_OPENAIS
    try:
        # What was shown cannot be taken back by asking again.
        await client.persist(
            lambda: _attempt(client, answer, extended, tell), begun=lambda: answer.pieces > 0
        )
    except server_errors.BrokenOff:
        told = f"{server.name} broke off after {answer.pieces} tokens without ending its answer: ask again."
        raise client.failed(WorkFailed(told)) from None
    except TimeoutError:
        told = f"{server.name} sent nothing of its answer for {server.silence_s:g} s: look at its own log."
        raise client.failed(server_errors.Down(told)) from None
    except openai.NotFoundError as error:
        offers.doubt()
        if request.adapter is None:
            raise client.failed(error) from None
        said = server_errors.words(error, client.key)
        raise CounterpointError(
            f"{server.name} does not have {request.adapter}, or not any more. It says: {said}"
        ) from None
    except openai.OpenAIError as error:
        raise client.failed(error) from None
    except server_errors.NONSENSE:
        raise client.nonsense(begun=answer.pieces > 0) from None
    client.worked()
    if answer.is_filtered:
        raise CounterpointError(f"{server.name} ended this answer by its content filter: ask in other words.")
    if request.top_logprobs is not None and answer.pieces and not answer.has_logprobs:
        raise CounterpointError(f"{server.name} gives no log-probabilities: ask without them.")
    tell(answer.done(server.name, server.url))


async def _attempt(
    client: ServerClient, answer: ServerAnswer, extended: bool, tell: Callable[[Event], None]
) -> None:
    """Asks once and reads to the end. Raises BrokenOff where the stream ends before the answer does, and
    TimeoutError where nothing of an answer comes for as long as the server may be silent."""
    answer.begin()
    try:
        # The HTTP client's own patience begins anew with every byte: a header, a comment, half a line.
        async with asyncio.timeout(client.server.silence_s) as patience:
            stream = await _asked(client, answer, extended)
            async with stream:
                await _read(stream, client, answer, tell, patience)
    except (TimeoutError, server_errors.BrokenOff):
        if answer.reason is None:
            raise


async def _asked(client: ServerClient, answer: ServerAnswer, extended: bool) -> AsyncStream[Any]:
    """The stream of the answer, asked for without what the server refuses."""
    import openai

    while True:
        asked = parameters(answer.request, answer, extended)
        try:
            return await client.api.chat.completions.create(**asked)
        except openai.BadRequestError as error:
            if not answer.leave_out(server_errors.refused(error), asked):
                raise


async def _read(
    stream: AsyncStream[Any],
    client: ServerClient,
    answer: ServerAnswer,
    tell: Callable[[Event], None],
    patience: asyncio.Timeout,
) -> None:
    import openai

    kind = stream.response.headers.get("content-type", "")
    if "text/event-stream" not in kind:
        raise client.nonsense(kind)
    now = asyncio.get_running_loop().time
    try:
        async for chunk in stream:
            _refuse_an_error(chunk, stream)
            if answer.take(chunk, tell):
                silence_s = client.server.silence_s
                patience.reschedule(now() + (silence_s if answer.reason is None else min(silence_s, LAST_S)))
            if answer.over:
                return
    except openai.APIConnectionError:
        raise server_errors.BrokenOff from None
    if answer.reason is None:
        raise server_errors.BrokenOff


def _refuse_an_error(chunk: Any, stream: AsyncStream[Any]) -> None:
    """Raises openai.APIError for an error that is told as one more chunk, which the client library lets pass."""
    import openai

    said = getattr(chunk, "message", None)
    if said and getattr(chunk, "choices", None) is None:
        body = {"message": said, "code": getattr(chunk, "code", None)}
        raise openai.APIError(str(said), stream.response.request, body=body)
