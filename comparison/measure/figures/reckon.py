"""From a measurement's answers to all that it found. Nothing is asked here: the same folder gives the same figures."""

from __future__ import annotations

from collections import Counter
from typing import Any

from comparison.measure.figures.answers import Answers, Senses
from comparison.measure.figures.bias import bias
from comparison.measure.figures.consistency import asked, consistency
from comparison.measure.figures.rightness import customisation, forgetting, held
from comparison.measure.figures.speed_and_cost import adapting, break_even, cost, speed
from comparison.measure.folder import RunFolder
from comparison.measure.plan import Slot
from comparison.measure.results import Mode, Results


def results(folder: RunFolder, senses: Senses) -> Results:
    """All figures of the measurement in `folder`, as far as it has come; the advice is another's."""
    plan = folder.plan()
    answers = Answers(plan, folder.records(), folder.grades(), senses)
    repeated = tuple(asked(answers))
    rows = [
        *speed(answers),
        *cost(answers),
        *customisation(answers),
        *consistency(answers, repeated),
        *bias(answers),
        *forgetting(answers),
    ]
    return Results(
        suite=plan.suite.name,
        title=plan.suite.title,
        suites={suite.name: suite.sha256 for suite in plan.suites},
        questions=len(plan.suite.tests),
        date=plan.date,
        machine=plan.machine,
        versions=plan.versions,
        base=_base(answers),
        seed=plan.seed,
        currency=plan.prices.currency,
        complete=all(item.key in answers.records for item in plan.items),
        modes=tuple(_mode(answers, slot) for slot in plan.slots),
        rows=tuple(row for row in rows if row.figures),
        adapting=adapting(answers),
        break_even=tuple(break_even(answers)),
        asked=repeated,
        held=tuple(held(answers)),
        ungraded=dict(Counter(answers.ungraded)),
    )


def _mode(answers: Answers, slot: Slot) -> Mode:
    its = [one for one in answers.records.values() if one.slot == slot.id]
    receipts = (one.receipt for one in its if one.kind == "answer" and one.receipt)
    receipt: dict[str, Any] = next(receipts, {})
    return Mode(
        id=slot.id,
        mode=slot.mode,
        label=slot.label or slot.id,
        family=slot.family,
        sampling=receipt.get("sampling", {}),
        persona_sha256=receipt.get("persona_sha256"),
        adapter_sha256=receipt.get("adapter_sha256"),
        failed=sum(one.failed is not None for one in its),
    )


def _base(answers: Answers) -> dict[str, str]:
    """What the receipts say of the base: several where they do not all say the same."""
    told = {}
    receipts = [one.receipt for one in answers.records.values() if one.receipt]
    for name in ("base", "base_sha256", "quantization", "dtype", "backend"):
        said = sorted({str(receipt[name]) for receipt in receipts if receipt.get(name) is not None})
        if said:
            told[name] = " and ".join(said)
    return told
