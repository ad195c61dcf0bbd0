"""The keys and values of all rows: one slab a layer, a row's tokens from place 0 on.

Rows are of different lengths and read different numbers of tokens at once, so every forward pass says which
rows it is for, where each begins and how many tokens each really reads (`begin`). What is new stands at the
right end of the pass's width: the columns left of it are padding and are never written.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers.cache_utils import Cache

GROWTH = 256
"""Places that a slab grows by, so that it is not copied at every token."""


def places(length: int) -> int:
    """How many places a slab has for rows of this length."""
    return -(-length // GROWTH) * GROWTH


class KvRows(Cache):
    """Stands in for a Transformers cache: `update` writes a layer's new keys and values and gives all."""

    def __init__(self, dtype: torch.dtype):
        super().__init__(layers=[])
        self.dtype = dtype
        self.capacity = 0
        self.row_capacity = 0
        self._keys: dict[int, torch.Tensor] = {}
        self._values: dict[int, torch.Tensor] = {}
        self._rows = slice(0, 0)
        self._starts: list[int] = []
        self._counts: list[int] = []
        self._index: tuple[torch.Tensor, torch.Tensor] | None = None
        self.reach = 0

    def begin(self, first: int, starts: Sequence[int], counts: Sequence[int]) -> None:
        """The next pass is for rows first, first + 1, …: row i has `starts[i]` tokens and reads `counts[i]`."""
        self._rows = slice(first, first + len(starts))
        self._starts, self._counts = list(starts), list(counts)
        self.reach = max(start + count for start, count in zip(starts, counts, strict=True))
        self._index = None
        if max(counts) == 1 and len(starts) > 1:
            self._index = (torch.arange(first, first + len(starts)), torch.tensor(starts))
        self.reserve(self._rows.stop, self.reach)

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, layer_idx: int, *_: Any, **__: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """(rows, kv_heads, width, head_dim) in; the same rows' (rows, kv_heads, reach, head_dim) out."""
        if layer_idx not in self._keys:
            for slabs, states in ((self._keys, key_states), (self._values, value_states)):
                slabs[layer_idx] = states.new_zeros(
                    self.row_capacity, states.shape[1], self.capacity, states.shape[3], dtype=self.dtype
                )
        keys, values = self._keys[layer_idx], self._values[layer_idx]
        if self._index is not None:
            rows, places = self._index
            keys[rows, :, places] = key_states[:, :, -1].to(self.dtype)
            values[rows, :, places] = value_states[:, :, -1].to(self.dtype)
        else:
            for i, (start, count) in enumerate(zip(self._starts, self._counts, strict=True)):
                row = self._rows.start + i
                keys[row, :, start : start + count] = key_states[i, :, -count:]
                values[row, :, start : start + count] = value_states[i, :, -count:]
        return keys[self._rows, :, : self.reach], values[self._rows, :, : self.reach]

    def copy_row(self, source: int, target: int, length: int) -> None:
        """Row `target` becomes what row `source` is, up to `length` tokens."""
        for slabs in (self._keys, self._values):
            for slab in slabs.values():
                slab[target, :, :length] = slab[source, :, :length]

    def blank_row(self, row: int) -> None:
        """Puts 0 in all places of a row."""
        for slabs in (self._keys, self._values):
            for slab in slabs.values():
                slab[row].zero_()

    def swap_rows(self, a: int, b: int, length: int) -> None:
        """Rows change places, up to `length` tokens."""
        for slabs in (self._keys, self._values):
            for slab in slabs.values():
                slab[[a, b], :, :length] = slab[[b, a], :, :length]

    def export(self, row: int, length: int, dtype: torch.dtype) -> list[torch.Tensor]:
        """A copy of a row's keys and values, layer by layer: (kv_heads, length, head_dim) each."""
        return [
            slabs[layer][row, :, :length].to(dtype, copy=True)
            for layer in self._keys
            for slabs in (self._keys, self._values)
        ]

    def restore(self, row: int, stored: Sequence[torch.Tensor], length: int) -> None:
        """Puts the first `length` tokens of an export into a row."""
        self.reserve(row + 1, length)
        slabs = [slabs[layer] for layer in self._keys for slabs in (self._keys, self._values)]
        for slab, tensor in zip(slabs, stored, strict=True):
            slab[row, :, :length] = tensor[:, :length]

    def reserve(self, rows: int, length: int) -> None:
        """Makes room for at least so many rows of so many tokens."""
        if rows > self.row_capacity or length > self.capacity:
            self._resize(max(rows, self.row_capacity), max(places(length), self.capacity))

    def trim(self, rows: int, longest: int) -> None:
        """Gives memory back once less than half of the rows, or half of their places, is in use."""
        fewer = rows if 2 * rows < self.row_capacity else self.row_capacity
        shorter = places(longest) if 2 * places(longest) <= self.capacity else self.capacity
        if (fewer, shorter) != (self.row_capacity, self.capacity):
            self._resize(fewer, shorter)

    def clear(self) -> None:
        """Gives the memory back; nothing of any row is kept."""
        self._resize(0, 0)

    @property
    def place_bytes(self) -> int:
        """Bytes of one token of one row; 0 before the first forward pass."""
        return sum(
            slab.shape[1] * slab.shape[3] * slab.element_size()
            for slabs in (self._keys, self._values)
            for slab in slabs.values()
        )

    @property
    def bytes(self) -> int:
        return sum(
            slab.numel() * slab.element_size()
            for slabs in (self._keys, self._values)
            for slab in slabs.values()
        )

    def get_seq_length(self, layer_idx: int = 0) -> int:
        return self.reach

    def _resize(self, rows: int, capacity: int) -> None:
        for slabs in (self._keys, self._values):
            for layer, slab in slabs.items():
                resized = slab.new_zeros(rows, slab.shape[1], capacity, slab.shape[3])
                kept = (
                    slice(0, min(rows, slab.shape[0])),
                    slice(None),
                    slice(0, min(capacity, slab.shape[2])),
                )
                resized[kept] = slab[kept]
                slabs[layer] = resized
        self.row_capacity, self.capacity = rows, capacity
