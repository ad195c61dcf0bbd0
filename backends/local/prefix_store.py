"""Prompt beginnings computed once: what a persona always begins with, what a conversation already holds.

An entry holds the keys and values of one token sequence. Since those of a token depend only on the tokens
before it, any beginning of an entry is usable: a new prompt takes the longest beginning that it shares with
one. What was computed with an adapter is of use only with that version of it at that strength.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import torch


@dataclass(frozen=True, slots=True)
class Origin:
    """Where the first `length` tokens' keys and values were copied from: those of one `source` are the same bit by bit,
    which equal tokens alone do not say."""

    source: object
    length: int

    def to(self, length: int) -> Origin:
        """Of so many tokens at the most."""
        return Origin(self.source, min(self.length, length))


@dataclass(frozen=True, slots=True)
class Entry:
    """`tensors`: layer by layer, keys then values, each (kv_heads, tokens, head_dim)."""

    key: Hashable
    tokens: np.ndarray
    tensors: Sequence[torch.Tensor]
    origin: Origin

    @property
    def bytes(self) -> int:
        return sum(tensor.numel() * tensor.element_size() for tensor in self.tensors)


class PrefixStore:
    """At most `limit` bytes of entries; the longest unused leave first. 0 bytes turns it off."""

    def __init__(self, limit: int):
        self.limit = limit
        self.bytes = 0
        self._entries: list[Entry] = []  # the longest unused first

    def __len__(self) -> int:
        return len(self._entries)

    def find(self, key: Hashable, tokens: Sequence[int]) -> tuple[Entry, int] | None:
        """The entry that shares the longest beginning with `tokens`, and its length; None if there is none.

        The last token is never counted in: its logits are what a prompt is read for.
        """
        wanted = np.asarray(tokens[:-1])
        best, length = None, 0
        for entry in self._entries:
            if entry.key == key:
                shared = shared_length(entry.tokens, wanted)
                if shared > length:
                    best, length = entry, shared
        if best is None:
            return None
        self._entries = [entry for entry in self._entries if entry is not best] + [best]
        return best, length

    def wants(self, key: Hashable, tokens: Sequence[int]) -> bool:
        """Whether an entry for these tokens would tell something that none here tells already."""
        wanted = np.asarray(tokens)
        return self.limit > 0 and not any(
            entry.key == key and shared_length(entry.tokens, wanted) == len(wanted) for entry in self._entries
        )

    def put(
        self,
        key: Hashable,
        tokens: Sequence[int],
        tensors: Sequence[torch.Tensor],
        origin: Origin | None = None,
    ) -> None:
        """Keeps an entry, in place of those that are its own beginnings; without an origin it is one."""
        new = Entry(key, np.asarray(tokens), tensors, origin or Origin(object(), len(tokens)))
        if new.bytes > self.limit:
            return
        for entry in list(self._entries):
            if entry.key == key and shared_length(entry.tokens, new.tokens) == len(entry.tokens):
                self._drop(entry)
        self._entries.append(new)
        self.bytes += new.bytes
        while self.bytes > self.limit:
            self._drop(self._entries[0])

    def forget(self, is_one: Callable[[Hashable], bool]) -> None:
        """Drops the entries whose keys are such."""
        for entry in [entry for entry in self._entries if is_one(entry.key)]:
            self._drop(entry)

    def clear(self) -> None:
        self._entries.clear()
        self.bytes = 0

    def _drop(self, entry: Entry) -> None:
        self._entries = [other for other in self._entries if other is not entry]
        self.bytes -= entry.bytes


def shared_length(a: np.ndarray, b: np.ndarray) -> int:
    """How many tokens two sequences begin with in common."""
    length = min(len(a), len(b))
    different = np.nonzero(a[:length] != b[:length])[0]
    return int(different[0]) if len(different) else length
