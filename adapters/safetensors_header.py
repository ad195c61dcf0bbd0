"""The header of a safetensors file, read by hand: names, types and shapes, and no tensor data.

A safetensors file is 8 bytes of length N (little-endian), N bytes of JSON, then the tensors' bytes. The
rules here are those of the format (github.com/huggingface/safetensors, README "Format"), kept before any
library opens the file: offsets cover the data without holes or overlaps, keys are unique, and sizes agree.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from strict_json import parse, show

MAX_HEADER_BYTES = 8 * 2**20
MAX_TENSORS = 50_000
MAX_DIMENSION = 2**31
ITEM_BYTES = {"F32": 4, "F16": 2, "BF16": 2}
FIELDS = {"dtype", "shape", "data_offsets"}


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor as the header tells it; `dtype` is "F32", "F16" or "BF16", `begin` its first byte in the file."""

    dtype: str
    shape: tuple[int, ...]
    begin: int

    @property
    def parameters(self) -> int:
        return math.prod(self.shape)


def read_header(path: Path) -> dict[str, Tensor]:
    """All tensors of the file by name. Raises ValueError that says what is wrong, and OSError."""
    size = path.stat().st_size
    if size < 10:
        raise ValueError(f"it is cut off: {size} bytes hold no header")
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > size - 8:
            raise ValueError("it is cut off, or no safetensors file: its header is longer than the file")
        if length > MAX_HEADER_BYTES:
            raise ValueError(f"its header has {length:,} bytes, more than the {MAX_HEADER_BYTES:,} allowed")
        raw = file.read(length)
    if not raw.startswith(b"{"):
        raise ValueError("it is no safetensors file: its header does not begin with '{'")
    header = parse(raw)
    header.pop("__metadata__", None)
    if not header:
        raise ValueError("it holds no tensors")
    if len(header) > MAX_TENSORS:
        raise ValueError(f"it holds {len(header):,} tensors, more than the {MAX_TENSORS:,} allowed")
    return _tensors(header, data_begin=8 + length, data_bytes=size - 8 - length)


def _tensors(header: Mapping[str, Any], data_begin: int, data_bytes: int) -> dict[str, Tensor]:
    tensors = {}
    spans = []
    for name, entry in header.items():
        if not isinstance(entry, dict) or set(entry) != FIELDS:
            raise ValueError(f"its tensor {show(name)} is not described by dtype, shape and data_offsets")
        dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
        if not isinstance(dtype, str) or dtype not in ITEM_BYTES:
            allowed = ", ".join(ITEM_BYTES)
            raise ValueError(f"its tensor {show(name)} has the type {show(dtype)}; only {allowed} are read")
        if not _naturals(shape, MAX_DIMENSION) or len(shape) > 8:
            raise ValueError(f"its tensor {show(name)} has no valid shape: {show(shape)}")
        if not _naturals(offsets, data_bytes) or len(offsets) != 2:
            raise ValueError(f"its tensor {show(name)} lies outside the file, which is cut off or damaged")
        begin, end = offsets
        if end - begin != math.prod(shape) * ITEM_BYTES[dtype]:
            raise ValueError(f"its tensor {show(name)} has bytes that do not fit its shape {show(shape)}")
        spans.append((begin, end))
        tensors[name] = Tensor(dtype, tuple(shape), data_begin + begin)
    reached = 0
    for begin, end in sorted(spans):
        if begin != reached:
            raise ValueError("its tensors overlap or leave holes between them")
        reached = end
    if reached != data_bytes:
        raise ValueError(f"it has {data_bytes - reached:,} bytes that belong to no tensor")
    return tensors


def _naturals(value: object, most: int) -> bool:
    return isinstance(value, list) and all(type(item) is int and 0 <= item <= most for item in value)
