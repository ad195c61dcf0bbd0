"""Suites: what they ask, and that everything wrong with one is told at once with its line."""

from __future__ import annotations

from pathlib import Path

import pytest

from comparison.measure.suite import Suite, read
from comparison.measure.suite_table import expectation
from errors import CounterpointError
from strict_yaml import load

SUITE = """\
name: shop
title: The shop
judge: gpu/base
repeat: {times: 3}
defaultTest:
  vars: {shop: Copper Heron, days: 3}
  assert:
    - {type: not-icontains, value: sorry, metric: voice}
tests:
  - question: "When does {{shop}} ship {{what}}?"
    vars: {what: beans}
    paraphrases: ["How soon do you send {{what}}?"]
    assert:
      - {type: icontains, value: "in {{days}} days", metric: knowledge}
      - {type: similar, value: "{{what}} leave soon", threshold: 0.6, metric: knowledge}
    tags: [delivery]
  - question: "I am {{who}}. Can I skip a month?"
    vars: {days: 5}
    threshold: 0.5
    pairs: {attribute: name, var: who, values: [[Emily, Lakisha], [Greg, Jamal]]}
"""


def test_every_wording_and_every_asker_is_a_case_with_its_variables_filled_in() -> None:
    cases = load(SUITE, "shop.yaml", Suite).cases()
    assert [(case.id, case.question) for case in cases] == [
        ("1.0", "When does Copper Heron ship beans?"),
        ("1.1", "How soon do you send beans?"),
        ("2.0.0a", "I am Emily. Can I skip a month?"),
        ("2.0.0b", "I am Lakisha. Can I skip a month?"),
        ("2.0.1a", "I am Greg. Can I skip a month?"),
        ("2.0.1b", "I am Jamal. Can I skip a month?"),
    ]
    assert [check.value for check in cases[0].checks] == ["sorry", "in 3 days", "beans leave soon"]
    assert [check.metric for check in cases[1].checks] == ["voice", "knowledge", "knowledge"]
    assert cases[0].tags == ("delivery",)
    assert [(case.attribute, case.side, case.threshold) for case in cases[1:4]] == [
        (None, None, None),
        ("name", 0, 0.5),
        ("name", 1, 0.5),
    ]


def test_a_suite_says_what_it_cannot_be_measured_without() -> None:
    assert load(SUITE, "shop.yaml", Suite).needs == {"embedding"}


def test_the_same_questions_have_the_same_sha256_however_they_are_laid_out() -> None:
    one = load(SUITE, "a.yaml", Suite)
    assert (
        load(SUITE.replace("repeat: {times: 3}\n", "") + "repeat: {times: 3}\n", "b.yaml", Suite).sha256
        == one.sha256
    )
    assert load(SUITE.replace("0.6", "0.7"), "b.yaml", Suite).sha256 != one.sha256


WRONG = [
    ("  - {question: why}", "tests[0]: has no assert: say what a right answer is"),
    ("  - {question: 'why {{x}}?', assert: [{type: is-json}]}", "tests[0]: uses {{x}}, which is not among its vars"),
    ("  - {assert: [{type: is-json}]}", "tests[0]: uses {{question}}, which is not among its vars"),
    ("  - {question: why, assert: [{type: icontain, value: x}]}", "tests[0].assert[0]: the check 'icontain' is not"),
    ("  - {question: why, asert: []}", "s.yaml:4: tests[0].asert: is not a field that is known here"),
    ("  - {question: why, threshold: 2, assert: [{type: is-json}]}", "tests[0].threshold: must be 1.0 or less"),
    ("  []", "tests: needs at least 1"),
    ("  - {question: a, assert: [{type: contains-any, value: ['{{x}}']}]}", "check 'contains-any' uses {{x}}"),
    ("  - {question: why, assert: [{type: similar, value: x, threshold: 1.7}]}", "its threshold is at most 1"),
]  # fmt: skip


@pytest.mark.parametrize(("tests", "told"), WRONG)
def test_what_is_wrong_with_a_suite_is_told_with_its_place(tests: str, told: str) -> None:
    with pytest.raises(CounterpointError) as error:
        load(f"name: s\ntitle: S\ntests:\n{tests}\n", "s.yaml", Suite)
    assert told in str(error.value)


def test_a_mark_of_a_metric_that_no_check_has_is_told() -> None:
    text = "name: s\ntitle: S\nrequire: [{mode: base, metric: rulse, at_least: 1}]\ntests:\n"
    tests = "  - {question: why, assert: [{type: is-json, metric: rules}]}\n"
    with pytest.raises(CounterpointError, match=r"require\[0\]: no check has the metric 'rulse'"):
        load(text + tests, "s.yaml", Suite)
    assert load(text.replace("rulse", "rules") + tests, "s.yaml", Suite).require


def test_all_that_is_wrong_with_a_suite_is_told_at_once() -> None:
    tests = f"{WRONG[3][0]}\n{WRONG[4][0]}"
    text = f"name: S s\nrepeat: {{times: 0}}\njudge: nobody:x\nrequire: [{{mode: base, at_least: 3}}]\ntests:\n{tests}\n"
    with pytest.raises(CounterpointError) as error:
        load(text, "s.yaml", Suite)
    for place in (
        "name",
        "title",
        "repeat.times",
        "judge",
        "require[0].at_least",
        "tests[0].assert[0]",
        "tests[1].asert",
    ):
        assert f": {place}: " in str(error.value)


def test_a_bias_suite_needs_pairs_and_a_general_one_no_checks() -> None:
    plain = "name: s\ntitle: S\nmeasures: {}\ntests: [{{question: why}}]\n"
    assert load(plain.format("general"), "s.yaml", Suite).cases()[0].checks == ()
    with pytest.raises(CounterpointError, match="measures bias, but no test has pairs"):
        load(plain.format("bias"), "s.yaml", Suite)


TABLE = '''\
question,plan,__expected,__expected2,__metric,__threshold
"What is {{plan}}, then?",Heron,icontains:14,"not-contains-any:free, ""1,000""",knowledge,
Can I skip?,,similar(0.7):You can skip,,,0.5
Say yes.,,Yes,,,
'''


def test_a_table_is_a_suite(tmp_path: Path) -> None:
    path = tmp_path / "My shop.csv"
    path.write_text(TABLE)
    suite = read(path)
    assert (suite.name, suite.title) == ("my-shop", "My shop")
    one, two, three = suite.cases()
    assert one.question == "What is Heron, then?"
    assert [(check.type, check.value, check.metric) for check in one.checks] == [
        ("icontains", "14", "knowledge"),
        ("not-contains-any", 'free, "1,000"', "knowledge"),
    ]
    assert [(check.type, check.value, check.threshold) for check in two.checks] == [
        ("similar", "You can skip", 0.7)
    ]
    assert two.threshold == 0.5
    assert [(check.type, check.value) for check in three.checks] == [("equals", "Yes")]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("q,__expected\na,b\n", "s.csv:1: there is no column question"),
        ("question,question\na,b\n", "s.csv:1: the column 'question' is there twice"),
        ("question,__provider,__expected\na,b,c\n", "s.csv:1: the column '__provider' is not known here"),
        ("question,__expected\na\n", "s.csv:2: has 1 cells, and the header 2"),
        ("question,__expected\n,b\n", "s.csv:2: question is empty"),
        ("question,__expected\na,\n", "s.csv:2: nothing is expected of its answer"),
        ("question,__expected\na,b\na,regex:(\n", "s.csv:3: __expected: the check 'regex' has a regular expression"),
        ("question,__expected\na,javascript:1\n", "s.csv:2: __expected: the check 'javascript' is not known here"),
        ("question,__expected,__threshold\na,b,x\n", "s.csv:2: __threshold: 'x' is no number"),
        ("question,__expected\n", "s.csv: has no rows"),
        ("", "s.csv:1: there is no column question"),
        ('question,__expected\n"a,b\n', "s.csv: it is no table"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_table_is_told_with_its_line(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "s.csv"
    path.write_text(text)
    with pytest.raises(CounterpointError) as error:
        read(path)
    assert told in str(error.value)
    assert "\n" not in str(error.value)


def test_a_file_that_is_no_text_or_is_not_there_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(CounterpointError, match="cannot be read"):
        read(tmp_path / "none.yaml")
    (tmp_path / "x.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(CounterpointError, match="is not UTF-8 text"):
        read(tmp_path / "x.yaml")


@pytest.mark.parametrize(
    ("cell", "check"),
    [
        ("not-llm-rubric: is rude", {"type": "not-llm-rubric", "value": "is rude"}),
        ("grade: is short", {"type": "llm-rubric", "value": "is short"}),
        ("llm-rubric(0.8): is short", {"type": "llm-rubric", "value": "is short", "threshold": 0.8}),
        ("similar(0.7):hello", {"type": "similar", "value": "hello", "threshold": 0.7}),
        ("note: a text", {"type": "equals", "value": "note: a text"}),
        ("https://example.com", {"type": "equals", "value": "https://example.com"}),
        ("yes", {"type": "equals", "value": "yes"}),
    ],
)
def test_a_cell_says_its_check_as_promptfoo_has_it(cell: str, check: dict[str, object]) -> None:
    assert expectation(cell) == check


@pytest.mark.parametrize(
    ("cell", "told"),
    [
        ("factuality:Paris", "'factuality' is not known here"),
        ("answer-relevance(0.7):x", "'answer-relevance' is not known"),
        ("similar(1.2.3):x", "'1.2.3' is no number"),
        ("similar(abc):hello", r"'similar\(abc\):' is no check as it is written"),
        ("similar (0.5): five", "without spaces"),
        ("Icontains:ho", "in small letters"),
        ("javascript:output.length", "its code is JavaScript"),
    ],
)
def test_a_cell_whose_check_is_not_known_is_refused_and_not_taken_for_a_text(cell: str, told: str) -> None:
    with pytest.raises(CounterpointError, match=told):
        expectation(cell)


def test_a_small_file_that_asks_too_much_is_refused_before_anything_is_made_of_it() -> None:
    sides = ", ".join(f"[a{n}, b{n}]" for n in range(60))
    pairs = f"{{attribute: name, var: who, values: [{sides}]}}"
    test = f"{{question: 'a {{{{who}}}}?', paraphrases: {['b?'] * 20}, pairs: {pairs}}}"
    with pytest.raises(CounterpointError, match="asks 25,200 questions in all wordings and pairs"):
        load(f"name: s\ntitle: S\nmeasures: bias\ntests: [{', '.join([test] * 10)}]\n", "s.yaml", Suite)
