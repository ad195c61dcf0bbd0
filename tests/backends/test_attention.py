"""Attention over rows of different lengths: each row's own, whatever stands beside it and however many threads compute."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from backends.local import attention_kernel
from backends.local.attention import Reach, attend, mask

LENGTHS = [3, 3, 200, 150, 9]


def slabs(rows: int, places: int, dim: int = 8) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    query = torch.randn(rows, 6, 1, dim)
    key, value = torch.randn(2, rows, 2, places, dim).unbind(0)
    return query, key, value


@pytest.mark.parametrize("softcap", [None, 30.0])
@pytest.mark.parametrize("dim", [8, 64])
def test_a_decode_step_attends_as_torch_does(softcap: float | None, dim: int) -> None:
    query, key, value = slabs(len(LENGTHS), 256, dim)
    reach = max(LENGTHS)
    key, value = key[:, :, :reach], value[:, :, :reach]
    starts = torch.tensor(LENGTHS) - 1
    hidden = mask(starts, torch.ones_like(starts), reach, torch.float32)
    module = torch.nn.Module()
    expected, _ = attend(module, query, key, value, hidden, softcap=softcap)
    ours, _ = attend(
        module, query, key, value, None, softcap=softcap, row_reach=Reach.alone(np.array(LENGTHS))
    )
    torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-6)


def test_a_rows_attention_is_the_same_bits_alone_and_beside_others_with_any_number_of_threads(
    threads: Callable[[int], None],
) -> None:
    query, key, value = slabs(len(LENGTHS), 256)
    threads(1)
    together = attention_kernel.attend(query, key, value, Reach.alone(np.array(LENGTHS)))
    for count in (1, 2, 3):
        threads(count)
        for row, length in enumerate(LENGTHS):
            one = slice(row, row + 1)
            alone = attention_kernel.attend(
                query[one], key[one, :, :length], value[one, :, :length], Reach.alone(np.array([length]))
            )
            assert torch.equal(alone[0], together[row])


def test_what_is_beyond_a_rows_length_is_never_read() -> None:
    query, key, value = slabs(2, 64)
    before = attention_kernel.attend(query, key, value, Reach.alone(np.array([10, 20])))
    key[0, :, 10:], value[0, :, 10:] = torch.nan, torch.nan
    assert torch.equal(attention_kernel.attend(query, key, value, Reach.alone(np.array([10, 20]))), before)
    key[0, :, 3] = torch.nan
    spoiled = attention_kernel.attend(query, key, value, Reach.alone(np.array([10, 20])))
    assert spoiled[0].isnan().all(), "what is no number is told on, not passed over"
    assert torch.equal(spoiled[1], before[1])


def test_what_rows_begin_with_in_common_is_read_of_one_of_them(threads: Callable[[int], None]) -> None:
    query, key, value = slabs(len(LENGTHS), 256)
    lengths, follows, shared = np.array(LENGTHS), np.array([0, 1, 2, 2, 0]), np.array([3, 0, 150, 149, 2])
    for row, (first, length) in enumerate(zip(follows, shared, strict=True)):
        for slab in (key, value):
            slab[row, :, :length] = slab[first, :, :length]
    apart = attention_kernel.attend(query, key, value, Reach.alone(lengths))
    for slab in (key, value):
        slab[3, :, :149] = slab[4, :, :2] = torch.nan
    for count in (1, 2, 3):
        threads(count)
        assert torch.equal(attention_kernel.attend(query, key, value, Reach(lengths, follows, shared)), apart)


@pytest.mark.parametrize(("follows", "shared"), [([0, 2], [0, 0]), ([0, 0], [0, 4]), ([0, -1], [0, 0])])
def test_a_beginning_that_is_not_there_is_refused(follows: list[int], shared: list[int]) -> None:
    with pytest.raises(ValueError, match="not what is attended to"):
        attention_kernel.attend(*slabs(2, 64), Reach(np.array([3, 9]), np.array(follows), np.array(shared)))


def test_far_apart_scores_neither_overflow_nor_lose_the_largest() -> None:
    query, key, value = slabs(1, 4)
    query, key[:] = query * 1000, key * 1000
    expected = torch.nn.functional.scaled_dot_product_attention(query, key, value, enable_gqa=True)
    torch.testing.assert_close(
        attention_kernel.attend(query, key, value, Reach.alone(np.array([4]))), expected
    )


@pytest.mark.parametrize("lengths", [[0, 1], [1, 65], [1]])
def test_lengths_that_cannot_be_are_refused(lengths: list[int]) -> None:
    with pytest.raises(ValueError, match="not what is attended to"):
        attention_kernel.attend(*slabs(2, 64), Reach.alone(np.array(lengths)))
