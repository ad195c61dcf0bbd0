"""Projections of one input as one product, with each row's own low-rank update."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import nn


@dataclass(frozen=True, slots=True)
class Segment:
    """One adapted projection of a fused linear: its B's, (adapters, rank, size), its columns of the low-rank
    product, and its columns of the linear's output."""

    b: torch.Tensor
    low: slice
    out: slice


@dataclass(frozen=True, slots=True)
class Plan:
    """What one fused linear computes for one group of rows. `a` is (adapters, ranks side by side, in).

    `addresses` and `pieces` say the same to `row_kernel.add`.
    """

    a: torch.Tensor
    segments: tuple[Segment, ...]
    addresses: np.ndarray
    pieces: np.ndarray


@dataclass(frozen=True, slots=True)
class Use:
    """Rows of one forward pass that use adapters of one bank: `adapters` × `each` rows, in that order.

    `rows` picks them out of the batch: a slice where they lie together, else an index (adapters * each,).
    `scales` (adapters, each, 1, 1) are the rows' strengths, None where all are 1. `strengths` are theirs
    without the places that have no row.
    """

    rows: slice | torch.Tensor
    adapters: int
    each: int
    scales: torch.Tensor | None
    strengths: np.ndarray
    plans: Mapping[int, Plan]


Kernel = Callable[[torch.Tensor, torch.Tensor, np.ndarray, np.ndarray, np.ndarray], None]
"""`row_kernel.add`, which is not there on a GPU."""


class RowsInUse(Protocol):
    """What tells a linear which rows of the running forward pass use which adapters."""

    uses: tuple[Use, ...]
    kernel: Kernel | None


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
        kernel = self._rows.kernel
        for use in self._rows.uses:
            plan = use.plans.get(id(self))
            if plan is None:
                continue
            if kernel and x.shape[1] == 1 and x.is_contiguous() and y.is_contiguous() and y.dtype is x.dtype:
                kernel(y, x, plan.addresses, plan.pieces, use.strengths)
            else:
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

    x: (rows, width, in); y: (rows, width, out), changed in place.
    """
    group, width = use.adapters, x.shape[1]
    low = torch.bmm(x[use.rows].reshape(group, use.each * width, -1).to(plan.a.dtype), plan.a.transpose(1, 2))
    if use.scales is not None:
        low = (low.view(group, use.each, width, -1) * use.scales).view(low.shape)
    for segment in plan.segments:
        delta = torch.bmm(low[:, :, segment.low], segment.b)
        target = y[:, :, segment.out]
        delta = delta.view(-1, width, target.shape[2])
        if isinstance(use.rows, slice):
            target[use.rows].add_(delta)
        else:
            target.index_add_(0, use.rows, delta.to(y.dtype))


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
