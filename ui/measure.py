"""The Measure tab: a suite of questions asked of several modes, with all that comes of it to be seen."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.processing_utils import save_bytes_to_cache

from comparison.measure.report.files import NAMES
from comparison.measure.runs import FRESH_S, Measurement
from errors import CounterpointError
from ui import measure_told
from ui.guard import guarded, inform
from ui.measure_new import QUIET, NewMeasurement
from ui.measure_variants import Winner
from ui.parts import Parts
from ui.words import label, say

NEW = ""
"""The choice in the list that stands for a measurement that is not yet begun."""
_IF_SURE = f"name => confirm({json.dumps(say('measure_delete_sure'))}) ? name : ''"

Updates = dict[Any, Any]


class Measure:
    """Builds the tab and wires it."""

    def __init__(self, parts: Parts) -> None:
        self.parts = parts
        self.runs = parts.measurements
        self.known = gr.State(None)
        """Of the measurement that is shown, what changes where there is something new to show."""
        self.told = gr.State(())
        """Which measurements the list tells of, and how they stood."""
        self.shown = gr.State(None)
        """Which report is shown."""
        self.stands = gr.State(None)
        """Which measurement is shown, and how it stands: where that changes, there may be other figures."""
        with gr.Row(elem_id="measure", elem_classes=["cp-tab", "cp-browser"]):
            with gr.Column(scale=1, min_width=260, elem_classes=["cp-list"]):
                gr.Markdown(say("measure_lead"), elem_classes=["cp-caption"], latex_delimiters=[])
                self.list = gr.Radio(
                    [(say("measure_new"), NEW)],
                    value=NEW,
                    label=label("measure_list"),
                    elem_classes=["cp-cards"],
                    elem_id="measure-list",
                )
            with gr.Column(scale=3, min_width=320, elem_classes=["cp-detail"]):
                with gr.Column(elem_id="measure-new") as self.form:
                    self.new = NewMeasurement(parts)
                with gr.Column(visible=False, elem_id="measure-run") as self.run:
                    self._run()
        self.timer = gr.Timer(2.0, active=False)
        self.slow_timer = gr.Timer(FRESH_S, active=False)
        self._wire()

    def _run(self) -> None:
        self.about = gr.Markdown("", elem_classes=["cp-about"], elem_id="measure-about", latex_delimiters=[])
        self.bar = gr.HTML("", elem_classes=["cp-run"], elem_id="measure-progress", js_on_load=None)
        with gr.Row(elem_classes=["cp-tools"]):
            self.stop, self.resume, self.export, self.delete = (
                gr.Button(label(key), size="sm", scale=0, min_width=90, elem_id=key.replace("_", "-"))
                for key in ("measure_stop", "measure_resume", "measure_export", "measure_delete")
            )
        with gr.Row(elem_classes=["cp-tools"]):
            self.files = [
                gr.DownloadButton(
                    name,
                    visible=False,
                    size="sm",
                    scale=0,
                    min_width=90,
                    elem_id=f"measure-{Path(name).stem}-{Path(name).suffix[1:]}",
                )
                for name in NAMES
            ]
        self.against = gr.Dropdown(
            [(say("measure_nothing_beside"), NEW)],
            value=NEW,
            label=label("measure_against"),
            visible=False,
            elem_id="measure-against",
        )
        self.winner = Winner(self.parts)
        self.compared = gr.HTML("", elem_id="measure-compared", js_on_load=None)
        self.report = gr.HTML("", elem_id="measure-report", js_on_load=None)

    def _wire(self) -> None:
        changes = (
            (self.list.input, self._select, self.list, None),
            (self.new.start.click, self._start, self.new.given, None),
            (self.stop.click, self._stop, self.list, None),
            (self.resume.click, self._resume, self.list, None),
            (self.delete.click, self._delete, self.list, _IF_SURE),
        )
        for event, handler, inputs, js in changes:
            event(guarded(handler), inputs, self.refreshed, js=js, **QUIET)
        self.timer.tick(guarded(self._tick), [self.list, self.known], self.refreshed, **QUIET)
        # Apart from the rest, since to reckon takes a while.
        for event in (self.stands.change, self.slow_timer.tick):
            event(
                guarded(self._figures),
                [self.list, self.shown],
                [self.report, self.shown, *self.winner.fields],
                # The last time it is asked for is when a measurement has ended: not to be passed over.
                trigger_mode="always_last",
                **QUIET,
            )
        self.export.click(guarded(self._export), self.list, self.files, api_visibility="private")
        self.winner.wire(self.list)
        self.against.input(
            guarded(self._compare), [self.list, self.against], self.compared, api_visibility="private"
        )

    @property
    def refreshed(self) -> list[Any]:
        """All that a measurement's state is shown by, but its report."""
        buttons = [self.stop, self.resume, self.export, self.delete, *self.files]
        of_run = [
            self.about,
            self.bar,
            *buttons,
            self.against,
            self.compared,
            self.report,
            self.shown,
            self.winner.row,
        ]
        timers = [self.timer, self.slow_timer]
        return [self.list, self.told, self.form, self.run, self.known, self.stands, *timers, *of_run]

    def on_select(self, tab: gr.Tab) -> None:
        """Wires what is done when somebody comes to the tab."""
        given, outputs = [self.list, *self.new.looked_at], [*self.refreshed, *self.new.offered]
        tab.select(guarded(self.come), given, outputs, **QUIET)

    def come(self, name: str | None, *looked_at: Any) -> Updates:
        """The list and the form as they are now, and the chosen measurement; a page that is opened finds the one that
        goes on."""
        return self.new.come(*looked_at) | self.refresh(name or self.runs.going_on())

    def catch_up(self, name: str | None, told: Any) -> Updates:
        """What other pages, or the end of a measurement, changed since the list was told; mostly nothing."""
        listed = self.runs.list()
        now = _states(listed)
        before = dict(told or ())
        if now == tuple(told or ()):
            return {}
        stands = {one.name: one.state for one in listed}
        if name and before.get(name) != stands.get(name):
            return self.refresh(name)
        return self._listed(listed, name)

    def refresh(self, name: str | None, another: bool = False) -> Updates:
        """The list as it is now, and the chosen measurement; the form where that is gone."""
        listed = self.runs.list()
        one = next((each for each in listed if each.name == name), None)
        return self._listed(listed, one.name if one else NEW) | self._shown(one, listed, another)

    def _listed(self, listed: list[Measurement], chosen: str | None) -> Updates:
        choices = [(say("measure_new"), NEW), *((measure_told.listed(one), one.name) for one in listed)]
        return {self.list: gr.Radio(choices=choices, value=chosen or NEW), self.told: _states(listed)}

    def _select(self, name: str) -> Updates:
        one = self.runs.get(name) if name else None
        updates = self._shown(one, self.runs.list(), another=True)
        return updates | {
            self.report: measure_told.waiting(say("measure_reckoning") if one and one.done else "")
        }

    def _tick(self, name: str, known: Any) -> Any:
        one = self.runs.get(name) if name else None
        if one is None or _mark(one) == tuple(known or ()):
            return gr.skip()
        if one.state != "running" or tuple(known or ())[:1] != _mark(one)[:1]:
            return self.refresh(name)
        return {self.known: _mark(one), self.bar: measure_told.bar(one)}

    def _shown(self, one: Measurement | None, listed: list[Measurement], another: bool) -> Updates:
        """How a measurement stands, or the form; where it is `another` than before, without what is left of that."""
        there = one is not None
        running = one is not None and one.state == "running"
        updates: Updates = {
            self.form: gr.Column(visible=not there),
            self.run: gr.Column(visible=there),
            self.known: _mark(one) if one else None,
            self.stands: (one.name, one.state) if one else None,
            self.timer: gr.Timer(active=running),
            self.slow_timer: gr.Timer(active=running),
            self.about: measure_told.about(one, self.parts.runs.going_on()) if one else "",
            self.bar: measure_told.bar(one) if one else "",
            self.stop: gr.Button(visible=bool(one and one.here and not one.stopping)),
            self.resume: gr.Button(visible=bool(one and one.goes_on)),
            self.export: gr.Button(visible=bool(one and one.done)),
            self.delete: gr.Button(visible=there and not running),
        }
        others = [(measure_told.listed(each), each.name) for each in listed if each.done and each != one]
        beside = [(say("measure_nothing_beside"), NEW), *others]
        visible = bool(one and one.done and others)
        updates[self.against] = gr.Dropdown(choices=beside, visible=visible)
        if another:
            files = {button: gr.DownloadButton(visible=False) for button in self.files}
            updates |= {self.against: gr.Dropdown(choices=beside, value=NEW, visible=visible)}
            updates |= files | {self.report: "", self.shown: None, self.compared: ""} | self.winner.hidden()
        return updates

    def _figures(self, name: str | None, shown: Any) -> Any:
        """The report, where it is another than the one that is shown."""
        if not name:
            return gr.skip()
        winner = self.winner.hidden()
        try:
            page = self.runs.page(name)
            winner = self.winner.show(name)
        except CounterpointError as error:
            page = measure_told.waiting(str(error))
        if not page:
            page = measure_told.waiting(say("measure_timing_first") if self.runs.timing else "")
        mark = [name, hash(page)]
        return gr.skip() if mark == shown else {self.report: page, self.shown: mark} | winner

    # --- what is done

    def _start(self, *given: Any) -> Updates:
        if busy := self.runs.going_on():
            raise CounterpointError(say("measure_busy", name=busy))
        return self.refresh(self.runs.start(self.new.plan(*given)), another=True)

    def _stop(self, name: str) -> Updates:
        self.runs.stop(name)
        return self.refresh(name)

    def _resume(self, name: str) -> Updates:
        self.runs.resume(name, trusted=not self.parts.public)
        return self.refresh(name)

    def _delete(self, name: str) -> Any:
        if not name:  # thought better of
            return gr.skip()
        self.runs.delete(name)
        inform(say("deleted", name=name))
        return self.refresh(NEW, another=True)

    def _export(self, name: str) -> list[Any]:
        """The four files as they are now, each behind a button."""
        written = {path.name: path for path in self.runs.export(name)}
        cache = self.files[0].GRADIO_CACHE
        return [
            gr.DownloadButton(
                value=save_bytes_to_cache(written[file].read_bytes(), file, cache), visible=True
            )
            for file in NAMES
        ]

    def _compare(self, name: str, other: str) -> str:
        return self.runs.compared(name, other) if other else ""


def _mark(one: Measurement) -> tuple[Any, ...]:
    """What changes where there is something new to show; first what changes more than the bar."""
    return (repr((one.state, one.stopping, one.done > 0)), repr((one.done, one.progress, one.preparing)))


def _states(listed: list[Measurement]) -> tuple[tuple[str, str], ...]:
    return tuple((one.name, one.state) for one in listed)
