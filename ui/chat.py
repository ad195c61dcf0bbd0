"""The Chat tab: one conversation, whose mode can be changed at any point."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import gradio as gr

from comparison.live import check_question
from errors import CounterpointError
from personas.schema import Persona
from ui import markup, pane, rating, setup, variables
from ui.controls import pane_tool, picker_update, sampling_controls
from ui.guard import guarded
from ui.keeping import Keeper
from ui.parts import Parts
from ui.screen import Screen
from ui.streaming import answers
from ui.transcript import PaneState
from ui.words import label, say


class Chat:
    """Builds the tab and wires it: a screen with a single pane."""

    def __init__(self, parts: Parts, drafts: gr.State, tab: gr.Tab) -> None:
        self.parts = parts
        self.keeper = Keeper(parts.logbook, "chat", lambda: parts.person)
        modes = parts.catalogue.list()
        mode = setup.chat_mode(modes)
        with gr.Column(elem_id="chat", elem_classes=["cp-tab", "cp-chat"]):
            with gr.Row(elem_classes=["cp-head"], equal_height=True):
                self.picker = gr.Dropdown(
                    setup.choices(modes),
                    value=mode,
                    label=label("chat_mode"),
                    elem_id="chat-mode",
                    elem_classes=["cp-mode"],
                    scale=2,
                )
                self.strength = gr.Slider(
                    0.0,
                    setup.MAX_STRENGTH,
                    1.0,
                    step=0.05,
                    label=label("strength"),
                    scale=1,
                    visible=setup.has_strength(mode),
                )
            self.caption = gr.Markdown(
                pane.mode_caption(parts, mode), elem_classes=["cp-caption"], latex_delimiters=[]
            )
            with gr.Column(elem_classes=["cp-body"], elem_id="chat-body"):
                self.greeting = pane.greeting(parts, mode, "chat", say("chat_greeting"))
                self.older, self.question, self.answered_by, self.answer, self.steps, self.notice = (
                    _conversation()
                )
            self.speed = gr.Markdown("", elem_classes=["cp-speed"], elem_id="chat-speed", latex_delimiters=[])
            with gr.Row(elem_classes=["cp-foot"], elem_id="chat-foot") as self.foot:
                self.again, self.edit, self.copy = (
                    pane_tool(key, "chat") for key in ("again", "edit", "copy")
                )
                self.good, self.bad = rating.buttons("chat")
                self.clear = pane_tool("new_conversation", "chat", "edit")
            self.variables = variables.Panel(parts.personas, [self.picker], gr.State((0,)), drafts, tab)
            with gr.Column(elem_classes=["cp-composer"]):
                with gr.Row(elem_classes=["cp-ask-row"], equal_height=True):
                    self.box = gr.Textbox(
                        label=label("message"),
                        placeholder=label("message_placeholder"),
                        lines=1,
                        max_lines=8,
                        max_length=setup.MAX_TYPED_CHARS,
                        scale=1,
                        elem_id="chat-box",
                    )
                    self.ask = gr.Button(
                        label("send"), variant="primary", scale=0, min_width=110, elem_id="chat-send"
                    )
                    self.stop = gr.Button(
                        label("stop"), variant="stop", scale=0, min_width=110, elem_id="chat-stop"
                    )
                with gr.Row(elem_classes=["cp-folds"]):
                    with gr.Accordion(label("receipt"), open=False, elem_classes=["cp-fold"]):
                        self.receipt = gr.Markdown(
                            say("no_receipt"), elem_classes=["cp-receipt"], latex_delimiters=[]
                        )
                    with gr.Accordion(label("sampling"), open=False, elem_classes=["cp-fold"]), gr.Row():
                        self.sampling = sampling_controls()
            self.state = gr.State(PaneState())
            self.editing = gr.State(False)
            self.known = gr.State(())
        self._wire(drafts)

    def _wire(self, drafts: gr.State) -> None:
        inputs = [self.picker, self.strength, self.state, drafts, *self.sampling, *self.variables.inputs]
        painted = self.painted
        quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
        gr.on(
            [self.box.submit, self.ask.click],
            guarded(self._ask),
            [self.box, self.editing, *inputs],
            [self.box, self.editing, self.ask, *painted],
            concurrency_id="ask",
            show_progress="hidden",
            api_name="chat",
        )
        self.again.click(guarded(self._again), inputs, painted, concurrency_id="ask", **quiet)
        self.stop.click(guarded(self._stop), self.state, None, queue=False, **quiet)
        self.box.input(
            guarded(self._typed), self.box, [self.editing, self.ask], trigger_mode="always_last", **quiet
        )
        self.edit.click(guarded(self._edit), self.state, [self.box, self.editing, self.ask], **quiet).then(
            None, None, None, js="() => counterpoint.focus('chat-box')", **quiet
        )
        self.copy.click(None, self.answer, None, js="(text) => counterpoint.copy(text, 'chat-copy')", **quiet)
        rating.wire(self, self.parts.logbook.ratings, **quiet)
        self.clear.click(guarded(self._clear), self.state, [self.editing, self.ask, *painted], **quiet)
        self.picker.change(
            guarded(self._mode_changed),
            [self.picker, drafts],
            [self.caption, self.strength, self.greeting],
            **quiet,
        )

    @property
    def painted(self) -> list[Any]:
        """The components that an answer is painted on."""
        return [
            self.older,
            self.question,
            self.answered_by,
            self.answer,
            self.steps,
            self.notice,
            self.speed,
            self.foot,
            self.receipt,
            self.state,
        ]

    def _ask(self, question: str, editing: bool, *values: Any) -> Iterator[Any]:
        if not question.strip():
            raise CounterpointError(say("empty_question"))
        check_question(question)
        first: dict[Any, Any] = {self.box: "", **self._new_message}
        for updates in self._stream(question.strip(), editing, values):
            yield {**updates, **first}
            first = {}

    def _again(self, *values: Any) -> Iterator[Any]:
        state = self.parts.abandoned.without(values[2])
        if not state.turns:
            raise CounterpointError(say("nothing_asked"))
        yield from self._stream(state.last_question, True, values)

    def _stream(self, question: str, replace_last: bool, values: tuple[Any, ...]) -> Iterator[dict[Any, Any]]:
        picked, strength, state, drafts, *rest = values
        state = self.parts.abandoned.without(state)
        if state.busy:
            raise CounterpointError(say("busy"))
        screen = Screen(
            modes=[picked],
            strengths=[strength],
            states=[state],
            active=[0],
            drafts=drafts,
            variables=variables.read(rest[len(setup.SAMPLING) :]),
            sampling=dict(zip(setup.SAMPLING, rest[: len(setup.SAMPLING)], strict=True)),
        )
        asked = screen.asked([0], self.parts.catalogue, replace_last=replace_last and bool(state.turns))
        painted: PaneState | None = None
        for changed in answers(
            self.parts.comparison,
            question,
            asked,
            screen.seed,
            self.parts.waiting_for,
            self.parts.abandoned,
            self.keeper,
        ):
            yield self._paint(painted, changed[0])
            painted = changed[0]

    def _paint(self, before: PaneState | None, state: PaneState) -> dict[Any, Any]:
        updates = pane.paint(self, before, state)
        if before is None and state.last:
            updates[self.answered_by] = markup.answered_by(state.last)
        return updates

    def _stop(self, state: PaneState) -> None:
        if state.busy and state.run:
            self.parts.comparison.stop(state.run, state.position)

    def _edit(self, state: PaneState) -> Any:
        if not state.turns:
            raise CounterpointError(say("nothing_asked"))
        return state.last_question, True, label("ask_again")

    @property
    def _new_message(self) -> dict[Any, Any]:
        """Updates after which the next message is a new turn, whatever was being edited."""
        return {self.editing: False, self.ask: label("send")}

    def _typed(self, message: str) -> Any:
        """Who empties the box while editing has given the edit up."""
        return gr.skip() if message.strip() else self._new_message

    def _clear(self, state: PaneState) -> Any:
        self._stop(state)
        self.parts.abandoned.add(state)
        return {**pane.blank(self), self.answered_by: "", **self._new_message}

    @property
    def opens(self) -> list[Any]:
        """The components that `opened` sets."""
        return [self.picker, self.strength, self.editing, self.ask, *self.painted]

    def opened(self, states: Mapping[int, PaneState]) -> dict[Any, Any]:
        """A conversation as it stood, to be gone on with."""
        state = next(iter(states.values()))
        updates = self._paint(None, state) | self._new_message
        if state.last:
            mode = state.last.mode
            there = any(info.id == mode for info in self.parts.modes(mode))
            updates[self.picker] = gr.Dropdown(value=mode if there else None)
            updates[self.strength] = gr.Slider(value=state.last.strength, visible=setup.has_strength(mode))
        return updates

    @property
    def caught_up(self) -> list[Any]:
        """The components that `on_load` and `catch_up` set."""
        return [self.known, self.picker]

    def on_load(self) -> dict[Any, Any]:
        """The modes there are by now, for a page that was laid out when fewer were known."""
        modes = self.parts.catalogue.list()
        picker = gr.Dropdown(choices=setup.choices(modes), value=setup.chat_mode(modes))
        return {self.known: setup.known_ids(modes), self.picker: picker}

    def catch_up(self, known: Sequence[str], mode: str | None, state: PaneState) -> dict[Any, Any]:
        """Updates for `caught_up` where the modes there are have changed from `known`. What a person picked
        stays; the mode that the tab opened with gives way to a better one as long as nothing was said."""
        modes = self.parts.modes(mode)
        if setup.known_ids(modes) == tuple(known):
            return {}
        opened_with = setup.chat_mode([each for each in modes if each.id in known])
        untouched = mode == opened_with and not state.turns
        better = untouched and mode != setup.chat_mode(modes)
        if better:
            return self.on_load()
        picker = picker_update(modes, mode)
        return {self.known: setup.known_ids(modes), self.picker: picker}

    def _mode_changed(self, mode: str | None, drafts: Mapping[str, Persona]) -> Any:
        strength = gr.Slider(visible=setup.has_strength(mode or ""))
        greeting = pane.greeting_text(self.parts, mode, drafts) or say("chat_greeting")
        return pane.mode_caption(self.parts, mode), strength, greeting


def _conversation() -> tuple[gr.Chatbot, gr.Markdown, gr.Markdown, gr.Markdown, gr.Markdown, gr.Markdown]:
    older = pane.older_turns("chat")
    question = pane.text("question", "chat")
    answered_by = pane.text("by", "chat")
    answer = pane.text("answer", "chat")
    return older, question, answered_by, answer, pane.text("steps", "chat"), pane.text("notice", "chat")
