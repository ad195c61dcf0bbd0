"""The Adapters tab: what is said after an import."""

from __future__ import annotations

from pathlib import Path

import gradio as gr
import pytest

from adapters.safetensors_header import read_header
from adapters.store import AdapterStore
from backends.contract import BaseFacts
from comparison.backends import Backends
from comparison.live import Comparison
from comparison.modes import Catalogue
from personas.store import PersonaStore
from tests import tiny
from tests.ui.scripted import ScriptedBackend
from ui import adapters as tab
from ui import markup
from ui.parts import Parts
from ui.words import say

PROBLEM = "Adapter faint has no effect: train it again."


class Doubtful(ScriptedBackend):
    def probe(self, adapter: str) -> str | None:
        return PROBLEM


def test_an_import_that_the_engine_finds_useless_is_called_unusable_and_nothing_else(
    tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tiny.make_adapter(tmp_path / "faint", tiny_base, scale=1e-4)
    shapes = {
        name.removesuffix(".weight"): one.shape
        for name, one in read_header(tiny_base / "model.safetensors").items()
    }
    linears = {name: (shape[0], shape[1]) for name, shape in shapes.items() if name.endswith("_proj")}
    facts = BaseFacts("some/base", tiny_base, "ab" * 32, ("en",), linears)
    store = AdapterStore(tmp_path / "library", tmp_path / "data", lambda: facts)
    backends = Backends(Doubtful(lambda requests: iter(())))
    catalogue = Catalogue(PersonaStore(tmp_path / "personas", tmp_path / "data"), store, backends)
    parts = Parts(catalogue.personas, store, catalogue, Comparison(catalogue))
    warned: list[str] = []
    monkeypatch.setattr(tab, "warn", warned.append)
    with gr.Blocks():
        page = tab.Adapters(parts)
    found = page._bring(str(folder), None, "", True)[0]
    assert warned == [PROBLEM]
    assert f"faint: {say('state_unusable')}" in found
    assert markup.plain(PROBLEM) in found
    assert found == tab.findings(store.get("faint").inspection)
