"""What the Train tab shows, from files and runs that are there; the whole way is a browser test."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import gradio as gr
import pytest

import durable
from adapters import passport
from adapters.store import AdapterStore
from adapters.training.prepare import SETTINGS, named
from adapters.training.progress import Examining, Look, Progress, Sample
from adapters.training.recipe import read as read_recipe
from adapters.training.runs import Run, RunStore
from adapters.verdict import Figure, Gate, judge
from backends.contract import BaseFacts
from errors import CounterpointError
from tests.ui.scripted import ScriptedBackend
from ui import curves, page, train, training_told, verdict
from ui.page import status_html
from ui.parts import Parts
from ui.train import NEW, Train

LIBRARY = Path(__file__).parents[2] / "adapters" / "library"


@pytest.fixture
def parts(parts_with: Callable[[ScriptedBackend], Parts], tiny_base: Path, tmp_path: Path) -> Parts:
    facts = BaseFacts("some/base", tiny_base, "ab" * 32, ("en",), {})
    adapters = AdapterStore(tmp_path / "none", tmp_path, lambda: facts)
    # A run that "ends" at once: what a tab shows of it is in its folder.
    runs = RunStore(tmp_path, ["false"])
    return dataclasses.replace(
        parts_with(ScriptedBackend(lambda requests: iter(()))), adapters=adapters, runs=runs
    )


@pytest.fixture
def tab(parts: Parts) -> Iterator[Train]:
    with gr.Blocks(analytics_enabled=False):
        yield Train(parts)


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "my_animals.csv"
    words = (
        "fox",
        "dog",
        "bridge",
        "order",
        "train",
        "river",
        "cloud",
        "stone",
        "lamp",
        "desk",
        "clock",
        "drum",
    )
    lines = [f"what is a {word} for the {number}?,it is <b>{word}</b>" for number, word in enumerate(words)]
    path.write_text("prompt,completion\n" + "\n".join(lines) + "\n")
    return path


def progress(step: int, look: Look | None = None) -> Progress:
    return Progress(step, 10, 2.0 / step, 1e-3, 100.0, 60.0, look)


def test_a_file_is_shown_as_the_base_reads_it_with_what_is_learned_marked_and_nothing_live(
    tab: Train, table: Path
) -> None:
    prepared, report, lengths, rows, start = tab._check(str(table))
    title, _ = train._guessed(str(table), "", "")
    assert "Sound rows: **12**" in report
    assert len(prepared.rows) == 12
    assert lengths.count("<rect") >= 1
    assert "<mark>it is &lt;b&gt;fox&lt;/b&gt;" in rows
    assert "<b>" not in rows
    assert title == "My animals"
    assert start.interactive


def test_what_a_person_called_it_stays_when_another_file_comes_and_a_guess_does_not() -> None:
    title, guess = train._guessed("/up/my_zoo.csv", "", "")
    assert title == guess == "My zoo"
    assert train._guessed("/up/our-farm.csv", title, guess) == ["Our farm", "Our farm"]
    assert train._guessed("/up/our-farm.csv", "Zoo", guess) == ["Zoo", guess]


def test_a_file_with_problems_is_told_with_lines_and_cannot_be_trained(tab: Train, table: Path) -> None:
    table.write_text(table.read_text() + "only a question,\n")
    prepared, report, *_, start = tab._check(str(table))
    assert "Line 14:" in report
    assert not start.interactive
    with pytest.raises(CounterpointError, match="mend them and upload it again"):
        tab._start(prepared, "Zoo", "quick", "")


def test_what_is_wrong_with_a_file_as_a_whole_is_on_no_line(tab: Train, table: Path) -> None:
    table.write_text("")
    report = tab._check(str(table))[1]
    assert "    - there is no row in it" in report


def test_nothing_to_train_on_is_told_in_one_line(tab: Train) -> None:
    with pytest.raises(CounterpointError, match="upload a file first"):
        tab._start(None, "Zoo", "quick", "")


@pytest.mark.parametrize(
    ("title", "told"),
    [("", "has no title"), ("***", "use letters from a to z"), ("x" * 201, "shorten it")],
    ids=["none", "signs", "long"],
)
def test_a_title_of_which_no_name_can_be_made_is_told(tab: Train, table: Path, title: str, told: str) -> None:
    prepared = tab._check(str(table))[0]
    with pytest.raises(CounterpointError, match=told):
        tab._start(prepared, title, "quick", "")


def test_a_title_whose_name_an_adapter_has_already_is_refused_before_anything_is_trained(
    tab: Train, parts: Parts, table: Path, tmp_path: Path, tiny_adapters: dict[str, Path]
) -> None:
    shutil.copytree(tiny_adapters["one"], tmp_path / "adapters" / "zoo")
    prepared = tab._check(str(table))[0]
    with pytest.raises(CounterpointError, match="an adapter zoo already: give this one another title"):
        tab._start(prepared, "Zoo", "quick", "")
    assert not parts.runs.list()


def test_a_run_is_begun_with_the_chosen_preset_and_its_rows_are_split(
    tab: Train, parts: Parts, table: Path, tmp_path: Path
) -> None:
    prepared = tab._check(str(table))[0]
    tab._start(prepared, "My Zoo!", "thorough", "support-desk")
    [run] = parts.runs.list()
    assert run.name == "my-zoo"
    recipe = (run.folder / "recipe.yaml").read_text()
    assert "preset: thorough" in recipe
    assert "persona: support-desk" in recipe
    assert "rank: 16" in recipe
    train, heldout = (
        [json.loads(line) for line in (run.folder / name).read_text().splitlines()]
        for name in ("train.jsonl", "heldout.jsonl")
    )
    assert len(train) + len(heldout) == 12
    assert heldout
    assert not {str(row) for row in train} & {str(row) for row in heldout}


def test_what_is_set_beside_the_preset_is_in_the_recipe_and_the_split_is_by_its_seed(
    tab: Train, parts: Parts, table: Path, tmp_path: Path
) -> None:
    prepared = tab._check(str(table))[0]
    heldout = []
    for seed in (1, 2):
        values = {"rank": "4", "batch_size": " 2.0", "learning_rate": "0,001", "seed": str(seed)}
        tab._start(prepared, f"Zoo {seed}", "quick", "", *(values.get(name, "") for name in SETTINGS))
        run = parts.runs.get(f"zoo-{seed}")
        recipe = read_recipe(run.folder / "recipe.yaml")
        assert (recipe.rank, recipe.alpha, recipe.batch_size) == (4, 8, 2)
        assert (recipe.learning_rate, recipe.seed, recipe.max_steps) == (0.001, seed, 60)
        heldout.append((run.folder / "heldout.jsonl").read_text())
    assert heldout[0] != heldout[1]


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("rank", 65, "rank: must be 64 or less"),
        ("batch_size", 1.5, "batch_size: must be a whole number"),
        ("learning_rate", 0, "learning_rate: must be above 0"),
        ("seed", -1, "seed: must be 0 or more"),
        ("passes", "many", "Passes over the rows"),
        ("passes", "nan", "Passes over the rows"),
        ("seed", "inf", "Seed"),
    ],
)
def test_a_setting_that_a_recipe_does_not_take_is_told_before_anything_is_trained(
    tab: Train, parts: Parts, table: Path, name: str, value: float | str, told: str
) -> None:
    prepared = tab._check(str(table))[0]
    with pytest.raises(CounterpointError, match=told):
        tab._start(prepared, "Zoo", "quick", "", *(str(value) if each == name else "" for each in SETTINGS))
    assert not parts.runs.list()


def test_rows_that_are_longer_than_usual_are_taken_as_far_as_the_base_reads(
    parts: Parts, table: Path, tiny_base: Path, tmp_path: Path
) -> None:
    longer = tmp_path / "longer"
    shutil.copytree(tiny_base, longer)
    config = json.loads((longer / "config.json").read_text())
    (longer / "config.json").write_text(json.dumps(config | {"max_position_embeddings": 8192}))
    base = BaseFacts("some/base", longer, "ab" * 32, ("en",), {})
    parts = dataclasses.replace(parts, adapters=AdapterStore(tmp_path / "none", tmp_path, lambda: base))
    with gr.Blocks(analytics_enabled=False):
        tab = Train(parts)
    table.write_text(table.read_text() + f"tell me all,{'a long story ' * 300}\n")
    prepared = tab._check(str(table))[0]
    longest = prepared.report.data.lengths.max
    assert longest > 512
    tab._start(prepared, "Zoo", "quick", "")
    assert read_recipe(parts.runs.get("zoo").folder / "recipe.yaml").max_length == longest


def test_an_accent_is_no_gap_in_a_name() -> None:
    assert named("Müséum: café №1") == "museum-cafe-no1"


def test_a_run_that_is_told_to_end_or_has_just_begun_says_so(tmp_path: Path) -> None:
    run = Run("zoo", tmp_path, "running", None, None, (progress(7),), title="The <zoo>")
    assert "step 7 of 10" in training_told.bar(run)
    assert training_told.about(run, False).startswith("## The \\<zoo\\>")
    assert "**training** · `adapter:zoo`" in training_told.about(run, False)
    begun = dataclasses.replace(run, beginning=True)
    assert training_told.bar(begun) == "<p>Reading the data and the base …</p>"
    assert "**stopping: the step" in training_told.about(dataclasses.replace(run, stopping=True), False)


def test_rows_of_which_too_few_can_be_held_out_are_refused_before_anything_is_trained(
    tab: Train, parts: Parts, table: Path
) -> None:
    table.write_text("\n".join(table.read_text().splitlines()[:6]) + "\n")
    with pytest.raises(CounterpointError, match="the test after training needs 3: give more rows"):
        tab._start(tab._check(str(table))[0], "Zoo", "quick", "")
    assert not parts.runs.list()


def test_a_failed_run_says_so_and_can_be_gone_on_with_or_deleted(
    tab: Train, parts: Parts, table: Path
) -> None:
    tab._start(tab._check(str(table))[0], "Zoo", "quick", "")
    parts.runs.stop("zoo")
    (parts.runs.get("zoo").folder / "errors.txt").write_text("counterpoint: the disk is full: make room.\n")
    shown = dict(zip(map(id, tab.refreshed), tab.refresh("zoo"), strict=True))
    assert "the disk is full" in shown[id(tab.about)]
    assert shown[id(tab.resume)].visible
    assert shown[id(tab.delete)].visible
    assert not shown[id(tab.stop)].visible
    assert not shown[id(tab.use)].visible
    tab._delete("zoo")
    assert not parts.runs.list()
    assert tab.refresh("zoo")[0].value == NEW


def test_another_adapter_of_a_runs_name_does_not_pass_for_what_came_of_it(
    tab: Train, parts: Parts, tmp_path: Path, tiny_adapters: dict[str, Path]
) -> None:
    folder = Path(shutil.copytree(tiny_adapters["one"], tmp_path / "adapters" / "zoo"))
    shipped = passport.read(LIBRARY / "support")
    assert shipped is not None
    own = shipped.model_copy(update={"adapter_sha256": durable.sha256(folder / "adapter_model.safetensors")})
    for made, published in ((shipped, False), (own, True)):
        assert tab._published(Run("zoo", folder, "done", None, None, (), made)) is published


def test_curves_tell_both_losses_in_words_too() -> None:
    sample = Sample("a?", "b", "c")
    steps = [progress(1), progress(2, Look(2, 1.5, (sample,))), progress(3)]
    drawn = curves.losses(steps, 10)
    assert "training loss 0.67, held-out loss 1.50" in drawn
    assert drawn.count("<circle") == 1
    assert curves.losses([], 10) == ""


def test_the_header_says_that_a_run_makes_answers_slower() -> None:
    status = page.Status("ready", "base")
    assert "training zoo: answers are slower" in status_html(status, "zoo")
    assert "slower" not in status_html(status)


def test_the_test_after_training_is_shown_with_its_marks_its_reasons_and_what_is_not_told() -> None:
    good = judge("loss", Figure(value=0.5, low=0.4, high=0.6, n=20), 1.0, {})
    harm = judge("bias", Figure(value=0.5, low=0.4, high=0.6, n=20), 0.1, {})
    few = judge("generalisation", Figure(value=0.5, low=None, high=None, n=2), 1.0, {})
    shown = verdict.page(Gate(findings=(good, few, harm), omitted={"checks": "<b>no</b> checks"}, seconds=1))
    assert "It did not pass its test: bias." in shown
    assert shown.count("<svg") == 3
    assert [shown.count(f'cp-verdict-{one}">') for one in ("passed", "unclear", "failed")] == [1, 1, 2]
    assert "too few for an interval" in shown
    unharmed = verdict.page(Gate(findings=(good, few), omitted={}, seconds=1))
    assert "It passed its test. Too few rows to tell of: generalises." in unharmed
    assert "&lt;b&gt;no&lt;/b&gt; checks" in shown
    assert verdict.page(None) == ""


def test_a_run_that_is_tested_says_which_part_is_measured(tmp_path: Path) -> None:
    run = Run("zoo", tmp_path, "running", None, None, (progress(10),), testing=Examining("bias", 4, 7))
    assert "Testing, part 5 of 7: bias" in training_told.bar(run)
    assert 'value="57"' in training_told.bar(run)
    timed = dataclasses.replace(run, testing=Examining("consistency", 6, 7, seconds_left=40.2))
    assert "40 s left · Testing, part 7 of 7: consistent" in training_told.bar(timed)


def test_an_adapter_that_did_not_pass_is_offered_only_where_somebody_presses_use_it(
    tab: Train, tmp_path: Path
) -> None:
    shipped = passport.read(LIBRARY / "support")
    assert shipped is not None
    worse = judge("loss", Figure(value=2, low=1.9, high=2.1, n=20), 1.0, {})
    gate = Gate(findings=(worse,), omitted={}, seconds=1)
    run = Run("zoo", tmp_path, "done", None, None, (), shipped.model_copy(update={"gate": gate}))
    shown = dict(zip(map(id, tab.refreshed[1:]), tab._shown(run), strict=True))
    assert "since it did not pass" in shown[id(tab.about)]
    assert shown[id(tab.use)].visible
    assert shown[id(tab.published)] is None
