"""Who may use a server that has keys: whoever sends one as a bearer token, or as the password of a log-in."""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Iterable, Mapping

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from api.errors import refusal
from errors import CounterpointError

VARIABLE = "COUNTERPOINT_API_KEYS"
OPEN = frozenset({"/health", "/gradio_api/startup-events"})
"""What a load balancer may ask without a key, and what Gradio asks itself when it starts."""
SHORTEST = 16


def keys(environment: Mapping[str, str]) -> tuple[str, ...]:
    """The keys of the variable, which has commas between them. Raises CounterpointError for one that is guessed."""
    found = tuple(key for part in environment.get(VARIABLE, "").split(",") if (key := part.strip()))
    if any(len(key) < SHORTEST or not key.isascii() for key in found):
        raise CounterpointError(
            f"{VARIABLE}: a key has at least {SHORTEST} plain characters; `openssl rand -hex 24` makes one."
        )
    return found


def are_set(environment: Mapping[str, str]) -> bool:
    """Whether the variable names any keys, good or bad: then others than this machine's owner are expected."""
    return bool(environment.get(VARIABLE, "").strip(", "))


class Doorkeeper:
    """ASGI middleware: without one of the keys there is no page and no API."""

    def __init__(self, app: ASGIApp, keys: Iterable[str]) -> None:
        self._app = app
        self._keys = tuple(key.encode() for key in keys)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        asks = scope["type"] in ("http", "websocket") and scope.get("path") not in OPEN
        if not asks or self._knows(Headers(scope=scope).get("authorization", "")):
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            await self._refused(scope["path"])(scope, receive, send)

    def _knows(self, authorization: str) -> bool:
        kind, _, told = authorization.partition(" ")
        if kind.lower() == "basic":
            try:
                told = base64.b64decode(told, validate=True).decode().partition(":")[2]
            except (binascii.Error, UnicodeDecodeError):
                return False
        elif kind.lower() != "bearer":
            return False
        # Every key is compared, and each in constant time: how long this takes tells nothing about them.
        return bool(sum(hmac.compare_digest(told.strip().encode(), key) for key in self._keys))

    def _refused(self, path: str) -> Response:
        message = f"This server asks for a key: send one of those in its {VARIABLE} as a bearer token."
        response = refusal(401, message, code="invalid_api_key")
        if not path.startswith("/v1"):
            response.headers["www-authenticate"] = 'Basic realm="Counterpoint", charset="UTF-8"'
        return response
