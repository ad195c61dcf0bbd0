"""How long rows are for a base, in its own tokens and through its own chat template."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from adapters.training.data.findings import Findings
from adapters.training.data.reader import Entry
from adapters.training.encoding import ChatTokenizer, Encoded, encoded

_BINS = 20
"""The most bars of a histogram."""


class Bin(NamedTuple):
    """How many rows have from `least` to `most` tokens, both included."""

    least: int
    most: int
    rows: int


@dataclass(frozen=True, slots=True)
class Lengths:
    """Tokens of rows, prompts and answers together; `trained` are those that are learned, of the rows that fit.

    Median and 95th percentile are lengths of rows that there are (nearest rank).
    """

    rows: int
    min: int
    median: int
    p95: int
    max: int
    total: int
    trained: int
    histogram: tuple[Bin, ...]


class Measured(NamedTuple):
    """The lengths of all rows that could be measured, and the line of each beside its tokens."""

    lengths: Lengths | None
    tokens: list[tuple[int, int]]


def measure(
    entries: Sequence[Entry], tokenizer: ChatTokenizer, max_length: int, findings: Findings
) -> Measured:
    """Measures every row; those that are too long, or that the template refuses, are added to `findings`."""
    tokens: list[tuple[int, int]] = []
    trained = 0
    rows = (entry.row for entry in entries)
    for (line, _row), one in zip(entries, encoded(rows, tokenizer, max_length), strict=True):
        if isinstance(one, Encoded):
            tokens.append((line, len(one.input_ids)))
            trained += one.trained
            continue
        findings.add("template" if one.tokens is None else "too-long", line, one.why)
        if one.tokens is not None:
            tokens.append((line, one.tokens))
    return Measured(_lengths([length for _line, length in tokens], trained), tokens)


def _lengths(tokens: list[int], trained: int) -> Lengths | None:
    if not tokens:
        return None
    tokens.sort()
    last = len(tokens) - 1
    return Lengths(
        rows=len(tokens),
        min=tokens[0],
        median=tokens[last // 2],
        p95=tokens[-(-last * 95 // 100)],
        max=tokens[-1],
        total=sum(tokens),
        trained=trained,
        histogram=_histogram(tokens),
    )


def _histogram(tokens: Sequence[int]) -> tuple[Bin, ...]:
    """Bars of one round width, from the shortest to the longest, empty ones between them too."""
    width = next(
        step * 10**power
        for power in range(20)
        for step in (1, 2, 5)
        if tokens[-1] // (step * 10**power) - tokens[0] // (step * 10**power) < _BINS
    )
    first = tokens[0] // width
    counts = [0] * (tokens[-1] // width - first + 1)
    for length in tokens:
        counts[length // width - first] += 1
    return tuple(
        Bin((first + place) * width, (first + place + 1) * width - 1, count)
        for place, count in enumerate(counts)
    )
