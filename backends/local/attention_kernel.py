"""Attention of one new token a row on a CPU, compiled: each row over its own keys and values, and no further.

torch's own adds up in another order with other threads, other rows beside or more padding, so that a seed would not
give the same answer twice. Here a row's sums depend on the row alone.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import numba
import numpy as np
import torch

from backends.local import openmp
from backends.local.attention import Reach
from backends.local.compiled import float_of, float_pointer, inlined, int_pointer


def attend(
    query: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    reach: Reach,
    scaling: float | None = None,
    softcap: float | None = None,
) -> torch.Tensor:
    """softmax(scaling · q Kᵀ) V (Vaswani et al. 2017, equation 1) of each row over its first `lengths` places.

    query: (rows, heads, 1, dim), contiguous; keys, values: (rows, kv_heads, reach, dim), parts of slabs whose
    last two dimensions lie densely; all float32. heads is a multiple of kv_heads: as many query heads share one
    (Ainslie et al. 2023). Lengths are 1 to reach. `softcap` bounds the scores (Gemma 2, section 2).
    Returns (rows, heads, 1, dim). Raises ValueError for other shapes and dtypes.
    """
    rows, heads, width, dim = query.shape
    dense = (dim, 1)
    lengths, follows, shared = reach
    if (
        {query.dtype, keys.dtype, values.dtype} != {torch.float32}
        or width != 1
        or not query.is_contiguous()
        or keys.stride() != values.stride()
        or keys.stride()[2:] != dense
        or any((one.shape, one.dtype) != ((rows,), np.int64) for one in reach)
        or not 1 <= lengths.min() <= lengths.max() <= keys.shape[2]
        or not 0 <= follows.min() <= follows.max() < rows
        or not shared.min() >= 0
        or (shared > np.minimum(lengths, lengths[follows])).any()
    ):
        raise ValueError(
            f"{tuple(query.shape)}, {tuple(keys.shape)}, {lengths}: not what is attended to here."
        )
    output = torch.empty_like(query)
    scores = query.new_empty(torch.get_num_threads(), int(lengths.max()))
    scales = np.array([dim**-0.5 if scaling is None else scaling, softcap or 0.0], np.float32)
    # Rows that read the same are neighbours.
    told = np.stack([lengths, follows, shared, np.argsort(follows, kind="stable")])
    openmp.run(
        _entry(),
        [
            *(tensor.data_ptr() for tensor in (query, keys, values, output, scores)),
            told.ctypes.data, scales.ctypes.data,
            rows, keys.shape[1], heads // keys.shape[1], dim, keys.stride(0), keys.stride(1), scores.shape[1],
        ],
    )  # fmt: skip
    return output


@inlined
def _scores(query: np.ndarray, keys: np.ndarray, scaling: float, softcap: float, scores: np.ndarray) -> None:
    for place in range(keys.shape[0]):
        total = np.float32(0)
        for i in range(keys.shape[1]):
            total += query[i] * keys[place, i]
        scores[place] = total * np.float32(scaling)
    if softcap > 0:
        cap = np.float32(softcap)
        for place in range(keys.shape[0]):
            scores[place] = cap * np.float32(math.tanh(scores[place] / cap))


@inlined
def _exp(x: Any) -> Any:
    """e to the x of at most 0, to a unit in the last place, without a call: 2^n · e^r, |r| <= ln 2 / 2 (Cephes, expf)."""
    x = max(x, np.float32(-87))
    n = np.floor(x * np.float32(1.44269504) + np.float32(0.5))
    r = x - n * np.float32(0.693359375) + n * np.float32(2.12194440e-4)
    p = np.float32(1.9875691500e-4)
    p = p * r + np.float32(1.3981999507e-3)
    p = p * r + np.float32(8.3334519073e-3)
    p = p * r + np.float32(4.1665795894e-2)
    p = p * r + np.float32(1.6666665459e-1)
    p = p * r + np.float32(5.0000001201e-1)
    return (p * r * r + r + np.float32(1)) * float_of((np.int32(n) + np.int32(127)) << np.int32(23))


@inlined
def _softmax(scores: np.ndarray) -> None:
    top = scores[0]
    for place in range(scores.shape[0]):
        top = max(top, scores[place])
    total = np.float32(0)
    for place in range(scores.shape[0]):
        scores[place] = _exp(scores[place] - top)
        total += scores[place]
    for place in range(scores.shape[0]):
        scores[place] /= total


@inlined
def _add_weighted(weights: np.ndarray, values: np.ndarray, output: np.ndarray) -> None:
    for place in range(values.shape[0]):
        for i in range(values.shape[1]):
            output[i] += weights[place] * values[place, i]


def _attend(work: Any) -> None:
    """A thread's share: a row's heads that read the same keys are one piece of work, as large as the row is long."""
    (
        query_address, key_address, value_address, output_address, score_address, told_address, scale_address,
        rows, kv_heads, group, dim, row_stride, head_stride, longest, number_of, count_of,
    ) = numba.carray(work, 16)  # fmt: skip
    number, count = openmp.share(number_of, count_of)
    told = numba.carray(int_pointer(told_address), (4, rows))
    scales = numba.carray(float_pointer(scale_address), 2)
    room = numba.carray(float_pointer(score_address + 4 * number * longest), longest)
    total = kv_heads * told[0].sum()
    done = 0
    for kv_head in range(kv_heads):
        for turn in range(rows):
            row = told[3, turn]
            length, shared = told[0, row], told[2, row]
            mine = done * count >= number * total and done * count < (number + 1) * total
            done += length
            if not mine:
                continue
            first = 4 * (told[1, row] * row_stride + kv_head * head_stride)
            rest = 4 * (row * row_stride + kv_head * head_stride + shared * dim)
            first_keys = numba.carray(float_pointer(key_address + first), (shared, dim))
            first_values = numba.carray(float_pointer(value_address + first), (shared, dim))
            keys = numba.carray(float_pointer(key_address + rest), (length - shared, dim))
            values = numba.carray(float_pointer(value_address + rest), (length - shared, dim))
            for head in range(group):
                one = 4 * dim * ((row * kv_heads + kv_head) * group + head)
                query = numba.carray(float_pointer(query_address + one), dim)
                output = numba.carray(float_pointer(output_address + one), dim)
                scores = room[:length]
                _scores(query, first_keys, scales[0], scales[1], scores[:shared])
                _scores(query, keys, scales[0], scales[1], scores[shared:])
                _softmax(scores)
                output[:] = np.float32(0)
                _add_weighted(scores[:shared], first_values, output)
                _add_weighted(scores[shared:], values, output)


def warm_up() -> None:
    """Compiles, a few seconds the first time on a machine; later it is read from disk."""
    _entry()


@functools.cache
def _entry() -> int:
    """Where the compiled function is."""
    return openmp.shared(_attend)
