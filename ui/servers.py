"""The Servers tab: which servers are declared, how each stands and what it has; declare, look, remove."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import gradio as gr

from comparison.servers import Declared, ServerStore
from errors import CounterpointError
from ui import markup, server_form
from ui.guard import guarded, inform, warn
from ui.looks import Looks, Seen
from ui.parts import Parts
from ui.personas import picker_updates
from ui.words import label, say

LOOK_S = 10.0
"""How long the page waits for a server that is looked at; what it tells later is shown at the next look."""
_IF_SURE = f"(name, ...rest) => [confirm({json.dumps(say('server_remove_sure'))}) ? name : null, ...rest]"
Drafts = dict[str, tuple[str, ...]]
"""By server ("" for a new one): what was typed and not saved when another was opened."""


class Servers:
    """Builds the tab and wires it."""

    def __init__(self, parts: Parts) -> None:
        self.parts = parts
        self.looks = Looks(parts.backends)
        self.open = gr.State(None)
        self.drafts = gr.State({})
        with gr.Row(elem_id="servers", elem_classes=["cp-tab", "cp-browser"]):
            with gr.Column(scale=1, min_width=260, elem_classes=["cp-list"]):
                lead = say("servers_public" if parts.public else "servers_lead")
                gr.Markdown(lead, elem_classes=["cp-caption"], latex_delimiters=[])
                self.list = gr.Radio(
                    [], label=label("tab_servers"), elem_classes=["cp-cards"], elem_id="server-list"
                )
                self.empty = gr.Markdown("", elem_classes=["cp-caption"], latex_delimiters=[])
                self.new = gr.Button(label("server_new"), size="sm", visible=False, elem_id="server-new")
            with gr.Column(scale=3, min_width=320, elem_classes=["cp-detail"]):
                self.about = gr.Markdown(
                    "", elem_classes=["cp-about"], elem_id="server-about", latex_delimiters=[]
                )
                with gr.Column(visible=not parts.public, elem_id="server-form") as self.form_box:
                    self.form, self.key_note = _form()
                with gr.Row(elem_classes=["cp-tools"]):
                    self.save, self.look, self.remove = (
                        gr.Button(
                            label(key),
                            variant="primary" if key == "save" else "secondary",
                            size="sm",
                            scale=0,
                            min_width=90,
                            visible=key == "save" and not parts.public,
                            elem_id=f"server-{key.removeprefix('server_')}",
                        )
                        for key in ("save", "server_look", "server_remove")
                    )
                with gr.Accordion(
                    label("server_load_title"), open=False, visible=False, elem_id="server-load-box"
                ) as self.load_box:
                    gr.Markdown(say("server_load_hint"), elem_classes=["cp-caption"], latex_delimiters=[])
                    with gr.Row():
                        self.adapter = gr.Textbox(
                            label=label("server_load_name"), placeholder="support", elem_id="server-adapter"
                        )
                        self.folder = gr.Textbox(
                            label=label("server_load_folder"),
                            placeholder="/adapters/support",
                            elem_id="server-folder",
                        )
                    with gr.Row(elem_classes=["cp-tools"]):
                        self.load = gr.Button(
                            label("server_load"), size="sm", scale=0, min_width=90, elem_id="server-load"
                        )
        self.told = [
            self.open,
            self.list,
            self.empty,
            self.new,
            self.about,
            self.look,
            self.remove,
            self.load_box,
        ]
        self.filled = [*self.form, self.key_note]
        self._wire()

    def _wire(self) -> None:
        self.quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
        given = [self.open, self.drafts, *self.form]
        shown = [self.drafts, *self.told, *self.filled]
        self.list.input(guarded(self._select), [self.list, *given], shown, **self.quiet)
        self.new.click(guarded(partial(self._select, None)), given, shown, **self.quiet)
        if self.parts.public:
            return  # Nobody out there is told which variables are set.
        key = self.form[server_form.FIELDS.index("key_env")]
        gr.on(
            [key.input, key.blur],
            guarded(server_form.key_note),
            key,
            self.key_note,
            trigger_mode="always_last",
            **self.quiet,
        )

    def on_change(self, pickers: Sequence[gr.Dropdown]) -> None:
        """Wires what changes the servers there are, or what is known of them; every mode picker then knows it."""
        opened = [self.open, *self.form]
        changed = [self.drafts, *self.told, *self.filled]
        loading = [self.adapter, self.folder]
        for button, handler, inputs, outputs, js in (
            (self.save, self._save, [self.drafts, *opened], changed, None),
            (self.remove, self._remove, [self.list, self.drafts], changed, _IF_SURE),
            (self.load, self._load, [self.open, *loading], loading, None),
        ):
            done = button.click(guarded(handler), inputs, outputs, js=js, **self.quiet)
            self._then_look(self._then_known(done, pickers), pickers)
        done = self.look.click(guarded(self._look), opened, self.told, **self.quiet)
        self._then_known(done, pickers)

    def _then_look(self, done: Any, pickers: Sequence[gr.Dropdown]) -> None:
        done = done.then(guarded(self._look), [self.open, *self.form], self.told, **self.quiet)
        self._then_known(done, pickers)

    def _then_known(self, done: Any, pickers: Sequence[gr.Dropdown]) -> Any:
        known = guarded(partial(picker_updates, self.parts))
        return done.then(known, list(pickers), list(pickers), **self.quiet)

    def on_select(self, tab: gr.Tab) -> None:
        """Wires the tab to tell what there is as soon as it is opened, then how each server stands."""
        opened = [self.open, *self.form]
        tab.select(guarded(self._refresh), opened, [*self.told, *self.filled], **self.quiet).then(
            guarded(self._look_at_all), opened, self.told, **self.quiet
        )

    # --- handlers: values for `told`, and those for `filled`

    def _refresh(self, name: str | None, *form: str | None) -> list[Any]:
        """The servers as they are declared now, perhaps by hand; what is being typed stays."""
        try:
            self.parts.backends.refresh()
            servers = self._declared()
        except CounterpointError as error:
            warn(say("servers_unreadable", problem=str(error).rstrip(".")))
            servers = ()
        if name is None and servers and not any((value or "").strip() for value in form[:2]):
            return [*self._tell(servers[0].name), *_fields(self._to_fields(servers[0]))]
        return [*self._tell(name, form), *[gr.skip() for _ in self.filled]]

    def _select(self, chosen: str | None, name: str | None, drafts: Drafts, *form: str | None) -> list[Any]:
        drafts = {key: draft for key, draft in drafts.items() if key != (name or "")}
        if self._is_changed(name, form):
            drafts[name or ""] = tuple(value or "" for value in form)
        fields = drafts.get(chosen or "") or self._to_fields(self._of(chosen))
        return [drafts, *self._tell(chosen, fields), *_fields(fields)]

    def _save(self, drafts: Drafts, name: str | None, *form: str | None) -> list[Any]:
        store = self._changeable
        declared = server_form.read(form, store.list())
        store.save(declared, name)
        self.parts.backends.refresh()
        inform(say("server_saved", name=declared.name))
        drafts = {key: draft for key, draft in drafts.items() if key not in (name or "", declared.name)}
        fields = server_form.to_fields(declared)
        return [drafts, *self._tell(declared.name, fields), *_fields(fields)]

    def _remove(self, name: str | None, drafts: Drafts) -> Any:
        if not name:
            return gr.skip()
        self._changeable.remove(name)
        self.parts.backends.refresh()
        inform(say("server_removed", name=name))
        left = self._declared()
        fields = server_form.to_fields(left[0] if left else None)
        drafts = {key: draft for key, draft in drafts.items() if key != name}
        return [drafts, *self._tell(left[0].name if left else None), *_fields(fields)]

    def _look(self, name: str | None, *form: str | None) -> Iterator[list[Any]]:
        if name is None:
            yield gr.skip()  # Gradio empties the outputs of a generator that yields nothing.
            return
        self.looks.look([name], 0)
        yield self._tell(name, form)
        self.looks.look([name], LOOK_S)
        yield self._tell(name, form)

    def _look_at_all(self, name: str | None, *form: str | None) -> list[Any]:
        self.looks.look(self._names(), LOOK_S)
        return self._tell(name, form)

    def _load(self, name: str | None, adapter: str, folder: str) -> list[Any]:
        if self.parts.public:
            raise CounterpointError(say("servers_public"))
        if not name:
            raise CounterpointError(say("server_choose"))
        if not adapter.strip() or not folder.strip():
            raise CounterpointError(say("server_load_nothing"))
        load = getattr(self.looks.backend(name), "load_adapter")  # noqa: B009 (only servers have it)
        load(adapter.strip(), folder.strip())
        inform(say("server_loaded", name=name, adapter=adapter.strip()))
        return ["", ""]

    # --- what is declared and known

    @property
    def _changeable(self) -> ServerStore:
        """The store, for who may write to it."""
        if self.parts.public:
            raise CounterpointError(say("servers_public"))
        store = self.parts.backends.store
        if store is None:
            raise CounterpointError(say("server_nowhere"))
        return store

    def _declared(self) -> tuple[Declared, ...]:
        store = self.parts.backends.store
        return store.list() if store else ()

    def _of(self, name: str | None) -> Declared | None:
        return next((server for server in self._declared() if server.name == name), None)

    def _names(self) -> list[str]:
        """The servers that act, in the order of the file; those of before while it cannot be read."""
        backends = self.parts.backends
        acting = [*backends.others, *([backends.main.name] if backends.main is not None else [])]
        try:
            return [server.name for server in self._declared() if server.name in acting]
        except CounterpointError:
            return list(backends.others)

    def _is_changed(self, name: str | None, form: Sequence[str | None]) -> bool:
        if self.parts.public:
            return False
        try:
            return tuple(value or "" for value in form) != self._to_fields(self._of(name))
        except CounterpointError:
            return False  # Nothing to compare with while the file cannot be read.

    def _to_fields(self, server: Declared | None) -> tuple[str, ...]:
        # A form that is hidden is sent to the browser like any other: on a public page it stays empty.
        return server_form.to_fields(None if self.parts.public else server)

    def _tell(self, name: str | None, form: Sequence[str | None] = ()) -> list[Any]:
        """Values for `told` with this server open, as far as it is declared."""
        names = self._names()
        name = name if name in names else None
        there = name is not None
        changeable = not self.parts.public
        return [
            name,
            gr.Radio(choices=[(self._title(each), each) for each in names], value=name),
            "" if names else say("no_servers"),
            gr.Button(visible=bool(names) and changeable),
            self._about(name, bool(form) and self._is_changed(name, form)),
            gr.Button(visible=there),
            gr.Button(visible=there and changeable),
            gr.Accordion(visible=there and changeable),
        ]

    def _title(self, name: str) -> str:
        return f"{name} · {say('server_' + self.looks.seen(name).state)}"

    def _about(self, name: str | None, changed: bool) -> str:
        if name is None:
            return "" if self.parts.public else say("server_new_about")
        lines = [about(name, self.looks.seen(name))]
        main = self.parts.backends.main
        if main is not None and main.name == name:
            lines.append(say("server_is_main"))
        if changed:
            lines.append(f"**{say('server_unsaved')}**")
        return "\n\n".join(lines)


def about(name: str, seen: Seen) -> str:
    """How a server stands and what it has; what it tells of itself is escaped."""
    lines = [f"## {markup.plain(name)}", f"`{name}/base` · **{say('server_' + seen.state)}**"]
    if seen.problem:
        lines.append(markup.plain(seen.problem))
    if seen.offer is not None:
        adapters = ", ".join(sorted(seen.offer.adapters)) or say("server_no_adapters")
        lines.append(
            say(
                "server_has" if seen.state == "ready" else "server_had",
                base=markup.plain(seen.offer.base_name),
                adapters=markup.plain(adapters),
            )
        )
        if seen.offer.left_out:
            lines.append(say("server_left_out", count=seen.offer.left_out))
    return "\n\n".join(lines)


def _fields(values: Sequence[str]) -> list[Any]:
    """Values for `filled`."""
    return [*values, server_form.key_note(values[server_form.FIELDS.index("key_env")])]


def _form() -> tuple[list[Any], gr.Markdown]:
    fields = [
        gr.Textbox(label=label("server_name"), placeholder="gpu", max_lines=1, elem_id="server-name"),
        gr.Textbox(
            label=label("server_url"),
            placeholder="http://127.0.0.1:8000/v1",
            max_lines=1,
            elem_id="server-url",
        ),
    ]
    with gr.Accordion(label("server_more"), open=False, elem_id="server-more"):
        fields += [
            gr.Textbox(label=label("server_model"), info=label("server_model_info"), elem_id="server-model"),
            gr.Textbox(
                label=label("server_key_env"),
                info=say("server_key_env_info", example=server_form.KEY_EXAMPLE),
                placeholder=server_form.KEY_EXAMPLE,
                elem_id="server-key-env",
            ),
        ]
        note = gr.Markdown("", elem_classes=["cp-caption"], elem_id="server-key-note", latex_delimiters=[])
        fields.append(
            gr.Textbox(
                label=label("server_adapters"),
                info=label("server_adapters_info"),
                placeholder="support = org/support-lora",
                lines=2,
                max_lines=10,
                elem_id="server-adapters",
            )
        )
        knows = gr.Radio(
            [(say("server_knows_" + choice), choice) for choice in server_form.KNOWS],
            value=server_form.EMPTY[-1],
            label=label("server_extended"),
            elem_id="server-extended",
        )
    return [*fields, knows], note
