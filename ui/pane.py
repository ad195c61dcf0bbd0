"""One pane: the components of a mode's place on the screen, and how its state is painted on them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import gradio as gr

from comparison.modes import ModeInfo
from personas import render
from personas.schema import Persona
from ui import markup, rating, setup
from ui.controls import pane_tool
from ui.parts import Parts
from ui.transcript import PaneState, foot_classes
from ui.words import label, say

Updates = dict[Any, Any]


@dataclass
class PaneView:
    """The components of one pane, in one slot of the row."""

    slot: int
    column: gr.Column
    mode: gr.Dropdown
    caption: gr.Markdown
    remove: gr.Button
    greeting: gr.Markdown
    older: gr.Chatbot
    question: gr.Markdown
    answered_by: gr.Markdown
    answer: gr.Markdown
    steps: gr.Markdown
    notice: gr.Markdown
    speed: gr.Markdown
    foot: gr.Row
    stop: gr.Button
    again: gr.Button
    edit: gr.Button
    copy: gr.Button
    good: gr.Button
    bad: gr.Button
    receipt: gr.Markdown
    adjust: gr.Accordion
    strength: gr.Slider
    prompt_button: gr.Button
    prompt: gr.Markdown
    rewording: gr.Textbox
    state: gr.State

    @property
    def painted(self) -> list[Any]:
        """The components that `paint` changes: the outputs of whatever streams into the pane."""
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
            self.prompt,
            self.state,
        ]

    def paint(self, before: PaneState | None, state: PaneState) -> Updates:
        """What changes on the screen from one state to the next; from None, everything."""
        updates = paint(self, before, state)
        if self.older in updates:
            # A new turn: the heading says who answers it, and the prompt shown for it is no longer the next one.
            updates |= {self.answered_by: "", self.prompt: ""}
        return updates

    def blank(self) -> Updates:
        """A pane that has not been asked anything."""
        return {**blank(self), self.answered_by: "", self.prompt: ""}


def older_turns(name: str) -> gr.Chatbot:
    """The turns before the last one."""
    return gr.Chatbot(
        label=label("older"),
        show_label=False,
        container=False,
        visible=False,
        height=None,
        layout="bubble",
        sanitize_html=True,
        allow_tags=False,
        latex_delimiters=[],
        feedback_options=None,
        buttons=[],
        elem_classes=["cp-older"],
        elem_id=f"{name}-older",
    )


def text(part: str, name: str) -> gr.Markdown:
    """A part of the turn that is being answered.

    It is Markdown, not part of the Chatbot: at 20 repaints a second Chromium spends half as much on it, and a
    base that computes on the same cores is the faster for it.
    """
    return gr.Markdown(
        "",
        elem_classes=[f"cp-{part}"],
        elem_id=f"{name}-{part}",
        latex_delimiters=[],
        line_breaks=True,
        sanitize_html=True,
    )


def greeting(parts: Parts, mode: str | None, name: str, otherwise: str = "") -> gr.Markdown:
    """The first words of the mode's persona; the style hides them as soon as there is a question."""
    return gr.Markdown(
        greeting_text(parts, mode, {}) or otherwise,
        elem_classes=["cp-greeting"],
        elem_id=f"{name}-greeting",
        latex_delimiters=[],
        sanitize_html=True,
    )


def greeting_text(parts: Parts, mode: str | None, drafts: Mapping[str, Persona]) -> str:
    """The greeting of the mode's persona, of its draft where there is one, escaped; empty where it has none."""
    name = setup.persona_of(mode or "")
    if not name:
        return ""
    stored = {entry.name: entry.persona for entry in parts.personas.list()}
    persona = drafts.get(name) or stored.get(name)
    return markup.plain(render.greeting(persona)) if persona else ""


def build(parts: Parts, slot: int, mode: str, visible: bool) -> PaneView:
    """Lays out a pane where the caller stands."""
    info = parts.mode(mode)
    name = f"pane-{slot + 1}"
    with gr.Column(visible=visible, min_width=0, elem_id=name, elem_classes=pane_classes(info)) as column:
        with gr.Row(elem_classes=["cp-head"], equal_height=True):
            picker = gr.Dropdown(
                setup.choices(parts.catalogue.list()),
                value=mode,
                label=say("pane_mode", number=slot + 1),
                elem_id=f"{name}-mode",
                elem_classes=["cp-mode"],
                container=True,
                scale=1,
                min_width=120,
            )
            remove = gr.Button(
                label("remove"), size="sm", scale=0, min_width=0, elem_classes=["cp-icon", "cp-remove"]
            )
        caption = gr.Markdown(mode_caption(parts, mode), elem_classes=["cp-caption"], latex_delimiters=[])
        with gr.Column(elem_classes=["cp-body"], elem_id=f"{name}-body"):
            greets = greeting(parts, mode, name)
            older = older_turns(name)
            question = text("question", name)
            answered_by = text("by", name)
            answer = text("answer", name)
            steps = text("steps", name)
            notice = text("notice", name)
        speed = text("speed", name)
        with gr.Row(elem_classes=["cp-foot"], elem_id=f"{name}-foot") as foot:
            stop = pane_tool("stop", name)
            again = pane_tool("again", name)
            edit = pane_tool("edit", name)
            copy = pane_tool("copy", name)
            good, bad = rating.buttons(name)
        with gr.Row(elem_classes=["cp-folds"]):
            with gr.Accordion(
                label("receipt"), open=False, elem_classes=["cp-fold"], elem_id=f"{name}-receipt"
            ):
                receipt = gr.Markdown(say("no_receipt"), elem_classes=["cp-receipt"], latex_delimiters=[])
            with gr.Accordion(
                label("adjust"), open=False, elem_classes=["cp-fold"], elem_id=f"{name}-adjust"
            ) as adjust:
                strength = gr.Slider(
                    0.0,
                    setup.MAX_STRENGTH,
                    1.0,
                    step=0.05,
                    label=label("strength"),
                    visible=setup.has_strength(mode),
                )
                rewording = gr.Textbox(
                    label=label("rewording"),
                    lines=1,
                    max_lines=5,
                    max_length=setup.MAX_TYPED_CHARS,
                    elem_id=f"{name}-rewording",
                )
                prompt_button = gr.Button(label("show_prompt"), size="sm", elem_id=f"{name}-show-prompt")
                prompt = gr.Markdown("", elem_classes=["cp-receipt"], latex_delimiters=[])
    return PaneView(
        slot=slot,
        column=column,
        mode=picker,
        caption=caption,
        remove=remove,
        greeting=greets,
        older=older,
        question=question,
        answered_by=answered_by,
        answer=answer,
        steps=steps,
        notice=notice,
        speed=speed,
        foot=foot,
        stop=stop,
        again=again,
        edit=edit,
        copy=copy,
        good=good,
        bad=bad,
        receipt=receipt,
        adjust=adjust,
        strength=strength,
        prompt_button=prompt_button,
        prompt=prompt,
        rewording=rewording,
        state=gr.State(PaneState()),
    )


class Paintable(Protocol):
    """What `paint` needs: a pane of Compare, or the Chat tab."""

    older: gr.Chatbot
    question: gr.Markdown
    answer: gr.Markdown
    steps: gr.Markdown
    notice: gr.Markdown
    speed: gr.Markdown
    foot: gr.Row
    receipt: gr.Markdown
    state: gr.State


def paint(view: Paintable, before: PaneState | None, state: PaneState) -> Updates:
    """What changes on the screen from one state to the next; from None, everything."""
    turn = state.last
    if turn is None:
        return blank(view)
    old = before.last if before else None
    updates: Updates = {view.state: state}
    if old is None or before is None or len(before.turns) != len(state.turns):
        older = markup.older_messages(state.turns[:-1])
        updates[view.older] = gr.Chatbot(value=older, visible=bool(older))
        updates[view.question] = markup.plain(turn.question)
        old = None
    if old is None or old.answer != turn.answer or old.state != turn.state or old.step != turn.step:
        updates[view.answer] = markup.answer(turn)
    if old is None or old.steps != turn.steps:
        updates[view.steps] = markup.steps(turn)
    if old is None or old.speed != turn.speed:
        updates[view.speed] = turn.speed
    if old is None or old.notice != turn.notice:
        updates[view.notice] = markup.notice(turn)
    if old is None or old.state != turn.state:
        updates[view.foot] = gr.Row(elem_classes=foot_classes(state))
    if turn.state != "running" and (old is None or old.state == "running"):
        updates[view.receipt] = markup.receipts(state.turns)
    return updates


def blank(view: Paintable) -> Updates:
    """A pane that has not been asked anything."""
    return {
        view.state: PaneState(),
        view.older: gr.Chatbot(value=[], visible=False),
        view.question: "",
        view.answer: "",
        view.steps: "",
        view.notice: "",
        view.speed: "",
        view.foot: gr.Row(elem_classes=foot_classes(PaneState())),
        view.receipt: say("no_receipt"),
    }


def answered_by(state: PaneState, mode: str | None) -> str:
    """Whose the newest answer is, where the pane's heading names another mode by now; else empty."""
    turn = state.last
    return markup.answered_by(turn) if turn and turn.mode != mode else ""


def pane_classes(mode: ModeInfo | None) -> list[str]:
    return ["cp-pane", f"cp-{mode.family}" if mode else "cp-bare"]


def mode_caption(parts: Parts, mode_id: str | None) -> str:
    """How a mode answers or why it cannot, then what its persona and its adapter are for."""
    mode = parts.mode(mode_id)
    if mode is None:
        return say("choose_mode")
    text, note = say("caption_" + mode.family), parts.note(mode)
    if mode.backend:
        text = say("caption_on_" + mode.family, backend=mode.backend)
    if note:
        text = f"{text} **{markup.plain(note)}**"
    return "\n\n".join([text, *(markup.plain(each) for each in parts.about(mode.id))])
