"""The table that prompting and fine-tuning are usually compared by: what is expected, and what was measured."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from html import escape
from typing import Literal, NamedTuple

from comparison.measure.plan import Plan
from comparison.measure.report.charts import break_even_told
from comparison.measure.results import Mode, Outcome, Results, Row
from comparison.measure.words import figure, minutes

Borne = Literal["as expected", "not so here", "no clear difference", ""]


class Line(NamedTuple):
    """One aspect: what is expected of prompting and of fine-tuning, what was measured of each mode, and whether that
    bears the expectation out."""

    aspect: str
    prompting: str
    tuning: str
    measured: dict[str, list[str]]
    borne: Borne


def lines(found: Results, plan: Plan) -> Iterator[Line]:
    """The six aspects, and two more that people ask for."""

    def of(*keys: str) -> dict[str, list[str]]:
        rows = [row for key in keys if (row := found.row(key))]
        return {
            mode.id: [_figure(found, row, mode) for row in rows if mode.id in row.figures]
            for mode in found.modes
        }

    yield Line(
        "Main idea",
        "instructions, context and examples in the prompt; the weights stay as they are",
        "training on examples of the task; the weights change",
        _made_of(found, plan),
        "",
    )
    speed = of("speed/answer", "speed/first-token")
    for slot, adapting in found.adapting.items():
        what = "training" if adapting.trained_s is not None else "an instruction"
        same = ", which stayed the same" if adapting.changed is False else ""
        speed[slot].append(f"{minutes(adapting.seconds)} from a change by {what} to its first answer{same}")
    yield Line(
        "Speed", "a change shows at once", "a change has to be trained first", speed, _changes_sooner(found)
    )
    cost = of("cost/prompt-tokens", "cost/answer-tokens", "cost/money")
    for one in found.break_even:
        cost[one.tuned].append(f"against {one.prompted}: {break_even_told(found, one)}")
    yield Line(
        "Cost",
        "cheap to begin with; every question carries the whole prompt",
        "training is paid once; prompts stay short",
        cost,
        _compared(found, "cost/prompt-tokens", lambda outcome: outcome == "less"),
    )
    yield Line(
        "Customisation",
        "as far as a prompt can say it",
        "deep, in its own field",
        of("customisation/all"),
        _compared(found, "customisation/all", lambda outcome: outcome == "more"),
    )
    alike = "consistency/similarity" if found.row("consistency/similarity") else "consistency/paraphrases"
    yield Line(
        "Consistency",
        "may vary from wording to wording",
        "more consistent in its own field",
        of(alike, "consistency/pass-all"),
        _compared(found, alike, lambda outcome: outcome == "more"),
    )
    advice = found.advice
    yield Line(
        "Best for",
        "what changes often, a quick start, many small tasks",
        "one field, with examples of it, asked often",
        {"": [advice.sentences[0].text]} if advice else {},
        "",
    )
    yield Line(
        "Bias",
        "that of the base, and of the wording",
        "that of the rows that it was trained on; balanced rows lessen it",
        of("bias/same"),
        "",
    )
    yield Line(
        "Forgetting",
        "nothing is forgotten",
        "other things may be forgotten",
        of("forgetting/general"),
        _forgets(found),
    )


def table(found: Results, plan: Plan) -> str:
    """The table as HTML; on a narrow page each aspect is a block of its own."""
    body = ""
    for line in lines(found, plan):
        measured = "".join(
            f'<li class="cp-m-{_family(found, slot)}">{_named(slot)}{escape("; ".join(told))}</li>'
            for slot, told in line.measured.items()
            if told
        )
        borne = f'<span class="cp-m-borne">{line.borne}</span>' if line.borne else ""
        body += (
            f'<tr><th scope="row">{line.aspect}</th><td data-of="prompting, expected">{escape(line.prompting)}</td>'
            f'<td data-of="fine-tuning, expected">{escape(line.tuning)}</td>'
            f'<td data-of="measured"><ul>{measured}</ul>{borne}</td></tr>'
        )
    return (
        '<table class="cp-m-aspects"><thead><tr><th scope="col">aspect</th><th scope="col">prompting, expected</th>'
        f'<th scope="col">fine-tuning, expected</th><th scope="col">measured</th></tr></thead><tbody>{body}</tbody></table>'
    )


def _named(slot: str) -> str:
    return f"<b>{escape(slot)}</b> " if slot else ""


def _figure(found: Results, row: Row, mode: Mode) -> str:
    return f"{row.title}: {figure(row.figures[mode.id], row.unit, found.currency)}"


def _family(found: Results, slot: str) -> str:
    return next((mode.family for mode in found.modes if mode.id == slot), "none")


def _made_of(found: Results, plan: Plan) -> dict[str, list[str]]:
    told = {}
    tokens = found.row("cost/prompt-tokens")
    for slot in plan.slots:
        parts = []
        if tokens and slot.id in tokens.figures:
            parts.append(f"prompts of {tokens.figures[slot.id].value:,.0f} tokens")
        if slot.made:
            parts.append(
                f"{slot.made.rows:,} training rows, {slot.made.steps:,} steps, {minutes(slot.made.seconds)}"
            )
        told[slot.id] = parts
    return told


def _best(found: Results, row: Row, family: str) -> Mode | None:
    its = [mode for mode in found.modes if mode.family == family and mode.id in row.figures]
    sign = -1 if row.better == "less" else 1
    return max(its, key=lambda mode: sign * row.figures[mode.id].value, default=None)


def _compared(found: Results, key: str, expected: Callable[[str], bool]) -> Borne:
    """Whether the best tuned mode against the best prompted one is as expected."""
    row = found.row(key)
    if row is None:
        return ""
    tuned, prompted = _best(found, row, "tuned"), _best(found, row, "prompted")
    apart = row.gap(tuned.id, prompted.id) if tuned and prompted else None
    if apart is None:
        return ""
    if apart.outcome == "unclear":
        return "no clear difference"
    return "as expected" if expected(apart.outcome) else "not so here"


def _changes_sooner(found: Results) -> Borne:
    prompted = [
        one.seconds for one in found.adapting.values() if one.trained_s is None and one.changed is not False
    ]
    tuned = [one.seconds for one in found.adapting.values() if one.trained_s is not None]
    if not prompted or not tuned:
        return ""
    return "as expected" if min(prompted) < min(tuned) else "not so here"


def _forgets(found: Results) -> Borne:
    row = found.row("forgetting/general")
    bare = next((mode.id for mode in found.modes if mode.family == "bare"), None)
    tuned = _best(found, row, "tuned") if row else None
    apart = row.gap(tuned.id, bare) if row and tuned and bare else None
    if apart is None:
        return ""
    borne: dict[Outcome, Borne] = {
        "less": "as expected",
        "more": "not so here",
        "unclear": "no clear difference",
    }
    return borne[apart.outcome]
