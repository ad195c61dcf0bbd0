"""The Train tab: a file of examples in, an adapter out, with everything that happens on the way to be seen."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr

from adapters.training.prepare import SETTINGS, Prepared, job, prepare
from adapters.training.runs import Run
from comparison.checks.check import wrong_with
from errors import CounterpointError
from ui import curves, setup, training_told, verdict
from ui.guard import QUIET, guarded, inform
from ui.parts import Parts
from ui.personas import picker_updates
from ui.words import label, say

NEW = ""
"""The choice in the list that stands for a run that is not yet begun."""
_PRESETS = ("quick", "balanced", "thorough")
_IF_SURE = f"name => confirm({json.dumps(say('train_delete_sure'))}) ? name : ''"


class Train:
    """Builds the tab and wires it."""

    def __init__(self, parts: Parts) -> None:
        self.parts = parts
        self.prepared = gr.State(None)
        self.known = gr.State(None)
        self.published = gr.State(None)
        self.guess = gr.State("")
        with gr.Row(elem_id="train", elem_classes=["cp-tab", "cp-browser"]):
            with gr.Column(scale=1, min_width=260, elem_classes=["cp-list"]):
                gr.Markdown(say("train_lead"), elem_classes=["cp-caption"], latex_delimiters=[])
                self.list = gr.Radio(
                    [(say("train_new"), NEW)],
                    value=NEW,
                    label=label("train_runs"),
                    elem_classes=["cp-cards"],
                    elem_id="train-list",
                )
            with gr.Column(scale=3, min_width=320, elem_classes=["cp-detail"]):
                with gr.Column(elem_id="train-new") as self.form:
                    self._form()
                with gr.Column(visible=False, elem_id="train-run") as self.run:
                    self._run()
        self.timer = gr.Timer(1.0, active=False)
        self.refreshed = [self.list, self.form, self.run, self.known, self.timer, self.persona, *self.told]
        self.list.input(guarded(self._select), self.list, self.refreshed, **QUIET)
        # Until the new file is checked there is nothing to train on: neither it nor the one before.
        self.file.change(
            lambda: [None, "", "", "", gr.Button(interactive=False)],
            None,
            [self.prepared, self.report, self.lengths, self.rows, self.start],
            **QUIET,
        ).then(
            guarded(self._check),
            self.file,
            [self.prepared, self.report, self.lengths, self.rows, self.start],
            show_progress="minimal",
            api_visibility="private",
        ).then(
            # Afterwards, since a person may type a title meanwhile.
            guarded(_guessed),
            [self.file, self.title, self.guess],
            [self.title, self.guess],
            **QUIET,
        )
        self.start.click(
            guarded(self._start),
            [self.prepared, self.title, self.preset, self.persona, *self.settings],
            self.refreshed,
            **QUIET,
        )
        for button, handler in ((self.stop, self._stop), (self.resume, self._resume)):
            button.click(guarded(handler), self.list, self.refreshed, **QUIET)
        self.delete.click(
            guarded(self._delete),
            self.list,
            self.refreshed,
            js=_IF_SURE,
            **QUIET,
        )
        self.timer.tick(guarded(self._tick), [self.list, self.known], self.refreshed, **QUIET)

    def _form(self) -> None:
        gr.Markdown(f"## {say('train_new')}", elem_classes=["cp-about"], latex_delimiters=[])
        self.file = gr.File(
            label=label("train_file"),
            file_types=[".csv", ".tsv", ".jsonl", ".json"],
            height=120,
            elem_id="train-file",
        )
        self.report = gr.Markdown(
            "", elem_classes=["cp-receipt"], elem_id="train-report", latex_delimiters=[]
        )
        self.lengths = gr.HTML("", elem_classes=["cp-figure"], elem_id="train-lengths", js_on_load=None)
        self.rows = gr.HTML("", elem_classes=["cp-rows"], elem_id="train-rows", js_on_load=None)
        self.title = gr.Textbox(
            label=label("train_title"), placeholder=say("train_title_placeholder"), elem_id="train-title"
        )
        self.preset = gr.Radio(
            [(say(f"preset_{name}"), name) for name in _PRESETS],
            value="quick",
            label=label("train_preset"),
            elem_id="train-preset",
        )
        self.persona = gr.Dropdown(
            [(say("train_no_persona"), "")], value="", label=label("train_persona"), elem_id="train-persona"
        )
        with gr.Accordion(label("train_more"), open=False, elem_classes=["cp-fold"], elem_id="train-more"):
            gr.Markdown(say("train_more_hint"), elem_classes=["cp-caption"], latex_delimiters=[])
            with gr.Row():
                # Not number fields: Gradio fills an empty one with a 0 as soon as it is seen.
                self.settings = [
                    gr.Textbox(
                        "",
                        label=label(f"train_set_{name}"),
                        placeholder=label("train_as_preset"),
                        max_lines=1,
                        max_length=24,
                        min_width=150,
                        elem_id=f"train-{name.replace('_', '-')}",
                    )
                    for name in SETTINGS
                ]
        self.start = gr.Button(
            label("train_start"),
            variant="primary",
            size="sm",
            scale=0,
            min_width=120,
            interactive=False,
            elem_id="train-start",
        )

    def _run(self) -> None:
        self.about = gr.Markdown("", elem_classes=["cp-about"], elem_id="train-about", latex_delimiters=[])
        self.bar = gr.HTML("", elem_classes=["cp-run"], elem_id="train-progress", js_on_load=None)
        self.curves = gr.HTML("", elem_classes=["cp-figure"], elem_id="train-curves", js_on_load=None)
        self.samples = gr.Markdown(
            "", elem_classes=["cp-receipt"], elem_id="train-samples", latex_delimiters=[]
        )
        self.gate = gr.HTML("", elem_classes=["cp-figure"], elem_id="train-gate", js_on_load=None)
        with gr.Row(elem_classes=["cp-tools"]):
            self.stop, self.resume, self.use, self.delete = (
                gr.Button(
                    label(key),
                    variant="primary" if key == "train_use" else "secondary",
                    size="sm",
                    scale=0,
                    min_width=90,
                    elem_id=key.replace("_", "-"),
                )
                for key in ("train_stop", "train_resume", "train_use", "train_delete")
            )
        self.told = [
            self.about,
            self.bar,
            self.curves,
            self.samples,
            self.gate,
            self.stop,
            self.resume,
            self.use,
            self.delete,
            self.published,
        ]

    def on_change(self, pickers: Sequence[gr.Dropdown]) -> None:
        """Wires what makes an adapter of a run, its own test or a person; every mode picker then knows it."""
        self.use.click(guarded(self._use), self.list, self.refreshed, **QUIET)
        self.published.change(
            guarded(partial(picker_updates, self.parts)), list(pickers), list(pickers), **QUIET
        )

    def refresh(self, name: str | None) -> list[Any]:
        """The list as it is now, and the chosen run; a page that is opened finds the one that goes on."""
        runs = self.parts.runs.list()
        names = [run.name for run in runs]
        going_on = next((run.name for run in runs if run.state == "running"), NEW)
        chosen = name if name in names else going_on
        choices = [(say("train_new"), NEW), *((_listed(run), run.name) for run in runs)]
        run = next((run for run in runs if run.name == chosen), None)
        return [gr.Radio(choices=choices, value=chosen), *self._shown(run)]

    def _select(self, name: str) -> list[Any]:
        return [gr.skip(), *self._shown(self.parts.runs.get(name) if name else None)]

    def _tick(self, name: str, known: Any) -> Any:
        run = self.parts.runs.get(name) if name else None
        if run is None or _mark(run) == tuple(known or ()):
            return [gr.skip()] * len(self.refreshed)
        return self.refresh(name) if run.state != "running" else [gr.skip(), *self._shown(run)]

    def _shown(self, run: Run | None) -> list[Any]:
        if run is None:
            blank = ["", "", "", "", "", *(gr.Button(visible=False) for _ in range(4)), None]
            return [
                gr.Column(visible=True),
                gr.Column(visible=False),
                None,
                gr.Timer(active=False),
                gr.Dropdown(choices=self.parts.persona_choices()),
                *blank,
            ]
        running = run.state == "running"
        there = self._published(run)
        return [
            gr.Column(visible=False),
            gr.Column(visible=True),
            _mark(run),
            gr.Timer(active=running),
            gr.skip(),
            training_told.about(run, there),
            training_told.bar(run),
            curves.losses(run.steps, run.steps[-1].steps if run.steps else 1),
            training_told.samples(run),
            verdict.page(run.passport.gate if run.passport else None),
            gr.Button(visible=running and not run.stopping),
            gr.Button(visible=run.state in ("stopped", "failed")),
            gr.Button(visible=run.state == "done" and not there),
            gr.Button(value=say("train_cancel" if running else "train_delete"), visible=True),
            run.name if there else None,
        ]

    def _published(self, run: Run) -> bool:
        if run.passport is None:
            return False
        try:
            found = self.parts.adapters.get(run.name).inspection
        except CounterpointError:  # no such adapter, or no base yet to judge it
            return False
        return found.sha256 == run.passport.adapter_sha256

    def _check(self, file: str | None) -> list[Any]:
        if not file:
            return [None, "", "", "", gr.Button(interactive=False)]
        prepared = prepare(Path(file), self.parts.adapters.base(), wrong_with)
        return [
            prepared,
            training_told.report(prepared),
            curves.lengths(prepared.report.data.lengths),
            training_told.rows(prepared),
            gr.Button(interactive=not (prepared.report.problems or prepared.too_few)),
        ]

    def _start(
        self,
        prepared: Prepared | None,
        title: str,
        preset: Any,
        persona: str | None,
        *settings: str,
    ) -> list[Any]:
        if busy := self.parts.runs.going_on():
            raise CounterpointError(say("train_busy", name=busy))
        if prepared is None:
            raise CounterpointError(say("train_nothing"))
        given, wrong = setup.numbers(dict(zip(SETTINGS, settings, strict=False)), prefix="train_set_")
        if wrong:
            raise CounterpointError(" ".join(wrong))
        begun = job(
            prepared,
            self.parts.adapters.base(),
            self.parts.quantization,
            title,
            preset,
            persona or None,
            given,
        )
        name = begun.recipe.name
        if any(entry.name == name for entry in self.parts.adapters.list()):
            raise CounterpointError(say("train_name_taken", name=name))
        run = self.parts.runs.start(*begun)
        return self.refresh(run.name)

    def _stop(self, name: str) -> list[Any]:
        return self.refresh(self.parts.runs.stop(name).name)

    def _resume(self, name: str) -> list[Any]:
        return self.refresh(self.parts.runs.resume(name).name)

    def _delete(self, name: str) -> Any:
        if not name:  # thought better of
            return [gr.skip()] * len(self.refreshed)
        self.parts.runs.delete(name)
        inform(say("deleted", name=name))
        return self.refresh(NEW)

    def _use(self, name: str) -> list[Any]:
        self.parts.adapters.import_folder(self.parts.runs.get(name).adapter, name, accept_failed=True)
        inform(say("imported", name=name))
        return self.refresh(name)


def _guessed(file: str | None, title: str, guess: str) -> list[str]:
    """The title and what it was guessed to be: a file's name stands there until a person types another."""
    if not file or title.strip() not in ("", guess):
        return [title, guess]
    words = Path(file).stem.replace("_", " ").replace("-", " ").strip().capitalize()
    return [words, words]


def _mark(run: Run) -> tuple[str, int, str]:
    """What changes where there is something new to show."""
    told = (run.testing or run.estimate, run.beginning, run.stopping)
    return (run.state, run.steps[-1].step if run.steps else 0, repr(told))


def _listed(run: Run) -> str:
    return f"{run.title or run.name} · {say('train_state_' + run.state)}"
