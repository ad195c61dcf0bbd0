"""What a measurement asks: everything once, with seeds of its own, and what is timed first."""

from __future__ import annotations

import pytest

from comparison.measure.plan import Plan
from comparison.measure.prepare import Prices, Wanted
from errors import CounterpointError
from tests.comparison.measure.conftest import BIAS, SUITE, Planned


def test_everything_is_asked_of_every_mode_and_what_is_timed_comes_first(planned: Planned) -> None:
    plan = planned()
    kinds = [item.kind for item in plan.items]
    # A persona and an adapter may be changed; one question is timed; four wordings; two questions twice again.
    assert kinds == ["adapt"] * 2 + ["alone"] * 3 + ["answer"] * 12 + ["repeat"] * 12
    assert len({item.key for item in plan.items}) == len(kinds)


def test_modes_are_asked_together_question_by_question(planned: Planned) -> None:
    answers = [item for item in planned().items if item.kind == "answer"]
    assert [item.slot.id for item in answers[:3]] == ["base", "persona:teller", "adapter:one"]
    assert {item.case.id for item in answers[:3]} == {"1.0"}


def test_a_mode_against_itself_is_asked_with_other_seeds(planned: Planned) -> None:
    plan = planned(modes=("base", "base"))
    assert [slot.id for slot in plan.slots] == ["base", "base #2"]
    seeds = {item.seed for item in plan.items if item.kind == "answer"}
    assert len(seeds) == 8


def test_both_sides_of_a_pair_have_one_seed_and_others_have_their_own(planned: Planned) -> None:
    answers = [item for item in planned(SUITE, BIAS, modes=("base",)).items if item.suite == "who"]
    assert [item.case.side for item in answers] == [0, 1]
    assert len({item.seed for item in answers}) == 1


def test_each_repeat_has_another_seed_and_what_is_timed_says_what_is_checked(planned: Planned) -> None:
    plan = planned(modes=("base",))
    first = {item.kind: item.seed for item in plan.items if item.case.id == "1.0" and item.repeat < 2}
    assert first["alone"] == first["answer"] != first["repeat"]
    repeats = [item.seed for item in plan.items if item.kind == "repeat"]
    assert len(set(repeats)) == len(repeats)


def test_a_plan_is_the_same_after_it_was_written_and_read(planned: Planned) -> None:
    plan = planned(SUITE, BIAS, wanted=Wanted(seed=3, prices=Prices(machine_hour=1.5)))
    again = Plan.model_validate_json(plan.model_dump_json(by_alias=True))
    assert again == plan
    assert [(item.key, item.seed) for item in again.items] == [(item.key, item.seed) for item in plan.items]


def test_all_that_is_wrong_with_the_modes_is_told_at_once(planned: Planned) -> None:
    with pytest.raises(CounterpointError) as told:
        planned(modes=("base", "persona:nobody", "adapter:none", "nonsense"))
    assert all(name in str(told.value) for name in ("nobody", "none", "nonsense"))
    with pytest.raises(CounterpointError, match="name at least one with --mode"):
        planned(modes=())


@pytest.mark.parametrize(
    ("check", "mend"),
    [("{type: python, value: 'True'}", "--python"), ("{type: cost, threshold: 1}", "--machine-hour-price")],
)
def test_what_a_suite_needs_and_nobody_gave_is_told_before_anything_is_asked(
    planned: Planned, check: str, mend: str
) -> None:
    text = f"name: s\ntitle: S\ntests: [{{question: 'a?', assert: [{check}]}}]\n"
    with pytest.raises(CounterpointError, match=mend):
        planned(text)


def test_questions_that_are_timed_or_repeated_are_spread_over_the_suite(planned: Planned) -> None:
    tests = "".join(
        f"  - {{question: 'number {n}?', assert: [{{type: equals, value: x}}]}}\n" for n in range(10)
    )
    plan = planned(f"name: s\ntitle: S\ntests:\n{tests}", modes=("base",), wanted=Wanted(alone=4))
    assert [item.case.test for item in plan.items if item.kind == "alone"] == [0, 2, 5, 7]


def test_prices_make_the_cost_of_an_answer() -> None:
    prices = Prices(machine_hour=3.6, prompt_million=2.0, completion_million=10.0)
    assert prices.of_tokens(1_000_000, 100_000) == pytest.approx(2.0 + 1.0)
    assert prices.of_machine(1000) == pytest.approx(1.0)
    assert prices.of_tokens(None, 100_000) is None, "what a server did not tell is not free"
    assert not Prices().given
    assert (Prices().of_machine(5), Prices().of_tokens(5, 5)) == (None, None)
