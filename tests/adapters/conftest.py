"""What the tests of this room start from: a sound adapter in a folder of its own, to break one thing in."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from adapters.safetensors_header import read_header
from backends.contract import BaseFacts
from tests.adapters.small_run import RECIPE, row


@pytest.fixture(scope="session")
def base(tiny_base: Path) -> BaseFacts:
    """The facts of the tiny base, under the id of a real one, so that names can agree and disagree."""
    tensors = read_header(tiny_base / "model.safetensors")
    linears = {
        name.removesuffix(".weight"): (tensor.shape[0], tensor.shape[1])
        for name, tensor in tensors.items()
        if len(tensor.shape) == 2 and "embed" not in name
    }
    return BaseFacts("HuggingFaceTB/SmolLM2-135M-Instruct", tiny_base, "ab" * 32, ("en",), linears)


@pytest.fixture
def adapter(tiny_adapters: dict[str, Path], tmp_path: Path) -> Path:
    """A sound adapter (rank 4, alpha 8, all linears) that the test may break."""
    return Path(shutil.copytree(tiny_adapters["one"], tmp_path / "one"))


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    data = tmp_path / "data"
    data.mkdir()
    pairs = [("a fox?", "jumps"), ("a dog?", "is lazy"), ("an order?", "ships"), ("a bridge?", "opens today")]
    (data / "train.jsonl").write_text("".join(row(*pair) for pair in pairs))
    (data / "heldout.jsonl").write_text(row("the quick fox?", "jumps") + row("the dog?", "is lazy"))
    path = tmp_path / "recipe.yaml"
    path.write_text(RECIPE)
    return path
