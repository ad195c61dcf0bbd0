"""The whole app with keys: it starts, and shows nothing without one."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from logbook.logbook import Logbook
from tests import tiny
from ui.visitor import COOKIE
from ui.words import say

ROOT = Path(__file__).parents[1]
KEY = "a-key-of-24-characters--"
START_S = 240


@contextmanager
def served(place: Path, *options: str, **variables: str) -> Iterator[tuple[str, Path]]:
    """The address of the app on the tiny base with KEY, once it is ready, and its log."""
    base = tiny.make_base(place / "base")
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    command = [sys.executable, "app.py", "serve", "--port", str(port), *options]
    command += ["--base", str(base), "--quantization", "none", "--data-dir", str(place / "data")]
    log = place / "log"
    with log.open("wb") as file:
        environment = {
            **os.environ,
            "COUNTERPOINT_API_KEYS": KEY,
            "COUNTERPOINT_CACHE_DIR": str(place / "cache"),
            **variables,
        }
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=file, stderr=subprocess.STDOUT)
    try:
        end = time.monotonic() + START_S
        status = 0
        while status != 200:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < end, log.read_text()
            try:
                status = httpx.get(f"{address}/health", timeout=60).status_code
            except httpx.TransportError:
                time.sleep(0.1)
        yield address, log
    finally:
        process.terminate()
        process.wait(60)


def test_with_keys_the_app_starts_and_neither_page_nor_api_answers_without_one(tmp_path: Path) -> None:
    with served(tmp_path, "--host", "0.0.0.0") as (address, log):
        for path in ("/", "/v1/models", "/config", "/metrics", "/gradio_api/info"):
            assert httpx.get(address + path).status_code == 401, path
        assert "Counterpoint" in httpx.get(address, auth=("me", KEY)).text
        bearer = {"Authorization": f"Bearer {KEY}", "Host": "counterpoint.example.org"}
        models = httpx.get(f"{address}/v1/models", headers=bearer).json()["data"]
        assert "base" in {model["id"] for model in models}
    assert KEY not in log.read_text()


def test_behind_a_proxy_page_and_api_answer_under_the_public_name_alone_and_the_page_is_public(
    tmp_path: Path,
) -> None:
    name = "counterpoint.example.org"
    with served(tmp_path, COUNTERPOINT_PUBLIC_HOST=name) as (address, _):
        sent = {"Host": name, "Origin": f"https://{name}", "X-Forwarded-Proto": "https"}
        assert httpx.get(f"{address}/v1/models", headers=sent).status_code == 401
        assert httpx.get(f"{address}/v1/models", headers=sent, auth=("me", KEY)).status_code == 200
        config = httpx.get(f"{address}/config", headers=sent, auth=("me", KEY)).json()
        assert config["root"] == f"https://{name}"
        assert say("servers_public") in json.dumps(config)
        foreign = ({"Host": "evil.example"}, {"Host": name, "Origin": "https://evil.example"})
        for headers in foreign:
            assert httpx.get(f"{address}/v1/models", headers=headers, auth=("me", KEY)).status_code == 403


def test_visitors_of_one_page_see_nothing_of_each_others_conversations(tmp_path: Path) -> None:
    with served(tmp_path, "--host", "0.0.0.0") as (address, _):
        visitors = [httpx.Client(base_url=address, auth=("me", KEY), timeout=60) for _ in "ab"]
        codes = []
        for visitor, question in zip(visitors, ("a fox?", "a bear?"), strict=True):
            opened = visitor.get("/")
            assert "HttpOnly; SameSite=Lax" in opened.headers["set-cookie"]
            codes.append(visitor.cookies[COOKIE])
            assert "set-cookie" not in visitor.get("/").headers, "it stays who it is"
            ask(visitor, question)
        assert len(set(codes)) == 2
    kept = Logbook(tmp_path / "data").conversations
    listed = [[one.title for one in kept.list(person=code)] for code in codes]
    assert listed == [["a fox?"], ["a bear?"]]
    assert kept.list() == []


def ask(visitor: httpx.Client, question: str) -> None:
    """In Chat, as the page does over HTTP."""
    config = visitor.get("/config").json()
    chat = next(one for one in config["dependencies"] if one["api_name"] == "chat")
    components = {one["id"]: one["props"].get("value") for one in config["components"]}
    data = [components.get(place) for place in chat["inputs"]]
    data[0] = question
    session = {"session_hash": f"session-{question[2:-1]}", "fn_index": chat["id"]}
    joined = visitor.post("/gradio_api/queue/join", json={"data": data, **session})
    assert joined.status_code == 200, joined.text
    with visitor.stream(
        "GET", "/gradio_api/queue/data", params={"session_hash": session["session_hash"]}
    ) as told:
        for line in told.iter_lines():
            if "process_completed" in line:
                assert json.loads(line.removeprefix("data: "))["success"], line
                return
    raise AssertionError("the answer never ended")
