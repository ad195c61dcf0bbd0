"""YAML read strictly: what is refused, with which line, and what stays as it was typed."""

from __future__ import annotations

import pytest
from pydantic import BaseModel, ConfigDict, Field

import strict_yaml
from errors import CounterpointError


class Part(BaseModel):
    model_config = ConfigDict(extra="forbid")
    size: int
    tags: tuple[str, ...] = ()


class Whole(BaseModel):
    model_config = ConfigDict(extra="forbid")
    name: str
    rate: float = Field(default=1.0, gt=0)
    on: bool = True
    parts: list[Part] = []


def problems(text: str) -> list[str]:
    with pytest.raises(CounterpointError) as error:
        strict_yaml.load(text, "f.yaml", Whole)
    assert "\n" not in str(error.value)
    return str(error.value).split("; ")


def test_scalars_are_what_was_typed() -> None:
    text = "name: no\nrate: 2e-4\non: false\nparts:\n  - size: 3\n    tags: [on, 2026-01-01, '5']\n"
    whole = strict_yaml.load(text, "f.yaml", Whole)
    assert whole.name == "no"
    assert whole.rate == 2e-4
    assert whole.on is False
    assert whole.parts[0].tags == ("on", "2026-01-01", "5")


def test_every_problem_is_told_at_once_with_its_line() -> None:
    text = "nmae: x\nrate: -1\nparts:\n  - size: big\n  - tags: [a, 2]\n    size: 1\n    size: 2\n"
    told = problems(text)
    starts = ["f.yaml:1: name: is missing", "f.yaml:1: nmae:", "f.yaml:2: rate:", "f.yaml:4: parts[0].size:"]
    starts += [
        "f.yaml:5: parts[1].tags[1]: must be text",
        "f.yaml:7: parts[1].size: is given twice (first in line 6)",
    ]
    assert len(told) == len(starts)
    for start, line in zip(starts, told, strict=True):
        assert line.startswith(start)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "f.yaml:1: the file is empty"),
        ("- name", "f.yaml:1: must be a mapping"),
        ("name: [1\n", "f.yaml:2: not valid YAML"),
        ("name: x\n---\nname: y\n", "not valid YAML"),
        ("name: &a x\nrate: *a\n", "f.yaml:1: a: anchors and aliases are not allowed"),
        (
            "name: !!python/object:os.system x",
            "the tag tag:yaml.org,2002:python/object:os.system is not allowed",
        ),
        ("name: x\n5: y\n", "f.yaml:2: keys must be text"),
        ("name: x\nrate: .inf\n", "f.yaml:2: rate: .inf is not a number"),
        ("name: x\nrate: 1e999\n", "f.yaml:2: rate: 1e999 is too large"),
        ("name: \x07\n", "not valid YAML"),
    ],
)
def test_what_is_not_plain_data_is_refused(text: str, message: str) -> None:
    assert message in "; ".join(problems(text))


def test_text_is_never_taken_for_a_number() -> None:
    assert problems("name: x\nrate: '1'\n") == ["f.yaml:2: rate: must be a number"]
    assert problems("name: 5\n") == ["f.yaml:1: name: must be text (quote it if it looks like a number)"]


def test_deep_nesting_is_an_error_and_not_a_crash() -> None:
    assert problems("name: " + "[" * 5000 + "]" * 5000) == ["f.yaml:1: is nested too deeply"]
    # PyYAML alone would take minutes for these.
    assert problems("[" * 200_000) == ["f.yaml:1: is nested too deeply"]


def test_an_anchor_hides_no_other_problem() -> None:
    told = "; ".join(problems("name: &a x\nrate: *a\ncolour: red\n"))
    assert "anchors and aliases are not allowed" in told
    assert "colour" in told
