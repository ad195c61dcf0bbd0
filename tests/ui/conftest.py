"""Stores on the personas that ship, with an empty data folder and no adapters."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import gradio as gr
import pytest

from adapters.packing import Exporter
from adapters.store import AdapterStore
from adapters.training.runs import RunStore
from backends.contract import BaseFacts
from comparison.backends import Backends
from comparison.live import Comparison
from comparison.measure.runs import Runs
from comparison.modes import Catalogue
from logbook.logbook import Logbook
from personas.store import PersonaStore
from tests.comparison.measure.conftest import SUITE
from tests.comparison.measure.kit import Kit
from tests.ui.scripted import ScriptedBackend, no_instruments
from ui.measure import Measure
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
            Logbook(tmp_path),
            Runs(tmp_path, comparison, no_instruments),
        )

    return make


@pytest.fixture
def measuring_parts(
    parts_with: Callable[[ScriptedBackend], Parts], tiny_base: Path, tmp_path: Path
) -> Iterator[Callable[[ScriptedBackend], Parts]]:
    """Makes parts that can measure, and have the tiny base's adapters of a library in the data folder."""
    with ExitStack() as opened:

        def make(backend: ScriptedBackend) -> Parts:
            simple = parts_with(backend)
            facts = BaseFacts("some/base", tiny_base, "ab" * 32, ("en",), {})
            adapters = AdapterStore(tmp_path / "library", tmp_path, lambda: facts)
            catalogue = Catalogue(simple.personas, adapters, simple.backends)
            comparison = Comparison(catalogue)
            measurements = Runs(tmp_path, comparison, Kit)
            opened.callback(measurements.close)
            return replace(
                simple,
                adapters=adapters,
                catalogue=catalogue,
                comparison=comparison,
                measurements=measurements,
            )

        yield make


@pytest.fixture
def tab(parts: Parts) -> Iterator[Measure]:
    """The Measure tab of the test's own `parts`."""
    with gr.Blocks(analytics_enabled=False):
        yield Measure(parts)


@pytest.fixture
def own(tmp_path: Path) -> str:
    """A small suite of one's own."""
    path = tmp_path / "foxes.yaml"
    path.write_text(SUITE)
    return str(path)
