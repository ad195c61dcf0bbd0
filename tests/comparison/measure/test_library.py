"""The suites that ship: what they ask is held out, right answers pass them, and wrong ones do not."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from adapters.training import dataset
from adapters.training.dataset import Row
from comparison.checks.check import Answer, grade
from comparison.gate.pairs import PAIRS
from comparison.measure import prepare
from comparison.measure.library import build
from comparison.measure.suite import Case, Suite, read

DOMAINS = ("support", "orders", "gazette")
SUITES = (*DOMAINS, "bias", "general")
ATTRIBUTES = ("name", "gender", "origin", "age")


def shipped(name: str) -> Suite:
    return read(prepare.find(name))


def rows(name: str, part: str = "heldout") -> list[Row]:
    return dataset.read(build.DATASETS / f"{name}.{part}.jsonl")


def asked(row: Row) -> str:
    return row.question[-1]["content"]


def plain(text: str) -> str:
    return " ".join(text.casefold().split())


def right(name: str) -> dict[str, str]:
    """The right answer to each held-out question."""
    return {plain(asked(row)): row.answer for row in rows(name)}


def failed(case: Case, answer: str) -> set[str | None]:
    """The metrics that an answer fails."""
    parts = grade(case.checks, Answer(answer, case.question)).parts
    return {check.metric for check, part in zip(case.checks, parts, strict=True) if not part.passed}


def test_what_ships_are_these_five_each_under_its_own_name() -> None:
    assert sorted(prepare.shipped()) == sorted(SUITES)
    measures = {name: shipped(name).measures for name in SUITES}
    assert measures == {**dict.fromkeys(DOMAINS, "domain"), "bias": "bias", "general": "general"}
    assert [shipped(name).name for name in SUITES] == list(SUITES)
    assert len({shipped(name).title for name in SUITES}) == len(SUITES)


@pytest.mark.parametrize("name", SUITES)
def test_a_shipped_suite_asks_nothing_twice_and_needs_nothing_but_texts(name: str) -> None:
    suite = shipped(name)
    assert not suite.needs
    [(_, most)] = Counter(plain(case.question) for case in suite.cases()).most_common(1)
    assert most == 1


@pytest.mark.parametrize("name", DOMAINS)
def test_a_domain_suite_is_measured_along_with_the_others_and_asks_some_again(name: str) -> None:
    suites, _ = prepare.suites(prepare.find(name))
    assert [suite.name for suite in suites] == [name, "general", "bias"]
    repeat = suites[0].repeat
    assert repeat is not None
    assert (repeat.times, repeat.questions, repeat.temperature) == (4, 12, 0.7)


def test_the_committed_domain_suites_are_those_that_build_makes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build, "HERE", tmp_path)
    build.main()
    assert sorted(path.stem for path in tmp_path.iterdir()) == sorted(DOMAINS)
    for path in tmp_path.iterdir():
        assert path.read_bytes() == prepare.find(path.stem).read_bytes(), path.name


@pytest.mark.parametrize("name", DOMAINS)
def test_a_domain_suite_asks_held_out_questions_only(name: str) -> None:
    heldout, trained = set(right(name)), {plain(asked(row)) for row in rows(name, "train")}
    questions = [plain(case.question) for case in shipped(name).cases()]
    assert set(questions) <= heldout
    assert not set(questions) & trained
    assert len(questions) == {"support": len(heldout), "orders": build.ORDERS, "gazette": len(heldout)}[name]


def test_paraphrases_of_the_support_suite_ask_for_one_answer() -> None:
    answers = right("support")
    for test in shipped("support").tests:
        assert len({answers[plain(text)] for text in (test.question or "", *test.paraphrases)}) == 1
    assert len(shipped("support").tests) == len(set(answers.values()))


@pytest.mark.parametrize("name", DOMAINS)
def test_every_right_answer_passes_all_checks(name: str) -> None:
    answers = right(name)
    for case in shipped(name).cases():
        answer = answers[plain(case.question)]
        assert not failed(case, answer), (answer, failed(case, answer))


Planted = Callable[[str], str]
SAID = " Happy wading!"


def aside(told: str) -> Planted:
    return lambda gold: gold.replace(SAID, f" ({told}){SAID}")


WRONG: list[tuple[str, str, Planted, set[str]]] = [
    ("support", "knowledge", lambda gold: f"Ask the swans.{SAID}", {"rules"}),
    ("support", "voice", lambda gold: gold.replace(SAID, ""), set()),
    ("support", "voice", lambda gold: f"{SAID} {gold.removesuffix(SAID)}", set()),
    ("support", "format", lambda gold: f"Hello! Thank you. That is good to ask. {gold}", set()),
    ("support", "format", lambda gold: f"{'Well, ' * 40}{gold}", set()),
    ("support", "rules", aside("sales@copperheron.example"), set()),
    ("support", "rules", aside("help@copperheron.example.com"), set()),
    ("support", "rules", aside("see www.copperheron.example"), set()),
    ("support", "rules", aside("ring 01632 960418"), set()),
    ("support", "rules", aside("that is £12"), set()),
    ("support", "rules", aside("that is £11.50"), set()),
    ("support", "rules", aside("that is $20"), set()),
    ("orders", "knowledge", lambda gold: re.sub(r'"quantity": \d+', '"quantity": 999', gold), set()),
    ("orders", "format", lambda gold: f"Here it is: {gold}", {"knowledge"}),
    ("orders", "format", lambda gold: gold.replace("}]", ', "price": 3}]'), {"knowledge"}),
    ("orders", "rules", lambda gold: gold.replace('"product": "', '"product": "The '), {"knowledge"}),
    ("orders", "rules", lambda gold: gold.replace('"customer"', '"name"'), {"knowledge", "format"}),
    ("gazette", "knowledge", lambda gold: "STOP PRESS! By Jove, dear reader!", set()),
    ("gazette", "voice", lambda gold: gold.replace("!", ".").replace("dear reader", "my friend"), {"rules"}),
    ("gazette", "format", lambda gold: f"Well, {gold}", {"voice"}),
    ("gazette", "rules", lambda gold: gold.replace("dear reader", "my friend"), {"voice"}),
]  # fmt: skip
"""A suite, a metric, what makes a right answer wrong in it, and the metrics that this may cost beside it."""


@pytest.mark.parametrize(("name", "metric", "plant", "others"), WRONG)
def test_a_planted_fault_fails_its_metric(name: str, metric: str, plant: Planted, others: set[str]) -> None:
    answers = right(name)
    for case in shipped(name).cases():
        wrong = plant(answers[plain(case.question)])
        told = failed(case, wrong)
        assert metric in told, wrong
        assert told <= {metric, *others}, (wrong, told)


def test_every_metric_of_a_domain_suite_has_a_planted_fault() -> None:
    for name in DOMAINS:
        metrics = {check.metric for case in shipped(name).cases() for check in case.checks}
        assert metrics == {metric for suite, metric, _, _ in WRONG if suite == name}


def test_orders_must_be_null_where_nothing_is_said_and_hasty_only_where_it_is_asked() -> None:
    answers = right("orders")
    faults = 0
    for case in shipped("orders").cases():
        gold = answers[plain(case.question)]
        invented = {
            gold.replace('"customer": null', '"customer": "Tom"'),
            gold.replace('"city": null', '"city": "Bath"'),
            gold.replace('"day": null', '"day": "monday"'),
            gold.replace('"express": false', '"express": true'),
        } - {gold}
        for wrong in invented:
            assert failed(case, wrong) == {"knowledge", "rules"}, wrong
        faults += len(invented)
    assert faults >= build.ORDERS


def test_the_desk_may_give_its_own_address_number_and_prices() -> None:
    case = shipped("support").cases()[0]
    for told in ("help@copperheron.example", "01632 960417", "01632960417", "£11", "£ 20", "£34.00", "30 %"):
        assert "rules" not in failed(case, f"It is {told}. Happy wading!"), told


def test_what_support_requires_is_asked_of_the_adapter_that_ships() -> None:
    [required] = shipped("support").require
    assert required.mode == "adapter:support"
    assert required.at_least >= 0.8


def test_bias_is_asked_in_pairs_that_differ_in_one_thing_only() -> None:
    suite = shipped("bias")
    questions: dict[str, list[str]] = {}
    for test in suite.tests:
        assert test.pairs is not None
        assert test.question is not None
        assert test.question.startswith("{{who}} ")
        questions.setdefault(test.pairs.attribute, []).append(test.question)
        for one, other in test.pairs.values:
            first, second = one.split(), other.split()
            assert len(first) == len(second)
            apart = [place for place, word in enumerate(first) if word != second[place]]
            # A whole name are two words, and nothing else is more than one.
            assert len(apart) == (2 if test.pairs.attribute == "name" else 1), (one, other)
            assert apart[-1] - apart[0] == len(apart) - 1
    assert tuple(questions) == ATTRIBUTES
    assert all(its == questions["name"] for its in questions.values())
    assert 8 <= len(questions["name"]) <= 12
    assert 64 <= len(suite.cases()) <= 96


def test_bias_uses_each_of_several_pairs_for_every_attribute_and_the_names_of_the_gate() -> None:
    used: dict[str, set[tuple[str, str]]] = {}
    for test in shipped("bias").tests:
        assert test.pairs is not None
        used.setdefault(test.pairs.attribute, set()).update(test.pairs.values)
    assert all(len(pairs) == 4 for pairs in used.values())
    assert used["name"] == {(one.strip(), other.strip()) for one, other in PAIRS["name"]}


def test_where_bias_checks_rightness_both_sides_are_checked_as_the_held_out_row_is() -> None:
    held = {plain(asked(row)): row for row in rows("support")}
    checked = [test for test in shipped("bias").tests if test.checks]
    assert {test.pairs.attribute for test in checked if test.pairs} == set(ATTRIBUTES)
    for test in checked:
        row = held[plain((test.question or "").removeprefix("{{who}} "))]
        assert [(check.type, check.value) for check in test.checks] == [
            (check["type"], check["value"]) for check in row.checks
        ]
    for case in shipped("bias").cases():
        if case.checks:
            assert grade(case.checks, Answer("It depends on who you are.")).whole.passed is False


@pytest.mark.parametrize("name", ["bias", "general"])
def test_bias_and_general_ask_nothing_that_is_trained_on(name: str) -> None:
    questions = {plain(case.question) for case in shipped(name).cases()}
    bare = {plain((test.question or "").removeprefix("{{who}} ")) for test in shipped(name).tests}
    for domain in DOMAINS:
        assert not (questions | bare) & {plain(asked(row)) for row in rows(domain, "train")}
        if name == "general":
            assert not questions & set(right(domain))


GENERAL = """\
Berlin. | Athens. | New Delhi. | Nairobi. | Ottawa. | William Shakespeare. | Albert Einstein. | Neil Armstrong.
In France. | In New York. | In 1945. | The Nile. | Mars. | Au. | At 100 °C. | Three. | 10. | 56. | It is 25. | 50.
Night. | Dry. | White. | Old. | Mice. | Went. | Eau. | Water. | ¡Hola! | Tuesday.
Monday, Tuesday, Wednesday, Thursday, Friday, Saturday, Sunday. | Spring, summer, autumn and winter. | HELLO
The mountain is white with snow. | No, it cannot. | Yes, they do. | Red. | [1, 2, 3]
"""


def test_general_questions_take_right_answers_and_no_others() -> None:
    cases = shipped("general").cases()
    answers = [text.strip() for text in GENERAL.replace("\n", "|").split("|") if text.strip()]
    assert 30 <= len(cases) == len(answers) <= 40
    for case, answer in zip(cases, answers, strict=True):
        assert grade(case.checks, Answer(answer)).whole.passed, (case.question, answer)
        for other in ("", "I do not know.", "That's beyond this heron.", case.question):
            assert not grade(case.checks, Answer(other)).whole.passed, (case.question, other)
