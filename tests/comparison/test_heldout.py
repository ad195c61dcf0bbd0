"""Checks, intervals, and where scores are written."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from adapters import passport as passports
from adapters.training.dataset import Row
from comparison.measure import heldout as score
from errors import CounterpointError

LIBRARY = Path(passports.__file__).parent / "library"


@pytest.mark.parametrize(
    ("passed", "n", "interval"),
    # Values of R's binom::binom.wilson.
    [(90, 100, (0.8256, 0.9448)), (0, 60, (0.0, 0.0602)), (60, 60, (0.9398, 1.0))],
)
def test_the_interval_is_wilsons(passed: int, n: int, interval: tuple[float, float]) -> None:
    told = score.Measured([""] * n, [place < passed for place in range(n)], list(range(n))).score("somebody")
    assert (told.low, told.high) == pytest.approx(interval, abs=5e-4)


def test_phrasings_of_one_question_tell_no_more_than_one_of_them() -> None:
    passed = [place < 30 for place in range(40)]
    once = score.Measured([""] * 40, passed, list(range(40))).score("somebody")
    twice = score.Measured([""] * 80, passed * 2, list(range(40)) * 2).score("somebody")
    assert (twice.passed, twice.n) == (60, 80)
    assert twice.high - twice.low == pytest.approx(once.high - once.low, rel=0.03)


def row(question: str, *checks: dict[str, Any]) -> Row:
    turns = [{"role": "user", "content": question}, {"role": "assistant", "content": "?"}]
    return Row.model_validate({"messages": turns, "checks": checks})


def test_answers_are_counted_row_by_row() -> None:
    contains = {"type": "icontains", "value": "tea"}
    measured = score.measure([row("a", contains), row("b", contains)], ["Tea!", "Coffee!"])
    assert measured.passed == [True, False]
    made = measured.score("a test")
    assert (made.passed, made.n, made.share) == (1, 2, 0.5)
    assert made.low < 0.5 < made.high


def test_rows_without_checks_are_not_scored() -> None:
    with pytest.raises(CounterpointError, match="have no checks"):
        score.measure([row("a")], ["anything"])


def test_scores_go_into_the_passport_and_between_the_marks_of_the_readme(tmp_path: Path) -> None:
    folder = tmp_path / "support"
    shutil.copytree(LIBRARY / "support", folder)
    readme = folder / "README.md"
    before, _, rest = readme.read_text().partition(score.BEGIN)
    after = rest.partition(score.END)[2]
    passport = passports.read(folder)
    assert passport is not None
    made = score.measure([row("a", {"type": "contains", "value": "x"})] * 3, ["x", "x", "y"]).score("a test")
    score.write(folder, passport, {"tuned": made})
    updated = passports.read(folder)
    assert updated is not None
    assert updated.scores["tuned"] == made
    assert updated.model_copy(update={"scores": passport.scores}) == passport
    text = readme.read_text()
    assert "| tuned | 2 | 3 | 67% |" in text
    assert text.startswith(before)
    assert text.endswith(after)
