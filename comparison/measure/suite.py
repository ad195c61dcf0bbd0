"""Suites: questions with checks, to measure modes with. Read strictly from YAML, every problem of a file at once.

The field names that promptfoo has for the same thing are promptfoo's: tests, vars, assert, threshold, defaultTest.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    model_validator,
)
from pydantic_core import PydanticCustomError

from comparison.checks.check import Check, Need
from comparison.modes import ModeId
from errors import CounterpointError
from personas.render import filled
from personas.schema import Slug, placeholders
from strict_yaml import load, load_plain

MAX_BYTES = 4 * 1024 * 1024
MAX_ASKED = 20_000
"""Questions of a suite in all their wordings, with all who ask."""
MAX_TESTS = 2_000
QUESTION = "question"
"""The variable that a suite's template asks where it says nothing else."""

Measures = Literal["domain", "bias", "general"]
"""What a suite's questions are about: what the modes are for, pairs that differ in who asks, or anything else, which
tuning may have made them forget."""


def _tupled(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


def _texts(value: object) -> object:
    return {name: _text(one) for name, one in value.items()} if isinstance(value, dict) else value


def _text(value: object) -> object:
    """A number as promptfoo would put it into a prompt."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return json.dumps(value) if number else value


def _mode(value: str) -> str:
    try:
        return str(ModeId.parse(value))
    except CounterpointError as error:
        raise ValueError(str(error)) from None


Line = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200)]
Question = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=8_000)]
Variables = Annotated[dict[str, str], BeforeValidator(_texts), Field(max_length=64)]
Checks = Annotated[tuple[Check, ...], BeforeValidator(_tupled), Field(max_length=64)]
Mode = Annotated[str, AfterValidator(_mode)]
Share = Annotated[float, Field(ge=0, le=1)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class Pairs(_Strict):
    """Who asks, in pairs that differ in one attribute: `var` takes each value of a pair in turn."""

    attribute: Line
    var: Line
    values: Annotated[
        tuple[Annotated[tuple[Question, Question], BeforeValidator(_tupled)], ...],
        BeforeValidator(_tupled),
        Field(min_length=1, max_length=100),
    ]


class Test(_Strict):
    """A question with its checks. `paraphrases` ask the same in other words; `pairs` ask it as several people."""

    __test__ = False  # no test of ours, whatever pytest thinks

    question: Question | None = None
    """What is asked, with {{variables}}; the suite's own template where it is left out."""
    vars: Variables = Field(default_factory=dict)
    paraphrases: Annotated[tuple[Question, ...], BeforeValidator(_tupled), Field(max_length=50)] = ()
    checks: Annotated[Checks, Field(alias="assert")] = ()
    threshold: Share | None = None
    """The weighted score from which an answer passes; without one all checks have to pass."""
    pairs: Pairs | None = None
    description: Line | None = None
    tags: Annotated[tuple[Line, ...], BeforeValidator(_tupled), Field(max_length=16)] = ()


class Defaults(_Strict):
    """What holds for every test, whose own vars and threshold win, and whose own checks come in addition."""

    vars: Variables = Field(default_factory=dict)
    checks: Annotated[Checks, Field(alias="assert")] = ()
    threshold: Share | None = None


class Repeat(_Strict):
    """How consistent answers are: each question is asked several times more, each time with another seed."""

    times: Annotated[int, Field(ge=2, le=50)] = 4
    questions: Annotated[int, Field(ge=1)] | None = None
    """Only so many of the suite's questions, spread evenly over it; all of them where left out."""
    temperature: Annotated[float, Field(ge=0, le=5)] | None = None
    """For these answers: at 0, as some modes sample, seeds change nothing. As each mode samples where left out."""


class Required(_Strict):
    """A mark that a release is held to: the share of tests that a mode passes, or of the checks of one metric."""

    mode: Mode
    metric: Line | None = None
    at_least: Share


class Suite(_Strict):
    """A suite as its file says it."""

    name: Slug
    title: Line
    description: Annotated[str, StringConstraints(strip_whitespace=True, max_length=2_000)] = ""
    measures: Measures = "domain"
    question: Question = f"{{{{{QUESTION}}}}}"
    judge: Mode | None = None
    """The mode that llm-rubric asks where the check names none."""
    max_tokens: Annotated[int, Field(ge=1, le=8192)] | None = None
    """The most of an answer, for all modes alike; as each mode samples where left out."""
    repeat: Repeat | None = None
    decisions: Annotated[tuple[Line, ...], BeforeValidator(_tupled), Field(max_length=64)] = (
        "yes",
        "no",
        "not",
        "cannot",
        "can't",
        "unfortunately",
        "sorry",
        "approve",
        "approved",
        "refuse",
        "refused",
        "deny",
        "denied",
    )
    """Words that decide something: counted in answers to pairs that differ in who asks."""
    along: Annotated[tuple[Line, ...], BeforeValidator(_tupled), Field(max_length=8)] = ()
    """Suites that are measured in the same run: names of those that ship, or files beside this one."""
    default: Annotated[Defaults, Field(alias="defaultTest")] = Defaults()
    require: Annotated[tuple[Required, ...], BeforeValidator(_tupled), Field(max_length=64)] = ()
    tests: Annotated[tuple[Test, ...], BeforeValidator(_tupled), Field(min_length=1, max_length=MAX_TESTS)]

    @model_validator(mode="after")
    def _holds_together(self) -> Suite:
        told = [
            f"tests[{number}]: {problem}"
            for number, test in enumerate(self.tests)
            for problem in self._problems(test)
        ]
        metrics = {check.metric for test in self.tests for check in (*self.default.checks, *test.checks)}
        told += [
            f"require[{number}]: no check has the metric {required.metric!r}"
            for number, required in enumerate(self.require)
            if required.metric and required.metric not in metrics
        ]
        if self.measures == "bias" and not any(test.pairs for test in self.tests):
            told.append("measures bias, but no test has pairs")
        asked = sum(
            (1 + len(test.paraphrases)) * sum(map(len, test.pairs.values) if test.pairs else (1,))
            for test in self.tests
        )
        if asked > MAX_ASKED:
            told.append(
                f"asks {asked:,} questions in all wordings and pairs, and {MAX_ASKED:,} are taken: split it"
            )
        if told:
            raise PydanticCustomError("suite", "{told}", {"told": "; ".join(told[:20])})
        return self

    def _problems(self, test: Test) -> Iterator[str]:
        known = {*self.default.vars, *test.vars, *((test.pairs.var,) if test.pairs else ())}
        for text in (test.question or self.question, *test.paraphrases):
            if unknown := sorted(placeholders(text) - known):
                yield f"uses {{{{{unknown[0]}}}}}, which is not among its vars"
        for check in (*self.default.checks, *test.checks):
            if check.kind != "python" and (unknown := sorted(_named(check) - known)):
                yield f"the check {check.type!r} uses {{{{{unknown[0]}}}}}, which is not among its vars"
        if not (*self.default.checks, *test.checks) and self.measures == "domain":
            yield "has no assert: say what a right answer is"

    @property
    def sha256(self) -> str:
        """Of what the suite asks and checks, not of how its file is laid out."""
        content = self.model_dump(mode="json", by_alias=True)
        canonical = json.dumps(content, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()

    @property
    def needs(self) -> set[Need]:
        """What its checks cannot be made without, beside the answers' texts."""
        return set().union(*(case.needs for case in self.cases()))

    def cases(self) -> list[Case]:
        """Everything that is asked, in the file's order."""
        return [case for number, test in enumerate(self.tests) for case in self._of(number, test)]

    def _of(self, number: int, test: Test) -> Iterator[Case]:
        checks = (*self.default.checks, *test.checks)
        threshold = self.default.threshold if test.threshold is None else test.threshold
        wordings = (test.question or self.question, *test.paraphrases)
        sides: Sequence[tuple[int | None, int | None, str | None]] = [(None, None, None)]
        if test.pairs:
            sides = [
                (pair, side, value)
                for pair, values in enumerate(test.pairs.values)
                for side, value in enumerate(values)
            ]
        for wording, text in enumerate(wordings):
            for pair, side, value in sides:
                variables = {**self.default.vars, **test.vars}
                if test.pairs and value is not None:
                    variables[test.pairs.var] = value
                # As in promptfoo, a value may name others; what they put in is not looked at again.
                variables = {name: filled(one, variables) for name, one in variables.items()}
                yield Case(
                    test=number,
                    wording=wording,
                    pair=pair,
                    side=side,
                    attribute=test.pairs.attribute if test.pairs else None,
                    question=filled(text, variables),
                    variables=variables,
                    checks=tuple(_filled(check, variables) for check in checks),
                    threshold=threshold,
                    tags=test.tags,
                )


@dataclass(frozen=True, slots=True)
class Case:
    """One wording of one question, ready to be asked: `test` and `wording` are their places, 0 being the question itself
    and more its paraphrases; `pair` and `side` tell those apart that differ in who asks."""

    test: int
    wording: int
    pair: int | None
    side: int | None
    attribute: str | None
    question: str
    variables: Mapping[str, str]
    checks: tuple[Check, ...]
    threshold: float | None
    tags: tuple[str, ...]

    @property
    def id(self) -> str:
        """Unique in its suite, and the same as long as the suite is."""
        pair = "" if self.pair is None else f".{self.pair}{'ab'[self.side or 0]}"
        return f"{self.test + 1}.{self.wording}{pair}"

    @property
    def needs(self) -> set[Need]:
        return set().union(*(check.needs for check in self.checks))


def read(path: Path) -> Suite:
    """Reads the suite in `path`: YAML, or a table. Raises CounterpointError with every problem and its line."""
    text = _text_of(path)
    if path.suffix.lower() in (".csv", ".tsv"):
        from comparison.measure.suite_table import read_table

        return read_table(text, path)
    return load(text, path.name, Suite)


def read_any(path: Path) -> tuple[Suite, tuple[str, ...]]:
    """A suite of ours or a promptfoo configuration, and what of that did not come along. Raises CounterpointError."""
    from comparison.measure import promptfoo

    if path.suffix.lower() in (".yaml", ".yml"):
        text = _text_of(path)
        if promptfoo.is_config(load_plain(text, path.name)):
            return promptfoo.read_config(text, path)
    return read(path), ()


def _text_of(path: Path) -> str:
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise CounterpointError(
            f"{path}: the suite cannot be read ({error.strerror}): give a YAML or CSV file."
        ) from None
    if len(raw) > MAX_BYTES:
        raise CounterpointError(
            f"{path.name} has {len(raw):,} bytes; a suite may have {MAX_BYTES:,}: split it."
        )
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise CounterpointError(f"{path} is not UTF-8 text: save it as that.") from None


def _filled(check: Check, variables: Mapping[str, str]) -> Check:
    """The check with its texts' {{variables}} in their place."""
    return check.model_copy(
        update={
            "value": _deep(check.value, variables),
            "parts": tuple(_filled(part, variables) for part in check.parts),
        }
    )


def _named(check: Check) -> set[str]:
    """The variables that its texts name."""
    texts: list[str] = []
    waiting = [check.value, *(part.value for part in check.parts)]
    while waiting:
        one = waiting.pop()
        if isinstance(one, str):
            texts.append(one)
        elif isinstance(one, list | tuple):
            waiting += one
        elif isinstance(one, dict):
            waiting += one.values()
    return {name for text in texts for name in placeholders(text)}


def _deep(value: Any, variables: Mapping[str, str]) -> Any:
    if isinstance(value, str):
        return filled(value, variables)
    if isinstance(value, list | tuple):
        return [_deep(one, variables) for one in value]
    if isinstance(value, dict):
        return {name: _deep(one, variables) for name, one in value.items()}
    return value
