"""A row as the base reads it, so that a person can see what was understood and what is learned of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from itertools import groupby
from typing import Any, NamedTuple

from adapters.training.data.row import Row
from adapters.training.encoding import NO_LOSS, Refused, encoded
from errors import CounterpointError

SHOWN = 20
"""Rows that are shown: enough to see whether a file was understood."""


class Span(NamedTuple):
    """A part of the rendered row; `trained` says whether its tokens are learned."""

    text: str
    trained: bool
    tokens: int


class Shown(NamedTuple):
    """A row as the base reads it, with the line that it begins on."""

    line: int
    spans: Sequence[Span]


def first(entries: Iterable[tuple[int, Row]], tokenizer: Any, max_length: int) -> list[Shown]:
    """The first SHOWN rows as the base reads them, by their lines; without those that it does not read."""
    seen: list[Shown] = []
    for line, row in entries:
        if len(seen) == SHOWN:
            break
        with suppress(CounterpointError):  # the report says so
            seen.append(Shown(line, preview(row, tokenizer, max_length)))
    return seen


def preview(row: Row, tokenizer: Any, max_length: int) -> list[Span]:
    """The row through the base's chat template, cut where learning begins and ends.

    Raises CounterpointError for a row that is longer than `max_length` tokens or that the template refuses.
    """
    [one] = encoded([row], tokenizer, max_length)
    if isinstance(one, Refused):
        raise CounterpointError(one.why)
    spans = []
    learned = ((label != NO_LOSS, token) for token, label in zip(one.input_ids, one.labels, strict=True))
    for trained, group in groupby(learned, key=lambda each: each[0]):
        ids = [token for _, token in group]
        spans.append(Span(tokenizer.decode(ids, skip_special_tokens=False), trained, len(ids)))
    return spans
