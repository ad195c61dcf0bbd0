"""The low-rank updates of one decode step on a CPU, compiled: each row's adapter in one call a linear.

With one token a row the products are so small that torch spends more time on calling its operations than on
computing: four of them and their views, 120 times a step. This is the one place where we compute ourselves.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numba
import numpy as np
import torch
from numba import types
from numba.extending import intrinsic

DTYPES = (torch.bfloat16, torch.float32)
"""What inputs and outputs may be; adapters are float32."""

_SIXTEEN = np.uint32(16)
_HALF = np.uint32(0x7FFF)
_ONE = np.uint32(1)


def add(
    y: torch.Tensor, x: torch.Tensor, addresses: np.ndarray, pieces: np.ndarray, scales: np.ndarray
) -> None:
    """y[row] += scale · x[row] A B for each row with an adapter (Hu et al. 2021, equation 3), in float32.

    x: (rows, 1, in), y: (rows, 1, out), both contiguous, of one dtype of DTYPES; y is changed in place and
    rounded once. `addresses` (jobs, 2 + projections), int64, holds a row, and where its A (ranks, in) and
    its projections' B's (rank, size) lie in memory: the caller keeps those alive. `pieces` (projections, 4),
    int64, holds where a projection begins in the output, its size, where its ranks begin in A, and its rank.
    `scales` (jobs,), float32. Raises TypeError for another dtype, IndexError for a row that x does not have.
    """
    if x.dtype not in DTYPES:
        raise TypeError(f"{x.dtype} is not one of {DTYPES}.")
    _compiled(
        x.data_ptr(), y.data_ptr(), x.dtype is torch.bfloat16, x.shape[0], x.shape[2], y.shape[2],
        addresses, pieces, scales,
    )  # fmt: skip


def _pointer(kind: Any) -> Callable[..., Any]:
    """An address as a pointer, within compiled code."""

    @intrinsic
    def to_pointer(_: Any, address: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))

        return types.CPointer(kind)(types.int64), generate

    pointer: Callable[..., Any] = to_pointer
    return pointer


_sixteen_bits = _pointer(types.uint16)
_floats = _pointer(types.float32)


def _add(
    x_address: int,
    y_address: int,
    half: bool,
    rows: int,
    wide: int,
    out: int,
    addresses: np.ndarray,
    pieces: np.ndarray,
    scales: np.ndarray,
) -> None:
    # A bfloat16 is the upper half of a float32.
    x_bits, y_bits = np.empty(wide, np.uint32), np.empty(out, np.uint32)
    x, y = x_bits.view(np.float32), y_bits.view(np.float32)
    low = np.empty(pieces[-1, 2] + pieces[-1, 3], np.float32)
    for job in range(addresses.shape[0]):
        row = addresses[job, 0]
        if not 0 <= row < rows:
            raise IndexError("a row that the batch does not have")
        if half:
            x_half = numba.carray(_sixteen_bits(x_address + 2 * row * wide), wide)
            y_half = numba.carray(_sixteen_bits(y_address + 2 * row * out), out)
            for i in range(wide):
                x_bits[i] = np.uint32(x_half[i]) << _SIXTEEN
            for o in range(out):
                y_bits[o] = np.uint32(y_half[o]) << _SIXTEEN
        else:
            x_full = numba.carray(_floats(x_address + 4 * row * wide), wide)
            y_full = numba.carray(_floats(y_address + 4 * row * out), out)
            x[:] = x_full
            y[:] = y_full
        a = numba.carray(_floats(addresses[job, 1]), (low.shape[0], wide))
        for rank in range(low.shape[0]):
            total = np.float32(0)
            for i in range(wide):
                total += x[i] * a[rank, i]
            low[rank] = total * scales[job]
        for piece in range(pieces.shape[0]):
            begin, size, first, ranks = pieces[piece]
            b = numba.carray(_floats(addresses[job, 2 + piece]), (ranks, size))
            target = y[begin : begin + size]
            for rank in range(ranks):
                weight = low[first + rank]
                for o in range(size):
                    target[o] += weight * b[rank, o]
        if half:
            # To the nearest, ties to even, as torch rounds.
            for o in range(out):
                bits = y_bits[o]
                y_half[o] = np.uint16((bits + _HALF + ((bits >> _SIXTEEN) & _ONE)) >> _SIXTEEN)
        else:
            y_full[:] = y


def warm_up() -> None:
    """Compiles, a few seconds the first time on a machine; later it is read from disk."""
    one = torch.zeros(1)
    x = torch.zeros(1, 1, 1)
    add(
        x,
        x.clone(),
        np.array([[0, one.data_ptr(), one.data_ptr()]]),
        np.array([[0, 1, 0, 1]]),
        np.ones(1, np.float32),
    )


def _compile() -> Callable[..., None]:
    # Sums may be reordered, or they would not be vectorized; values that are no numbers stay what they are.
    compiler = partial(numba.njit, nogil=True, error_model="numpy", fastmath={"reassoc", "contract", "nsz"})
    try:
        compiled: Callable[..., None] = compiler(cache=True)(_add)
    except RuntimeError:  # no folder to keep it in
        compiled = compiler()(_add)
    return compiled


_compiled = _compile()
