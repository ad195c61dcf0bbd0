"""Rows of figures: one value a question for each slot becomes a figure each, and a difference for each pair."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from itertools import combinations
from math import comb, inf
from typing import Any, Literal

from adapters.verdict import Figure
from comparison import intervals
from comparison.measure.figures.answers import Of, Place, Value, about, names
from comparison.measure.results import ASPECTS, Gap, Row, Unit

Better = Literal["more", "less"] | None
Values = Mapping[str, Sequence[Value]]
"""By slot, a value for each of the same questions."""
_ENDS: dict[Unit, tuple[float, float]] = {"share": (0.0, 1.0), "cosine": (-1.0, 1.0), "tone": (-1.0, 1.0)}
"""Between which values lie; those of other units are zero or more."""
_FIXED: set[Unit] = {"tokens", "money"}
"""What a prompt alone may settle: that it is always the same is then no chance."""
_ASPECT = {str(aspect): aspect for aspect in ASPECTS}
_ALL_PAIRS = 6
"""Of more slots, each is compared with the best one alone."""


def over(
    places: Sequence[Place],
    slots: Sequence[str],
    of: Of,
    key: str,
    title: str,
    unit: Unit,
    better: Better = None,
) -> Row:
    """A row of a value for each case."""
    values = {slot: [of(slot, place) for place in places] for slot in slots}
    return row(key, title, unit, better, values, about(places), names(places))


def row(
    key: str,
    title: str,
    unit: Unit,
    better: Better,
    values: Values,
    same: Sequence[Hashable],
    cases: Sequence[str],
) -> Row:
    """`key` begins with its aspect; `same` says which questions are about one thing, `cases` which they are. A slot
    without values is left out."""
    figures = {
        slot: figure(its, same, unit) for slot, its in values.items() if any(one is not None for one in its)
    }
    slots = list(figures)
    # Any two may be told apart, whichever are looked at: all differences of a row hold together (Bonferroni).
    confidence = 1 - 0.05 / max(1, comb(len(slots), 2))
    pairs: Iterable[tuple[str, str]] = combinations(slots, 2)
    if len(slots) > _ALL_PAIRS:
        sign = -1 if better == "less" else 1
        best = max(slots, key=lambda slot: sign * figures[slot].value)
        pairs = [(best, slot) for slot in slots if slot != best]
    return Row(
        key=key,
        aspect=_ASPECT[key.partition("/")[0]],
        title=title,
        unit=unit,
        better=better,
        figures=figures,
        gaps=tuple(
            found for one, other in pairs if (found := gap(one, other, values, same, unit, confidence))
        ),
        **_behind(cases, {slot: values[slot] for slot in slots}),
    )


def paired(
    key: str,
    title: str,
    unit: Unit,
    values: Values,
    same: Sequence[Hashable],
    cases: Sequence[str],
    confidence: float,
) -> Row:
    """A row of differences within pairs, to be held against zero, with their sizes."""
    figures, effects = {}, {}
    for slot, its in values.items():
        found, theirs = known(its, same)
        if not found:
            continue
        figures[slot] = difference(found, theirs, unit, confidence)
        size = intervals.effect(found)
        if size is not None:
            effects[slot] = round(size, 4)
    return Row(
        key=key,
        aspect=_ASPECT[key.partition("/")[0]],
        title=title,
        unit=unit,
        figures=figures,
        paired=True,
        effects=effects,
        **_behind(cases, {slot: values[slot] for slot in figures}),
    )


def figure(values: Sequence[Value], same: Sequence[Hashable], unit: Unit) -> Figure:
    """Of the values that are there."""
    its, theirs = known(values, same)
    if unit == "share" and set(its) <= {0.0, 1.0}:
        return intervals.share([bool(value) for value in its], theirs)
    return _possible(intervals.mean(its, theirs), its, theirs, unit, *_ends(unit))


def difference(
    apart: Sequence[float], same: Sequence[Hashable], unit: Unit, confidence: float = 0.95
) -> Figure:
    """The mean of differences between two values of a unit."""
    if unit == "share" and set(apart) <= {-1.0, 0.0, 1.0}:
        return intervals.sign(apart, same, confidence)
    least, most = _ends(unit)
    found = intervals.mean(apart, same, confidence)
    return _possible(found, apart, same, unit, least - most, most - least, confidence)


def _ends(unit: Unit) -> tuple[float, float]:
    return _ENDS.get(unit, (0.0, inf))


def _possible(
    found: Figure,
    values: Sequence[float],
    same: Sequence[Hashable],
    unit: Unit,
    least: float,
    most: float,
    confidence: float = 0.95,
) -> Figure:
    if unit in _FIXED and len(set(values)) == 1:
        return found
    return intervals.within(found, values, same, least, most, confidence)


def gap(
    one: str, other: str, values: Values, same: Sequence[Hashable], unit: Unit, confidence: float = 0.95
) -> Gap | None:
    """How far `one` is above `other`, on the questions that both have a value for; None where there is none."""
    apart, theirs = known(
        [
            None if mine is None or its is None else mine - its
            for mine, its in zip(values[one], values[other], strict=True)
        ],
        same,
    )
    if not apart:
        return None
    found = difference(apart, theirs, unit, confidence)
    things = len(set(theirs))
    return Gap(
        one=one,
        other=other,
        figure=found,
        asked=things,
        questions=intervals.things_to_tell(found, things, confidence),
    )


def _behind(cases: Sequence[str], values: Values) -> dict[str, Any]:
    """The cases that a slot has a value for, and all slots' values of these."""
    there = [place for place in range(len(cases)) if any(its[place] is not None for its in values.values())]

    def told(value: Value) -> Value:
        return None if value is None else round(value, 4)

    return {
        "cases": tuple(cases[place] for place in there),
        "values": {slot: tuple(told(its[place]) for place in there) for slot, its in values.items()},
    }


def known(values: Sequence[Value], same: Sequence[Hashable]) -> tuple[list[float], list[Hashable]]:
    """The values that are there, and what each is about."""
    found = [(value, theirs) for value, theirs in zip(values, same, strict=True) if value is not None]
    return [value for value, _ in found], [theirs for _, theirs in found]


def both(
    values: Sequence[Value], others: Sequence[Value], same: Sequence[Hashable]
) -> tuple[list[float], list[float], list[Hashable]]:
    """The values of two slots where both are there."""
    found = [
        (a, b, theirs)
        for a, b, theirs in zip(values, others, same, strict=True)
        if a is not None and b is not None
    ]
    return [a for a, _, _ in found], [b for _, b, _ in found], [theirs for _, _, theirs in found]
