"""How full the backend's store of prompt beginnings is, as the page's header tells it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from backends.contract import Backend
from errors import CounterpointError
from ui.words import say

EVERY_S = 5.0
"""Shortest time between two looks, in seconds, however many windows are open: each asks the engine."""
MB = 1024 * 1024


class PromptStore:
    """Shared by all who look at the page."""

    def __init__(self, backend: Backend, clock: Callable[[], float] = time.monotonic) -> None:
        self._backend = backend
        self._clock = clock
        self._looked = float("-inf")
        self._line = ""
        self._looking = threading.Lock()

    def line(self) -> str:
        """For example "prompt store 38 of 512 MB"; empty where the backend has none, or is not ready.

        Never waits for another's look: meanwhile the line is the one before.
        """
        statistics = getattr(self._backend, "statistics", None)
        if statistics is None or self._backend.status().state != "ready":
            return ""
        if self._clock() - self._looked >= EVERY_S and self._looking.acquire(blocking=False):
            try:
                self._looked = self._clock()
                figures = statistics()
                used, limit = figures.get("prefix_store_bytes"), figures.get("prefix_store_limit")
                known = used is not None and limit is not None
                self._line = (
                    say("prompt_store", used=round(used / MB), limit=round(limit / MB)) if known else ""
                )
            except CounterpointError:
                # The engine is on its way down or up: the status says so.
                self._line = ""
            finally:
                self._looking.release()
        return self._line
