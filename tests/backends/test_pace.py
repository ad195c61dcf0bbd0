"""How many threads are used, on a machine whose times are made up."""

from __future__ import annotations

import pytest

from backends.local.pace import LATEST, SOONEST, Pace


class Machine:
    """Steps take what `times` says of each number of threads."""

    def __init__(self, times: dict[int, float]) -> None:
        self.times = times
        self.now = 0.0
        self.threads = 0
        self.used: list[int] = []
        self.pace = Pace(4, self._set, lambda: self.now)

    def _set(self, threads: int) -> None:
        self.threads = threads

    def steps(self, count: int, rows: int = 4) -> float:
        """Seconds that so many steps took."""
        begun = self.now
        for _ in range(count):
            with self.pace.step(rows):
                self.now += self.times[self.threads]
                self.used.append(self.threads)
        return self.now - begun

    def reads_with(self) -> int:
        with self.pace.reading():
            return self.threads


def test_a_quiet_machine_computes_with_all_cores_and_hardly_tries_another_way() -> None:
    machine = Machine({4: 0.02, 1: 0.05})
    machine.steps(2000)
    assert machine.used[-1] == 4
    assert machine.used.count(1) <= 40
    assert machine.reads_with() == 4


@pytest.mark.parametrize("from_the_start", [True, False])
def test_beside_a_busy_program_one_thread_soon_does_it(from_the_start: bool) -> None:
    busy = {4: 2.0, 1: 0.05}
    machine = Machine(busy if from_the_start else {4: 0.02, 1: 0.05})
    if not from_the_start:
        machine.steps(700)
        machine.times = busy
    machine.steps(SOONEST + 8)
    assert machine.used[-1] == 1
    assert machine.reads_with() == 1
    assert machine.steps(1000) < 1000 * 0.05 * 1.5, "and seldom looks back"


def test_all_cores_are_used_again_once_they_are_free() -> None:
    machine = Machine({4: 2.0, 1: 0.05})
    machine.steps(100)
    machine.times = {4: 0.02, 1: 0.05}
    machine.steps(2 * LATEST + 8)
    assert machine.used[-1] == 4
    assert machine.reads_with() == 4


def test_times_of_more_rows_are_not_taken_for_a_slower_machine() -> None:
    machine = Machine({4: 0.02, 1: 0.05})
    machine.steps(8, rows=1)
    machine.times = {4: 0.2, 1: 0.5}
    machine.steps(4, rows=6)
    assert set(machine.used[-4:]) == {4}
