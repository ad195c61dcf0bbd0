"""What the Train tab tells of a file and of a run: Markdown and HTML, everything of other people's escaped."""

from __future__ import annotations

import html

from adapters.training.data.findings import KINDS
from adapters.training.prepare import Prepared
from adapters.training.runs import Run
from comparison.gate.tell import TITLES
from ui import markup
from ui.words import say

_SHOWN_PROBLEMS = 5


def about(run: Run, published: bool) -> str:
    """The run's heading, how it stands, and what can be done with it."""
    state = say("train_stopping" if run.stopping else "train_state_" + run.state)
    lines = [f"## {markup.plain(run.title or run.name)}", f"**{state}** · `adapter:{run.name}`"]
    if run.problem:
        lines.append(f"**{say('problem')}** {markup.plain(run.problem)}")
    if run.state == "running":
        lines.append(say("train_slower"))
        if run.estimate:
            lines.append(say("train_expected_cost", told=run.estimate))
    elif run.state in ("stopped", "failed"):
        lines.append(say("train_kept", step=run.kept_step) if run.kept_step else say("train_nothing_kept"))
    if run.passport:
        training = run.passport.training
        lines.append(
            say(
                "train_done",
                steps=training.steps,
                minutes=f"{training.seconds / 60:.1f}",
                loss=f"{training.heldout_loss:.3f}",
                kept=training.kept_step or training.steps,
            )
        )
        passed = run.passport.gate is None or run.passport.gate.passed
        unused = say("train_untested" if passed else "train_unpassed")
        lines.append(say("train_published", name=run.name) if published else unused)
    return "\n\n".join(lines)


def bar(run: Run) -> str:
    """How far it is, and what its last step was."""
    if run.state == "running" and run.beginning:
        return f"<p>{html.escape(say('train_beginning'))}</p>"
    if not run.steps:
        return ""
    last = run.steps[-1]
    told = say(
        "train_step",
        step=last.step,
        steps=last.steps,
        loss=f"{last.loss:.3f}",
        rate=f"{last.learning_rate:.1e}",
        speed=f"{last.tokens_per_s:,.0f}",
    )
    if run.testing:
        done, parts = run.testing.done, run.testing.parts
        title = TITLES[run.testing.part].lower()
        told = say("train_testing", part=done + 1, parts=parts, title=title)
        if run.testing.seconds_left is not None:
            told = say("train_left", left=_duration(run.testing.seconds_left)) + " · " + told
        return _progress(100 * done / parts, told)
    if run.state == "running":
        told = say("train_left", left=_duration(last.seconds_left)) + " · " + told
    return _progress(100 * last.step / last.steps, told)


def _progress(percent: float, told: str) -> str:
    return (
        f'<progress max="100" value="{round(percent)}" aria-label="{html.escape(say("train_progress"))}"></progress>'
        f"<p>{html.escape(told)}</p>"
    )


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"


def samples(run: Run) -> str:
    """Held-out questions as it answered them last."""
    look = next((step.look for step in reversed(run.steps) if step.look and step.look.samples), None)
    if look is None:
        return ""
    lines = [f"**{say('train_samples', step=look.step)}**", "", "| | | |", "|:--|:--|:--|"]
    lines.append(f"| *{say('example_question')}* | *{say('train_expected')}* | *{say('train_answer')}* |")
    for sample in look.samples:
        cells = (sample.question, sample.expected, sample.answer)
        lines.append("| " + " | ".join(_cell(text) for text in cells) + " |")
    return "\n".join(lines)


def _cell(text: str) -> str:
    short = " ".join(text.split())
    return markup.plain(short if len(short) <= 200 else short[:199] + "…")


def report(prepared: Prepared) -> str:
    """What was understood of a file, and all kinds of what is wrong with it."""
    report = prepared.report
    reading = report.data.reading
    lines = [
        say("train_read", rows=f"{len(reading.entries):,}", format=reading.format or say("train_no_format"))
    ]
    for key, found in (("problem", report.problems), ("warning", report.notes)):
        for each in found:
            told = f"{KINDS[each.kind].title}: {each.count:,} ({say('train_mend')} {each.mend})"
            lines.append(f"- **{say(key)}** {markup.plain(told)}")
            lines += [f"    - {_at(line)}{markup.plain(text)}" for line, text in each.first[:_SHOWN_PROBLEMS]]
    if prepared.too_few:
        lines.append(f"- **{say('problem')}** {markup.plain(prepared.too_few)}")
    return "\n".join([lines[0], "", *lines[1:]])


def _at(line: int) -> str:
    """Where something was found; nothing where it is the file as a whole."""
    return f"{say('train_line', line=line)} " if line else ""


def rows(prepared: Prepared) -> str:
    """The first rows as the base reads them, with what is learned marked."""
    if not prepared.shown:
        return ""
    shown = []
    for line, spans in prepared.shown:
        text = "".join(
            f"<mark>{html.escape(span.text)}</mark>" if span.trained else html.escape(span.text)
            for span in spans
        )
        shown.append(f"<li><span>{html.escape(say('train_line', line=line))}</span><pre>{text}</pre></li>")
    return f"<p>{html.escape(say('train_rows_title'))}</p><ul>{''.join(shown)}</ul>"
