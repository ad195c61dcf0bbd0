"""The Personas tab: browse, edit as a form or as YAML, see the prompt, save."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from typing import Any

import gradio as gr

from comparison.live import Pane
from errors import CounterpointError
from personas.schema import Persona
from ui import markup, persona_fields, persona_form, persona_list, setup
from ui.controls import picker_update
from ui.guard import guarded, inform
from ui.parts import Parts
from ui.travel import Travel
from ui.words import label, say

_IF_SURE = f"(name, ...rest) => [confirm({json.dumps(say('delete_sure'))}) ? name : null, ...rest]"


class Personas:
    """Builds the tab and wires it.

    `drafts` holds the valid unsaved personas, `texts` the unsaved YAML, valid or not: nothing typed is lost
    by looking at another persona.
    """

    def __init__(self, parts: Parts, drafts: gr.State) -> None:
        self.parts = parts
        self.drafts = drafts
        self.texts = gr.State({})
        entries = parts.personas.list()
        first = entries[0].name if entries else None
        # For what runs because the persona shown has changed: the browser may still tell the list's value of
        # before, and Gradio refuses one that was deleted.
        self.open = gr.State(first)
        with gr.Row(elem_id="personas", elem_classes=["cp-tab", "cp-browser"]):
            with gr.Column(scale=1, min_width=260, elem_classes=["cp-list"]):
                self.search = gr.Textbox(
                    label=label("search"), placeholder=label("search_placeholder"), max_lines=1
                )
                self.tag = gr.Dropdown(
                    [(say("all_tags"), ""), *persona_list.tags(entries)], value="", label=label("tag")
                )
                self.list = gr.Radio(
                    persona_list.choices(parts, {}),
                    value=first,
                    label=label("tab_personas"),
                    elem_classes=["cp-cards"],
                    elem_id="persona-list",
                )
            with gr.Column(scale=3, min_width=320, elem_classes=["cp-detail"]):
                self._editor()
        self._wire()

    def _editor(self) -> None:
        self.about = gr.Markdown("", elem_classes=["cp-about"], elem_id="persona-about", latex_delimiters=[])
        self.problems = gr.Markdown(
            "", elem_classes=["cp-notice"], elem_id="persona-problems", latex_delimiters=[]
        )
        with gr.Row(elem_classes=["cp-tools"]):
            self.save = gr.Button(
                label("save"), variant="primary", size="sm", scale=0, min_width=90, elem_id="persona-save"
            )
            self.revert = gr.Button(
                label("revert"), size="sm", scale=0, min_width=90, elem_id="persona-revert"
            )
            self.delete = gr.Button(
                label("delete"), size="sm", scale=0, min_width=90, elem_id="persona-delete", visible=False
            )
        with gr.Tabs():
            with gr.Tab(label("form")):
                gr.Markdown(say("form_hint"), elem_classes=["cp-caption"], latex_delimiters=[])
                self.form = [persona_fields.field(name) for name in persona_form.FIELDS]
            with gr.Tab(label("yaml")):
                self.yaml = gr.Code(
                    language="yaml",
                    label=label("yaml_label"),
                    lines=24,
                    max_lines=40,
                    wrap_lines=True,
                    interactive=True,
                    elem_id="persona-yaml",
                )
            with gr.Tab(label("prompt")) as prompt_tab:
                self.trial = gr.Textbox(
                    value=say("preview_question"),
                    label=label("trial_question"),
                    max_length=setup.MAX_TYPED_CHARS,
                )
                self.prompt = gr.Markdown(
                    "", elem_classes=["cp-receipt"], elem_id="persona-prompt", latex_delimiters=[]
                )
            self.prompt_tab = prompt_tab
        with gr.Row(elem_classes=["cp-ask-row"], equal_height=True):
            self.copy_name = gr.Textbox(label=label("copy_name"), scale=1, elem_id="persona-copy-name")
            self.duplicate = gr.Button(
                label("duplicate"), scale=0, min_width=110, elem_id="persona-duplicate"
            )
        self.travel = Travel(self.parts)

    def _wire(self) -> None:
        self.quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
        quiet = self.quiet
        self.shown = [
            self.open,
            self.about,
            self.problems,
            self.yaml,
            *self.form,
            self.delete,
            self.copy_name,
        ]
        listing = [self.search, self.tag, self.drafts]
        # Not `change`: whatever else sets the list sets what is shown with it, and a second time would come late,
        # over what a person has begun to type.
        self.list.input(guarded(self._select), [self.list, self.texts, self.drafts], self.shown, **quiet)
        # `always_last`: what is typed while an earlier search is under way must not be lost.
        gr.on(
            [self.search.change, self.tag.input],  # of a paste Gradio tells `change` alone
            guarded(self._listed),
            [*listing, self.list],
            self.list,
            trigger_mode="always_last",
            **quiet,
        )
        edited = [self.texts, self.drafts, self.about, self.problems, self.list]
        known = [self.list, self.search, self.tag, self.texts, self.drafts]
        # One after another, in the order in which they were made: leaving a field for Save hands in the field first.
        self.ordered: dict[str, Any] = {**quiet, "concurrency_id": "persona", "concurrency_limit": 1}
        # Gradio swallows the first input after a value was set from here, for instance a paste: leaving the
        # field hands it in.
        gr.on(
            [self.yaml.input, self.yaml.blur],
            guarded(self._edit_yaml),
            [self.yaml, *known],
            [*edited, *self.form],
            trigger_mode="always_last",
            **self.ordered,
        )
        for name, field in zip(persona_form.FIELDS, self.form, strict=True):
            left = [field.blur] if isinstance(field, gr.Textbox) else []
            gr.on(
                [field.input, *left],
                guarded(partial(self._edit_field, name)),
                [field, *known],
                [*edited, self.yaml],
                trigger_mode="always_last",
                **self.ordered,
            )
        preview: dict[str, Any] = {
            "fn": guarded(self._preview),
            "inputs": [self.open, self.trial, self.drafts],
            "outputs": self.prompt,
            **quiet,
        }
        self.prompt_tab.select(**preview)
        self.trial.change(**preview, trigger_mode="always_last")
        self.yaml.change(**preview, trigger_mode="always_last")
        self.travel.wire_export(self.list, self.drafts, **quiet)

    def on_change(self, pickers: Sequence[gr.Dropdown]) -> None:
        """Wires what changes the personas there are; every mode picker then knows it."""
        quiet = self.quiet
        kept = [self.texts, self.drafts]
        after = [*kept, self.list, self.search, self.tag, *self.shown]
        for button, handler, inputs, js in (
            (self.save, self._save, [self.list, *kept], None),
            (self.revert, self._revert, [self.list, *kept], None),
            (self.delete, self._delete, [self.list, *kept], _IF_SURE),
            (self.duplicate, self._duplicate, [self.list, self.copy_name, *kept], None),
        ):
            button.click(guarded(handler), inputs, after, js=js, **self.ordered).then(
                guarded(partial(picker_updates, self.parts)), list(pickers), list(pickers), **quiet
            )
        # What was told of the file before goes first: of one that is refused nothing is told there.
        self.travel.bring.click(lambda: "", None, self.travel.found, **quiet).then(
            guarded(self._import),
            [*self.travel.given, *kept],
            [*self.travel.shown, *kept, *self.refreshed],
            **quiet,
        ).then(guarded(partial(picker_updates, self.parts)), list(pickers), list(pickers), **quiet)

    @property
    def refresh_inputs(self) -> list[Any]:
        return [self.list, self.texts, self.drafts]

    @property
    def refreshed(self) -> list[Any]:
        return [self.list, self.tag, *self.shown]

    def refresh(self, name: str | None, texts: dict[str, str], drafts: dict[str, Persona]) -> Any:
        """The list as it is now: another window, or a file put into the folder, may have changed it."""
        entries = self.parts.personas.list()
        names = [entry.name for entry in entries]
        name = name if name in names else names[0] if names else None
        tags = gr.Dropdown(choices=[(say("all_tags"), ""), *persona_list.tags(entries)], value="")
        return [self._list_update(drafts, name), tags, *self._select(name, texts, drafts)]

    # --- handlers

    def _select(self, name: str | None, texts: dict[str, str], drafts: dict[str, Persona]) -> list[Any]:
        """Values for `shown`."""
        entries = self.parts.personas.list()
        entry = next((each for each in entries if each.name == name), None)
        if entry is None or name is None:
            return [None, "", "", "", *persona_fields.values(None, ""), gr.Button(visible=False), ""]
        text, persona, problem = "", None, ""
        try:
            text = self._text(name, texts)
            persona = persona_form.checked(text, name)
        except CounterpointError as error:
            problem = str(error)
        delete = gr.Button(
            label("delete_shadow" if entry.shadows else "delete"), visible=entry.origin == "yours"
        )
        return [
            name,
            self._about(name, name in drafts, persona or entry.persona),
            markup.plain(problem),
            text,
            *persona_fields.values(persona, text),
            delete,
            persona_form.free_name(name, [each.name for each in entries]),
        ]

    def _edit_yaml(self, text: str, name: str | None, *known: Any) -> list[Any]:
        persona, *edited = self._edited(text, name, *known)
        return [*edited, *persona_fields.values(persona, text)]

    def _edit_field(self, field: str, value: Any, name: str | None, *known: Any) -> list[Any]:
        if not name:
            raise CounterpointError(say("choose_persona"))
        *_, texts, _ = known
        text = self._text(name, texts)
        changed = persona_form.with_field(text, field, value)
        if changed == text:
            return [gr.skip()] * 6
        _, *edited = self._edited(changed, name, *known)
        return [*edited, changed]

    def _edited(
        self,
        text: str,
        name: str | None,
        words: str,
        tag: str | None,
        texts: dict[str, str],
        drafts: dict[str, Persona],
    ) -> tuple[Any, ...]:
        """(persona if valid, texts, drafts, about, problems, list) after an edit; `words` and `tag` filter the
        list."""
        if not name:
            raise CounterpointError(say("choose_persona"))
        after, problem = _without(drafts, name), ""
        try:
            persona = persona_form.checked(text, name)
        except CounterpointError as error:
            persona, problem = None, f"{error}\n{say('draft_invalid')}"
        if text == self._stored(name):
            texts = _without(texts, name)
        else:
            texts = {**texts, name: text}
            if persona:
                after[name] = persona
        about = self._about(name, name in after, persona) if persona else gr.skip()
        marked: Any = gr.skip()
        if (name in after) != (name in drafts):
            # Not its value: another persona may have been picked meanwhile.
            marked = gr.Radio(choices=persona_list.found(self.parts, after, words, tag, name))
        return persona, texts, after, about, markup.plain(problem), marked

    def _text(self, name: str, texts: dict[str, str]) -> str:
        """The persona's YAML as it is edited: what the browser tells of it may be older than its last edit."""
        return texts[name] if name in texts else self.parts.personas.text(name)

    def _stored(self, name: str) -> str:
        """The persona's YAML as it is kept; empty where the file cannot be read, so that it can be written anew."""
        try:
            return self.parts.personas.text(name)
        except CounterpointError:
            return ""

    def _save(self, name: str | None, texts: dict[str, str], drafts: dict[str, Persona]) -> list[Any]:
        if not name:
            raise CounterpointError(say("choose_persona"))
        text = self._text(name, texts)
        persona_form.checked(text, name)
        self.parts.personas.save(text)
        inform(say("saved", name=name))
        return self._after(name, _without(texts, name), _without(drafts, name))

    def _revert(self, name: str | None, texts: dict[str, str], drafts: dict[str, Persona]) -> list[Any]:
        return self._after(name, _without(texts, name), _without(drafts, name))

    def _delete(self, name: str | None, texts: dict[str, str], drafts: dict[str, Persona]) -> Any:
        if not name:
            return gr.skip()
        self.parts.personas.delete(name)
        inform(say("deleted", name=name))
        return self._after(name, _without(texts, name), _without(drafts, name))

    def _duplicate(
        self, name: str | None, copy: str, texts: dict[str, str], drafts: dict[str, Persona]
    ) -> list[Any]:
        if not name:
            raise CounterpointError(say("choose_persona"))
        copy = copy.strip()
        if not copy:
            raise CounterpointError(say("copy_needs_name"))
        if name in texts:
            # Before anything is written: a draft that is not valid leaves no half-made copy behind.
            texts = {**_without(texts, name), copy: persona_form.with_field(texts[name], "name", copy)}
            drafts = {**_without(drafts, name), copy: persona_form.checked(texts[copy], copy)}
        self.parts.personas.duplicate(name, copy)
        inform(say("duplicated", name=copy))
        return self._after(copy, texts, drafts)

    def _import(
        self,
        file: str | None,
        name: str,
        replace: bool,
        texts: dict[str, str],
        drafts: dict[str, Persona],
    ) -> list[Any]:
        made, *shown = self.travel.bring_in(file, name, replace)
        texts, drafts = _without(texts, made), _without(drafts, made)
        return [*shown, texts, drafts, *self.refresh(made, texts, drafts)]

    def _after(self, name: str | None, texts: dict[str, str], drafts: dict[str, Persona]) -> list[Any]:
        names = [entry.name for entry in self.parts.personas.list()]
        name = name if name in names else names[0] if names else None
        # The whole list, so that what was made is in it: with no search, then.
        return [texts, drafts, self._list_update(drafts, name), "", "", *self._select(name, texts, drafts)]

    def _listed(
        self, words: str, tag: str | None, drafts: dict[str, Persona], selected: str | None
    ) -> gr.Radio:
        return gr.Radio(choices=persona_list.found(self.parts, drafts, words, tag, selected), value=selected)

    def _list_update(self, drafts: dict[str, Persona], name: str | None) -> gr.Radio:
        return gr.Radio(choices=persona_list.choices(self.parts, drafts), value=name)

    def _about(self, name: str, draft: bool, persona: Persona | None) -> str:
        if persona is None:
            return f"## {markup.plain(name)}"
        marks = [persona.language, *(f"#{tag}" for tag in persona.tags)]
        if persona.steps:
            names = " → ".join(step.name for step in persona.steps)
            marks.append(say("persona_steps" if len(persona.steps) > 1 else "persona_step", steps=names))
        lines = [f"## {markup.plain(persona.title)}", markup.plain(persona.description)]
        lines.append(f"`persona:{name}` · " + " · ".join(markup.plain(mark) for mark in marks))
        note = setup.language_note(persona.language, self.parts.languages)
        if note:
            lines.append(f"**{markup.plain(note)}**")
        if draft:
            lines.append(f"**{say('draft_acts')}**")
        return "\n\n".join(lines)

    def _preview(self, name: str | None, question: str, drafts: dict[str, Persona]) -> str:
        if not name:
            return ""
        pane = Pane(f"persona:{name}", persona=drafts.get(name))
        try:
            shown = self.parts.preview(pane, question or say("preview_question"))
            return markup.preview(shown, self.parts.preview_note(pane))
        except CounterpointError as error:
            return markup.plain(str(error))


def picker_updates(parts: Parts, *picked: str | None) -> Any:
    """The modes there are now, for every picker; what each has picked stays where it is still there."""
    modes = parts.modes(*picked)
    updates = [picker_update(modes, mode) for mode in picked]
    return updates if len(updates) != 1 else updates[0]


def _without(values: dict[str, Any], name: str | None) -> dict[str, Any]:
    return {key: each for key, each in values.items() if key != name}
