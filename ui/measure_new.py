"""The form of the Measure tab that a new measurement is set up with."""

from __future__ import annotations

from typing import Any

import gradio as gr

from comparison.measure import prepare
from comparison.measure.plan import Plan
from comparison.modes import ModeId
from errors import CounterpointError
from ui import measure_setup, measure_told, setup
from ui.guard import QUIET, guarded
from ui.measure_setup import FIRST, NUMBERS, OWN, PRICES
from ui.measure_variants import NONE, Varying
from ui.parts import Parts
from ui.words import label, say

SERVERS_TELL_S = 6.0
"""How long the start of a measurement waits for what servers have."""

Updates = dict[Any, Any]


class NewMeasurement:
    """Builds the form, and makes a plan of what it says."""

    def __init__(self, parts: Parts) -> None:
        self.parts = parts
        self.guess = gr.State([])
        """The modes that a suite suggested: they make way for the next suite's, where nobody changed them."""
        gr.Markdown(f"## {say('measure_new')}", elem_classes=["cp-about"], latex_delimiters=[])
        gr.Markdown(measure_told.first_words(), elem_classes=["cp-caption"], latex_delimiters=[])
        self.suite = gr.Dropdown(
            measure_setup.choices(), value=FIRST, label=label("measure_suite"), elem_id="measure-suite"
        )
        self.file = gr.File(
            label=label("measure_file"),
            file_types=measure_setup.ENDINGS,
            height=110,
            visible=False,
            elem_id="measure-file",
        )
        self.read = gr.Markdown("", elem_classes=["cp-receipt"], elem_id="measure-read", latex_delimiters=[])
        modes = self.parts.modes()
        self.modes = gr.Dropdown(
            setup.choices(modes),
            value=measure_setup.default_modes(FIRST, modes, self.parts.languages),
            multiselect=True,
            label=label("measure_modes"),
            elem_id="measure-modes",
        )
        self.varying = Varying(self.parts)
        with gr.Accordion(
            label("measure_more"), open=False, elem_classes=["cp-fold"], elem_id="measure-more"
        ):
            gr.Markdown(say("measure_more_hint"), elem_classes=["cp-caption"], latex_delimiters=[])
            # Not number fields: Gradio fills an empty one with a 0 as soon as it is seen.
            with gr.Row():
                self.currency = _field("currency", "$", most=8)
                prices = [_field(name, say(f"measure_unset_{name}")) for name in PRICES]
            with gr.Row():
                self.settings = [*prices, *(_field(name, say(f"measure_unset_{name}")) for name in NUMBERS)]
            self.twice = gr.Checkbox(
                label=label("measure_twice"), info=label("measure_twice_info"), elem_id="measure-twice"
            )
            # Whoever reaches a page that is served to others shall not run code here.
            self.python = gr.Checkbox(
                label=label("measure_python"),
                info=label("measure_python_info"),
                visible=not self.parts.public,
                elem_id="measure-python",
            )
        self.forecast = gr.Markdown(
            "", elem_classes=["cp-forecast"], elem_id="measure-forecast", latex_delimiters=[]
        )
        self.start = gr.Button(
            label("measure_start"),
            variant="primary",
            size="sm",
            scale=0,
            min_width=120,
            elem_id="measure-start",
        )

        self._wire()

    def _wire(self) -> None:
        self.suite.input(lambda named: gr.File(visible=named == OWN), self.suite, self.file, **QUIET)
        gr.on(
            [self.suite.input, self.file.change],
            guarded(self.look),
            self.looked_at,
            self.about_suite,
            **QUIET,
        )
        gr.on(
            # To clear all modes is no input to Gradio.
            [field.change for field in (self.modes, self.settings[-1], self.twice, *self.varying.fields)],
            guarded(self.foresee),
            [self.suite, self.file, self.modes, self.settings[-1], self.twice, *self.varying.fields],
            self.forecast,
            trigger_mode="always_last",
            **QUIET,
        )

    @property
    def given(self) -> list[Any]:
        """In the order in which `plan` takes what they say."""
        asked = [self.suite, self.file, self.modes, self.twice, self.python]
        return [*asked, *self.varying.fields, self.currency, *self.settings]

    @property
    def offered(self) -> list[Any]:
        """What `come` may change."""
        return [*self.about_suite, *self.varying.fields[:2]]

    @property
    def looked_at(self) -> list[Any]:
        asked = [self.suite, self.file, self.modes, self.guess, self.settings[-1], self.twice]
        return [*asked, *self.varying.fields]

    @property
    def about_suite(self) -> list[Any]:
        return [self.read, self.modes, self.guess, self.forecast, self.start]

    def come(self, named: str | None, file: str | None, modes: list[str] | None, *others: Any) -> Updates:
        """The lists as they are now; what is chosen stays while it is there. It is told what `look` is."""
        there = self.parts.modes(*(modes or ()))
        ids = {mode.id for mode in there}
        kept = [mode for mode in modes or () if mode in ids]
        updates = self.look(named, file, kept, *others)
        chosen = updates.get(self.modes, kept)
        updates[self.modes] = gr.Dropdown(choices=setup.choices(there), value=chosen, multiselect=True)
        _, _, _, *varied = others
        return updates | self.varying.refresh(*(varied or (NONE, NONE))[:2])

    def look(
        self,
        named: str | None,
        file: str | None,
        modes: list[str] | None,
        guess: list[str],
        alone: str,
        twice: bool = False,
        *varied: Any,
    ) -> Updates:
        """What is told of the chosen suite, and what the measurement would take; the modes that suit it, in place of those
        that another suite suggested."""
        kept = list(modes or ())
        updates: Updates = {self.read: "", self.forecast: "", self.guess: guess}
        suites: measure_setup.Suites = ()
        if named != OWN or file:
            try:
                suites, left = measure_setup.suites(named, file)
                updates[self.read] = measure_told.suite(suites, left)
            except CounterpointError as error:
                updates[self.read] = measure_told.problems(measure_setup.problems(error, file))
        if suites and (not kept or kept == guess):
            kept = measure_setup.default_modes(suites[0].name, self.parts.modes(), self.parts.languages)
            updates[self.guess] = kept
        # What a person is just choosing, or uploading, is not touched without need.
        if kept != modes:
            updates[self.modes] = kept
        updates[self.start] = gr.Button(interactive=bool(suites))
        if suites:
            updates[self.forecast] = self._foretold(suites, kept, alone, twice, *varied)
        return updates

    def foresee(
        self,
        named: str | None,
        file: str | None,
        modes: list[str] | None,
        alone: str,
        twice: bool = False,
        *varied: Any,
    ) -> str:
        try:
            suites, _ = measure_setup.suites(named, file)
            return self._foretold(suites, modes or [], alone, twice, *varied)
        except CounterpointError:  # told where the suite is chosen, and when it is to be measured
            return ""

    def _foretold(
        self, suites: measure_setup.Suites, modes: list[str], alone: str, twice: bool, *varied: Any
    ) -> str:
        try:
            slots = [*self.varying.slots(*varied), *measure_setup.as_slots(_asked(modes, twice))]
            number = measure_setup.wanted({"alone": alone}, "", False).alone
            if not slots:
                return ""
            return measure_told.forecast(
                self.parts.measurements.forecast(measure_setup.sketch(suites, slots, number)), len(slots)
            )
        except (CounterpointError, ValueError):
            return ""

    def plan(
        self,
        named: str | None,
        file: str | None,
        modes: list[str] | None,
        twice: bool,
        python: bool,
        *told: Any,
    ) -> Plan:
        """`told` is what the fields of variants say, the currency, and the other settings. Raises CounterpointError
        with what keeps that from being measured."""
        suites, _ = measure_setup.suites(named, file)
        count = len(self.varying.fields)
        varied, currency, settings = told[:count], told[count], told[count + 1 :]
        slots = self.varying.slots(*varied)
        if not modes and not slots:
            raise CounterpointError(say("measure_no_mode"))
        values = dict(zip((*PRICES, *NUMBERS), settings, strict=True))
        wanted = measure_setup.wanted(values, currency, python and not self.parts.public)
        measure_setup.refuse_what_cannot_be(suites, wanted, self.parts.public)
        if self.parts.waiting_for and (slots or any(not ModeId.parse(mode).backend for mode in modes or ())):
            raise CounterpointError(say("measure_loading"))
        modes = _asked(modes or [], twice)
        slots += prepare.slots(modes, self.parts.catalogue, SERVERS_TELL_S) if modes else []
        return prepare.of_slots(suites, slots, wanted)


def _asked(modes: list[str], twice: bool) -> list[str]:
    """The modes, the first a second time if it is to be held against itself."""
    return [*modes, *modes[: int(twice)]]


def _field(name: str, unset: str, most: int = 24) -> gr.Textbox:
    return gr.Textbox(
        "",
        label=label(f"measure_set_{name}"),
        placeholder=unset,
        max_lines=1,
        max_length=most,
        min_width=150,
        elem_id=f"measure-{name.replace('_', '-')}",
    )
