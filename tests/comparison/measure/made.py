"""Measurements that were never run: answers and grades are what a test says they are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from comparison.measure.folder import Graded, Record, RunFolder
from comparison.measure.plan import Item, Made, Plan, Prices, Slot
from comparison.measure.suite import Suite

TRAINED = Made(rows=100, steps=50, seconds=120.0, tested_s=30.0, device="cpu", sha256="ab" * 32)


def plan(suites: list[Suite], *modes: str, prices: Prices | None = None, alone: int = 4) -> Plan:
    """A plan of modes that need not be there; the adapters were trained in two minutes."""
    slots = []
    for mode in modes:
        again = sum(slot.mode == mode for slot in slots)
        made = TRAINED if mode.startswith("adapter:") else None
        slots.append(Slot(id=mode + (f" #{again + 1}" if again else ""), mode=mode, made=made))
    return Plan(
        date="2026-01-01T00:00:00+00:00",
        machine="a machine",
        versions={"python": "3"},
        suites=tuple(suites),
        slots=tuple(slots),
        prices=prices or Prices(),
        alone=alone,
    )


def record(item: Item, answer: str | None = None, seconds: float = 1.0, tokens: int = 10) -> Record:
    """An answer to what was planned; a change shows where nothing else is said."""
    if answer is None:
        answer = "a changed answer" if item.kind == "adapt" else "an answer"
    return Record(
        kind=item.kind,
        suite=item.suite,
        case=item.case.id,
        slot=item.slot.id,
        repeat=item.repeat,
        seed=item.seed,
        question=item.case.question,
        answer=answer,
        finish_reason="stop",
        seconds=seconds if item.kind in ("adapt", "alone") else None,
        receipt={
            "prompt_tokens": tokens,
            "completion_tokens": len(answer.split()),
            "ttft_s": seconds / 10,
            "tokens_per_s": 20.0,
            "sampling": {"temperature": 0.2},
        },
    )


def graded(item: Item, passed: bool) -> Graded:
    """A grade of all its checks alike."""
    parts = tuple((passed, float(passed), "") for _ in item.case.checks)
    return Graded(key=item.key, passed=passed, score=float(passed), parts=parts)


def folder(
    path: Path,
    plan: Plan,
    answers: Callable[[Item], Record] = record,
    passes: Callable[[Item], bool] = lambda item: True,
) -> RunFolder:
    """A folder as a run leaves it."""
    made = RunFolder.begin(path, plan)
    records, grades = [], []
    for item in plan.items:
        records.append(answers(item).model_dump_json(exclude_defaults=True))
        if item.kind in ("answer", "repeat") and item.case.checks:
            grades.append(graded(item, passes(item)).model_dump_json(exclude_defaults=True))
    (path / "answers.jsonl").write_text("".join(line + "\n" for line in records))
    (path / "grades.jsonl").write_text("".join(line + "\n" for line in grades))
    return made
