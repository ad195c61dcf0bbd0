"""The benchmark of training compares two runs that do the same: on the tiny base, two steps each."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import training

RECIPE = """\
name: tiny
title: A tiny adapter
description: Learns four answers.
examples: [One, Two, Three]
base: example/tiny-chat
quantization: nf4
dtype: float32
rank: 4
alpha: 8
learning_rate: 2e-2
passes: 6
batch_size: 2
seed: 5
train: train.jsonl
heldout: heldout.jsonl
max_length: 100
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    pairs = [("a fox?", "jumps"), ("a dog?", "is lazy"), ("an order?", "ships"), ("a bridge?", "opens today")]
    rows = [json.dumps({"prompt": question, "completion": answer}) + "\n" for question, answer in pairs]
    (tmp_path / "train.jsonl").write_text("".join(rows))
    (tmp_path / "heldout.jsonl").write_text(rows[0].replace("a fox", "the quick fox"))
    path = tmp_path / "recipe.yaml"
    path.write_text(RECIPE)
    return path


def test_both_runs_train_the_same_rows_to_the_same_loss(
    recipe: Path, tiny_base: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    training.main(["--recipe", str(recipe), "--base", str(tiny_base), "--steps", "2", "--json"])
    result = json.loads(capsys.readouterr().out)
    ours, plain = result["ours"], result["plain"]
    assert result["steps"] == ours["steps"] == plain["steps"] == 2
    assert result["same_rows"]
    assert 0 < ours["loss_tokens"] == plain["loss_tokens"] < plain["row_tokens"] <= plain["computed_tokens"]
    assert abs(result["heldout_difference"]) < 0.001
    assert min(ours["peak_bytes"], plain["peak_bytes"], result["faster"]) > 0
    assert "| tokens that carry loss |" in training.table(result)
