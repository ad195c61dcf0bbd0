"""promptfoo configurations: what comes along means the same here, and what does not is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from comparison.measure.suite import Suite, read_any
from errors import CounterpointError

CONFIG = """\
# yaml-language-server: $schema=https://promptfoo.dev/config-schema.json
description: Shop answers
prompts:
  - "Answer in one sentence: {{question}}"
  - file://other.txt
providers: [openai:gpt-5-mini]
evaluateOptions: {maxConcurrency: 2}
defaultTest:
  vars: {shop: Copper Heron}
  assert:
    - {type: latency, threshold: 5000}
tests:
  - description: Skipping
    vars: {question: "Can I skip at {{shop}}?"}
    assert:
      - {type: icontains, value: skip, metric: rules, weight: 2}
      - {type: javascript, value: output.length < 100}
      - {type: similar, value: You can skip, threshold: 0.7, provider: "openai:embedding"}
    options: {cache: false}
  - vars: {question: ["Why?", "When?"]}
    threshold: 0.5
    assert:
      - type: is-json
        value: "{type: object, required: [day]}"
      - {type: assert-set, threshold: 0.5, assert: [{type: webhook, value: "http://x"}, {type: contains, value: a}]}
  - file://more.csv
"""


def imported(folder: Path, text: str) -> tuple[Suite, tuple[str, ...]]:
    path = folder / "promptfooconfig.yaml"
    path.write_text(text)
    return read_any(path)


def test_a_plain_configuration_is_a_suite_and_what_it_leaves_is_named(tmp_path: Path) -> None:
    (tmp_path / "more.csv").write_text("question,__expected\nHow much?,icontains:14\n")
    suite, left = imported(tmp_path, CONFIG)
    assert (suite.name, suite.title) == ("promptfooconfig", "Shop answers")
    cases = suite.cases()
    assert [case.question for case in cases] == [
        "Answer in one sentence: Can I skip at Copper Heron?",
        "Answer in one sentence: Why?",
        "Answer in one sentence: When?",
        "Answer in one sentence: How much?",
    ]
    assert [(check.type, check.weight, check.metric, check.threshold) for check in cases[0].checks] == [
        ("latency", 1, None, 5000),
        ("icontains", 2, "rules", None),
        ("similar", 1, None, 0.7),
    ]
    assert cases[1].threshold == 0.5
    assert cases[1].checks[1].value == {"type": "object", "required": ["day"]}
    assert [part.type for part in cases[1].checks[2].parts] == ["contains"]
    assert [check.value for check in cases[3].checks] == [None, "14"]
    assert {place.partition(": ")[0] for place in left} == {
        "evaluateOptions",
        "providers",
        "prompts[1]",
        "tests[0].assert[1]",
        "tests[0].assert[2].provider",
        "tests[0].options",
        "tests[1].assert[1].assert[0]",
    }
    assert "tests[0].assert[1]: the check 'javascript' is not known here" in left


def test_a_test_of_which_no_check_is_known_is_not_asked_and_named(tmp_path: Path) -> None:
    text = """\
prompts: ["{{q}}"]
tests:
  - {vars: {q: a}, assert: [{type: is-json}]}
  - {vars: {q: b}, assert: [{type: javascript, value: "1"}]}
"""
    suite, left = imported(tmp_path, text)
    assert [case.question for case in suite.cases()] == ["a"]
    assert left[-1] == "tests[1]: no check of it is known here, so it is not asked"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            "prompts: [x]\ntests: [{assert: [{type: webhook}]}]\n",
            "nothing is left to measure: tests[0].assert[0]",
        ),
        (
            "prompts: ['{{a}}']\ntests: [{assert: [{type: is-json}]}]\n",
            "uses {{a}}, which is not among its vars",
        ),
        (
            "prompts: ['{{a}}']\ntests: [{vars: {a: 'file://a.txt'}, assert: [{type: is-json}]}]\n",
            "Not taken over: tests[0].vars.a: its value is in a file (file://): write it out.",
        ),
        (
            "prompts: [x]\ntests: ['file:///etc/passwd']\n",
            "tests[0]: 'file:///etc/passwd' is no CSV file beside it",
        ),
        ("prompts: [x]\ntests: ['../x.csv']\n", "tests[0]: '../x.csv' is no CSV file beside it"),
        ("prompts: [x]\ntests: 3\n", "tests[0]: is no test"),
        (
            "prompts: [x]\ntests: [{assert: [{type: is-json, value: '[&a [x], *a]'}]}]\n",
            "anchors and aliases are not allowed",
        ),
    ],
)
def test_of_what_nothing_can_be_asked_is_told(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(CounterpointError) as error:
        imported(tmp_path, text)
    assert told in str(error.value)


def test_a_suite_of_ours_is_no_configuration(tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    path.write_text("name: s\ntitle: S\ntests: [{question: why, assert: [{type: is-json}]}]\n")
    suite, left = read_any(path)
    assert (suite.name, left) == ("s", ())
