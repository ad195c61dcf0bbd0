"""The Adapters tab: what is said after an import."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import gradio as gr
import pytest

from adapters.safetensors_header import read_header
from backends.contract import BaseFacts
from errors import CounterpointError
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
    tiny_base: Path,
    tmp_path: Path,
    parts_with: Callable[[ScriptedBackend], Parts],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = tiny.make_adapter(tmp_path / "faint", tiny_base, scale=1e-4)
    shapes = {name: tensor.shape for name, tensor in read_header(tiny_base / "model.safetensors").items()}
    linears = {
        name.removesuffix(".weight"): (shape[0], shape[1])
        for name, shape in shapes.items()
        if "_proj" in name
    }
    parts = parts_with(Doubtful(lambda requests: iter(())))
    facts = BaseFacts("some/base", tiny_base, "ab" * 32, ("en",), linears)
    monkeypatch.setattr(parts.adapters, "_base", lambda: facts)
    warned: list[str] = []
    monkeypatch.setattr(tab, "warn", warned.append)
    with gr.Blocks():
        page = tab.Adapters(parts)
    found = page._bring(str(folder), None, "", True, False)[0]
    assert warned == [PROBLEM]
    assert f"faint: {say('state_unusable')}" in found
    assert markup.plain(PROBLEM) in found
    assert found == tab.findings(parts.adapters.get("faint").inspection)


def test_a_page_that_is_served_to_others_reads_no_folder_of_its_machine(
    tmp_path: Path, parts_with: Callable[[ScriptedBackend], Parts]
) -> None:
    parts = dataclasses.replace(parts_with(ScriptedBackend(lambda requests: iter(()))), public=True)
    with gr.Blocks():
        page = tab.Adapters(parts)
    assert not page.path.visible
    for told in (page._check, page._bring):
        with pytest.raises(CounterpointError, match="no folder of its machine is read"):
            told(str(tmp_path), None, "", False, False)
