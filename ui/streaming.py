"""From a comparison's events to repaints: deltas at most 20 times a second, and only the panes that changed."""

from __future__ import annotations

import time
import traceback
import uuid
from collections.abc import Callable, Container, Iterator, Sequence
from typing import Any

from backends.contract import Delta
from comparison.chain import StepBegan
from comparison.live import Comparison
from errors import CounterpointError
from ui import transcript
from ui.asked import Asked
from ui.keeping import NOWHERE, Keeping
from ui.setup import server_of
from ui.transcript import PaneState, Turn
from ui.words import say

REPAINT_S = 0.05
"""Shortest time between two repaints for deltas, in seconds."""
REPAINT_SHARE = 0.1
"""The share of the time that repaints may take: the page must not slow down the base that computes beside it."""
ABANDONED = 1000
"""How many abandoned answers are remembered; each ends soon after it was stopped."""
SLOWEST_REPAINT_S = 0.25
"""However long a repaint takes, text that waits is shown after this many seconds."""


class Abandoned:
    """Answers that nobody waits for any more: what still comes for them is not shown, and not remembered."""

    def __init__(self) -> None:
        self._answers: dict[tuple[str, int], None] = {}

    def add(self, state: PaneState) -> None:
        """Forgets the answer under way in this pane."""
        if state.busy and state.run:
            self._answers[state.run, state.position] = None
            while len(self._answers) > ABANDONED:
                del self._answers[next(iter(self._answers))]

    def without(self, state: PaneState) -> PaneState:
        """The pane, or an empty one where its answer was abandoned and a last paint came after that."""
        return PaneState() if state in self else state

    def __contains__(self, state: object) -> bool:
        return isinstance(state, PaneState) and (state.run, state.position) in self._answers


def answers(
    comparison: Comparison,
    question: str,
    asked: Sequence[Asked],
    seed: int | None = None,
    waiting_for: str = "",
    abandoned: Container[PaneState] = (),
    keeping: Keeping = NOWHERE,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[dict[int, PaneState]]:
    """Asks and yields the panes to repaint, by slot, until every pane has ended.

    Deltas of one decode step arrive together; they are painted together, as soon as every running pane has
    its own, at most every REPAINT_S seconds, and less often where a repaint takes long. Whatever else happens
    (a place in the queue, a failure, an end) is painted at once: nothing may follow it for long.
    `waiting_for` is what panes on the main backend say until something comes; those in `abandoned` are not
    painted any more. `keeping` has every turn before it is painted as begun, and as ended. Closing this iterator
    closes the comparison's, which stops the generation. Never raises: a refusal is each pane's own notice, so
    that the question is kept.
    """
    run = uuid.uuid4().hex
    states = {
        item.slot: transcript.begin(
            item.state,
            Turn(
                item.pane.question or question,
                item.pane.mode,
                item.label,
                item.family,
                strength=item.pane.adapter_scale,
                notice="" if server_of(item.pane.mode) else waiting_for,
            ),
            run,
            position,
        )
        for position, item in enumerate(asked)
    }
    states = keeping.begun(asked, states)
    began = clock()
    timing: dict[int, list[tuple[float, int]]] = {item.slot: [] for item in asked}
    slots = [item.slot for item in asked]
    waiting: set[int] = set(slots)
    painted, pause = clock(), REPAINT_S

    def repaint() -> Iterator[dict[int, PaneState]]:
        nonlocal painted, pause
        painted = clock()
        shown = {slot: states[slot] for slot in waiting if states[slot] not in abandoned}
        waiting.clear()
        if shown:
            yield shown
        pause = min(max(REPAINT_S, (clock() - painted) / REPAINT_SHARE), SLOWEST_REPAINT_S)

    def fail(message: str) -> None:
        for slot in _fail_running(states, message):
            states[slot] = keeping.ended(states[slot], timing[slot])
            waiting.add(slot)

    events: Any = ()
    try:
        yield from repaint()
        painted -= SLOWEST_REPAINT_S  # the first words are shown as soon as they come
        events = comparison.ask(question, [item.pane for item in asked], run_id=run, seed=seed)
        for pane_event in events:
            slot, event = slots[pane_event.pane], pane_event.event
            is_delta = isinstance(event, Delta)
            if is_delta and slot in waiting and clock() - painted >= pause:
                yield from repaint()
            states[slot] = transcript.apply(states[slot], event)
            if is_delta:
                timing[slot].append((round(clock() - began, 3), len(states[slot].turns[-1].answer)))
            elif isinstance(event, StepBegan):
                timing[slot].clear()  # of what is no part of the answer
            elif not states[slot].busy:
                states[slot] = keeping.ended(states[slot], timing[slot])
            waiting.add(slot)
            running = {each for each in slots if states[each].busy}
            if not is_delta or (running <= waiting and clock() - painted >= pause):
                yield from repaint()
    except CounterpointError as error:
        fail(str(error))
    except Exception as error:
        # Whatever it was: a pane that nothing ends could neither be stopped nor asked again.
        traceback.print_exception(error)
    except GeneratorExit:
        # Nobody looks any more: what was said so far is kept.
        for slot in slots:
            if states[slot].busy:
                keeping.ended(transcript.stopped(states[slot], say("page_left")), timing[slot])
        raise
    finally:
        close = getattr(events, "close", None)
        if close:
            close()
    fail(say("no_answer"))
    yield from repaint()


def _fail_running(states: dict[int, PaneState], message: str) -> set[int]:
    running = {slot for slot, state in states.items() if state.busy}
    for slot in running:
        states[slot] = transcript.fail(states[slot], message)
    return running
