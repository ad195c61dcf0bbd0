"""What the Measure tab's tests share: an answer to anything, a wait for the end, fields that say nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from backends.contract import Event, Request
from tests.ui.scripted import delta, done
from ui.measure import Measure
from ui.measure_setup import NUMBERS, OWN, PRICES
from ui.parts import Parts

UNVARIED = ("", "", [], "", "")
EMPTY = ("",) * (len(PRICES) + len(NUMBERS))
MODES = ["base", "persona:explain-to-a-child"]


def begin(tab: Measure, own: str, modes: Sequence[str] = MODES, *given: str) -> dict[Any, Any]:
    """Measures by a suite of one's own."""
    return tab._start(OWN, own, list(modes), False, False, *UNVARIED, "", *(given or EMPTY))


def says_fox(requests: Sequence[Request]) -> Iterator[Event]:
    for request in requests:
        yield delta(request, "a fox")
        yield done(request)


def through(parts: Parts) -> None:
    """Returns when nothing is measured any more."""
    under_way = parts.measurements._under_way
    if under_way and under_way.thread:
        under_way.thread.join(60)
    assert parts.measurements.going_on() is None
