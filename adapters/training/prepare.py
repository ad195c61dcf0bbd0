"""From a person's file to a run that can begin: checked, split, and with a recipe of its own."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

from pydantic import ValidationError

from adapters.training.data.check import Report, WrongWith, check
from adapters.training.data.preview import Shown, first
from adapters.training.data.row import Row
from adapters.training.data.split import split
from adapters.training.marks import Marks
from adapters.training.presets import Preset
from adapters.training.recipe import Recipe, RecommendedSampling
from backends import pretrained
from backends.contract import BaseFacts
from errors import CounterpointError
from strict_yaml import dotted, friendly, joined

HELDOUT_SHARE = 0.15
_FEW_HELDOUT, _MOST_HELDOUT = 6, 200
"""Fewer held-out rows would tell little in the test, so small files give up to 30 % of theirs; more would make every
look slow, and the loss no surer that matters."""
_MOST_SHARE = 0.3
_FEWEST_HELDOUT = 3
"""Of fewer no interval can be told, so no adapter could pass."""
_ANSWER_TOKENS = 128
MOST_TOKENS = 131_072
"""The longest row in tokens for a base that does not say how much it reads at once: the most that a recipe takes."""
SETTINGS = ("passes", "learning_rate", "rank", "batch_size", "accumulation", "max_length", "seed")
"""Fields of a recipe that a person may set beside the preset."""
_MOST_TITLE = 200


@dataclass(frozen=True, slots=True)
class Prepared:
    """A file that was checked for a base: the report, its sound rows, and the first of them as the base reads them."""

    report: Report
    rows: Sequence[Row]
    shown: Sequence[Shown]
    too_few: str | None = None
    """Why so few rows, or so like each other, cannot be trained and tested, in one line."""


def prepare(file: Path, base: BaseFacts, wrong_with: WrongWith = lambda checks: None) -> Prepared:
    """Checks `file` for `base`; `wrong_with` says why a row's checks cannot be made, if so. Raises CounterpointError
    where it cannot be read, or the base has no tokenizer."""
    tokenizer = pretrained.tokenizer(base.folder)
    context = min(pretrained.context_of(base.folder) or MOST_TOKENS, MOST_TOKENS)
    report = check(file, tokenizer, context, max_length=context, wrong_with=wrong_with)
    entries = report.data.reading.entries
    rows = [row for _, row in entries]
    return Prepared(report, rows, first(entries, tokenizer, context), _too_few(rows) if rows else None)


def _too_few(rows: Sequence[Row]) -> str | None:
    """Why the test after training would have too few rows, if it had."""
    try:
        held = len(split(rows, heldout_share(len(rows)), 0).heldout)
    except CounterpointError:
        held = 0
    if held >= _FEWEST_HELDOUT:
        return None
    return (
        f"of {len(rows)} {'row' if len(rows) == 1 else 'rows'} {held} can be held out, and the test after training needs "
        f"{_FEWEST_HELDOUT}: give more rows that ask different things."
    )


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
    settings: Mapping[str, float] = MappingProxyType({}),
) -> Job:
    """A run of the prepared rows, with part of them held out, tested beside `persona` if one is named; `settings` are
    fields of SETTINGS, in place of the preset's.

    Raises CounterpointError for rows that training would refuse, where they are too few to hold any out, and for
    settings that a recipe does not take.
    """
    if prepared.report.problems:
        raise CounterpointError("The file has problems that training refuses: mend them and upload it again.")
    if not title.strip():
        raise CounterpointError("The adapter has no title: give it one.")
    if len(title.strip()) > _MOST_TITLE:
        raise CounterpointError(f"The title is longer than {_MOST_TITLE} characters: shorten it.")
    rows = prepared.rows
    if prepared.too_few:
        raise CounterpointError(prepared.too_few)
    chosen = {name: int(value) if float(value).is_integer() else value for name, value in settings.items()}
    sides = split(rows, heldout_share(len(rows)), int(chosen.get("seed", 0)))
    train, heldout = ([rows[place] for place in places] for places in sides)
    values: dict[str, Any] = {
        "preset": preset,
        "name": named(title),
        "title": title.strip(),
        "description": f"Trained on {len(train):,} rows of {prepared.report.data.reading.file}."[:2000],
        "examples": _examples(heldout, rows),
        "sampling": RecommendedSampling(max_tokens=_ANSWER_TOKENS),
        "base": base.id,
        "quantization": quantization,
        "gate": Marks(persona=persona),
        "train": "train.jsonl",
        "heldout": "heldout.jsonl",
        "max_length": _longest(prepared.report),
    }
    if "rank" in chosen:
        values["alpha"] = 2 * chosen["rank"]  # as the presets have it
    try:
        return Job(Recipe.model_validate(values | chosen), train, heldout)
    except ValidationError as error:
        # Alpha follows from the rank: nobody has set it.
        wrong = [one for one in error.errors(include_url=False) if one["loc"] != ("alpha",)]
        told = [f"{dotted(one['loc'])}: {friendly(one)}" for one in wrong]
        raise CounterpointError(joined(told)) from None


def heldout_share(rows: int) -> float:
    """The share of so many rows that is held out where nobody says one."""
    rows = max(1, rows)
    return min(_MOST_SHARE, max(HELDOUT_SHARE, _FEW_HELDOUT / rows), _MOST_HELDOUT / rows)


def named(title: str) -> str:
    """A name made of a title: small letters without their accents, digits and hyphens."""
    parts = unicodedata.normalize("NFKD", title)
    plain = "".join(sign for sign in parts if not unicodedata.combining(sign)).casefold()
    name = re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:64].rstrip("-")
    if not name:
        raise CounterpointError(
            f"No name can be made of the title {title!r}: use letters from a to z, or digits."
        )
    return name


def _longest(report: Report) -> int:
    """The recipe's max_length for these rows: its own, or the longest row's length."""
    usual = int(Recipe.model_fields["max_length"].default)
    return max(usual, report.data.lengths.max) if report.data.lengths else usual


def _examples(heldout: Sequence[Row], rows: Sequence[Row]) -> tuple[str, ...]:
    """Three questions to try it with: held-out ones first."""
    asked = dict.fromkeys(row.question[-1]["content"][:500] for row in (*heldout, *rows))
    first = list(asked)[:3]
    return tuple(first + first[-1:] * (3 - len(first)))
