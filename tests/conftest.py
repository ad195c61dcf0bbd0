"""Fixtures that every room's tests share. What they give is read-only: copy before changing it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

# The tiny base is fastest on one thread; what runs the real base takes this away again.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from tests import tiny
from tests.command_line import Place
from tests.comparison.conftest import TELLER


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny random base model and its tokenizer."""
    return tiny.make_base(tmp_path_factory.mktemp("tiny") / "base")


@pytest.fixture(scope="session")
def tiny_adapters(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Three adapters for the tiny base: "one" and "two" on all linears, "narrow" of rank 2 on two of them."""
    folder = tmp_path_factory.mktemp("adapters")
    return {
        "one": tiny.make_adapter(folder / "one", tiny_base, seed=1),
        "two": tiny.make_adapter(folder / "two", tiny_base, seed=2, rank=8),
        "narrow": tiny.make_adapter(
            folder / "narrow", tiny_base, seed=3, rank=2, scale=1.0, targets=("q_proj", "v_proj")
        ),
    }


@pytest.fixture(scope="module")
def place(tiny_base: Path, tiny_adapters: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Place:
    folder = tmp_path_factory.mktemp("app")
    shutil.copytree(tiny_adapters["one"], folder / "data" / "adapters" / "one")
    broken = Path(shutil.copytree(tiny_adapters["two"], folder / "data" / "adapters" / "broken"))
    tiny.edit_config(broken, use_dora=True)
    (folder / "data" / "personas").mkdir()
    (folder / "data" / "personas" / "teller.yaml").write_text(TELLER)
    (folder / "elsewhere").mkdir()
    return Place(tiny_base, folder / "data", folder / "elsewhere")
