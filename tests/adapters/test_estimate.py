"""What a run is told to take before its first step, and what is advised where memory will not do."""

from __future__ import annotations

import json
import random
import re
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

import app
from adapters.training import batches, dataset, free_memory, lora, probe, token_loss
from adapters.training.dataset import Encoded
from adapters.training.estimate import Estimate, median, tokens
from adapters.training.needs import Needs
from adapters.training.recipe import Recipe
from adapters.training.recipe import read as read_recipe
from adapters.training.run import Progress, train
from errors import FAILED, CounterpointError
from tests import tiny
from tests.adapters.small_run import row

RECIPE = """\
name: tiny
title: A tiny adapter
description: Learns answers.
examples: [One, Two, Three]
base: example/tiny-chat
quantization: none
dtype: float32
rank: 4
alpha: 8
dropout: 0.1
learning_rate: 2e-2
passes: 2
batch_size: 4
accumulation: 1
checkpoint_every: 3
seed: 5
train: train.jsonl
heldout: heldout.jsonl
max_length: 300
"""

WORDS = ("the", "quick", "brown", "fox", "jumps", "over", "a", "lazy", "dog", "and", "opens", "a", "bridge")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A recipe with 22 rows of different lengths."""
    draw = random.Random(3)
    rows = [
        row(f"{number} {' '.join(draw.choices(WORDS, k=1 + number))}?", " ".join(draw.choices(WORDS, k=5)))
        for number in range(22)
    ]
    (tmp_path / "train.jsonl").write_text("".join(rows))
    (tmp_path / "heldout.jsonl").write_text(row("the dog?", "is lazy"))
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(RECIPE)
    return recipe


def prepared(path: Path, base: Path, **changes: Any) -> tuple[Any, Recipe, list[Encoded]]:
    recipe = read_recipe(path).model_copy(update=changes)
    loaded, tokenizer = lora.load_base(base, recipe)
    rows = dataset.encode(dataset.read(path.parent / "train.jsonl"), tokenizer, recipe.max_length, "train")
    return lora.adapted(loaded, recipe), recipe, rows


def free(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    monkeypatch.setattr(free_memory, "available", lambda device, taken: size)


def test_what_an_estimate_is_can_be_had_without_torch() -> None:
    code = "import sys, adapters.training.estimate; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_an_estimate_reads_as_a_person_would_say_it() -> None:
    assert (
        str(Estimate(700, 1503238553, 18 * 2**30))
        == "about 12 min and then its test, 1.4 GiB of memory (18 GiB are free)"
    )
    assert (
        str(Estimate(41.2, 900 * 2**20, 2**30))
        == "about 42 s and then its test, 900 MiB of memory (1.0 GiB are free)"
    )
    assert str(Estimate(3 * 3600, 2**30, 2**30)).startswith("about 3.0 h and then")


def test_a_run_tells_once_before_its_first_step_what_it_takes(
    path: Path, tiny_base: Path, tmp_path: Path
) -> None:
    seen: list[Estimate | Progress] = []
    train(path, tmp_path / "made", tiny_base, report=seen.append, announce=seen.append)
    assert [type(one) for one in seen] == [Estimate] + [Progress] * 12
    told = seen[0]
    assert isinstance(told, Estimate)
    assert told.seconds > 0
    assert (tiny_base / "model.safetensors").stat().st_size < told.memory_bytes < told.available_bytes


def test_weights_are_the_same_to_the_bit_with_an_estimate_as_without(
    path: Path, tiny_base: Path, tmp_path: Path
) -> None:
    quiet = train(path, tmp_path / "quiet", tiny_base)
    told: list[Estimate] = []
    loud = train(path, tmp_path / "loud", tiny_base, announce=told.append)
    assert told
    assert loud.adapter_sha256 == quiet.adapter_sha256
    assert loud.training.trained_tokens == quiet.training.trained_tokens


def test_a_probe_leaves_no_trace(path: Path, tiny_base: Path) -> None:
    model, recipe, rows = prepared(path, tiny_base)
    before = {name: part.clone() for name, part in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    random_before = torch.random.get_rng_state()
    assert probe.seconds_a_token(model, median(rows, recipe.batch_size)) > 0
    assert all(part.grad is None for part in model.parameters())
    assert [module.training for module in model.modules()] == modes
    assert torch.equal(torch.random.get_rng_state(), random_before)
    for name, part in model.state_dict().items():
        assert torch.equal(part, before[name])


def test_a_probe_that_fails_leaves_no_trace_either(
    path: Path, tiny_base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, _recipe, rows = prepared(path, tiny_base)
    modes = [module.training for module in model.modules()]
    random_before = torch.random.get_rng_state()
    loss = token_loss.summed

    def stopped(model: Any, batch: batches.Batch) -> Any:
        loss(model, batch)[0].backward()
        raise KeyboardInterrupt

    monkeypatch.setattr(token_loss, "summed", stopped)
    with pytest.raises(KeyboardInterrupt):
        probe.seconds_a_token(model, rows[:2])
    assert all(part.grad is None for part in model.parameters())
    assert [module.training for module in model.modules()] == modes
    assert torch.equal(torch.random.get_rng_state(), random_before)


@pytest.mark.parametrize(
    "passes", ["passes: 2", "passes: 1.5", "passes: 9\nmax_steps: 5", "passes: 2\npacking: false"]
)
def test_time_is_that_of_the_tokens_which_the_run_then_computes(
    path: Path, tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, passes: str
) -> None:
    path.write_text(RECIPE.replace("passes: 2", passes))
    monkeypatch.setattr(probe, "seconds_a_token", lambda *_: 1.0)
    told: list[Estimate] = []
    passport = train(path, tmp_path / "made", tiny_base, announce=told.append)
    assert told[0].seconds == pytest.approx(passport.training.trained_tokens, rel=0.1)


def test_a_run_that_is_gone_on_with_tells_the_time_of_what_is_left(
    path: Path, tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(progress: Progress) -> None:
        if progress.step == 7:
            raise KeyboardInterrupt

    monkeypatch.setattr(probe, "seconds_a_token", lambda *_: 1.0)
    told: list[Estimate] = []
    with pytest.raises(KeyboardInterrupt):
        train(path, tmp_path / "made", tiny_base, report=stop, announce=told.append)
    train(path, tmp_path / "made", tiny_base, resume=True, announce=told.append)
    # Step 6 of 12 was kept.
    assert told[1].seconds == pytest.approx(told[0].seconds / 2)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("dropout", [0.0, 0.1])
@pytest.mark.parametrize("targets", [("q_proj", "v_proj"), tiny.TARGETS])
@pytest.mark.parametrize("packing", [True, False])
def test_the_formula_counts_what_autograd_keeps(
    path: Path, tiny_base: Path, dtype: str, dropout: float, targets: tuple[str, ...], packing: bool
) -> None:
    model, recipe, rows = prepared(
        path, tiny_base, dtype=dtype, dropout=dropout, targets=targets, packing=packing
    )
    model.train()
    batch = batches.put_together(rows[-8:], recipe.packing)
    weights = {part.untyped_storage().data_ptr() for part in (*model.parameters(), *model.buffers())}
    kept: dict[int, Any] = {}

    def keep(part: torch.Tensor) -> torch.Tensor:
        if part.untyped_storage().data_ptr() not in weights:
            kept[part.untyped_storage().data_ptr()] = part.untyped_storage()
        return part

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda part: part):
        read = {name: part for name, part in batch.items() if name != "labels"}
        hidden = model.get_base_model().base_model(**read, use_cache=False)
    counted = sum(storage.nbytes() for storage in kept.values())
    del hidden
    told = Needs.of(model, rows, packing).kept(batch["input_ids"].numel(), recipe.rank, 8)
    assert told == pytest.approx(counted, rel=0.1)


@pytest.mark.parametrize("packing", [True, False])
def test_no_batch_has_more_tokens_than_memory_is_reckoned_for(
    path: Path, tiny_base: Path, packing: bool
) -> None:
    model, recipe, rows = prepared(path, tiny_base, packing=packing)
    needs, collate = Needs.of(model, rows, packing), partial(batches.put_together, packing=packing)
    draw = random.Random(1)
    for size in (1, 3, 8, 40):
        most, most_learned = needs.largest_batch(size, recipe.max_length)
        for _ in range(20):
            batch = collate(draw.sample(rows, min(size, len(rows))))
            assert batch["input_ids"].numel() <= most
            assert int((batch["labels"] != dataset.NO_LOSS).sum()) <= most_learned
    longest = sorted(rows, key=lambda row: len(row.input_ids))[-4:]
    assert collate(longest)["input_ids"].numel() == needs.largest_batch(4, recipe.max_length)[0]


def test_the_tokens_of_a_run_are_those_that_its_batches_compute(path: Path, tiny_base: Path) -> None:
    _model, recipe, rows = prepared(path, tiny_base, batch_size=1, passes=3)
    assert tokens(recipe, rows) == 3 * sum(len(row.input_ids) for row in rows)


Memory = Callable[[Needs, Recipe], int]


@pytest.mark.parametrize(
    ("memory", "advice"),
    [
        (lambda needs, recipe: needs.memory(recipe, 2), "set batch_size: 2, accumulation: 2"),
        (lambda needs, recipe: needs.memory(recipe, 1), "set batch_size: 1, accumulation: 4"),
        (
            lambda needs, recipe: needs.memory(recipe, 1, 2),
            "set batch_size: 1, accumulation: 4, rank: 2 and alpha: 4",
        ),
        (
            lambda needs, recipe: needs.memory(recipe, 1, 1) - 1,
            r"set batch_size: 1, accumulation: 4 and max_length: \d+, and shorten or take out the \d+ longer rows",
        ),
    ],
)
def test_a_run_that_takes_more_memory_than_there_is_is_refused_with_a_setting_that_fits(
    path: Path,
    tiny_base: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    memory: Memory,
    advice: str,
) -> None:
    model, recipe, rows = prepared(path, tiny_base)
    free(monkeypatch, memory(Needs.of(model, rows), recipe))
    seen: list[object] = []
    with pytest.raises(CounterpointError, match=f"takes about .* and .* are free: {advice}") as told:
        train(path, tmp_path / "made", tiny_base, report=seen.append, announce=seen.append)
    assert "\n" not in str(told.value)
    assert not seen
    assert not (tmp_path / "made").exists()
    # What is advised then passes.
    advised = dict(re.findall(r"(\w+): (\d+)", str(told.value)))
    text = RECIPE
    for name, value in advised.items():
        text = re.sub(rf"^{name}: .*", f"{name}: {value}", text, flags=re.MULTILINE)
    path.write_text(text)
    longest = int(advised.get("max_length", recipe.max_length))
    lines = (tmp_path / "train.jsonl").read_text().splitlines(keepends=True)
    kept = [line for line, row in zip(lines, rows, strict=True) if len(row.input_ids) <= longest]
    (tmp_path / "train.jsonl").write_text("".join(kept))
    train(path, tmp_path / "made", tiny_base, report=seen.append, announce=seen.append)
    assert isinstance(seen[0], Estimate)
    assert seen[0].memory_bytes <= seen[0].available_bytes


def test_where_nothing_fits_a_smaller_base_is_advised(
    path: Path, tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free(monkeypatch, 2**20)
    with pytest.raises(CounterpointError, match="1 MiB are free: no setting fits: use a smaller base"):
        train(path, tmp_path / "made", tiny_base)


def test_memory_available_counts_what_the_run_holds_already_and_no_more() -> None:
    nothing, own = free_memory.available("cpu", 0), free_memory.available("cpu", 2**20)
    everything = free_memory.available("cpu", 2**60)
    # Other programs take and give memory meanwhile; what this process holds is a few hundred MiB.
    assert nothing < own + 2**28
    assert 2**26 < everything - nothing + 2**28 < 2**36


@pytest.mark.parametrize(
    ("outer", "inner", "left"),
    [
        (("max", 0, 0), ("max", 500, 0), None),
        (("1000", 600, 0), ("max", 500, 0), 400),
        (("1000", 600, 100), ("700", 500, 50), 250),
        (("1000", 1600, 0), ("max", 500, 0), 0),
    ],
)
def test_a_containers_limit_is_the_tightest_on_the_way_up(
    tmp_path: Path, outer: tuple[str, int, int], inner: tuple[str, int, int], left: int | None
) -> None:
    own = tmp_path / "own"
    own.write_text("1:cpu:/else\n0::/outer/inner\n")
    for name, (limit, current, inactive) in {"outer": outer, "outer/inner": inner}.items():
        folder = tmp_path / "cgroup" / name
        folder.mkdir(parents=True)
        (folder / "memory.max").write_text(f"{limit}\n")
        (folder / "memory.current").write_text(f"{current}\n")
        (folder / "memory.stat").write_text(f"anon 1\ninactive_file {inactive}\n")
    assert free_memory.limit_left(tmp_path / "cgroup", own) == left
    assert free_memory.limit_left(tmp_path / "cgroup", tmp_path / "none") is None


@pytest.mark.parametrize("as_json", [False, True])
def test_the_command_tells_the_estimate(
    path: Path, tiny_base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], as_json: bool
) -> None:
    path.write_text(RECIPE.replace("example/tiny-chat", tiny_base.name))
    options = ["--base", str(tiny_base), "--data-dir", str(tmp_path / "own"), *["--json"] * as_json]
    # Two held-out rows are too few to pass a test.
    assert app.main(["train", str(path), "--out", str(tmp_path / "made"), *options]) == FAILED
    ran = capsys.readouterr()
    if as_json:
        told = json.loads(ran.out.splitlines()[0])
        assert list(told) == ["event", "seconds", "memory_bytes", "available_bytes"]
        assert told["event"] == "estimate"
    else:
        assert re.fullmatch(
            r"about \d+ s and then its test, \d+ MiB of memory \([\d.]+ GiB are free\)",
            ran.err.splitlines()[0],
        )
