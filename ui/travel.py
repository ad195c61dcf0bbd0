"""The fold of the Personas tab that brings personas in from other programs' files, and writes such files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr
from gradio.processing_utils import save_bytes_to_cache

from errors import CounterpointError
from personas.schema import Persona
from personas.travel.formats import DATASET, ENDINGS, read_file, write
from personas.travel.parcel import Arrival, Parcel
from ui import markup
from ui.guard import guarded, inform
from ui.parts import Parts
from ui.words import label, say


class Travel:
    """Lays out the fold. `given` goes into `bring_in`, whose values after the first are for `shown`."""

    def __init__(self, parts: Parts) -> None:
        self.parts = parts
        with gr.Accordion(label("travel_title"), open=False, elem_id="persona-travel"):
            gr.Markdown(say("travel_hint"), elem_classes=["cp-caption"], latex_delimiters=[])
            # No `file_types`: Gradio tells them by their endings, and a Modelfile has none.
            self.file = gr.File(label=label("travel_file"), height=110, elem_id="persona-file")
            with gr.Row():
                self.name = gr.Textbox(
                    label=label("travel_name"), placeholder="my-persona", elem_id="persona-import-name"
                )
                self.replace = gr.Checkbox(label=label("travel_replace"), elem_id="persona-replace")
            with gr.Row(elem_classes=["cp-tools"]):
                self.bring = gr.Button(
                    label("import"),
                    variant="primary",
                    size="sm",
                    scale=0,
                    min_width=90,
                    elem_id="persona-import",
                )
            self.found = gr.Markdown(
                "", elem_classes=["cp-receipt"], elem_id="persona-found", latex_delimiters=[]
            )
            with gr.Row(elem_classes=["cp-ask-row"], equal_height=True):
                self.format = gr.Dropdown(
                    [(say("travel_" + name), name) for name in ENDINGS],
                    value=next(iter(ENDINGS)),
                    label=label("travel_format"),
                    elem_id="persona-format",
                )
                self.export = gr.Button(
                    label("travel_export"), scale=0, min_width=110, elem_id="persona-export"
                )
            self.left = gr.Markdown(
                "", elem_classes=["cp-receipt"], elem_id="persona-left", latex_delimiters=[]
            )
            self.download = gr.DownloadButton(visible=False, size="sm", elem_id="persona-download")

    @property
    def given(self) -> list[Any]:
        return [self.file, self.name, self.replace]

    @property
    def shown(self) -> list[Any]:
        return [self.file, self.name, self.found]

    def wire_export(self, chosen: gr.Radio, drafts: gr.State, **quiet: Any) -> None:
        """The file is made when it is asked for, and put away when another persona or format is chosen."""
        made = [self.left, self.download]
        self.export.click(guarded(self.send_out), [chosen, self.format, drafts], made, **quiet)
        gr.on(
            [chosen.input, self.format.input],
            lambda: ["", gr.DownloadButton(visible=False)],
            None,
            made,
            **quiet,
        )

    def bring_in(self, file: str | None, name: str, replace: bool) -> list[Any]:
        """Saves the persona of an uploaded file: its name, then values for `shown`.

        Raises CounterpointError with all that is wrong with the file, or where the name is taken.
        """
        if not file:
            raise CounterpointError(say("travel_nothing"))
        arrival = read_file(Path(file), name.strip() or None)
        persona = self.parts.personas.add(arrival.persona, replace)
        inform(say("imported", name=persona.name))
        return [persona.name, None, "", _notes(arrival)]

    def send_out(self, name: str | None, to: str, drafts: dict[str, Persona]) -> list[Any]:
        """The notes and the button for the chosen persona, as it answers now, in a format's file."""
        if not name:
            raise CounterpointError(say("choose_persona"))
        persona = drafts.get(name) or self.parts.personas.get(name)
        # Others' questions stay theirs, where others ask here too.
        kept = to == DATASET and not self.parts.public
        rated, unfit = self.parts.logbook.ratings.to_train_on(name) if kept else ([], 0)
        parcel = write(persona, to, rated=rated, unfit=unfit)
        file = name + ENDINGS[to]
        path = save_bytes_to_cache(parcel.content, file, self.download.GRADIO_CACHE)
        button = gr.DownloadButton(say("travel_download", file=file), value=path, visible=True)
        return [_notes(parcel), button]


def _notes(made: Arrival | Parcel) -> str:
    """What became what, and what did not come along; all of it escaped."""
    parts = [
        markup.listed(say("travel_kept"), made.carried),
        markup.listed(say("travel_left"), made.left),
    ]
    return "\n\n".join(part for part in parts if part)
