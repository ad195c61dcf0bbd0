"""A measurement's answers and grades, as its figures look at them."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from comparison.measure.folder import Graded, Record
from comparison.measure.plan import Kind, Plan, Prices, key
from comparison.measure.suite import Case, Measures

LOCAL = "local"
"""What receipts call the engine of this machine."""
Value = float | None
"""None where it was not measured, or cannot be."""
Place = tuple[str, Case]
"""A case with its suite's name."""
Of = Callable[[str, Place], Value]
"""A slot's value for a case."""


@dataclass(frozen=True, slots=True)
class Senses:
    """What texts are looked at with: `embed` gives unit vectors (texts, width), `tone` lies between -1 and 1, `decisions`
    counts a text's words that are among these."""

    embed: Callable[[Sequence[str]], np.ndarray]
    tone: Callable[[str], float]
    decisions: Callable[[str, Sequence[str]], int]


class Answers:
    """Finds answers and grades by what they are of."""

    def __init__(
        self, plan: Plan, records: Mapping[str, Record], grades: Mapping[str, Graded], senses: Senses
    ) -> None:
        self.plan, self.records, self.senses = plan, records, senses
        self.slots = [slot.id for slot in plan.slots]
        self._grades = grades

    def find(self, kind: Kind, place: Place, slot: str, repeat: int = 0) -> Record | None:
        suite, case = place
        return self.records.get(key(kind, suite, case.id, slot, repeat))

    def grade(self, record: Record | None) -> Graded | None:
        """None where there is no answer, or its checks cannot be made."""
        found = self._grades.get(record.key) if record else None
        return found if found and found.cannot is None else None

    @property
    def ungraded(self) -> list[str]:
        """Why each answer could not be graded whose checks could not be made."""
        return [one.cannot for one in self._grades.values() if one.cannot]

    def places(self, measures: Measures | None = None) -> list[Place]:
        """All cases of the suites that measure this."""
        return [
            (suite.name, case)
            for suite in self.plan.suites
            if measures in (None, suite.measures)
            for case in self.plan.cases[suite.name].values()
        ]

    @property
    def main(self) -> list[Place]:
        """The cases of the suite that was asked for."""
        name = self.plan.suite.name
        return [(name, case) for case in self.plan.cases[name].values()]

    def passed(self, slot: str, place: Place) -> Value:
        """1 for an answer that passes, 0 for one that does not."""
        grade = self.grade(self.find("answer", place, slot))
        return None if grade is None or grade.passed is None else float(grade.passed)

    def passed_for(self, metric: str) -> Of:
        """Whether an answer passes all checks of a metric that count; None where it has none."""

        def of(slot: str, place: Place) -> Value:
            checks = place[1].checks
            its = [number for number, check in enumerate(checks) if check.metric == metric and check.weight]
            grade = self.grade(self.find("answer", place, slot))
            if not its or grade is None:
                return None
            if not grade.parts:  # there is no answer
                return 0.0
            parts = [grade.parts[number] for number in its]
            return float(all(part is not None and part[0] for part in parts))

        return of

    def seconds(self, slot: str, place: Place) -> Value:
        """Of a whole answer, with nothing beside it."""
        record = self.find("alone", place, slot)
        return record.seconds if record and record.receipt else None

    def money(self, slot: str, place: Place) -> Value:
        """By the prices that were given; None where nothing was timed."""
        record = self.find("alone", place, slot)
        return paid(self.plan.prices, record, record.seconds) if record else None


def paid(prices: Prices, record: Record, seconds: float | None) -> float | None:
    """Money for an answer that took so long alone: by this machine's hours where its own engine gave it, and else by the
    token; None where that has no price."""
    if record.receipt is None:
        return None
    if record.receipt.get("backend", LOCAL) == LOCAL:
        return prices.of_machine(seconds)
    return prices.of_tokens(record.prompt_tokens, record.completion_tokens)


def about(places: Sequence[Place]) -> list[Hashable]:
    """Wordings of one question, asked by whomever, are about one thing."""
    return [(suite, case.test) for suite, case in places]


def names(places: Sequence[Place]) -> list[str]:
    """What cases are called among all suites'."""
    return [f"{suite}/{case.id}" for suite, case in places]
