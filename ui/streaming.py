"""From a comparison's events to repaints: deltas at most 20 times a second, and only the panes that changed."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from backends.contract import Delta
from comparison.live import Comparison, Pane
from errors import CounterpointError
from ui import transcript
from ui.transcript import PaneState, Turn
from ui.words import say

REPAINT_S = 0.05
"""Shortest time between two repaints for deltas, in seconds."""


@dataclass(frozen=True, slots=True)
class Asked:
    """One pane of a question: where it is on the screen, what it remembers, how it is to answer."""

    slot: int
    state: PaneState
    pane: Pane
    label: str
    family: str


def answers(
    comparison: Comparison,
    question: str,
    asked: Sequence[Asked],
    seed: int | None = None,
    waiting_for: str = "",
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[dict[int, PaneState]]:
    """Asks and yields the panes to repaint, by slot, until every pane has ended.

    Deltas of one decode step arrive together; they are painted together, as soon as every running pane has
    its own. Whatever else happens (a place in the queue, a failure, an end) is painted at once: nothing may
    follow it for long. `waiting_for` is what panes say until something comes. Closing this iterator closes the
    comparison's, which stops the generation. Never raises CounterpointError: a refusal is each pane's own
    notice, so that the question is kept.
    """
    run = uuid.uuid4().hex
    states = {
        item.slot: transcript.begin(
            item.state,
            Turn(question, item.pane.mode, item.label, item.family, notice=waiting_for),
            run,
            position,
        )
        for position, item in enumerate(asked)
    }
    slots = [item.slot for item in asked]
    yield dict(states)
    painted = clock() - REPAINT_S
    waiting: set[int] = set()
    events: Any = ()
    try:
        events = comparison.ask(question, [item.pane for item in asked], run_id=run, seed=seed)
        for pane_event in events:
            slot, event = slots[pane_event.pane], pane_event.event
            is_delta = isinstance(event, Delta)
            if is_delta and slot in waiting and clock() - painted >= REPAINT_S:
                yield {each: states[each] for each in waiting}
                painted, waiting = clock(), set()
            states[slot] = transcript.apply(states[slot], event)
            waiting.add(slot)
            running = {each for each in slots if states[each].busy}
            if not is_delta or (running <= waiting and clock() - painted >= REPAINT_S):
                yield {each: states[each] for each in waiting}
                painted, waiting = clock(), set()
    except CounterpointError as error:
        waiting |= _fail_running(states, str(error))
    finally:
        close = getattr(events, "close", None)
        if close:
            close()
    waiting |= _fail_running(states, say("no_answer"))
    if waiting:
        yield {each: states[each] for each in waiting}


def _fail_running(states: dict[int, PaneState], message: str) -> set[int]:
    running = {slot for slot, state in states.items() if state.busy}
    for slot in running:
        states[slot] = transcript.fail(states[slot], message)
    return running
