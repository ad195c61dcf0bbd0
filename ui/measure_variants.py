"""Variants of a persona in the Measure tab: what of it is varied, and the best one as a persona again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gradio as gr
from pydantic import ValidationError

from comparison.measure import variants
from comparison.measure.plan import Slot
from comparison.measure.variants import Grid
from comparison.measure.words import figure
from comparison.modes import ModeId
from errors import CounterpointError
from personas.schema import Persona
from strict_yaml import joined, sentences
from ui.guard import guarded, inform
from ui.parts import Parts
from ui.words import label, say

NONE = ""
"""No persona is varied, or none of the variants is chosen."""
_SHOWN = 60
"""Characters of an instruction in the list of those to try."""

Updates = dict[Any, Any]


class Varying:
    """The fields that say what is varied."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        with gr.Accordion(
            label("variants"), open=False, elem_classes=["cp-fold"], elem_id="measure-variants"
        ):
            gr.Markdown(say("variants_hint"), elem_classes=["cp-caption"], latex_delimiters=[])
            with gr.Row():
                self.persona = gr.Dropdown(
                    parts.persona_choices(), value=NONE, label=label("variants_persona"), min_width=240,
                    elem_id="variants-persona",
                )  # fmt: skip
                self.adapter = gr.Dropdown(
                    self._adapters(), value=NONE, label=label("variants_adapter"), min_width=240,
                    elem_id="variants-adapter",
                )  # fmt: skip
            self.instructions = gr.CheckboxGroup(
                [], label=label("variants_instructions"), visible=False, elem_id="variants-instructions"
            )
            with gr.Row():
                self.examples = gr.Textbox(
                    label=label("variants_examples"), placeholder="0, 2", visible=False, max_length=100,
                    max_lines=1, elem_id="variants-examples",
                )  # fmt: skip
                self.variables = gr.Textbox(
                    label=label("variants_variables"), lines=2, visible=False, max_length=4_000,
                    elem_id="variants-variables",
                )  # fmt: skip
        self.persona.input(
            guarded(self.show), self.persona, self.shown, show_progress="hidden", api_visibility="private"
        )

    @property
    def fields(self) -> list[Any]:
        """In the order in which `slots` takes what they say."""
        return [self.persona, self.adapter, *self.shown]

    @property
    def shown(self) -> list[Any]:
        return [self.instructions, self.examples, self.variables]

    def refresh(self, persona: str, adapter: str) -> Updates:
        """The lists as they are now; what is chosen stays while it is there."""
        updates: Updates = {}
        for field, choices, chosen in (
            (self.persona, self._parts.persona_choices(), persona),
            (self.adapter, self._adapters(), adapter),
        ):
            there = chosen in [value for _, value in choices]
            updates[field] = gr.Dropdown(choices=choices, value=chosen if there else NONE)
        return updates

    def show(self, name: str) -> Updates:
        """What there is to be varied of the chosen persona."""
        persona = self._parts.personas.get(name) if name else None
        instructions = [(_short(number, text), number) for number, text in _numbered(persona)]
        names = ", ".join(persona.variables) if persona else ""
        examples = len(persona.examples) if persona else 0
        return {
            self.instructions: gr.CheckboxGroup(choices=instructions, value=[], visible=bool(instructions)),
            self.examples: gr.Textbox(
                value="", info=say("variants_examples_info", count=examples), visible=examples > 0
            ),
            self.variables: gr.Textbox(
                value="", info=say("variants_variables_info", names=names), visible=bool(names)
            ),
        }

    def slots(
        self,
        persona: str | None = NONE,
        adapter: str | None = NONE,
        instructions: Sequence[int] | None = None,
        examples: str | None = "",
        variables: str | None = "",
    ) -> list[Slot]:
        """A slot for each variant; none where no persona is varied. Raises CounterpointError that names the field."""
        if not persona:
            return []
        self._parts.catalogue.check(ModeId(adapter or None, persona), 0.0)
        several, values = _counts(examples or ""), _values(variables or "")
        try:
            grid = Grid(
                persona=persona,
                adapter=adapter or None,
                instructions=tuple(sorted(instructions or ())),
                examples=several,
                variables=values,
            )
        except ValidationError as error:
            raise CounterpointError(f"{say('variants')}: {joined(sentences(error))}.") from None
        return variants.slots(self._parts.personas.get(persona), grid)

    def _adapters(self) -> list[tuple[str, str]]:
        modes = [ModeId.parse(mode.id) for mode in self._parts.modes() if mode.usable]
        names = dict.fromkeys(
            mode.adapter for mode in modes if mode.adapter and not mode.persona and not mode.backend
        )
        return [(say("train_no_persona"), NONE), *((name, name) for name in names)]


class Winner:
    """What the best variant becomes."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        with gr.Row(visible=False, elem_classes=["cp-tools"], elem_id="measure-winner") as self.row:
            self.variant = gr.Dropdown([], label=label("winner"), scale=3, elem_id="winner-variant")
            self.name = gr.Textbox(
                label=label("winner_name"), max_lines=1, max_length=80, scale=2, elem_id="winner-name"
            )
            self.replace = gr.Checkbox(label=label("winner_replace"), scale=1, elem_id="winner-replace")
            self.save = gr.Button(
                label("winner_save"), size="sm", scale=0, min_width=130, elem_id="winner-save"
            )

    def wire(self, measurement: Any) -> None:
        """`measurement` says which one is shown."""
        given = [measurement, self.variant, self.name, self.replace]
        self.save.click(guarded(self.keep), given, self.name, api_visibility="private")

    @property
    def fields(self) -> list[Any]:
        return [self.row, self.variant]

    def hidden(self) -> Updates:
        return {self.row: gr.Row(visible=False)}

    def show(self, name: str) -> Updates:
        """The variants of a measurement, the best so far first."""
        ranked = self._parts.measurements.variants(name)
        choices = [(f"{slot}: {figure(share, 'share')}", slot) for slot, share in ranked]
        best = choices[0][1] if choices else None
        return {
            self.row: gr.Row(visible=bool(choices)),
            self.variant: gr.Dropdown(choices=choices, value=best),
        }

    def keep(self, name: str, variant: str | None, persona: str, replace: bool) -> Any:
        """Saves a variant as a persona of yours; the name stays as it was typed."""
        if not variant:
            raise CounterpointError(say("winner_none"))
        if not persona.strip():
            raise CounterpointError(say("winner_no_name"))
        made = self._parts.measurements.variant(name, variant, persona.strip())
        self._parts.personas.add(made, replace)
        inform(say("winner_saved", name=made.name))
        return gr.skip()


def _numbered(persona: Persona | None) -> list[tuple[int, str]]:
    return list(enumerate(persona.instructions, start=1)) if persona else []


def _short(number: int, text: str) -> str:
    return f"{number}. {text if len(text) <= _SHOWN else text[: _SHOWN - 1] + '…'}"


def _counts(text: str) -> tuple[int, ...]:
    try:
        return tuple(dict.fromkeys(int(part) for part in text.split(",") if part.strip()))
    except ValueError:
        raise CounterpointError(say("variants_bad_count")) from None


def _values(text: str) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        name, equals, values = line.partition("=")
        several = tuple(dict.fromkeys(value.strip() for value in values.split("|")))
        if not equals or not name.strip() or "" in several:
            raise CounterpointError(say("variants_bad_line", line=number))
        if name.strip() in found:
            raise CounterpointError(say("variants_twice", line=number, name=name.strip()))
        found[name.strip()] = several
    return found
