"""The test after training: base, prompted counterpart and adapter on held-out rows.

What an answer's likelihood tells is read from the model as it was trained (losses.py); what needs answers is asked
of the engine that will give them in the app (answers.py).
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from adapters.training.data.row import Row
from adapters.training.encoding import Refused, encoded
from adapters.training.lora import as_saved
from adapters.training.progress import Examining
from adapters.training.run import Trained
from adapters.validator import inspect
from adapters.verdict import PARTS, Finding, Gate, Part
from backends import pretrained
from backends.contract import AdapterSource, BaseFacts
from backends.local.backend import LocalBackend
from backends.local.protocol import Options
from comparison.checks.check import wrong_with
from comparison.gate.answers import Asked
from comparison.gate.losses import Losses
from comparison.gate.steps import Omitted, Step, asked_as
from errors import CounterpointError
from personas.schema import Persona
from strict_yaml import joined


def refuse(persona: Persona | None, rows: Sequence[Row], facts: BaseFacts) -> None:
    """Raises CounterpointError for what could not be measured of held-out `rows`, before anything is trained: a check
    that cannot be made, a persona that answers in steps, or that the base cannot read with each row's question and
    right answer."""
    problems = [
        f"held-out row {number}: {wrong}"
        for number, row in enumerate(rows, start=1)
        if row.checks and (wrong := wrong_with(row.checks))
    ]
    if problems:
        raise CounterpointError(f"gate: {joined(problems)}.")
    if persona is None:
        return
    if persona.steps:
        raise CounterpointError(
            f"gate: the persona {persona.name} answers in steps, and how likely a right answer is, is asked of one prompt: "
            "choose another persona, or none."
        )
    context = pretrained.context_of(facts.folder)
    if context is None:
        return
    talks = (asked_as(persona, row) for row in rows)
    read = encoded(map(Row.of, talks), pretrained.tokenizer(facts.folder), context)
    refused = next((one for one in read if isinstance(one, Refused)), None)
    if refused:
        raise CounterpointError(
            f"gate: the base, which reads {context:,} tokens at once, can't read the persona {persona.name} with each "
            f"held-out row ({refused.why}): choose another persona, or none."
        )


def examine(
    trained: Trained,
    facts: BaseFacts,
    cache: Path,
    persona: Persona | None,
    report: Callable[[Examining], None] = lambda progress: None,
) -> Gate:
    """Measures an adapter that was just trained, and holds it against the marks of its recipe.

    `facts` are the base's, `cache` is where fetched bases lie, `persona` is the prompted counterpart if there is
    one. Of each dataset at most `gate.rows` rows are measured, drawn by the recipe's seed: files are often sorted.
    `report` is called before each part, and as answers come. Raises CounterpointError or WorkFailed where the engine
    that is asked cannot answer.
    """
    began = time.monotonic()
    draw, most = random.Random(trained.recipe.seed), trained.recipe.gate.rows
    train, heldout = (
        draw.sample(list(rows), min(most, len(rows))) for rows in (trained.train, trained.heldout)
    )
    answers = {row.answered for row in trained.train}
    trained = replace(trained, train=train, heldout=heldout)
    found: list[Finding] = []
    omitted: dict[Part, str] = {}

    now: Part = PARTS[0]

    def told(seconds_left: float | None = None) -> None:
        report(Examining(now, len(found) + len(omitted), len(PARTS), seconds_left))

    def measure(steps: Iterator[Step]) -> None:
        nonlocal now
        for part, step in steps:
            now = part
            told()
            outcome = step()
            if isinstance(outcome, Omitted):
                omitted[part] = outcome.why
            else:
                found.append(outcome)

    with as_saved(trained.model):
        measure(Losses(trained, persona, answers).steps())
    with closing(_engine(trained, facts, cache)) as engine:
        engine.wait()
        measure(Asked(trained, persona, engine, told).steps())
    return Gate(
        persona=persona.name if persona else None,
        persona_sha256=persona.sha256 if persona else None,
        findings=tuple(sorted(found, key=lambda one: PARTS.index(one.part))),
        omitted=omitted,
        seconds=round(time.monotonic() - began, 1),
    )


def _engine(trained: Trained, facts: BaseFacts, cache: Path) -> LocalBackend:
    """The app's own engine, with the adapter as it was written."""
    found = inspect(trained.folder, facts, name=trained.recipe.name)
    source = found.source
    if source is None:
        raise CounterpointError(f"what was trained can't be used: {' '.join(found.problems)}")

    def resolve(name: str) -> AdapterSource:
        return source

    options = Options(str(facts.folder), trained.recipe.quantization, "auto", cache)
    return LocalBackend(options, resolve)
