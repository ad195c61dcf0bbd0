"""The low-rank updates of one forward pass on a CPU, compiled: each row's adapter in one call a linear.

With few tokens a row the products are so small that torch spends more time on calling its operations than on
computing: four of them and their views, 120 times a pass. This is the one place where we compute ourselves.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import torch
from numba import types

from backends.local.compiled import compiled, float_pointer, half_pointer, inlined, intrinsic

DTYPES = (torch.bfloat16, torch.float32)
"""What inputs, outputs and adapters may be. Whatever they are, the update is computed in float32."""


def add(y: torch.Tensor, x: torch.Tensor, jobs: np.ndarray, parts: np.ndarray, strengths: np.ndarray) -> None:
    """y[row] += strength · x[row] A B for each row with an adapter (Hu et al. 2021, equation 3), in float32.

    x: (rows, width, in), y: (rows, width, out), both contiguous, of one dtype of DTYPES; y is changed in place and
    rounded once. `jobs` (n, 6), int64: a row, where its A (ranks, in) lies in memory, how many ranks it has, its
    first part and the one after its last, and 1 where the adapter is bfloat16. `parts` (m, 5), int64: where a
    projection's B (rank, size) lies in memory, where it begins in the output, its size, its first rank, its
    rank. The caller keeps both alive. `strengths` (n,), float32. Raises TypeError for another dtype, IndexError
    for a row that x does not have.
    """
    if x.dtype not in DTYPES:
        raise TypeError(f"{x.dtype} is not one of {DTYPES}.")
    _compiled(
        x.data_ptr(), y.data_ptr(), x.dtype is torch.bfloat16, *x.shape, y.shape[2],
        jobs, parts, strengths,
    )  # fmt: skip


@intrinsic
def _widen(_: Any, half: Any) -> Any:
    """A bfloat16's bits as the float32 that it is: its upper half."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        bits = builder.zext(arguments[0], context.get_value_type(types.uint32))
        upper = builder.shl(bits, context.get_constant(types.uint32, 16))
        return builder.bitcast(upper, context.get_value_type(types.float32))

    return types.float32(types.uint16), generate


@intrinsic
def _bits(_: Any, value: Any) -> Any:
    """A float32's bits."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], context.get_value_type(types.uint32))

    return types.uint32(types.float32), generate


_SIXTEEN, _HALF, _ONE = np.uint32(16), np.uint32(0x7FFF), np.uint32(1)


@inlined
def _read(address: int, half: bool, out: np.ndarray) -> None:
    """Fills `out` with float32 from an address."""
    if half:
        halves = numba.carray(half_pointer(address), out.shape[0])
        for i in range(out.shape[0]):
            out[i] = _widen(halves[i])
    else:
        out[:] = numba.carray(float_pointer(address), out.shape[0])


@inlined
def _write(values: np.ndarray, half: bool, address: int) -> None:
    """Writes float32 to an address; to bfloat16 rounded to the nearest, ties to even, as torch does."""
    if half:
        halves = numba.carray(half_pointer(address), values.shape[0])
        for i in range(values.shape[0]):
            bits = _bits(values[i])
            halves[i] = np.uint16((bits + _HALF + ((bits >> _SIXTEEN) & _ONE)) >> _SIXTEEN)
    else:
        numba.carray(float_pointer(address), values.shape[0])[:] = values


@inlined
def _dot(values: np.ndarray, address: int, half: bool) -> np.float32:
    """The inner product of float32 values with as many numbers at an address."""
    total = np.float32(0)
    if half:
        halves = numba.carray(half_pointer(address), values.shape[0])
        for i in range(values.shape[0]):
            total += values[i] * _widen(halves[i])
    else:
        floats = numba.carray(float_pointer(address), values.shape[0])
        for i in range(values.shape[0]):
            total += values[i] * floats[i]
    return total


@inlined
def _add_scaled(target: np.ndarray, scale: float, address: int, half: bool) -> None:
    """target += scale times as many numbers at an address."""
    if half:
        halves = numba.carray(half_pointer(address), target.shape[0])
        for i in range(target.shape[0]):
            target[i] += scale * _widen(halves[i])
    else:
        floats = numba.carray(float_pointer(address), target.shape[0])
        for i in range(target.shape[0]):
            target[i] += scale * floats[i]


def _add(
    x_address: int,
    y_address: int,
    half: bool,
    rows: int,
    width: int,
    wide: int,
    out: int,
    jobs: np.ndarray,
    parts: np.ndarray,
    strengths: np.ndarray,
) -> None:
    x, y, low = np.empty(wide, np.float32), np.empty(out, np.float32), np.empty(jobs[:, 2].max(), np.float32)
    size_of = 2 if half else 4
    for job in range(jobs.shape[0]):
        row, a_address, ranks, first_part, end_part, short = jobs[job]
        if not 0 <= row < rows:
            raise IndexError("a row that the batch does not have")
        weight_size = 2 if short else 4
        for token in range(row * width, (row + 1) * width):
            _read(x_address + size_of * token * wide, half, x)
            _read(y_address + size_of * token * out, half, y)
            for rank in range(ranks):
                low[rank] = strengths[job] * _dot(x, a_address + weight_size * rank * wide, short)
            for part in range(first_part, end_part):
                b_address, begin, size, first, count = parts[part]
                for rank in range(count):
                    place = b_address + weight_size * rank * size
                    _add_scaled(y[begin : begin + size], low[first + rank], place, short)
            _write(y, half, y_address + size_of * token * out)


def warm_up() -> None:
    """Compiles, a few seconds the first time on a machine; later it is read from disk."""
    one = torch.zeros(1)
    x = torch.zeros(1, 1, 1)
    jobs, parts = np.array([[0, one.data_ptr(), 1, 0, 1, 0]]), np.array([[one.data_ptr(), 0, 1, 0, 1]])
    add(x.clone(), x, jobs, parts, np.ones(1, np.float32))


_compiled = compiled(_add)
