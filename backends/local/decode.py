"""One batch, many modes: every row has its own prompt, adapter, sampling and end.

Rows lie side by side in the slabs of `KvRows`: first those that are answering, then those whose prompts are
still being read. A row that ends leaves at once, and the last row takes its place.

What this does not know: text, stop words, queues, processes. It gives tokens.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from backends.contract import Sampling
from backends.local import attention
from backends.local.base_model import BaseModel
from backends.local.kv_rows import KvRows, places
from backends.local.pace import Pace
from backends.local.prefix_store import Origin, PrefixStore, shared_length
from backends.local.sampling import Chooser, choose

CHUNK = 512
"""Prompt tokens read in one pass when nobody else is answering."""
CHUNK_BESIDE = 128
"""… and when others are, so that their answers pause only briefly."""
SHORT = 64
"""Prompts (or what is new of them) up to this many tokens are read together."""
PIECE = 64
"""Tokens of every pass over a prompt, where that must not depend on what is beside it: a sum in a product over more
or fewer tokens may be added up in another order."""


@dataclass(eq=False, slots=True)
class Row:
    """One answer under way. `length` counts the tokens whose keys and values are in the slabs, `cached` those of
    them that this row did not read itself."""

    prompt: Sequence[int]
    sampling: Sampling
    adapter: str | None = None
    adapter_version: str | None = None
    scale: float = 1.0
    top_logprobs: int | None = None
    length: int = 0
    cached: int = 0
    origin: Origin | None = None
    answer: list[int] = field(default_factory=list)
    chooser: Chooser | None = None
    is_sound: bool = True
    """Whether its last logits are numbers. Where they are not it can only leave."""

    @property
    def tokens(self) -> list[int]:
        return [*self.prompt, *self.answer]

    @property
    def key(self) -> Hashable:
        """Whose keys and values these are."""
        return (self.adapter, self.adapter_version, self.scale) if self.adapter else None


class Decoder:
    """Decodes rows. Not safe for threads: one loop owns it."""

    def __init__(self, base: BaseModel, store_bytes: int):
        self.base = base
        self.store = PrefixStore(store_bytes)
        self.kv = KvRows(base.kv_dtype)
        self.rows: list[Row] = []
        self._pace = Pace(
            torch.get_num_threads(), torch.set_num_threads if base.steady else lambda threads: None
        )
        self._piece = PIECE if base.is_exact else 1
        self._answering = 0
        self._vocabulary = base.model.get_output_embeddings().out_features

    @property
    def reading(self) -> bool:
        """Whether prompts wait to be read."""
        return self._answering < len(self.rows)

    @torch.inference_mode()
    def add(self, rows: Sequence[Row]) -> None:
        """Rows join, each with the beginning that is known already. Their adapters must be loaded."""
        longest = max((len(row.prompt) + 1 for row in rows), default=0)
        self.kv.reserve(len(self.rows) + len(rows), longest)
        # Rows of one adapter side by side can be picked out of the batch as a slice; short prompts first.
        for row in sorted(rows, key=lambda row: (row.adapter or "", len(row.prompt))):
            row.chooser = Chooser(row.sampling, row.prompt, self._vocabulary, row.top_logprobs)
            found = self.store.find(row.key, row.prompt)
            place = len(self.rows)
            self.rows.append(row)
            if found is not None:
                entry, shared = found
                row.length = row.cached = self._whole(shared)
                row.origin = entry.origin.to(row.length)
                self.kv.restore(place, entry.tensors, row.length)

    @torch.inference_mode()
    def remove(self, row: Row) -> None:
        """A row leaves; what it computed stays in the prefix store, if that is sound."""
        place = self.rows.index(row)
        if not row.is_sound:
            # Who stands here next hides them, but what is no number times a weight of 0 is none either.
            self.kv.blank_row(place)
        tokens = self._reusable(row)
        if tokens and row.is_sound and self.store.wants(row.key, tokens):
            kept = self.kv.export(place, len(tokens), self.base.model.dtype)
            self.store.put(row.key, tokens, kept, row.origin)
        if place < self._answering:
            self._answering -= 1
            self._move(self._answering, place)
            place = self._answering
        self._move(len(self.rows) - 1, place)
        self.rows.pop()
        self.kv.trim(
            len(self.rows), max((max(row.length, len(row.prompt)) + 1 for row in self.rows), default=0)
        )

    def _move(self, source: int, target: int) -> None:
        if source != target:
            self.rows[target] = self.rows[source]
            self.kv.copy_row(source, target, self.rows[source].length)

    @torch.inference_mode()
    def read(self) -> list[Row]:
        """Reads a part of the prompts that wait; returns the rows that thereby got their first token, or are not
        sound."""
        first = self._answering
        group = self._alike([row for row in self.rows[first:] if len(row.prompt) - row.length <= SHORT])
        if group and not self.base.is_exact:
            self._reorder(group)
        else:
            group = [self.rows[first]]
            self._borrow(group[0])
        limit = PIECE if self.base.is_exact else CHUNK_BESIDE if first else CHUNK
        chunks = [list(row.prompt[row.length : row.length + limit]) for row in group]
        with self._pace.reading():
            logits = self._forward(first, group, chunks)
        finished = [row for row in group if row.length == len(row.prompt)]
        if not finished:
            return [row for row in group if not row.is_sound]
        self._answering += len(finished)
        self._choose(logits, finished)
        return finished

    def _alike(self, rows: Sequence[Row]) -> list[Row]:
        """Those about as long as the first of them: beside a longer one a row attends to as many places as that."""
        return [row for row in rows if places(len(row.prompt)) == places(len(rows[0].prompt))]

    def _reusable(self, row: Row) -> list[int]:
        """The tokens whose keys and values may be taken over. Bit by bit, those of an answer that was written token by
        token are not those that reading it as a part of a prompt would give."""
        return row.tokens[: min(row.length, len(row.prompt)) if self.base.is_exact else row.length]

    def _whole(self, length: int) -> int:
        """How much of a beginning that is known is taken over: to the end of a piece, where pieces count."""
        return length - length % self._piece

    def _borrow(self, row: Row) -> None:
        """Takes over what a row beside it has read already: panes that begin alike read their beginning once."""
        for other in self.rows:
            if other is not row and other.key == row.key:
                wanted = np.asarray(row.prompt[:-1])
                shared = self._whole(shared_length(np.asarray(self._reusable(other)), wanted))
                if shared > row.length:
                    self.kv.copy_row(self.rows.index(other), self.rows.index(row), shared)
                    row.cached += shared - row.length
                    row.length, row.origin = shared, other.origin.to(shared) if other.origin else None

    def _reorder(self, group: Sequence[Row]) -> None:
        """Brings these reading rows right behind the answering ones, in their order."""
        for offset, row in enumerate(group):
            target, place = self._answering + offset, self.rows.index(row)
            if place != target:
                self.kv.swap_rows(place, target, max(row.length, self.rows[target].length))
                self.rows[place], self.rows[target] = self.rows[target], row

    def answer(self) -> list[Row]:
        """One more token for every answering row that is sound; returns them all."""
        rows = self.rows[: self._answering]
        if rows:
            with self._pace.step(len(rows)):
                self._choose(self._forward(0, rows, [[row.answer[-1]] for row in rows]), rows)
        return rows

    @torch.inference_mode()
    def _forward(
        self, first: int, rows: Sequence[Row], chunks: Sequence[list[int]], kv: KvRows | None = None
    ) -> torch.Tensor:
        """Reads each row's chunk at its place; (rows, vocabulary) logits after each chunk's last token.

        Keys and values go to `kv`, or to those of the rows at work.
        """
        kv = self.kv if kv is None else kv
        device, width = self.base.device, max(map(len, chunks))
        starts, counts = [row.length for row in rows], [len(chunk) for chunk in chunks]
        kv.begin(first, starts, counts)
        self.base.rows.assign([row.adapter for row in rows], [row.scale for row in rows])
        begin, count = torch.tensor(starts, device=device), torch.tensor(counts, device=device)
        ids = torch.tensor([[0] * (width - len(chunk)) + chunk for chunk in chunks], device=device)
        positions = (begin + count - width)[:, None] + torch.arange(width, device=device)
        reach = _reach(rows) if width == 1 and device.type == "cpu" else None
        output = self.base.model(
            input_ids=ids,
            attention_mask=None if reach else attention.mask(begin, count, kv.reach, kv.dtype),
            position_ids=positions.clamp(min=0),
            past_key_values=kv,
            use_cache=True,
            logits_to_keep=1,
            row_reach=reach,
        )
        for row, chunk in zip(rows, chunks, strict=True):
            row.length += len(chunk)
        logits: torch.Tensor = output.logits[:, -1]
        for row, sound in zip(rows, logits.sum(-1).isfinite().tolist(), strict=True):
            row.is_sound = sound
        return logits

    @torch.inference_mode()
    def _choose(self, logits: torch.Tensor, rows: Sequence[Row]) -> None:
        sound = [row.is_sound for row in rows]
        if not all(sound):
            logits, rows = logits[sound], [row for row in rows if row.is_sound]
        choosers = [row.chooser for row in rows if row.chooser is not None]
        for row, chooser, token in zip(rows, choosers, choose(logits.cpu(), choosers), strict=True):
            row.answer.append(token)
            chooser.note(token)

    @torch.inference_mode()
    def warm_up(self, probe: Sequence[int]) -> None:
        """One forward pass, so that nobody's first question pays for what is prepared on first use.

        Raises CounterpointError for a base whose attention we do not have.
        """
        self._forward(0, [Row(probe, Sampling())], [list(probe)])
        self.kv.clear()
        self.base.rows.warm_up()
        if self.base.device.type == "cpu":
            from backends.local import attention_kernel

            attention_kernel.warm_up()

    @torch.inference_mode()
    def effect(self, adapter: str, probe: Sequence[int]) -> float:
        """The largest change that an adapter makes to any logit after a probe text.

        Has keys and values of its own for the while: in the slabs its two rows would be as long as the longest.
        """
        rows = [Row(probe, Sampling()), Row(probe, Sampling(), adapter=adapter)]
        logits = self._forward(0, rows, [list(probe)] * 2, KvRows(self.base.kv_dtype)).float()
        return float((logits[1] - logits[0]).abs().max())


def _reach(rows: Sequence[Row]) -> attention.Reach:
    """How far rows that read one token more each reach, and what they have in common."""
    reach = attention.Reach.alone(np.array([row.length + 1 for row in rows]))
    firsts: dict[int, int] = {}
    for place, row in enumerate(rows):
        if row.origin is not None:
            first = reach.follows[place] = firsts.setdefault(id(row.origin.source), place)
            other = rows[first].origin
            assert other is not None, "the first of an origin has it"
            reach.shared[place] = min(row.origin.length, other.length)
    return reach
