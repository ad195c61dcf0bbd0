"""Near duplicates are found, what differs is not, and many texts that begin alike stay quick to look through."""

from __future__ import annotations

import random

import pytest

from adapters.training.data.duplicates import NEAR, SHINGLE, groups, near_pairs


def texts(count: int, seed: int = 0, words: int = 30) -> list[str]:
    draw = random.Random(seed)
    known = ["".join(draw.choices("abcdefghijklmnop", k=draw.randint(3, 9))) for _ in range(2000)]
    return [" ".join(draw.choices(known, k=words)) for _ in range(count)]


def resemblance(a: str, b: str) -> float:
    """The Jaccard index of both shingle sets, exactly."""
    sets = [{text[at : at + SHINGLE] for at in range(len(text) - SHINGLE + 1)} for text in (a, b)]
    return len(sets[0] & sets[1]) / len(sets[0] | sets[1])


def test_texts_that_differ_in_case_and_punctuation_only_are_alike() -> None:
    assert near_pairs(["How do I pause it?", "x", "how do i  pause it", "HOW, do I pause: it!"]) == [
        (0, 2, 1.0),
        (0, 3, 1.0),
        (2, 3, 1.0),
    ]


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("What is the capital of France?", "What is the capital of Spain?"),
        ("How do I pause my plan?", "How do I cancel my plan?"),
        ("When do you ship?", "Is there a trial?"),
        ("a", "b"),
        ("?", "!"),
        ("", "a"),
    ],
)
def test_short_texts_that_differ_in_a_word_are_not(a: str, b: str) -> None:
    assert near_pairs([a, b]) == []


def test_text_without_spaces_or_letters_is_compared_too() -> None:
    chinese = "如何暂停我的咖啡订阅服务并在下个月重新开始配送到新的地址"
    assert [
        pair[:2] for pair in near_pairs([chinese, "完全不同的问题在这里没有共同之处", chinese + "呢"])
    ] == [(0, 2)]
    assert [pair[:2] for pair in near_pairs(["???", "???"])] == [(0, 1)]


def test_almost_every_near_duplicate_is_found_and_next_to_nothing_else() -> None:
    draw = random.Random(1)
    base = texts(2000)
    changed = []
    for text in base:
        words = text.split()
        for _ in range(draw.randint(0, 4)):
            words[draw.randrange(len(words))] = "changed"
        changed.append(" ".join(words))
    found = {(pair.first, pair.second): pair.resemblance for pair in near_pairs(base + changed)}
    exact = {(at, at + 2000): resemblance(base[at], changed[at]) for at in range(2000)}
    clear = {pair for pair, value in exact.items() if value >= NEAR + 0.1}
    assert len(clear) > 500
    assert len(clear & found.keys()) >= 0.99 * len(clear)
    assert not [pair for pair in found if exact.get(pair, 0) < NEAR - 0.15]
    assert all(abs(exact[pair] - value) < 0.15 for pair, value in found.items())


def test_the_same_texts_give_the_same_pairs() -> None:
    some = texts(300) * 2
    assert near_pairs(some) == near_pairs(some)


def test_texts_that_all_begin_alike_give_no_square_of_pairs_and_stay_connected() -> None:
    shared = texts(1, seed=9, words=200)[0]
    alike = [shared + " " + text for text in texts(1500, words=4)]
    pairs = near_pairs(alike)
    assert len(pairs) < 200 * len(alike)
    assert set(groups(len(alike), [pair[:2] for pair in pairs])) == {0}


def test_of_many_that_are_alike_each_new_one_is_found_beside_one_of_the_few_known_ones() -> None:
    shared = texts(1, seed=9, words=200)[0]
    alike = [shared + " " + text for text in texts(600, words=4)]
    known = 2
    beside = {pair.second for pair in near_pairs(alike, known) if pair.first < known <= pair.second}
    assert beside == set(range(known, len(alike)))
    assert {pair[:2] for pair in near_pairs(alike)} <= {pair[:2] for pair in near_pairs(alike, known)}


def test_groups_are_what_is_connected() -> None:
    assert groups(6, [(4, 5), (1, 2), (2, 4)]) == [0, 1, 1, 3, 1, 1]
    assert near_pairs([]) == near_pairs(["alone"]) == groups(0, []) == []
