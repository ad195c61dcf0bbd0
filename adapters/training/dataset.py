"""Datasets: rows in, token ids and loss marks out. Everything wrong with a file is told at once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from adapters.training.data import reader
from adapters.training.data.row import Row, Turn
from adapters.training.encoding import NO_LOSS, ChatTokenizer, Encoded, encoded
from errors import CounterpointError

__all__ = ["NO_LOSS", "ChatTokenizer", "Encoded", "Row", "Turn", "encode", "read", "refuse_overlap"]

_SHOWN = 30


def read(path: Path) -> list[Row]:
    """The rows of the file `path`, in any format that data.reader knows.

    Raises CounterpointError with every problem and its line.
    """
    reading = reader.read(path)
    found = sorted(finding for found in reading.findings.problems for finding in found.first)
    if found:
        told = [f"{path.name}{f':{line}' if line else ''}: {text}" for line, text in found]
        raise _all_at_once(told, sum(found.count for found in reading.findings.problems))
    return reading.rows


def refuse_overlap(train: Sequence[Row], heldout: Sequence[Row]) -> None:
    """Raises CounterpointError if a held-out question is also trained on, in any turn: its score would say nothing."""
    learned = {place for row in train for place in row.answered_places}
    shared = [row.question[-1]["content"] for row in heldout if learned.intersection(row.answered_places)]
    if shared:
        raise CounterpointError(
            f"{len(shared)} held-out questions are also in the training rows, take them out of one: "
            + "; ".join(repr(text[:80]) for text in shared[:5])
        )


def encode(rows: Sequence[Row], tokenizer: ChatTokenizer, max_length: int, name: str) -> list[Encoded]:
    """The rows as the base reads them, through its own chat template; loss on the assistant's tokens only.

    Raises CounterpointError naming every row of `name` that is longer than `max_length` tokens or that the
    template refuses.
    """
    kept: list[Encoded] = []
    problems: list[str] = []
    for number, one in enumerate(encoded(rows, tokenizer, max_length), start=1):
        if isinstance(one, Encoded):
            kept.append(one)
        else:
            problems.append(f"{name}: row {number}: {one.why}")
    if problems:
        raise _all_at_once(problems, len(problems))
    return kept


def _all_at_once(problems: Sequence[str], count: int) -> CounterpointError:
    more = f"; and {count - _SHOWN} more" if count > _SHOWN else ""
    return CounterpointError("; ".join(problems[:_SHOWN]) + more)
