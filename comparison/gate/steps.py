"""What the parts of the gate are to who runs them, and what they share."""

from __future__ import annotations

import re
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
_FEW_ANSWERS = 10
"""So do a handful of longer answers that all rows share: they are labels too."""
_UNSPACED = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff]")
"""Letters of scripts that put no spaces between words: Thai, Lao, Burmese, Khmer, Japanese, Chinese."""


def words(text: str) -> list[str]:
    """What a text is made of: its words, or its characters where it is written without spaces."""
    return list("".join(text.split())) if _UNSPACED.search(text) else text.split()


def about(rows: Sequence[Row]) -> list[Hashable]:
    """What each row is about. Rows with the same answer are phrasings of one question, but those of a label are not."""
    if len({row.answered for row in rows}) < min(_FEW_ANSWERS, len(rows)):
        return list(range(len(rows)))
    return [
        row.answered if len(words(row.answered)) > _LABEL_WORDS else number for number, row in enumerate(rows)
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
