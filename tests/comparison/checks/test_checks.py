"""Each kind of check on both sides, and what several of them say together."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from comparison.checks.check import Answer, CannotGrade, Check, Tools, grade, parse, passes
from comparison.checks.kinds import KINDS
from errors import CounterpointError

SCHEMA = {"type": "object", "required": ["day"], "properties": {"day": {"type": "string"}}}
REFERENCE = "the heron stands in the river and waits for a fish"


def check(**fields: Any) -> Check:
    return Check.model_validate(fields)


PLAIN = [
    ({"type": "equals", "value": "Yes"}, "Yes", "yes"),
    ({"type": "equals", "value": "Yes"}, "Yes", "Yes\n"),
    ({"type": "equals", "value": 12}, "12", "12.5"),
    ({"type": "equals", "value": {"a": [1, None]}}, '{"a": [1, null]}', '{"a": [true, null]}'),
    ({"type": "equals", "value": {"a": 1}}, ' {"a": 1}', '{"a": 1, "b": 2}'),
    ({"type": "equals", "value": {"a": 1}}, '{"a":1}', 'Sure! {"a": 1}'),
    ({"type": "equals", "value": [1, "x"]}, '[1, "x"]', '["x", 1]'),
    ({"type": "contains", "value": "Bus"}, "a Bus", "a bus"),
    ({"type": "contains", "value": 7}, "in 7 days", "in 8 days"),
    ({"type": "icontains", "value": "Bus"}, "a bus", "a car"),
    ({"type": "contains-all", "value": ["a", "b"]}, "ab", "aB"),
    ({"type": "contains-all", "value": 'x, "1,000"'}, "x and 1,000", "x and 1 000"),
    ({"type": "icontains-all", "value": ["a", "b"]}, "AB", "AC"),
    ({"type": "contains-any", "value": ["x", "b"]}, "ab", "AB"),
    ({"type": "icontains-any", "value": "x, b"}, "AB", "AC"),
    ({"type": "starts-with", "value": "No"}, "No way", "Oh No"),
    ({"type": "regex", "value": "£ ?5\\b"}, "it is £5.", "it is £50."),
    ({"type": "is-json"}, "[1]", "[1"),
    ({"type": "is-json", "value": SCHEMA}, '{"day": "friday"}', '{"day": 5}'),
    ({"type": "contains-json"}, 'Sure: {"a": 1}!', "Sure: {a: 1}!"),
    ({"type": "contains-json", "value": SCHEMA}, '[1] and {"day": "x"}', '[1] and {"date": "x"}'),
    ({"type": "levenshtein", "value": "kitten"}, "sitting", "nothing of it"),
    ({"type": "levenshtein", "value": "kitten", "threshold": 3}, "sitting", "sittings"),
    ({"type": "rouge-n", "value": REFERENCE}, REFERENCE + " today", "a heron flies"),
    ({"type": "rouge-n", "value": REFERENCE, "threshold": 0.2}, "the heron flies", "nothing alike"),
    ({"type": "bleu", "value": REFERENCE}, REFERENCE.upper() + " again", "the heron stands on a roof"),
    ({"type": "bleu", "value": ["no", REFERENCE]}, REFERENCE, "a cat in a tree"),
    ({"type": "not-icontains", "value": "sorry"}, "Fine.", "Sorry."),
    ({"type": "not-levenshtein", "value": "kitten"}, "nothing of it", "sitting"),
]


@pytest.mark.parametrize(("made", "right", "wrong"), PLAIN)
def test_a_check_passes_what_is_right_and_fails_what_is_wrong(
    made: dict[str, Any], right: str, wrong: str
) -> None:
    assert passes([check(**made)], right)
    assert not passes([check(**made)], wrong)


NEAR = Tools(similarity=lambda one, other: 0.9 if one[0] == other[0] else 0.2)
MEASURED = [
    ({"type": "similar", "value": "heron"}, Answer("hen"), Answer("ox")),
    ({"type": "similar", "value": ["ox", "heron"], "threshold": 0.85}, Answer("hen"), Answer("cat")),
    ({"type": "perplexity", "threshold": 2.0}, Answer("x", logprob=-0.5), Answer("x", logprob=-0.8)),
    ({"type": "latency", "threshold": 900}, Answer("x", latency_ms=900), Answer("x", latency_ms=901)),
    ({"type": "cost", "threshold": 0.01}, Answer("x", cost=0.01), Answer("x", cost=0.02)),
]


@pytest.mark.parametrize(("made", "right", "wrong"), MEASURED)
def test_a_check_of_what_was_measured_holds_it_against_its_threshold(
    made: dict[str, Any], right: Answer, wrong: Answer
) -> None:
    assert grade([check(**made)], right, NEAR).whole.passed
    assert not grade([check(**made)], wrong, NEAR).whole.passed
    turned = check(**{**made, "type": f"not-{made['type']}"})
    assert not grade([turned], right, NEAR).whole.passed
    assert grade([turned], wrong, NEAR).whole.passed


@pytest.mark.parametrize(
    ("told", "threshold", "passed", "score"),
    [
        (True, None, True, 1),
        (False, None, False, 0),
        (0.4, None, True, 0.4),
        (0, None, False, 0),
        (0.4, 0.5, False, 0.4),
        (0.5, 0.5, True, 0.5),
        ({"pass": True, "score": 0.2, "reason": "so"}, None, True, 0.2),
        ({"pass": True, "score": 0.2}, 0.5, False, 0.2),
        ({"score": 0.9}, 0.5, True, 0.9),
    ],
)
def test_code_and_judges_give_a_verdict_a_score_or_both(
    told: Any, threshold: float | None, passed: bool, score: float
) -> None:
    tools = Tools(python=lambda code, answer: told, judge=lambda asked, who: f"Well: {json.dumps(told)}")
    given = {} if threshold is None else {"threshold": threshold}
    whole = grade([check(type="python", value="…", **given)], Answer("x"), tools).whole
    assert (whole.passed, whole.score) == (passed, score)
    if isinstance(told, dict):
        whole = grade([check(type="llm-rubric", value="is kind", **given)], Answer("x"), tools).whole
        assert (whole.passed, whole.score) == (passed, score)


def test_a_judge_is_shown_question_answer_and_criterion_and_asked_as_the_check_says() -> None:
    asked: list[tuple[str, str | None]] = []

    def judge(prompt: str, who: str | None) -> str:
        asked.append((prompt, who))
        return '{"pass": true}'

    rubric = check(type="llm-rubric", value="is {kind}", provider="gpu/base")
    assert grade([rubric], Answer("{a}", question="{q}?"), Tools(judge=judge)).whole.passed
    [(prompt, who)] = asked
    assert who == "gpu/base"
    assert all(part in prompt for part in ("{q}?", "{a}", "is {kind}"))


@pytest.mark.parametrize(
    ("made", "tools", "why"),
    [
        ({"type": "similar", "value": "x"}, Tools(), "no embedding model"),
        ({"type": "perplexity", "threshold": 2}, Tools(), "no log-probabilities"),
        ({"type": "latency", "threshold": 2}, Tools(), "was not measured"),
        ({"type": "cost", "threshold": 2}, Tools(), "no prices"),
        ({"type": "python", "value": "True"}, Tools(), "python checks are off"),
        ({"type": "llm-rubric", "value": "x"}, Tools(), "no mode that judges"),
        ({"type": "llm-rubric", "value": "x"}, Tools(judge=lambda *_: "It is fine."), "gave no verdict"),
        ({"type": "is-json", "value": {"$ref": "http://127.0.0.1:9/x"}}, Tools(), "cannot be followed"),
        ({"type": "regex", "value": "(a+a+)+b"}, Tools(), "takes too long"),
        ({"type": "is-json", "value": {"pattern": "(a+a+)+b"}}, Tools(), "takes too long"),
        ({"type": "is-json", "value": {"patternProperties": {"a": {}}}}, Tools(), "not followed here"),
    ],
)
def test_a_check_that_cannot_be_made_neither_passes_nor_fails(
    made: dict[str, Any], tools: Tools, why: str
) -> None:
    text = json.dumps("a" * 5000) if made["type"] == "is-json" else "a" * 5000
    for kind in (made["type"], f"not-{made['type']}"):
        with pytest.raises(CannotGrade, match=why):
            grade([check(**{**made, "type": kind})], Answer(text), tools)


def test_an_assert_set_passes_at_its_threshold() -> None:
    parts = [{"type": "contains", "value": letter} for letter in "abcd"]
    some = check(**{"type": "assert-set", "threshold": 0.75, "assert": parts})
    assert passes([some], "abc")
    assert not passes([some], "ab")
    assert not passes([check(**{"type": "assert-set", "assert": parts})], "abc")


def test_several_checks_weigh_as_they_say() -> None:
    checks = [
        check(type="contains", value="a", weight=3),
        check(type="contains", value="b"),
        check(type="contains", value="c", weight=0),
    ]
    assert grade(checks, Answer("a")).whole.score == 0.75
    assert not grade(checks, Answer("a")).whole.passed
    assert grade(checks, Answer("ab")).whole.passed  # what weighs nothing counts for nothing
    assert grade(checks, Answer("a"), threshold=0.75).whole.passed
    assert not grade(checks, Answer("b"), threshold=0.75).whole.passed
    assert [one.passed for one in grade(checks, Answer("ac")).parts] == [True, False, True]


def test_a_check_that_is_turned_around_says_what_it_found() -> None:
    told = grade([check(type="not-icontains", value="Bus")], Answer("a bus")).whole
    assert (told.passed, told.reason) == (False, "passes icontains: 'Bus'")
    assert grade([check(type="not-icontains", value="Bus")], Answer("a car")).whole.reason == ""


def test_no_checks_are_passed() -> None:
    assert grade([], Answer("x")).whole == (True, 1.0, "")


WRONG = [
    ({"type": "looks-nice"}, "'looks-nice' is not known: use one of equals"),
    ({"type": "contains"}, "needs a text"),
    ({"type": "contains", "value": True}, "needs a text"),
    ({"type": "not-contains-all", "value": ["x"], "threshold": 1}, "takes no threshold"),
    ({"type": "contains-any", "value": []}, "needs a list of texts"),
    ({"type": "regex", "value": "("}, "regular expression that Python does not take"),
    ({"type": "is-json", "value": {"type": 3}}, "no JSON schema"),
    ({"type": "latency"}, "needs a threshold"),
    ({"type": "cost", "threshold": 1, "value": 3}, "takes no value"),
    ({"type": "assert-set"}, "at least one check under assert"),
    ({"type": "assert-set", "assert": [{"type": "x"}]}, "assert[0]: the check 'x' is not known"),
    ({"type": "contains", "value": "x", "assert": [{"type": "is-json"}]}, "takes no assert"),
    ({"type": "contains", "value": "x", "wieght": 2}, "wieght: is not a field that is known"),
    ({"type": "contains", "value": "x", "weight": -1}, "weight: must be 0.0 or more"),
    ({"type": "contains", "value": "x", "provider": "base"}, "takes no provider"),
    ({"type": "similar", "value": "x"}, "needs more than a text (embedding)"),
]


@pytest.mark.parametrize(("made", "told"), WRONG)
def test_a_check_that_cannot_be_is_told_with_its_place(made: dict[str, Any], told: str) -> None:
    with pytest.raises(CounterpointError) as error:
        parse([{"type": "is-json"}, made], "row 3")
    assert str(error.value).startswith("row 3: check 2: ")
    assert told in str(error.value)


def test_all_that_is_wrong_is_told_at_once() -> None:
    with pytest.raises(CounterpointError) as error:
        parse([made for made, _ in WRONG], "row 1")
    assert len(str(error.value).split("; check ")) == len(WRONG)


def test_every_kind_is_tried_here() -> None:
    tried = {str(made["type"]) for made, *_ in [*PLAIN, *MEASURED]} | {"python", "llm-rubric"}
    assert tried >= KINDS.keys()
    assert math.isclose(check(type="rouge-n", value="x").limit, 0.75)
