"""Advice rests on figures: it says what they say, and nothing where they say nothing."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from comparison.measure.advice import advise
from comparison.measure.figures.reckon import results
from comparison.measure.folder import Record
from comparison.measure.plan import Item
from comparison.measure.results import Advice, Results
from comparison.measure.suite import Suite
from tests.comparison.measure import made
from tests.comparison.measure.conftest import SENSES, suite
from tests.comparison.measure.test_figures import bias_suite, many

FOUR = ("base", "persona:p", "adapter:a", "adapter:a+persona:p")
GENERAL = "name: general\ntitle: G\nmeasures: general\ntests:\n" + "".join(
    f"  - {{question: 'what is {n}?', assert: [{{type: icontains, value: x}}]}}\n" for n in range(40)
)


def right(**chances: float) -> Callable[[Item], bool]:
    """Answers that are right so often, by family; always the same ones."""
    draw = random.Random(1)
    return lambda item: draw.random() < chances.get(item.slot.family, 0.0)


def advised(
    tmp_path: Path,
    passes: Callable[[Item], bool],
    modes: tuple[str, ...] = FOUR,
    suites: list[Suite] | None = None,
    answers: Callable[[Item], Record] = made.record,
) -> Advice:
    found = results(
        made.folder(tmp_path / "run", made.plan(suites or [many(60)], *modes), answers, passes), SENSES
    )
    advice = advise(found)
    assert advice is not None
    rests = {row.key for row in found.rows} | {"adapting", "break-even"}
    assert all(set(sentence.rests_on) <= rests for sentence in advice.sentences)
    return advice


@pytest.mark.parametrize(
    ("chances", "choice"),
    [
        ({"bare": 0.1, "prompted": 0.3, "tuned": 0.95, "both": 0.6}, "fine-tune"),
        ({"bare": 0.1, "prompted": 0.9, "tuned": 0.3, "both": 0.6}, "prompt"),
        ({"bare": 0.1, "prompted": 0.3, "tuned": 0.4, "both": 0.95}, "both"),
        ({"bare": 0.1, "prompted": 0.9, "tuned": 0.9, "both": 0.9}, "prompt"),
        ({"bare": 0.9, "prompted": 0.3, "tuned": 0.3, "both": 0.3}, "neither"),
        ({"bare": 1.0, "prompted": 1.0, "tuned": 1.0, "both": 1.0}, "neither"),
    ],
)
def test_the_cheapest_of_what_is_level_with_the_best_is_advised(
    tmp_path: Path, chances: dict[str, float], choice: str
) -> None:
    assert advised(tmp_path, right(**chances), suites=[many(150)]).choice == choice


def test_few_questions_that_leave_all_level_tell_nothing_and_say_how_many_would(tmp_path: Path) -> None:
    alternately = {"bare": (0, 2), "prompted": (0, 1, 2), "tuned": (0, 1, 2, 3), "both": (1, 2)}
    advice = advised(tmp_path, lambda item: item.case.test in alternately[item.slot.family], suites=[many(5)])
    assert advice.choice == "unclear"
    assert advice.sentences[0].text.startswith("These questions do not tell.")
    assert "more questions like these would tell" in advice.sentences[0].changes


def test_every_sentence_has_a_figure_in_it(tmp_path: Path) -> None:
    advice = advised(tmp_path, right(bare=0.1, prompted=0.3, tuned=0.95, both=0.6))
    assert all(any(sign.isdigit() for sign in sentence.text) for sentence in advice.sentences)
    assert "a change shows after" in advice.sentences[1].text


def test_what_was_forgotten_is_said_of_the_mode_that_is_advised(tmp_path: Path) -> None:
    def passes(item: Item) -> bool:
        return item.slot.family in ("tuned", "both") if item.suite == "many" else item.slot.family == "bare"

    advice = advised(tmp_path, passes, suites=[many(40), suite(GENERAL)])
    assert any(
        sentence.text.startswith("For nothing but this task: adapter:a") for sentence in advice.sentences
    )
    kept = advised(tmp_path / "kept", lambda item: True, suites=[many(40), suite(GENERAL)])
    assert not any("nothing but this task" in sentence.text for sentence in kept.sentences)


def test_answers_that_differ_by_who_asks_are_said(tmp_path: Path) -> None:
    draw = random.Random(2)

    def said(item: Item) -> Record:
        partial = item.slot.family == "tuned" and item.case.side == 0
        return made.record(item, "word " * (20 + draw.randint(0, 4) + 12 * partial))

    passes = right(bare=0.1, prompted=0.3, tuned=0.95, both=0.3)
    advice = advised(tmp_path, passes, suites=[many(60), bias_suite(10)], answers=said)
    [told] = [one for one in advice.sentences if "differently by who asks" in one.text]
    assert told.text.startswith("adapter:a answers differently")
    assert told.rests_on == ("bias/name/length",)


def test_variants_are_ranked_and_the_best_of_many_is_not_trusted_blindly(tmp_path: Path) -> None:
    modes = ("persona:p", "persona:q", "persona:r")
    chance = {"persona:p": 0.2, "persona:q": 0.9, "persona:r": 0.85}
    draw = random.Random(4)
    advice = advised(tmp_path, lambda item: draw.random() < chance[item.slot.id], modes)
    assert advice.choice == "one kind"
    assert advice.sentences[0].text.startswith("Of 3 the best is persona:")
    assert "one is ahead by chance too: expect less than" in advice.sentences[1].text


def test_variants_that_got_as_much_right_are_level_and_none_is_called_the_best(tmp_path: Path) -> None:
    modes = ("persona:p", "persona:q", "persona:r")
    advice = advised(tmp_path / "all", lambda item: item.case.test % 2 == 0, modes)
    assert advice.sentences[0].text.startswith("All are level (persona:p, persona:q, persona:r): 50 %")
    assert "No difference is clear." in advice.sentences[0].text
    assert not any("by chance" in sentence.text for sentence in advice.sentences)
    advice = advised(tmp_path / "two", lambda item: item.slot.id != "persona:q", modes)
    assert advice.sentences[0].text.startswith("Of 3 the first 2 are level (persona:p, persona:r): 100 %")
    assert "They are clearly ahead of 1." in advice.sentences[0].text


def test_one_mode_alone_gets_no_advice(tmp_path: Path) -> None:
    found: Results = results(made.folder(tmp_path / "run", made.plan([many(5)], "base")), SENSES)
    assert advise(found) is None


def test_what_could_not_be_graded_is_said(tmp_path: Path) -> None:
    folder = made.folder(tmp_path / "run", made.plan([many(9)], *FOUR), passes=right(tuned=1.0))
    lines = (folder.path / "grades.jsonl").read_text().splitlines()
    key = next(line for line in lines if "1.0/0/base" in line).split('"')[3]
    (folder.path / "grades.jsonl").write_text(
        "\n".join([*lines, f'{{"key": "{key}", "cannot": "there is no embedding model"}}']) + "\n"
    )
    advice = advise(results(folder, SENSES))
    assert advice is not None
    assert any(
        "1 answers could not be graded: there is no embedding model" in one.text for one in advice.sentences
    )


@pytest.mark.parametrize("shows", [True, False])
def test_how_soon_an_instruction_shows_is_told_only_where_it_showed(tmp_path: Path, shows: bool) -> None:
    def said(item: Item) -> Record:
        # Beside others it ends otherwise, whatever it is told.
        other = item.kind == "answer" or (item.kind == "adapt" and shows)
        return made.record(item, "another answer" if other else "an answer", seconds=2.0)

    advice = advised(tmp_path, right(tuned=0.9), answers=said)
    told = [one.text for one in advice.sentences if "adapting" in one.rests_on]
    assert bool(told) is shows
