"""The variables of the personas on the page: one set of fields, so that panes of one persona stay comparable."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import gradio as gr

from personas.store import PersonaStore
from ui import setup
from ui.guard import guarded
from ui.screen import with_variable


def panel(
    personas: PersonaStore,
    pickers: Sequence[gr.Dropdown],
    active: gr.State,
    values: gr.State,
    drafts: gr.State,
    tab: gr.Tab,
) -> None:
    """Lays out the fields where the caller stands; they follow the pickers, and what was
    edited on another tab. `values` is by persona."""

    @gr.render(
        inputs=[*pickers, active, values, drafts],
        triggers=[*[picker.change for picker in pickers], active.change, tab.select],
    )
    def show(*inputs: Any) -> None:
        shown, given, edited = inputs[-3:]
        modes = [inputs[slot] for slot in shown if inputs[slot]]
        rows = setup.variables_in_use(modes, personas, edited)
        if not rows:
            return
        with gr.Row(elem_classes=["cp-variables"]):
            for row in rows:
                value = given.get(row.persona, {}).get(row.name, row.default)
                field = _field(row, value)
                field.change(
                    guarded(_change(row.persona, row.name)),
                    [field, values],
                    values,
                    show_progress="hidden",
                    api_visibility="private",
                )


def _field(row: setup.VariableRow, value: str) -> Any:
    text = f"{row.name.replace('_', ' ').capitalize()}: {row.description}"
    key = f"{row.persona}/{row.name}"
    if row.choices:
        value = value if value in row.choices else row.default
        return gr.Dropdown(list(row.choices), value=value, label=text, key=key)
    return gr.Textbox(value=value, label=text, max_length=4_000, key=key)


def _change(persona: str, name: str) -> Callable[[Any, Any], Any]:
    return lambda value, values: with_variable(values, persona, name, value)
