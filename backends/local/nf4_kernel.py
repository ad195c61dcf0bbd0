"""Products of a few rows with NF4 weights as they are packed, compiled, for a CPU with AVX2.

A decode step reads every weight once, and packed they are an eighth of their float32. bitsandbytes' own kernel wants
AVX512-BF16; without it every product would unpack its weights into memory first.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numba
import numpy as np
import torch
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.registry import cpu_target

from backends.local.compiled import intrinsic, kept
from backends.nf4 import BLOCK

LANES = 8
"""float32 in a register."""
_HALF = BLOCK // 2
_BYTE, _WORD, _INT, _FLOAT = ir.IntType(8), ir.IntType(16), ir.IntType(32), ir.FloatType()
_BYTES, _WORDS, _FLOATS = ir.VectorType(_BYTE, _HALF), ir.VectorType(_WORD, 16), ir.VectorType(_FLOAT, LANES)


def can_multiply(in_features: int) -> bool:
    """Whether this machine multiplies weights of so many columns: a block may not span two rows."""
    return in_features % BLOCK == 0 and _has_avx2() and _openmp() is not None


def _has_avx2() -> bool:
    """Whether numba compiles for it: a person can have it compile for less (NUMBA_CPU_NAME), and LLVM then aborts."""
    features = cpu_target.target_context.codegen().magic_tuple()[2]
    return {"+avx2", "+fma"} <= set(features.split(","))


def arranged(packed: torch.Tensor, out_features: int) -> torch.Tensor:
    """bitsandbytes' packed weights, uint8, in the order in which the kernel unpacks: (out, in / 2).

    Of a block's 64 weights the first 32 are the bytes' lower halves, the others the upper ones. Byte 16·l + 4·v + i
    holds place 8·v + 4·l + i of its half: interleaving bytes, then words, within the 16 bytes of a lane, as AVX2 does,
    gives vector v its 8 neighbours.
    """
    codes = torch.stack([packed.flatten() >> 4, packed.flatten() & 15], dim=1)
    halves = codes.reshape(out_features, -1, 2, _HALF // LANES, 2, LANES // 2).transpose(3, 4).flatten(3)
    return (halves[:, :, 0] | (halves[:, :, 1] << 4)).flatten(1).contiguous()


def multiply(x: torch.Tensor, codes: torch.Tensor, scales: torch.Tensor) -> torch.Tensor:
    """x Wᵀ in float32, where W is what the codes stand for, scaled (QLoRA, Dettmers et al. 2023, section 3).

    x: (rows, in), float32, contiguous; codes: (out, in / 2), uint8, `arranged`; scales: (out, in / BLOCK), float32: each
    block's largest absolute value; all on the CPU. Returns (rows, out). Each sum is one thread's own, and the same whatever
    other rows there are. Raises ValueError for other tensors.
    """
    (rows, wide), out = x.shape, codes.shape[0]
    if (
        (x.dtype, codes.dtype, scales.dtype) != (torch.float32, torch.uint8, torch.float32)
        or {x.device.type, codes.device.type, scales.device.type} != {"cpu"}
        or wide % BLOCK
        or codes.shape[1] * 2 != wide
        or scales.shape != (out, wide // BLOCK)
        or not (x.is_contiguous() and codes.is_contiguous() and scales.is_contiguous())
    ):
        raise ValueError(f"{tuple(x.shape)}, {tuple(codes.shape)}: not what is multiplied here.")
    library, entry = _openmp(), _entry()
    assert library is not None
    y = x.new_empty(rows, out)
    work = np.array(
        [x.data_ptr(), y.data_ptr(), codes.data_ptr(), scales.data_ptr(), rows, wide, out, *library.places]
    )
    library.parallel(entry, work.ctypes.data, torch.get_num_threads(), 0)
    return y


class _OpenMP:
    """The OpenMP that torch computes with, whose threads wait for the next product as torch's own do. Threads of our own
    would keep the cores that torch's want: both wait busily for a while. Raises OSError and AttributeError where it
    is not GNU's, or one that can be called as that is."""

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


def _product(rows: int) -> Callable[..., Any]:
    """One output of so many rows: a weight is unpacked once for all, and stays in its register."""

    @intrinsic
    def product(_: Any, codes: Any, scales: Any, x: Any, y: Any, wide: Any, out: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            codes, scales, x, y, wide, out = arguments
            multiply_add = _instruction(builder, "llvm.fma.v8f32", _FLOATS, 3)
            zero = ir.Constant(_FLOATS, [0.0] * LANES)
            # Two sums a row, so that one need not wait for the other; the same two however many rows there are.
            sums = [[cgutils.alloca_once_value(builder, zero) for _ in range(2)] for _ in range(rows)]
            four = ir.Constant(wide.type, 4)
            with cgutils.for_range(builder, builder.udiv(wide, ir.Constant(wide.type, BLOCK))) as block:
                packed = _load(
                    builder, codes, builder.mul(block.index, ir.Constant(wide.type, _HALF)), _BYTES
                )
                scale = _load(builder, scales, builder.mul(block.index, four), _FLOAT)
                begin = builder.mul(block.index, ir.Constant(wide.type, 4 * BLOCK))
                for number, weights in enumerate(_unpacked(builder, packed, scale)):
                    for row in range(rows):
                        place = builder.add(begin, ir.Constant(wide.type, 4 * LANES * number))
                        start = builder.mul(wide, ir.Constant(wide.type, 4 * row))
                        values = _load(builder, builder.add(x, start), place, _FLOATS)
                        total = sums[row][number % 2]
                        builder.store(
                            builder.call(multiply_add, [weights, values, builder.load(total)]), total
                        )
            for row in range(rows):
                total = _summed(builder, builder.fadd(*map(builder.load, sums[row])))
                place = builder.add(y, builder.mul(out, ir.Constant(out.type, 4 * row)))
                builder.store(total, builder.inttoptr(place, _FLOAT.as_pointer()))
            return context.get_dummy_value()

        return types.void(*[types.int64] * 6), generate

    return product


def _instruction(builder: Any, name: str, kind: ir.Type, count: int) -> Any:
    """LLVM's name of an instruction of so many operands of one type."""
    return cgutils.get_or_insert_function(builder.module, ir.FunctionType(kind, [kind] * count), name)


def _load(builder: Any, address: Any, offset: Any, kind: ir.Type) -> Any:
    loaded = builder.load(builder.inttoptr(builder.add(address, offset), kind.as_pointer()))
    loaded.align = 1
    return loaded


def _unpacked(builder: Any, packed: Any, scale: Any) -> list[Any]:
    """A block's 64 weights, as 8 vectors: its 32 bytes' lower halves, then the upper ones.

    Each of a float32's four bytes is looked up by itself, for 32 weights at once; interleaved they are the numbers.
    """
    look_up = _instruction(builder, "llvm.x86.avx2.pshuf.b", _BYTES, 2)
    scales = builder.shuffle_vector(
        builder.insert_element(ir.Constant(_FLOATS, ir.Undefined), scale, ir.Constant(_INT, 0)),
        ir.Constant(_FLOATS, ir.Undefined),
        ir.Constant(ir.VectorType(_INT, LANES), [0] * LANES),
    )
    lower = builder.and_(packed, ir.Constant(_BYTES, [15] * _HALF))
    upper = builder.lshr(packed, ir.Constant(_BYTES, [4] * _HALF))
    vectors = []
    for codes in (lower, upper):
        parts = [builder.call(look_up, [table, codes]) for table in _tables()]
        for last in (False, True):
            low, high = (
                builder.bitcast(_interleaved(builder, parts[i], parts[i + 1], last), _WORDS) for i in (0, 2)
            )
            for end in (False, True):
                numbers = builder.bitcast(_interleaved(builder, low, high, end), _FLOATS)
                vectors.append(builder.fmul(numbers, scales))
    return vectors


@functools.cache
def _tables() -> list[ir.Constant]:
    """The first, second, third and fourth bytes of NF4's 16 values, for each of AVX2's two lanes."""
    from bitsandbytes.functional import get_4bit_type

    values = get_4bit_type("nf4", device="cpu").float().numpy().view(np.uint8).reshape(16, 4)
    return [ir.Constant(_BYTES, 2 * [int(value) for value in values[:, byte]]) for byte in range(4)]


def _interleaved(builder: Any, one: Any, other: Any, last: bool) -> Any:
    """Of each lane the first or the last halves, one element of each in turn (vpunpckl, vpunpckh)."""
    count = one.type.count
    half = count // 4
    begins = [lane * 2 * half + last * half for lane in range(2)]
    order = [place for begin in begins for i in range(begin, begin + half) for place in (i, count + i)]
    return builder.shuffle_vector(one, other, ir.Constant(ir.VectorType(_INT, count), order))


def _summed(builder: Any, vector: Any) -> Any:
    """The sum of a vector's numbers."""
    for step in (4, 2, 1):
        order: Sequence[int] = [(i + step) % LANES for i in range(LANES)]
        turned = builder.shuffle_vector(
            vector, ir.Constant(_FLOATS, ir.Undefined), ir.Constant(ir.VectorType(_INT, LANES), order)
        )
        vector = builder.fadd(vector, turned)
    return builder.extract_element(vector, ir.Constant(_INT, 0))


_one, _two, _four = _product(1), _product(2), _product(4)


def _multiply(work: Any) -> None:
    """A thread's share of the outputs."""
    x, y, codes, scales, rows, wide, out, number_of, count_of = numba.carray(work, 9)
    number, count = _call(number_of), _call(count_of)
    for output in range(number * out // count, (number + 1) * out // count):
        code, scale = codes + output * wide // 2, scales + output * wide // BLOCK * 4
        row = 0
        while row < rows:
            source, target = x + 4 * row * wide, y + 4 * (row * out + output)
            if rows - row >= 4:
                _four(code, scale, source, target, wide, out)
                row += 4
            elif rows - row >= 2:
                _two(code, scale, source, target, wide, out)
                row += 2
            else:
                _one(code, scale, source, target, wide, out)
                row += 1


def warm_up() -> None:
    """Compiles, a second or two the first time on a machine; later it is read from disk."""
    _entry()


@functools.cache
def _entry() -> int:
    """Where the compiled function is."""
    made = kept(functools.partial(numba.cfunc, types.void(types.CPointer(types.int64))), _multiply)
    return int(made.address)
