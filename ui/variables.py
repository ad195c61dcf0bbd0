"""The variables of the personas on the page: one set of fields, so that panes of one persona stay comparable."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import gradio as gr

from personas.schema import Persona
from personas.store import PersonaStore
from ui import markup, setup
from ui.guard import guarded
from ui.words import label, say

FIELDS = 8
"""Variables that the page has fields for; those beyond keep their defaults, which a line there says."""

Key = tuple[str, str, bool]
"""Persona, variable, and whether it is chosen from a list."""


class Panel:
    """Lays out the fields where the caller stands; they follow the pickers.

    `inputs` are to be read with `read` at the moment of asking: nothing typed can be missed.
    """

    def __init__(
        self,
        personas: PersonaStore,
        pickers: Sequence[gr.Dropdown],
        active: gr.State,
        drafts: gr.State,
        tab: gr.Tab,
    ) -> None:
        with gr.Row(visible=False, elem_classes=["cp-variables"]) as self.row:
            self.texts = [
                gr.Textbox(
                    value="", label=label("variable"), visible=False, max_length=4_000, interactive=True
                )
                for _ in range(FIELDS)
            ]
            # Custom values, because Gradio refuses a whole event in whose flight the choices changed; what is
            # no choice is told by the persona, in its pane.
            self.lists = [
                gr.Dropdown(
                    [""],
                    value="",
                    label=label("variable"),
                    visible=False,
                    interactive=True,
                    allow_custom_value=True,
                )
                for _ in range(FIELDS)
            ]
        self.more = gr.Markdown("", visible=False, elem_classes=["cp-caption"], latex_delimiters=[])
        self.keys = gr.State(())
        self.linked = gr.State({})
        gr.on(
            [*[picker.change for picker in pickers], active.change, tab.select],
            guarded(partial(self._follow, personas, len(pickers))),
            [*pickers, active, drafts, self.linked, *self.inputs],
            [self.row, self.more, *self.inputs],
            trigger_mode="always_last",
            show_progress="hidden",
            api_visibility="private",
        )

    @property
    def inputs(self) -> list[Any]:
        return [self.keys, *self.texts, *self.lists]

    @property
    def arranged(self) -> list[Any]:
        """The components that `arrange` sets."""
        return [self.linked, self.row, self.more, *self.inputs]

    def arrange(
        self,
        personas: PersonaStore,
        modes: Sequence[str],
        drafts: Mapping[str, Persona],
        given: Mapping[str, Mapping[str, str]],
    ) -> list[Any]:
        """Values for `arranged`: the fields of these modes' personas, with what a link gives."""
        rows = setup.variables_in_use(modes, personas, drafts)
        return [given, *_shown(rows), *_updates(rows[:FIELDS], given)]

    def _follow(self, personas: PersonaStore, count: int, *values: Any) -> list[Any]:
        pickers, (active, drafts, linked), fields = (
            values[:count],
            values[count : count + 3],
            values[count + 3 :],
        )
        modes = [pickers[slot] for slot in active if pickers[slot]]
        rows = setup.variables_in_use(modes, personas, drafts)
        return [*_shown(rows), *_updates(rows[:FIELDS], {**linked, **read(fields)}, fields[0])]


def read(values: Sequence[Any]) -> dict[str, dict[str, str]]:
    """By persona: the variables' values, from the values of `Panel.inputs`."""
    keys: Sequence[Key] = values[0]
    texts, lists = values[1 : 1 + FIELDS], values[1 + FIELDS : 1 + 2 * FIELDS]
    found: dict[str, dict[str, str]] = {}
    for number, (persona, name, chosen) in enumerate(keys):
        value = lists[number] if chosen else texts[number]
        found.setdefault(persona, {})[name] = value or ""
    return found


def _shown(rows: Sequence[setup.VariableRow]) -> list[Any]:
    return [gr.Row(visible=bool(rows)), gr.Markdown(_beyond(rows), visible=len(rows) > FIELDS)]


def _beyond(rows: Sequence[setup.VariableRow]) -> str:
    """The line that names the variables that there is no field for."""
    names = ", ".join(f"{row.name} ({row.persona})" for row in rows[FIELDS:])
    return markup.plain(say("more_variables", names=names)) if names else ""


def _updates(
    rows: Sequence[setup.VariableRow], given: Mapping[str, Mapping[str, str]], there: Sequence[Key] = ()
) -> list[Any]:
    """Values for `Panel.inputs`; what a person gave to a variable that is still there stays.

    A field that shows its variable already (`there`) keeps its value untouched: what the browser told of it may
    be older than what it shows.
    """
    keys = tuple((row.persona, row.name, bool(row.choices)) for row in rows)
    texts, lists = [], []
    for number in range(FIELDS):
        row = rows[number] if number < len(rows) else None
        if row is None:
            texts.append(gr.Textbox(visible=False))
            lists.append(gr.Dropdown(visible=False))
            continue
        shown = given.get(row.persona, {}).get(row.name, row.default)
        shown = row.default if row.choices and shown not in row.choices else shown
        value: dict[str, Any] = {} if keys[number] in there[number : number + 1] else {"value": shown}
        about = f"{row.name.replace('_', ' ').capitalize()}: {row.description}"
        if row.choices:
            texts.append(gr.Textbox(visible=False))
            lists.append(gr.Dropdown(choices=list(row.choices), label=about, visible=True, **value))
        else:
            texts.append(gr.Textbox(label=about, visible=True, **value))
            lists.append(gr.Dropdown(visible=False))
    return [keys, *texts, *lists]


def empty() -> list[Any]:
    """Values of `Panel.inputs` while no persona with variables is on the page."""
    return [(), *[""] * FIELDS, *[""] * FIELDS]
