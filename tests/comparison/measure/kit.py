"""Instruments that need no model, for measurements of the app."""

from __future__ import annotations

from collections.abc import Callable

from backends.wheels import Report
from comparison.checks.check import Tools
from comparison.measure.figures.reckon import results
from comparison.measure.folder import RunFolder
from comparison.measure.plan import Plan, Slot
from comparison.measure.results import Results
from tests.comparison.measure.conftest import SENSES


class Kit:
    """Like Instruments; `loading` is called while they are loaded."""

    def __init__(self, loading: Callable[[Report], None] = lambda report: None) -> None:
        self.loading = loading
        self.reckoned: list[str] = []

    def load(self, plan: Plan, report: Report) -> None:
        self.loading(report)

    def tools(self, plan: Plan) -> Tools:
        return Tools()

    def results(self, folder: RunFolder) -> Results:
        self.reckoned.append(folder.path.name)
        return results(folder, SENSES)

    def check_data(self, slot: Slot) -> float | None:
        return None
