"""How many answers pass their checks: on what a mode is for, on all else, and against the suite's own marks."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import quote

from comparison.measure.figures import rows
from comparison.measure.figures.answers import Answers, Of, about
from comparison.measure.results import Held, Row
from comparison.measure.suite import Case


def customisation(answers: Answers) -> Iterator[Row]:
    """By metric, on questions and on paraphrases, together and apart."""
    places, slots = answers.places("domain"), answers.slots
    metrics = dict.fromkeys(check.metric for _, case in places for check in case.checks if check.metric)
    kinds: list[tuple[str, str, Of]] = [("customisation/all", "all checks", answers.passed)]
    for metric in metrics:
        kinds.append((_key(metric), f"their checks of {metric}", answers.passed_for(metric)))
    asked = [place for place in places if place[1].wording == 0]
    reworded = [place for place in places if place[1].wording > 0]
    scopes = [("", "questions and paraphrases" if reworded else "questions", places)]
    if reworded:
        scopes += [("/questions", "questions", asked), ("/paraphrases", "paraphrases", reworded)]
    for ending, scope, chosen in scopes:
        for key, checks, of in kinds:
            title = f"{scope} that pass {checks}"
            row = rows.over(chosen, slots, of, key + ending, title, "share", "more")
            yield row.model_copy(update={"part_of": key}) if ending else row


def _key(metric: str) -> str:
    """A metric may be called anything: nothing that other rows are called."""
    return "customisation/" + ("%61ll" if metric == "all" else quote(metric, safe=" ,:()"))


def forgetting(answers: Answers) -> Iterator[Row]:
    """On general questions."""
    places = answers.places("general")
    if places:
        title = "general questions that pass their checks"
        yield rows.over(places, answers.slots, answers.passed, "forgetting/general", title, "share", "more")


def held(answers: Answers) -> Iterator[Held]:
    """The marks of every suite, held against what its own questions got."""
    for suite in answers.plan.suites:
        places = [(suite.name, case) for case in answers.plan.cases[suite.name].values()]
        for required in suite.require:
            of = answers.passed_for(required.metric) if required.metric else answers.passed
            slot = next((one.id for one in answers.plan.slots if one.mode == required.mode), None)
            values = [of(slot, place) for place in places] if slot else []
            ungraded = sum(
                value is None and _is_graded(case, required.metric)
                for value, (_, case) in zip(values, places, strict=False)
            )
            share = None
            if any(value is not None for value in values):
                share = rows.figure(values, about(places), "share")
            yield Held(
                mode=required.mode,
                metric=required.metric,
                at_least=required.at_least,
                share=share,
                ungraded=ungraded,
                met=share is not None and share.value >= required.at_least and not ungraded,
            )


def _is_graded(case: Case, metric: str | None) -> bool:
    """Whether an answer to it is right or wrong, by the checks of a metric or by all."""
    return any(metric is None or (check.metric == metric and check.weight) for check in case.checks)
