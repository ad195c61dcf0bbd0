"""A persona's examples as rows to train on: a dataset to start from, one chat a line."""

from __future__ import annotations

import json

from errors import CounterpointError
from personas.render import filled, variable_values
from personas.schema import Persona
from personas.travel.parcel import Parcel, names


def write(persona: Persona) -> Parcel:
    """One row an example, its variables filled with their defaults; no row has the persona's prompt, since an adapter
    is to answer so without it.

    Raises CounterpointError for a persona without examples.
    """
    if not persona.examples:
        raise CounterpointError(f"{persona.name} has no examples to make rows of: give it some.")
    values = variable_values(persona)
    lines = []
    for example in persona.examples:
        said = (("user", example.user), ("assistant", example.assistant))
        messages = [{"role": role, "content": filled(text, values)} for role, text in said]
        lines.append(json.dumps({"messages": messages}, ensure_ascii=False) + "\n")
    told = ["role", "instructions", "context", "constraints", "style", "greeting"]
    unsaid = [name for name in told if getattr(persona, name)]
    return Parcel("".join(lines).encode(), (f"{names(unsaid)}: answers have to show it",))
