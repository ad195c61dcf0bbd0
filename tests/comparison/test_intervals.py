"""Intervals of the gate's figures: against published examples, and against a truth that is known."""

from __future__ import annotations

import math
import random

import pytest
from scipy import stats

from adapters.verdict import Figure
from comparison import intervals


def test_a_difference_of_shares_has_newcombes_interval() -> None:
    # Example (a) of Newcombe 1998, method 10: 56/70 - 48/80.
    found = intervals.share_gap([True] * 56 + [False] * 14, [True] * 48 + [False] * 32)
    assert (found.value, found.n) == (0.2, 70)
    assert (found.low, found.high) == (pytest.approx(0.0524, abs=1e-4), pytest.approx(0.3339, abs=1e-4))


def test_a_share_has_wilsons_interval() -> None:
    found = intervals.share([True] * 81 + [False] * 182)
    # Newcombe 1998 (two-sided intervals for the single proportion), table I, method 3: 81/263.
    assert (found.low, found.high) == (pytest.approx(0.2553, abs=1e-4), pytest.approx(0.3662, abs=1e-4))


def test_the_interval_of_a_mean_covers_the_truth_about_as_often_as_it_says() -> None:
    draw = random.Random(7)
    covered = 0
    for _ in range(200):
        found = intervals.mean([draw.expovariate(1.0) for _ in range(40)])
        assert found.low is not None
        assert found.high is not None
        covered += found.low <= 1.0 <= found.high
    assert 180 <= covered <= 199


def test_a_ratio_is_of_sums_and_pairs_its_rows() -> None:
    draw = random.Random(7)
    below = [draw.uniform(1, 100) for _ in range(30)]
    found = intervals.ratio([2 * value for value in below], below)
    # However unlike the rows are, each is twice its own.
    assert (found.value, found.low, found.high) == (2.0, 2.0, 2.0)


def test_a_gap_is_between_other_rows() -> None:
    draw = random.Random(7)
    many, few = ([draw.gauss(mean, 1) for _ in range(n)] for mean, n in ((5.0, 80), (3.0, 20)))
    found = intervals.gap(many, few)
    assert found.n == 20
    assert found.low is not None
    assert found.high is not None
    assert found.low < 2.0 < found.high
    assert found.low > 0


def spread(found: Figure) -> float:
    assert found.low is not None
    assert found.high is not None
    return found.high - found.low


def test_rows_about_one_thing_tell_no_more_than_one_of_them() -> None:
    draw = random.Random(7)
    values, others = ([draw.gauss(mean, 1) for _ in range(30)] for mean in (5, 3))
    about = [number for number in range(30) for _ in range(4)]
    many, others_many = ([value for value in some for _ in range(4)] for some in (values, others))
    for once, told, naive in (
        (intervals.mean(values), intervals.mean(many, about), intervals.mean(many)),
        (intervals.gap(values, others), intervals.gap(many, others_many, about, about), intervals.gap(many, others_many)),
    ):  # fmt: skip
        assert told.n == 120
        assert spread(told) == pytest.approx(spread(once), rel=1e-6)
        assert spread(naive) < 0.6 * spread(once)


def test_a_share_of_rows_about_one_thing_is_as_wide_as_that_of_the_things() -> None:
    things = [True] * 20 + [False] * 10
    rows, about = [hit for hit in things for _ in range(4)], [n for n in range(30) for _ in range(4)]
    alone = intervals.share(things)
    assert spread(intervals.share(rows, about)) == pytest.approx(spread(alone), rel=0.03)
    assert spread(intervals.share(rows)) < 0.6 * spread(alone)
    assert spread(intervals.share([True] * 120, about)) == pytest.approx(spread(intervals.share([True] * 30)))
    gap = intervals.share_gap(rows, rows, about, about)
    assert spread(gap) == pytest.approx(spread(intervals.share_gap(things, things)), rel=0.03)
    # Where each thing's rows are half and half, they are no more alike than others.
    mixed = intervals.share([True, False] * 60, about)
    assert (mixed.value, mixed.n) == (0.5, 120)
    assert spread(mixed) == pytest.approx(spread(intervals.share([True, False] * 60)))


def test_the_interval_of_rows_about_few_things_covers_the_truth_about_as_often_as_it_says() -> None:
    draw = random.Random(7)
    covered = naive = 0
    about = [number for number in range(40) for _ in range(3)]
    for _ in range(200):
        chances = [draw.choice((0.1, 0.9)) for _ in range(40)]
        hits = [draw.random() < chances[number] for number in about]
        for found, count in ((intervals.share(hits, about), True), (intervals.share(hits), False)):
            assert found.low is not None
            assert found.high is not None
            inside = found.low <= 0.5 <= found.high
            covered += inside and count
            naive += inside and not count
    assert 180 <= covered <= 199
    assert naive < 175


def test_more_confidence_is_a_wider_interval() -> None:
    draw = random.Random(7)
    values = [draw.gauss(0, 1) for _ in range(30)]
    assert spread(intervals.mean(values, confidence=0.99)) > 1.15 * spread(intervals.mean(values))


def test_the_same_rows_get_the_same_interval() -> None:
    values = [random.Random(7).random() for _ in range(20)]
    assert intervals.mean(values) == intervals.mean(values)


def test_rows_that_are_all_alike_have_no_width() -> None:
    found = intervals.mean([0.25] * 9)
    assert (found.low, found.value, found.high) == (0.25, 0.25, 0.25)


def test_two_rows_are_too_few_for_an_interval() -> None:
    found = intervals.mean([1.0, 3.0])
    assert (found.value, found.low, found.high, found.n) == (2.0, None, None, 2)


def test_a_size_is_without_sign_and_begins_at_zero_where_the_sign_is_open() -> None:
    sure = intervals.size(intervals.mean([-1.0, -1.1, -1.2, -0.9]))
    assert sure.value == pytest.approx(1.05)
    assert sure.low is not None
    assert sure.low > 0.8
    open_ = intervals.size(intervals.mean([-1.0, 1.1, -1.2, 0.9]))
    assert open_.low == 0.0


@pytest.mark.parametrize("n", [3, 4, 6, 9, 15])
def test_the_interval_of_few_rows_covers_the_truth_about_as_often_as_it_says(n: int) -> None:
    draw = random.Random(7)
    missed = {"mean": 0, "gap": 0}
    for _ in range(400):
        some, others = ([draw.gauss(1.0, 1) for _ in range(size)] for size in (n, 2 * n))
        for name, found, truth in (
            ("mean", intervals.mean(some), 1.0),
            ("gap", intervals.gap(some, others), 0.0),
        ):
            assert found.low is not None
            assert found.high is not None
            missed[name] += not found.low <= truth <= found.high
    # 5 % of 400 are 20, and of 400 such draws 9 to 33 miss in 99.7 % of cases.
    assert all(9 <= count <= 33 for count in missed.values()), missed


def test_few_rows_have_students_interval() -> None:
    values = [1.0, 2.0, 4.0, 5.0]
    found = intervals.mean(values)
    low, high = stats.t.interval(0.95, 3, loc=3.0, scale=stats.sem(values))
    assert (found.low, found.high) == (pytest.approx(low, abs=1e-6), pytest.approx(high, abs=1e-6))
    welch = stats.ttest_ind(values, [1.0, 1.5, 2.5], equal_var=False).confidence_interval()
    gap = intervals.gap(values, [1.0, 1.5, 2.5])
    assert (gap.low, gap.high) == (pytest.approx(welch.low, abs=1e-6), pytest.approx(welch.high, abs=1e-6))


def test_a_paired_difference_of_shares_has_bonett_and_prices_interval() -> None:
    # Their equation 4, by hand: 12 rows right here alone, 4 there alone, of 60.
    hits = [True] * 12 + [False] * 4 + [True] * 44
    others = [False] * 12 + [True] * 4 + [True] * 44
    found = intervals.paired_share(hits, others)
    more, less = 13 / 62, 5 / 62
    half = 1.959964 * ((more + less - (more - less) ** 2) / 62) ** 0.5
    assert found.value == pytest.approx(8 / 60, abs=1e-6)
    assert found.low == pytest.approx(more - less - half, abs=1e-6)
    assert found.high == pytest.approx(more - less + half, abs=1e-6)


def test_answers_that_are_right_on_the_same_rows_are_not_known_to_be_equally_good() -> None:
    found = intervals.paired_share([True] * 9 + [False], [True] * 9 + [False])
    assert found.value == 0
    assert found.low is not None
    assert found.low < -0.1


def test_phrasings_of_one_question_tell_less_of_a_paired_difference_than_other_questions() -> None:
    draw = random.Random(4)
    right = [draw.random() < 0.6 for _ in range(20)]
    hits, others = [one for one in right for _ in range(4)], [True] * 80
    alike = intervals.paired_share(hits, others, [number // 4 for number in range(80)])
    alone = intervals.paired_share(hits, others)
    assert alike.value == alone.value
    # Four phrasings that are right or wrong together tell as much as one.
    assert spread(alike) == pytest.approx(spread(intervals.paired_share(right, [True] * 20)), rel=0.06)
    assert spread(alone) < spread(alike)


def test_a_difference_within_pairs_is_told_less_surely_the_more_are_told_together() -> None:
    apart = [1.0] * 6 + [0.0] * 20 + [-1.0] * 2
    one, of_many = intervals.sign(apart), intervals.sign(apart, confidence=1 - 0.05 / 16)
    assert one == intervals.paired_share([sign > 0 for sign in apart], [sign < 0 for sign in apart])
    assert spread(of_many) == pytest.approx(
        spread(one) * stats.norm.ppf(1 - 0.025 / 16) / stats.norm.ppf(0.975)
    )


def test_no_interval_reaches_beyond_what_can_be() -> None:
    values = [0.9, 1.0, 1.0, 0.7]
    wide = intervals.mean(values)
    assert wide.high is not None
    assert wide.high > 1
    found = intervals.within(wide, values, None, -1.0, 1.0)
    assert (found.low, found.high) == (wide.low, 1.0)


def test_where_all_are_alike_a_few_that_were_not_asked_may_still_differ() -> None:
    values = [1.0] * 12
    found = intervals.within(intervals.mean(values), values, None, -1.0, 1.0)
    # None of 12 differs: exactly, at most this share of all does.
    unseen = stats.binomtest(0, 12).proportion_ci(0.9, method="exact").high
    assert found.low == pytest.approx(1 - 2 * unseen, abs=1e-6)
    assert found.high == 1
    endless = intervals.within(intervals.mean(values), values, None, 0.0, math.inf)
    assert (endless.value, endless.low, endless.high) == (1, None, None)


def test_an_effect_is_in_standard_deviations_as_cohen_has_it() -> None:
    assert intervals.effect([1.0, 2.0, 3.0]) == pytest.approx(2.0)
    assert intervals.effect([1.0, 1.0]) is None


def test_about_as_many_questions_as_power_says_would_tell_a_difference() -> None:
    from statsmodels.stats.power import TTestPower

    draw = random.Random(2)
    values = [draw.gauss(0.2, 1.0) for _ in range(60)]
    found = intervals.mean(values)
    size = intervals.effect(values)
    assert size is not None
    expected = TTestPower().solve_power(effect_size=abs(size), alpha=0.05, power=0.8)
    assert intervals.things_to_tell(found, 60) == pytest.approx(expected, rel=0.1)
    assert intervals.things_to_tell(Figure(value=0.0, low=-1, high=1, n=9), 9) is None
