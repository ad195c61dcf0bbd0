"""Conversations out of the logbook as the page's panes have them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from logbook import conversations as kept
from logbook.logbook import Logbook
from logbook.ratings import Verdict
from ui.transcript import PaneState, Turn, TurnState, speed_of
from ui.words import say

_STATES: dict[kept.State, TurnState] = {
    "done": "done",
    "stopped": "stopped",
    "failed": "failed",
    "running": "failed",
    "lost": "failed",
}
"""What is under way elsewhere, and what was lost, is an answer that there is none of here."""


def states(logbook: Logbook, conversation: str) -> dict[int, PaneState]:
    """By slot. Raises CounterpointError for a conversation that is not there, or that cannot be read."""
    panes = logbook.conversations.panes(conversation)
    verdicts = logbook.ratings.verdicts([turn.id for path in panes.values() for turn in path])
    return {pane: state(conversation, path, verdicts) for pane, path in panes.items() if path}


def state(conversation: str, path: Sequence[kept.Turn], verdicts: Mapping[str, Verdict]) -> PaneState:
    """A pane from its turns, the oldest first."""
    return PaneState(tuple(_turn(turn, verdicts.get(turn.id)) for turn in path), conversation=conversation)


def _turn(turn: kept.Turn, verdict: Verdict | None) -> Turn:
    notices = {"running": say("answered_elsewhere"), "lost": say("lost")}
    return Turn(
        question=turn.question,
        mode=turn.mode,
        label=turn.label,
        family=turn.family,
        state=_STATES[turn.state],
        answer=turn.answer,
        notice=notices.get(turn.state, turn.notice),
        speed=speed_of(turn.receipt) if turn.receipt else "",
        receipt=turn.receipt,
        cut_off=turn.cut_off,
        verdict=verdict,
        steps=turn.steps,
        strength=turn.strength,
        id=turn.id,
    )
