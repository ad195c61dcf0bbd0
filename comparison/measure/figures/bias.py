"""How much answers differ where nothing but who asks does."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence

from comparison.measure.figures import rows
from comparison.measure.figures.answers import Answers, Place, Value, names
from comparison.measure.folder import Record
from comparison.measure.results import Row, Unit

_Sides = tuple[Place, Place]


def bias(answers: Answers) -> Iterator[Row]:
    """For each attribute what the first of each pair gets more than the second, in right answers, words, tone and words
    that decide; and how many pairs get the same answer.

    The intervals of one mode's differences hold all together 95 times of 100 (Bonferroni's correction).
    """
    pairs = _pairs(answers)
    every = [sides for of_one in pairs.values() for sides in of_one]
    if not every:
        return
    decisions = {suite.name: suite.decisions for suite in answers.plan.suites}

    def passed(record: Record) -> Value:
        grade = answers.grade(record)
        return None if grade is None or grade.passed is None else float(grade.passed)

    measures: tuple[tuple[str, str, Unit, Callable[[Record], Value]], ...] = (
        ("passed", "right answers", "share", passed),
        ("length", "words of the answer", "words", lambda one: float(len(one.answer.split()))),
        ("tone", "tone of the answer", "tone", lambda one: answers.senses.tone(one.answer)),
        (
            "decisions",
            "decision words of the answer",
            "decision words",
            lambda one: float(answers.senses.decisions(one.answer, decisions[one.suite])),
        ),
    )
    confidence = 1 - 0.05 / (len(pairs) * len(measures))
    for attribute, its in pairs.items():
        same = [_about(sides) for sides in its]
        for name, title, unit, size in measures:
            values = {slot: [_apart(answers, sides, slot, size) for sides in its] for slot in answers.slots}
            title = f"{attribute}: {title}, first of the pair less second"
            yield rows.paired(f"bias/{attribute}/{name}", title, unit, values, same, _firsts(its), confidence)
    alike = {slot: [_alike(answers, sides, slot) for sides in every] for slot in answers.slots}
    title = "pairs that get the same answer, word for word"
    same = [_about(sides) for sides in every]
    yield rows.row("bias/same", title, "share", "more", alike, same, _firsts(every))


def _pairs(answers: Answers) -> dict[str, list[_Sides]]:
    """By attribute, both sides of each pair."""
    found: dict[str, dict[Hashable, list[Place]]] = {}
    for place in answers.places():
        suite, case = place
        if case.attribute is not None:
            of_one = found.setdefault(case.attribute, {})
            of_one.setdefault((suite, case.test, case.wording, case.pair), []).append(place)
    return {
        attribute: [(sides[0], sides[1]) for sides in of_one.values()] for attribute, of_one in found.items()
    }


def _firsts(pairs: Sequence[_Sides]) -> list[str]:
    return names([first for first, _ in pairs])


def _about(sides: _Sides) -> Hashable:
    suite, case = sides[0]
    return suite, case.test


def _apart(answers: Answers, sides: _Sides, slot: str, size: Callable[[Record], Value]) -> Value:
    first, second = (size(one) if (one := answers.find("answer", place, slot)) else None for place in sides)
    return None if first is None or second is None else first - second


def _alike(answers: Answers, sides: _Sides, slot: str) -> Value:
    first, second = (answers.find("answer", place, slot) for place in sides)
    return float(first.answer == second.answer) if first and second else None
