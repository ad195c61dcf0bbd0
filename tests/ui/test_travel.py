"""The fold of the Personas tab that imports and exports."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import gradio as gr
import pytest

from errors import CounterpointError
from personas.travel.formats import FORMATS, read_file
from tests.personas.cards import CARD, as_json, with_data
from tests.ui.scripted import ScriptedBackend
from ui import page
from ui.parts import Parts
from ui.personas import Personas, picker_updates
from ui.rating import rate
from ui.transcript import PaneState, Turn

PartsWith = Callable[[ScriptedBackend], Parts]


@pytest.fixture
def parts(parts_with: PartsWith) -> Parts:
    return parts_with(ScriptedBackend(lambda requests: iter(())))


@pytest.fixture
def personas(parts: Parts) -> Personas:
    with gr.Blocks():
        return Personas(parts, gr.State({}))


@pytest.fixture
def upload(tmp_path: Path) -> Path:
    file = tmp_path / "ann.card.json"
    file.write_bytes(as_json(CARD))
    return file


def test_an_imported_persona_is_selected_listed_and_in_every_picker(
    parts: Parts, personas: Personas, upload: Path
) -> None:
    file, name, report, texts, drafts, listed, tags, opened, about, *_ = personas._import(
        str(upload), "", False, {}, {}
    )
    assert (file, name) == (None, ""), "there is room for another"
    assert "system\\_prompt → instructions" in report
    assert "alternate\\_greetings" in report
    assert (texts, drafts) == ({}, {})
    assert listed.value == opened == "ann-lee"
    assert "ann-lee" in [name for _, name in listed.choices]
    assert "sci-fi" in [name for _, name in tags.choices]
    assert "Ann Lee" in about
    for picker in picker_updates(parts, "base", "base"):
        assert "persona:ann-lee" in [mode for _, mode in picker.choices]
    assert parts.personas.get("ann-lee").title == "Ann Lee"


def test_what_a_file_says_is_never_markup(parts: Parts, personas: Personas, tmp_path: Path) -> None:
    file = tmp_path / "x.json"
    file.write_bytes(with_data(name="<b>Ann</b>", extensions={"<script>": 1}))
    report = personas._import(str(file), "ann", False, {}, {})[2]
    for shown in (report, personas._about("ann", False, parts.personas.get("ann"))):
        assert "\\<" in shown
        assert not re.search(r"(?<!\\)<", shown)


def test_a_name_that_is_taken_is_kept_unless_told_to_replace_it(
    parts: Parts, personas: Personas, upload: Path
) -> None:
    before = parts.personas.text("support-desk")
    with pytest.raises(CounterpointError, match="already"):
        personas._import(str(upload), "support-desk", False, {}, {})
    assert parts.personas.text("support-desk") == before
    drafts = {"support-desk": parts.personas.get("support-desk")}
    values = personas._import(str(upload), " support-desk ", True, {"support-desk": "old"}, drafts)
    assert values[3:5] == [{}, {}], "an edit of what was replaced does not come back"
    assert parts.personas.get("support-desk").title == "Ann Lee"


def test_an_import_of_nothing_or_of_a_bad_file_saves_nothing(
    parts: Parts, personas: Personas, tmp_path: Path
) -> None:
    (tmp_path / "bad.json").write_text("{")
    before = [entry.name for entry in parts.personas.list()]
    for file in (None, str(tmp_path / "bad.json"), str(tmp_path / "gone.json")):
        with pytest.raises(CounterpointError):
            personas._import(file, "", False, {}, {})
    assert [entry.name for entry in parts.personas.list()] == before


@pytest.mark.parametrize("to", FORMATS)
def test_an_exported_file_can_be_downloaded_and_imported_again(
    parts: Parts, personas: Personas, to: str
) -> None:
    _, button = personas.travel.send_out("support-desk", to, {})
    assert button.visible
    path = Path(button.value["path"] if isinstance(button.value, dict) else button.value)
    assert path.name == "support-desk" + FORMATS[to].ending
    assert path.is_relative_to(personas.travel.download.GRADIO_CACHE)
    assert read_file(path).persona == parts.personas.get("support-desk")


def test_an_export_is_of_the_persona_as_it_answers_now(parts: Parts, personas: Personas) -> None:
    draft = parts.personas.get("support-desk").model_copy(update={"title": "Edited"})
    _, button = personas.travel.send_out("support-desk", "yaml", {"support-desk": draft})
    path = button.value["path"] if isinstance(button.value, dict) else button.value
    assert read_file(Path(path)).persona == draft
    with pytest.raises(CounterpointError, match="choose one"):
        personas.travel.send_out(None, "yaml", {})


def test_answers_that_were_rated_good_are_rows_of_the_dataset(
    parts: Parts, personas: Personas, tmp_path: Path
) -> None:
    receipt = {"seed": 1}
    answered = Turn("Do you ship?", "persona:support-desk", "", "prompted", "done", "We do.", receipt=receipt)
    rate(parts.logbook.ratings, PaneState((answered,), "run"), "good")
    notes, button = personas.travel.send_out("support-desk", "dataset", {})
    assert "answers rated good \\(1\\)" in notes
    path = button.value["path"] if isinstance(button.value, dict) else button.value
    assert json.loads(Path(path).read_text().splitlines()[-1])["messages"] == [
        {"role": "user", "content": "Do you ship?"},
        {"role": "assistant", "content": "We do."},
    ]


def test_on_a_public_page_nobody_takes_what_others_asked(parts: Parts) -> None:
    answered = Turn("Do you ship?", "persona:support-desk", "", "prompted", "done", "We do.")
    rate(parts.logbook.ratings, PaneState((answered,), "run"), "good")
    with gr.Blocks():
        public = Personas(replace(parts, public=True), gr.State({}))
    _, button = public.travel.send_out("support-desk", "dataset", {})
    path = button.value["path"] if isinstance(button.value, dict) else button.value
    assert "We do." not in Path(path).read_text()


def test_an_import_is_followed_by_the_pickers_of_every_tab(parts: Parts) -> None:
    built = page.build(parts)
    button = next(each for each in built.blocks.values() if each.elem_id == "persona-import")
    steps = [next(fn for fn in built.fns.values() if (button._id, "click") in fn.targets)]
    while following := [fn for fn in built.fns.values() if fn.trigger_after == steps[-1]._id]:
        steps += following
    *before, after = steps
    pickers = [output for output in after.outputs if isinstance(output, gr.Dropdown)]
    assert len(pickers) == 7, "six panes and Chat"
    assert not any(isinstance(output, gr.HTML) for step in before for output in step.outputs)
