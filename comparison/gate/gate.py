"""The test after training: base, prompted counterpart and adapter on rows that training never saw.

What an answer's likelihood tells is read from the model as it was trained (losses.py); what needs answers is asked
of the engine that will give them in the app (answers.py).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path

from adapters.inspection import Inspection
from adapters.training.data.row import Row
from adapters.training.encoding import Refused, encoded
from adapters.training.progress import Examining
from adapters.training.run import Trained
from adapters.validator import inspect
from adapters.verdict import PARTS, Finding, Gate, Part
from backends import pretrained
from backends.contract import AdapterSource, BaseFacts
from backends.local.backend import LocalBackend
from backends.local.protocol import Options
from comparison.gate.answers import Asked
from comparison.gate.likelihood import as_saved
from comparison.gate.losses import Losses
from comparison.gate.steps import Omitted, Step, asked_as
from errors import CounterpointError
from personas.schema import Persona


def refuse_persona(persona: Persona, rows: Sequence[Row], facts: BaseFacts) -> None:
    """Raises CounterpointError where the base cannot read the persona with each row's question and right answer: told
    before training, since it could not be measured afterwards."""
    context = pretrained.context_of(facts.folder)
    if context is None:
        return
    talks = (asked_as(persona, row) for row in rows)
    read = encoded(map(Row.of, talks), pretrained.tokenizer(facts.folder), context)
    refused = next((one for one in read if isinstance(one, Refused)), None)
    if refused:
        raise CounterpointError(
            f"gate: the base reads {context:,} tokens at once, and the persona {persona.name} with a held-out row is too "
            f"much ({refused.why}): choose a shorter persona, or none."
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
    one. `report` is called before each part. Raises CounterpointError or WorkFailed where the engine that is asked
    cannot answer.
    """
    began = time.monotonic()
    found: list[Finding] = []
    omitted: dict[Part, str] = {}

    def measure(steps: Iterator[Step]) -> None:
        for part, step in steps:
            report(Examining(part, len(found) + len(omitted), len(PARTS)))
            outcome = step()
            if isinstance(outcome, Omitted):
                omitted[part] = outcome.why
            else:
                found.append(outcome)

    with as_saved(trained.model):
        measure(Losses(trained, persona).steps())
    with closing(_engine(trained, facts, cache)) as engine:
        engine.wait()
        measure(Asked(trained, persona, engine).steps())
    return Gate(
        persona=persona.name if persona else None,
        persona_sha256=persona.sha256 if persona else None,
        findings=tuple(sorted(found, key=lambda one: PARTS.index(one.part))),
        omitted=omitted,
        seconds=round(time.monotonic() - began, 1),
    )


def _engine(trained: Trained, facts: BaseFacts, cache: Path) -> LocalBackend:
    """The app's own engine, with the adapter as it was written."""
    found: Inspection = inspect(trained.folder, facts, name=trained.recipe.name)
    source = found.source
    if source is None:
        raise CounterpointError(f"what was trained can't be used: {' '.join(found.problems)}")

    def resolve(name: str) -> AdapterSource:
        return source

    options = Options(str(facts.folder), trained.recipe.quantization, "auto", cache)
    return LocalBackend(options, resolve)
