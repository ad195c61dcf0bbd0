"""LoRA as rows of a batch: every row of one forward pass may carry another adapter, or none.

For adapters of one layout (same modules, same ranks) the weights lie in one slab of shape (adapters, floats), so
that the rows of several adapters are two `torch.bmm` a linear instead of a loop over adapters. Rows that
share an adapter share its weights. Rows without an adapter cost nothing. There is no "active adapter": which
row uses what is decided anew for each forward pass, so no answer can come from another row's adapter.

The weights are float32 on a CPU, where small 16-bit products are slow, and the base's dtype on a GPU.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import nn

from backends.contract import AdapterSource
from errors import CounterpointError

Layout = tuple[tuple[str, int], ...]
"""Which modules an adapter changes, each with its rank, in the base's order."""

MAX_BYTES = 2 * 1024**3
"""Adapters that were not used lately leave memory beyond this."""


@dataclass(frozen=True, slots=True)
class _Part:
    """One projection's share of a fused linear: its columns of the output and of the low-rank product."""

    out: slice
    low: slice
    b: torch.Tensor


@dataclass(frozen=True, slots=True)
class _Plan:
    """What one fused linear computes for one group of rows."""

    a: torch.Tensor
    parts: tuple[_Part, ...]


@dataclass(frozen=True, slots=True)
class Use:
    """Rows of one forward pass that use adapters of one bank: `adapters` × `each` rows, in that order.

    `rows` picks them out of the batch: a slice where they lie together, else an index (adapters * each,).
    `padding` marks places of the index that stand for no row. `scales` (adapters, each, 1, 1) or None.
    """

    rows: slice | torch.Tensor
    adapters: int
    each: int
    scales: torch.Tensor | None
    plans: Mapping[int, _Plan]


class FusedLinear(nn.Module):
    """Projections of one input computed as one product, plus each row's low-rank update.

    The modules that it replaces stay in place as `Part`s, so the model's own code needs no change.
    """

    def __init__(self, base: nn.Module, names: Sequence[str], sizes: Sequence[int], rows: LoraRows):
        super().__init__()
        self.base = base
        self.names = tuple(names)
        self.sizes = tuple(sizes)
        self._rows = rows
        self._input: torch.Tensor | None = None
        self._outputs: list[torch.Tensor] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(rows, width, in) → (rows, width, sum of sizes), in x's dtype."""
        y = self.base(x)
        for use in self._rows.uses:
            plan = use.plans.get(id(self))
            if plan is None:
                continue
            picked = x[use.rows]
            low = torch.bmm(picked.reshape(use.adapters, -1, x.shape[-1]).to(plan.a.dtype), plan.a)
            if use.scales is not None:
                low = (low.view(use.adapters, use.each, -1, low.shape[-1]) * use.scales).view(low.shape)
            for part in plan.parts:
                delta = torch.bmm(low[:, :, part.low], part.b).view(picked.shape[0], x.shape[1], -1)
                target = y[:, :, part.out]
                if isinstance(use.rows, slice):
                    target[use.rows].add_(delta)
                else:
                    target.index_add_(0, use.rows, delta.to(y.dtype))
        return y

    def output(self, index: int, x: torch.Tensor) -> torch.Tensor:
        """Projection `index` of x. The first to ask for an input computes all; the last frees them."""
        if x is not self._input:
            self._outputs = list(self.forward(x).split(self.sizes, dim=-1))
            self._input = x
        result = self._outputs[index]
        if index == len(self.sizes) - 1:
            self._input, self._outputs = None, []
        return result


class Part(nn.Module):
    """Stands where one of the fused projections stood."""

    def __init__(self, fused: FusedLinear, index: int):
        super().__init__()
        # In a tuple it is not registered as a child: it belongs to the module that owns all the parts.
        self._fused = (fused,)
        self._index = index
        self.out_features = fused.sizes[index]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self._fused[0].output(self._index, x)


@dataclass
class _Bank:
    """Adapters of one layout, one a row of `slab`; `order` names them row by row."""

    layout: Layout
    slab: torch.Tensor
    order: list[str] = field(default_factory=list)

    def add(self, name: str, weights: torch.Tensor) -> None:
        grown = self.slab.new_empty(len(self.order) + 1, self.slab.shape[1])
        grown[:-1] = self.slab
        grown[-1] = weights
        self.slab = grown
        self.order.append(name)

    def remove(self, name: str) -> None:
        keep = [i for i, other in enumerate(self.order) if other != name]
        self.slab = self.slab[keep]
        self.order = [self.order[i] for i in keep]

    def gather(self, names: set[str]) -> bool:
        """Brings these adapters next to one another; says whether any had to move."""
        at = sorted(self.order.index(name) for name in names)
        if at[-1] - at[0] + 1 == len(at):
            return False
        for target, source in enumerate(at):
            if target != source:
                swapped = self.slab[target].clone()
                self.slab[target] = self.slab[source]
                self.slab[source] = swapped
                self.order[target], self.order[source] = self.order[source], self.order[target]
        return True


@dataclass(frozen=True, slots=True)
class Loaded:
    """An adapter in memory: what was read, byte for byte."""

    name: str
    sha256: str
    layout: Layout
    bytes: int


class LoraRows:
    """The adapters in memory, and which rows of the running forward pass use them."""

    def __init__(self, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"):
        self.uses: tuple[Use, ...] = ()
        self.dtype = dtype
        self.device = torch.device(device)
        self._fused: list[FusedLinear] = []
        self._places: dict[str, tuple[int, int]] = {}
        self._banks: dict[Layout, _Bank] = {}
        self._loaded: dict[str, Loaded] = {}
        self._shapes: dict[str, tuple[int, int]] = {}
        self._memo: dict[tuple[tuple[str | None, ...], tuple[float, ...]], tuple[Use, ...]] = {}

    def adopt(self, fused: FusedLinear, in_features: int) -> None:
        """Registers a linear of the model, in the model's order."""
        for index, name in enumerate(fused.names):
            self._places[name] = (len(self._fused), index)
            self._shapes[name] = (fused.sizes[index], in_features)
        self._fused.append(fused)

    @property
    def loaded(self) -> Mapping[str, Loaded]:
        return self._loaded

    @property
    def bytes(self) -> int:
        """Bytes that the adapters' weights take in memory."""
        return sum(bank.slab.numel() * bank.slab.element_size() for bank in self._banks.values())

    def load(self, source: AdapterSource, in_use: set[str]) -> Loaded:
        """Reads an adapter into memory unless this very version is there; returns what was read.

        Adapters outside `in_use` may leave memory for it, the longest unused first. Raises
        CounterpointError if the file changed since it was checked, or does not fit the base.
        """
        present = self._loaded.get(source.name)
        if present is not None and present.sha256 == source.sha256:
            self._loaded[source.name] = self._loaded.pop(source.name)
            return present
        if source.name in in_use:
            raise CounterpointError(
                f"Adapter {source.name} changed on disk while it is answering: ask again when it has finished."
            )
        tensors, sha256 = _read(source)
        layout, flat = self._flatten(source, tensors)
        self.unload(source.name)
        size = flat.numel() * flat.element_size()
        for name in [name for name in self._loaded if name not in in_use]:
            if self.bytes + size <= MAX_BYTES:
                break
            self.unload(name)
        bank = self._banks.get(layout)
        if bank is None:
            bank = self._banks[layout] = _Bank(layout, flat.new_empty(0, flat.numel()))
        bank.add(source.name, flat)
        self._memo.clear()
        self._loaded[source.name] = Loaded(source.name, sha256, layout, size)
        return self._loaded[source.name]

    def unload(self, name: str) -> None:
        """Frees an adapter's memory; an unknown name is nothing."""
        loaded = self._loaded.pop(name, None)
        if loaded is None:
            return
        bank = self._banks[loaded.layout]
        bank.remove(name)
        if not bank.order:
            del self._banks[loaded.layout]
        self._memo.clear()

    def assign(self, adapters: Sequence[str | None], scales: Sequence[float]) -> None:
        """Says which adapter, at which strength, each row of the next forward pass uses."""
        key = (tuple(adapters), tuple(scales))
        if key not in self._memo:
            # Decoding and reading take turns, so a few are worth keeping; each holds views only.
            if len(self._memo) >= 8:
                self._memo.clear()
            self._memo[key] = self._plan(adapters, scales)
        self.uses = self._memo[key]

    def _plan(self, adapters: Sequence[str | None], scales: Sequence[float]) -> tuple[Use, ...]:
        groups: dict[Layout, dict[str, list[int]]] = {}
        for row, name in enumerate(adapters):
            if name is not None and scales[row] != 0:
                groups.setdefault(self._loaded[name].layout, {}).setdefault(name, []).append(row)
        return tuple(self._use(self._banks[layout], group, scales) for layout, group in groups.items())

    def _use(self, bank: _Bank, group: dict[str, list[int]], scales: Sequence[float]) -> Use:
        if bank.gather(set(group)):
            self._memo.clear()
        first = min(bank.order.index(name) for name in group)
        end = first + len(group)
        each = max(len(rows) for rows in group.values())
        index: list[int] = []
        strengths: list[float] = []
        for name in bank.order[first:end]:
            rows = group[name]
            # A place without a row repeats a row at strength 0.
            index += rows + [rows[0]] * (each - len(rows))
            strengths += [scales[row] for row in rows] + [0.0] * (each - len(rows))
        together = index == list(range(index[0], index[0] + len(index)))
        return Use(
            rows=slice(index[0], index[0] + len(index))
            if together
            else torch.tensor(index, device=self.device),
            adapters=end - first,
            each=each,
            scales=None
            if all(strength == 1 for strength in strengths)
            else torch.tensor(strengths, dtype=self.dtype, device=self.device).view(-1, each, 1, 1),
            plans=self._plans(bank, first, end),
        )

    def _plans(self, bank: _Bank, first: int, end: int) -> dict[int, _Plan]:
        """Views into the bank's slab, one plan for each fused linear that the layout touches."""
        plans: dict[int, _Plan] = {}
        chosen = bank.slab[first:end]
        offset = 0
        for number, members in _by_fused(bank.layout, self._places).items():
            fused = self._fused[number]
            width = sum(rank for _, rank in members)
            in_features = self._shapes[members[0][0]][1]
            a = chosen[:, offset : offset + in_features * width].view(end - first, in_features, width)
            offset += in_features * width
            parts, low = [], 0
            for name, rank in members:
                size = self._shapes[name][0]
                b = chosen[:, offset : offset + rank * size].view(end - first, rank, size)
                offset += rank * size
                start = sum(fused.sizes[: self._places[name][1]])
                parts.append(_Part(slice(start, start + size), slice(low, low + rank), b))
                low += rank
            plans[id(fused)] = _Plan(a, tuple(parts))
        return plans

    def _flatten(
        self, source: AdapterSource, tensors: dict[str, torch.Tensor]
    ) -> tuple[Layout, torch.Tensor]:
        """The adapter as one vector: for each fused linear its A's side by side (in, ranks), then its B's
        (rank, out), with the scaling in B."""
        unknown = [module for module in source.scaling if module not in self._places]
        if unknown:
            raise CounterpointError(
                f"Adapter {source.name} changes {unknown[0]}, which this base does not have."
            )
        pairs = {}
        for module, scaling in source.scaling.items():
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
            pairs[module] = (a.to(self.dtype), b.to(self.dtype) * scaling)
        if tensors:
            raise CounterpointError(
                f"Adapter {source.name} holds an unexpected tensor: {next(iter(tensors))}."
            )
        ordered = sorted(pairs, key=lambda module: self._places[module])
        layout = tuple((module, pairs[module][0].shape[0]) for module in ordered)
        pieces = []
        for members in _by_fused(layout, self._places).values():
            pieces.append(torch.cat([pairs[name][0] for name, _ in members]).t().reshape(-1))
            pieces += [pairs[name][1].t().reshape(-1) for name, _ in members]
        flat = torch.cat(pieces).to(self.device)
        if not torch.isfinite(flat).all():
            raise CounterpointError(
                f"Adapter {source.name} holds values that are not finite: its training diverged. Train it "
                "again with a lower learning rate."
            )
        return layout, flat


def _by_fused(layout: Layout, places: Mapping[str, tuple[int, int]]) -> dict[int, list[tuple[str, int]]]:
    """A layout's modules grouped by the fused linear that computes them."""
    groups: dict[int, list[tuple[str, int]]] = {}
    for module, rank in layout:
        groups.setdefault(places[module][0], []).append((module, rank))
    return groups


def _read(source: AdapterSource) -> tuple[dict[str, torch.Tensor], str]:
    """The file's tensors and its sha256, from one reading, so that the receipt tells what really ran."""
    from safetensors.torch import load

    try:
        data = source.weights.read_bytes()
    except OSError as error:
        raise CounterpointError(f"Adapter {source.name} cannot be read: {error.strerror}.") from None
    sha256 = hashlib.sha256(data).hexdigest()
    if sha256 != source.sha256:
        raise CounterpointError(
            f"Adapter {source.name} changed on disk after it was checked: check it again on the Adapters tab."
        )
    return load(data), sha256
