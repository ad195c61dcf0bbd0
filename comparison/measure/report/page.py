"""A measurement's report: a fragment for the app's page, and one HTML file that opens offline and needs no script."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator, Mapping
from html import escape
from pathlib import Path

from comparison.measure.folder import Graded, Record
from comparison.measure.plan import Plan
from comparison.measure.report import answers, charts
from comparison.measure.report.behind import behind
from comparison.measure.report.table import table
from comparison.measure.results import ASPECTS, Results, Row
from comparison.measure.words import counted, figure, minutes

STYLE = Path(__file__).with_name("report.css")
MAX_BYTES = 3_000_000
"""Of the file: what can be sent to anybody, and opens at once."""
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"


def page(found: Results, plan: Plan, records: Mapping[str, Record], grades: Mapping[str, Graded]) -> str:
    """The whole file, of less than MAX_BYTES: of a large run it has as many questions as fit."""
    whole = _file(found, fragment(found, plan, records, grades))
    if len(whole.encode()) < MAX_BYTES:
        return whole
    without = _file(found, fragment(found, plan, records, grades, room=0))
    room = max(0, MAX_BYTES - len(without.encode()))
    return _file(found, fragment(found, plan, records, grades, room))


def _file(found: Results, body: str) -> str:
    style = STYLE.read_text(encoding="utf-8")
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(found.title)} · Counterpoint</title><style>{style}</style></head>"
        f'<body class="cp-m-page"><main>{body}</main></body></html>\n'
    )


def fragment(
    found: Results,
    plan: Plan,
    records: Mapping[str, Record],
    grades: Mapping[str, Graded],
    room: int | None = None,
) -> str:
    """The report itself. Where there is `room`, in bytes, for so many questions only, no figure leads to its own."""
    whole = room is None
    parts = [
        _head(found, plan, len(records)),
        _advice(found),
        _section("The table", "aspects", table(found, plan)),
        _aspects(found, plan, whole),
        _break_even(found),
        _adapting(found, plan, whole),
        _repeated(found, plan),
        _held(found),
        _questions(plan, records, grades, room),
        _prompts(plan, records),
        _versions(found),
    ]
    return f'<div class="cp-m">{"".join(parts)}</div>'


def compare(one: Results, other: Results) -> str:
    """Two runs beside each other: the same figures of the same modes."""
    shared = [mode.id for mode in one.modes if any(mode.id == its.id for its in other.modes)]
    body = ""
    for row in one.rows:
        its = other.row(row.key)
        for slot in shared:
            if its is None or slot not in row.figures or slot not in its.figures:
                continue
            a, b = row.figures[slot], its.figures[slot]
            if a.low is None or a.high is None or b.low is None or b.high is None:
                told = "too few to tell"
            else:
                told = "apart" if a.low > b.high or b.low > a.high else "not clearly apart"
            body += (
                f'<tr><th scope="row">{escape(row.title)}<br><b>{escape(slot)}</b></th>'
                f"<td>{escape(figure(a, row.unit, one.currency))}</td>"
                f"<td>{escape(figure(b, row.unit, other.currency))}</td>"
                f"<td>{told}</td></tr>"
            )
    if not body:
        return '<p class="cp-m">These two runs have no mode and no figure in common.</p>'
    head = "".join(
        f'<th scope="col">{escape(each.title)}<br>{escape(each.date[:16].replace("T", " "))}</th>'
        for each in (one, other)
    )
    warnings = "".join(f'<p class="cp-m-warning">{told}</p>' for told in _unlike(one, other))
    return (
        '<section class="cp-m"><p>Two runs, each with its own answers: their intervals are compared, and nothing is '
        f"paired.</p>{warnings}"
        '<div class="cp-m-wide"><table class="cp-m-figures"><thead><tr><th scope="col">figure</th>'
        f'{head}<th scope="col"></th>'
        f"</tr></thead><tbody>{body}</tbody></table></div></section>"
    )


def _unlike(one: Results, other: Results) -> Iterator[str]:
    """What keeps figures of two runs from being the same thing measured twice."""
    if one.suite != other.suite:
        yield "They asked different suites: their figures are not of the same questions."
    elif one.suites != other.suites:
        yield "Their suites were changed in between: their figures are not of the same questions."
    if one.base != other.base:
        yield "They were answered by different bases, or by one computed otherwise."
    if one.machine != other.machine:
        yield "They ran on different machines: times and what follows from them differ for that."


def _section(title: str, name: str, body: str, lead: str = "") -> str:
    if not body:
        return ""
    told = f'<p class="cp-m-lead">{lead}</p>' if lead else ""
    return f'<section id="{name}"><h2>{escape(title)}</h2>{told}{body}</section>'


def _head(found: Results, plan: Plan, done: int) -> str:
    modes = ", ".join(mode.id for mode in found.modes)
    total, alone = len(plan.items), sum(item.kind in ("alone", "adapt") for item in plan.items)
    along = " and what goes along" if len(found.suites) > 1 else ""
    date = found.date[:16].replace("T", " ")
    unfinished = ""
    if not found.complete:
        unfinished = (
            f'<p class="cp-m-warning">This run is not complete: {done:,} of its {total:,} answers are there, and these are '
            "the figures so far.</p>"
        )
    failed = "".join(
        f'<p class="cp-m-warning">{counted(mode.failed, "answer")} of {escape(mode.id)} could not be given: counted as '
        "wrong.</p>"
        for mode in found.modes
        if mode.failed
    )
    ungraded = "".join(
        f'<p class="cp-m-warning">{counted(count, "answer")} could not be graded: {escape(why)}.</p>'
        for why, count in found.ungraded.items()
    )
    base = ", ".join(
        found.base.get(name, "") for name in ("base", "quantization", "dtype") if name in found.base
    )
    return (
        f"<header><h1>{escape(found.title)}</h1><p>{counted(found.questions, 'question')}{along}, "
        f"{counted(total, 'answer')}, {alone:,} of them timed, one at a time; through {escape(modes)}; {escape(base)}; "
        f"{escape(found.machine)}; {escape(date)} UTC.</p>{unfinished}{failed}{ungraded}</header>"
    )


def _advice(found: Results) -> str:
    if found.advice is None:
        return ""
    lines = ""
    for sentence in found.advice.sentences:
        links = " ".join(f'<a href="#{_anchor(key)}">figures</a>' for key in sentence.rests_on)
        changes = (
            f'<br><span class="cp-m-changes">What would change it: {escape(sentence.changes)}</span>'
            if sentence.changes
            else ""
        )
        lines += f"<li>{escape(sentence.text)} {links}{changes}</li>"
    return _section("Advice", "advice", f'<ol class="cp-m-advice">{lines}</ol>')


def _aspects(found: Results, plan: Plan, whole: bool) -> str:
    parts = []
    for aspect in ASPECTS:
        rows = [row for row in found.rows if row.aspect == aspect]
        told = {row.key: _row(found, row, behind(plan, row) if whole else "") for row in rows}
        body = "".join(told[row.key] for row in rows if row.part_of is None)
        apart = "".join(told[row.key] for row in rows if row.part_of is not None)
        if apart:
            body += f"<details><summary>questions and paraphrases apart</summary>{apart}</details>"
        lead = ""
        if aspect == "bias":
            lead = (
                "Pairs that differ in who asks and in nothing else, with the same seed. Intervals are wider than 95 % "
                "each, so that all of one mode together hold 95 times of 100. Tone is that of English words. "
                "Effect sizes are in standard deviations: 0.2 is small, 0.8 is large."
            )
        parts.append(_section(aspect.capitalize(), f"aspect-{aspect}", body, lead))
    return "".join(parts)


def _row(found: Results, row: Row, behind: str) -> str:
    return (
        f'<div class="cp-m-block" id="{_anchor(row.key)}"><h4>{escape(row.title)}</h4>{charts.bars(found, row)}'
        f"{charts.gaps(found, row)}{behind}</div>"
    )


def _break_even(found: Results) -> str:
    body = ""
    for one in found.break_even:
        key = "cost/money" if one.unit == "money" else "cost/machine"
        body += f'{charts.break_even(found, one)}<p><a href="#{_anchor(key)}">what each answer took</a></p>'
    lead = (
        "What both have cost after so many questions: training first, or the longer prompt each time. The band is the "
        "crossing's interval."
    )
    return _section("Break-even", "break-even", body, lead)


def _adapting(found: Results, plan: Plan, whole: bool) -> str:
    lines = ""
    adapt = next((item for item in plan.items if item.kind == "adapt"), None)
    asked = f"{adapt.suite}/{adapt.case.id}" if adapt else ""
    for slot, one in found.adapting.items():
        told = [f"answered after {minutes(one.answer_s)}"]
        if one.checked_s is not None:
            told.insert(0, f"dataset checked in {minutes(one.checked_s)}")
        elif one.trained_s is not None:
            told.insert(0, "without the check of its dataset, which is not here")
        if one.trained_s is not None:
            told.insert(-1, f"trained in {minutes(one.trained_s)} on {one.device}, as its passport says")
        if one.tested_s is not None:
            told.append(f"the test after training, {minutes(one.tested_s)}, is not counted")
        if one.changed is False:
            told.append("the answer stayed the same")
        link = f'<a href="#{escape(answers.anchor(asked))}">answers</a>' if whole else ""
        lines += f"<li><b>{escape(slot)}</b> {minutes(one.seconds)}: {escape('; '.join(told))} {link}</li>"
    lead = "From a change to the first answer after it: of an instruction, or of the dataset."
    return _section("Time to adapt", "adapting", f"<ul>{lines}</ul>" if lines else "", lead)


def _repeated(found: Results, plan: Plan) -> str:
    body = charts.heat(found, found.asked)
    for one in found.asked:
        slots = ""
        for slot, said in one.answers.items():
            texts = "".join(f"<li>{count} × <q>{escape(text)}</q></li>" for text, count in said)
            slots += f"<p><b>{escape(slot)}</b></p><ul>{texts}</ul>"
        body += f"<details><summary>{escape(one.question)}</summary>{slots}</details>"
    lead = (
        "The same question with other seeds: the mean cosine of any two answers, 1 where all mean the same."
        + _temperatures(plan)
    )
    return _section("Asked again", "again", body, lead)


def _temperatures(plan: Plan) -> str:
    told = {suite.repeat.temperature for suite in plan.suites if suite.repeat}
    fixed = sorted(one for one in told if one is not None)
    if not fixed:
        return ""
    return f" All modes were asked at a temperature of {' or '.join(f'{one:g}' for one in fixed)} here, not at their own."


def _held(found: Results) -> str:
    lines = ""
    for one in found.held:
        share = "not measured" if one.share is None else figure(one.share, "share")
        share += f", {one.ungraded} answers not graded" if one.ungraded else ""
        of = f", {one.metric}" if one.metric else ""
        state = "passed" if one.met else "failed"
        word = "met" if one.met else "missed"
        lines += (
            f'<li><span class="cp-m-verdict cp-m-{state}">{word}</span> {escape(one.mode + of)}: {share}, at least '
            f"{one.at_least:.0%}</li>"
        )
    return _section("Marks", "marks", f"<ul>{lines}</ul>" if lines else "")


def _questions(
    plan: Plan, records: Mapping[str, Record], grades: Mapping[str, Graded], room: int | None
) -> str:
    only = '<input type="checkbox" class="cp-m-only"> only questions that a mode got wrong'
    filtered = f'<label class="cp-m-filter">{only}</label>'
    told, left = answers.questions(plan, records, grades, room)
    body = f'<div class="cp-m-questions">{filtered}{told}</div>'
    if left:
        body += (
            f'<p class="cp-m-warning">{left:,} more questions, with their answers and receipts, are in report.json and '
            "answers.csv: this file is kept small enough to be sent.</p>"
        )
    return _section("Questions, answers and receipts", "questions", body)


def _prompts(plan: Plan, records: Mapping[str, Record]) -> str:
    body = ""
    for slot, text in answers.frames(plan, records).items():
        body += (
            f"<details><summary>{escape(slot)}</summary><pre>{escape(answers.visible(text))}</pre></details>"
        )
    lead = f"What each mode was sent; the question stands where {answers.MARK} is."
    return _section("Prompts", "prompts", body, lead)


def _versions(found: Results) -> str:
    lines = [f"seed {found.seed}"]
    lines += [f"suite {name}: sha256 {sha}" for name, sha in found.suites.items()]
    lines += [f"{name.replace('_', ' ')}: {told}" for name, told in found.base.items()]
    lines += [
        f"{mode.id}: adapter sha256 {mode.adapter_sha256}" for mode in found.modes if mode.adapter_sha256
    ]
    lines += [
        f"{mode.id}: persona sha256 {mode.persona_sha256}" for mode in found.modes if mode.persona_sha256
    ]
    lines += [
        f"{mode.id} sampled with " + ", ".join(f"{name} {value}" for name, value in mode.sampling.items())
        for mode in found.modes
        if mode.sampling
    ]
    lines += [f"{name} {version}" for name, version in found.versions.items()]
    return _section(
        "Versions of everything",
        "versions",
        f"<ul>{''.join(f'<li>{escape(line)}</li>' for line in lines)}</ul>",
    )


def _anchor(key: str) -> str:
    """A row's place. What suites call their metrics and attributes is no name for one: it may be anything."""
    plain = re.sub(r"[^a-z0-9-]+", "-", key.replace("/", "-").lower())
    return plain if plain == key.replace("/", "-") else f"{plain}-{zlib.crc32(key.encode()):08x}"
