"""A small real HTTP server that answers as it is told to: what a backend makes of faults is tested against it."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

BASE = "org/base"


class Call:
    """One request to /chat/completions, and what a script may do with it."""

    def __init__(self, handler: BaseHTTPRequestHandler, body: dict[str, Any], server: ScriptedServer):
        self.body = body
        self.server = server
        self.path = handler.path
        self.number = len(server.asked)
        self.key = handler.headers.get("Authorization")
        self._handler = handler

    def hang_up(self) -> None:
        """Leaves without a word."""
        self._handler.close_connection = True

    def status(self, code: int, body: str, kind: str = "application/json", **headers: str) -> None:
        data = body.encode()
        self._handler.send_response(code)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(data)), **headers}.items():
            self._handler.send_header(name.replace("_", "-"), value)
        self._handler.end_headers()
        self._handler.wfile.write(data)

    def begin(self, kind: str = "text/event-stream") -> None:
        self._handler.send_response(200)
        self._handler.send_header("Content-Type", kind)
        self._handler.send_header("Connection", "close")
        self._handler.end_headers()
        self._handler.close_connection = True

    def write(self, data: bytes) -> None:
        """Bytes as they are."""
        self._handler.wfile.write(data)
        self._handler.wfile.flush()

    def trickle(self, data: bytes) -> None:
        """The same bytes at a steady pace for ever, until the client leaves."""
        self.hang_up()
        while not self.server.over.wait(0.02):
            self.write(data)

    def event(self, data: Any) -> None:
        text = data if isinstance(data, str) else json.dumps(data)
        self.write(f"data: {text}\n\n".encode())

    def text(self, text: str | None, finish_reason: str | None = None, **more: Any) -> None:
        delta = {} if text is None else {"content": text}
        choice = {"index": 0, "delta": delta, "finish_reason": finish_reason, **more}
        self.event(
            {"id": "1", "object": "chat.completion.chunk", "model": self.body["model"], "choices": [choice]}
        )

    def usage(self, prompt: int, completion: int) -> None:
        told = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
        self.event(
            {
                "id": "1",
                "object": "chat.completion.chunk",
                "model": self.body["model"],
                "choices": [],
                "usage": told,
            }
        )

    def answer(self, *pieces: str) -> None:
        """A whole sound answer."""
        self.begin()
        for piece in pieces:
            self.text(piece)
        self.text(None, "stop")
        self.usage(11, len(pieces))
        self.event("[DONE]")


Script = Callable[[Call], None]


class ScriptedServer:
    """What was asked of it, and what it says; `other` answers what is posted elsewhere than to
    /chat/completions, `listed` what is got; `gone` is set when a client left before the end."""

    def __init__(self, script: Script, models: Sequence[dict[str, Any]]):
        self.script = script
        self.models: Any = list(models)
        self.other: Script = lambda call: call.status(404, '{"error": {"message": "no such page"}}')
        self.asked: list[dict[str, Any]] = []
        self.posted: list[tuple[str, dict[str, Any]]] = []
        self.listed: Script = lambda call: call.status(
            200, json.dumps({"object": "list", "data": self.models})
        )
        self.keys: list[str | None] = []
        self.headers: list[dict[str, str]] = []
        """What every request brought, by names in small letters."""
        self.gone = threading.Event()
        self.over = threading.Event()
        """Set when the server itself is over."""
        self.url = ""


@contextmanager
def serving(
    script: Script, models: Sequence[dict[str, Any]] | None = None, port: int = 0
) -> Iterator[ScriptedServer]:
    told = ScriptedServer(script, models or [{"id": BASE, "object": "model", "owned_by": "vllm"}])

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None:
            return None

        def do_GET(self) -> None:
            self._note()
            self._answer(told.listed, Call(self, {}, told))

        def _answer(self, script: Script, call: Call) -> None:
            try:
                script(call)
            except (BrokenPipeError, ConnectionResetError):
                self.close_connection = True
                told.gone.set()

        def _note(self) -> None:
            told.headers.append({name.lower(): value for name, value in self.headers.items()})

        def do_POST(self) -> None:
            self._note()
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if not self.path.endswith("/chat/completions"):
                told.posted.append((self.path, body))
                return self._answer(told.other, Call(self, body, told))
            told.asked.append(body)
            call = Call(self, body, told)
            told.keys.append(call.key)
            return self._answer(told.script, call)

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    server.daemon_threads = True
    told.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield told
    finally:
        told.over.set()
        server.shutdown()
        server.server_close()
        thread.join()
