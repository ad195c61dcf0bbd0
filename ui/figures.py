"""The picture of a passport's held-out scores, as SVG: numbers and our own words only, never others' text."""

from __future__ import annotations

import html
from collections.abc import Mapping

from adapters.passport import Family, Score
from comparison.modes import FAMILIES
from ui.words import say

_ROW = 34
_LEFT = 92
_WIDTH = 520
_RIGHT = 118


def score_bars(scores: Mapping[Family, Score]) -> str:
    """A bar a family with its 95 % interval, or nothing where nothing was measured."""
    rows = [(family, scores[family]) for family in FAMILIES if family in scores]
    if not rows:
        return ""
    span = _WIDTH - _LEFT - _RIGHT
    height = _ROW * len(rows) + 26
    told = ", ".join(f"{say('family_' + family)} {score.share:.0%}" for family, score in rows)
    parts = [
        f'<svg class="cp-scores" viewBox="0 0 {_WIDTH} {height}" role="img" '
        f'aria-label="{html.escape(say("scores_title"))}: {html.escape(told)}">'
    ]
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        x = _LEFT + share * span
        parts.append(f'<line class="cp-grid" x1="{x:.1f}" y1="4" x2="{x:.1f}" y2="{height - 22}"/>')
        parts.append(f'<text class="cp-tick" x="{x:.1f}" y="{height - 6}">{share:.0%}</text>')
    for index, (family, score) in enumerate(rows):
        parts.append(_bar(family, score, index * _ROW + 8, span))
    title = f'<p class="cp-figure-title">{html.escape(say("scores_title"))}</p>'
    return title + "".join(parts) + "</svg>"


def _bar(family: str, score: Score, top: float, span: float) -> str:
    middle = top + 9
    low, high = (_LEFT + bound * span for bound in (score.low, score.high))
    return (
        f'<text class="cp-name" x="{_LEFT - 10}" y="{middle + 4:.1f}">{html.escape(say("family_" + family))}</text>'
        f'<rect class="cp-bar cp-fill-{family}" x="{_LEFT}" y="{top:.1f}" '
        f'width="{max(score.share * span, 1.5):.1f}" height="18" rx="4"/>'
        f'<path class="cp-whisker" d="M{low:.1f} {middle:.1f}H{high:.1f}'
        f'M{low:.1f} {middle - 5:.1f}v10M{high:.1f} {middle - 5:.1f}v10"/>'
        f'<text class="cp-value" x="{_WIDTH - _RIGHT + 14}" y="{middle + 4:.1f}">{score.share:.0%} '
        f"({int(score.passed)}/{int(score.n)})</text>"
    )
