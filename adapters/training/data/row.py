"""A row: one conversation to learn from, whatever the file's format was."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from backends.contract import Message

LABELS = ("label", "group")
"""The fields that say what kind of row it is."""


class Turn(BaseModel):
    """One message of a row."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    role: Literal["system", "user", "assistant"]
    content: str = Field(min_length=1)


class Row(BaseModel):
    """One row of a dataset. `checks` are promptfoo's assertions; further keys of plain values are kept and not read
    here."""

    model_config = ConfigDict(extra="allow", frozen=True)

    messages: tuple[Turn, ...] = Field(min_length=2)
    checks: tuple[dict[str, Any], ...] = ()

    @classmethod
    def of(cls, talk: Iterable[Message]) -> Self:
        """A row of these messages."""
        return cls(messages=tuple(Turn(**message) for message in talk))

    @property
    def talk(self) -> list[Message]:
        """All messages, as a chat template takes them."""
        return [{"role": turn.role, "content": turn.content} for turn in self.messages]

    @property
    def question(self) -> list[Message]:
        """The messages before the last answer: what a model is asked."""
        return self.talk[:-1]

    @property
    def answer(self) -> str:
        """The last message: what a right answer looks like."""
        return self.messages[-1].content

    @property
    def labels(self) -> dict[str, str]:
        """What kind of row it is, by each field of LABELS that it has."""
        told = self.model_extra or {}
        return {name: str(told[name]) for name in LABELS if isinstance(told.get(name), str | int | float)}

    @property
    def asked(self) -> str:
        """The question whatever its case and spacing: rows with the same one ask the same."""
        return "\n".join(" ".join(turn.content.casefold().split()) for turn in self.messages[:-1])

    @property
    def answered_places(self) -> list[bytes]:
        """One for each answer of the row, all of which are learned: equal where all that comes before it is, whatever
        its case and spacing."""
        before, places = blake2b(digest_size=16), []
        for turn in self.messages:
            if turn.role == "assistant":
                places.append(before.digest())
            before.update(f"{turn.role}\n{' '.join(turn.content.casefold().split())}\n".encode())
        return places

    @property
    def wordings(self) -> list[str]:
        """What people said before the last answer, and before the first one where that is another; without the system
        message that many rows share."""
        said = [turn for turn in self.messages if turn.role != "system"]
        answers = [place for place, turn in enumerate(said) if turn.role == "assistant"]
        return [
            "\n".join(turn.content for turn in said[:end]) for end in dict.fromkeys((answers[-1], answers[0]))
        ]

    @property
    def answered(self) -> str:
        """The answer whatever its case and spacing."""
        return " ".join(self.answer.casefold().split())


def as_lines(rows: Iterable[Row]) -> str:
    """The rows as a dataset's JSONL."""
    return "".join(row.model_dump_json(exclude_defaults=True) + "\n" for row in rows)
