"""Training runs on a tiny random base whose disk or numbers fail: one line, and what was kept is gone on from."""

from __future__ import annotations

import errno
import itertools
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from adapters.training import lora, token_loss
from adapters.training.progress import Progress
from adapters.training.run import train
from adapters.training.workplace import Workplace
from adapters.verdict import Gate
from errors import CounterpointError, WorkFailed
from tests.adapters.small_run import failing, killed_at

FULL = "No space left on device"


def spoil_loss(
    monkeypatch: pytest.MonkeyPatch, call: int, spoil: Callable[[torch.Tensor], torch.Tensor]
) -> None:
    """From the given call on, the loss is what `spoil` makes of it."""
    loss, calls = token_loss.summed, itertools.count(1)

    def spoiled(model: Any, batch: lora.Batch) -> tuple[torch.Tensor, int]:
        summed, count = loss(model, batch)
        return (spoil(summed) if next(calls) >= call else summed), count

    monkeypatch.setattr(token_loss, "summed", spoiled)


@pytest.mark.parametrize(
    ("writer", "error"),
    [
        ("torch.save", OSError(errno.ENOSPC, FULL)),
        ("torch.save", RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 64 vs 0")),
        ("peft.peft_model.safe_save_file", SafetensorError(f"I/O error: {FULL} (os error 28)")),
        ("adapters.training.workplace.durable.write", OSError(errno.ENOSPC, FULL)),
    ],
)
def test_a_disk_that_is_full_at_a_checkpoint_is_one_line_and_the_checkpoint_before_is_gone_on_from(
    recipe: Path,
    tiny_base: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    writer: str,
    error: Exception,
) -> None:
    def full_from(progress: Progress) -> None:
        if progress.step == 6:
            fails.setattr(writer, failing(error))

    with monkeypatch.context() as fails, pytest.raises(WorkFailed, match="make room") as told:
        train(recipe, tmp_path / "made", tiny_base, report=full_from)
    assert "The checkpoint of step 3 is kept" in str(told.value)
    assert "--resume" in str(told.value)
    assert "\n" not in str(told.value)
    steps: list[int] = []
    train(recipe, tmp_path / "made", tiny_base, True, lambda progress: steps.append(progress.step))
    assert steps == list(range(4, 13))


@pytest.mark.parametrize(
    ("writer", "error"),
    [
        ("adapters.training.lora.save_file", SafetensorError(f"I/O error: {FULL} (os error 28)")),
        ("adapters.passport.durable.write", OSError(errno.ENOSPC, FULL)),
    ],
)
def test_a_disk_that_is_full_at_the_end_is_one_line_and_nothing_is_trained_again(
    recipe: Path,
    tiny_base: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    writer: str,
    error: Exception,
) -> None:
    loss = token_loss.mean

    def full_from(*given: Any) -> float:
        fails.setattr(writer, failing(error))
        return loss(*given)

    out = tmp_path / "made"
    with monkeypatch.context() as fails:
        fails.setattr(token_loss, "mean", full_from)
        with pytest.raises(WorkFailed, match=r"make room .*step 12 is kept"):
            train(recipe, out, tiny_base)
    assert not out.exists()
    steps: list[int] = []
    passport = train(recipe, out, tiny_base, True, lambda progress: steps.append(progress.step))
    assert steps == []
    whole = train(recipe, tmp_path / "whole", tiny_base)
    assert passport.adapter_sha256 == whole.adapter_sha256
    assert passport.training.train_loss == whole.training.train_loss


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB."),
        RuntimeError("[enforce fail at alloc_cpu.cpp:125] DefaultCPUAllocator: can't allocate memory"),
    ],
)
def test_memory_that_is_used_up_is_one_line_and_the_checkpoint_before_is_gone_on_from(
    recipe: Path, tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def full_from(progress: Progress) -> None:
        if progress.step == 7:
            fails.setattr(token_loss, "summed", failing(error))

    with monkeypatch.context() as fails, pytest.raises(WorkFailed, match="memory is used up") as told:
        train(recipe, tmp_path / "made", tiny_base, report=full_from)
    assert "smaller batch_size" in str(told.value)
    assert "The checkpoint of step 6 is kept" in str(told.value)
    assert "\n" not in str(told.value)
    assert not (tmp_path / "made").exists()
    steps: list[int] = []
    train(recipe, tmp_path / "made", tiny_base, True, lambda progress: steps.append(progress.step))
    assert steps == list(range(7, 13))


def test_what_a_run_computes_in_stays_when_it_is_gone_on_with(
    recipe: Path, tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe.write_text(recipe.read_text().replace("dtype: float32", "dtype: bfloat16"))
    monkeypatch.setattr(lora, "_bfloat16_pays", lambda: True)
    whole = train(recipe, tmp_path / "whole", tiny_base)
    with pytest.raises(KeyboardInterrupt):
        train(recipe, tmp_path / "made", tiny_base, report=killed_at(8))
    monkeypatch.setattr(lora, "_bfloat16_pays", lambda: False)  # another program kept the machine busy
    passport = train(recipe, tmp_path / "made", tiny_base, resume=True)
    assert (passport.training.dtype, whole.training.dtype) == ("bfloat16", "bfloat16")
    assert passport.adapter_sha256 == whole.adapter_sha256


@pytest.mark.parametrize("nonsense", ["{", "null", "[]", '{"files": null}'])
def test_nonsense_in_a_runs_own_files_is_one_line_or_a_checkpoint_less(
    recipe: Path, tiny_base: Path, tmp_path: Path, nonsense: str
) -> None:
    out, work = tmp_path / "made", tmp_path / ".made.training"
    with pytest.raises(KeyboardInterrupt):
        train(recipe, out, tiny_base, report=killed_at(8))
    (work / "checkpoint-6" / "manifest.json").write_text(nonsense)
    assert Workplace(out).checkpoint() is None
    (work / "job.json").write_text(nonsense)
    with pytest.raises(CounterpointError, match="another job") as told:
        train(recipe, out, tiny_base, resume=True)
    assert "\n" not in str(told.value)


def test_a_run_that_ends_in_its_test_is_tested_again_and_nothing_is_trained_again(
    recipe: Path, tiny_base: Path, tmp_path: Path
) -> None:
    out = tmp_path / "made"
    with pytest.raises(WorkFailed, match="the engine ended"):
        train(recipe, out, tiny_base, test=failing(WorkFailed("the engine ended")))
    assert not out.exists()
    steps: list[int] = []
    gate = Gate(findings=(), omitted={"checks": "no held-out row has checks"}, seconds=1)
    passport = train(
        recipe, out, tiny_base, True, lambda progress: steps.append(progress.step), test=lambda made: gate
    )
    assert steps == []
    assert passport.gate == gate


def test_a_loss_that_is_no_number_ends_the_run_and_the_checkpoint_before_is_kept(
    recipe: Path, tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil_loss(monkeypatch, 8, lambda loss: loss * torch.nan)
    out = tmp_path / "made"
    with pytest.raises(WorkFailed, match=r"since step 8: lower learning_rate \(it is 0.02\)") as told:
        train(recipe, out, tiny_base)
    assert not out.exists()
    kept = Workplace(out).checkpoint()
    assert kept is not None
    assert kept.step == 6
    assert str(kept.folder.parent) in str(told.value)


def test_weights_that_are_no_numbers_are_never_the_checkpoint_that_is_kept(
    recipe: Path, tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A square root's slope at 0 is infinite: the loss stays as it is, its gradients are no numbers.
    spoil_loss(monkeypatch, 6, lambda loss: loss + (loss * 0).sqrt())
    out = tmp_path / "made"
    with pytest.raises(WorkFailed, match="weights are not finite numbers since step 6: lower learning_rate"):
        train(recipe, out, tiny_base)
    kept = Workplace(out).checkpoint()
    assert kept is not None
    assert kept.step == 3


def test_a_heldout_loss_that_is_no_number_makes_no_passport(
    recipe: Path, tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil_loss(monkeypatch, 13, lambda loss: loss * torch.inf)
    with pytest.raises(WorkFailed, match="held-out loss is not a finite number since step 12"):
        train(recipe, tmp_path / "made", tiny_base)
    assert not (tmp_path / "made").exists()


def test_a_base_that_gives_no_numbers_is_blamed_before_the_learning_rate(
    recipe: Path, tiny_base: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(tiny_base, tmp_path / "base"))
    weights = load_file(folder / "model.safetensors")
    weights["model.norm.weight"] *= torch.nan
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(WorkFailed, match="since step 1: nothing was learned yet, so it is the base"):
        train(recipe, tmp_path / "made", folder)


def test_a_base_that_lacks_a_weight_is_not_trained_on(recipe: Path, tiny_base: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny_base, tmp_path / "base"))
    weights = load_file(folder / "model.safetensors")
    lost = next(name for name in weights if name.endswith("down_proj.weight"))
    del weights[lost]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CounterpointError, match=f"lacks weights .{lost}"):
        train(recipe, tmp_path / "made", folder, report=killed_at(1))
