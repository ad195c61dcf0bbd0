"""The fold of the Adapters tab that makes files for other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr

from adapters.export import FORMATS
from errors import CounterpointError
from ui import markup
from ui.guard import guarded
from ui.parts import Parts
from ui.words import label, say


class Outgoing:
    """Lays out the fold, and makes the chosen adapter's file when it is asked for."""

    def __init__(self, parts: Parts) -> None:
        self.parts = parts
        with gr.Accordion(label("export_title"), open=False, elem_id="adapter-export-box"):
            with gr.Row():
                self.format = gr.Dropdown(
                    [(say("export_" + name), name) for name in FORMATS],
                    value=FORMATS[0],
                    label=label("export_format"),
                    info=say("export_info_" + FORMATS[0]),
                    elem_id="adapter-export-format",
                )
                self.persona = gr.Dropdown(
                    [(say("train_no_persona"), "")],
                    value="",
                    label=label("export_persona"),
                    visible=False,
                    elem_id="adapter-export-persona",
                )
            with gr.Row(elem_classes=["cp-tools"]):
                self.export = gr.Button(
                    label("travel_export"), size="sm", scale=0, min_width=90, elem_id="adapter-export"
                )
            self.left = gr.Markdown(
                "", elem_classes=["cp-receipt"], elem_id="adapter-export-left", latex_delimiters=[]
            )
            self.download = gr.DownloadButton(visible=False, size="sm", elem_id="adapter-download")

    def wire(self, chosen: gr.Radio, **quiet: Any) -> None:
        """What was made is put away when another adapter or format is chosen."""
        made = [self.left, self.download]
        self.export.click(
            guarded(self.send_out), [chosen, self.format, self.persona], made,
            api_visibility="private", concurrency_limit=1,
        )  # fmt: skip
        self.format.input(guarded(self._ask_for), self.format, [self.format, self.persona], **quiet)
        gr.on(
            [chosen.change, self.format.input, self.persona.input],
            lambda: ["", gr.DownloadButton(visible=False)],
            None,
            made,
            **quiet,
        )

    def _ask_for(self, to: str) -> list[Any]:
        """Only a Modelfile has a place for a persona."""
        return [
            gr.Dropdown(info=say("export_info_" + to)),
            gr.Dropdown(choices=self.parts.persona_choices(), value="", visible=to == "ollama"),
        ]

    def send_out(self, name: str | None, to: str, persona: str | None) -> list[Any]:
        """Notes on what did not come along, and the button with the file. Raises as `Exporter.pack` does."""
        if not name:
            raise CounterpointError(say("choose_adapter"))
        self.parts.adapters.source(name)  # raises where it is unknown or cannot be used
        cache = Path(self.download.GRADIO_CACHE)
        cache.mkdir(parents=True, exist_ok=True)
        packed = self.parts.exporter.pack(name, to, persona or None, cache)
        size = packed.file.stat().st_size / 1e6
        button = gr.DownloadButton(
            say("export_download", file=packed.file.name, mb=f"{size:.0f}" if size >= 1 else "<1"),
            value=packed.file,
            visible=True,
        )
        return [markup.listed(say("travel_left"), packed.left), button]
