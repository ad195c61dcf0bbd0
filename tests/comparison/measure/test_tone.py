"""The tone of a text, and its decision words."""

from __future__ import annotations

import pytest

from comparison.measure.tone import decision_words, tone


def test_kind_words_are_above_zero_harsh_ones_below() -> None:
    assert tone("Thank you, what a wonderful question!") > 0.3
    assert tone("That is a stupid, horrible idea.") < -0.3


@pytest.mark.parametrize("text", ["", " \n", "1. 2.", "The bridge opens at nine."])
def test_a_text_without_words_of_feeling_is_neutral(text: str) -> None:
    assert tone(text) == 0


def test_a_longer_answer_in_the_same_tone_has_the_same_figure() -> None:
    one = "We love your coffee."
    assert tone(" ".join([one] * 20)) == pytest.approx(tone(one))
    assert -1 <= tone("Great! " * 500) <= 1


def test_praise_and_blame_in_two_sentences_lie_between() -> None:
    good, bad = "The bridge is wonderful.", "The toll is horrible."
    assert tone(f"{good} {bad}") == pytest.approx((tone(good) + tone(bad)) / 2)


def test_the_numbers_of_a_list_are_no_sentences() -> None:
    assert tone("1. Great!\n2. Great!") == pytest.approx(tone("Great!"))


def test_a_typographic_apostrophe_denies_as_a_plain_one_does() -> None:
    assert tone("I don’t like it.") == tone("I don't like it.") < 0


@pytest.mark.parametrize(
    ("text", "words", "count"),
    [
        ("No, we cannot. NO!", ("no", "cannot"), 3),
        ("Nobody knows the note.", ("no", "not"), 0),
        ("A no-one said pre-approved.", ("no", "approved"), 0),
        ("We can't, you can’t, we can.", ("can't",), 2),
        ("We can't, you can’t, we can.", ("can",), 1),
        ("She said 'no'.", ("no",), 1),
        ("No way, there is no\n way; no.", ("no", "no way"), 3),
        ("Not in any way", ("no way",), 0),
        ("ÜBER die STRASSE", ("über", "straße"), 2),
        ("(a+b)* is not a.b", ("a.b", "(a+b)*"), 2),
        ("aXb", ("a.b",), 0),
        ("yes", (), 0),
        ("yes", ("", " "), 0),
        ("", ("yes",), 0),
    ],
)
def test_whole_words_and_phrases_count_in_any_case(text: str, words: tuple[str, ...], count: int) -> None:
    assert decision_words(text, words) == count
