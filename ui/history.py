"""The History tab: every conversation is there, to be found, kept in order, and gone on with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gradio as gr
from gradio.processing_utils import save_bytes_to_cache

from errors import CounterpointError
from logbook import document
from logbook.conversations import MAX_TITLE, Conversation, Conversations, Turn
from ui import history_told, stored
from ui.chat import Chat
from ui.compare import Compare
from ui.guard import QUIET, guarded
from ui.parts import Parts
from ui.words import label, say

ANY = ""
"""The choice among the tags that narrows nothing."""

Updates = dict[Any, Any]


class History:
    """Builds the tab and wires it; what is opened goes into Compare or Chat, whichever it was of."""

    def __init__(self, parts: Parts, compare: Compare, chat: Chat, tabs: gr.Tabs) -> None:
        self.parts, self.compare, self.chat, self.tabs = parts, compare, chat, tabs
        self.deleted = gr.State(None)
        """The one that was deleted last, as long as nothing else was done."""
        with gr.Row(elem_id="history", elem_classes=["cp-tab", "cp-browser"]):
            with gr.Column(scale=1, min_width=260, elem_classes=["cp-list"]):
                self.search = gr.Textbox(
                    label=label("history_search"),
                    placeholder=label("history_search_placeholder"),
                    max_length=200,
                    elem_id="history-search",
                )
                self.tag = gr.Dropdown(
                    [(say("history_any_tag"), ANY)],
                    value=ANY,
                    label=label("history_tag"),
                    visible=False,
                    elem_id="history-tag",
                )
                self.list = gr.Radio(
                    [], label=label("history_list"), elem_classes=["cp-cards"], elem_id="history-list"
                )
                self.empty = gr.Markdown(
                    say("history_empty"), elem_classes=["cp-caption"], latex_delimiters=[], visible=False
                )
            with gr.Column(scale=3, min_width=320, elem_classes=["cp-detail"]):
                with gr.Row(
                    visible=False, elem_classes=["cp-tools"], elem_id="history-undo"
                ) as self.undo_row:
                    self.undo_told = gr.Markdown("", elem_classes=["cp-caption"], latex_delimiters=[])
                    self.undo = gr.Button(label("history_undo"), size="sm", scale=0, min_width=90)
                self.hint = gr.Markdown(say("history_hint"), elem_classes=["cp-caption"], latex_delimiters=[])
                with gr.Column(visible=False, elem_id="history-one") as self.one:
                    self._one()
        self._wire()

    def _one(self) -> None:
        self.about = gr.Markdown("", elem_classes=["cp-about"], elem_id="history-about", latex_delimiters=[])
        with gr.Row(elem_classes=["cp-tools"]):
            self.open = gr.Button(
                label("history_open"),
                variant="primary",
                size="sm",
                scale=0,
                min_width=110,
                elem_id="history-open",
            )
            self.pin, self.export, self.delete = (
                gr.Button(label(key), size="sm", scale=0, min_width=90, elem_id=key.replace("_", "-"))
                for key in ("history_pin", "history_export", "history_delete")
            )
            self.files = [
                gr.DownloadButton(
                    say(key), visible=False, size="sm", scale=0, min_width=90, elem_id=key.replace("_", "-")
                )
                for key in ("history_markdown", "history_replay")
            ]
        with gr.Row():
            self.title = gr.Textbox(
                label=label("history_title"), max_length=MAX_TITLE, elem_id="history-title", min_width=240
            )
            self.tags = gr.Textbox(
                label=label("history_tags"),
                placeholder=label("history_tags_placeholder"),
                max_length=400,
                elem_id="history-tags",
                min_width=240,
            )
        self.branch = gr.Dropdown(
            [], label=label("history_branch"), visible=False, elem_id="history-branch", min_width=240
        )
        self.turns = gr.Markdown(
            "", elem_classes=["cp-answer"], elem_id="history-turns", latex_delimiters=[], sanitize_html=True
        )

    def _wire(self) -> None:
        found = [self.search, self.tag, self.list]
        gr.on(
            [self.search.input, self.tag.input],
            guarded(self._narrow),
            found,
            self.refreshed,
            trigger_mode="always_last",
            **QUIET,
        )
        self.list.input(guarded(self._select), self.list, self.shown, **QUIET)
        changes: tuple[tuple[Any, Any, list[Any]], ...] = (
            (self.pin.click, self._pin, []),
            (self.delete.click, self._delete, []),
            (self.title.submit, self._rename, [self.title]),
            (self.tags.submit, self._tag, [self.tags]),
            (self.branch.input, self._go_to, [self.branch]),
            (self.undo.click, self._restore, [self.deleted]),
        )
        for event, handler, more in changes:
            event(guarded(handler), [*found, *more], self.refreshed, **QUIET)
        self.export.click(guarded(self._export), self.list, self.files, **QUIET)
        self.open.click(
            guarded(self._open), self.list, [self.tabs, *self.compare.opens, *self.chat.opens], **QUIET
        )

    @property
    def kept(self) -> Conversations:
        return self.parts.logbook.conversations

    @property
    def shown(self) -> list[Any]:
        """The components that one conversation is shown by."""
        return [
            self.one,
            self.hint,
            self.about,
            self.pin,
            self.title,
            self.tags,
            self.branch,
            self.turns,
            self.undo_row,
            self.deleted,
            *self.files,
        ]

    @property
    def refreshed(self) -> list[Any]:
        """All that changes as conversations do."""
        return [self.list, self.tag, self.empty, self.undo_told, *self.shown]

    def on_select(self, tab: gr.Tab) -> None:
        """Wires what is done when somebody comes to the tab."""
        tab.select(guarded(self._find), [self.search, self.tag, self.list], self.refreshed, **QUIET)

    # --- looking

    def _find(self, search: str, tag: str | None, chosen: str | None) -> Updates:
        listed = self._search(search, tag)
        there = chosen if any(one.id == chosen for one in listed) else None
        return (
            self._listed(listed, search, tag)
            | {self.list: self._choices(listed, value=there)}
            | self._shown(there)
        )

    def _narrow(self, search: str, tag: str | None, chosen: str | None) -> Updates:
        """The list alone, unless what is chosen is no longer in it: another may have been chosen meanwhile."""
        listed = self._search(search, tag)
        if chosen and all(one.id != chosen for one in listed):
            return self._find(search, tag, None)
        return self._listed(listed, search, tag)

    def _search(self, search: str | None, tag: str | None) -> list[Conversation]:
        return self.kept.list(search or "", tag or None, self.parts.person)

    def _choices(self, listed: Sequence[Conversation], **more: Any) -> gr.Radio:
        choices = [(history_told.listed(one, self.kept.marks), one.id) for one in listed]
        return gr.Radio(choices=choices, visible=bool(choices), **more)

    def _listed(self, listed: Sequence[Conversation], search: str | None, tag: str | None) -> Updates:
        tags = self.kept.tags(self.parts.person)
        nothing = say("history_none_found") if (search or "").strip() or tag else say("history_empty")
        return {
            self.list: self._choices(listed),
            self.tag: gr.Dropdown(
                choices=[(say("history_any_tag"), ANY), *((name, name) for name in tags)],
                value=tag if tag in tags else ANY,
                visible=bool(tags),
            ),
            self.empty: gr.Markdown(nothing, visible=not listed),
        }

    def _select(self, chosen: str | None) -> Updates:
        return self._shown(chosen)

    def _shown(self, chosen: str | None) -> Updates:
        updates: Updates = {
            self.one: gr.Column(visible=bool(chosen)),
            self.hint: gr.Markdown(visible=not chosen),
            self.undo_row: gr.Row(visible=False),
            self.deleted: None,
            **{button: gr.DownloadButton(visible=False) for button in self.files},
        }
        if not chosen:
            return updates
        one, panes = self.kept.get(chosen), self.kept.panes(chosen)
        branches = _branches(panes.values())
        return updates | {
            self.about: history_told.about(one),
            self.pin: label("history_unpin" if one.pinned else "history_pin"),
            self.title: one.title,
            self.tags: ", ".join(one.tags),
            self.branch: gr.Dropdown(choices=branches, value=None, visible=bool(branches)),
            self.turns: history_told.turns(panes),
        }

    # --- what is done

    def _pin(self, search: str, tag: str, chosen: str) -> Updates:
        self.kept.pin(chosen, not self.kept.get(chosen).pinned)
        return self._find(search, tag, chosen)

    def _rename(self, search: str, tag: str, chosen: str, title: str) -> Updates:
        self.kept.rename(chosen, title)
        return self._find(search, tag, chosen)

    def _tag(self, search: str, tag: str, chosen: str, tags: str) -> Updates:
        self.kept.tag(chosen, tags.split(","))
        return self._find(search, tag, chosen)

    def _go_to(self, search: str, tag: str, chosen: str, turn: str) -> Updates:
        self.kept.go_to(chosen, turn)
        return self._find(search, tag, chosen)

    def _export(self, chosen: str | None) -> list[Any]:
        """Both files as the conversation is now, each behind a button."""
        if not chosen:
            raise CounterpointError(say("history_hint"))
        one, panes = self.kept.get(chosen), self.kept.panes(chosen)
        made = (("md", document.markdown(one, panes)), ("html", document.replay(one, panes)))
        return [
            gr.DownloadButton(
                value=save_bytes_to_cache(
                    text.encode(), document.file_name(one, ending), button.GRADIO_CACHE
                ),
                visible=True,
            )
            for button, (ending, text) in zip(self.files, made, strict=True)
        ]

    def _delete(self, search: str, tag: str, chosen: str) -> Updates:
        one: Conversation = self.kept.get(chosen)
        self.kept.delete(chosen)
        return self._find(search, tag, None) | {
            self.undo_row: gr.Row(visible=True),
            self.undo_told: history_told.deleted(one),
            self.deleted: chosen,
        }

    def _restore(self, search: str, tag: str, chosen: str | None, deleted: str | None) -> Updates:
        if not deleted:
            raise CounterpointError(say("history_nothing_deleted"))
        self.kept.restore(deleted)
        return self._find(search, tag, deleted)

    def _open(self, chosen: str | None) -> Updates:
        if not chosen:
            raise CounterpointError(say("history_hint"))
        one, states = self.kept.get(chosen), stored.states(self.parts.logbook, chosen)
        opened = self.chat.opened(states) if one.kind == "chat" else self.compare.opened(states)
        return {self.tabs: gr.Tabs(selected=one.kind), **opened}


def _branches(paths: Any) -> list[tuple[str, str]]:
    """The other branches that can be gone back to."""
    found: list[tuple[str, str]] = []
    path: Sequence[Turn]
    for path in paths:
        for number, turn in enumerate(path, start=1):
            found += [
                (history_told.branch(turn, number, question), other)
                for other, question in turn.branches
                if other != turn.id
            ]
    return found
