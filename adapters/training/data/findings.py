"""What is found in a file: a count of every kind, and the first lines of each. Never more than can be read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

KEPT = 1000
"""Findings of one kind and one file that are kept with their lines; all are counted."""

Name = Literal[
    "unreadable", "too-large", "empty", "bad-text", "bad-json", "bad-table", "unknown-format", "missing-turn",
    "role-order", "bad-field", "template", "too-long", "bad-checks", "heldout-overlap", "mixed-formats", "unknown-fields",
    "exact-duplicates", "near-duplicates", "near-heldout-overlap", "contradictions", "imbalance", "long-rows",
]  # fmt: skip


class Kind(NamedTuple):
    """One thing that can be found. `is_problem`: training refuses it; otherwise it is worth knowing."""

    is_problem: bool
    title: str
    mend: str


KINDS: dict[Name, Kind] = {
    "unreadable": Kind(True, "not a text file", "save it as UTF-8 text: JSONL, or CSV"),
    "too-large": Kind(True, "more than is read", "split it, or take the largest out"),
    "empty": Kind(True, "no rows", "give at least one row"),
    "bad-text": Kind(True, "not text", "save the file as UTF-8, without control characters"),
    "bad-json": Kind(True, "not JSON", "write one JSON object a line"),
    "bad-table": Kind(True, "not a row of the table", "as many cells as the header, and closed quotation marks"),
    "unknown-format": Kind(True, "no known format", "use messages, or prompt and completion"),
    "missing-turn": Kind(True, "a turn is missing or empty", "give each row a question and an answer, or take it out"),
    "role-order": Kind(True, "roles in a wrong order", "let them go (system,) user, assistant, …, assistant"),
    "bad-field": Kind(True, "a field that is no text, or that would be lost", "make it text, or take it out"),
    "template": Kind(True, "the base's chat template refuses it", "mend the row, or take it out"),
    "too-long": Kind(True, "longer than max_length", "shorten these rows, or take them out: nothing is cut silently"),
    "bad-checks": Kind(True, "checks that cannot be made", "mend them, or take them out"),
    "heldout-overlap": Kind(True, "held-out questions that are trained on", "take them out of one of the files"),
    "mixed-formats": Kind(False, "rows of another format", "nothing, unless two files were joined by mistake"),
    "unknown-fields": Kind(False, "fields that are not used", "nothing, unless training should have seen them"),
    "exact-duplicates": Kind(False, "exact duplicates", "take the repeated rows out: they count twice"),
    "near-duplicates": Kind(False, "near duplicates", "keep the best of each, unless they are meant as paraphrases"),
    "near-heldout-overlap": Kind(False, "held-out questions nearly trained on", "take them out of one of the files"),
    "contradictions": Kind(False, "the same question with another answer", "keep one answer, unless several are right"),
    "imbalance": Kind(False, "labels out of balance", "balance them: add rows of the rare, or take out of the common"),
    "long-rows": Kind(False, "longer than a recipe takes unless told", "set max_length in the recipe"),
}  # fmt: skip
"""Every kind of finding, in the order in which they are told."""


class Finding(NamedTuple):
    """`line` is where in the file it is, from 1; 0 means the file as a whole. `text` is one line."""

    line: int
    text: str


@dataclass(slots=True)
class Found:
    """All of one kind in one file: how many, and the first KEPT of them."""

    kind: Name
    file: str
    count: int = 0
    first: list[Finding] = field(default_factory=list)

    @property
    def is_problem(self) -> bool:
        return KINDS[self.kind].is_problem

    @property
    def mend(self) -> str:
        return KINDS[self.kind].mend


class Findings:
    """What was found in the file `file`."""

    def __init__(self, file: str) -> None:
        self.file = file
        self._found: dict[Name, Found] = {}

    def add(self, kind: Name, line: int, text: str) -> None:
        found = self._found.setdefault(kind, Found(kind, self.file))
        found.count += 1
        if len(found.first) < KEPT:
            found.first.append(Finding(line, text))

    def __iter__(self) -> Iterator[Found]:
        """In the order of KINDS."""
        return (self._found[kind] for kind in KINDS if kind in self._found)

    @property
    def problems(self) -> list[Found]:
        """What training refuses."""
        return [found for found in self if found.is_problem]

    @property
    def notes(self) -> list[Found]:
        """What is worth knowing."""
        return [found for found in self if not found.is_problem]
