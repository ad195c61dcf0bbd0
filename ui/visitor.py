"""Who looks at a page that others reach too: each browser has a code of its own, in a cookie that no script reads."""

from __future__ import annotations

import re
import secrets
from http.cookies import CookieError, SimpleCookie

from gradio.context import LocalContext
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

COOKIE = "counterpoint_visitor"
_YEAR_S = 365 * 24 * 3600
_CODE = re.compile(r"[0-9a-f]{32}")


class Visitors:
    """Gives a browser that opens the page its code, unless it has one."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] != "/" or _code(Headers(scope=scope).get("cookie", "")):
            await self._app(scope, receive, send)
            return
        proxied = Headers(scope=scope).get("x-forwarded-proto", scope.get("scheme", "http"))
        secure = "; Secure" if proxied == "https" else ""
        cookie = (
            f"{COOKIE}={secrets.token_hex(16)}; Path=/; Max-Age={_YEAR_S}; HttpOnly; SameSite=Lax{secure}"
        )

        async def with_cookie(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).append("set-cookie", cookie)
            await send(message)

        await self._app(scope, receive, with_cookie)


def person() -> str:
    """What the logbook calls who asks: the browser's code, or without one what the page that is open is known by.

    To be called where an event of the page is handled. Nobody guesses another's: each has 128 random bits.
    """
    request = LocalContext.request.get(None)
    if request is None:
        return secrets.token_hex(16)  # nobody else's
    return _code(request.headers.get("cookie", "")) or f"page-{request.session_hash}"


def _code(cookies: str) -> str | None:
    try:
        found = SimpleCookie(cookies).get(COOKIE)
    except CookieError:
        return None
    return found.value if found and _CODE.fullmatch(found.value) else None
