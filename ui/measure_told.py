"""What the Measure tab tells of a suite and of a measurement: Markdown and HTML, everything of other people's escaped."""

from __future__ import annotations

import html
from collections.abc import Sequence

from comparison.measure.prepare import shipped
from comparison.measure.runner import AT_ONCE
from comparison.measure.runs import Forecast, Measurement
from comparison.measure.suite import Suite
from comparison.measure.words import minutes
from ui import markup
from ui.words import say


def suite(suites: Sequence[Suite], left: Sequence[str]) -> str:
    """What a suite is about, how much it asks, and what of a promptfoo configuration did not come along."""
    main, *along = suites
    lines = [markup.plain(main.description)] if main.description else []
    told = say("measure_questions", count=f"{len(main.cases()):,}")
    if along:
        titles = ", ".join(f"{one.title} ({len(one.cases()):,})" for one in along)
        told += " " + say("measure_along", titles=markup.plain(titles))
    lines.append(told)
    lines.append(markup.listed(say("measure_left"), left))
    return "\n\n".join(line for line in lines if line)


def problems(found: Sequence[str]) -> str:
    """All that is wrong with a suite."""
    return markup.listed(say("measure_problems"), found)


def forecast(found: Forecast, modes: int) -> str:
    """How much will be asked, and about how long that takes where it is known."""
    of = say("measure_of_one") if modes == 1 else say("measure_of_many", count=modes)
    told = say("measure_forecast", answers=f"{found.answers:,}", modes=of)
    if found.seconds is None:
        return told
    return f"{told} {say('measure_roughly', time=_roughly(found.seconds))}"


def about(one: Measurement, training: str | None = None) -> str:
    """A measurement's heading, how it stands, and what can be done with it. `training` is the run beside it."""
    state = say("measure_stopping" if one.stopping else "measure_state_" + one.state)
    date = one.date[:16].replace("T", " ")
    lines = [f"## {markup.plain(one.title)}"]
    told = [f"**{state}**", f"`{one.name}`", *([f"{date} UTC"] if date else [])]
    lines.append(" · ".join(told))
    if one.modes:
        lines.append(", ".join(f"`{mode}`" for mode in one.modes))
    if one.problem:
        lines.append(f"**{say('problem')}** {markup.plain(one.problem)}")
    if one.state == "running":
        lines.append(say("measure_slower" if one.here else "measure_elsewhere"))
        if training:
            lines.append(
                f"**{say('warning')}** {markup.plain(say('measure_beside_training', name=training))}"
            )
    elif one.state in ("stopped", "failed") and one.total:
        lines.append(say("measure_kept", done=f"{one.done:,}", total=f"{one.total:,}"))
    return "\n\n".join(lines)


def bar(one: Measurement) -> str:
    """What it is doing, how far it is, and how long it still takes."""
    if one.state != "running":
        return ""
    progress = one.progress
    if progress is None:
        return f"<p>{html.escape(one.preparing or say('measure_preparing'))}</p>"
    told = [say("measure_phase_" + progress.phase, at_once=AT_ONCE)]
    if progress.seconds_left is not None:
        told.insert(0, say("train_left", left=_roughly(progress.seconds_left)))
    told.append(say("measure_done", done=f"{progress.done:,}", total=f"{progress.total:,}"))
    percent = 100 * progress.done / max(1, progress.total)
    name = html.escape(say("measure_progress"))
    return (
        f'<progress max="100" value="{percent:.1f}" aria-label="{name}"></progress>'
        f"<p>{html.escape(' · '.join(told))}</p>"
    )


def waiting(text: str) -> str:
    """In the report's place, why there is none."""
    return f'<p class="cp-waiting">{html.escape(text)}</p>' if text else ""


def listed(one: Measurement) -> str:
    """A measurement in the list."""
    return f"{one.title} · {one.name.rpartition('-')[2]} · {say('measure_state_' + one.state)}"


def first_words() -> str:
    """What the tab is for, by an example."""
    return say("measure_example", suites=len(shipped()))


def _roughly(seconds: float) -> str:
    return f"{max(5, round(seconds / 5) * 5)} s" if seconds < 90 else minutes(seconds)
