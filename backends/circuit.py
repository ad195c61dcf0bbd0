"""Whether a server is worth asking: after some failures in a row it counts as down until it answers again."""

from __future__ import annotations

import threading

FAILURES = 2
PAUSE_S = 5.0


class Circuit:
    """The circuit breaker of one server (Nygard 2007, Release It!). Safe for threads."""

    def __init__(self, failures: int = FAILURES, pause_s: float = PAUSE_S):
        """Down after `failures` in a row; to be looked at every `pause_s` seconds while it is."""
        self.pause_s = pause_s
        self._limit = failures
        self._lock = threading.Lock()
        self._failures = 0
        self._why: str | None = None

    @property
    def down(self) -> str | None:
        """Why it is down, or None."""
        return self._why

    def failed(self, why: str) -> None:
        with self._lock:
            self._failures += 1
            if self._failures >= self._limit:
                self._why = why

    def worked(self) -> None:
        with self._lock:
            self._failures, self._why = 0, None
