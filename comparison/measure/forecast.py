"""Roughly how long a measurement will take, by how fast the same bases answered in an earlier one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from comparison.measure.folder import Record
from comparison.measure.plan import Plan
from comparison.measure.runner import AT_ONCE
from comparison.modes import DEFAULT_SAMPLING, ModeId

_LIKE = 2.0
"""How many times as many tokens answers may have for their times to be told by each other."""
Base = tuple[str, str]
"""A backend's name, and its base's."""


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds of an answer with nothing beside it, and of one among many, each with the tokens that it may have had."""

    alone: float
    beside: float
    most: float


def paces(plan: Plan, records: Iterable[Record]) -> dict[Base, Pace]:
    """How fast each base of an earlier measurement was; nothing of one that did not get far enough to tell."""
    most = {suite.name: _most(suite.max_tokens) for suite in plan.suites}
    alone: dict[Base, list[float]] = {}
    beside: dict[Base, list[float]] = {}
    allowed: dict[Base, list[int]] = {}
    for one in records:
        receipt = one.receipt or {}
        base = (str(receipt.get("backend")), str(receipt.get("base")))
        if one.kind == "alone" and one.seconds is not None:
            alone.setdefault(base, []).append(one.seconds)
            allowed.setdefault(base, []).append(most[one.suite])
        elif one.kind in ("answer", "repeat") and receipt.get("tokens_per_s"):
            tokens = one.completion_tokens or 0
            seconds = (receipt.get("ttft_s") or 0.0) + tokens / float(receipt["tokens_per_s"])
            beside.setdefault(base, []).append(seconds)
    return {
        base: Pace(_mean(alone[base]), _beside(beside[base]), _mean(allowed[base]))
        for base in alone.keys() & beside.keys()
    }


def seconds_for(plan: Plan, bases: Mapping[str | None, Base], known: Mapping[Base, Pace]) -> float | None:
    """About how long a plan takes. `bases` are those that answer, by the backends of its modes; None where the pace of
    one is not known."""
    most = {suite.name: _most(suite.max_tokens) for suite in plan.suites}
    total = 0.0
    for item in plan.items:
        pace = known.get(bases[ModeId.parse(item.slot.mode).backend])
        # What much shorter or longer answers take says little of these.
        if pace is None or not 1 / _LIKE <= most[item.suite] / pace.most <= _LIKE:
            return None
        each = pace.alone if item.kind in ("adapt", "alone") else pace.beside
        total += each * most[item.suite] / pace.most
    return total


def _most(max_tokens: int | None) -> int:
    return max_tokens or DEFAULT_SAMPLING.max_tokens


def _beside(seconds: list[float]) -> float:
    """Of an answer among many: as many as there are rows are under way all the time, as long as there are so many."""
    return _mean(seconds) / min(AT_ONCE, len(seconds))


def _mean(values: list[float] | list[int]) -> float:
    return sum(values) / len(values)
