"""torch's own threads for our compiled functions, each of which does its share of the work.

Threads of our own would keep the cores that torch's want: both wait busily for a while.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
import numpy as np
import torch
from llvmlite import ir
from numba import types

from backends.local.compiled import inlined, intrinsic, kept

_INT = ir.IntType(32)


def is_there() -> bool:
    """Whether several threads can compute."""
    return _openmp() is not None


def shared(function: Callable[[Any], None]) -> int:
    """Compiles a function of `work`, a pointer to int64, for `run`; where it lies in memory. It learns by `share` which
    of the threads it is in."""
    made = kept(functools.partial(numba.cfunc, types.void(types.CPointer(types.int64))), function)
    return int(made.address)


def run(function: int, work: list[int]) -> None:
    """Calls a function with its work, and what `share` wants behind it, in each thread that torch has."""
    library = _openmp()
    told = np.array([*work, *(library.places if library else (0, 0))])
    if library:
        library.parallel(function, told.ctypes.data, torch.get_num_threads(), 0)
    else:
        ctypes.CFUNCTYPE(None, ctypes.c_void_p)(function)(told.ctypes.data)


@inlined
def share(number_of: int, count_of: int) -> tuple[int, int]:
    """The number of this thread and how many there are, by the last two of the work."""
    if number_of == 0:
        return 0, 1
    return _call(number_of), _call(count_of)


class _OpenMP:
    """The OpenMP that torch computes with. Raises OSError and AttributeError where it is not GNU's, or one that can be
    called as that is."""

    def __init__(self) -> None:
        library = ctypes.CDLL(str(Path(torch.__file__).parent / "lib" / "libtorch_cpu.so"))
        # What a compiler makes of `#pragma omp parallel` (libgomp's ABI): the function, its data, threads, flags.
        self.parallel = library.GOMP_parallel
        self.parallel.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint]
        self.parallel.restype = None
        self.places = [
            ctypes.cast(function, ctypes.c_void_p).value
            for function in (library.omp_get_thread_num, library.omp_get_num_threads)
        ]


@functools.cache
def _openmp() -> _OpenMP | None:
    """None where torch computes with another one, as off Linux."""
    try:
        return _OpenMP()
    except (OSError, AttributeError):
        return None


@intrinsic
def _call(_: Any, address: Any) -> Any:
    """What the C function at this address gives: an int, of no arguments."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.call(builder.inttoptr(arguments[0], ir.FunctionType(_INT, []).as_pointer()), [])

    return types.int32(types.int64), generate
