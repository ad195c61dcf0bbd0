"""The components of a persona's form, and the updates that fill them."""

from __future__ import annotations

from typing import Any

import gradio as gr

from personas.schema import Persona
from ui import persona_form
from ui.words import label, say

_TALL = {"role": 2, "instructions": 4, "context": 8, "constraints": 3, "style": 2, "description": 2}


def field(name: str) -> Any:
    if name == "examples":
        return gr.Dataframe(
            headers=[say("example_question"), say("example_answer")],
            datatype="str",
            type="array",
            column_count=2,
            interactive=True,
            wrap=True,
            label=label("field_examples"),
            elem_id="persona-examples",
        )
    return gr.Textbox(
        label=label("field_" + name),
        lines=_TALL.get(name, 1),
        max_lines=16,
        max_length=64_000,
        elem_id=f"persona-{name}",
    )


def values(persona: Persona | None, text: str) -> list[Any]:
    """Updates for the form: the persona's fields, or those of its file as it is written. Where that says none the
    form is empty and closed: what another persona had must not stand there, to be saved as this one's."""
    given = persona_form.to_fields(persona) if persona else persona_form.as_written(text)
    if given is None:
        return [
            gr.update(value=[] if name == "examples" else "", interactive=False)
            for name in persona_form.FIELDS
        ]
    return [gr.update(value=value, interactive=True) for value in given]
