"""Products of a few rows with NF4 weights as they are packed, compiled, for a CPU with AVX2.

A decode step reads every weight once, and packed they are an eighth of their float32. bitsandbytes' own kernel wants
AVX512-BF16; without it every product would unpack its weights into memory first.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numba
import numpy as np
import torch
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.registry import cpu_target

from backends.local import openmp
from backends.local.compiled import inlined, intrinsic
from backends.nf4 import BLOCK

LANES = 8
"""float32 in a register."""
SUMS = 2
"""Sums of a row and an output, of the columns' vectors in turn, so that one need not wait for the other; the same whatever
other rows there are."""
FEW = 4
"""Rows up to which weights are used as they are unpacked."""
TILE = 8
"""Outputs whose sums are under way together."""
PANEL = 8
"""Blocks of their columns that are unpacked together."""
_HALF = BLOCK // 2
_BYTE, _WORD, _INT, _FLOAT = ir.IntType(8), ir.IntType(16), ir.IntType(32), ir.FloatType()
_BYTES, _WORDS, _FLOATS = ir.VectorType(_BYTE, _HALF), ir.VectorType(_WORD, 16), ir.VectorType(_FLOAT, LANES)


def can_multiply(in_features: int) -> bool:
    """Whether this machine multiplies weights of so many columns: a block may not span two rows."""
    return in_features % BLOCK == 0 and _has_avx2() and openmp.is_there()


def has_wider_registers() -> bool:
    """Whether this machine's libraries compute with AVX-512, which this kernel does not."""
    return "+avx512f" in _features()


def _has_avx2() -> bool:
    """Whether numba compiles for it: a person can have it compile for less (NUMBA_CPU_NAME), and LLVM then aborts."""
    return {"+avx2", "+fma"} <= _features()


def _features() -> set[str]:
    return set(cpu_target.target_context.codegen().magic_tuple()[2].split(","))


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
        or not rows
        or wide % BLOCK
        or codes.shape[1] * 2 != wide
        or scales.shape != (out, wide // BLOCK)
        or not (x.is_contiguous() and codes.is_contiguous() and scales.is_contiguous())
    ):
        raise ValueError(f"{tuple(x.shape)}, {tuple(codes.shape)}: not what is multiplied here.")
    y, rooms = x.new_empty(rows, out), x.new_zeros(torch.get_num_threads(), _room(rows) if rows > FEW else 0)
    openmp.run(_entry(), [*(tensor.data_ptr() for tensor in (x, y, codes, scales, rooms)), rows, wide, out])
    return y


@inlined
def _room(rows: int) -> int:
    """float32 that a thread works with: the sums of a tile, and a block of its weights."""
    return TILE * (rows * SUMS * LANES + PANEL * BLOCK)


@intrinsic
def _unpack(_: Any, codes: Any, scale: Any, target: Any) -> Any:
    """A block's weights, from its codes and where its scale lies."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        codes, scale, target = arguments
        for number, weights in enumerate(_unpacked(builder, codes, scale)):
            _store(builder, weights, target, number)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 3), generate


def _output(rows: int) -> Callable[..., Any]:
    """An output of few rows, whole: its weights are used as they are unpacked."""

    @intrinsic
    def output(_: Any, codes: Any, scales: Any, x: Any, y: Any, wide: Any, out: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            codes, scales, x, y, wide, out = arguments
            zero = ir.Constant(_FLOATS, [0.0] * LANES)
            totals = [[cgutils.alloca_once_value(builder, zero) for _ in range(SUMS)] for _ in range(rows)]
            with cgutils.for_range(builder, builder.udiv(wide, ir.Constant(wide.type, BLOCK))) as block:
                begin = _times(builder, block.index, 4 * BLOCK)
                code = builder.add(codes, _times(builder, block.index, _HALF))
                scale = builder.add(scales, _times(builder, block.index, 4))
                for number, weights in enumerate(_unpacked(builder, code, scale)):
                    for row in range(rows):
                        start = builder.add(begin, _times(builder, wide, 4 * row))
                        values = _vector(builder, builder.add(x, start), number)
                        _add_product(builder, totals[row][number % SUMS], weights, values)
            for row, its in enumerate(totals):
                place = builder.add(y, _times(builder, out, 4 * row))
                _end_sums(builder, [builder.load(total) for total in its], place)
            return context.get_dummy_value()

        return types.void(*[types.int64] * 6), generate

    return output


def _part(rows: int, outputs: int) -> Callable[..., Any]:
    """What so many blocks of columns add to the sums of so many rows and outputs, of unpacked weights."""

    @intrinsic
    def part(_: Any, weights: Any, x: Any, sums: Any, wide: Any, blocks: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            weights, x, sums, wide, blocks = arguments
            totals = {
                place: cgutils.alloca_once_value(builder, _vector(builder, sums, place))
                for row in range(rows)
                for place in range(row * TILE * SUMS, (row * TILE + outputs) * SUMS)
            }
            with cgutils.for_range(builder, blocks) as block:
                begin = _times(builder, block.index, 4 * BLOCK)
                panel = builder.add(weights, begin)
                for number in range(BLOCK // LANES):
                    columns = [
                        _vector(builder, panel, output * PANEL * BLOCK // LANES + number)
                        for output in range(outputs)
                    ]
                    for row in range(rows):
                        start = builder.add(begin, _times(builder, wide, 4 * row))
                        values = _vector(builder, builder.add(x, start), number)
                        for output, column in enumerate(columns):
                            place = (row * TILE + output) * SUMS + number % SUMS
                            _add_product(builder, totals[place], column, values)
            for place, total in totals.items():
                _store(builder, builder.load(total), sums, place)
            return context.get_dummy_value()

        return types.void(*[types.int64] * 5), generate

    return part


@intrinsic
def _end(_: Any, sums: Any, y: Any) -> Any:
    """Puts a number where it belongs, and begins its sums anew."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        sums, y = arguments
        _end_sums(builder, [_vector(builder, sums, number) for number in range(SUMS)], y)
        for number in range(SUMS):
            _store(builder, ir.Constant(_FLOATS, [0.0] * LANES), sums, number)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 2), generate


def _end_sums(builder: Any, sums: Sequence[Any], y: Any) -> None:
    total = _summed(builder, builder.fadd(*sums))
    builder.store(total, builder.inttoptr(y, _FLOAT.as_pointer()))


def _add_product(builder: Any, total: Any, weights: Any, values: Any) -> None:
    multiply_add = _instruction(builder, "llvm.fma.v8f32", _FLOATS, 3)
    builder.store(builder.call(multiply_add, [weights, values, builder.load(total)]), total)


def _times(builder: Any, number: Any, constant: int) -> Any:
    return builder.mul(number, ir.Constant(number.type, constant))


def _instruction(builder: Any, name: str, kind: ir.Type, count: int) -> Any:
    """LLVM's name of an instruction of so many operands of one type."""
    return cgutils.get_or_insert_function(builder.module, ir.FunctionType(kind, [kind] * count), name)


def _load(builder: Any, address: Any, offset: Any, kind: ir.Type) -> Any:
    loaded = builder.load(builder.inttoptr(builder.add(address, offset), kind.as_pointer()))
    loaded.align = 1
    return loaded


def _vector(builder: Any, address: Any, number: int) -> Any:
    """The float32 of a register, so many registers behind the address."""
    return _load(builder, address, ir.Constant(address.type, 4 * LANES * number), _FLOATS)


def _store(builder: Any, vector: Any, address: Any, number: int) -> None:
    """As `_vector` reads."""
    place = builder.add(address, ir.Constant(address.type, 4 * LANES * number))
    builder.store(vector, builder.inttoptr(place, _FLOATS.as_pointer()), align=4)


def _unpacked(builder: Any, codes: Any, scale: Any) -> list[Any]:
    """A block's 64 weights, as 8 vectors: its 32 bytes' lower halves, then the upper ones.

    Each of a float32's four bytes is looked up by itself, for 32 weights at once; interleaved they are the numbers.
    """
    nowhere = ir.Constant(codes.type, 0)
    packed, scale = _load(builder, codes, nowhere, _BYTES), _load(builder, scale, nowhere, _FLOAT)
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


_one, _two, _three, _four = _output(1), _output(2), _output(3), _output(4)
_of_one, _of_three = _part(1, 1), _part(3, 1)
_two_of_one, _two_of_three = _part(1, 2), _part(3, 2)


def _multiply(work: Any) -> None:
    """A thread's share of the outputs."""
    x, y, codes, scales, rooms, rows, wide, out, number_of, count_of = numba.carray(work, 10)
    number, count = openmp.share(number_of, count_of)
    first, last = number * out // count, (number + 1) * out // count
    if rows <= FEW:
        _few(x, y, codes, scales, rows, wide, out, first, last)
    else:
        _many(x, y, codes, scales, rooms + number * _room(rows) * 4, rows, wide, out, first, last)


@inlined
def _few(
    x: int, y: int, codes: int, scales: int, rows: int, wide: int, out: int, first: int, last: int
) -> None:
    """Outputs one after the other."""
    output = first
    while output < last:
        code, scale = codes + output * wide // 2, scales + output * wide // BLOCK * 4
        target = y + 4 * output
        if rows == 1:
            _one(code, scale, x, target, wide, out)
        elif rows == 2:
            _two(code, scale, x, target, wide, out)
        elif rows == 3:
            _three(code, scale, x, target, wide, out)
        else:
            _four(code, scale, x, target, wide, out)
        output += 1


@inlined
def _many(
    x: int, y: int, codes: int, scales: int, sums: int, rows: int, wide: int, out: int, first: int, last: int
) -> None:
    """A tile of outputs after the other: a panel of its weights is unpacked once for all rows, and read from the cache."""
    weights = sums + rows * TILE * SUMS * LANES * 4
    tile = first
    while tile < last:
        outputs = min(TILE, last - tile)
        block = 0
        while block < wide // BLOCK:
            blocks = min(PANEL, wide // BLOCK - block)
            for output in range(outputs):
                for number in range(blocks):
                    place = (tile + output) * (wide // BLOCK) + block + number
                    target = weights + (output * PANEL + number) * BLOCK * 4
                    _unpack(codes + place * BLOCK // 2, scales + place * 4, target)
            row = 0
            while row < rows:
                source = x + 4 * (row * wide + block * BLOCK)
                take = 3 if rows - row >= 3 else 1
                output = 0
                while output < outputs:
                    column = weights + output * PANEL * BLOCK * 4
                    target = sums + (row * TILE + output) * SUMS * LANES * 4
                    if output + 1 < outputs:
                        if take == 3:
                            _two_of_three(column, source, target, wide, blocks)
                        else:
                            _two_of_one(column, source, target, wide, blocks)
                    elif take == 3:
                        _of_three(column, source, target, wide, blocks)
                    else:
                        _of_one(column, source, target, wide, blocks)
                    output += 2
                row += take
            block += blocks
        for row in range(rows):
            for output in range(outputs):
                _end(sums + (row * TILE + output) * SUMS * LANES * 4, y + 4 * (row * out + tile + output))
        tile += outputs


def warm_up() -> None:
    """Compiles, a second or two the first time on a machine; later it is read from disk."""
    _entry()


@functools.cache
def _entry() -> int:
    """Where the compiled function is."""
    return openmp.shared(_multiply)
