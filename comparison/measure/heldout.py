"""Held-out scores: the same unseen questions put to the bare base, the prompted one, the adapter, and both.

`python -m comparison.measure.heldout adapters/library/NAME` measures all four with the engine that answers in
the app, and writes them into the adapter's passport.json and README.md.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import durable
from adapters import passport as passports
from adapters.passport import Family, Passport, Score
from adapters.store import AdapterStore
from adapters.training import dataset
from adapters.training.dataset import Row
from adapters.training.recipe import dataset_path
from backends.local.backend import LocalBackend
from backends.local.fetch import cache_folder
from backends.local.protocol import Options
from comparison import intervals
from comparison.checks.check import parse, passes
from comparison.gate.steps import about
from comparison.measure.asking import through_backend
from comparison.modes import FAMILIES, Catalogue, ModeId, job
from errors import CounterpointError
from personas.render import render
from personas.store import PersonaStore

BEGIN, END = "<!-- scores: python -m comparison.measure.heldout -->", "<!-- end of scores -->"


@dataclass(frozen=True, slots=True)
class Measured:
    """What one mode answered, row by row, and which answers passed their checks."""

    answers: list[str]
    passed: list[bool]
    about: list[Hashable]

    def score(self, answered_by: str, persona: str | None = None) -> Score:
        """The share that passed, with its 95 % interval over what the rows are about."""
        found = intervals.share(self.passed, self.about)
        assert found.low is not None
        assert found.high is not None
        return Score(
            passed=sum(self.passed),
            n=found.n,
            share=round(found.value, 4),
            low=round(found.low, 4),
            high=round(found.high, 4),
            answered_by=answered_by,
            persona=persona,
        )


def measure(rows: Sequence[Row], answers: Sequence[str]) -> Measured:
    """Checks one answer a row. Raises CounterpointError for rows without checks, or with unknown ones."""
    unchecked = sum(not row.checks for row in rows)
    if unchecked or not rows:
        raise CounterpointError(f"{unchecked or 'all'} held-out rows have no checks: give each its `checks`.")
    passed = [
        passes(parse(row.checks, "a held-out row"), text) for row, text in zip(rows, answers, strict=True)
    ]
    return Measured(list(answers), passed, about(rows))


def table(scores: Mapping[Family, Score]) -> str:
    """The scores as Markdown."""
    lines = ["| mode | right | of | share | 95 % interval |", "|---|---|---|---|---|"]
    for family in FAMILIES:
        if family in scores:
            one = scores[family]
            name = f"{family} (`{one.persona}`)" if one.persona else family
            lines.append(
                f"| {name} | {one.passed} | {one.n} | {one.share:.0%} | {one.low:.0%} to {one.high:.0%} |"
            )
    return "\n".join(lines)


def write(folder: Path, passport: Passport, scores: Mapping[Family, Score]) -> Passport:
    """Puts the scores into passport.json, and into README.md between its two marks if it has them."""
    updated = passport.model_copy(update={"scores": {**passport.scores, **scores}})
    passports.write(folder, updated)
    readme = folder / "README.md"
    if readme.is_file():
        text = readme.read_text(encoding="utf-8")
        before, begin, rest = text.partition(BEGIN)
        _, end, after = rest.partition(END)
        if begin and end:
            readme.write_text(f"{before}{BEGIN}\n{table(updated.scores)}\n{END}{after}", encoding="utf-8")
    return updated


def score_adapter(
    folder: Path,
    base: str,
    cache: Path,
    families: Iterable[Family] = FAMILIES,
    report: Callable[[Family, Score, Measured], None] = lambda family, score, measured: None,
) -> Passport:
    """Scores the adapter in `folder` with the local engine, in NF4 as the app runs it, and writes the result.

    Every mode samples as it does in the app when nobody says otherwise (seed 0). Raises CounterpointError for
    a folder without passport, or whose held-out rows are no longer those of the passport.
    """
    passport, rows = _measurable(folder)
    nowhere = folder / "no-data-folder"
    adapters = AdapterStore(folder.parent, nowhere, lambda: backend.facts())
    personas = PersonaStore(Path(__file__).parents[2] / "personas" / "library", nowhere)
    modes = Catalogue(personas, adapters)
    counterpart = next(
        (
            entry.name
            for entry in personas.list()
            if entry.persona and not entry.persona.steps and job(entry.name) == job(passport.name)
        ),
        None,
    )
    backend = LocalBackend(Options(base=base, quantization="nf4", dtype="auto", cache=cache), adapters.source)
    try:
        backend.wait()
        for family in families:
            adapter = folder.name if family in ("tuned", "both") else None
            name = counterpart if family in ("prompted", "both") else None
            if family in ("prompted", "both") and name is None:
                continue
            mode = ModeId(adapter, name)
            persona = modes.persona(mode)
            ask = through_backend(backend, modes.sampling(mode, persona), adapter)
            asked = [render(persona, row.question[-1]["content"], row.question[:-1]) for row in rows]
            measured = measure(rows, ask(asked))
            score = measured.score("local engine, nf4", name)
            passport = write(folder, passport, {family: score})
            report(family, score, measured)
    finally:
        backend.close()
    return passport


def _measurable(folder: Path) -> tuple[Passport, list[Row]]:
    passport = passports.read(folder)
    if passport is None:
        raise CounterpointError(
            f"{folder}: there is no passport.json of ours: train it from its recipe first."
        )
    path = dataset_path(folder / "recipe.yaml", passport.recipe.heldout)
    rows = dataset.read(path)
    if durable.sha256(path) != passport.heldout.sha256:
        raise CounterpointError(f"{path} has changed since the adapter was trained: train it again first.")
    return passport, rows


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m comparison.measure.heldout", description=__doc__)
    parser.add_argument("folder", type=Path, help="an adapter's folder with passport.json and recipe.yaml")
    parser.add_argument("--base", default="embedded", help="embedded, a folder, or a Hub id")
    parser.add_argument("--cache", type=Path, default=None, help="where the embedded base is kept")
    parser.add_argument("--mode", action="append", choices=FAMILIES, help="only these (repeat)")
    parser.add_argument(
        "--answers", type=Path, help="write every question, answer and verdict to this JSONL file"
    )
    options = parser.parse_args(arguments)
    lines: list[str] = []

    def report(family: Family, score: Score, measured: Measured) -> None:
        print(
            f"{family}: {score.passed} of {score.n} = {score.share:.1%} ({score.low:.1%} to {score.high:.1%})",
            flush=True,
        )
        for row, text, right in zip(rows, measured.answers, measured.passed, strict=True):
            lines.append(
                json.dumps(
                    {
                        "mode": family,
                        "question": row.question[-1]["content"],
                        "answer": text,
                        "passed": right,
                    },
                    ensure_ascii=False,
                )
            )

    try:
        _, rows = _measurable(options.folder)
        cache = options.cache or cache_folder()
        score_adapter(options.folder.absolute(), options.base, cache, options.mode or FAMILIES, report)
    except CounterpointError as error:
        print(error, file=sys.stderr)
        return 1
    if options.answers:
        options.answers.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
