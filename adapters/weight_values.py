"""The numbers in an adapter's file, as bits: whether all are finite, and whether they can change anything.

Read by hand like the header, so that a library sees no file that is useless already.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

from adapters.adapter_tensors import Fitted, tell
from adapters.safetensors_header import ITEM_BYTES, Tensor

EXPONENT = {"F32": (0x7F, 0x80), "F16": (0x7C, 0x00), "BF16": (0x7F, 0x80)}
"""Of each type: the exponent's bits in the two highest bytes. Where they are all ones, the number is infinite or none
(IEEE 754, section 3.4; a bfloat16 is the upper half of a float32)."""
CHUNK_BYTES = 2**20


def check(path: Path, tensors: Mapping[str, Tensor], fitted: Fitted) -> list[str]:
    """What makes the weights useless whatever is asked, in the words of the engine's probe. Raises OSError."""
    unusable, zero = [], set()
    with path.open("rb") as file:
        for name, tensor in tensors.items():
            finite, is_zero = _look(file, tensor)
            if not finite:
                unusable.append(name)
            if is_zero:
                zero.add(name)
    problems: list[str] = []
    tell(
        problems,
        unusable,
        "it holds values that are not finite: its training diverged; train it again with a lower learning rate",
    )
    if fitted.keys and all(zero & set(pair) for pair in fitted.keys.values()):
        problems.append(
            "it has no effect: in each module A or B is all zeros. Its training was not saved, or it was trained for "
            "nothing; train it again."
        )
    return problems


def _look(file: BinaryIO, tensor: Tensor) -> tuple[bool, bool]:
    """Whether all numbers of the tensor are finite, and whether all are zero."""
    finite, zero = True, True
    size = ITEM_BYTES[tensor.dtype]
    file.seek(tensor.begin)
    left = tensor.parameters * size
    while left and (raw := file.read(min(left, CHUNK_BYTES))):
        # Numbers lie with their lowest byte first.
        highest, second = raw[size - 1 :: size], raw[size - 2 :: size]
        ones = [
            _all_set(part, mask) for part, mask in zip((highest, second), EXPONENT[tensor.dtype], strict=True)
        ]
        finite = finite and not ones[0] & ones[1]
        # A zero may have a sign, the highest bit.
        zero = zero and raw.count(0) + highest.count(0x80) == len(raw)
        left -= len(raw)
    return finite, zero


def _all_set(part: bytes, mask: int) -> int:
    """Each byte of `part` as 1 where it has all bits of `mask`, else 0; as one number, which is fast to compare."""
    return int.from_bytes(part.translate(bytes(byte & mask == mask for byte in range(256))))
