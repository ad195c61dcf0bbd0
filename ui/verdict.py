"""The result of the test after training, as one page: a picture for each part, with its mark."""

from __future__ import annotations

import html

from adapters.verdict import Finding, Gate
from comparison.gate import tell
from ui.words import say

_WIDTH, _HEIGHT, _EDGE = 220, 26, 6


def page(gate: Gate | None) -> str:
    """All parts of a gate as HTML; nothing where there was none."""
    if gate is None:
        return ""
    told = say("gate_verdict_passed")
    if not gate.passed:
        told = say("gate_verdict_failed", parts=tell.names(gate.failed))
    elif gate.unclear:
        told = say("gate_verdict_unclear", parts=tell.names(gate.unclear))
    omitted = "".join(
        f"<p>{html.escape(say('gate_omitted', title=tell.TITLES[part], why=why))}</p>"
        for part, why in gate.omitted.items()
    )
    state = "passed" if gate.passed else "failed"
    return (
        f'<p class="cp-figure-title">{html.escape(say("gate_title"))}: '
        f'<span class="cp-verdict cp-verdict-{state}">{html.escape(told)}</span></p>'
        f"<p>{html.escape(say('gate_lead'))}</p>"
        f'<ul class="cp-gate">{"".join(map(_part, gate.findings))}</ul>{omitted}'
    )


def _part(one: Finding) -> str:
    verdict = (
        f'<span class="cp-verdict cp-verdict-{one.verdict}">{html.escape(say("gate_" + one.verdict))}</span>'
    )
    return (
        f"<li><div><strong>{html.escape(tell.TITLES[one.part])}</strong> {verdict}</div>{_picture(one)}"
        f"<div>{html.escape(tell.judged(one))}</div>"
        f"<p>{html.escape(tell.ASKS[one.part])}</p><p>{html.escape(tell.figures(one))}</p></li>"
    )


def _picture(one: Finding) -> str:
    """The figure as a dot with its interval, the same of the others as rings, and the mark as a line; the good side is
    shaded."""
    figure = one.judged
    low = figure.value if figure.low is None else figure.low
    high = figure.value if figure.high is None else figure.high
    others = [each.value for each in one.beside.values()]
    least, most = min(low, one.mark, *others), max(high, one.mark, *others)
    margin = (most - least or abs(most) or 1.0) * 0.15
    least, most = least - margin, most + margin

    def x(value: float) -> float:
        return _EDGE + (value - least) / (most - least) * (_WIDTH - 2 * _EDGE)

    rings = "".join(
        f'<circle class="cp-ring cp-ring-{name}" cx="{x(each.value):.1f}" cy="{_HEIGHT / 2}" r="4"/>'
        for name, each in one.beside.items()
    )
    middle, mark = _HEIGHT / 2, x(one.mark)
    good = (mark, _WIDTH) if one.part in tell.AT_LEAST else (0.0, mark)
    return (
        f'<svg class="cp-strip" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{html.escape(tell.judged(one))}">'
        f'<rect class="cp-good" x="{good[0]:.1f}" y="2" width="{good[1] - good[0]:.1f}" height="{_HEIGHT - 4}" rx="3"/>'
        f'<line class="cp-mark" x1="{mark:.1f}" x2="{mark:.1f}" y1="0" y2="{_HEIGHT}"/>'
        f'<path class="cp-whisker" d="M{x(low):.1f} {middle}H{x(high):.1f}"/>'
        f'{rings}<circle class="cp-dot-{one.verdict}" cx="{x(figure.value):.1f}" cy="{middle}" r="5"/></svg>'
    )
