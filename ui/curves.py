"""Pictures of a dataset and of a run, as SVG: numbers and our own words only."""

from __future__ import annotations

import html
from collections.abc import Sequence

from adapters.training.data.lengths import Lengths
from adapters.training.progress import Progress
from ui.words import say

_WIDTH, _HEIGHT = 520, 190
_LEFT, _RIGHT, _TOP, _BOTTOM = 44, 14, 10, 24
_MOST_POINTS = 400
"""More could not be told apart in the picture."""


def losses(steps: Sequence[Progress], planned: int) -> str:
    """The training loss of each step as a line and the held-out loss of each look as dots on another; nothing
    before the first step. `planned` steps are the width."""
    if not steps:
        return ""
    every = -(-len(steps) // _MOST_POINTS)
    shown = [(step.step, step.loss) for step in steps[::every]]
    looks = [(step.look.step, step.look.loss) for step in steps if step.look]
    top = max(loss for _, loss in (*shown, *looks)) or 1.0
    told = say("train_losses_told", loss=f"{steps[-1].loss:.2f}")
    if looks:
        told += ", " + say("train_heldout_told", loss=f"{looks[-1][1]:.2f}")
    parts = [_frame(told)]
    for share in (0.0, 0.5, 1.0):
        y = _HEIGHT - _BOTTOM - share * (_HEIGHT - _TOP - _BOTTOM)
        parts.append(f'<line class="cp-grid" x1="{_LEFT}" y1="{y:.1f}" x2="{_WIDTH - _RIGHT}" y2="{y:.1f}"/>')
        parts.append(
            f'<text class="cp-tick cp-tick-y" x="{_LEFT - 6}" y="{y + 4:.1f}">{share * top:.2g}</text>'
        )
    for step in (0, planned // 2, planned):
        parts.append(f'<text class="cp-tick" x="{_x(step, planned):.1f}" y="{_HEIGHT - 6}">{step}</text>')
    for name, points in (("train", shown), ("heldout", looks)):
        at = [(_x(step, planned), _y(loss, top)) for step, loss in points]
        if at:
            line = " ".join(f"{x:.1f},{y:.1f}" for x, y in at)
            parts.append(f'<polyline class="cp-curve cp-curve-{name}" points="{line}"/>')
        if name == "heldout":
            parts += [f'<circle class="cp-dot-heldout" cx="{x:.1f}" cy="{y:.1f}" r="3"/>' for x, y in at]
    keys = " ".join(
        f'<span class="cp-key cp-key-{name}">{html.escape(say("train_loss_" + name))}</span>'
        for name in ("train", "heldout")
    )
    return f'<p class="cp-figure-title">{keys}</p>' + "".join(parts) + "</svg>"


def lengths(told: Lengths | None) -> str:
    """How many rows have how many tokens, a bar a range."""
    if told is None:
        return ""
    most = max(one.rows for one in told.histogram)
    span = _WIDTH - _LEFT - _RIGHT
    width = span / len(told.histogram)
    title = say("train_lengths", median=f"{told.median:,}", longest=f"{told.max:,}")
    parts = [_frame(title)]
    for number, one in enumerate(told.histogram):
        height = one.rows / most * (_HEIGHT - _TOP - _BOTTOM)
        if one.rows:
            parts.append(
                f'<rect class="cp-bar cp-fill-tuned" x="{_LEFT + number * width + 1:.1f}" '
                f'y="{_HEIGHT - _BOTTOM - height:.1f}" width="{max(width - 2, 1):.1f}" height="{height:.1f}">'
                f"<title>{one.least:,} – {one.most:,}: {one.rows:,}</title></rect>"
            )
    first, last = told.histogram[0], told.histogram[-1]
    for x, tokens in ((_LEFT + width / 2, first.least), (_WIDTH - _RIGHT - width / 2, last.most)):
        parts.append(f'<text class="cp-tick" x="{x:.1f}" y="{_HEIGHT - 6}">{tokens:,}</text>')
    parts.append(f'<text class="cp-tick cp-tick-y" x="{_LEFT - 6}" y="{_TOP + 10}">{most:,}</text>')
    return f'<p class="cp-figure-title">{html.escape(title)}</p>' + "".join(parts) + "</svg>"


def _frame(told: str) -> str:
    return f'<svg class="cp-scores" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{html.escape(told)}">'


def _x(step: int, planned: int) -> float:
    return _LEFT + step / max(1, planned) * (_WIDTH - _LEFT - _RIGHT)


def _y(loss: float, top: float) -> float:
    return _HEIGHT - _BOTTOM - loss / top * (_HEIGHT - _TOP - _BOTTOM)
