"""A row as the base reads it, so that a person can see what was understood and what is learned of it."""

from __future__ import annotations

from itertools import groupby
from typing import Any, NamedTuple

from adapters.training.data.row import Row
from adapters.training.encoding import NO_LOSS, Refused, encoded
from errors import CounterpointError


class Span(NamedTuple):
    """A part of the rendered row; `trained` says whether its tokens are learned."""

    text: str
    trained: bool
    tokens: int


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
