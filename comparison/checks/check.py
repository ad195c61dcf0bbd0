"""One check of an answer, as promptfoo's assertions are (promptfoo.dev/docs/configuration/expected-outputs), and how
several make one grade."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from errors import CounterpointError
from strict_json import show
from strict_yaml import joined, sentences

Need = Literal["embedding", "logprobs", "latency", "cost", "python", "judge"]
"""What some checks cannot be made without, beside the answer's text."""
SET = "assert-set"
NOT = "not-"


@dataclass(frozen=True, slots=True)
class Answer:
    """What is checked. `latency_ms` is the whole answer's, asked alone; `logprob` the mean of its tokens' natural
    log-probabilities; `cost` money in the prices' currency. None where it was not measured."""

    text: str
    question: str = ""
    variables: Mapping[str, str] = field(default_factory=dict)
    latency_ms: float | None = None
    cost: float | None = None
    logprob: float | None = None


class Grade(NamedTuple):
    """Whether a check passed, how well (0 to 1), and why, in one line."""

    passed: bool
    score: float
    reason: str = ""


class CannotGrade(CounterpointError):
    """A check that cannot be made of this answer: something was not measured, or who should judge did not."""


@dataclass(frozen=True, slots=True)
class Tools:
    """What checks may use; one that needs what is not there raises CannotGrade.

    `similarity` is the cosine of two texts' embeddings, -1 to 1. `judge` answers a prompt, as the mode that is
    named, or as the default one. `python` runs (code, answer) and gives what the code returned.
    """

    similarity: Callable[[str, str], float] | None = None
    judge: Callable[[str, str | None], str] | None = None
    python: Callable[[str, Answer], Any] | None = None


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of check. `value_problem` says what is wrong with a value, or None; `threshold` is the default one of
    kinds that have one, `must_have_threshold` those without a default; `most` is the highest that a score can reach."""

    grade: Callable[[Check, Answer, Tools], Grade]
    value_problem: Callable[[Any], str | None]
    threshold: float | None = None
    takes_threshold: bool = False
    must_have_threshold: bool = False
    most: float | None = None
    need: Need | None = None


def _tupled(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


class Check(BaseModel):
    """One check. `type` is a kind's name, with "not-" before it to turn it around; `metric` is what it counts for, such
    as knowledge, rules, format or voice; `weight` how much in the score (0: in nothing); `provider` the mode that
    judges, of llm-rubric."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    type: str
    value: Any = None
    threshold: float | None = None
    weight: float = Field(1.0, ge=0, allow_inf_nan=False)
    metric: str | None = Field(None, min_length=1, max_length=60)
    provider: str | None = Field(None, min_length=1, max_length=200)
    parts: Annotated[tuple[Check, ...], Field(alias="assert"), BeforeValidator(_tupled)] = ()

    @model_validator(mode="after")
    def _can_be_made(self) -> Check:
        problem = self._problem()
        if problem:
            raise PydanticCustomError("check", "{told}", {"told": problem})
        return self

    @property
    def kind(self) -> str:
        """Its kind's name, without "not-"."""
        return self.type.removeprefix(NOT)

    @property
    def inverse(self) -> bool:
        return self.type.startswith(NOT)

    @property
    def needs(self) -> set[Need]:
        """What it, or a part of it, cannot be made without."""
        own = _kinds()[self.kind].need if self.kind != SET else None
        return {own} if own else set().union(*(part.needs for part in self.parts))

    def _problem(self) -> str | None:
        if self.type == SET:
            if not self.parts:
                return "assert-set needs at least one check under assert"
            return None
        if self.parts:
            return f"{self.type} takes no assert: only assert-set does"
        kind = _kinds().get(self.kind)
        if kind is None:
            return f"the check {self.type!r} is not known: use one of {', '.join([*_kinds(), SET])}"
        if wrong := kind.value_problem(self.value):
            return f"the check {self.type!r} {wrong}"
        if self.threshold is not None and not kind.takes_threshold:
            return f"the check {self.type!r} takes no threshold"
        if self.threshold is None and kind.must_have_threshold:
            return f"the check {self.type!r} needs a threshold"
        if self.threshold is not None and kind.most is not None and self.threshold > kind.most:
            return f"the check {self.type!r} never reaches {self.threshold:g}: its threshold is at most {kind.most:g}"
        if self.provider and kind.need != "judge":
            return f"the check {self.type!r} takes no provider: only llm-rubric does"
        return None

    def grade(self, answer: Answer, tools: Tools) -> Grade:
        """Raises CannotGrade where it cannot be made of this answer."""
        if self.kind == SET:
            return grade(self.parts, answer, tools, self.threshold).whole
        kind = _kinds()[self.kind]
        passed, score, reason = kind.grade(self, answer, tools)
        if not self.inverse:
            return Grade(passed, score, reason)
        told = reason or (
            f"passes {self.kind}" if self.value is None else f"passes {self.kind}: {show(self.value)}"
        )
        return Grade(not passed, 1 - score, told if passed else "")

    @property
    def limit(self) -> float:
        """Its threshold, or its kind's."""
        default = _kinds()[self.kind].threshold
        found = default if self.threshold is None else self.threshold
        assert found is not None
        return found


class Grades(NamedTuple):
    """What all checks of an answer say together, and each alone, in their order."""

    whole: Grade
    parts: tuple[Grade, ...]


def grade(
    checks: Sequence[Check], answer: Answer, tools: Tools | None = None, threshold: float | None = None
) -> Grades:
    """Grades an answer by `checks`: it passes if all of them do, or, with a `threshold`, if the mean of their scores by
    weight is at least that. One of weight 0 counts for nothing. Raises CannotGrade where one cannot be made."""
    each = tuple(check.grade(answer, tools or Tools()) for check in checks)
    weight = sum(check.weight for check in checks)
    counted = [(check, one) for check, one in zip(checks, each, strict=True) if check.weight]
    score = sum(check.weight * one.score for check, one in counted) / weight if weight else 1.0
    failed = [one for _, one in counted if not one.passed]
    if threshold is None:
        return Grades(Grade(not failed, score, failed[0].reason if failed else ""), each)
    # The sum of weights is not exact: three quarters of four parts must not miss 0.75.
    passed = score >= threshold - 1e-9
    return Grades(Grade(passed, score, "" if passed else f"scores {score:.2f} of {threshold:g}"), each)


def parse(checks: Sequence[Mapping[str, Any]], where: str) -> list[Check]:
    """The checks of a dataset's row, which may need nothing but the answer's text. Raises CounterpointError that begins
    with `where` and tells all that is wrong."""
    found, problems = _read(checks)
    if problems:
        raise CounterpointError(f"{where}: {joined(problems)}.")
    return found


def wrong_with(checks: Sequence[Mapping[str, Any]]) -> str | None:
    """Why `parse` would refuse them, if it would."""
    return joined(_read(checks)[1]) or None


def _read(checks: Sequence[Mapping[str, Any]]) -> tuple[list[Check], list[str]]:
    """The checks that are sound, and what is wrong with others."""
    found: list[Check] = []
    problems: list[str] = []
    for number, one in enumerate(checks, start=1):
        wrong: list[str] = []
        try:
            check = Check.model_validate(one)
            found.append(check)
            if check.needs:
                needed = ", ".join(sorted(check.needs))
                wrong = [f"the check {check.type!r} needs more than a text ({needed}): use it in a suite"]
        except ValidationError as error:
            wrong = sentences(error)
        at = f"check {number}: " if len(checks) > 1 else ""
        problems += [at + told for told in wrong]
    return found, problems


def passes(checks: Sequence[Check], answer: str) -> bool:
    """Whether a text alone passes all of `checks`."""
    return grade(checks, Answer(answer)).whole.passed


def _kinds() -> Mapping[str, Kind]:
    from comparison.checks.kinds import KINDS

    return KINDS
