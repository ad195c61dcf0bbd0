"""Checks that something else decides: a person's own code, or a model that is asked for a verdict."""

from __future__ import annotations

import json
import re
from typing import Any

from comparison.checks.check import Answer, CannotGrade, Check, Grade, Tools
from comparison.checks.plain import no_text

_RUBRIC = """\
You judge an answer by a criterion. Reply with one JSON object and nothing else:
{{"reason": "one sentence", "score": a number from 0 to 1, "pass": true or false}}

Question:
{question}

Answer:
{answer}

Criterion:
{criterion}"""
_MOST_CHARS = 8_000
"""Of a question or an answer that a judge is shown: small ones read little."""


def python(check: Check, answer: Answer, tools: Tools) -> Grade:
    """What the code returns: true or false, a score (passed from the threshold on, or where there is none if it is not
    0), or an object with pass, score and reason."""
    if tools.python is None:
        raise CannotGrade("python checks are off: whoever runs the suite has to turn them on")
    return _graded(tools.python(str(check.value), answer), check, "python")


def llm_rubric(check: Check, answer: Answer, tools: Tools) -> Grade:
    """What a model says that is asked whether the answer meets the criterion."""
    if tools.judge is None:
        raise CannotGrade("there is no mode that judges: name one as the suite's judge")
    asked = _RUBRIC.format(
        question=answer.question[:_MOST_CHARS], answer=answer.text[:_MOST_CHARS], criterion=check.value
    )
    return _graded(_object(tools.judge(asked, check.provider)), check, "the judge")


def no_criterion(value: Any) -> str | None:
    return no_text(value) if not isinstance(value, str) or not value.strip() else None


def _object(said: str) -> Any:
    """The JSON object in what a judge said, whatever it put around it."""
    found = re.search(r"\{.*\}", said, re.DOTALL)
    try:
        return json.loads(found[0]) if found else None
    except (ValueError, RecursionError):
        return None


def _graded(told: Any, check: Check, who: str) -> Grade:
    """promptfoo's result: true or false, a score, or an object of pass, score and reason."""
    reason = ""
    passed: bool | None = None
    score: float | None = None
    if isinstance(told, bool):
        passed, score = told, float(told)
    elif isinstance(told, int | float):
        score = float(told)
    elif isinstance(told, dict):
        passed = told.get("pass") if isinstance(told.get("pass"), bool) else None
        given = told.get("score")
        score = float(given) if isinstance(given, int | float) and not isinstance(given, bool) else None
        reason = " ".join(str(told.get("reason", "")).split())[:300]
    if passed is None and score is None:
        raise CannotGrade(f"{who} gave no verdict (neither pass nor score): {str(told)[:120]!r}")
    score = float(bool(passed)) if score is None else max(0.0, min(1.0, score))
    if passed is None:
        passed = score > 0 if check.threshold is None else True
    if check.threshold is not None:
        passed = passed and score >= check.threshold
    return Grade(passed, score, reason or ("" if passed else f"{who} says no"))
