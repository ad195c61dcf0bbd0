"""Checks a dataset for a base: one report says everything, what training refuses and what is worth knowing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from adapters.training.data import reader
from adapters.training.data.duplicates import near_pairs
from adapters.training.data.findings import Found, Name
from adapters.training.data.lengths import Lengths, Measured, measure
from adapters.training.data.reader import Reading
from adapters.training.data.row import LABELS
from adapters.training.encoding import ChatTokenizer
from adapters.training.recipe import Recipe
from strict_json import show

UNBALANCED = 3
"""Labels are out of balance where the commonest has more than so many times the rows of the rarest."""

WrongWith = Callable[[Sequence[Mapping[str, Any]]], str | None]

_RECIPE_LENGTH = int(Recipe.model_fields["max_length"].default)
_MOST_LABELS = 100
"""With more, a field names rows rather than kinds of them."""


@dataclass(slots=True)
class Part:
    """One file of a report: what was understood of it, its lengths, and the rows of each label by its field."""

    reading: Reading
    lengths: Lengths | None = None
    labels: dict[str, dict[str, int]] = field(default_factory=dict)


@dataclass(slots=True)
class Report:
    """What there is to say of a dataset, and of its held-out rows if they were given.

    `max_length` is the most tokens that a row may have: what was asked for, or what the base reads at once.
    """

    data: Part
    heldout: Part | None
    max_length: int

    @property
    def parts(self) -> list[Part]:
        return [self.data, self.heldout] if self.heldout else [self.data]

    @property
    def problems(self) -> list[Found]:
        """What training refuses."""
        return [found for part in self.parts for found in part.reading.findings.problems]

    @property
    def notes(self) -> list[Found]:
        """What is worth knowing."""
        return [found for part in self.parts for found in part.reading.findings.notes]


def check(
    file: Path,
    tokenizer: ChatTokenizer,
    context: int,
    heldout: Path | None = None,
    max_length: int | None = None,
    wrong_with: WrongWith = lambda checks: None,
) -> Report:
    """Reads the files and checks them, for a base with `tokenizer` that reads `context` tokens at once.

    `max_length` is the recipe's, if it is known yet; `wrong_with` says why the checks of a row cannot be made, if so.
    Raises CounterpointError where a file cannot be read.
    """
    limit = min(context, max_length or context)
    readings = [reader.read(path) for path in (file, heldout) if path]
    parts = []
    for reading in readings:
        _repeated(reading)
        for line, row in reading.entries:
            if row.checks and (wrong := wrong_with(row.checks)):
                reading.findings.add("bad-checks", line, wrong)
        measured = measure(reading.entries, tokenizer, limit, reading.findings)
        if max_length is None:
            _long(reading, measured, limit)
        parts.append(Part(reading, measured.lengths, _labels(reading)))
    _overlap(readings)
    _near(readings)
    return Report(parts[0], parts[1] if heldout else None, limit)


def _repeated(reading: Reading) -> None:
    """Rows that say what another one says, and those that answer the same question otherwise."""
    answers: dict[str, dict[str, int]] = {}
    for line, row in reading.entries:
        known = answers.setdefault(row.asked, {})
        first = known.setdefault(row.answered, line)
        if first != line:
            reading.findings.add("exact-duplicates", line, f"the same as line {first}")
    for asked, known in answers.items():
        if len(known) > 1:
            first, *others = known.values()
            told = ", ".join(map(str, others[:5])) + (", …" if len(others) > 5 else "")
            where = "line" if len(others) == 1 else "lines"
            reading.findings.add(
                "contradictions", first, f"{where} {told}: another answer to {show(asked, 60)}"
            )


def _long(reading: Reading, measured: Measured, limit: int) -> None:
    """Rows that the base can read, but a recipe takes only if its max_length is raised."""
    longer = [(tokens, line) for line, tokens in measured.tokens if _RECIPE_LENGTH < tokens <= limit]
    if longer:
        tokens, line = max(longer)
        reading.findings.add(
            "long-rows",
            line,
            f"{len(longer):,} {'row has' if len(longer) == 1 else 'rows have'} more than the {_RECIPE_LENGTH} tokens "
            f"that a recipe takes unless it says max_length, this one {tokens:,}",
        )


def _labels(reading: Reading) -> dict[str, dict[str, int]]:
    """The rows of each label, the commonest first, and a finding where they are out of balance."""
    counted: dict[str, dict[str, int]] = {}
    labels = [row.labels for row in reading.rows]
    for name in LABELS:
        counts = Counter(of_row[name] for of_row in labels if name in of_row)
        if not 1 < len(counts) <= min(_MOST_LABELS, len(labels) // 2):
            continue
        ranked = counts.most_common()
        counted[name] = dict(ranked)
        (_, most), (_, least) = ranked[0], ranked[-1]
        if most > UNBALANCED * least:
            told = ", ".join(f"{show(label, 30)} {count:,}" for label, count in _ends(ranked))
            without = len(labels) - counts.total()
            reading.findings.add(
                "imbalance",
                0,
                f"{name}: {told}: the commonest has {most / least:.1f} times the rows of the rarest"
                + (f"; {without:,} {'row has' if without == 1 else 'rows have'} none" if without else ""),
            )
    return counted


def _ends(ranked: list[tuple[str, int]]) -> list[tuple[str, int]]:
    return ranked if len(ranked) <= 8 else ranked[:4] + ranked[-4:]


def _overlap(readings: Sequence[Reading]) -> None:
    """Held-out questions that are also trained on, in any turn, whatever their case and spacing."""
    if len(readings) < 2:
        return
    data, heldout = readings
    trained: dict[bytes, int] = {}
    for line, row in data.entries:
        for place in row.answered_places:
            trained.setdefault(place, line)
    for line, row in heldout.entries:
        shared = next((trained[place] for place in row.answered_places if place in trained), None)
        if shared is not None:
            heldout.findings.add("heldout-overlap", line, f"asked in {data.file}:{shared} too")


def _near(readings: Sequence[Reading]) -> None:
    """Near duplicates among questions that differ: within each file, and of held-out ones with those trained on."""
    where: list[tuple[Reading, int]] = []
    wordings: list[str] = []
    seen: set[str] = set()
    known = 0
    for reading in readings:
        known = len(wordings)
        for line, row in reading.entries:
            if row.asked not in seen:
                seen.add(row.asked)
                for wording in row.wordings:
                    where.append((reading, line))
                    wordings.append(wording)
    told: set[tuple[Name, int]] = set()
    pairs = near_pairs(wordings, known)
    best_first = sorted(pairs, key=lambda pair: (pair.second, -pair.resemblance))
    for first, second, resemblance in best_first:
        (reading, line), (other, other_line) = where[second], where[first]
        kind: Name = "near-duplicates" if other is reading else "near-heldout-overlap"
        own = other is reading and other_line == line  # a talk's beginning and the whole of it
        if own or (kind, line) in told:
            continue
        told.add((kind, line))
        place = f"line {other_line}" if other is reading else f"{other.file}:{other_line}"
        reading.findings.add(kind, line, f"{resemblance:.0%} like {place}")
