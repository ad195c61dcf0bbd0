"""Every question with every mode's answer and its receipt, as HTML. A prompt's frame is shown once for a mode."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from comparison.measure.folder import Graded, Record
from comparison.measure.plan import Plan
from comparison.measure.suite import Case

MARK = "⟦question⟧"
"""Where the question stands in a prompt's frame."""


def frame(record: Record) -> str | None:
    """A prompt with a mark in the question's place; None where the question does not stand in it, or the mark does."""
    prompt = (record.receipt or {}).get("prompt")
    if not prompt or MARK in prompt:
        return None
    before, found, after = prompt.rpartition(record.question)
    return f"{before}{MARK}{after}" if found else None


def filled(frame: str, question: str) -> str:
    """The prompt that a frame and a question make."""
    return frame.replace(MARK, question)


def frames(plan: Plan, records: Mapping[str, Record]) -> dict[str, str]:
    """Of each slot the frame of its first answer."""
    found: dict[str, str] = {}
    for record in records.values():
        if record.kind == "answer" and record.slot not in found and (its := frame(record)):
            found[record.slot] = its
    return {slot.id: found[slot.id] for slot in plan.slots if slot.id in found}


def anchor(name: str, slot: int | None = None) -> str:
    """Where a case, SUITE/CASE, is told of in a report; of a slot, by its place in the plan, its answer."""
    return f"q-{name.replace('/', '-')}" + ("" if slot is None else f"-{slot}")


def questions(
    plan: Plan, records: Mapping[str, Record], grades: Mapping[str, Graded], room: int | None = None
) -> tuple[str, int]:
    """All suites' questions, each with its answers; as many as there is room for, in bytes, and how many are left out."""
    shared = frames(plan, records)
    order = {slot.id: place for place, slot in enumerate(plan.slots)}
    by_case: dict[str, list[Record]] = {}
    for record in sorted(records.values(), key=lambda record: (order.get(record.slot, 0), record.repeat)):
        by_case.setdefault(f"{record.suite}/{record.case}", []).append(record)
    parts, left, used = [], 0, 0
    for suite in plan.suites:
        parts.append(f"<h3>{escape(suite.title)}</h3>")
        for case in plan.cases[suite.name].values():
            name = f"{suite.name}/{case.id}"
            told = _question(plan, name, case, by_case.get(name, []), grades, shared)
            used += len(told.encode())
            if room is not None and used > room:
                left += 1
            else:
                parts.append(told)
    return "".join(parts), left


def _question(
    plan: Plan,
    name: str,
    case: Case,
    its: Sequence[Record],
    grades: Mapping[str, Graded],
    shared: Mapping[str, str],
) -> str:
    first = [one for one in its if one.kind == "answer"]
    passed = sum(bool(grade.passed) for one in first if (grade := grades.get(one.key)))
    graded = sum(one.key in grades and grades[one.key].passed is not None for one in first)
    count = f'<span class="cp-m-count">{passed} of {graded} right</span>' if graded else ""
    told = "".join(_answer(plan, name, record, grades.get(record.key), shared) for record in first)
    for kind, title in (
        ("adapt", "after a change, timed"),
        ("alone", "timed, with nothing beside it"),
        ("repeat", "asked again, with other seeds"),
    ):
        more = "".join(
            _answer(plan, name, record, grades.get(record.key), shared)
            for record in its
            if record.kind == kind
        )
        told += f"<details><summary>{title}</summary>{more}</details>" if more else ""
    wrong = " cp-m-wrong" if passed < graded else ""
    return (
        f'<details class="cp-m-question{wrong}"><summary>{escape(visible(case.question))} {count}</summary>'
        f'<div id="{escape(anchor(name))}">{told or "<p>not asked yet</p>"}</div></details>'
    )


def _answer(plan: Plan, name: str, record: Record, grade: Graded | None, shared: Mapping[str, str]) -> str:
    slot = plan.slot(record.slot)
    place = f' id="{escape(anchor(name, plan.slots.index(slot)))}"' if record.kind == "answer" else ""
    verdict = ""
    if grade is not None:
        state = "cannot" if grade.cannot else "passed" if grade.passed else "failed"
        said = grade.cannot or grade.reason or ""
        word = {"cannot": "not graded", "passed": "right", "failed": "wrong"}[state]
        why = f'<span class="cp-m-why">{escape(visible(said))}</span>'
        verdict = f'<span class="cp-m-verdict cp-m-{state}">{word}</span> {why}'
    text = record.failed if record.failed is not None else record.answer
    return (
        f'<div class="cp-m-answer cp-m-{slot.family}"{place}><div><b>{escape(record.slot)}</b> {verdict}</div>'
        f"<pre>{escape(visible(text)) or '(nothing)'}</pre>{_receipt(record, shared.get(record.slot))}</div>"
    )


def _receipt(record: Record, shared: str | None) -> str:
    receipt = record.receipt
    if receipt is None:
        return _steps(record.steps)
    told = [
        ("seed", receipt.get("seed")),
        ("prompt tokens", record.prompt_tokens),
        ("answer tokens", record.completion_tokens),
        ("first token", f"{receipt['ttft_s']:.2f} s" if receipt.get("ttft_s") is not None else None),
        ("tokens/s", f"{receipt['tokens_per_s']:.1f}" if receipt.get("tokens_per_s") is not None else None),
        ("whole answer", f"{record.seconds:.2f} s" if record.seconds is not None else None),
        ("ended by", record.finish_reason),
        ("prompt sha256", receipt.get("prompt_sha256")),
    ]
    line = " · ".join(f"{name} {escape(str(value))}" for name, value in told if value is not None)
    prompt = receipt.get("prompt")
    own = ""
    if prompt and (shared is None or filled(shared, record.question) != prompt):
        own = f"<pre>{escape(visible(str(prompt)))}</pre>"
    return f'<p class="cp-m-receipt">{line}</p>{_steps(receipt.get("steps", ()))}{own}'


def _steps(steps: Sequence[Mapping[str, Any]]) -> str:
    """Of a chain, those before the last, or before the one that failed."""
    return "".join(
        f"<p>step {escape(str(step.get('name')))} · prompt tokens {step.get('prompt_tokens')} · tokens "
        f"{step.get('completion_tokens')} · ended by {escape(str(step.get('finish_reason')))}</p>"
        f"<pre>{escape(visible(str(step.get('answer'))))}</pre>"
        for step in steps
    )


def visible(text: str) -> str:
    """Without what no eye sees and a terminal or a page might act upon."""
    return "".join(sign if sign.isprintable() or sign in "\n\t" else "�" for sign in text)
