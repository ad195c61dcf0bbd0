"""The parts of the gate that need answers: what is asked of the engine, and what is made of what it says."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from adapters.training.run import Trained
from adapters.verdict import Finding
from backends.contract import BaseFacts, Delta, Event, Request
from comparison.gate import answers
from comparison.gate.gate import refuse
from comparison.gate.steps import Omitted
from errors import CounterpointError
from personas.schema import Persona, parse_persona


class Answering:
    """A backend that says what a function makes of a request."""

    def __init__(self, say: Any) -> None:
        self.asked: list[Request] = []
        self._say = say

    def stream(self, requests: list[Request]) -> Iterator[Event]:
        self.asked += requests
        for request in requests:
            yield Delta(request.id, self._say(request), 1)


def asked(trained: Trained, backend: Any, persona: Persona | None = None) -> answers.Asked:
    return answers.Asked(trained, persona, backend)


def test_answers_that_vary_with_the_seed_are_inconsistent_and_asked_warm(trained: Trained) -> None:
    def say(request: Request) -> str:
        return f"number {request.sampling.seed}" if request.adapter else "always this"

    backend = Answering(say)
    told = asked(trained, backend).consistency()
    assert told.figures["base"].value == 1.0
    assert told.figures["adapter"].value == 0.5
    assert told.judged.value == -0.5
    assert told.verdict == "failed"
    assert {request.sampling.temperature for request in backend.asked} == {answers.TEMPERATURE}
    assert {request.sampling.seed for request in backend.asked} == {0, 1, 2, 3}


def test_an_adapter_that_says_nothing_is_not_consistent(trained: Trained) -> None:
    told = asked(trained, Answering(lambda request: "" if request.adapter else "always this")).consistency()
    assert (told.figures["base"].value, told.figures["adapter"].value) == (1.0, 0.0)
    assert told.verdict == "failed"


@pytest.mark.parametrize(
    "check",
    [
        {"type": "llm-rubric", "value": "is polite"},
        {"type": "contains"},
        {"type": "regex", "value": "("},
        {"type": "assert-set"},
        {"type": "assert-set", "assert": []},
        {"type": "not-contains-all", "value": 3},
    ],
)
def test_a_check_that_cannot_be_made_is_told_before_anything_is_trained(
    trained: Trained, facts: BaseFacts, check: dict[str, Any]
) -> None:
    good = {"type": "contains", "value": "x"}
    rows = [
        trained.heldout[0],
        trained.heldout[1].model_copy(update={"checks": (good, check)}),
    ]
    with pytest.raises(CounterpointError, match=r"^gate: held-out row 2: ") as error:
        refuse(None, rows, facts)
    assert "\n" not in str(error.value)
    refuse(None, [rows[0], rows[0].model_copy(update={"checks": (good,)})], facts)


def test_a_persona_that_answers_in_steps_is_no_counterpart(trained: Trained, facts: BaseFacts) -> None:
    steps = 'steps: [{name: outline, prompt: "{{question}}"}, {name: answer, prompt: "{{outline}}"}]'
    persona = parse_persona(
        f"name: t\ntitle: T\ndescription: D.\nrole: You tell.\ninstructions: [Tell.]\n{steps}\n",
        "teller.yaml",
    )
    with pytest.raises(CounterpointError, match=r"persona t answers in steps.*choose another persona"):
        refuse(persona, trained.heldout, facts)


def test_checks_are_counted_for_each_mode_as_it_samples_in_the_app(trained: Trained) -> None:
    rows = [
        one.model_copy(update={"checks": ({"type": "equals", "value": one.answer},)})
        for one in trained.heldout
    ]
    right = {one.question[-1]["content"]: one.answer for one in rows}
    recipe = trained.recipe.model_copy(
        update={"sampling": trained.recipe.sampling.model_copy(update={"temperature": 0.4})}
    )
    checked = replace(trained, heldout=rows, recipe=recipe)
    backend = Answering(lambda request: right[request.messages[-1]["content"]] if request.adapter else "no")
    told = asked(checked, backend).checks()
    assert isinstance(told, Finding)
    assert (told.figures["base"].value, told.figures["adapter"].value) == (0.0, 1.0)
    assert told.judged == told.figures["adapter"]
    assert {request.sampling.temperature for request in backend.asked if request.adapter} == {0.4}


def test_rows_without_checks_are_told(trained: Trained) -> None:
    told = asked(trained, Answering(lambda request: "")).checks()
    assert told == Omitted("no held-out row has checks")


def test_what_is_left_to_ask_is_told_in_time_and_ends_at_nothing(
    trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each call of the clock is a second later: what it says depends on the answers alone."""
    seconds = iter(range(100))
    monkeypatch.setattr(answers.time, "monotonic", lambda: float(next(seconds)))
    left: list[float] = []
    measured = answers.Asked(trained, None, Answering(lambda request: "so it is"), left.append)  # type: ignore[arg-type]
    for _, step in measured.steps():
        step()
    times = 2 * trained.recipe.gate.seeds  # the bare base's and the adapter's, three rows in each
    assert left == [times - done for done in range(1, times + 1)]
