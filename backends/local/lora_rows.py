"""LoRA as rows of a batch: every row of one forward pass may carry another adapter, or none.

Rows that share an adapter share its weights. Rows without an adapter cost nothing. There is no "active adapter":
which row uses what is decided anew for each forward pass, so no answer can come from another row's adapter.

On a CPU, one token a row is one call of `row_kernel` a linear, and wider rows are an adapter's products after the
other's. On a GPU, where calls cost more than arithmetic, the adapters of a pass are laid side by side, and one
product serves all their rows.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from backends.contract import AdapterFault, AdapterSource
from backends.local.fused_linear import FusedLinear, Group, Kernel, Plan, Update
from errors import CounterpointError

MAX_BYTES = 2 * 1024**3
"""Adapters that were not used lately leave memory beyond this. On a GPU those that answer lie there twice."""

PLANS = 8
"""How many mixes of rows are remembered: decoding and reading take turns."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """An adapter in memory: what was read, byte for byte."""

    name: str
    version: str
    bytes: int


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
        self._places: dict[str, tuple[FusedLinear, int]] = {}
        self._shapes: dict[str, tuple[int, int]] = {}
        self._loaded: dict[str, Loaded] = {}
        self._updates: dict[str, dict[FusedLinear, Update]] = {}
        self._joined: tuple[tuple[str, ...], dict[FusedLinear, Update]] = ((), {})
        self._memo: dict[tuple[tuple[str | None, ...], tuple[float, ...]], Mapping[FusedLinear, Plan]] = {}

    def adopt(self, fused: FusedLinear, in_features: int) -> None:
        """Registers a linear of the model, in the model's order."""
        for index, name in enumerate(fused.names):
            self._places[name] = (fused, index)
            self._shapes[name] = (fused.sizes[index], in_features)

    @property
    def loaded(self) -> Mapping[str, Loaded]:
        return self._loaded

    @property
    def bytes(self) -> int:
        """Bytes that the adapters' weights take in memory."""
        joined = sum(_bytes(update) for update in self._joined[1].values())
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
        updates = self._fit(source, _read(source))
        self.unload(source.name)
        size = sum(_bytes(update) for update in updates.values())
        for name in [name for name in self._loaded if name not in in_use]:
            if self.bytes + size <= MAX_BYTES:
                break
            self.unload(name)
        if self.bytes + size > MAX_BYTES:
            raise CounterpointError(
                "The adapters that are answering take all the memory set aside for them: ask again when some "
                "have finished."
            )
        self._updates[source.name] = updates
        self._loaded[source.name] = Loaded(source.name, source.version, size)
        return self._loaded[source.name]

    def unload(self, name: str) -> None:
        """Frees an adapter's memory; an unknown name is nothing."""
        if self._loaded.pop(name, None) is not None:
            del self._updates[name]
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
        for fused in dict.fromkeys(fused for name in users for fused in self._updates[name]):
            chosen = tuple(group[fused] for group in groups if fused in group)
            jobs: list[tuple[int, ...]] = []
            parts: list[tuple[int, ...]] = []
            rows: list[int] = []
            for name, used_by in users.items():
                update = self._updates[name].get(fused)
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

    def _join(self, names: tuple[str, ...]) -> dict[FusedLinear, Update]:
        """The updates of these adapters side by side. Of several, a copy; the last one is kept."""
        if len(names) == 1:
            return self._updates[names[0]]
        if self._joined[0] != names:
            self._memo.clear()
            all_of_them = [self._updates[name] for name in names]
            joined = {}
            for fused in dict.fromkeys(fused for updates in all_of_them for fused in updates):
                joined[fused] = _side_by_side([updates.get(fused) for updates in all_of_them])
            self._joined = (names, joined)
        return self._joined[1]

    def _fit(self, source: AdapterSource, tensors: dict[str, torch.Tensor]) -> dict[FusedLinear, Update]:
        """The adapter's weights as each fused linear needs them, in one piece of memory."""
        pairs = self._pairs(source, tensors)
        members: dict[FusedLinear, list[str]] = {}
        for name in (name for name in self._places if name in pairs):
            members.setdefault(self._places[name][0], []).append(name)
        pieces = []
        for names in members.values():
            pieces += [torch.cat([pairs[name][0] for name in names]), *(pairs[name][1].t() for name in names)]
        kept = self._kept_as(pairs)
        flat = torch.cat([piece.reshape(-1).to(kept) for piece in pieces]).to(self.device)
        if not bool(torch.isfinite(flat).all()):
            raise AdapterFault(
                f"Adapter {source.name} holds values that are not finite: its training diverged. Train it "
                "again with a lower learning rate."
            )
        parts = iter(flat.split([piece.numel() for piece in pieces]))
        updates = {}
        for fused, names in members.items():
            ranks = [pairs[name][0].shape[0] for name in names]
            begins = [sum(fused.sizes[: self._places[name][1]]) for name in names]
            a = next(parts).view(sum(ranks), -1)
            bs = tuple(next(parts).view(rank, -1) for rank in ranks)
            updates[fused] = Update(a, bs, tuple(begins), (0,) * sum(ranks))
        return updates

    def _pairs(
        self, source: AdapterSource, tensors: dict[str, torch.Tensor]
    ) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
        """Each adapted module's A and B, with the scaling in B."""
        pairs = {}
        for module, scaling in source.scaling.items():
            if module not in self._places:
                raise CounterpointError(
                    f"Adapter {source.name} changes {module}, which this base does not have."
                )
            a_key, b_key = source.key_names(module)
            try:
                a, b = tensors.pop(a_key), tensors.pop(b_key)
            except KeyError as missing:
                raise CounterpointError(f"Adapter {source.name} lacks the tensor {missing}.") from None
            out_features, in_features = self._shapes[module]
            if a.shape != (a.shape[0], in_features) or b.shape != (out_features, a.shape[0]):
                raise CounterpointError(
                    f"Adapter {source.name}: {module} has shapes {tuple(a.shape)} and {tuple(b.shape)}, "
                    f"which do not fit this base's {(out_features, in_features)}."
                )
            pairs[module] = (a, b.float() * scaling)
        if tensors:
            raise CounterpointError(
                f"Adapter {source.name} holds an unexpected tensor: {next(iter(tensors))}."
            )
        return pairs

    def _kept_as(self, pairs: Mapping[str, tuple[torch.Tensor, torch.Tensor]]) -> torch.dtype:
        """On a CPU bfloat16 where that keeps every bit, else float32: steps wait for memory, half is faster."""
        if self.kernel is None:
            return self.dtype
        short = all(
            torch.equal(each.to(torch.bfloat16).to(each.dtype), each)
            for pair in pairs.values()
            for each in pair
        )
        return torch.bfloat16 if short else torch.float32


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


def _bytes(update: Update) -> int:
    return sum(tensor.nbytes for tensor in (update.a, *update.bs))


def _read(source: AdapterSource) -> dict[str, torch.Tensor]:
    """The file's tensors, from the one reading that is checked, so that the receipt tells what really ran."""
    from safetensors.torch import load

    try:
        data = source.weights.read_bytes()
    except OSError as error:
        raise CounterpointError(f"Adapter {source.name} cannot be read: {error.strerror}.") from None
    if hashlib.sha256(data).hexdigest() != source.sha256:
        raise CounterpointError(
            f"Adapter {source.name} changed on disk after it was checked: check it again on the Adapters tab."
        )
    tensors: dict[str, torch.Tensor] = load(data)
    return tensors
