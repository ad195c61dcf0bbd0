"""An app's parts that measure on a scripted backend."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path

from adapters.store import AdapterStore
from backends.contract import BaseFacts, Event, Request
from comparison.live import Comparison
from comparison.measure.runs import Runs
from comparison.modes import Catalogue
from tests.comparison.measure.kit import Kit
from tests.ui.scripted import delta, done
from ui.parts import Parts


def measuring(simple: Parts, base: Path, data: Path) -> Parts:
    """Parts with a data folder for measurements; to be closed by these."""
    facts = BaseFacts("some/base", base, "ab" * 32, ("en",), {})
    adapters = AdapterStore(data / "library", data, lambda: facts)
    catalogue = Catalogue(simple.personas, adapters, simple.backends)
    comparison = Comparison(catalogue)
    measurements = Runs(data, comparison, Kit)
    return dataclasses.replace(
        simple, adapters=adapters, catalogue=catalogue, comparison=comparison, measurements=measurements
    )


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
