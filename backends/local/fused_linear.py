"""Projections of one input as one product, with each row's own low-rank update."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import nn

NARROW = 64
"""Tokens a row up to which `row_kernel.add` is faster than ordinary products: decode steps and short prompts."""


@dataclass(frozen=True, slots=True)
class Update:
    """The low-rank weights for one fused linear: those of an adapter, or of several side by side.

    `a` is (ranks, in), the projections' ranks below one another. For each adapted projection `bs` holds its B,
    (its ranks, size), with the adapter's scaling in it, and `starts` where it begins in the linear's output.
    `owners` says of each rank which of the adapters it belongs to.
    """

    a: torch.Tensor
    bs: tuple[torch.Tensor, ...]
    starts: tuple[int, ...]
    owners: tuple[int, ...]

    @property
    def bytes(self) -> int:
        return sum(tensor.nbytes for tensor in (self.a, *self.bs))


@dataclass(frozen=True, slots=True)
class Group:
    """Rows of one forward pass that share an update.

    `rows` picks them out of the batch: a slice where they lie together, else an index. `scales` (rows, 1,
    ranks) is the strength at which each row uses each rank, None where all are 1.
    """

    rows: slice | torch.Tensor
    update: Update
    scales: torch.Tensor | None


@dataclass(frozen=True, slots=True)
class Plan:
    """What one fused linear adds in a forward pass: `groups` for ordinary products, and the same for
    `row_kernel.add`, where the shapes of `jobs`, `parts` and `strengths` are told."""

    groups: tuple[Group, ...]
    jobs: np.ndarray
    parts: np.ndarray
    strengths: np.ndarray


Kernel = Callable[[torch.Tensor, torch.Tensor, np.ndarray, np.ndarray, np.ndarray], None]
"""`row_kernel.add`, which is not there on a GPU."""


class RowsInUse(Protocol):
    """What tells a linear which rows of the running forward pass use which adapters."""

    plans: Mapping[FusedLinear, Plan]
    dtype: torch.dtype
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
        plan = self._rows.plans.get(self)
        if plan is None:
            return y
        kernel = self._rows.kernel
        narrow = x.shape[1] <= NARROW and x.is_contiguous() and y.is_contiguous() and y.dtype is x.dtype
        if kernel and narrow:
            kernel(y, x, plan.jobs, plan.parts, plan.strengths)
        else:
            for group in plan.groups:
                add_update(y, x, group, self._rows.dtype)
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


def add_update(y: torch.Tensor, x: torch.Tensor, group: Group, dtype: torch.dtype) -> None:
    """y[rows] += scale · x[rows] A B (Hu et al. 2021, equation 3), computed in `dtype`.

    x: (rows, width, in); y: (rows, width, out), changed in place.
    """
    update = group.update
    low = x[group.rows].to(dtype) @ update.a.to(dtype).t()
    if group.scales is not None:
        # Not by a product alone: another adapter's overflow times 0 would be no number.
        low = torch.where(group.scales == 0, 0, low * group.scales)
    first = 0
    for b, start in zip(update.bs, update.starts, strict=True):
        rank, size = b.shape
        delta = low[:, :, first : first + rank] @ b.to(dtype)
        target = y[:, :, start : start + size]
        target[group.rows] = (target[group.rows] + delta).to(y.dtype)
        first += rank


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
