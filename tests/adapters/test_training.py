"""Training runs on a tiny random base: what comes out, and what a crash leaves."""

from __future__ import annotations

import io
import itertools
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import app
import durable
from adapters import passport as passports
from adapters.training import dataset, lora, token_loss
from adapters.training.progress import Progress
from adapters.training.run import train
from adapters.training.stopping import Stopping
from adapters.training.workplace import Workplace
from errors import FAILED, CounterpointError
from tests.adapters.small_run import RECIPE, killed_at, row


def files(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_run_ends_with_a_peft_folder_and_its_passport(
    recipe: Path, tiny_base: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    seen: list[Progress] = []
    out = tmp_path / "made"
    passport = train(recipe, out, tiny_base, report=seen.append)
    assert sorted(path.name for path in out.iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
        "passport.json",
    ]
    assert passports.read(out) == passport
    assert passport.adapter_sha256 == durable.sha256(out / "adapter_model.safetensors")
    assert passport.base_sha256 == durable.sha256(tiny_base / "model.safetensors")
    assert (passport.train.rows, passport.heldout.rows) == (4, 2)
    assert [progress.step for progress in seen] == list(range(1, 13))
    assert seen[-1].steps == 12
    assert seen[-1].loss < seen[0].loss / 2
    assert not list(tmp_path.glob(".*training"))
    # A program reads standard output: nothing but what `report` prints may be there.
    assert capfd.readouterr().out == ""


def test_no_path_of_this_machine_is_in_what_a_run_makes(
    recipe: Path, tiny_base: Path, tmp_path: Path
) -> None:
    out = tmp_path / "made"
    train(recipe, out, tiny_base)
    assert (
        json.loads((out / "adapter_config.json").read_text())["base_model_name_or_path"]
        == "example/tiny-chat"
    )
    for path in out.iterdir():
        assert str(tmp_path.parent).encode() not in path.read_bytes()


def test_peft_loads_what_a_run_makes_and_finds_the_loss_of_its_passport(
    recipe: Path, tiny_base: Path, tmp_path: Path
) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    out = tmp_path / "made"
    passport = train(recipe, out, tiny_base)
    rows = dataset.read(tmp_path / "data" / "heldout.jsonl")
    encoded = dataset.encode(rows, AutoTokenizer.from_pretrained(tiny_base), 100, "rows")
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(tiny_base), out)
    loss = token_loss.mean(model, encoded, 2)
    with model.disable_adapter():
        untrained = token_loss.mean(model, encoded, 2)
    # The file is in bfloat16, the passport's loss was taken before.
    assert loss == pytest.approx(passport.training.heldout_loss, rel=0.01)
    assert passport.training.dtype == str(lora.compute_dtype(passport.recipe)).removeprefix("torch.")
    assert loss < 0.8 * untrained


def test_a_killed_run_resumes_and_ends_with_the_same_weights(
    recipe: Path, tiny_base: Path, tmp_path: Path
) -> None:
    whole = tmp_path / "whole"
    train(recipe, whole, tiny_base)
    out = tmp_path / "resumed"
    with pytest.raises(KeyboardInterrupt):
        train(recipe, out, tiny_base, report=killed_at(8))
    assert not out.exists()
    steps: list[int] = []
    passport = train(recipe, out, tiny_base, resume=True, report=lambda progress: steps.append(progress.step))
    assert steps[0] == 7
    assert passport.training.steps == 12
    assert passport.training.trained_tokens == passports.read(whole).training.trained_tokens  # type: ignore[union-attr]
    expected = load_file(whole / "adapter_model.safetensors")
    for name, tensor in load_file(out / "adapter_model.safetensors").items():
        torch.testing.assert_close(tensor, expected[name], rtol=0, atol=0)


def test_a_run_that_is_told_to_end_keeps_the_step_under_way_and_ends_with_the_same_weights(
    recipe: Path, tiny_base: Path, tmp_path: Path
) -> None:
    whole = tmp_path / "whole"
    train(recipe, whole, tiny_base)
    out, stopping = tmp_path / "resumed", Stopping()
    seen: list[int] = []

    def told_at_four(progress: Progress) -> None:
        seen.append(progress.step)
        if progress.step == 4:
            stopping.hear()

    with pytest.raises(KeyboardInterrupt):
        train(recipe, out, tiny_base, report=told_at_four, stopping=stopping)
    assert seen == [1, 2, 3, 4]
    kept = Workplace(out).checkpoint()
    assert kept is not None
    assert kept.step == 4  # checkpoint_every is 3
    steps: list[int] = []
    train(recipe, out, tiny_base, resume=True, report=lambda progress: steps.append(progress.step))
    assert steps == list(range(5, 13))
    expected = load_file(whole / "adapter_model.safetensors")
    for name, tensor in load_file(out / "adapter_model.safetensors").items():
        torch.testing.assert_close(tensor, expected[name], rtol=0, atol=0)


def test_a_run_is_interrupted_at_once_outside_of_steps_and_where_it_is_told_twice() -> None:
    stopping = Stopping()
    with pytest.raises(KeyboardInterrupt):
        stopping.hear()
    with pytest.raises(KeyboardInterrupt), stopping.after_the_step():  # noqa: PT012
        stopping.hear()
        assert stopping.asked
        with pytest.raises(KeyboardInterrupt):
            stopping.hear()


def test_a_damaged_checkpoint_is_not_resumed_from(recipe: Path, tiny_base: Path, tmp_path: Path) -> None:
    out = tmp_path / "made"
    with pytest.raises(KeyboardInterrupt):
        train(recipe, out, tiny_base, report=killed_at(5))
    weights = tmp_path / ".made.training" / "checkpoint-3" / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-8])
    steps: list[int] = []
    train(recipe, out, tiny_base, resume=True, report=lambda progress: steps.append(progress.step))
    assert steps[0] == 1


def test_a_changed_recipe_is_not_resumed(recipe: Path, tiny_base: Path, tmp_path: Path) -> None:
    out = tmp_path / "made"
    with pytest.raises(KeyboardInterrupt):
        train(recipe, out, tiny_base, report=killed_at(5))
    recipe.write_text(RECIPE.replace("seed: 5", "seed: 6"))
    with pytest.raises(CounterpointError, match="another job \\(recipe changed\\)"):
        train(recipe, out, tiny_base, resume=True)


def test_without_resume_a_stopped_run_is_left_alone_and_told_how_to_go_on(
    recipe: Path, tiny_base: Path, tmp_path: Path
) -> None:
    out = tmp_path / "made"
    with pytest.raises(KeyboardInterrupt):
        train(recipe, out, tiny_base, report=killed_at(5))
    before = files(tmp_path / ".made.training")
    with pytest.raises(CounterpointError, match=r"got to step 3: add --resume .*another folder for --out"):
        train(recipe, out, tiny_base)
    assert files(tmp_path / ".made.training") == before


def test_without_resume_a_run_that_kept_nothing_starts_anew(
    recipe: Path, tiny_base: Path, tmp_path: Path
) -> None:
    out = tmp_path / "made"
    with pytest.raises(KeyboardInterrupt):
        train(recipe, out, tiny_base, report=killed_at(2))
    recipe.write_text(RECIPE.replace("seed: 5", "seed: 6"))
    assert train(recipe, out, tiny_base).seed == 6


@pytest.mark.parametrize(
    ("step", "kept"),
    [
        (2, "There is no checkpoint yet, so --resume would"),
        (5, "The checkpoint of step 3 is kept: .*--resume"),
    ],
)
def test_a_run_that_is_stopped_says_how_to_go_on(
    recipe: Path,
    tiny_base: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    step: int,
    kept: str,
) -> None:
    loss, asked = lora.LoraTrainer.compute_loss, itertools.count(1)

    def stopped(*given: Any, **named: Any) -> torch.Tensor:
        if next(asked) == step:
            raise KeyboardInterrupt
        return loss(*given, **named)

    monkeypatch.setattr(lora.LoraTrainer, "compute_loss", stopped)
    recipe.write_text(RECIPE.replace("example/tiny-chat", tiny_base.name))
    data = ["--base", str(tiny_base), "--data-dir", str(tmp_path / "own")]
    assert app.main(["train", str(recipe), "--out", str(tmp_path / "made"), *data]) == FAILED
    last = capsys.readouterr().err.splitlines()[-1]
    assert re.match(f"counterpoint: stopped. {kept}", last)


def test_a_target_that_exists_is_left_alone(recipe: Path, tiny_base: Path, tmp_path: Path) -> None:
    out = tmp_path / "mine"
    out.mkdir()
    (out / "precious.txt").write_text("mine")
    with pytest.raises(CounterpointError, match="exists already"):
        train(recipe, out, tiny_base)
    assert [path.name for path in out.iterdir()] == ["precious.txt"]


def test_a_target_that_cannot_be_made_is_one_line(recipe: Path, tiny_base: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CounterpointError, match=r"cannot be made .*choose another folder for --out"):
        train(recipe, tmp_path / "file" / "made", tiny_base)


def test_two_runs_cannot_share_a_target(recipe: Path, tiny_base: Path, tmp_path: Path) -> None:
    out = tmp_path / "made"
    with (
        Workplace(out).opened({}, resume=False),
        pytest.raises(CounterpointError, match="being trained by another process"),
    ):
        train(recipe, out, tiny_base)


def test_who_asks_what_is_kept_leaves_alone_what_another_run_is_writing(tmp_path: Path) -> None:
    writer = Workplace(tmp_path / "made")
    with writer.opened({}, resume=False):
        half = writer.folder / "checkpoint-3"
        half.mkdir()
        (half / "weights").write_text("so far")
        assert "no checkpoint yet" in Workplace(tmp_path / "made").what_is_kept()
        assert (half / "weights").read_text() == "so far"
        writer.seal(half, {})
    with writer.opened({}, resume=True):
        assert "step 3 is kept" in writer.what_is_kept()


def test_a_damaged_checkpoint_is_removed_by_the_run_that_holds_the_folder(tmp_path: Path) -> None:
    writer = Workplace(tmp_path / "made")
    with writer.opened({}, resume=False):
        (writer.folder / "checkpoint-3").mkdir()
        writer.seal(writer.folder / "checkpoint-3", {})
        (writer.folder / "checkpoint-6").mkdir()
    with writer.opened({}, resume=True):
        assert [path.name for path in writer.folder.glob("checkpoint-*")] == ["checkpoint-3"]


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("max_length: 100", "max_length: 10", "row 4: .* and max_length is 10"),
        ("rank: 4", "rank: 4\ntargets: [q_proj, zoom]", "no linear layer zoom; it has down_proj"),
    ],
)
def test_what_does_not_fit_the_base_is_refused_before_the_first_step(
    recipe: Path, tiny_base: Path, tmp_path: Path, before: str, after: str, message: str
) -> None:
    recipe.write_text(RECIPE.replace(before, after))
    with pytest.raises(CounterpointError, match=message):
        train(recipe, tmp_path / "made", tiny_base, report=killed_at(1))
    assert not (tmp_path / "made").exists()


def test_a_heldout_question_that_is_trained_on_is_refused(
    recipe: Path, tiny_base: Path, tmp_path: Path
) -> None:
    (tmp_path / "data" / "heldout.jsonl").write_text(row("A  fox?", "jumps"))
    with pytest.raises(CounterpointError, match="'A  fox\\?'"):
        train(recipe, tmp_path / "made", tiny_base)


def test_a_base_other_than_the_recipes_is_refused(recipe: Path, base: object, tmp_path: Path) -> None:
    with pytest.raises(CounterpointError, match="the recipe is for example/tiny-chat"):
        train(recipe, tmp_path / "made", base)  # type: ignore[arg-type]


def test_training_runs_no_code_that_a_base_brings_whatever_the_terminal_answers(
    recipe: Path, tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran, folder = tmp_path / "ran", tmp_path / "base"
    shutil.copytree(tiny_base, folder)
    (folder / "evil.py").write_text(f"open({str(ran)!r}, 'w')\nclass Evil: ...\n")
    config = json.loads((folder / "config.json").read_text())
    auto = {
        "AutoConfig": "evil.Evil",
        "AutoModelForCausalLM": "evil.Evil",
        "AutoTokenizer": ["evil.Evil", None],
    }
    config["model_type"] = "unheard-of"
    (folder / "config.json").write_text(json.dumps({**config, "auto_map": auto}))
    monkeypatch.setattr("builtins.input", lambda *_: "y")
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n" * 9))
    with pytest.raises(CounterpointError):
        train(recipe, tmp_path / "made", folder)
    assert not ran.exists()


def test_marks_may_be_changed_before_a_stopped_run_is_gone_on_with(
    recipe: Path, tiny_base: Path, tmp_path: Path
) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(recipe, tmp_path / "made", tiny_base, report=killed_at(7))
    recipe.write_text(RECIPE + "gate: {bias: 0.5}\n")
    passport = train(recipe, tmp_path / "made", tiny_base, resume=True)
    assert passport.recipe.gate.bias == 0.5
