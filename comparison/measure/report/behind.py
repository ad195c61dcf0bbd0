"""What a figure comes from: each question's value in each mode, linked to the answer and its receipt."""

from __future__ import annotations

from html import escape

from comparison.measure.plan import Plan
from comparison.measure.report.answers import anchor, visible
from comparison.measure.results import Row
from comparison.measure.words import bare

_LONGEST = 72
"""Characters of a question: the answers stand below it as a whole."""


def behind(plan: Plan, row: Row) -> str:
    """As HTML that is folded away; empty where nothing was kept."""
    slots = [(place, slot.id) for place, slot in enumerate(plan.slots) if slot.id in row.values]
    if not slots or not row.cases:
        return ""
    head = "".join(f'<th scope="col">{escape(slot)}</th>' for _, slot in slots)
    body = ""
    for number, name in enumerate(row.cases):
        suite, _, case = name.partition("/")
        question = visible(plan.cases[suite][case].question)
        short = question if len(question) <= _LONGEST else question[: _LONGEST - 1] + "…"
        cells = "".join(_cell(row, name, place, row.values[slot][number]) for place, slot in slots)
        body += f'<tr><th scope="row"><a href="#{escape(anchor(name))}">{escape(short)}</a></th>{cells}</tr>'
    behind = (
        "the question behind it" if len(row.cases) == 1 else f"the {len(row.cases):,} questions behind it"
    )
    return (
        f'<details class="cp-m-behind"><summary>{behind}</summary>'
        '<div class="cp-m-wide"><table class="cp-m-figures"><thead><tr><th scope="col">question</th>'
        f"{head}</tr></thead><tbody>{body}</tbody></table></div></details>"
    )


def _cell(row: Row, name: str, place: int, value: float | None) -> str:
    if value is None:
        return "<td>–</td>"
    told = bare(value, row.unit)
    if row.unit == "share" and not row.paired and value in (0, 1):
        told = "✓" if value else "✗"
    return f'<td><a href="#{escape(anchor(name, place))}">{told}</a></td>'
