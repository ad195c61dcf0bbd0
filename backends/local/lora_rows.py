"""LoRA as rows of a batch: every row of one forward pass may carry another adapter, or none.

Rows that share an adapter share its weights. Rows without an adapter cost nothing. There is no "active adapter":
which row uses what is decided anew for each forward pass, so no answer can come from another row's adapter.

On a CPU, few tokens a row are one call of `row_kernel` a linear, and wider rows are an adapter's products after the
other's. On a GPU, where calls cost more than arithmetic, the adapters of a pass are laid side by side, and one
product serves all their rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from backends.contract import AdapterSource
from backends.local import lora_file
from backends.local.fused_linear import FusedLinear, Group, Kernel, Plan, Update
from errors import CounterpointError

MAX_BYTES = 2 * 1024**3
"""Adapters that were not used lately leave memory beyond this. On a GPU those that answer lie there twice."""

PLANS = 8
"""How many mixes of rows are remembered: decoding and reading take turns."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """An adapter in memory."""

    name: str
    version: str
    updates: Mapping[FusedLinear, Update]

    @property
    def bytes(self) -> int:
        """Bytes that its weights take."""
        return sum(update.bytes for update in self.updates.values())


class LoraRows:
    """The adapters in memory, and which rows of the running forward pass use them."""

    def __init__(self, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"):
        self.dtype = dtype
        self.device = torch.device(device)
        self.plans: Mapping[FusedLinear, Plan] = {}
        # A copy; of 16-bit weights both together take no more than the weights in float32.
        self.side_by_side = self.device.type != "cpu" and dtype.itemsize == 2
        self.kernel: Kernel | None = None
        if self.device.type == "cpu" and dtype is torch.float32:
            from backends.local import row_kernel

            self.kernel = row_kernel.add
        self._places: dict[str, lora_file.Place] = {}
        self._loaded: dict[str, Loaded] = {}
        self._joined: tuple[tuple[str, ...], dict[FusedLinear, Update]] = ((), {})
        self._memo: dict[tuple[tuple[str | None, ...], tuple[float, ...]], Mapping[FusedLinear, Plan]] = {}

    def adopt(self, fused: FusedLinear, in_features: int) -> None:
        """Registers a linear of the model, in the model's order."""
        for index, (name, size) in enumerate(zip(fused.names, fused.sizes, strict=True)):
            self._places[name] = lora_file.Place(fused, sum(fused.sizes[:index]), size, in_features)

    @property
    def loaded(self) -> Mapping[str, Loaded]:
        return self._loaded

    @property
    def bytes(self) -> int:
        """Bytes that the adapters' weights take in memory."""
        joined = sum(update.bytes for update in self._joined[1].values())
        return sum(adapter.bytes for adapter in self._loaded.values()) + joined

    def warm_up(self) -> None:
        """Prepares what the first row with an adapter would otherwise wait for."""
        if self.kernel:
            from backends.local import row_kernel

            row_kernel.warm_up()

    def load(self, source: AdapterSource, in_use: set[str]) -> Loaded:
        """Reads an adapter into memory unless this very version is there; returns what was read.

        Adapters outside `in_use` may leave memory for it, the longest unused first. Raises
        CounterpointError if the file changed since it was checked, or does not fit the base.
        """
        present = self._loaded.get(source.name)
        if present is not None and present.version == source.version:
            self._loaded[source.name] = self._loaded.pop(source.name)
            return present
        if source.name in in_use:
            raise CounterpointError(
                f"Adapter {source.name} changed on disk while it is answering: ask again when it has finished."
            )
        # Without the kernel, what adapters are computed in; with it, whatever loses nothing.
        kept = self.dtype if self.kernel is None else None
        new = Loaded(source.name, source.version, lora_file.read(source, self._places, kept, self.device))
        self.unload(source.name)
        for name in [name for name in self._loaded if name not in in_use]:
            if self.bytes + new.bytes <= MAX_BYTES:
                break
            self.unload(name)
        if self.bytes + new.bytes > MAX_BYTES:
            raise CounterpointError(
                "The adapters that are answering take all the memory set aside for them: ask again when some "
                "have finished."
            )
        self._loaded[source.name] = new
        return new

    def unload(self, name: str) -> None:
        """Frees an adapter's memory; an unknown name is nothing."""
        if self._loaded.pop(name, None) is not None:
            self.forget_plans()

    def assign(self, adapters: Sequence[str | None], scales: Sequence[float]) -> None:
        """Says which adapter, at which strength, each row of the next forward pass uses."""
        key = (tuple(adapters), tuple(scales))
        if key not in self._memo:
            if len(self._memo) >= PLANS:
                self._memo.clear()
            self._memo[key] = self._plan(adapters, scales)
        self.plans = self._memo[key]

    def forget_plans(self) -> None:
        """Frees what was worked out for the mixes of rows so far; the next is worked out anew."""
        self._memo.clear()
        self.plans, self._joined = {}, ((), {})

    def _plan(self, adapters: Sequence[str | None], scales: Sequence[float]) -> Mapping[FusedLinear, Plan]:
        users: dict[str, list[int]] = {}
        for row, name in enumerate(adapters):
            if name is not None and scales[row] != 0:
                users.setdefault(name, []).append(row)
        if self.side_by_side:
            groups = self._groups([tuple(sorted(users))] if users else [], users, scales)
        else:
            groups = self._groups([(name,) for name in users], users, scales)
        plans = {}
        for fused in dict.fromkeys(fused for name in users for fused in self._loaded[name].updates):
            chosen = tuple(group[fused] for group in groups if fused in group)
            jobs: list[tuple[int, ...]] = []
            parts: list[tuple[int, ...]] = []
            rows: list[int] = []
            for name, used_by in users.items():
                update = self._loaded[name].updates.get(fused)
                if update is None:
                    continue
                first = len(parts)
                parts += _parts(update)
                job = (
                    update.a.data_ptr(),
                    update.a.shape[0],
                    first,
                    len(parts),
                    update.a.element_size() == 2,
                )
                jobs += [(row, *job) for row in used_by]
                rows += used_by
            strengths = np.array([scales[row] for row in rows], np.float32)
            plans[fused] = Plan(chosen, np.array(jobs, np.int64), np.array(parts, np.int64), strengths)
        return plans

    def _groups(
        self, choice: Sequence[tuple[str, ...]], users: Mapping[str, list[int]], scales: Sequence[float]
    ) -> list[dict[FusedLinear, Group]]:
        """For each of these sets of adapters, what their rows compute in each linear."""
        groups = []
        for names in choice:
            rows = sorted(row for name in names for row in users[name])
            strength = torch.zeros(len(rows), len(names), dtype=self.dtype, device=self.device)
            for number, name in enumerate(names):
                for row in users[name]:
                    strength[rows.index(row), number] = scales[row]
            plain = bool((strength == 1).all())
            together = rows == list(range(rows[0], rows[0] + len(rows)))
            where = slice(rows[0], rows[-1] + 1) if together else torch.tensor(rows, device=self.device)
            groups.append(
                {
                    fused: Group(where, update, None if plain else strength[:, None, list(update.owners)])
                    for fused, update in self._join(names).items()
                }
            )
        return groups

    def _join(self, names: tuple[str, ...]) -> Mapping[FusedLinear, Update]:
        """The updates of these adapters side by side. Of several, a copy; the last one is kept."""
        if len(names) == 1:
            return self._loaded[names[0]].updates
        if self._joined[0] != names:
            self._memo.clear()
            all_of_them = [self._loaded[name].updates for name in names]
            joined = {}
            for fused in dict.fromkeys(fused for updates in all_of_them for fused in updates):
                joined[fused] = _side_by_side([updates.get(fused) for updates in all_of_them])
            self._joined = (names, joined)
        return self._joined[1]


def _side_by_side(updates: Sequence[Update | None]) -> Update:
    """Several adapters' updates of one linear as one: projection by projection, the adapters' ranks."""
    a, bs, starts, owners = [], [], [], []
    for start in sorted({start for update in updates if update for start in update.starts}):
        mine = []
        for number, update in enumerate(updates):
            if update and start in update.starts:
                place = update.starts.index(start)
                first = sum(b.shape[0] for b in update.bs[:place])
                b = update.bs[place]
                a.append(update.a[first : first + b.shape[0]])
                mine.append(b)
                owners += [number] * b.shape[0]
        bs.append(torch.cat(mine))
        starts.append(start)
    return Update(torch.cat(a), tuple(bs), tuple(starts), tuple(owners))


def _parts(update: Update) -> list[tuple[int, ...]]:
    """The projections of an update as `row_kernel.add` wants them."""
    parts: list[tuple[int, ...]] = []
    first = 0
    for b, start in zip(update.bs, update.starts, strict=True):
        parts.append((b.data_ptr(), start, b.shape[1], first, b.shape[0]))
        first += b.shape[0]
    return parts
