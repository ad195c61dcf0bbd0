"""From a person's file to a run that can begin: checked, split, and with a recipe of its own."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from adapters.training.data.check import Report, check
from adapters.training.data.preview import Span, preview
from adapters.training.data.row import Row
from adapters.training.data.split import split
from adapters.training.marks import Marks
from adapters.training.presets import Preset
from adapters.training.recipe import Recipe, RecommendedSampling
from backends import pretrained
from backends.contract import BaseFacts
from errors import CounterpointError

HELDOUT_SHARE = 0.15
_FEW_HELDOUT, _MOST_HELDOUT = 6, 200
"""Fewer held-out rows would tell little in the test, so small files give up to 30 % of theirs; more would make every
look slow, and the loss no surer that matters."""
_MOST_SHARE = 0.3
_FEWEST_HELDOUT = 3
"""Of fewer no interval can be told, so no adapter could pass."""
_ANSWER_TOKENS = 128
_MOST_TITLE = 200


class Shown(NamedTuple):
    """A row as the base reads it, with the line that it begins on."""

    line: int
    spans: Sequence[Span]


@dataclass(frozen=True, slots=True)
class Prepared:
    """A file that was checked for a base: the report, its sound rows, and the first of them as the base reads them."""

    report: Report
    rows: Sequence[Row]
    shown: Sequence[Shown]


def prepare(file: Path, base: BaseFacts, shown: int = 3) -> Prepared:
    """Checks `file` for `base`. Raises CounterpointError where it cannot be read, or the base has no tokenizer."""
    tokenizer = pretrained.tokenizer(base.folder)
    most = int(Recipe.model_fields["max_length"].default)
    context = min(pretrained.context_of(base.folder) or most, most)
    report = check(file, tokenizer, context, max_length=most)
    entries = report.data.reading.entries
    seen: list[Shown] = []
    for line, row in entries:
        if len(seen) == shown:
            break
        try:
            seen.append(Shown(line, preview(row, tokenizer, context)))
        except CounterpointError:
            continue  # the report says so already
    return Prepared(report, [row for _, row in entries], seen)


class Job(NamedTuple):
    """What a run begins with."""

    recipe: Recipe
    train: Sequence[Row]
    heldout: Sequence[Row]


def job(
    prepared: Prepared,
    base: BaseFacts,
    quantization: Literal["nf4", "none"],
    title: str,
    preset: Preset,
    persona: str | None = None,
    seed: int = 0,
) -> Job:
    """A run of the prepared rows, with part of them held out, tested beside `persona` if one is named. Raises
    CounterpointError for rows that training would refuse, and where they are too few to hold any out."""
    if prepared.report.problems:
        raise CounterpointError("The file has problems that training refuses: mend them and upload it again.")
    if not title.strip():
        raise CounterpointError("The adapter has no title: give it one.")
    if len(title.strip()) > _MOST_TITLE:
        raise CounterpointError(f"The title is longer than {_MOST_TITLE} characters: shorten it.")
    rows = prepared.rows
    count = max(1, len(rows))
    share = min(_MOST_SHARE, max(HELDOUT_SHARE, _FEW_HELDOUT / count), _MOST_HELDOUT / count)
    sides = split(rows, share, seed)
    train, heldout = ([rows[place] for place in places] for places in sides)
    if len(heldout) < _FEWEST_HELDOUT:
        raise CounterpointError(
            f"{len(heldout)} of {len(rows)} rows can be held out, and the test after training needs {_FEWEST_HELDOUT}: "
            "give more rows that ask different things."
        )
    values: dict[str, Any] = {
        "preset": preset,
        "name": named(title),
        "title": title.strip(),
        "description": f"Trained on {len(train):,} rows of {prepared.report.data.reading.file}."[:2000],
        "examples": _examples(heldout, rows),
        "sampling": RecommendedSampling(max_tokens=_ANSWER_TOKENS),
        "base": base.id,
        "quantization": quantization,
        "seed": seed,
        "gate": Marks(persona=persona),
        "train": "train.jsonl",
        "heldout": "heldout.jsonl",
    }
    return Job(Recipe.model_validate(values), train, heldout)


def named(title: str) -> str:
    """A name made of a title: small letters, digits and hyphens."""
    name = re.sub(r"[^a-z0-9]+", "-", title.casefold()).strip("-")[:64].rstrip("-")
    if not name:
        raise CounterpointError(
            f"No name can be made of the title {title!r}: use letters from a to z, or digits."
        )
    return name


def _examples(heldout: Sequence[Row], rows: Sequence[Row]) -> tuple[str, ...]:
    """Three questions to try it with: held-out ones first."""
    asked = dict.fromkeys(row.question[-1]["content"][:500] for row in (*heldout, *rows))
    first = list(asked)[:3]
    return tuple(first + first[-1:] * (3 - len(first)))
