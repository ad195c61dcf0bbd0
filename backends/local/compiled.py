"""What compiled functions need of numba: a compiler with our rules, and memory by its address."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numba
import numba.extending
from numba import types

intrinsic: Callable[[Any], Callable[..., Any]] = numba.extending.intrinsic
inlined: Callable[..., Any] = partial(
    # Sums may be reordered, or they would not be vectorized; values that are no numbers stay what they are.
    numba.njit,
    nogil=True,
    error_model="numpy",
    fastmath={"reassoc", "contract", "nsz"},
    forceinline=True,
)
"""A part of a compiled function."""


def kept(compiler: Callable[..., Any], function: Callable[..., None]) -> Any:
    """What the compiler makes of the function, kept on disk where there is a place for it: until its own file changes,
    so touch that where something changes that it takes from another one."""
    try:
        return compiler(cache=True)(function)
    except RuntimeError:  # no folder to keep it in
        return compiler()(function)


def compiled(function: Callable[..., None]) -> Callable[..., None]:
    """The function, compiled when it is first called."""
    made: Callable[..., None] = kept(inlined, function)
    return made


def _pointer(kind: Any) -> Callable[..., Any]:
    """An address as a pointer, within compiled code."""

    @intrinsic
    def to_pointer(_: Any, address: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))

        return types.CPointer(kind)(types.int64), generate

    return to_pointer


half_pointer = _pointer(types.uint16)
float_pointer = _pointer(types.float32)
int_pointer = _pointer(types.int64)


@intrinsic
def float_of(_: Any, bits: Any) -> Any:
    """The float32 of these bits, an int32."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], context.get_value_type(types.float32))

    return types.float32(types.int32), generate
