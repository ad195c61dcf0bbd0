"""What one server offers: looked for when it is needed, and believed for a while."""

from __future__ import annotations

import asyncio
import logging
import math
import time

from backends.served import Offer, offered
from backends.server_client import CONNECT_S, ServerClient
from backends.server_errors import NONSENSE, Down
from errors import CounterpointError

log = logging.getLogger("counterpoint")

OFFER_S = 30.0
"""How long what a server offers is believed."""


class ServerOffer:
    """Looks at a server's list of models. `get` runs on the client's event loop; the rest is safe for threads."""

    def __init__(self, client: ServerClient) -> None:
        self._client = client
        self._at = -math.inf
        self._looking: asyncio.Task[Offer] | None = None
        self.known: Offer | None = None
        """What it was last seen to offer, however long ago."""

    @property
    def is_due(self) -> bool:
        """Whether it is time for another look."""
        return self.known is None or time.monotonic() - self._at > OFFER_S

    def doubt(self) -> None:
        """The next who needs it looks anew."""
        self._at = -math.inf

    async def get(self, fresh: bool = False) -> Offer:
        """What is known, or what a look tells, which all who need it share. Raises CounterpointError where nothing
        is known and it does not tell: what was known before may still be there to be asked.

        `fresh` looks anew whatever is known, at a server that counts as down too, and waits for it but shortly.
        """
        if not fresh and self.known is not None and not self.is_due:
            return self.known
        if not fresh:
            self._client.refuse_if_down()
        if fresh:
            return await self._renew(fresh)
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._renew())
            # Where all who waited have left, nobody else asks what came of it.
            self._looking.add_done_callback(lambda look: look.cancelled() or look.exception())
        try:
            return await asyncio.shield(self._looking)
        except CounterpointError as error:
            if self.known is None:
                raise
            log.warning("What is known of %s is believed further: %s", self._client.server.name, error)
            self._at = time.monotonic()
            return self.known

    async def _renew(self, fresh: bool = False) -> Offer:
        self.known = await self._look(fresh)
        self._at = time.monotonic()
        return self.known

    async def _look(self, fresh: bool) -> Offer:
        import openai

        client, server = self._client, self._client.server
        patience_s = CONNECT_S if fresh else server.silence_s
        try:
            if fresh:
                models = await client.models(patience_s)
            else:
                models = await client.persist(lambda: client.models(patience_s))
        except TimeoutError:
            told = f"{server.name} ({server.url}) did not tell what it has within {patience_s:g} s"
            raise client.failed(Down(f"{told}: see that it runs, and look at its own log.")) from None
        except openai.OpenAIError as error:
            missing = isinstance(error, openai.APIStatusError) and error.status_code in (404, 405)
            if not missing:
                raise client.failed(error) from None
            if server.model is None:
                raise client.no_list(error) from None
            models = []  # Some have no list: what was declared is believed.
        except NONSENSE:
            raise client.nonsense() from None
        client.worked()
        try:
            return offered(server.name, models, server.model, server.adapters)
        except NONSENSE:
            raise client.nonsense() from None
