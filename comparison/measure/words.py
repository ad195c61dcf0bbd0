"""Figures in words, for the advice, the report and the terminal."""

from __future__ import annotations

from adapters.verdict import Figure
from comparison.measure.results import BreakEven, Gap, Mode, Row, Unit

_MANY = 10_000
"""Questions that nobody asks to tell a difference."""
_SUFFIX: dict[Unit, str] = {
    "share": "",
    "seconds": " s",
    "tokens/s": " tokens/s",
    "tokens": " tokens",
    "money": "",
    "cosine": "",
    "words": " words",
    "tone": "",
    "decision words": "",
}


def name(mode: Mode) -> str:
    """What a mode is called in a sentence."""
    return mode.id


def figure(one: Figure, unit: Unit, currency: str = "") -> str:
    """A figure with its 95 % interval: 82 % (74 to 88, n = 113)."""
    if one.low is None or one.high is None:
        return f"{number(one.value, unit, currency)} (n = {one.n}, too few for an interval)"
    low, high = (bare(end, unit) for end in (one.low, one.high))
    return f"{number(one.value, unit, currency)} ({low} to {high}, n = {one.n})"


def gap(one: Figure, unit: Unit, currency: str = "") -> str:
    """A difference: 12 points (3 to 21)."""
    told = f"{bare(one.value, unit)} points" if unit == "share" else number(one.value, unit, currency)
    if one.low is None or one.high is None:
        return f"{told} (too few questions for an interval)"
    return f"{told} ({bare(one.low, unit)} to {bare(one.high, unit)})"


def between(row: Row, apart: Gap, currency: str = "") -> str:
    """What there is between two modes, in a line."""
    if apart.outcome == "unclear":
        needed = apart.more_questions
        would_tell = f"; {questions(needed)} would tell" if needed else ""
        return f"{apart.one} and {apart.other}: no clear difference{would_tell}"
    ahead, behind = (apart.one, apart.other) if apart.outcome == "more" else (apart.other, apart.one)
    by = apart.seen_from(ahead)
    return f"{ahead} above {behind} by {gap(by.figure, row.unit, currency)}"


def questions(needed: int) -> str:
    """About so many more: what is reckoned of a difference that is not clear is no exact number."""
    if needed > _MANY:
        return f"more than {_MANY:,} more questions"
    return "a few more questions" if needed < 10 else f"about {more(needed)} more questions"


def counted(count: int, what: str) -> str:
    """1 question, 2 questions."""
    return f"{count:,} {what}" if count == 1 else f"{count:,} {what}s"


def repaid_after(one: BreakEven) -> str:
    """After how many questions, with its interval; empty where it cannot be told."""
    if one.at is None:
        return f"at the earliest after {more(round(one.earliest))} questions" if one.earliest else ""
    until = "never" if one.latest is None else more(round(one.latest))
    return f"after about {more(round(one.at))} questions ({more(round(one.earliest or 0))} to {until})"


def number(value: float, unit: Unit, currency: str = "") -> str:
    """A value in its unit."""
    if unit == "share":
        return f"{bare(value, unit)} %"
    return f"{currency if unit == 'money' else ''}{bare(value, unit)}{_SUFFIX[unit]}"


def minutes(seconds: float) -> str:
    """A span of time in the unit that suits it."""
    if seconds < 90:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def more(count: int) -> str:
    """About so many: to two digits."""
    if count < 10:
        return str(count)
    digits = 10 ** (len(str(count)) - 2)
    return f"{round(count / digits) * digits:,}"


def bare(value: float, unit: Unit) -> str:
    """A value without its unit; shares in hundredths."""
    if unit == "share":
        return f"{value * 100:.0f}"
    if unit in ("cosine", "tone", "decision words"):
        return f"{value:.2f}"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
