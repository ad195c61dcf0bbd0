"""A measurement's report as files: written again at any time, without asking anything."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import durable
from comparison.measure.folder import Graded, Record, RunFolder
from comparison.measure.plan import Plan
from comparison.measure.report.page import compare, page
from comparison.measure.results import Results
from errors import WorkFailed

HTML, JSON, FIGURES, ANSWERS = "report.html", "report.json", "figures.csv", "answers.csv"
NAMES = (HTML, JSON, FIGURES, ANSWERS)
__all__ = ["NAMES", "as_json", "compare", "figures", "write"]


def write(folder: RunFolder, found: Results) -> list[Path]:
    """Writes all four beside the run, each whole or not at all. Raises WorkFailed where they cannot be written."""
    plan, records, grades = folder.plan(), folder.records(), folder.grades()
    texts = {
        HTML: page(found, plan, records, grades),
        JSON: as_json(found, plan, records, grades),
        FIGURES: _table(figures(found)),
        ANSWERS: _table(_answers(plan, records, grades)),
    }
    try:
        for name, text in texts.items():
            durable.write(folder.path / name, text)
    except OSError as error:
        raise WorkFailed(
            f"The report cannot be written to {folder.path} ({error.strerror or error}): make room, and write it again."
        ) from None
    return [folder.path / name for name in texts]


def as_json(found: Results, plan: Plan, records: Mapping[str, Record], grades: Mapping[str, Graded]) -> str:
    """The figures, the plan that they are of, and the answers with their receipts and grades."""
    told = {
        "results": found.model_dump(mode="json"),
        "plan": plan.model_dump(mode="json", by_alias=True),
        "answers": [
            {
                **record.model_dump(mode="json"),
                "grade": grades[record.key].model_dump(mode="json") if record.key in grades else None,
            }
            for record in records.values()
        ],
    }
    return json.dumps(told, ensure_ascii=False, indent=1) + "\n"


def figures(found: Results) -> Iterator[dict[str, Any]]:
    """A line for each figure, and for each difference of two modes."""
    for row in found.rows:
        same = {"aspect": row.aspect, "key": row.key, "title": row.title, "unit": row.unit}
        for slot, one in row.figures.items():
            yield {
                **same,
                "mode": slot,
                "less": "",
                **one.model_dump(),
                "clear": "",
                "effect": row.effects.get(slot, ""),
            }
        for gap in row.gaps:
            clear = {"more": "yes", "less": "yes", "unclear": "no"}[gap.outcome]
            yield {
                **same,
                "mode": gap.one,
                "less": gap.other,
                **gap.figure.model_dump(),
                "clear": clear,
                "effect": "",
            }


def _answers(
    plan: Plan, records: Mapping[str, Record], grades: Mapping[str, Graded]
) -> Iterator[dict[str, Any]]:
    for record in records.values():
        grade = grades.get(record.key)
        receipt = record.receipt or {}
        yield {
            "kind": record.kind,
            "suite": record.suite,
            "case": record.case,
            "mode": record.slot,
            "repeat": record.repeat,
            "seed": record.seed,
            "question": record.question,
            "answer": record.answer,
            "failed": record.failed or "",
            "passed": "" if grade is None or grade.passed is None else int(grade.passed),
            "score": "" if grade is None or grade.score is None else grade.score,
            "reason": "" if grade is None else grade.cannot or grade.reason,
            "seconds": "" if record.seconds is None else record.seconds,
            "prompt_tokens": "" if record.prompt_tokens is None else record.prompt_tokens,
            "completion_tokens": "" if record.completion_tokens is None else record.completion_tokens,
            **{name: receipt.get(name, "") for name in _OF_RECEIPT},
        }


_OF_RECEIPT = (
    "ttft_s",
    "tokens_per_s",
    "backend",
    "base_sha256",
    "prompt_sha256",
    "persona_sha256",
    "adapter_sha256",
)


def _table(lines: Iterator[dict[str, Any]]) -> str:
    """As CSV. A text that a spreadsheet would take for a formula is quoted by an apostrophe."""
    rows = list(lines)
    out = io.StringIO(newline="")
    if rows:
        writer = csv.DictWriter(out, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows({name: _plain(value) for name, value in row.items()} for row in rows)
    return out.getvalue()


def _plain(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r") else value
