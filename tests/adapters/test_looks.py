"""Looks at the held-out rows while a run goes on, and early stopping, on a tiny random base."""

from __future__ import annotations

from pathlib import Path

import pytest

from adapters.training import lora
from adapters.training.progress import Progress, curve
from adapters.training.run import train
from errors import CounterpointError
from tests.adapters.small_run import RECIPE, failing, killed_at

LOOKING = RECIPE + "evaluate_every: 2\nsamples: 1\n"


def test_the_heldout_rows_are_looked_at_on_the_way_and_answered(
    recipe: Path, tiny_base: Path, tmp_path: Path
) -> None:
    seen: list[Progress] = []
    recipe.write_text(LOOKING)
    passport = train(recipe, tmp_path / "made", tiny_base, report=seen.append)
    looks = [progress.look for progress in seen if progress.look]
    assert [look.step for look in looks] == [2, 4, 6, 8, 10, 12]
    assert passport.training.looks == tuple((look.step, look.loss) for look in looks)
    assert looks[-1].loss == pytest.approx(passport.training.heldout_loss, abs=1e-3)
    assert looks[0].loss > looks[-1].loss
    [sample] = looks[-1].samples
    assert (sample.question, sample.expected) == ("the quick fox?", "jumps")
    assert sample.answer != looks[0].samples[0].answer


def test_looking_at_the_heldout_rows_changes_nothing_of_what_is_learned(
    recipe: Path, tiny_base: Path, tmp_path: Path
) -> None:
    """Also with dropout, whose random numbers a look must not draw."""
    recipe.write_text(RECIPE + "dropout: 0.3\n")
    blind = train(recipe, tmp_path / "blind", tiny_base)
    recipe.write_text(LOOKING + "dropout: 0.3\n")
    looking = train(recipe, tmp_path / "looking", tiny_base)
    assert looking.adapter_sha256 == blind.adapter_sha256


def impatient(recipe: Path) -> None:
    """A rate so high that the held-out loss soon rises."""
    text = LOOKING.replace("learning_rate: 2e-2", "learning_rate: 0.1").replace("passes: 6", "passes: 40")
    recipe.write_text(text + "schedule: constant\npatience: 2\n")


def test_patience_ends_the_run_and_keeps_the_weights_of_the_lowest_heldout_loss(
    recipe: Path, tiny_base: Path, tmp_path: Path
) -> None:
    impatient(recipe)
    training = train(recipe, tmp_path / "made", tiny_base).training
    lowest_step, lowest = min(training.looks, key=lambda look: look[1])
    assert training.steps < 80
    assert training.kept_step == lowest_step
    assert [step for step, _ in training.looks][-3:] == [lowest_step, lowest_step + 2, lowest_step + 4]
    assert training.heldout_loss == pytest.approx(lowest, abs=1e-3)
    assert training.heldout_loss < training.looks[-1][1]


@pytest.mark.parametrize("after", [0, 4])
def test_a_run_killed_around_its_lowest_loss_ends_with_the_weights_of_an_unbroken_one(
    recipe: Path, tiny_base: Path, tmp_path: Path, after: int
) -> None:
    impatient(recipe)
    unbroken = train(recipe, tmp_path / "unbroken", tiny_base)
    assert unbroken.training.kept_step is not None
    with pytest.raises(KeyboardInterrupt):
        train(
            recipe,
            tmp_path / "broken",
            tiny_base,
            report=killed_at(unbroken.training.kept_step + after),
        )
    resumed = train(recipe, tmp_path / "broken", tiny_base, resume=True)
    assert resumed.adapter_sha256 == unbroken.adapter_sha256
    assert resumed.training.looks == unbroken.training.looks


def test_a_run_killed_after_patience_ended_it_learns_nothing_more(
    recipe: Path, tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    impatient(recipe)
    recipe.write_text(recipe.read_text().replace("checkpoint_every: 3", "checkpoint_every: 1"))
    unbroken = train(recipe, tmp_path / "unbroken", tiny_base)
    with monkeypatch.context() as broken:
        broken.setattr(lora, "save", failing(KeyboardInterrupt()))
        with pytest.raises(KeyboardInterrupt):
            train(recipe, tmp_path / "made", tiny_base)
    seen: list[Progress] = []
    resumed = train(recipe, tmp_path / "made", tiny_base, resume=True, report=seen.append)
    assert not seen
    assert resumed.adapter_sha256 == unbroken.adapter_sha256
    assert resumed.training.steps == unbroken.training.steps


def test_patience_without_looks_is_refused_in_one_line(recipe: Path, tiny_base: Path, tmp_path: Path) -> None:
    recipe.write_text(RECIPE + "patience: 2\n")
    with pytest.raises(CounterpointError, match="give evaluate_every as well"):
        train(recipe, tmp_path / "made", tiny_base)


def test_a_curve_in_a_terminal_is_as_high_as_its_values_and_no_wider_than_it_may_be() -> None:
    assert curve([8, 6, 4, 2, 1]) == "█▆▄▂▁"
    assert curve([3.0, 3.0]) == "▁▁"
    assert curve([]) == ""
    assert curve([1, float("nan"), 2]) == "▁ █"
    falling = curve([100 - step for step in range(100)], width=8)
    assert falling == "█▇▆▅▄▃▂▁"
