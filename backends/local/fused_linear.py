"""Projections of one input as one product, with each row's own low-rank update."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import nn


@dataclass(frozen=True, slots=True)
class Segment:
    """Neighbouring projections of one fused linear whose B's are multiplied at once.

    Their outputs are cut into `chunks` equal pieces, so that projections of unlike sizes are one bmm:
    `b` is (adapters * chunks, rank, piece), and `pick` says which projection's low-rank product each piece
    takes (None where each takes its own). `low` and `out` are the segment's columns of the low-rank
    product and of the linear's output; `out` is None where that is all of them.
    """

    out: slice | None
    low: slice | None
    rank: int
    chunks: int
    pick: torch.Tensor | None
    b: torch.Tensor


@dataclass(frozen=True, slots=True)
class Plan:
    """What one fused linear computes for one group of rows. `a` is (adapters, in, ranks side by side)."""

    a: torch.Tensor
    segments: tuple[Segment, ...]


@dataclass(frozen=True, slots=True)
class Use:
    """Rows of one forward pass that use adapters of one bank: `adapters` × `each` rows, in that order.

    `rows` picks them out of the batch: a slice where they lie together, else an index (adapters * each,).
    `scales` (adapters, each, 1, 1) are the rows' strengths, None where all are 1.
    """

    rows: slice | torch.Tensor
    adapters: int
    each: int
    scales: torch.Tensor | None
    plans: Mapping[int, Plan]


class RowsInUse(Protocol):
    """What tells a linear which rows of the running forward pass use which adapters."""

    uses: tuple[Use, ...]


class FusedLinear(nn.Module):
    """Projections of one input computed as one product, plus each row's low-rank update.

    The modules that it replaces stay in place as `Part`s, so the model's own code needs no change.
    """

    def __init__(self, base: nn.Module, names: Sequence[str], sizes: Sequence[int], rows: RowsInUse):
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
            if plan is not None:
                add_updates(y, x, use, plan)
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


def add_updates(y: torch.Tensor, x: torch.Tensor, use: Use, plan: Plan) -> None:
    """y[rows] += scale · x[rows] A B, each row with its own adapter's A and B (Hu et al. 2021, equation 3).

    x: (rows, width, in); y: (rows, width, out), changed in place. This runs 120 times a step, hence the few
    operations: on small products what counts is their number.
    """
    group, width = use.adapters, x.shape[1]
    low = torch.bmm(x[use.rows].reshape(group, use.each * width, -1).to(plan.a.dtype), plan.a)
    if use.scales is not None:
        low = (low.view(group, use.each, width, -1) * use.scales).view(low.shape)
    for segment in plan.segments:
        part = low if segment.low is None else low[:, :, segment.low]
        if segment.chunks > 1:
            part = part.unflatten(2, (-1, segment.rank)).transpose(1, 2)
            if segment.pick is not None:
                part = part.index_select(1, segment.pick)
            part = part.reshape(group * segment.chunks, -1, segment.rank)
        delta = torch.bmm(part, segment.b).view(group, segment.chunks, use.each * width, -1).transpose(1, 2)
        target = y if segment.out is None else y[:, :, segment.out]
        if isinstance(use.rows, slice):
            target[use.rows].view(delta.shape).add_(delta)
        else:
            target.index_add_(0, use.rows, delta.reshape(-1, width, target.shape[2]).to(y.dtype))


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
