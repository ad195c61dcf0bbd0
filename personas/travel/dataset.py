"""A persona's examples, and answers that people found good, as rows to train on: a dataset to start from."""

from __future__ import annotations

import json
from collections.abc import Sequence

from backends.contract import Message
from errors import CounterpointError
from personas.render import filled, variable_values
from personas.schema import Persona
from personas.travel.parcel import Parcel, names


def write(persona: Persona, rated: Sequence[Sequence[Message]] = (), unfit: int = 0) -> Parcel:
    """One row an example, its variables filled with their defaults, and one each of `rated`: chats that end with an
    answer of the persona's. No row has the persona's prompt, since an adapter is to answer so without it, and none is
    there twice. `unfit` answers were rated good as well, but are none to train on.

    Raises CounterpointError where there is nothing to make rows of.
    """
    if not (persona.examples or rated):
        raise CounterpointError(
            f"{persona.name} has no examples to make rows of, and no answer of it is rated good: give it some."
        )
    values = variable_values(persona)
    examples: list[Sequence[Message]] = [
        (
            {"role": "user", "content": filled(example.user, values)},
            {"role": "assistant", "content": filled(example.assistant, values)},
        )
        for example in persona.examples
    ]
    rows = dict.fromkeys(
        json.dumps({"messages": chat}, ensure_ascii=False) + "\n" for chat in (*examples, *rated)
    )
    told = ["role", "instructions", "context", "constraints", "style", "greeting", "steps"]
    unsaid = [name for name in told if getattr(persona, name)]
    sources = (("examples", len(examples)), ("answers rated good", len(rated)))
    left = [f"{names(unsaid)}: answers have to show it"] if unsaid else []
    if unfit:
        left.append(f"answers rated good ({unfit}): cut off, or after one that is not rated good")
    return Parcel(
        "".join(rows).encode(),
        tuple(left),
        tuple(f"{what} ({count})" for what, count in sources if count),
    )
