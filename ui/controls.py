"""Controls that more than one tab has, and the screen as their values tell it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gradio as gr

from comparison.live import MAX_PANES
from comparison.modes import ModeInfo
from ui import setup, variables
from ui.screen import Screen
from ui.words import label, say


def sampling_controls() -> list[gr.Textbox]:
    """One field for each of `setup.SAMPLING`; empty is "as the mode says", which a number field cannot be."""
    return [
        gr.Textbox(
            value="",
            label=label(name),
            placeholder=label("as_mode_says"),
            max_length=24,
            min_width=120,
            html_attributes=gr.InputHTMLAttributes(autocomplete="off"),
        )
        for name in setup.SAMPLING
    ]


def screen_of(values: tuple[Any, ...]) -> Screen:
    """The screen from the flat inputs that `Compare.inputs` lists."""
    count = MAX_PANES
    active, drafts = values[3 * count : 3 * count + 2]
    sampling = values[3 * count + 2 : 3 * count + 2 + len(setup.SAMPLING)]
    return Screen(
        modes=values[:count],
        strengths=values[count : 2 * count],
        states=values[2 * count : 3 * count],
        active=active,
        drafts=drafts,
        variables=variables.read(values[3 * count + 2 + len(setup.SAMPLING) :]),
        sampling=dict(zip(setup.SAMPLING, sampling, strict=True)),
    )


def columns(active: tuple[int, ...]) -> list[gr.Column]:
    return [gr.Column(visible=slot in active) for slot in range(MAX_PANES)]


def picker_labels(active: Sequence[int]) -> dict[int, str]:
    """The label of each shown slot's picker: panes are counted as they stand, whichever were removed."""
    return {slot: say("pane_mode", number=number) for number, slot in enumerate(active, start=1)}


def tool(key: str) -> gr.Button:
    return gr.Button(label(key), size="sm", min_width=0, scale=0, elem_id=key, elem_classes=["cp-tool"])


def pane_tool(key: str, pane: str, kind: str | None = None) -> gr.Button:
    """A button under a pane's answer; `kind` is the tool that it is shown and hidden with, if that is another."""
    return gr.Button(
        label(key),
        size="sm",
        min_width=0,
        scale=0,
        elem_id=f"{pane}-{key}",
        elem_classes=["cp-tool", f"cp-{kind or key}"],
    )


def picker_update(modes: Sequence[ModeInfo], picked: str | None) -> gr.Dropdown:
    """The update that tells a mode picker which modes there are. What is picked stays, unless it is gone: then
    nothing is, for no other mode may answer in its place."""
    if picked and picked not in {mode.id for mode in modes}:
        return gr.Dropdown(choices=setup.choices(modes), value=None)
    # Not its value: another may have been picked meanwhile.
    return gr.Dropdown(choices=setup.choices(modes))
