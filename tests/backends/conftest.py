"""The tiny base in memory, and sources for its adapters."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from adapters.validator import inspect
from backends.contract import AdapterSource
from backends.local.base_model import BaseModel, load
from backends.local.fetch import locate


@pytest.fixture(scope="session")
def sources(
    tiny_base: Path, tiny_adapters: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> dict:
    """The tiny adapters as a backend takes them, after the validator has passed them."""
    facts = locate(str(tiny_base), tmp_path_factory.mktemp("cache"))
    found: dict[str, AdapterSource] = {}
    for name, folder in tiny_adapters.items():
        inspection = inspect(folder, facts, name=name)
        assert inspection.source is not None, inspection.problems
        found[name] = inspection.source
    return found


@pytest.fixture(scope="session")
def plain(tiny_base: Path, sources: dict[str, AdapterSource]) -> BaseModel:
    """The tiny base in float32 with all its adapters loaded."""
    base = load(tiny_base, "none", "auto")
    for source in sources.values():
        base.rows.load(source, set())
    return base


@pytest.fixture
def threads() -> Iterator[Callable[[int], None]]:
    """Sets how many threads compute, for the test's while."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)
