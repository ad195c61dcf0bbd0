"""Runs that are killed at random moments, and on disks that fill up: nothing half-made, and the same end."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.adapters.small_run import RECIPE

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "times", "counted"), [("kill", 40, "killed"), ("disk", 10, "told")])
def test_runs_that_are_ended_at_random_show_nothing_half_made_and_end_as_unbroken_ones(
    recipe: Path, tiny_base: Path, tmp_path: Path, kind: str, times: int, counted: str
) -> None:
    # A checkpoint after each of many steps, so that many are ended while one is written.
    longer = RECIPE.replace("passes: 6", "passes: 5").replace("checkpoint_every: 3", "checkpoint_every: 1")
    recipe.write_text(longer + "evaluate_every: 7\npatience: 100\nsamples: 1\n")
    out = tmp_path / "made"
    ran = subprocess.run(
        [sys.executable, "-m", "tests.adapters.faults", kind, recipe, out, tiny_base, str(times), "7"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr[-3000:]
    told = json.loads(ran.stdout.splitlines()[-1])
    print(told)
    assert told[counted] == times
    assert (told["half_made"], told["strange"]) == (0, 0), ran.stderr[-3000:]
    ends = {path.read_bytes() for path in tmp_path.glob("made*/adapter_model.safetensors")}
    assert len(ends) == 1
    assert not list(tmp_path.glob(".made-unbroken*"))
