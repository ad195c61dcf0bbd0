"""The whole app with keys: it starts, and shows nothing without one."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx

from tests import tiny

ROOT = Path(__file__).parents[1]
KEY = "a-key-of-24-characters--"
START_S = 240


def test_with_keys_the_app_starts_and_neither_page_nor_api_answers_without_one(tmp_path: Path) -> None:
    base = tiny.make_base(tmp_path / "base")
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    command = [sys.executable, "app.py", "serve", "--host", "0.0.0.0", "--port", str(port)]
    command += ["--base", str(base), "--quantization", "none", "--data-dir", str(tmp_path / "data")]
    log = tmp_path / "log"
    with log.open("wb") as file:
        environment = {
            **os.environ,
            "COUNTERPOINT_API_KEYS": KEY,
            "COUNTERPOINT_CACHE_DIR": str(tmp_path / "cache"),
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
        for path in ("/", "/v1/models", "/config", "/metrics", "/gradio_api/info"):
            assert httpx.get(address + path).status_code == 401, path
        assert "Counterpoint" in httpx.get(address, auth=("me", KEY)).text
        bearer = {"Authorization": f"Bearer {KEY}", "Host": "counterpoint.example.org"}
        models = httpx.get(f"{address}/v1/models", headers=bearer).json()["data"]
        assert "base" in {model["id"] for model in models}
    finally:
        process.terminate()
        process.wait(60)
    assert KEY not in log.read_text()
