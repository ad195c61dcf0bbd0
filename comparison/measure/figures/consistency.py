"""How alike the answers are that one question gets: asked again with other seeds, and in other words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from itertools import combinations
from statistics import fmean

from comparison.measure.figures import rows
from comparison.measure.figures.answers import Answers, Value, names
from comparison.measure.folder import Record
from comparison.measure.results import Asked, Row
from comparison.measure.suite import Case, Suite


def asked(answers: Answers) -> Iterator[Asked]:
    """The questions that were asked several times, of the slots that have answered each time."""
    for suite in answers.plan.suites:
        for case in answers.plan.repeated(suite):
            repeats = {
                slot: found for slot in answers.slots if (found := _repeats(answers, suite, case, slot))
            }
            if not repeats:
                continue
            passed: dict[str, float] = {}
            for slot, records in repeats.items():
                grades = [grade for one in records if (grade := answers.grade(one))]
                known = [float(grade.passed) for grade in grades if grade.passed is not None]
                if known:
                    passed[slot] = fmean(known)
            yield Asked(
                suite=suite.name,
                case=case.id,
                question=case.question,
                answers={
                    slot: tuple(Counter(one.answer for one in records).most_common())
                    for slot, records in repeats.items()
                },
                similarity={
                    slot: _alike(answers, [one.answer for one in records])
                    for slot, records in repeats.items()
                },
                passed=passed,
            )


def consistency(answers: Answers, repeated: Sequence[Asked]) -> Iterator[Row]:
    """Of questions that were asked again, and of paraphrases."""
    same = [f"{one.suite}/{one.case}" for one in repeated]

    def of(value: Callable[[Asked, str], Value]) -> dict[str, list[Value]]:
        return {
            slot: [value(one, slot) if slot in one.answers else None for one in repeated]
            for slot in answers.slots
        }

    def identical(one: Asked, slot: str) -> Value:
        return _identical(dict(one.answers[slot]))

    def every(one: Asked, slot: str) -> Value:
        return float(one.passed[slot] == 1) if slot in one.passed else None

    title = "two answers to one question are the same, word for word"
    yield rows.row("consistency/identical", title, "share", "more", of(identical), same, same)
    alike = of(lambda one, slot: one.similarity[slot])
    yield rows.row(
        "consistency/similarity",
        "how alike two answers to one question are",
        "cosine",
        "more",
        alike,
        same,
        same,
    )
    once = of(lambda one, slot: one.passed.get(slot))
    yield rows.row("consistency/pass-1", "an answer passes (pass@1)", "share", "more", once, same, same)
    title = "all answers to one question pass (pass^n)"
    yield rows.row("consistency/pass-all", title, "share", "more", of(every), same, same)
    yield from _paraphrases(answers)


def _paraphrases(answers: Answers) -> Iterator[Row]:
    wordings: dict[Hashable, list[tuple[str, Case]]] = {}
    for place in answers.places("domain"):
        suite, case = place
        wordings.setdefault((suite, case.test, case.pair, case.side), []).append(place)
    several = {about: places for about, places in wordings.items() if len(places) > 1}
    if not several:
        return

    def of(value: Callable[[list[str]], float]) -> dict[str, list[Value]]:
        found: dict[str, list[Value]] = {slot: [] for slot in answers.slots}
        for places in several.values():
            for slot in answers.slots:
                records = [answers.find("answer", place, slot) for place in places]
                texts = [one.answer for one in records if one and one.failed is None]
                found[slot].append(value(texts) if len(texts) > 1 else None)
        return found

    same, firsts = list(several), names([places[0] for places in several.values()])
    title = "two wordings of one question get the same answer, word for word"
    values = of(lambda texts: _identical(Counter(texts)))
    yield rows.row("consistency/paraphrases-identical", title, "share", "more", values, same, firsts)
    title = "how alike the answers to wordings of one question are"
    values = of(lambda texts: _alike(answers, texts))
    yield rows.row("consistency/paraphrases", title, "cosine", "more", values, same, firsts)


def _repeats(answers: Answers, suite: Suite, case: Case, slot: str) -> list[Record]:
    times = suite.repeat.times if suite.repeat else 0
    found = [answers.find("repeat", (suite.name, case), slot, time) for time in range(1, times + 1)]
    return [one for one in found if one] if all(found) else []


def _alike(answers: Answers, texts: Sequence[str]) -> float:
    """The mean cosine of any two; 0 where one says nothing at all."""
    if not all(text.strip() for text in texts):
        return 0.0
    vectors = answers.senses.embed(texts)
    return fmean(float(one @ other) for one, other in combinations(vectors, 2))


def _identical(counts: Mapping[str, int]) -> float:
    """Of how often each answer came: the share of pairs that are the same and say something."""
    total = sum(counts.values())
    same = sum(count * (count - 1) for answer, count in counts.items() if answer.strip())
    return same / (total * (total - 1))
