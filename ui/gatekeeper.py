"""Who may talk to the page: refuses foreign hosts and origins before anything runs."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterable
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from errors import CounterpointError
from strict_json import show

LOCAL = frozenset({"localhost", "127.0.0.1", "::1"})
EVERYWHERE = frozenset({"0.0.0.0", "::"})

# Answers may hold Markdown images: nothing is fetched from elsewhere, whatever a model writes.
# Gradio's own page needs inline scripts and evaluation.
_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; font-src 'self' data:; "
    "connect-src 'self'; media-src 'self' data: blob:; worker-src 'self' blob:; object-src 'none'; "
    "base-uri 'self'; form-action 'self'; frame-ancestors 'none'"
)
MAX_BODY = 8 * 1024**2
"""Bytes of a request: a page's whole state, six conversations and their drafts, is far below it."""

_HEADERS = {
    "content-security-policy": _POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}

Refusal = Callable[[int, str], Response]
"""(status, what is wrong) to the answer that says so."""


class Gatekeeper:
    """ASGI middleware.

    A request whose Host is not one of `hosts` is refused: a foreign name that resolves to this machine is DNS
    rebinding. `hosts` None lets every name in. A request with an Origin must come from the very host and port it goes to.
    """

    def __init__(self, app: ASGIApp, hosts: Iterable[str] | None, refusal: Refusal | None = None) -> None:
        """`refusal` gives the answer to who asks beside the page, under /v1."""
        self._app = app
        self._refusal = refusal
        self._hosts = None if hosts is None else frozenset(host.lower() for host in hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        if _too_large(scope):
            # Gradio would read it whole, and write it whole into its log when it makes no sense.
            await self._refused(scope, 413, "More was sent than a question needs: refused.")(
                scope, receive, send
            )
            return
        problem = self._problem(Headers(scope=scope))
        if problem:
            if scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": 1008})
                return
            await self._refused(scope, 403, problem)(scope, receive, send)
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers[name] = value
            await send(message)

        await self._app(scope, receive, with_headers)

    def _refused(self, scope: Scope, status: int, problem: str) -> Response:
        """In the API's shape to who asks the API, whose clients read nothing else."""
        if self._refusal and scope["path"].startswith("/v1"):
            return self._refusal(status, problem)
        return PlainTextResponse(problem + "\n", status)

    def _problem(self, headers: Headers) -> str | None:
        host = headers.get("host", "")
        if self._hosts is not None and host_name(host) not in self._hosts:
            return "This host name is not one that Counterpoint serves: open the address that it printed."
        origins = headers.getlist("origin")
        if any(_netloc(origin) != host.lower() for origin in origins):
            return "Another web page tried to use Counterpoint: refused."
        if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none", "same-site"):
            # A link on another page may open this one, but nothing else of it.
            navigation = (
                headers.get("sec-fetch-mode") == "navigate" and headers.get("sec-fetch-dest") == "document"
            )
            if not navigation:
                return "Another web page tried to use Counterpoint: refused."
        return None


def _too_large(scope: Scope) -> bool:
    """Whether a request other than an upload, which has a limit of its own, announces too large a body."""
    if scope["type"] != "http" or scope["path"].rstrip("/").endswith("/upload"):
        return False
    headers = Headers(scope=scope)
    length = headers.get("content-length", "0")
    chunked = "chunked" in headers.get("transfer-encoding", "").lower()
    return chunked or not length.isdigit() or int(length) > MAX_BODY


def _netloc(origin: str) -> str | None:
    """The host and port of an Origin; None for what is none at all."""
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return None


def host_name(host: str) -> str:
    """The name in a Host header, without its port; empty where it is none."""
    try:
        return (urlsplit(f"//{host}").hostname or "").lower()
    except ValueError:
        return ""


def allowed_hosts(bound: str, public: Iterable[str] = ()) -> frozenset[str] | None:
    """The names under which a server bound to this address may be asked for, those of a proxy in front of it
    (`public`) among them; None for any, where it is bound to every address of its machine: it may have any name then,
    and whoever asks has to show a key."""
    name = bound.strip("[]").lower()
    if name in EVERYWHERE:
        return None
    own = LOCAL.union(public)
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return own | {name}
    return own if address.is_loopback else own | {name}


def public_names(text: str) -> frozenset[str]:
    """The host names in `text`, which has commas between them, as browsers write them.

    Raises CounterpointError for what is no host's name.
    """
    names = {name for part in text.split(",") if (name := part.strip().lower())}
    wrong = next((name for name in sorted(names) if not _is_name(name)), None if names else text)
    if wrong is not None:
        raise CounterpointError(
            f"--public-host {show(wrong)}: give the name alone under which a proxy serves the page, like "
            "counterpoint.example.org, without https:// and port; commas between several."
        )
    return frozenset(names)


_NAME = re.compile(
    r"(?=.{1,253}\Z)(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)*[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
)


def _is_name(name: str) -> bool:
    """Whether it is an IPv4 address, or a name that cannot be taken for one."""
    if name.rpartition(".")[2].isdigit():
        try:
            return bool(ipaddress.IPv4Address(name))
        except ValueError:
            return False
    return _NAME.fullmatch(name) is not None
