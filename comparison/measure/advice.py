"""Prompt, fine-tune, or both: sentences that each rest on a figure, and say what would change them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple

from adapters.verdict import Figure
from comparison.measure.results import Advice, BreakEven, Mode, Results, Row, Sentence, outcome
from comparison.measure.words import figure, gap, minutes, name, number, questions, repaid_after

Choice = Literal["prompt", "fine-tune", "both", "neither", "unclear", "one kind"]
_OF_FAMILY: dict[str, Choice] = {
    "bare": "neither",
    "prompted": "prompt",
    "tuned": "fine-tune",
    "both": "both",
}
_SAID: dict[Choice, str] = {
    "prompt": "Prompt it.",
    "fine-tune": "Fine-tune it.",
    "both": "Fine-tune it, and keep the persona.",
    "neither": "Neither is needed.",
    "unclear": "These questions do not tell.",
}
RIGHT = "customisation/all"
"""The row that decides first: how much is right."""


class _Ranked(NamedTuple):
    """The best mode, and those that are not clearly worse; each family's best beside it."""

    best: Mode
    level: tuple[Mode, ...]
    row: Row


def advise(found: Results) -> Advice | None:
    """None where there are no two modes to choose between, or no figure of how much is right."""
    row = found.row(RIGHT)
    if row is None or len(row.figures) < 2:
        return None
    ranked = _ranked(found, row)
    if len({mode.family for mode in found.modes}) == 1:
        return Advice(choice="one kind", sentences=(*_of_one_kind(ranked), *_limits(found, ranked)))
    choice = _choice(ranked)
    sentences = [_first(found, ranked, choice)]
    for also in (_adapting, _break_even, _consistency, _forgetting, _bias, _limits):
        sentences += also(found, ranked)
    return Advice(choice=choice, sentences=tuple(sentences))


def _ranked(found: Results, row: Row) -> _Ranked:
    modes = [mode for mode in found.modes if mode.id in row.figures]
    best = max(modes, key=lambda mode: row.figures[mode.id].value)
    level = []
    for mode in modes:
        apart = row.gap(best.id, mode.id)
        if mode is best or apart is None or apart.outcome == "unclear":
            level.append(mode)
    return _Ranked(best, tuple(level), row)


def _choice(ranked: _Ranked) -> Choice:
    """The cheapest to make of those that are level with the best; where few questions leave all level, nothing."""
    families = {mode.family for mode in ranked.level}
    if len(families) > 1 and len(ranked.level) == len(ranked.row.figures) and not _told(ranked):
        return "unclear"
    cheapest = min(families, key=list(_OF_FAMILY).index)
    return _OF_FAMILY[cheapest]


def _told(ranked: _Ranked) -> bool:
    """Whether all are level because they are alike, within five points, and not because too little was asked."""
    apart = [gap.figure for gap in ranked.row.gaps]
    return all(
        one.low is not None and one.high is not None and max(-one.low, one.high) <= 0.05 for one in apart
    )


def _of_one_kind(ranked: _Ranked) -> Iterator[Sentence]:
    """Which of several variants is best, and how far that can be trusted."""
    row, best = ranked.row, ranked.best
    count, level = len(row.figures), len(ranked.level) - 1
    behind = count - 1 - level
    told = f"{figure(row.figures[best.id], row.unit)} of {row.title}"
    first = [mode for mode in ranked.level if row.figures[mode.id].value == row.figures[best.id].value]
    if len(first) == 1:
        text = f"Of {count} the best is {name(best)}: {told}."
        text += f" It is clearly ahead of {behind}, and not of {level}." if behind and level else ""
        text += " It is clearly ahead of all others." if behind and not level else ""
    else:
        among = "All" if len(first) == count else f"Of {count} the first {len(first)}"
        text = f"{among} are level ({', '.join(map(name, first))}): {told} each."
        text += f" They are clearly ahead of {behind}." if behind else ""
    text += " No difference is clear." if not behind else ""
    yield Sentence(text=text, rests_on=(row.key,), changes=_changes(ranked))
    if count > 2 and len(first) == 1:
        text = (
            f"Of {count}, one is ahead by chance too: expect less than {number(row.figures[best.id].value, row.unit)} of "
            f"{name(best)} on other questions."
        )
        yield Sentence(
            text=text,
            rests_on=(row.key,),
            changes="Measure it again, against the one in use, on other questions.",
        )


def _first(found: Results, ranked: _Ranked, choice: Choice) -> Sentence:
    row, best = ranked.row, ranked.best
    shares = ", ".join(
        f"{name(mode)} {figure(row.figures[mode.id], row.unit)}"
        for mode in found.modes
        if mode.id in row.figures
    )
    told = f"{_SAID[choice]} {row.title.capitalize()}: {shares}."
    chosen = [mode for mode in ranked.level if _OF_FAMILY[mode.family] == choice]
    others = [mode for mode in found.modes if mode.id in row.figures and mode not in ranked.level]
    if others:
        nearest = max(others, key=lambda mode: row.figures[mode.id].value)
        apart = row.gap(best.id, nearest.id)
        if apart:
            told += f" {name(best)} is clearly ahead of {name(nearest)}, by {gap(apart.figure, row.unit)}."
    if choice == "unclear":
        told += " No mode is clearly ahead of another."
    elif chosen and best not in chosen:
        told += f" {name(chosen[0])} is not clearly behind {name(best)}, and takes less to make."
    return Sentence(text=told, rests_on=(row.key,), changes=_changes(ranked))


def _changes(ranked: _Ranked) -> str:
    """How many questions more would tell the best from the next."""
    row, best = ranked.row, ranked.best
    gaps = [found for mode in ranked.level if mode is not best and (found := row.gap(best.id, mode.id))]
    needed = [(found.more_questions, found.other) for found in gaps if found.more_questions is not None]
    if not gaps:
        return "Other questions: these figures hold for questions like those of the suite."
    if not needed:
        return "Nothing that more questions like these would show: the modes get the same ones right."
    least, other = min(needed)
    told = questions(least).capitalize()
    return f"{told} like these would tell {best.id} from {other}, if they differ as much as it seems."


def _adapting(found: Results, ranked: _Ranked) -> Iterator[Sentence]:
    prompted = _fastest(found, "prompted")
    tuned = _fastest(found, "tuned")
    if prompted and tuned:
        text = (
            f"Tried once each, a change shows after {minutes(found.adapting[prompted.id].seconds)} where it is an "
            f"instruction of {name(prompted)}, and after {minutes(found.adapting[tuned.id].seconds)} where {name(tuned)} "
            "has to be trained on it."
        )
        changes = "What is known changes often: then prompting gains. A faster machine trains faster."
        yield Sentence(text=text, rests_on=("adapting",), changes=changes)


def _fastest(found: Results, family: str) -> Mode | None:
    its = [
        mode
        for mode in found.modes
        if mode.family == family
        and mode.id in found.adapting
        and (family == "prompted" or found.adapting[mode.id].trained_s is not None)
        and found.adapting[mode.id].changed is not False
    ]
    return min(its, key=lambda mode: found.adapting[mode.id].seconds, default=None)


def _break_even(found: Results, ranked: _Ranked) -> Iterator[Sentence]:
    for one in found.break_even:
        text = f"{_repaid(found, one)}."
        yield Sentence(text=text, rests_on=("break-even",), changes=_repaid_changes(one))


def _repaid(found: Results, one: BreakEven) -> str:
    unit = "money" if one.unit == "money" else "seconds of the machine"
    tuned, prompted = name(found.mode(one.tuned)), name(found.mode(one.prompted))
    sign = found.currency if one.unit == "money" else ""
    what = "a thousand answers" if one.per == 1000 else "an answer"
    each = f"{sign}{_amount(one.tuned_each)} against {sign}{_amount(one.prompted_each)} for {what}"
    if one.state == "nothing to repay":
        return f"In {unit} the training of {tuned} cost nothing: {each}"
    if one.state == "never":
        return f"In {unit} {tuned} never repays its training against {prompted}: {each}"
    after = repaid_after(one)
    if one.state == "unclear":
        seems = f", as it seems {after}" if after else ""
        return f"In {unit} it is not clear whether {tuned} ever repays its training against {prompted}{seems}: {each}"
    return f"In {unit} {tuned} has repaid its training against {prompted} {after}: {each}"


def _repaid_changes(one: BreakEven) -> str:
    return (
        "A longer persona, a price by the token, or a server that reads the persona anew for each question makes it "
        "sooner; retraining makes it later."
        if outcome(one.saving) != "less"
        else "A price by the token, or a persona that is read anew for each question."
    )


def _amount(each: Figure) -> str:
    return f"{each.value:.3g}"


def _consistency(found: Results, ranked: _Ranked) -> Iterator[Sentence]:
    for key in ("consistency/similarity", "consistency/paraphrases"):
        row = found.row(key)
        told = _clear(found, row) if row else None
        if row and told:
            changes = "A lower temperature makes all modes more consistent."
            yield Sentence(text=told, rests_on=(row.key,), changes=changes)
            return


def _clear(found: Results, row: Row) -> str | None:
    """The clear difference between the best prompted and the best tuned mode, if there is one."""
    prompted, tuned = (_best(found, row, family) for family in ("prompted", "tuned"))
    apart = row.gap(tuned.id, prompted.id) if prompted and tuned else None
    if apart is None or prompted is None or tuned is None:
        return None
    figures = ", ".join(
        f"{name(mode)} {figure(row.figures[mode.id], row.unit)}" for mode in (prompted, tuned)
    )
    if apart.outcome == "unclear":
        return f"{row.title.capitalize()}: {figures}; no clear difference."
    ahead = tuned if apart.outcome == "more" else prompted
    return f"{row.title.capitalize()}: {figures}; {name(ahead)} is clearly ahead, by {gap(apart.figure, row.unit)}."


def _best(found: Results, row: Row, family: str) -> Mode | None:
    its = [mode for mode in found.modes if mode.family == family and mode.id in row.figures]
    return max(its, key=lambda mode: row.figures[mode.id].value, default=None)


def _forgetting(found: Results, ranked: _Ranked) -> Iterator[Sentence]:
    row = found.row("forgetting/general")
    bare = next((mode for mode in found.modes if mode.family == "bare"), None)
    if row is None or bare is None or bare.id not in row.figures:
        return
    for mode in ranked.level:
        apart = row.gap(mode.id, bare.id)
        if apart and apart.outcome == "less":
            text = (
                f"For nothing but this task: {name(mode)} passes {figure(row.figures[mode.id], row.unit)} of general "
                f"questions, the bare base {figure(row.figures[bare.id], row.unit)}."
            )
            changes = (
                "General examples among the training rows, or a persona where the app has other uses too."
            )
            yield Sentence(text=text, rests_on=(row.key,), changes=changes)


def _bias(found: Results, ranked: _Ranked) -> Iterator[Sentence]:
    for mode in ranked.level:
        clear = [
            row
            for row in found.rows
            if row.paired and mode.id in row.figures and outcome(row.figures[mode.id]) != "unclear"
        ]
        for row in clear:
            text = f"{name(mode)} answers differently by who asks ({row.title}): {gap(row.figures[mode.id], row.unit)}."
            changes = "Training rows, or examples, that are balanced in who asks."
            yield Sentence(text=text, rests_on=(row.key,), changes=changes)


def _limits(found: Results, ranked: _Ranked) -> Iterator[Sentence]:
    """What the figures are not for."""
    if not found.complete:
        yield Sentence(text="The run is not complete: these are the figures so far.", rests_on=(RIGHT,))
    if found.ungraded:
        count = sum(found.ungraded.values())
        why = next(iter(found.ungraded))
        yield Sentence(text=f"{count} answers could not be graded: {why}.", rests_on=(RIGHT,))
