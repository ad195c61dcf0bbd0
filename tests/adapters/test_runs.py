"""Training runs as processes of their own, on a tiny random base: what their folders tell, whoever asks."""

from __future__ import annotations

import errno
import json
import os
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

import durable
from adapters.training import runs
from adapters.training.data.row import Row, Turn
from adapters.training.recipe import Recipe
from adapters.training.runs import Run, RunStore
from errors import CounterpointError

ROOT = Path(__file__).parents[2]
PATIENCE_S = 120.0
"""A run that takes longer than this is broken."""


def rows(*pairs: tuple[str, str]) -> list[Row]:
    return [
        Row(messages=(Turn(role="user", content=question), Turn(role="assistant", content=answer)))
        for question, answer in pairs
    ]


TRAIN = rows(("a fox?", "jumps"), ("a dog?", "is lazy"), ("an order?", "ships"), ("a bridge?", "opens today"))
HELDOUT = rows(("the quick fox?", "jumps"), ("the dog?", "is lazy"))


@pytest.fixture
def store(tiny_base: Path, tmp_path: Path) -> Iterator[RunStore]:
    made = new_store(tiny_base, tmp_path)
    yield made
    for run in made.list():
        made.stop(run.name)


def new_store(tiny_base: Path, tmp_path: Path) -> RunStore:
    """As another app on the same data folder would have it."""
    options = ["--base", str(tiny_base), "--data-dir", str(tmp_path / "data")]
    return RunStore(tmp_path / "data", [sys.executable, str(ROOT / "app.py"), "train", *options])


def recipe_for(tiny_base: Path) -> Recipe:
    return Recipe.model_validate(
        {
            "name": "tiny",
            "title": "A tiny adapter",
            "description": "Learns four answers.",
            "examples": ["One", "Two", "Three"],
            "base": tiny_base.name,
            "quantization": "none",
            "dtype": "float32",
            "rank": 4,
            "alpha": 8,
            "learning_rate": 2e-2,
            "passes": 6,
            "batch_size": 2,
            "checkpoint_every": 3,
            "evaluate_every": 4,
            "samples": 1,
            "max_length": 100,
            "train": "train.jsonl",
            "heldout": "heldout.jsonl",
        }
    )


def until(store: RunStore, name: str, reached: Callable[[Run], bool]) -> Run:
    """The run as soon as it has come so far. Fails where it ends before."""
    waiting, deadline = threading.Event(), time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        run = store.get(name)
        if reached(run):
            return run
        assert run.state == "running", run.problem
        waiting.wait(0.05)
    raise AssertionError(f"{name} came no further than {store.get(name)}")


@pytest.fixture(scope="module")
def finished(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with a run that has ended well; to be copied by who changes it."""
    data = tmp_path_factory.mktemp("finished")
    store = new_store(tiny_base, data)
    assert store.start(recipe_for(tiny_base), TRAIN, HELDOUT).state == "running"
    folder = until(store, "tiny", lambda run: run.state == "done").folder
    if process := runs._process(folder):  # it still clears up
        process.wait(PATIENCE_S)
    return data


@pytest.fixture
def done(finished: Path, tiny_base: Path, tmp_path: Path) -> RunStore:
    shutil.copytree(finished, tmp_path / "copy")
    return new_store(tiny_base, tmp_path / "copy")


def test_a_run_ends_with_an_adapter_and_tells_every_step(done: RunStore) -> None:
    run = done.get("tiny")
    assert [step.step for step in run.steps] == list(range(1, 13))
    assert [step.look.step for step in run.steps if step.look] == [4, 8, 12]
    assert run.steps[3].look is not None
    assert run.steps[3].look.samples[0].question == "the quick fox?"
    assert run.passport is not None
    assert (run.passport.train.rows, run.passport.heldout.rows) == (4, 2)
    assert sorted(path.name for path in run.adapter.iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
        "passport.json",
    ]


def test_a_run_outlives_who_began_it_and_can_be_stopped_killed_gone_on_with_and_deleted(
    store: RunStore, tiny_base: Path, tmp_path: Path
) -> None:
    """One story, since each process takes seconds to begin."""
    endless = recipe_for(tiny_base).model_copy(
        update={"passes": 100.0, "batch_size": 1, "checkpoint_every": 2}
    )
    store.start(endless, TRAIN, HELDOUT)
    with pytest.raises(CounterpointError, match=r"^tiny is being trained: .* Wait for it, or stop it\.$"):
        store.start(endless.model_copy(update={"name": "second"}), TRAIN, HELDOUT)
    other = new_store(tiny_base, tmp_path)
    assert other.going_on() == "tiny"
    seen = until(other, "tiny", lambda run: len(run.steps) >= 5)

    stopped = other.stop("tiny")
    assert (stopped.state, stopped.problem) == ("stopped", None)
    assert len(stopped.steps) >= len(seen.steps)
    assert store.get("tiny") == stopped
    assert stopped.kept_step is not None

    # What it was told to end after is kept: nothing is done twice.
    assert stopped.kept_step == stopped.steps[-1].step
    begun = store.resume("tiny")
    assert (begun.state, begun.stopping) == ("running", False)
    further = until(store, "tiny", lambda run: len(run.steps) > len(stopped.steps) + 2)
    assert [step.step for step in further.steps] == list(range(1, len(further.steps) + 1))
    assert further.steps[: stopped.kept_step] == stopped.steps[: stopped.kept_step]

    process = runs._process(further.folder)
    assert process is not None
    process.kill()
    process.wait(PATIENCE_S)
    killed = other.get("tiny")
    assert killed.state == "failed"
    assert killed.problem is not None
    assert "go on with it" in killed.problem
    assert killed.kept_step is not None

    other.delete("tiny")
    assert [path.name for path in further.folder.parent.iterdir()] == [".lock"]
    with pytest.raises(CounterpointError, match="There is no run 'tiny'"):
        store.get("tiny")


def test_a_run_that_cannot_be_trained_says_why_in_one_line(tiny_base: Path, tmp_path: Path) -> None:
    store = new_store(tiny_base, tmp_path)
    wrong = recipe_for(tiny_base).model_copy(update={"base": "another/base"})
    store.start(wrong, TRAIN, HELDOUT)
    with pytest.raises(AssertionError, match="the recipe is for another/base"):
        until(store, "tiny", lambda run: run.state == "done")
    failed = store.get("tiny")
    assert failed.state == "failed"
    assert failed.problem is not None
    assert "\n" not in failed.problem


def test_a_run_whose_process_cannot_be_noted_does_not_go_on(
    store: RunStore, tiny_base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, begun = durable.write, []

    def full(target: Path, text: str) -> None:
        if target.name == "process.json":
            begun.append(json.loads(text)["pid"])
            raise OSError(errno.ENOSPC, "No space left on device")
        write(target, text)

    monkeypatch.setattr("adapters.training.runs.durable.write", full)
    with pytest.raises(CounterpointError, match="No space left"):
        store.start(recipe_for(tiny_base), TRAIN, HELDOUT)
    assert not psutil.pid_exists(begun[0])
    assert store.going_on() is None


def test_deleting_ends_a_process_that_goes_on(tiny_base: Path, tmp_path: Path) -> None:
    store = RunStore(tmp_path, [sys.executable, "-c", "import time; time.sleep(600)"])
    folder = store.start(recipe_for(tiny_base), TRAIN, HELDOUT).folder
    process = runs._process(folder)
    assert process is not None
    store.delete("tiny")
    assert not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


def test_a_name_that_is_taken_is_refused_and_its_run_untouched(done: RunStore, tiny_base: Path) -> None:
    before = done.get("tiny")
    with pytest.raises(CounterpointError, match="There is a run tiny already"):
        done.start(recipe_for(tiny_base), TRAIN[:2], HELDOUT)
    assert done.get("tiny") == before


def test_a_process_that_has_only_got_the_number_of_a_run_is_never_touched(done: RunStore) -> None:
    folder = done.get("tiny").folder
    told = json.loads((folder / "process.json").read_text())
    (folder / "process.json").write_text(json.dumps({**told, "pid": os.getpid()}))
    assert done.stop("tiny").state == "done"


def test_a_broken_passport_is_told_of_its_run_and_hides_no_other(done: RunStore, tiny_base: Path) -> None:
    folder = done.get("tiny").folder
    shutil.copytree(folder, folder.parent / "other")
    (folder / "adapter" / "passport.json").write_text("{")
    other, broken = done.list()
    assert (other.name, other.state) == ("other", "done")
    assert broken.state == "failed"
    assert broken.problem is not None
    assert "passport.json" in broken.problem


def test_a_run_that_goes_on_tells_nothing_of_what_it_does_again(done: RunStore) -> None:
    folder = done.get("tiny").folder
    before = runs._told(folder / "events.jsonl")
    assert not before.beginning
    assert before.title == "A tiny adapter"
    with (folder / "events.jsonl").open("a") as events:
        events.write('{"event": "progress", "st\n{"event": "begun", "kept": 3, "title": "New"}\n')
    after = runs._told(folder / "events.jsonl")
    assert [step.step for step in after.steps] == [1, 2, 3]
    assert (after.estimate, after.testing, after.title, after.beginning) == (None, None, "New", True)


@pytest.mark.parametrize("name", ["process.json", "events.jsonl", "errors.txt"])
def test_nonsense_in_a_runs_files_hides_no_run(done: RunStore, name: str) -> None:
    folder = done.get("tiny").folder
    (folder / name).write_bytes(b'\xff{"event": "progress", "step"\n[]\n{"pid": "x"}\nnull\n3\n')
    assert done.get("tiny").state == "done"
