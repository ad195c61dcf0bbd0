"""The suites that ship: held-out questions alone, with checks that right answers pass and wrong ones fail."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from adapters.datasets.build import HERE as DATASETS
from adapters.training import dataset
from comparison.checks.check import Answer, grade
from comparison.measure import prepare
from comparison.measure.library import build
from comparison.measure.suite import Case, Suite, read

DOMAINS = ("support", "orders", "gazette")


def loaded(name: str) -> Suite:
    return read(prepare.shipped()[name])


def asked(text: str) -> str:
    return " ".join(text.casefold().split())


def answers(name: str, kind: str) -> dict[str, str]:
    rows = dataset.read(DATASETS / f"{name}.{kind}.jsonl")
    return {asked(row.question[-1]["content"]): row.answer for row in rows}


def test_one_suite_for_each_adapter_that_ships_one_on_bias_and_one_on_anything_else() -> None:
    library = Path(prepare.LIBRARY).parents[2] / "adapters" / "library"
    adapters = {path.name for path in library.iterdir() if (path / "passport.json").is_file()}
    suites = {name: loaded(name) for name in prepare.shipped()}
    assert {name for name, suite in suites.items() if suite.measures == "domain"} == adapters == set(DOMAINS)
    assert {name: suite.measures for name, suite in suites.items() if suite.measures != "domain"} == {
        "bias": "bias",
        "general": "general",
    }
    assert all(suite.name == name for name, suite in suites.items())


@pytest.mark.parametrize("name", DOMAINS)
def test_a_domains_suite_is_made_of_the_rows_as_they_are_now(name: str) -> None:
    assert prepare.shipped()[name].read_text(encoding="utf-8") == build.made()[name]


@pytest.mark.parametrize("name", DOMAINS)
def test_questions_are_held_out_and_never_trained_on(name: str) -> None:
    held = answers(name, "heldout")
    trained = {question for domain in DOMAINS for question in answers(domain, "train")}
    questions = [asked(case.question) for case in loaded(name).cases()]
    assert set(questions) <= set(held)
    assert not set(questions) & trained
    assert len(set(questions)) == len(questions)


@pytest.mark.parametrize("name", ["bias", "general"])
def test_what_goes_along_is_not_trained_on_either(name: str) -> None:
    trained = {question for domain in DOMAINS for question in answers(domain, "train")}
    assert not {asked(case.question) for case in loaded(name).cases()} & trained
    assert not {asked((test.question or "").replace("{{who}}", "")) for test in loaded(name).tests} & trained


@pytest.mark.parametrize("name", DOMAINS)
def test_every_right_answer_passes_every_check(name: str) -> None:
    held = answers(name, "heldout")
    for case in loaded(name).cases():
        told = grade(case.checks, Answer(held[asked(case.question)], case.question), threshold=case.threshold)
        assert told.whole.passed, (case.question, told.whole.reason)


WRONG = {
    ("support", "knowledge"): "I do not know anything of that. Happy wading!",
    ("support", "voice"): "We post you freshly roasted coffee every month.",
    ("support", "format"): "One. Two. Three. Four. Five. Happy wading!",
    ("support", "rules"): "Write to sales@example.com or see www.copper.com, it is £9. Happy wading!",
    ("orders", "knowledge"): json.dumps({"customer": "Nobody at all", "items": []}),
    ("orders", "format"): "Certainly! Here is your order.",
    ("orders", "rules"): "{}",
    ("gazette", "knowledge"): "STOP PRESS! Dear reader, by Jove, nothing of the kind!",
    ("gazette", "voice"): "It is so.",
    ("gazette", "format"): "a quiet beginning without any headline",
    ("gazette", "rules"): "NEWS! Nothing is said to anybody.",
}


@pytest.mark.parametrize(("name", "metric"), list(WRONG))
def test_a_wrong_answer_fails_its_metric(name: str, metric: str) -> None:
    def failed(case: Case) -> bool:
        told = grade(case.checks, Answer(WRONG[name, metric], case.question), threshold=case.threshold)
        its = [part for check, part in zip(case.checks, told.parts, strict=True) if check.metric == metric]
        return bool(its) and not all(part.passed for part in its)

    cases = loaded(name).cases()
    assert sum(map(failed, cases)) >= 0.9 * len(cases)


def test_pairs_differ_in_who_asks_and_in_nothing_else() -> None:
    suite = loaded("bias")
    attributes: dict[str, int] = {}
    for test in suite.tests:
        assert test.pairs is not None
        attributes[test.pairs.attribute] = attributes.get(test.pairs.attribute, 0) + len(test.pairs.values)
        for one, other in test.pairs.values:
            assert one != other
            assert len(one.split()) == len(other.split())
    assert set(attributes) == {"name", "gender", "origin", "age"}
    assert min(attributes.values()) >= 8


def test_general_questions_can_be_failed_and_have_no_domain_in_them() -> None:
    for case in loaded("general").cases():
        assert case.checks
        assert not grade(case.checks, Answer("I do not know, happy wading!", case.question)).whole.passed, (
            case.question
        )
