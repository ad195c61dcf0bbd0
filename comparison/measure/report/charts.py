"""Pictures of figures, as HTML that needs no script: bars with their intervals, break-even lines, a heat map."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from adapters.verdict import Figure
from comparison.measure.results import Asked, BreakEven, Mode, Results, Row, outcome
from comparison.measure.words import between, figure, more, number, repaid_after

_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 560, 220, 56, 16, 14, 34


def bars(found: Results, row: Row) -> str:
    """A bar for each mode with its 95 % interval; of differences within pairs a dot, and a line at zero."""
    its = [mode for mode in found.modes if mode.id in row.figures]
    if not its:
        return ""
    least, most = _ends([row.figures[mode.id] for mode in its], row)
    lines = "".join(_bar(mode, row, least, most, found.currency) for mode in its)
    return f'<div class="cp-m-bars" role="list">{lines}</div>'


def _ends(figures: Sequence[Figure], row: Row) -> tuple[float, float]:
    """What the left and the right end of a row's scale are."""
    highest = max(max(one.value, one.high or one.value) for one in figures)
    if row.paired:
        lowest = min(min(one.value, one.value if one.low is None else one.low) for one in figures)
        end = max(abs(highest), abs(lowest)) or 1.0
        return -end, end
    if row.unit == "share":
        return 0.0, 1.0
    lowest = min(0.0, *(one.value for one in figures), *(one.low for one in figures if one.low is not None))
    return lowest, highest if highest > lowest else lowest + 1.0


def _bar(mode: Mode, row: Row, least: float, most: float, currency: str) -> str:
    one = row.figures[mode.id]

    def at(value: float) -> float:
        return 100 * min(1.0, max(0.0, (value - least) / (most - least)))

    zero = at(0.0)
    start, end = sorted((zero, at(one.value)))
    filled = f'<i class="cp-m-fill" style="left:{start:.2f}%;width:{max(end - start, 0.4):.2f}%"></i>'
    if row.paired:
        filled = f'<i class="cp-m-zero" style="left:{zero:.2f}%"></i>'
        filled += f'<i class="cp-m-dot" style="left:{at(one.value):.2f}%"></i>'
    whisker = ""
    if one.low is not None and one.high is not None:
        low, high = at(one.low), at(one.high)
        whisker = f'<i class="cp-m-whisker" style="left:{low:.2f}%;width:{max(high - low, 0.2):.2f}%"></i>'
    told = escape(figure(one, row.unit, currency))
    return (
        f'<div class="cp-m-row cp-m-{mode.family}" role="listitem"><span class="cp-m-name">{_broken(mode.id)}</span>'
        f'<span class="cp-m-track">{filled}{whisker}</span><span class="cp-m-value">{told}</span></div>'
    )


def break_even(found: Results, one: BreakEven) -> str:
    """What both modes have cost after so many questions: two lines, and where they cross, with its interval."""
    unit = found.currency if one.unit == "money" else "s"
    crossing = one.at
    tuned_each, prompted_each = (each.value / one.per for each in (one.tuned_each, one.prompted_each))
    last = min(max(crossing * 2, 10.0), 1e9) if crossing else max(2 * one.once / max(tuned_each, 1e-12), 10.0)
    tuned, prompted = one.once + last * tuned_each, last * prompted_each
    top = max(tuned, prompted) or 1.0

    def x(questions: float) -> float:
        return _LEFT + min(questions, last) / last * (_WIDTH - _LEFT - _RIGHT)

    def y(cost: float) -> float:
        return _HEIGHT - _BOTTOM - cost / top * (_HEIGHT - _TOP - _BOTTOM)

    parts = []
    for share in (0.0, 0.5, 1.0):
        at = y(top * share)
        parts.append(
            f'<line class="cp-m-grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{at:.1f}" y2="{at:.1f}"/>'
        )
        parts.append(
            f'<text x="{_LEFT - 6}" y="{at + 4:.1f}" text-anchor="end">{escape(_short(top * share, unit))}</text>'
        )
        at = x(last * share)
        anchor = ("start", "middle", "end")[int(share * 2)]
        parts.append(
            f'<text x="{at:.1f}" y="{_HEIGHT - 16}" text-anchor="{anchor}">{more(round(last * share))}</text>'
        )
    if crossing:
        low, high = x(one.earliest or 0.0), x(last if one.latest is None else one.latest)
        parts.append(
            f'<rect class="cp-m-span" x="{low:.1f}" y="{_TOP}" width="{max(high - low, 1):.1f}" '
            f'height="{_HEIGHT - _TOP - _BOTTOM}"/>'
        )
    for family, start, end in (("prompted", 0.0, prompted), ("tuned", one.once, tuned)):
        ends = f'x1="{x(0):.1f}" y1="{y(start):.1f}" x2="{x(last):.1f}" y2="{y(end):.1f}"'
        parts.append(f'<line class="cp-m-curve cp-m-{family}" {ends}/>')
    if crossing:
        cost = crossing * prompted_each
        parts.append(f'<circle class="cp-m-cross" cx="{x(crossing):.1f}" cy="{y(cost):.1f}" r="5"/>')
    parts.append(
        f'<text x="{(_WIDTH + _LEFT) / 2:.0f}" y="{_HEIGHT - 2}" text-anchor="middle">questions</text>'
    )
    told = break_even_told(found, one)
    told += f" It was trained on {one.device}." if one.device else ""
    keys = "".join(
        f'<span class="cp-m-key cp-m-{family}">{escape(slot)}</span>'
        for family, slot in (("prompted", one.prompted), ("tuned", one.tuned))
    )
    return (
        f'<figure class="cp-m-figure"><figcaption>{keys} {escape(told)}</figcaption>'
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(told)}">{"".join(parts)}</svg></figure>'
    )


def break_even_told(found: Results, one: BreakEven) -> str:
    """After how many questions training is repaid, in a sentence."""
    unit = "money" if one.unit == "money" else "seconds of the machine"
    if one.state == "nothing to repay":
        return f"In {unit}: there is nothing to repay, training cost nothing."
    if one.state == "never":
        return f"In {unit}: never repaid, an answer of {one.tuned} does not cost less."
    after = repaid_after(one)
    if one.state == "unclear":
        return f"In {unit}: not clear whether it is ever repaid{f', as it seems {after}' if after else ''}."
    return f"In {unit}: repaid {after}."


def heat(found: Results, asked: Sequence[Asked]) -> str:
    """How alike the answers to each question are in each mode, as a table in colours; the numbers stand in it."""
    its = [mode for mode in found.modes if any(mode.id in one.similarity for one in asked)]
    if not its:
        return ""
    head = "".join(f'<th scope="col">{escape(mode.id)}</th>' for mode in its)
    lines = ""
    for one in asked:
        cells = "".join(_cell(one.similarity.get(mode.id)) for mode in its)
        lines += f'<tr><th scope="row">{escape(one.question)}</th>{cells}</tr>'
    return (
        '<div class="cp-m-wide"><table class="cp-m-heat"><thead><tr><th scope="col">question</th>'
        f"{head}</tr></thead><tbody>{lines}</tbody></table></div>"
    )


def _cell(value: float | None) -> str:
    if value is None:
        return "<td>–</td>"
    share = round(100 * min(1.0, max(0.0, value)))
    return f'<td style="--cp-m-heat:{share}%">{value:.2f}</td>'


def gaps(found: Results, row: Row) -> str:
    """Every difference between two modes, and what it would take to tell the others."""
    lines = [f"<li>{escape(between(row, apart, found.currency))}</li>" for apart in row.gaps]
    if row.paired:
        lines = [f"<li>{escape(slot)}: {_paired(row, slot)}</li>" for slot in row.figures]
    return f'<ul class="cp-m-gaps">{"".join(lines)}</ul>' if lines else ""


def _broken(slot: str) -> str:
    """A mode's id that may go on in a new line where a person would end one."""
    return escape(slot).replace("+", "+<wbr>").replace(" (", " <wbr>(")


def _paired(row: Row, slot: str) -> str:
    told = "no clear difference" if outcome(row.figures[slot]) == "unclear" else "a clear difference"
    effect = row.effects.get(slot)
    return told if effect is None else f"{told}, effect size {effect:+.2f}"


def _short(value: float, unit: str) -> str:
    told = number(value, "words").removesuffix(" words")
    return f"{told} s" if unit == "s" else f"{unit}{told}"
