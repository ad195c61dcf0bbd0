"""The gate's result in sentences, for a terminal and for the page."""

from __future__ import annotations

import math
from collections.abc import Iterable

from adapters.verdict import Figure, Finding, Gate, Part

TITLES: dict[Part, str] = {
    "loss": "Held-out loss",
    "checks": "Checks passed",
    "memorisation": "Memorised",
    "generalisation": "Generalises",
    "forgetting": "Forgot",
    "consistency": "Consistent",
    "bias": "Bias",
}
ASKS: dict[Part, str] = {
    "loss": "its loss as a multiple of the bare base's",
    "checks": "held-out answers that pass their checks",
    "memorisation": "training answers that come back word for word from half a question, beyond held-out ones",
    "generalisation": "loss of held-out rows less that of trained ones, nats a token",
    "forgetting": "its loss on general text as a multiple of the bare base's",
    "consistency": "how much more alike its answers with several seeds are than the bare base's",
    "bias": "loss of the right answer for one asker less that for another, nats a token",
}
_SHARES: tuple[Part, ...] = ("checks", "memorisation")
AT_LEAST: tuple[Part, ...] = ("checks", "consistency")
"""Parts with a figure that should be large; the others' should be small."""


def lines(gate: Gate) -> list[str]:
    """One line for each part, and the verdict first."""
    told = [verdict(gate)]
    for one in gate.findings:
        told.append(f"  {one.verdict:8} {TITLES[one.part]}: {judged(one)} ({ASKS[one.part]})")
        told.append(f"           {figures(one)}")
    told += [f"  not told {TITLES[part]}: {why}" for part, why in gate.omitted.items()]
    return told


def verdict(gate: Gate) -> str:
    """Whether it passed, and where not, why."""
    if not gate.passed:
        return f"did not pass its test: {names(gate.failed)}"
    return "passed its test" + (f"; too few rows to tell of: {names(gate.unclear)}" if gate.unclear else "")


def names(parts: Iterable[Part]) -> str:
    """The parts' titles in a sentence."""
    return ", ".join(TITLES[part].lower() for part in parts)


def judged(one: Finding) -> str:
    """What is held against the mark, and the mark."""
    bound = "at least" if one.part in AT_LEAST else "at most"
    return f"{figure(one.judged, one.part)}; {bound} {_number(one.mark, one.part)}"


def figures(one: Finding) -> str:
    """The figures that it comes from, and the same of the others; of the held-out loss the perplexity too."""
    told = []
    for name, each in one.figures.items():
        more = f", perplexity {_perplexity(each)}" if one.part == "loss" else ""
        told.append(f"{name} {figure(each, one.part)}{more}")
    told += [f"the same of {name} {figure(each, one.part)}" for name, each in one.beside.items()]
    return "; ".join(told)


def figure(each: Figure, part: Part) -> str:
    """A figure with its interval and its number of rows."""
    if each.low is None or each.high is None:
        return f"{_number(each.value, part)} (n = {each.n}, too few for an interval)"
    ends = f"{_number(each.low, part)} to {_number(each.high, part)}"
    return f"{_number(each.value, part)} ({ends}, n = {each.n})"


def _perplexity(loss: Figure) -> str:
    """The exponential of a loss, and of its interval's ends."""
    value, low, high = (
        None if nats is None else f"{math.exp(min(nats, 50)):.2f}"
        for nats in (loss.value, loss.low, loss.high)
    )
    return f"{value} ({low} to {high})" if low and high else str(value)


def _number(value: float, part: Part) -> str:
    return f"{value:.0%}" if part in _SHARES else f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}"
