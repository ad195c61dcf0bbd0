"""Grading the answers of a measurement by their suite's checks, with what those may need beside the text."""

from __future__ import annotations

import dataclasses
import multiprocessing
import queue
from collections.abc import Callable, Mapping
from typing import Any

from comparison.checks.check import Answer, CannotGrade, Tools, grade
from comparison.measure.figures.answers import paid
from comparison.measure.folder import Graded, Record, sha256
from comparison.measure.plan import Plan, key

_PYTHON_S = 10.0
"""How long a check's own code may take for one answer."""


def graded(plan: Plan, record: Record, records: Mapping[str, Record], tools: Tools) -> Graded | None:
    """What the checks of the record's case say of it; None where it has no checks. `records` are all there are: how long
    an answer takes alone stands in another. An answer that there is none of has failed."""
    case = plan.cases[record.suite][record.case]
    if not case.checks:
        return None
    if record.failed is not None:
        return Graded(key=record.key, passed=False, score=0.0, reason=record.failed)
    alone = records.get(key("alone", record.suite, record.case, record.slot))
    seconds = alone.seconds if alone else None
    answer = Answer(
        record.answer,
        case.question,
        case.variables,
        latency_ms=None if seconds is None else seconds * 1000,
        cost=paid(plan.prices, record, seconds),
        logprob=record.logprob,
    )
    try:
        whole, parts = grade(case.checks, answer, tools, case.threshold)
    except CannotGrade as error:
        return Graded(key=record.key, cannot=str(error))
    return Graded(
        key=record.key,
        of=sha256(record.answer),
        passed=whole.passed,
        score=round(whole.score, 6),
        reason=whole.reason,
        parts=tuple((part.passed, round(part.score, 6), part.reason) for part in parts),
    )


def run_python(code: str, answer: Answer) -> Any:
    """What a check's own code returns, promptfoo's way: an expression, or the body of a function that returns; it sees
    `output` and `context`. It runs in a process of its own, for at most ten seconds. Raises CannotGrade where it fails.

    Whoever turns this on trusts the suite: nothing keeps that code from what its user may do.
    """
    context = multiprocessing.get_context("spawn")
    told: Any = context.Queue()
    process = context.Process(target=_run, args=(code, dataclasses.asdict(answer), told), daemon=True)
    process.start()
    try:
        returned, error = told.get(timeout=_PYTHON_S)
    except queue.Empty:
        raise CannotGrade(
            f"the python check took longer than {_PYTHON_S:g} s, or ended its process"
        ) from None
    finally:
        process.kill()
        process.join()
    if error:
        raise CannotGrade(f"the python check failed: {error}")
    return returned


def _run(code: str, answer: Mapping[str, Any], told: Any) -> None:
    given = {
        "output": answer["text"],
        "context": {"vars": dict(answer["variables"]), "prompt": answer["question"]},
    }
    try:
        told.put((_called(code)(**given), None))
    except Exception as error:
        told.put((None, f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"))


def _called(code: str) -> Callable[..., Any]:
    try:
        return eval(f"lambda output, context: ({code.strip()})", {})
    except SyntaxError:
        body = "\n".join(f"    {line}" for line in code.splitlines())
        scope: dict[str, Any] = {}
        exec(f"def check(output, context):\n{body}\n", scope)
        return scope["check"]
