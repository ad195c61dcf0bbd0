"""Rows of figures: one value a question for each slot becomes a figure each, and a difference for each pair."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from itertools import combinations
from typing import Literal

from adapters.verdict import Figure
from comparison import intervals
from comparison.measure.figures.answers import Of, Place, Value, about
from comparison.measure.results import Aspect, Gap, Row, Unit

Better = Literal["more", "less"] | None
Values = Mapping[str, Sequence[Value]]
"""By slot, a value for each of the same questions."""
_ENDS: dict[Unit, tuple[float, float]] = {"share": (0.0, 1.0), "cosine": (-1.0, 1.0)}
"""Between which a mean must lie: an interval that is the same to both sides may reach beyond."""
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
    return row(key, title, unit, better, values, about(places))


def row(key: str, title: str, unit: Unit, better: Better, values: Values, same: Sequence[Hashable]) -> Row:
    """`key` begins with its aspect; `same` says which questions are about one thing. A slot without values is left
    out."""
    figures = {
        slot: figure(its, same, unit) for slot, its in values.items() if any(one is not None for one in its)
    }
    slots = list(figures)
    pairs: Iterable[tuple[str, str]] = combinations(slots, 2)
    if len(slots) > _ALL_PAIRS:
        sign = -1 if better == "less" else 1
        best = max(slots, key=lambda slot: sign * figures[slot].value)
        pairs = [(best, slot) for slot in slots if slot != best]
    return Row(
        key=key,
        aspect=_aspect(key),
        title=title,
        unit=unit,
        better=better,
        figures=figures,
        gaps=tuple(found for one, other in pairs if (found := gap(one, other, values, same, unit))),
    )


def paired(
    key: str, title: str, unit: Unit, values: Values, same: Sequence[Hashable], confidence: float
) -> Row:
    """A row of differences within pairs, to be held against zero, with their sizes."""
    figures, effects = {}, {}
    for slot, its in values.items():
        found, theirs = known(its, same)
        if not found:
            continue
        figures[slot] = intervals.mean(found, theirs, confidence)
        size = intervals.effect(found)
        if size is not None:
            effects[slot] = round(size, 4)
    return Row(
        key=key, aspect=_aspect(key), title=title, unit=unit, figures=figures, paired=True, effects=effects
    )


def figure(values: Sequence[Value], same: Sequence[Hashable], unit: Unit) -> Figure:
    """Of the values that are there."""
    its, theirs = known(values, same)
    if unit == "share" and set(its) <= {0.0, 1.0}:
        return intervals.share([bool(value) for value in its], theirs)
    found = intervals.mean(its, theirs)
    if unit not in _ENDS or found.low is None or found.high is None:
        return found
    least, most = _ENDS[unit]
    return found.model_copy(update={"low": max(least, found.low), "high": min(most, found.high)})


def gap(one: str, other: str, values: Values, same: Sequence[Hashable], unit: Unit) -> Gap | None:
    """How far `one` is above `other`, on the questions that both have a value for; None where there is none."""
    mine, theirs, about_them = both(values[one], values[other], same)
    if not mine:
        return None
    if unit == "share" and {*mine, *theirs} <= {0.0, 1.0}:
        found = intervals.paired_share([bool(a) for a in mine], [bool(b) for b in theirs], about_them)
    else:
        found = intervals.difference(mine, theirs, about_them)
    things = len(set(about_them))
    return Gap(
        one=one, other=other, figure=found, asked=things, questions=intervals.things_to_tell(found, things)
    )


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


def _aspect(key: str) -> Aspect:
    aspect: Aspect = key.partition("/")[0]  # type: ignore[assignment]
    return aspect
