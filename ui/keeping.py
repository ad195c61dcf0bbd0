"""What a page asks and is answered goes into the logbook, before the page says that it is finished."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from errors import CounterpointError
from logbook import conversations as kept
from logbook.logbook import Logbook
from ui import transcript
from ui.asked import Asked
from ui.transcript import PaneState
from ui.words import say

Timing = Sequence[tuple[float, int]]
"""How long after the question, in seconds, how many characters of the answer were there."""


class Keeping(Protocol):
    """What is told of a question's turns. Neither call raises: what cannot be kept is a remark in its pane."""

    def begun(self, asked: Sequence[Asked], states: Mapping[int, PaneState]) -> dict[int, PaneState]:
        """The panes, by slot, with what their last turns are known by from now on."""
        ...

    def ended(self, state: PaneState, timing: Timing) -> PaneState:
        """The pane whose last turn is on disk now."""
        ...


class Nowhere:
    """Keeps nothing."""

    def begun(self, asked: Sequence[Asked], states: Mapping[int, PaneState]) -> dict[int, PaneState]:
        return dict(states)

    def ended(self, state: PaneState, timing: Timing) -> PaneState:
        return state


NOWHERE = Nowhere()


@dataclass(frozen=True, slots=True)
class Keeper:
    """Keeps the turns of one tab's conversations."""

    logbook: Logbook
    kind: kept.Kind
    person: Callable[[], str] = str
    """Whose a new conversation is, when it is asked for."""

    def begun(self, asked: Sequence[Asked], states: Mapping[int, PaneState]) -> dict[int, PaneState]:
        questions = [
            kept.Asked(
                item.slot,
                states[item.slot].last_question,
                item.pane.mode,
                item.label,
                item.family,
                item.pane.adapter_scale,
                parent=transcript.last_kept(item.state),
                head=item.head,
            )
            for item in asked
        ]
        conversation = next((item.conversation for item in asked if item.conversation), None)
        try:
            begun = self.logbook.conversations.begin(self.kind, questions, conversation, self.person())
        except CounterpointError as error:
            self.logbook.announce(str(error))
            remark = say("not_kept", why=str(error))
            return {slot: transcript.remarked(state, remark) for slot, state in states.items()}
        found = {}
        for item, turn in zip(asked, begun.turns, strict=True):
            state = transcript.known_as(states[item.slot], begun.conversation, turn)
            found[item.slot] = transcript.remarked(state, say("elsewhere")) if begun.elsewhere else state
        return found

    def ended(self, state: PaneState, timing: Timing) -> PaneState:
        turn = state.last
        if turn is None or turn.state == "running":
            return state
        remark = turn.remark
        if turn.id is not None:
            end = kept.End(
                turn.state, turn.answer, turn.notice, turn.cut_off, turn.receipt, turn.steps, timing
            )
            try:
                self.logbook.conversations.end(turn.id, end)
            except CounterpointError as error:
                self.logbook.announce(str(error))
                remark = say("not_kept", why=str(error))
        if not remark:
            return state
        notice = " ".join(filter(None, (turn.notice, remark)))
        return replace(state, turns=(*state.turns[:-1], replace(turn, notice=notice, remark="")))
