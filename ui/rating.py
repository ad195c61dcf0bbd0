"""Good and bad: the two buttons under an answer, and what is kept when one is pressed."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import Any, Protocol

import gradio as gr

from backends.contract import Message
from errors import CounterpointError
from logbook.ratings import Rating, Ratings, Said, Verdict
from ui import setup
from ui.controls import pane_tool
from ui.guard import guarded
from ui.transcript import PaneState, foot_classes, history, without_last
from ui.words import say


class Ratable(Protocol):
    """A pane of Compare, or the Chat tab."""

    good: gr.Button
    bad: gr.Button
    foot: gr.Row
    state: gr.State


def buttons(pane: str) -> tuple[gr.Button, gr.Button]:
    return pane_tool("good", pane), pane_tool("bad", pane)


def wire(view: Ratable, ratings: Ratings, **quiet: Any) -> None:
    """Makes the two buttons rate the pane's last answer."""

    def pressed(verdict: Verdict, state: PaneState) -> Any:
        state = rate(ratings, state, verdict)
        return state, gr.Row(elem_classes=foot_classes(state))

    buttons: tuple[tuple[gr.Button, Verdict], ...] = ((view.good, "good"), (view.bad, "bad"))
    for button, verdict in buttons:
        button.click(guarded(partial(pressed, verdict)), view.state, [view.state, view.foot], **quiet)


def rate(ratings: Ratings, state: PaneState, verdict: Verdict) -> PaneState:
    """The pane with this verdict on its last answer, once it is on disk; the same one again takes it back.

    Raises CounterpointError where there is no whole answer to rate, or it cannot be written.
    """
    turn = state.last
    if turn is None or turn.state != "done" or not turn.answer.strip():
        raise CounterpointError(say("nothing_to_rate"))
    told = None if turn.verdict == verdict else verdict
    ratings.add(
        Rating(
            answer_id=turn.id or f"{state.run}/{state.position}",
            at=datetime.now(UTC).isoformat(timespec="seconds"),
            verdict=told,
            mode=turn.mode,
            persona=setup.persona_of(turn.mode),
            conversation=tuple(
                Said(**message)
                for message in (*history(without_last(state)), Message(role="user", content=turn.question))
            ),
            answer=turn.answer,
            cut_off=turn.cut_off,
            receipt=dict(turn.receipt),
        )
    )
    return replace(state, turns=(*state.turns[:-1], replace(turn, verdict=told)))
