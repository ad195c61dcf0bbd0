"""What the parts of the gate are to who runs them, and what they share."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

from adapters.training.data.row import Row
from adapters.verdict import Finding, Part
from backends.contract import Message
from personas.render import render
from personas.schema import Persona


@dataclass(frozen=True, slots=True)
class Omitted:
    """Why a part cannot be measured."""

    why: str


Step = tuple[Part, Callable[[], Finding | Omitted]]
"""A part, and what measures it."""


_LABEL_WORDS = 3
"""Answers of so few words may be those of quite different questions: yes, no, refund."""


def about(rows: Sequence[Row]) -> list[Hashable]:
    """What each row is about. Rows with the same answer are phrasings of one question, but those of a label are not."""
    return [
        row.answered if len(row.answered.split()) > _LABEL_WORDS else number
        for number, row in enumerate(rows)
    ]


def asked(persona: Persona | None, row: Row) -> list[Message]:
    """The row's question as the persona asks it, whose system message then stands for the row's own."""
    *before, question = row.question
    if persona:
        before = [message for message in before if message["role"] != "system"]
    return render(persona, question["content"], before)


def asked_as(persona: Persona | None, row: Row) -> list[Message]:
    """The same with the right answer."""
    return [*asked(persona, row), row.talk[-1]]
