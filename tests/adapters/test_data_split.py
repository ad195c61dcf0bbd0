"""A split is the same for the same seed, keeps what is alike together, and each label's share."""

from __future__ import annotations

from collections import Counter

import pytest

from adapters.training.data.row import Row
from adapters.training.data.split import split
from adapters.training.dataset import refuse_overlap
from errors import CounterpointError
from tests.adapters.test_data_duplicates import texts


def row(question: str, answer: str = "Yes.", **more: str) -> Row:
    turns = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return Row.model_validate({"messages": turns, **more})


ROWS = [row(text, label="rare" if at % 10 == 0 else "common") for at, text in enumerate(texts(400))]


def test_the_seed_decides_and_every_row_is_on_one_side() -> None:
    one, again, other = split(ROWS, 0.1, 1), split(ROWS, 0.1, 1), split(ROWS, 0.1, 2)
    assert one == again
    assert one != other
    assert sorted(one.train + one.heldout) == list(range(len(ROWS)))


@pytest.mark.parametrize("share", [0.05, 0.1, 0.5])
def test_each_label_gives_about_its_share(share: float) -> None:
    held = Counter(ROWS[place].labels["label"] for place in split(ROWS, share, 3).heldout)
    assert abs(held["common"] - share * 360) <= 1
    assert abs(held["rare"] - share * 40) <= 1


def test_many_small_labels_add_up_to_the_share() -> None:
    rows = [row(text, group=str(at // 3)) for at, text in enumerate(texts(300))]
    assert abs(len(split(rows, 0.1, 0).heldout) - 30) <= 1


@pytest.mark.parametrize("seed", range(5))
def test_near_duplicates_and_chains_of_them_stay_on_one_side(seed: int) -> None:
    some = texts(60)
    rows = [row(text) for text in some]
    rows += [row(text.upper() + "!") for text in some] + [row(text + " also", "No.") for text in some]
    held = set(split(rows, 0.2, seed).heldout)
    assert held
    for place in range(60):
        assert len({place + step in held for step in (0, 60, 120)}) == 1


def test_what_cannot_be_split_is_said() -> None:
    for rows in ([], ROWS[:1], [row("How do I pause my plan?")] * 30):
        with pytest.raises(CounterpointError, match="cannot be split with 10% held out"):
            split(rows, 0.1, 0)
    for share in (0, 1, -0.5):
        with pytest.raises(CounterpointError, match=r"between 0 and 1, such as 0\.1"):
            split(ROWS, share, 0)


def talk(*turns: str) -> Row:
    roles = ("user", "assistant")
    return Row.model_validate(
        {"messages": [{"role": roles[at % 2], "content": text} for at, text in enumerate(turns)]}
    )


@pytest.mark.parametrize("seed", range(5))
def test_talks_that_share_a_turn_that_is_learned_stay_on_one_side(seed: int) -> None:
    some = texts(60)
    begun = [talk(text, "It is so.") for text in some]
    longer = [talk(text, "It is so.", f"And {number}?", "That too.") for number, text in enumerate(some)]
    nearly = [talk(text + " also", "Not quite.", "Why?", "Because.") for text in some]
    rows = begun + longer + nearly
    parts = split(rows, 0.2, seed)
    held = set(parts.heldout)
    assert held
    for place in range(60):
        assert len({place + step in held for step in (0, 60, 120)}) == 1
    refuse_overlap([rows[place] for place in parts.train], [rows[place] for place in parts.heldout])


def test_a_held_out_talk_whose_first_turn_is_learned_is_refused() -> None:
    longer = talk("How is it?", "So.", "And now?", "Well.")
    for train, heldout in (
        ([longer], [talk("how IS it?", "Else.")]),
        ([talk("How is it?", "So.")], [longer]),
    ):
        with pytest.raises(CounterpointError, match="1 held-out questions are also in the training rows"):
            refuse_overlap(train, heldout)
    refuse_overlap([longer], [talk("And now?", "Well.")])
