"""The benchmark of training compares two runs that do the same: on the tiny base, two steps each."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import training


@pytest.mark.slow
def test_both_runs_train_the_same_rows_to_the_same_loss(
    recipe: Path, tiny_base: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe.write_text(recipe.read_text().replace("quantization: none", "quantization: nf4"))
    training.main(["--recipe", str(recipe), "--base", str(tiny_base), "--steps", "2", "--json"])
    result = json.loads(capsys.readouterr().out)
    ours, plain = result["ours"], result["plain"]
    assert result["steps"] == ours["steps"] == plain["steps"] == 2
    assert result["same_rows"]
    assert 0 < ours["loss_tokens"] == plain["loss_tokens"] < plain["row_tokens"] <= plain["computed_tokens"]
    assert abs(result["heldout_difference"]) < 0.001
    assert min(ours["peak_bytes"], plain["peak_bytes"], result["faster"]) > 0
    assert "| tokens that carry loss |" in training.table(result)
