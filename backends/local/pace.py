"""How many threads compute: all cores, or one where the others are wanted elsewhere.

Every product waits for its slowest thread. Beside a program that keeps one of two cores busy (a browser, a
training run) two threads were measured three to a hundred times slower than one. So the other choice is tried now and
then for a few steps, soon when steps have become slow, and kept where it is faster.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from statistics import median

STEPS = 4
"""Steps that a trial takes, and steps before it that it is compared with."""
SOONEST, LATEST = 16, 512
"""Steps between trials; each that changes nothing doubles them."""
FASTER = 0.97
"""The other choice must take at most this share of the time: a change for nothing helps nobody."""
SLOW = 3.0
"""Steps that take so many times the usual start a trial."""
CONTENDED = 1.5
"""All threads are kept from reading prompts while they take so many times what one takes."""


class Pace:
    """The threads of a loop that alternates decode steps with the reading of prompts.

    Only for products whose sums do not depend on the threads, or a seed would not give the same answer twice.
    """

    def __init__(
        self, most: int, set_threads: Callable[[int], None], clock: Callable[[], float] = time.perf_counter
    ):
        self._most = most
        self._set_threads = set_threads
        self._clock = clock
        self.threads = most
        self.contended = False
        self._rows = 0
        self._usual: deque[float] = deque(maxlen=2 * STEPS)
        self._trial: list[float] | None = None
        self._slow = 0
        self._between, self._until = SOONEST, STEPS

    @contextmanager
    def reading(self) -> Iterator[None]:
        """A pass over a prompt."""
        with self._with(1 if self.contended else self._most):
            yield

    @contextmanager
    def step(self, rows: int) -> Iterator[None]:
        """One token for so many rows."""
        if rows != self._rows:
            # Their times say nothing of each other.
            self._rows, self._trial, self._slow = rows, None, 0
            self._usual.clear()
        with self._with(self.threads if self._trial is None else self._other):
            started = self._clock()
            yield
            self._note(self._clock() - started)

    @contextmanager
    def _with(self, threads: int) -> Iterator[None]:
        self._set_threads(threads)
        try:
            yield
        finally:
            self._set_threads(self._most)

    @property
    def _other(self) -> int:
        return self._most if self.threads == 1 else 1

    def _note(self, seconds: float) -> None:
        if self._trial is not None:
            self._trial.append(seconds)
            if len(self._trial) == STEPS or seconds > SLOW * median(self._usual):
                self._judge(self._trial, median(self._usual))
            return
        self._slow = self._slow + 1 if self._usual and seconds > SLOW * median(self._usual) else 0
        if self._slow == 2:
            self._usual.clear()
        self._usual.append(seconds)
        self._until -= 1
        if self._slow == 2 or (self._until <= 0 and len(self._usual) >= STEPS):
            self._trial, self._slow = [], 0

    def _judge(self, trial: list[float], usual: float) -> None:
        tried = median(trial)
        every, one = (usual, tried) if self._other == 1 else (tried, usual)
        self.contended = every > CONTENDED * one
        if tried < FASTER * usual:
            self.threads = self._other
            self._usual = deque(trial, maxlen=2 * STEPS)
            self._between = SOONEST
        else:
            self._between = min(2 * self._between, LATEST)
        self._until, self._trial = self._between, None
