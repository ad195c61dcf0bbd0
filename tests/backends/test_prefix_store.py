"""The prefix store alone: what it finds, what it keeps, what it lets go."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from backends.local.prefix_store import PrefixStore, shared_length

KEY = ("base", "nf4", None)
TUNED = ("base", "nf4", "sha", 1.0)
BYTES = 8
"""Of one token in these tests: keys and values of one layer, one head, one float32 each."""


def put(store: PrefixStore, tokens: list[int], key: object = KEY) -> list[torch.Tensor]:
    tensors = [torch.zeros(1, len(tokens), 1), torch.ones(1, len(tokens), 1)]
    store.put(key, tokens, tensors)
    return tensors


def found(store: PrefixStore, tokens: list[int], key: object = KEY) -> tuple[list[int], int] | None:
    hit = store.find(key, tokens)
    return None if hit is None else (hit[0].tokens.tolist(), hit[1])


@pytest.mark.parametrize(
    ("a", "b", "length"),
    [([1, 2, 3], [1, 2, 4], 2), ([1, 2], [1, 2, 3], 2), ([1], [2], 0), ([], [1], 0), ([5, 1], [5, 1], 2)],
)
def test_a_common_beginning_is_as_long_as_the_tokens_agree(a: list[int], b: list[int], length: int) -> None:
    assert shared_length(np.asarray(a), np.asarray(b)) == length
    assert shared_length(np.asarray(b), np.asarray(a)) == length


def test_the_longest_common_beginning_is_found_whichever_came_first() -> None:
    store = PrefixStore(10_000)
    tensors = put(store, [1, 2, 3, 4])
    put(store, [1, 2, 9])
    assert found(store, [1, 2, 3, 7, 8]) == ([1, 2, 3, 4], 3)
    assert found(store, [1, 2, 9, 9]) == ([1, 2, 9], 3)
    assert found(store, [7, 1, 2]) is None
    hit = store.find(KEY, [1, 2, 3, 4, 5])
    assert hit is not None
    assert hit[0].tensors is tensors


def test_the_last_token_is_never_counted_for_its_logits_are_wanted() -> None:
    store = PrefixStore(10_000)
    put(store, [1, 2, 3])
    assert found(store, [1, 2, 3]) == ([1, 2, 3], 2)
    assert found(store, [1, 2, 3, 4]) == ([1, 2, 3], 3)
    assert found(store, [1]) is None
    assert found(store, []) is None


def test_what_was_computed_otherwise_is_never_found() -> None:
    store = PrefixStore(10_000)
    put(store, [1, 2, 3], TUNED)
    assert found(store, [1, 2, 3, 4]) is None
    assert found(store, [1, 2, 3, 4], ("base", "nf4", "sha", 0.5)) is None
    assert found(store, [1, 2, 3, 4], TUNED) == ([1, 2, 3], 3)
    put(store, [1, 2, 3])
    assert len(store) == 2, "the same tokens under another key are another entry"


def test_beyond_its_bytes_the_longest_unused_leaves_first() -> None:
    store = PrefixStore(6 * BYTES)
    put(store, [1, 1])
    put(store, [2, 2])
    put(store, [3, 3])
    assert store.bytes == 6 * BYTES
    assert found(store, [1, 1, 9]) is not None
    put(store, [4, 4])
    assert found(store, [2, 2, 9]) is None
    assert [found(store, [n, n, 9]) is not None for n in (1, 3, 4)] == [True, True, True]
    assert (store.bytes, len(store)) == (6 * BYTES, 3)


def test_a_large_entry_drives_out_as_many_as_it_needs_and_one_too_large_none() -> None:
    store = PrefixStore(6 * BYTES)
    for number in (1, 2, 3):
        put(store, [number, number])
    put(store, [4] * 7)
    assert (store.bytes, len(store)) == (6 * BYTES, 3)
    put(store, [5] * 4)
    assert (store.bytes, len(store)) == (6 * BYTES, 2)
    assert found(store, [3, 3, 9]) == ([3, 3], 2)
    assert found(store, [5] * 5) == ([5] * 4, 4)


def test_an_entry_takes_the_place_of_its_own_beginnings() -> None:
    store = PrefixStore(10_000)
    put(store, [1, 2])
    put(store, [1, 2, 3])
    put(store, [1, 9])
    put(store, [1, 2], TUNED)
    put(store, [1, 2, 3, 4])
    assert (len(store), store.bytes) == (3, (4 + 2 + 2) * BYTES)
    assert found(store, [1, 9, 9]) == ([1, 9], 2)
    assert found(store, [1, 2, 9], TUNED) == ([1, 2], 2)


def test_an_entry_is_wanted_unless_one_tells_it_already() -> None:
    store = PrefixStore(10_000)
    put(store, [1, 2, 3])
    assert not store.wants(KEY, [1, 2])
    assert not store.wants(KEY, [1, 2, 3])
    assert store.wants(KEY, [1, 2, 3, 4])
    assert store.wants(KEY, [1, 3])
    assert store.wants(TUNED, [1, 2])


def test_a_store_of_no_bytes_is_off() -> None:
    store = PrefixStore(0)
    put(store, [1, 2])
    assert not store.wants(KEY, [1, 2])
    assert (len(store), store.bytes) == (0, 0)


def test_clearing_lets_everything_go() -> None:
    store = PrefixStore(10_000)
    put(store, [1, 2])
    store.clear()
    assert (len(store), store.bytes, found(store, [1, 2, 3])) == (0, 0, None)
