"""Splits rows into those to train on and those held out, so that no held-out question was nearly trained on."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

from adapters.training.data.duplicates import groups, near_pairs
from adapters.training.data.row import Row
from errors import CounterpointError


class Split(NamedTuple):
    """The places of the rows of each side, in their order."""

    train: list[int]
    heldout: list[int]


def split(rows: Sequence[Row], share: float, seed: int) -> Split:
    """Holds out about `share` of the rows (0 to 1), the same ones for the same seed.

    Rows that ask the same, or nearly (duplicates.NEAR), stay on one side, and so does what they are connected with
    by others. Where rows carry labels, each label gives about its share: a group of rows counts for the label of
    its first one. Raises CounterpointError where a side would be empty: too few rows, or all of them nearly alike.
    """
    if not 0 < share < 1:
        raise CounterpointError(
            f"The held-out share is {share:g}: give a number between 0 and 1, such as 0.1."
        )
    by_label: dict[tuple[str, ...], list[list[int]]] = defaultdict(list)
    for members in _together(rows):
        by_label[tuple(rows[members[0]].labels.values())].append(members)
    draw = random.Random(seed)
    heldout: set[int] = set()
    owed = 0.0
    for label in sorted(by_label):
        drawn = by_label[label]
        draw.shuffle(drawn)
        # What one label was short of, or had too much, is the next one's: small labels add up to their share.
        owed += share * sum(map(len, drawn))
        for members in drawn:
            if len(members) / 2 <= owed:
                heldout.update(members)
                owed -= len(members)
    if not 0 < len(heldout) < len(rows):
        raise CounterpointError(
            f"{len(rows):,} rows cannot be split with {share:.0%} held out: they are too few, or nearly all alike. "
            "Add rows that differ, or give the held-out rows in a file of their own."
        )
    return Split([place for place in range(len(rows)) if place not in heldout], sorted(heldout))


def _together(rows: Sequence[Row]) -> list[list[int]]:
    """The places of the rows, those of one group together, in the order of their first."""
    first_with: dict[bytes, int] = {}
    links = [
        (first_with.setdefault(asked, place), place)
        for place, row in enumerate(rows)
        for asked in row.answered_places
    ]
    # Of rows that ask the same one stands for all.
    standing = dict.fromkeys(first for first, _ in links)
    wordings = [(place, wording) for place in standing for wording in rows[place].wordings]
    links += [
        (wordings[pair.first][0], wordings[pair.second][0])
        for pair in near_pairs([wording for _, wording in wordings])
    ]
    grouped: dict[int, list[int]] = {}
    for place, root in enumerate(groups(len(rows), links)):
        grouped.setdefault(root, []).append(place)
    return list(grouped.values())
