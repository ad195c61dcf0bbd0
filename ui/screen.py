"""The panes on a page as the handlers see them: which stand there, and what each would ask with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from comparison.live import MAX_PANES, Pane
from comparison.modes import Catalogue
from errors import CounterpointError
from personas.schema import Persona
from ui import setup, transcript
from ui.asked import Asked
from ui.transcript import PaneState
from ui.words import say

Drafts = Mapping[str, Persona]
"""Personas as this person is editing them, by name: they act before they are saved."""


@dataclass(frozen=True, slots=True)
class Screen:
    """One person's panes at the moment of a click. All sequences are by slot."""

    modes: Sequence[str | None]
    strengths: Sequence[float]
    states: Sequence[PaneState]
    active: Sequence[int]
    drafts: Drafts = field(default_factory=dict)
    variables: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """By persona: values that this person gave to its variables."""
    sampling: Mapping[str, str | None] = field(default_factory=dict)

    @property
    def seed(self) -> int | None:
        seed = setup.sampling(self.sampling).get("seed")
        return None if seed is None else int(seed)

    def seed_for(self, question: str) -> int | None:
        """The seed that this question is to be asked with again: the one typed, else the one that the last
        answers to it really used; None where there is neither."""
        if self.seed is not None:
            return self.seed
        turns = [self.states[slot].last for slot in self.active]
        used = [turn.receipt.get("seed") for turn in turns if turn and turn.question == question]
        return next((int(seed) for seed in used if seed is not None), None)

    @property
    def conversation(self) -> str | None:
        """What the logbook calls the one on this screen; None where nothing of it is kept."""
        return next((state.conversation for state in self.states if state.conversation), None)

    @property
    def busy(self) -> bool:
        return any(self.states[slot].busy for slot in self.active)

    @property
    def explicit(self) -> dict[str, float | int]:
        """The sampling values that this person set, the seed apart. Raises CounterpointError for no number."""
        explicit = setup.sampling(self.sampling)
        explicit.pop("seed", None)
        return explicit

    def scale(self, slot: int) -> float:
        """The strength of a slot's adapter; 1 where its mode has none, or a server's."""
        return float(self.strengths[slot]) if setup.has_strength(self.modes[slot] or "") else 1.0

    def pane(self, slot: int, state: PaneState) -> Pane:
        """What a slot asks with, its history taken from `state`. Raises CounterpointError without a mode."""
        mode = self.modes[slot]
        if not mode:
            alone = len(self.states) == 1
            number = 1 + list(self.active).index(slot)
            raise CounterpointError(say("choose_mode") if alone else say("choose_pane_mode", number=number))
        persona = setup.persona_of(mode) or ""
        return Pane(
            mode=mode,
            history=transcript.history(state),
            adapter_scale=self.scale(slot),
            persona=self.drafts.get(persona),
            variables=self.variables.get(persona, {}),
            sampling=self.explicit,
        )

    def before(self, slot: int, replace_last: bool) -> PaneState:
        """What a slot's next question follows: all of its turns, or those before the one that it replaces."""
        state = self.states[slot]
        return transcript.without_last(state) if replace_last else state

    def asked(self, slots: Sequence[int], catalogue: Catalogue, replace_last: bool = False) -> list[Asked]:
        """The panes of these slots, ready to be asked; `replace_last` asks in their last question's place."""
        modes = {mode.id: mode for mode in catalogue.list()}
        ready = []
        for slot in slots:
            state = self.before(slot, replace_last)
            pane = self.pane(slot, state)
            info = modes.get(pane.mode)
            title = setup.mode_title(info) if info else pane.mode
            if pane.adapter_scale != 1:
                title = f"{title} ×{pane.adapter_scale:g}"
            if pane.persona:
                title = f"{title}, {say('draft')}"
            family = info.family if info else "bare"
            head = transcript.last_kept(self.states[slot])
            ready.append(Asked(slot, state, pane, title, family, self.conversation, head))
        return ready

    def again(self, slots: Sequence[int], catalogue: Catalogue) -> list[Asked]:
        """The panes of these slots, each ready to be asked its own last question anew."""
        return [
            replace(item, pane=replace(item.pane, question=self.states[item.slot].last_question))
            for item in self.asked(slots, catalogue, replace_last=True)
        ]

    def runs(self, slots: Sequence[int]) -> list[tuple[str, int]]:
        """(run, position) of every answer under way in these slots, for `Comparison.stop`."""
        return [
            (state.run, state.position)
            for state in (self.states[slot] for slot in slots)
            if state.busy and state.run
        ]

    def by_question(self, slots: Sequence[int]) -> dict[str, list[int]]:
        """The slots that have been asked something, grouped by their last question."""
        groups: dict[str, list[int]] = {}
        for slot in slots:
            if self.states[slot].turns:
                groups.setdefault(self.states[slot].last_question, []).append(slot)
        return groups


def added(active: Sequence[int]) -> tuple[int, ...]:
    """The slots with one more pane. Raises CounterpointError where all stand there already."""
    free = [slot for slot in range(MAX_PANES) if slot not in active]
    if not free:
        raise CounterpointError(say("no_more_panes", limit=MAX_PANES))
    return tuple(sorted((*active, free[0])))


def removed(active: Sequence[int], slot: int) -> tuple[int, ...]:
    """The slots with one pane less. Raises CounterpointError where too few would be left."""
    if len(active) <= setup.MIN_PANES:
        raise CounterpointError(say("no_fewer_panes", limit=setup.MIN_PANES))
    return tuple(each for each in active if each != slot)
