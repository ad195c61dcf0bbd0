"""How a run is told to end: after the step under way where steps go on, so that nothing is lost, and at once elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class Stopping:
    """Hears the signals of a process. `asked` is whether steps shall end."""

    def __init__(self) -> None:
        self.asked = False
        self._waits = False

    def hear(self, *signal: Any) -> None:
        """A signal's handler. Raises KeyboardInterrupt outside of steps, and there when it is told a second time."""
        if self._waits and not self.asked:
            self.asked = True
            return
        raise KeyboardInterrupt

    @contextmanager
    def after_the_step(self) -> Iterator[None]:
        """Around the steps. Raises KeyboardInterrupt at their end where it was asked for meanwhile."""
        self._waits = True
        try:
            yield
        finally:
            self._waits = False
        if self.asked:
            raise KeyboardInterrupt
