"""Stores on the personas that ship, with an empty data folder and no adapters."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from adapters.packing import Exporter
from adapters.store import AdapterStore
from adapters.training.runs import RunStore
from backends.contract import BaseFacts
from comparison.backends import Backends
from comparison.live import Comparison
from comparison.measure.runs import Runs
from comparison.modes import Catalogue
from logbook.ratings import Ratings
from personas.store import PersonaStore
from tests.ui.scripted import ScriptedBackend, no_instruments
from ui.parts import Parts

ROOT = Path(__file__).parents[2]


@pytest.fixture
def parts_with(tmp_path: Path) -> Callable[[ScriptedBackend], Parts]:
    """Makes the page's parts around a backend."""

    def make(backend: ScriptedBackend) -> Parts:
        facts = BaseFacts("some/base", tmp_path, "ab" * 32, ("en",), {})
        personas = PersonaStore(ROOT / "personas" / "library", tmp_path)
        adapters = AdapterStore(tmp_path / "none", tmp_path, lambda: facts)
        catalogue = Catalogue(personas, adapters, Backends(backend))
        comparison = Comparison(catalogue)
        return Parts(
            personas,
            adapters,
            catalogue,
            comparison,
            RunStore(tmp_path, ["false"]),
            Exporter(["false"]),
            Ratings(tmp_path),
            Runs(tmp_path, comparison, no_instruments),
        )

    return make
