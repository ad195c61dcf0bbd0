"""Which base a name means, and what must be known of it before it is loaded."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from backends.local import fetch
from errors import CounterpointError
from tests.backends.errors import cut, one_line

ROOT = Path(__file__).resolve().parents[2]
NOWHERE = "http://127.0.0.1:9"
"""Nobody listens there: whoever needs the network fails."""


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


@pytest.mark.parametrize(
    "name", ["no/such/folder", "/no/such", "./nothing", "~/no-such", "nothing", "~nobody/model", "foo bar/x"]
)
def test_a_folder_that_is_not_there_is_one_line(name: str, tmp_path: Path) -> None:
    with pytest.raises(CounterpointError, match=r"there is no such folder\. Give a model folder") as raised:
        fetch.locate(name, tmp_path)
    one_line(raised)


def replace_header(path: Path, header: bytes) -> None:
    path.write_bytes(len(header).to_bytes(8, "little") + header)


def shard(folder: Path, *numbers: int) -> None:
    """Leaves only these of three shards, and no index."""
    for number in numbers:
        shutil.copy(folder / "model.safetensors", folder / f"model-{number:05}-of-00003.safetensors")
    (folder / "model.safetensors").unlink()


@pytest.mark.parametrize(
    ("broken", "told"),
    [
        (lambda folder: (folder / "model.safetensors").unlink(), "lacks model.safetensors: fetch it again"),
        (lambda folder: (folder / "config.json").unlink(), "lacks config.json: fetch it again"),
        (
            lambda folder: (folder / "model.safetensors.index.json").write_text(
                '{"weight_map": {"a": "model.safetensors", "b": "model-2.safetensors"}}'
            ),
            "lacks model-2.safetensors: fetch it again",
        ),
        (lambda folder: shard(folder, 2), "lacks model.safetensors.index.json, model-00001-of-00003.safetensors, "
                                          "model-00003-of-00003.safetensors: fetch it again"),
        (lambda folder: shard(folder, 1, 2, 3), "lacks model.safetensors.index.json: fetch it again"),
        (lambda folder: (folder / "model.safetensors").rename(folder / "adapter_model.safetensors"),
         "lacks model.safetensors: fetch it again"),
        (lambda folder: [(folder / "model.safetensors").unlink(),
                         (folder / "model.safetensors").symlink_to("nowhere")],
         "lacks model.safetensors: fetch it again"),
        (lambda folder: cut(folder / "model.safetensors", 0), "cut short: fetch it again"),
        (lambda folder: cut(folder / "model.safetensors", 5), "cut short: fetch it again"),
        (lambda folder: cut(folder / "model.safetensors", 300), "cut short: fetch it again"),
        (lambda folder: cut(folder / "model.safetensors", 100_000), "cut short: fetch it again"),
        (lambda folder: replace_header(folder / "model.safetensors", b"[]"), "is not a safetensors file"),
        (lambda folder: replace_header(folder / "model.safetensors", b'{"a": 1}'), "is not a safetensors"),
        (lambda folder: (folder / "model.safetensors").write_text("version https://git-lfs"), "is not a"),
    ],
    ids=["no-weights", "no-config", "no-shard", "one-shard", "no-index", "others-weights", "lost-blob",
         "empty", "no-length", "half-header", "half-data", "list", "number",
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
from typing import Any
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


@pytest.mark.parametrize(
    "without",
    ["config.json", "model.safetensors", "model-00002-of-00002.safetensors", "model.safetensors.index.json"],
)
def test_a_hub_id_whose_fetch_was_interrupted_is_not_taken_for_whole(
    tiny_base: Path, tmp_path: Path, without: str
) -> None:
    base = Path(shutil.copytree(tiny_base, tmp_path / "base"))
    if without.endswith(("of-00002.safetensors", "index.json")):
        names = [f"model-0000{number}-of-00002.safetensors" for number in (1, 2)]
        for name in names:
            shutil.copy(base / "model.safetensors", base / name)
        (base / "model.safetensors").unlink()
        index = {"weight_map": dict(zip("ab", names, strict=True))}
        (base / "model.safetensors.index.json").write_text(json.dumps(index))
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
