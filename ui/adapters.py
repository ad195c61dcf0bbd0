"""The Adapters tab: what is there, what it was measured to do, why one is unusable; check, import and export."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr

from adapters.inspection import Inspection
from adapters.store import AdapterEntry
from errors import CounterpointError
from ui import figures, links, markup, verdict
from ui.guard import guarded, inform, warn
from ui.outgoing import Outgoing
from ui.parts import Parts
from ui.personas import picker_updates
from ui.words import label, say


class Adapters:
    """Builds the tab and wires it."""

    def __init__(self, parts: Parts) -> None:
        self.parts = parts
        with gr.Row(elem_id="adapters", elem_classes=["cp-tab", "cp-browser"]):
            with gr.Column(scale=1, min_width=260, elem_classes=["cp-list"]):
                self.list = gr.Radio(
                    [], label=label("tab_adapters"), elem_classes=["cp-cards"], elem_id="adapter-list"
                )
                self.empty = gr.Markdown("", elem_classes=["cp-caption"], latex_delimiters=[])
            with gr.Column(scale=3, min_width=320, elem_classes=["cp-detail"]):
                self.about = gr.Markdown(
                    "", elem_classes=["cp-about"], elem_id="adapter-about", latex_delimiters=[]
                )
                self.scores = gr.HTML(
                    "", elem_classes=["cp-figure"], elem_id="adapter-scores", js_on_load=None
                )
                self.facts = gr.Markdown(
                    "", elem_classes=["cp-receipt"], elem_id="adapter-facts", latex_delimiters=[]
                )
                self.gate = gr.HTML("", elem_classes=["cp-figure"], elem_id="adapter-gate", js_on_load=None)
                self.delete = gr.Button(
                    label("delete"), size="sm", scale=0, min_width=90, visible=False, elem_id="adapter-delete"
                )
                self.outgoing = Outgoing(parts)
                with gr.Accordion(label("import_title"), open=False, elem_id="adapter-import-box"):
                    self._import()
        quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
        self.quiet = quiet
        self.shown = [self.about, self.scores, self.facts, self.gate, self.delete]
        self.list.change(guarded(self._select), self.list, self.shown, **quiet)
        self.outgoing.wire(self.list, **quiet)
        given = [self.path, self.files, self.name, self.override, self.accept]
        self.check.click(guarded(self._check), given, self.found, api_visibility="private")

    def _import(self) -> None:
        gr.Markdown(say("import_hint"), elem_classes=["cp-caption"], latex_delimiters=[])
        self.path = gr.Textbox(
            label=label("import_path"),
            placeholder="/home/me/my-adapter",
            visible=not self.parts.public,
            elem_id="adapter-path",
        )
        self.files = gr.File(
            label=label("import_files"),
            file_count="multiple",
            file_types=[".json", ".safetensors", ".md"],
            height=110,
            elem_id="adapter-files",
        )
        with gr.Row():
            self.name = gr.Textbox(
                label=label("import_name"), placeholder="my-adapter", elem_id="adapter-name"
            )
            self.override = gr.Checkbox(
                label=label("import_override"), info=label("import_override_info"), elem_id="adapter-override"
            )
        self.accept = gr.Checkbox(label=label("import_accept"), elem_id="adapter-accept")
        with gr.Row(elem_classes=["cp-tools"]):
            self.check = gr.Button(label("check"), size="sm", scale=0, min_width=90, elem_id="adapter-check")
            self.bring = gr.Button(
                label("import"), variant="primary", size="sm", scale=0, min_width=90, elem_id="adapter-import"
            )
        self.found = gr.Markdown(
            "", elem_classes=["cp-receipt"], elem_id="adapter-found", latex_delimiters=[]
        )

    def on_change(self, pickers: Sequence[gr.Dropdown]) -> None:
        """Wires what changes the adapters there are; every mode picker then knows it."""
        given = [self.path, self.files, self.name, self.override, self.accept]
        for button, handler, inputs in (
            (self.bring, self._bring, given),
            (self.delete, self._delete, [self.list]),
        ):
            button.click(
                guarded(handler), inputs, [self.found, *self.refreshed], api_visibility="private"
            ).then(guarded(partial(picker_updates, self.parts)), list(pickers), list(pickers), **self.quiet)

    @property
    def refreshed(self) -> list[Any]:
        return [self.list, self.empty, *self.shown]

    def refresh(self, name: str | None) -> list[Any]:
        try:
            entries = self.parts.adapters.list()
        except CounterpointError as error:
            # While no base is known, no adapter can be judged.
            return [gr.Radio(choices=[], value=None), markup.plain(str(error)), *self._select(None)]
        names = [entry.name for entry in entries]
        name = name if name in names else names[0] if names else None
        choices = [(_title(entry), entry.name) for entry in entries]
        empty = "" if entries else say("no_adapters")
        return [gr.Radio(choices=choices, value=name), empty, *self._select(name)]

    def _select(self, name: str | None) -> list[Any]:
        if not name:
            return ["", "", "", "", gr.Button(visible=False)]
        entry = self.parts.adapters.get(name)
        passport = entry.inspection.passport
        return [
            about(entry),
            figures.score_bars(passport.scores) if passport else "",
            facts(entry.inspection),
            verdict.page(passport.gate) if passport else "",
            gr.Button(visible=entry.origin == "yours"),
        ]

    def _check(self, path: str, files: list[str] | None, name: str, override: bool, accept: bool) -> str:
        with self._folder(path, files) as folder:
            found = self.parts.adapters.check(folder, name.strip() or None, override, accept)
            return findings(found)

    def _bring(
        self, path: str, files: list[str] | None, name: str, override: bool, accept: bool
    ) -> list[Any]:
        with self._folder(path, files) as folder:
            if files and not path.strip() and not name.strip():
                raise CounterpointError(say("import_needs_name"))
            entry = self.parts.adapters.import_folder(folder, name.strip() or None, override, accept)
        self._try_out(entry.name)
        # The trial may have found what the files do not tell.
        found = self.parts.adapters.get(entry.name).inspection
        return [findings(found), *self.refresh(entry.name)]

    @contextlib.contextmanager
    def _folder(self, path: str, files: list[str] | None) -> Iterator[Path]:
        """The folder that was named, or one made of the uploaded files and removed afterwards."""
        if path.strip():
            if self.parts.public:  # who comes from elsewhere learns nothing of this machine's folders
                raise CounterpointError(say("import_public"))
            yield Path(os.path.expanduser(path.strip()))
            return
        if not files:
            raise CounterpointError(say("import_nothing"))
        with tempfile.TemporaryDirectory(prefix="counterpoint-upload-") as made:
            for file in map(Path, files):
                shutil.copyfile(file, Path(made) / file.name)
            yield Path(made)

    def _try_out(self, name: str) -> None:
        """Says whether the adapter does anything at all, once there is an engine to try it in."""
        problem = self.parts.comparison.probe(name) if self.parts.backend.status().state == "ready" else None
        if problem:
            warn(problem)
        else:
            inform(say("imported", name=name))

    def _delete(self, name: str | None) -> list[Any]:
        if not name:
            raise CounterpointError(say("choose_adapter"))
        self.parts.adapters.delete(name)
        inform(say("deleted", name=name))
        return ["", *self.refresh(None)]


def about(entry: AdapterEntry) -> str:
    """Title, what it does, and whether it can be used; what a passport says is escaped."""
    found = entry.inspection
    passport = found.passport
    lines = [f"## {markup.plain(passport.title if passport else entry.name)}"]
    if passport:
        lines.append(markup.plain(passport.description))
    origin = say("origin_" + entry.origin)
    lines.append(f"`adapter:{entry.name}` · {origin} · **{state(found)}**")
    return "\n\n".join([*lines, *_complaints(found)])


def findings(found: Inspection) -> str:
    """What a check found, before anything is imported."""
    lines = [f"**{markup.plain(found.name)}: {state(found)}**", *_complaints(found)]
    return "\n\n".join([*lines, facts(found)])


def state(found: Inspection) -> str:
    if not found.usable:
        return say("state_unusable")
    return say("state_proven" if found.base_proven else "state_not_proven")


def facts(found: Inspection) -> str:
    """The figures of an adapter as a table; nothing where nothing could be read."""
    rows = [(say("fact_base"), markup.plain(found.base_named or say("none")))]
    if found.rank:
        targets = ", ".join(found.targets)
        rows += [
            (say("fact_rank"), f"{found.rank}, alpha {found.lora_alpha:g} ({found.scaling})"),
            (say("fact_targets"), markup.plain(targets)),
            (
                say("fact_size"),
                say("size", parameters=f"{found.parameters:,}", mb=f"{found.weight_bytes / 1e6:.1f}"),
            ),
        ]
    if found.sha256:
        rows.append(("sha256", f"`{found.sha256[:16]}…`"))
    if passport := found.passport:
        training = passport.training
        rows += [
            (
                say("fact_trained"),
                f"{training.date:%Y-%m-%d} · {training.steps} · {training.seconds / 60:.0f} min",
            ),
            (say("fact_losses"), f"{training.train_loss:.3f} · {training.heldout_loss:.3f}"),
            (say("fact_data"), say("data", rows=passport.train.rows, heldout=passport.heldout.rows)),
        ]
    lines = ["| | |", "|:--|:--|", *(f"| {name} | {value} |" for name, value in rows)]
    if found.passport and found.passport.examples:
        lines += ["", f"**{say('examples')}**", ""]
        lines += [f"- {_question_link(found.name, example)}" for example in found.passport.examples]
    return "\n".join(lines)


def _question_link(adapter: str, question: str) -> str:
    """The question, as a link to Compare with the bare base and the adapter if it makes one."""
    try:
        link = links.write_link(("base", f"adapter:{adapter}"), question, None)
    except CounterpointError:
        return markup.plain(question)
    return f"[{markup.plain(question)}]({link})"


def _complaints(found: Inspection) -> list[str]:
    problems = [f"- **{say('problem')}** {markup.plain(problem)}" for problem in found.problems]
    warnings = [f"- **{say('warning')}** {markup.plain(warning)}" for warning in found.warnings]
    return ["\n".join([*problems, *warnings])] if problems or warnings else []


def _title(entry: AdapterEntry) -> str:
    passport = entry.inspection.passport
    title = passport.title if passport else entry.name
    marks = [] if entry.usable else [say("unusable")]
    marks += [say("not_proven")] if entry.usable and not entry.inspection.base_proven else []
    marks += [say("mark_yours")] if entry.origin == "yours" else []
    return " · ".join([title, *marks])
