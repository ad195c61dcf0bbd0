"""Which modes stand in which panes: by the page's address, by an example, or as modes come and go."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from comparison.modes import ModeInfo
from ui import links, pane, setup, variables
from ui.controls import columns, picker_labels, picker_update, screen_of
from ui.guard import warn
from ui.parts import Parts
from ui.screen import added
from ui.words import say

Updates = dict[Any, Any]
SERVERS_TELL_S = 3.0
"""How long a page waits for all the servers together whose adapters its link asks for."""


def chip_texts(parts: Parts) -> list[tuple[str, bool]]:
    """(question, whether it is shown) for every example's button."""
    found = [(example.question, True) for example in _examples(parts)]
    return found + [("", False)] * (setup.MAX_EXAMPLES - len(found))


def _examples(parts: Parts) -> list[setup.Example]:
    return setup.examples(parts.catalogue.list(), parts.personas, parts.languages)


@dataclass
class Arrangement:
    """The components of Compare that a set-up fills; holds nothing of what a person does."""

    parts: Parts
    panes: Sequence[pane.PaneView]
    chips: Sequence[gr.Button]
    question: gr.Textbox
    sampling: Sequence[gr.Textbox]
    variables: variables.Panel
    active: gr.State
    known: gr.State
    link: gr.State
    """The query of a link that waits for its adapters: they are known only once the base is."""

    @property
    def pickers(self) -> list[gr.Dropdown]:
        return [view.mode for view in self.panes]

    @property
    def strengths(self) -> list[gr.Slider]:
        return [view.strength for view in self.panes]

    @property
    def columns(self) -> list[gr.Column]:
        return [view.column for view in self.panes]

    @property
    def arranged(self) -> list[Any]:
        """The components that `example` sets."""
        return [self.question, self.active, *self.columns, *self.pickers, *self.strengths]

    @property
    def caught_up(self) -> list[Any]:
        """The components that `on_load` and `catch_up` set."""
        variables = self.variables.arranged
        return [self.known, self.link, *self.chips, *self.arranged, *self.sampling, *variables]

    def example(self, question: str) -> Updates:
        """The example's question, and the modes that fit it."""
        found = [each for each in _examples(self.parts) if each.question == question]
        return self._arrange(found[0].modes if found else (), question)

    def opened(self, modes: Mapping[int, str | None], scales: Mapping[int, float]) -> Updates:
        """These slots with these modes and strengths; where they are fewer than stand on a page, another beside them."""
        there = {mode.id for mode in self.parts.modes(*modes.values())}
        active = tuple(sorted(modes))
        while len(active) < setup.MIN_PANES:
            active = added(active)
        updates: Updates = {self.active: active}
        updates |= zip(self.columns, columns(active), strict=True)
        for slot, text in picker_labels(active).items():
            mode = modes.get(slot, "base")
            mode = mode if mode in there else None
            view = self.panes[slot]
            updates[view.mode] = gr.Dropdown(value=mode, label=text)
            updates[view.strength] = _strength(mode, scales.get(slot, 1.0))
        return updates

    def on_load(self, request: gr.Request) -> Updates:
        """The set-up of the page's own address, or the showcase; updates for `caught_up`."""
        return self._set_up(str(request.request.url.query) if request.request else "")

    def _set_up(self, query: str) -> Updates:
        modes = self.parts.catalogue.list()
        link = links.read_link(query, modes)
        unseen = {setup.server_of(mode) for mode in link.absent}.intersection(self.parts.backends.others)
        if unseen:
            # The page may be opened before they have told what they have.
            self._let_tell(unseen)
            modes = self.parts.catalogue.list()
            link = links.read_link(query, modes)
        waits = bool(query) and not self.parts.base_is_known
        chosen = link.modes or tuple(setup.default_modes(modes, self.parts.languages))
        named = [mode for mode in chosen if mode]
        if not waits:
            for problem in [*link.problems, *self._untakeable(named, link.variables)]:
                warn(problem)
        updates = self._catch_up(modes, [None] * len(self.pickers)) | self._arrange(chosen, link.question)
        typed = dict(link.sampling) if link.seed is None else {**link.sampling, "seed": link.seed}
        for name, control in zip(setup.SAMPLING, self.sampling, strict=True):
            if name in typed:
                updates[control] = str(typed[name])
        for slot, (mode, scale) in enumerate(zip(link.modes, link.scales, strict=True)):
            updates[self.panes[slot].strength] = _strength(mode, scale)
        updates[self.link] = query if waits else ""
        filled = self.variables.arrange(self.parts.personas, named, {}, link.variables)
        return updates | dict(zip(self.variables.arranged, filled, strict=True))

    def _let_tell(self, servers: Collection[str | None]) -> None:
        ends = time.monotonic() + SERVERS_TELL_S
        for server in servers:
            self.parts.backends.adapters(server)  # All are asked before one is waited for.
        for server in servers:
            self.parts.backends.adapters(server, max(0.0, ends - time.monotonic()))

    def _untakeable(self, modes: Sequence[str], given: Mapping[str, Mapping[str, str]]) -> list[str]:
        """A line for each of a link's variables that these modes' personas do not have, or cannot take."""
        rows = {
            (row.persona, row.name): row for row in setup.variables_in_use(modes, self.parts.personas, {})
        }
        return [
            say("link_no_variable", persona=persona[:80], name=name[:80])
            for persona, values in given.items()
            for name, value in values.items()
            if (row := rows.get((persona, name))) is None or (row.choices and value not in row.choices)
        ]

    def catch_up(self, known: Sequence[str], link: str, question: str, values: Sequence[Any]) -> Updates:
        """Updates for `caught_up` where the modes there are have changed; while nobody has touched the
        showcase, it grows with them, or a link that waited is followed: adapters are known only once the
        base is."""
        screen = screen_of(tuple(values))
        modes = self.parts.modes(*screen.modes)
        if setup.known_ids(modes) == tuple(known):
            return {}
        asked = any(state.turns for state in screen.states)
        followed = bool(link) and self.parts.base_is_known
        if followed and not asked:
            # What stands in the box by now is the link's question, or what a person made of it.
            return {**self._set_up(link), self.question: question}
        updates = self._catch_up(modes, screen.modes) | ({self.link: ""} if followed else {})
        shown = [screen.modes[slot] for slot in screen.active]
        before = [mode for mode in modes if mode.id in known]
        untouched = not question and not asked
        if known and untouched and shown == setup.default_modes(before, self.parts.languages):
            chosen = setup.default_modes(modes, self.parts.languages)
            # Not where nothing changes: another mode may have been picked meanwhile.
            updates |= self._arrange(chosen, question) if chosen != shown else {}
        return updates

    def _catch_up(self, modes: Sequence[ModeInfo], picked: Sequence[str | None]) -> Updates:
        updates: Updates = {self.known: setup.known_ids(modes)}
        updates |= {
            picker: picker_update(modes, mode) for picker, mode in zip(self.pickers, picked, strict=True)
        }
        for chip, (question, shown) in zip(self.chips, chip_texts(self.parts), strict=True):
            updates[chip] = gr.Button(question, visible=shown)
        return updates

    def _arrange(self, modes: Sequence[str | None], question: str) -> Updates:
        """The first panes set to these modes (None: to be picked) at full strength, the question in the box; the
        conversations stay."""
        if not modes:
            return {self.question: question}
        modes = [*modes, *["base"] * (setup.MIN_PANES - len(modes))]
        active, choices = tuple(range(len(modes))), setup.choices(self.parts.catalogue.list())
        updates: Updates = {self.question: question, self.active: active}
        updates |= zip(self.columns, columns(active), strict=True)
        labels = picker_labels(active)
        for slot, mode in zip(active, modes, strict=True):
            view = self.panes[slot]
            updates[view.mode] = gr.Dropdown(choices=choices, value=mode, label=labels[slot])
            # Not the one that was set for what stood here before: it is folded away.
            updates[view.strength] = _strength(mode, 1.0)
            # Its colour at once: the change of mode is only told after it is shown.
            updates[view.column] = gr.Column(
                visible=True, elem_classes=pane.pane_classes(self.parts.mode(mode))
            )
        return updates


def _strength(mode: str | None, scale: float) -> gr.Slider:
    shown = setup.has_strength(mode or "")
    return gr.Slider(value=scale if shown else 1.0, visible=shown)
