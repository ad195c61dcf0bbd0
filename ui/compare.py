"""The Compare tab: one question, two to six panes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import gradio as gr

from comparison.live import MAX_PANES, check_question
from errors import CounterpointError
from personas.schema import Persona
from ui import links, markup, pane, rating, setup, variables
from ui.arrangement import Arrangement, chip_texts
from ui.controls import columns, picker_labels, sampling_controls, screen_of, tool
from ui.guard import guarded
from ui.keeping import Keeper
from ui.parts import Parts
from ui.screen import Screen, added, removed
from ui.streaming import answers
from ui.transcript import PaneState, copy_text
from ui.words import label, say

SLOTS = range(MAX_PANES)


class Compare:
    """Builds the tab and wires it. Holds components only: what a person does is in `gr.State`."""

    def __init__(self, parts: Parts, drafts: gr.State, tab: gr.Tab) -> None:
        self.parts = parts
        self.drafts = drafts
        self.keeper = Keeper(parts.logbook, "compare", lambda: parts.person)
        chosen = setup.default_modes(parts.catalogue.list(), parts.languages)
        fill = [*chosen, *[chosen[-1]] * (MAX_PANES - len(chosen))]
        with gr.Column(elem_id="compare", elem_classes=["cp-tab"]):
            gr.HTML(say("compare_lead"), elem_classes=["cp-lead"], js_on_load=None)
            with gr.Row(elem_classes=["cp-examples"]):
                gr.HTML(say("try_one"), elem_classes=["cp-try"], js_on_load=None)
                self.chips = [
                    gr.Button(
                        question, size="sm", min_width=0, scale=0, elem_classes=["cp-chip"], visible=shown
                    )
                    for question, shown in chip_texts(parts)
                ]
            with gr.Row(elem_classes=["cp-panes"], elem_id="panes"):
                self.panes = [
                    pane.build(parts, slot, fill[slot], visible=slot < len(chosen)) for slot in SLOTS
                ]
            self.active = gr.State(tuple(range(len(chosen))))
            self.editing = gr.State(False)
            known = gr.State(())
            self.variables = variables.Panel(parts.personas, self.pickers, self.active, drafts, tab)
            self._composer()
        self.arrangement = Arrangement(
            parts,
            self.panes,
            self.chips,
            self.question,
            self.sampling,
            self.variables,
            self.active,
            known,
            gr.State(""),
        )
        self._wire()

    @property
    def prompts(self) -> list[gr.Markdown]:
        """The prompts that were asked to be seen: of no use any more once another question takes the place."""
        return [view.prompt for view in self.panes]

    @property
    def pickers(self) -> list[gr.Dropdown]:
        return [view.mode for view in self.panes]

    def _composer(self) -> None:
        with gr.Column(elem_classes=["cp-composer"]):
            with gr.Row(elem_classes=["cp-ask-row"], equal_height=True):
                self.question = gr.Textbox(
                    label=label("question"),
                    placeholder=label("question_placeholder"),
                    lines=1,
                    max_lines=8,
                    max_length=setup.MAX_TYPED_CHARS,
                    scale=1,
                    elem_id="question",
                    autofocus=True,
                )
                self.ask = gr.Button(
                    label("ask"), variant="primary", scale=0, min_width=110, elem_id="ask-all"
                )
                self.stop_all = gr.Button(
                    label("stop_all"), variant="stop", scale=0, min_width=110, elem_id="stop-all"
                )
            with gr.Row(elem_classes=["cp-tools"]):
                self.again_all = tool("again_all")
                self.edit_all = tool("edit_question")
                self.copy_all = tool("copy_all")
                self.copy_link = tool("copy_link")
                self.add = tool("add_pane")
                self.clear = tool("new_conversation")
                with gr.Accordion(
                    label("sampling"), open=False, elem_classes=["cp-fold"], elem_id="sampling"
                ):
                    gr.Markdown(say("sampling_hint"), elem_classes=["cp-caption"], latex_delimiters=[])
                    with gr.Row():
                        self.sampling = sampling_controls()
                gr.Markdown(say("keys_hint"), elem_classes=["cp-hint"], latex_delimiters=[])
            self.clipboard = gr.Textbox(visible="hidden", label=label("clipboard"))
            self.kept = gr.Textbox(visible="hidden", label=label("clipboard"))

    # --- wiring

    def _wire(self) -> None:
        self.inputs = [
            *self.pickers,
            *[view.strength for view in self.panes],
            *[view.state for view in self.panes],
            self.active,
            self.drafts,
            *self.sampling,
            *self.variables.inputs,
        ]
        painted = [component for view in self.panes for component in view.painted]
        streams: dict[str, Any] = {"show_progress": "hidden", "concurrency_id": "ask"}
        quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
        asked = gr.on(
            [self.question.submit, self.ask.click],
            guarded(self._ask),
            [self.question, self.editing, *self.inputs],
            [self.question, self.editing, self.kept, self.ask, *painted],
            api_name="compare",
            **streams,
        )
        asked.then(None, [self.question, self.kept], self.question, js="(now, kept) => now || kept", **quiet)
        self.question.input(
            guarded(self._typed),
            self.question,
            [self.kept, self.editing, self.ask, *self.prompts],
            trigger_mode="always_last",
            **quiet,
        )
        self.again_all.click(
            guarded(self._again), [*self.inputs], painted, api_visibility="private", **streams
        )
        self.stop_all.click(guarded(self._stop), self.inputs, None, queue=False, **quiet)
        self.edit_all.click(
            guarded(self._edit), self.inputs, [self.question, self.editing, self.ask, *self.prompts], **quiet
        )
        self.clear.click(guarded(self._clear), self.inputs, [self.editing, self.ask, *painted], **quiet)
        self.copy_all.click(guarded(self._copy_all), self.inputs, self.clipboard, **quiet).then(
            None, self.clipboard, None, js="(text) => counterpoint.copy(text, 'copy_all')", **quiet
        )
        self.copy_link.click(
            guarded(self._link), [self.question, *self.inputs], self.clipboard, **quiet
        ).then(None, self.clipboard, None, js="(text) => counterpoint.copyLink(text, 'copy_link')", **quiet)
        self.add.click(
            guarded(self._add),
            [self.active, *self.pickers],
            [self.active, *self.arrangement.columns, *self.pickers, *self.arrangement.strengths],
            **quiet,
        )
        for view in self.panes:
            self._wire_pane(view, streams, quiet)
        for chip in self.chips:
            chip.click(
                guarded(self._example),
                [chip, *self.inputs],
                [self.editing, self.ask, *self.prompts, *self.arrangement.arranged],
                js="(...all) => { counterpoint.focus('question'); return all; }",
                **quiet,
            )

    def _wire_pane(self, view: pane.PaneView, streams: dict[str, Any], quiet: dict[str, Any]) -> None:
        slot = view.slot
        view.mode.change(
            guarded(self._mode_changed),
            [view.mode, self.drafts, view.state],
            [view.column, view.caption, view.strength, view.greeting, view.answered_by, view.prompt],
            **quiet,
        )
        view.stop.click(guarded(partial(self._stop_one, slot)), view.state, None, queue=False, **quiet)
        view.again.click(
            guarded(partial(self._again_one, slot)),
            self.inputs,
            view.painted,
            api_visibility="private",
            **streams,
        )
        view.rewording.submit(
            guarded(partial(self._reword, slot)),
            [view.rewording, *self.inputs],
            [view.rewording, *view.painted],
            api_visibility="private",
            **streams,
        )
        view.edit.click(
            lambda state: (gr.Accordion(open=True), state.last_question),
            view.state,
            [view.adjust, view.rewording],
            **quiet,
        ).then(None, None, None, js=f"() => counterpoint.focus('pane-{slot + 1}-rewording')", **quiet)
        view.copy.click(
            None, view.answer, None, js=f"(text) => counterpoint.copy(text, 'pane-{slot + 1}-copy')", **quiet
        )
        rating.wire(view, self.parts.logbook.ratings, **quiet)
        view.remove.click(
            guarded(partial(self._remove, slot)),
            [self.active, view.state],
            [self.active, *self.arrangement.columns, *self.pickers, *view.painted],
            **quiet,
        )
        preview: dict[str, Any] = {
            "fn": guarded(partial(self._preview, slot)),
            "inputs": [self.question, self.editing, view.rewording, *self.inputs],
            "outputs": view.prompt,
            **quiet,
        }
        view.prompt_button.click(**preview)
        view.adjust.expand(**preview)

    # --- asking

    def _screen(self, values: tuple[Any, ...]) -> Screen:
        screen = screen_of(values)
        return replace(screen, states=[self.parts.abandoned.without(state) for state in screen.states])

    def _ask(self, question: str, editing: bool, *values: Any) -> Iterator[Any]:
        screen = self._screen(values)
        question = question.strip()
        if not question:
            raise CounterpointError(say("empty_question"))
        if screen.busy:
            raise CounterpointError(say("busy"))
        check_question(question)
        asked = screen.asked(screen.active, self.parts.catalogue, replace_last=editing)
        first: dict[Any, Any] = {self.question: "", self.kept: "", **self._new_question}
        for updates, states in self._stream(question, asked, screen.seed):
            if all(state.last and state.last.state == "failed" for state in states.values()):
                updates[self.kept] = question
            yield {**updates, **first}
            first = {}

    def _again(self, *values: Any) -> Iterator[Any]:
        screen = self._screen(values)
        if screen.busy:
            raise CounterpointError(say("busy"))
        slots = [slot for slot in screen.active if screen.states[slot].turns]
        if not slots:
            raise CounterpointError(say("nothing_asked"))
        asked = screen.again(slots, self.parts.catalogue)
        for updates, _ in self._stream(screen.states[slots[0]].last_question, asked, screen.seed):
            yield updates

    def _again_one(self, slot: int, *values: Any) -> Iterator[Any]:
        screen = self._screen(values)
        if not screen.states[slot].turns or screen.states[slot].busy:
            raise CounterpointError(say("busy" if screen.states[slot].busy else "nothing_asked"))
        asked = screen.again([slot], self.parts.catalogue)
        for updates, _ in self._stream(screen.states[slot].last_question, asked, screen.seed):
            yield updates

    def _reword(self, slot: int, question: str, *values: Any) -> Iterator[Any]:
        screen = self._screen(values)
        if not question.strip():
            raise CounterpointError(say("empty_question"))
        if screen.states[slot].busy:
            raise CounterpointError(say("busy"))
        check_question(question)
        asked = screen.asked([slot], self.parts.catalogue, replace_last=bool(screen.states[slot].turns))
        for updates, _ in self._stream(question.strip(), asked, screen.seed):
            yield updates

    def _stream(
        self, question: str, asked: list[Any], seed: int | None
    ) -> Iterator[tuple[dict[Any, Any], dict[int, PaneState]]]:
        """Updates to paint, and all panes' states so far."""
        painted: dict[int, PaneState] = {}
        for changed in answers(
            self.parts.comparison,
            question,
            asked,
            seed,
            self.parts.waiting_for,
            self.parts.abandoned,
            self.keeper,
        ):
            updates: dict[Any, Any] = {}
            for slot, state in changed.items():
                updates |= self.panes[slot].paint(painted.get(slot), state)
                painted[slot] = state
            yield updates, painted

    def _stop(self, *values: Any) -> None:
        screen = self._screen(values)
        for run in {run for run, _ in screen.runs(screen.active)}:
            self.parts.comparison.stop(run)

    def _stop_one(self, slot: int, state: PaneState) -> None:
        if state.busy and state.run:
            self.parts.comparison.stop(state.run, state.position)

    @property
    def opens(self) -> list[Any]:
        """The components that `opened` sets."""
        painted = [component for view in self.panes for component in view.painted]
        return [self.editing, self.ask, *self.arrangement.arranged, *painted]

    def opened(self, states: Mapping[int, PaneState]) -> dict[Any, Any]:
        """A conversation as it stood, to be gone on with."""
        turns = {slot: state.last for slot, state in states.items() if state.last}
        modes = {slot: turn.mode for slot, turn in turns.items()}
        updates = self.arrangement.opened(modes, {slot: turn.strength for slot, turn in turns.items()})
        for view in self.panes:
            state = states.get(view.slot)
            updates |= view.paint(None, state) if state else view.blank()
        return updates | self._new_question

    # --- the set-up

    @property
    def _new_question(self) -> dict[Any, Any]:
        """Updates after which the next question is a new turn, whatever was being edited."""
        return {self.editing: False, self.ask: label("ask"), **dict.fromkeys(self.prompts, "")}

    def _typed(self, question: str) -> dict[Any, Any]:
        """Who empties the box while editing has given the edit up."""
        return {self.kept: "", **({} if question.strip() else self._new_question)}

    def _edit(self, *values: Any) -> Any:
        screen = self._screen(values)
        questions = list(screen.by_question(screen.active))
        if not questions:
            raise CounterpointError(say("nothing_asked"))
        return {
            self.question: questions[0],
            self.editing: True,
            self.ask: label("ask_again"),
            **dict.fromkeys(self.prompts, ""),
        }

    def _clear(self, *values: Any) -> Any:
        self._stop(*values)
        for state in self._screen(values).states:
            self.parts.abandoned.add(state)
        updates = self._new_question
        for view in self.panes:
            updates |= view.blank()
        return updates

    def _copy_all(self, *values: Any) -> str:
        screen = self._screen(values)
        text = copy_text([screen.states[slot] for slot in screen.active])
        if not text:
            raise CounterpointError(say("nothing_asked"))
        return text

    def _link(self, question: str, *values: Any) -> str:
        screen = self._screen(values)
        asked = list(screen.by_question(screen.active))
        text = question.strip() or (asked[0] if asked else "")
        modes = [screen.modes[slot] or "base" for slot in screen.active]
        scales = [screen.scale(slot) for slot in screen.active]
        changed: dict[str, dict[str, str]] = {}
        for row in setup.variables_in_use(modes, self.parts.personas, screen.drafts):
            value = screen.variables.get(row.persona, {}).get(row.name, row.default)
            if value != row.default:
                changed.setdefault(row.persona, {})[row.name] = value
        return links.write_link(modes, text, screen.seed_for(text), scales, screen.explicit, changed)

    def _preview(self, slot: int, question: str, editing: bool, rewording: str | None, *values: Any) -> str:
        """The prompt of what is typed: of the pane's own wording where there is one, else of the question to all."""
        screen = self._screen(values)
        alone = (rewording or "").strip()
        typed, replaces_last = alone or question.strip(), editing or bool(alone)
        asked = screen.pane(slot, screen.before(slot, replaces_last))
        shown = self.parts.preview(asked, typed or say("preview_question"))
        note = say("preview_rewording") if alone else "" if typed else say("preview_invented")
        return markup.preview(shown, " ".join(filter(None, (note, self.parts.preview_note(asked)))))

    def _mode_changed(self, mode: str | None, drafts: Mapping[str, Persona], state: PaneState) -> Any:
        return (
            gr.Column(elem_classes=pane.pane_classes(self.parts.mode(mode))),
            pane.mode_caption(self.parts, mode),
            gr.Slider(visible=setup.has_strength(mode or "")),
            pane.greeting_text(self.parts, mode, drafts),
            pane.answered_by(state, mode),
            "",
        )

    def _add(self, active: tuple[int, ...], *modes: str | None) -> Any:
        """One more pane, with a mode that no other pane has."""
        wider = added(active)
        shown = dict(zip(self.arrangement.columns, columns(wider), strict=True))
        (slot,) = set(wider) - set(active)
        mode = setup.next_mode(
            self.parts.catalogue.list(), [modes[each] for each in active], self.parts.languages
        )
        updates = {self.active: wider, **shown, **self._numbered(wider)}
        updates[self.pickers[slot]]["value"] = mode
        updates[self.panes[slot].strength] = gr.Slider(value=1.0, visible=setup.has_strength(mode))
        return updates

    def _remove(self, slot: int, active: tuple[int, ...], state: PaneState) -> Any:
        active = removed(active, slot)
        self._stop_one(slot, state)
        self.parts.abandoned.add(state)
        shown = dict(zip(self.arrangement.columns, columns(active), strict=True))
        return {self.active: active, **shown, **self._numbered(active), **self.panes[slot].blank()}

    def _numbered(self, active: tuple[int, ...]) -> dict[Any, Any]:
        return {self.pickers[slot]: gr.update(label=text) for slot, text in picker_labels(active).items()}

    def _example(self, question: str, *values: Any) -> Any:
        if self._screen(values).busy:
            raise CounterpointError(say("busy"))
        return {**self.arrangement.example(question), **self._new_question}
