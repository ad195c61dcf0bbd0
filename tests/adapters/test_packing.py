"""An export as one file, made by the command in a process of its own."""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path

import pytest

from adapters.packing import Exporter
from errors import CounterpointError, WorkFailed
from tests.adapters.folders import CONFIG, WEIGHTS
from tests.comparison.conftest import lay_out

ROOT = Path(__file__).parents[2]


@pytest.fixture
def exporter(tiny_base: Path, tiny_adapters: dict[str, Path], tmp_path: Path) -> Exporter:
    data = lay_out(tmp_path / "data", tiny_adapters)
    command = [sys.executable, str(ROOT / "app.py"), "export-adapter"]
    return Exporter([*command, "--base", str(tiny_base), "--data-dir", str(data)])


def test_the_file_holds_the_exported_folder_and_says_what_stayed_behind(
    exporter: Exporter, tiny_adapters: dict[str, Path], tmp_path: Path
) -> None:
    into = tmp_path / "cache"
    into.mkdir()
    packed = exporter.pack("one", "ollama", "socratic-tutor", into)
    assert packed.file.name == "one-ollama.zip"
    with zipfile.ZipFile(packed.file) as archive:
        names = set(archive.namelist())
        assert {"one-ollama/Modelfile", f"one-ollama/adapter/{CONFIG}"} <= names
        told = archive.read("one-ollama/Modelfile").decode()
        weights = archive.read(f"one-ollama/adapter/{WEIGHTS}")
    assert "ADAPTER ./adapter" in told
    assert "SYSTEM" in told
    assert weights == (tiny_adapters["one"] / WEIGHTS).read_bytes()
    assert packed.left
    again = exporter.pack("one", "peft", None, into)
    assert again.left == ()
    assert {path.name for path in into.glob("*/*")} == {"one-ollama.zip", "one-peft.zip"}


def test_what_the_command_refuses_is_told_in_its_words_and_leaves_nothing(
    exporter: Exporter, tmp_path: Path
) -> None:
    into = tmp_path / "cache"
    into.mkdir()
    for asked, told in (
        (("nobody", "peft", None), "nobody"),
        (("one", "peft", "socratic-tutor"), "has no place for a persona"),
    ):
        with pytest.raises(CounterpointError, match=told):
            exporter.pack(*asked, into)
    assert list(into.iterdir()) == []


def test_a_process_that_is_ended_is_told_with_the_mend(tmp_path: Path) -> None:
    ended = Exporter([sys.executable, "-c", "import os; os.kill(os.getpid(), 9)"])
    with pytest.raises(WorkFailed, match="for want of memory"):
        ended.pack("one", "merged", None, tmp_path)
    assert list(tmp_path.iterdir()) == []
