"""From answers to figures: what was planted is found, and where nothing was, nothing is."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path

import pytest

from comparison.measure.figures import rows
from comparison.measure.figures.answers import Answers
from comparison.measure.figures.reckon import results
from comparison.measure.figures.rightness import customisation
from comparison.measure.folder import Record
from comparison.measure.plan import Item, Prices
from comparison.measure.results import Outcome, Results, Row
from comparison.measure.suite import Suite
from tests.comparison.measure import made
from tests.comparison.measure.conftest import SENSES, suite

PAIR = ("persona:p", "adapter:a")


def many(
    questions: int, more: str = "", wordings: int = 1, checks: str = "{type: icontains, value: x}"
) -> Suite:
    others = ", ".join(f"'in other words {n}?'" for n in range(1, wordings))
    tests = "".join(
        f"  - {{question: 'number {n}?', paraphrases: [{others}], assert: [{checks}]}}\n"
        for n in range(questions)
    )
    return suite(f"name: many\ntitle: Many\n{more}tests:\n{tests}")


def row(found: Results, key: str) -> Row:
    told = found.row(key)
    assert told is not None, [one.key for one in found.rows]
    return told


def test_shares_are_of_answers_that_pass_and_metrics_of_their_own_checks(tmp_path: Path) -> None:
    checks = "{type: icontains, value: x, metric: knowledge}, {type: icontains, value: y, metric: voice}"
    plan = made.plan([many(20, wordings=2, checks=checks)], *PAIR)
    folder = made.folder(
        tmp_path / "run", plan, passes=lambda item: item.slot.family == "tuned" or item.case.wording == 1
    )
    found = results(folder, SENSES)
    assert {slot: one.value for slot, one in row(found, "customisation/all").figures.items()} == {
        "persona:p": 0.5,
        "adapter:a": 1.0,
    }
    assert row(found, "customisation/voice/questions").figures["persona:p"].value == 0
    assert row(found, "customisation/knowledge/paraphrases").figures["persona:p"].value == 1
    told = row(found, "customisation/all").gap("adapter:a", "persona:p")
    assert told is not None
    assert (told.figure.value, told.outcome, told.asked) == (0.5, "more", 20)
    back = row(found, "customisation/all").gap("persona:p", "adapter:a")
    assert back is not None
    assert (back.figure.value, back.outcome) == (-0.5, "less")


def test_a_metric_may_be_called_anything(tmp_path: Path) -> None:
    checks = "{type: icontains, value: x, metric: all}, {type: icontains, value: y, metric: tone/calm}"
    plan = made.plan([many(10, wordings=2, checks=checks)], *PAIR)
    found = results(made.folder(tmp_path / "run", plan), SENSES)
    its = [row for row in found.rows if row.aspect == "customisation"]
    assert len({row.key for row in its}) == len(its) == 9
    whole = [row.title for row in its if row.part_of is None]
    assert whole == [
        f"questions and paraphrases that pass {checks}"
        for checks in ("all checks", "their checks of all", "their checks of tone/calm")
    ]


def test_an_answer_that_there_is_none_of_is_wrong_and_counted(tmp_path: Path) -> None:
    plan = made.plan([many(8)], "base")

    def failing(item: Item) -> Record:
        return made.record(item).model_copy(update={"failed": "too long", "receipt": None, "answer": ""})

    found = results(made.folder(tmp_path / "run", plan, failing, lambda item: False), SENSES)
    assert found.modes[0].failed == len(plan.items)
    assert row(found, "customisation/all").figures["base"].value == 0
    assert found.row("speed/answer") is None


def test_a_run_that_has_only_begun_has_the_figures_so_far(tmp_path: Path) -> None:
    plan = made.plan([many(8)], *PAIR)
    folder = made.folder(tmp_path / "run", plan)
    lines = (folder.path / "answers.jsonl").read_text().splitlines(keepends=True)
    (folder.path / "answers.jsonl").write_text("".join(lines[:14]))
    found = results(folder, SENSES)
    assert not found.complete
    assert 0 < row(found, "customisation/all").figures["persona:p"].n < 8
    (folder.path / "answers.jsonl").write_text("")
    (folder.path / "grades.jsonl").write_text("")
    assert results(folder, SENSES).rows == ()


def test_training_is_repaid_where_an_answer_takes_less_and_never_where_it_takes_more(tmp_path: Path) -> None:
    def timed(item: Item) -> Record:
        return made.record(item, seconds=3.0 if item.slot.family == "prompted" else 1.0)

    plan = made.plan([many(8)], *PAIR, prices=Prices(machine_hour=3600.0))
    found = results(made.folder(tmp_path / "a", plan, timed), SENSES)
    seconds, money = found.break_even
    assert {one.state for one in found.break_even} == {"repaid"}
    assert (seconds.unit, seconds.once, seconds.at) == ("seconds", 120.0, 60.0)
    assert (money.unit, money.once, money.at, money.per) == ("money", 120.0, 60.0, 1000)
    assert (money.tuned_each.value, money.prompted_each.value) == (1000.0, 3000.0)
    assert found.adapting["persona:p"].seconds == 3.0
    assert found.adapting["adapter:a"].seconds == 121.0

    def slower(item: Item) -> Record:
        return made.record(item, seconds=1.0 if item.slot.family == "prompted" else 3.0)

    [never] = results(made.folder(tmp_path / "b", made.plan([many(8)], *PAIR), slower), SENSES).break_even
    assert (never.at, never.earliest, never.latest) == (None, None, None)


def test_answers_that_are_always_the_same_are_consistent_and_others_are_not(tmp_path: Path) -> None:
    def said(item: Item) -> Record:
        tuned = item.slot.family == "tuned"
        return made.record(item, "always the same" if tuned else "abcdefgh"[item.repeat] * 3)

    plan = made.plan([many(6, "repeat: {times: 4}\n")], *PAIR)
    folder = made.folder(tmp_path / "run", plan, said, lambda item: item.repeat != 3)
    found = results(folder, SENSES)
    assert row(found, "consistency/identical").figures["adapter:a"].value == 1
    assert row(found, "consistency/identical").figures["persona:p"].value == 0
    assert row(found, "consistency/similarity").figures["adapter:a"].value == pytest.approx(1)
    assert row(found, "consistency/similarity").figures["persona:p"].value == pytest.approx(0)
    assert row(found, "consistency/pass-1").figures["persona:p"].value == 0.75
    assert row(found, "consistency/pass-all").figures["persona:p"].value == 0
    assert found.asked[0].answers["adapter:a"] == (("always the same", 4),)
    assert len(found.asked[0].answers["persona:p"]) == 4


BIAS = """\
name: who
title: Who
measures: bias
tests:
"""


def bias_suite(tests: int) -> Suite:
    values = "[[I am Ann., I am Bob.], [I am Eve., I am Tom.]]"
    text = "".join(
        f"  - {{question: '{{{{who}}}} number {n}?', pairs: {{attribute: name, var: who, values: {values}}}}}\n"
        for n in range(tests)
    )
    return suite(BIAS + text)


@pytest.mark.parametrize(("longer", "apart"), [(True, True), (False, False)])
def test_answers_that_are_longer_for_one_asker_are_found(tmp_path: Path, longer: bool, apart: bool) -> None:
    draw = random.Random(3)

    def said(item: Item) -> Record:
        words = 20 + draw.randint(0, 6) + (9 if longer and item.case.side == 0 else 0)
        return made.record(item, "word " * words)

    plan = made.plan([bias_suite(10)], "base")
    found = results(made.folder(tmp_path / "run", plan, said), SENSES)
    told = row(found, "bias/name/length")
    assert told.paired
    figure = told.figures["base"]
    assert figure.low is not None
    assert figure.high is not None
    assert (figure.low > 0) is apart
    assert (abs(told.effects["base"]) > 1) is apart
    assert row(found, "bias/same").figures["base"].value < 0.5


def test_pairs_that_are_all_alike_are_no_proof_that_all_are(tmp_path: Path) -> None:
    text = bias_suite(6).model_dump(by_alias=True, exclude_defaults=True)
    text["tests"] = [{**test, "assert": ({"type": "contains", "value": "x"},)} for test in text["tests"]]
    plan = made.plan([Suite.model_validate(text)], "base")
    found = results(made.folder(tmp_path / "run", plan), SENSES)
    for key, most in (("bias/name/passed", 1), ("bias/name/tone", 2)):
        figure = row(found, key).figures["base"]
        assert (figure.value, figure.n) == (0, 12)
        assert figure.low is not None
        assert figure.high is not None
        assert -most < figure.low < -0.2, key
        assert 0.2 < figure.high < most, key
    assert row(found, "bias/name/length").figures["base"].low is None


def test_who_says_nothing_is_not_consistent(tmp_path: Path) -> None:
    plan = made.plan([many(4, "repeat: {times: 3}\n", wordings=2)], "base")
    folder = made.folder(tmp_path / "run", plan, lambda item: made.record(item, ""))
    found = results(folder, SENSES)
    for key in ("identical", "similarity", "paraphrases-identical", "paraphrases"):
        assert row(found, f"consistency/{key}").figures["base"].value == 0


def test_no_figure_or_difference_reaches_beyond_what_can_be(tmp_path: Path) -> None:
    draw = random.Random(1)

    def said(item: Item) -> Record:
        slow = item.slot.family == "tuned" and item.case.test == 0
        return made.record(item, "word " * draw.randint(1, 4), seconds=60.0 if slow else 0.1)

    plan = made.plan([many(5, "repeat: {times: 2}\n", wordings=2)], *PAIR)
    found = results(made.folder(tmp_path / "run", plan, said, lambda item: draw.random() < 0.7), SENSES)
    for told in found.rows:
        least, most = {"share": (0.0, 1.0), "cosine": (-1.0, 1.0)}.get(told.unit, (0.0, math.inf))
        for figure in told.figures.values():
            assert figure.low is None or figure.low >= least, told.key
            assert figure.high is None or figure.high <= most, told.key
        for gap in told.gaps:
            assert gap.figure.low is None or gap.figure.low >= least - most, told.key
            assert gap.figure.high is None or gap.figure.high <= most - least, told.key
    assert row(found, "speed/answer").figures["adapter:a"].low == 0


def test_a_figure_is_that_of_the_values_that_it_comes_from(tmp_path: Path) -> None:
    plan = made.plan([many(6, "repeat: {times: 2}\n", wordings=2), bias_suite(3)], *PAIR)
    found = results(made.folder(tmp_path / "run", plan, passes=lambda item: item.case.test % 2 == 0), SENSES)
    for told in found.rows:
        assert set(told.values) == set(told.figures), told.key
        for slot, values in told.values.items():
            assert len(values) == len(told.cases)
            known = [value for value in values if value is not None]
            assert told.figures[slot].value == pytest.approx(sum(known) / len(known), abs=1e-4), told.key


def test_a_suites_marks_are_held_against_what_its_modes_got(tmp_path: Path) -> None:
    require = "require: [{mode: base, at_least: 0.5}, {mode: base, at_least: 0.51}, {mode: 'persona:other', at_least: 0}]\n"
    plan = made.plan([many(8, require)], "base")
    found = results(made.folder(tmp_path / "run", plan, passes=lambda item: item.case.test % 2 == 0), SENSES)
    assert [one.met for one in found.held] == [True, False, False]
    assert found.held[2].share is None


def test_a_mark_is_not_met_by_the_few_answers_that_could_be_graded(tmp_path: Path) -> None:
    require = "require: [{mode: base, at_least: 0.5}]\n"
    folder = made.folder(tmp_path / "run", made.plan([many(8, require)], "base"))
    assert results(folder, SENSES).held[0].met
    grades = (folder.path / "grades.jsonl").read_text().splitlines()
    key = json.loads(grades[-1])["key"]
    grades[-1] = json.dumps({"key": key, "cannot": "the judge says nothing"})
    (folder.path / "grades.jsonl").write_text("".join(line + "\n" for line in grades))
    [mark] = results(folder, SENSES).held
    assert (mark.share and mark.share.value, mark.ungraded, mark.met) == (1, 1, False)


@pytest.mark.slow
@pytest.mark.parametrize("modes", [4, 12])
def test_of_many_equal_modes_none_is_ahead_but_by_a_rare_chance(modes: int) -> None:
    draw = random.Random(7)
    slots, cases = [f"m{number}" for number in range(modes)], [f"many/{number}" for number in range(56)]
    alarms = 0
    for _ in range(300):
        values = {slot: [float(draw.random() < 0.6) for _ in cases] for slot in slots}
        found = rows.row("customisation/all", "right", "share", "more", values, cases, cases)
        alarms += any(gap.outcome != "unclear" for gap in found.gaps)
    print(f"{modes} equal modes: a clear difference in {alarms} of 300 runs = {alarms / 300:.1%}")
    # 5 % of 300 are 15; more than 26 are drawn of that once in 300 times.
    assert alarms <= 26


def simulated(better: float, draw: random.Random, suite: Suite) -> Outcome:
    """What is said of two modes that get each question right by a chance of its own, one of them more often."""
    plan = made.plan([suite], *PAIR)
    chances = [draw.betavariate(2, 2) for _ in suite.tests]
    records, grades = {}, {}
    for item in plan.items:
        if item.kind == "answer":
            chance = chances[item.case.test] + (better if item.slot.id == "adapter:a" else 0)
            records[item.key] = made.record(item)
            grades[item.key] = made.graded(item, draw.random() < chance)
    first = next(customisation(Answers(plan, records, grades, SENSES)))
    gap = first.gap("adapter:a", "persona:p")
    assert gap is not None
    return gap.outcome


@pytest.mark.slow
@pytest.mark.parametrize(("questions", "wordings"), [(24, 1), (60, 2), (120, 1)])
def test_false_alarms_are_as_rare_as_the_intervals_say_and_what_is_planted_is_found(
    questions: int, wordings: int, capsys: pytest.CaptureFixture[str]
) -> None:
    runs, draw, asked = 400, random.Random(5), many(questions, wordings=wordings)
    alarms = sum(simulated(0.0, draw, asked) != "unclear" for _ in range(runs))
    found = sum(simulated(0.3, draw, asked) == "more" for _ in range(runs // 4))
    with capsys.disabled():
        print(
            f"\n{questions} questions of {wordings} wordings: {alarms} false alarms of {runs} = {alarms / runs:.1%}; "
            f"30 points found {found} of {runs // 4}"
        )
    assert alarms / runs <= 0.075
    assert found / (runs // 4) >= (0.45 if questions < 30 else 0.95)


def test_a_mode_against_itself_comes_out_as_no_difference(tmp_path: Path) -> None:
    draw = random.Random(11)
    plan = made.plan([many(40, "repeat: {times: 3}\n", wordings=2)], "persona:p", "persona:p")

    def said(item: Item) -> Record:
        return made.record(item, draw.choice(["yes it is", "no never", "perhaps so"]), draw.uniform(1, 2))

    found = results(made.folder(tmp_path / "run", plan, said, lambda item: draw.random() < 0.6), SENSES)
    gaps = [(one.key, gap.outcome) for one in found.rows for gap in one.gaps]
    # Of so many intervals one may miss by chance; none of those that decide may.
    assert ("customisation/all", "unclear") in gaps
    assert sum(outcome != "unclear" for _, outcome in gaps) <= 1
