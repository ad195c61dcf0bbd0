"""LoRA as rows of a batch: every row of one forward pass may carry another adapter, or none.

For adapters of one layout (same modules, same ranks) the weights lie in one slab of shape (adapters, floats), so
that the rows of several adapters are a `torch.bmm` for their A's and one for each projection's B's instead of a
loop over adapters; on a CPU, one token a row is one call of `row_kernel`. Rows that share an adapter share its
weights. Rows without an adapter cost nothing. There is no "active adapter": which
row uses what is decided anew for each forward pass, so no answer can come from another row's adapter.

The weights are float32 on a CPU, where small 16-bit products are slow, and the base's dtype on a GPU.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from backends.contract import AdapterFault, AdapterSource
from backends.local.fused_linear import FusedLinear, Kernel, Plan, Segment, Use
from errors import CounterpointError

Layout = tuple[tuple[str, int], ...]
"""Which modules an adapter changes, each with its rank, in the base's order."""

MAX_BYTES = 2 * 1024**3
"""Adapters that were not used lately leave memory beyond this."""


class _Bank:
    """Adapters of one layout. Piece by piece (an A, a segment's B), all adapters' values lie together.

    `order` names the adapters; `stacks()` is, piece by piece, all of theirs: (adapters, count) each.
    """

    def __init__(self, pieces: Sequence[int], slab: torch.Tensor):
        self.order: list[str] = []
        self._pieces = tuple(pieces)
        self._slab = slab

    @property
    def bytes(self) -> int:
        return self._slab.numel() * self._slab.element_size()

    def stacks(self) -> list[torch.Tensor]:
        return self._stacks(self._slab, len(self.order))

    def add(self, name: str, weights: Sequence[torch.Tensor]) -> None:
        count = len(self.order)
        grown = self._slab.new_empty((count + 1) * sum(self._pieces))
        for new, old, own in zip(
            self._stacks(grown, count + 1), self._stacks(self._slab, count), weights, strict=True
        ):
            new[:count] = old
            new[count] = own
        self._slab = grown
        self.order.append(name)

    def remove(self, name: str) -> None:
        keep = [i for i, other in enumerate(self.order) if other != name]
        kept = self._slab.new_empty(len(keep) * sum(self._pieces))
        for new, old in zip(
            self._stacks(kept, len(keep)), self._stacks(self._slab, len(self.order)), strict=True
        ):
            new[:] = old[keep]
        self._slab = kept
        self.order = [self.order[i] for i in keep]

    def arrange(self, names: Sequence[str]) -> bool:
        """Brings these adapters next to one another in this order; says whether any had to move."""
        if _stand_together(self.order, names):
            return False
        wanted = [*names, *(name for name in self.order if name not in names)]
        new_places = torch.tensor([self.order.index(name) for name in wanted], device=self._slab.device)
        for stack in self._stacks(self._slab, len(self.order)):
            stack.copy_(stack[new_places])
        self.order = wanted
        return True

    def _stacks(self, slab: torch.Tensor, count: int) -> list[torch.Tensor]:
        flat = slab.split([count * piece for piece in self._pieces])
        return [stack.view(count, piece) for stack, piece in zip(flat, self._pieces, strict=True)]


def _stand_together(order: Sequence[str], names: Sequence[str]) -> bool:
    start = order.index(names[0])
    return list(order[start : start + len(names)]) == list(names)


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
        self.kernel: Kernel | None = None
        if self.device.type == "cpu" and dtype is torch.float32:
            from backends.local import row_kernel

            self.kernel = row_kernel.add

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
        return sum(bank.bytes for bank in self._banks.values())

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
        if present is not None and present.sha256 == source.sha256:
            self._loaded[source.name] = self._loaded.pop(source.name)
            return present
        if source.name in in_use:
            raise CounterpointError(
                f"Adapter {source.name} changed on disk while it is answering: ask again when it has finished."
            )
        tensors, sha256 = _read(source)
        layout, weights = self._pieces(source, tensors)
        self.unload(source.name)
        size = sum(piece.numel() * piece.element_size() for piece in weights)
        for name in [name for name in self._loaded if name not in in_use]:
            if self.bytes + size <= MAX_BYTES:
                break
            self.unload(name)
        if self.bytes + size > MAX_BYTES:
            raise CounterpointError(
                "The adapters that are answering take all the memory set aside for them: ask again when some "
                "have finished."
            )
        bank = self._banks.get(layout)
        if bank is None:
            pieces = [piece.numel() for piece in weights]
            bank = self._banks[layout] = _Bank(pieces, weights[0].new_empty(0))
        bank.add(source.name, weights)
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

    def forget_plans(self) -> None:
        """Works out anew what each linear computes; for measuring what a new mix of modes costs."""
        self._memo.clear()

    def _plan(self, adapters: Sequence[str | None], scales: Sequence[float]) -> tuple[Use, ...]:
        groups: dict[Layout, dict[str, list[int]]] = {}
        for row, name in enumerate(adapters):
            if name is not None and scales[row] != 0:
                groups.setdefault(self._loaded[name].layout, {}).setdefault(name, []).append(row)
        return tuple(self._use(layout, group, scales) for layout, group in groups.items())

    def _use(self, layout: Layout, group: dict[str, list[int]], scales: Sequence[float]) -> Use:
        bank = self._banks[layout]
        # In the order of their rows, which then are a slice of the batch where they lie together.
        if bank.arrange(list(group)):
            self.forget_plans()
        first = bank.order.index(next(iter(group)))
        end = first + len(group)
        each = max(len(rows) for rows in group.values())
        index: list[int] = []
        strengths: list[float] = []
        for rows in group.values():
            # A place without a row repeats a row at strength 0.
            index += rows + [rows[0]] * (each - len(rows))
            strengths += [scales[row] for row in rows] + [0.0] * (each - len(rows))
        together = index == list(range(index[0], index[0] + len(index)))
        jobs = [(row, number) for number, rows in enumerate(group.values()) for row in rows]
        return Use(
            rows=slice(index[0], index[0] + len(index))
            if together
            else torch.tensor(index, device=self.device),
            adapters=end - first,
            each=each,
            scales=None
            if all(strength == 1 for strength in strengths)
            else torch.tensor(strengths, dtype=self.dtype, device=self.device).view(-1, each, 1, 1),
            strengths=np.array([scales[row] for row, _ in jobs], np.float32),
            plans=self._plans(layout, bank, slice(first, end), np.array(jobs)),
        )

    def _plans(self, layout: Layout, bank: _Bank, chosen: slice, jobs: np.ndarray) -> dict[int, Plan]:
        """Views into the bank for these of its adapters, one plan for each fused linear of the layout.

        `jobs` are (row, which of the chosen adapters), one for each row.
        """
        plans: dict[int, Plan] = {}
        count, stacks = chosen.stop - chosen.start, iter(bank.stacks())
        for number, members in _by_fused(layout, self._places).items():
            fused = self._fused[number]
            width = sum(rank for _, rank in members)
            a = next(stacks)[chosen].view(count, width, -1)
            segments, pieces, low = [], [], 0
            for name, rank in members:
                size, start = self._shapes[name][0], sum(fused.sizes[: self._places[name][1]])
                b = next(stacks)[chosen].view(count, rank, size)
                segments.append(Segment(b, slice(low, low + rank), slice(start, start + size)))
                pieces.append((start, size, low, rank))
                low += rank
            addresses = [
                jobs[:, 0],
                *(_addresses(stack)[jobs[:, 1]] for stack in (a, *(each.b for each in segments))),
            ]
            plans[id(fused)] = Plan(a, tuple(segments), np.stack(addresses, axis=1), np.array(pieces))
        return plans

    def _pieces(
        self, source: AdapterSource, tensors: dict[str, torch.Tensor]
    ) -> tuple[Layout, list[torch.Tensor]]:
        """The adapter's layout and its weights as flat pieces: for each fused linear its A's below one another
        (ranks, in), then each projection's B (rank, size), with the scaling in B."""
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
            pieces.append(torch.cat([pairs[name][0] for name, _ in members]).reshape(-1))
            pieces += [pairs[name][1].t().reshape(-1) for name, _ in members]
        if not all(bool(torch.isfinite(piece).all()) for piece in pieces):
            raise AdapterFault(
                f"Adapter {source.name} holds values that are not finite: its training diverged. Train it "
                "again with a lower learning rate."
            )
        return layout, [piece.to(self.device) for piece in pieces]


def _addresses(stack: torch.Tensor) -> np.ndarray:
    """Where each adapter's part of a stack lies in memory."""
    step = stack.stride(0) * stack.element_size()
    return np.arange(stack.shape[0]) * step + stack.data_ptr()


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
