"""The compiled update of a decode step gives what the formula says, and touches no other row."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from backends.local import row_kernel

IN, SIZES, RANKS = 24, (16, 8, 8), (4, 2, 3)
ROWS = 5


def adapter() -> tuple[torch.Tensor, list[torch.Tensor]]:
    """(A of all projections below one another, one B (rank, size) a projection)."""
    return torch.randn(sum(RANKS), IN), [
        torch.randn(rank, size) for rank, size in zip(RANKS, SIZES, strict=True)
    ]


def tables(
    jobs: list[tuple[int, tuple[torch.Tensor, list[torch.Tensor]]]],
) -> tuple[np.ndarray, np.ndarray]:
    addresses = [[row, a.data_ptr(), *(b.data_ptr() for b in bs)] for row, (a, bs) in jobs]
    starts, lows = np.cumsum([0, *SIZES[:-1]]), np.cumsum([0, *RANKS[:-1]])
    return np.array(addresses), np.stack([starts, SIZES, lows, RANKS], axis=1)


def expected(
    x: torch.Tensor, y: torch.Tensor, a: torch.Tensor, bs: list[torch.Tensor], scale: float
) -> torch.Tensor:
    low = x.double() @ a.double().t() * scale
    parts = [part @ b.double() for part, b in zip(low.split(RANKS, dim=-1), bs, strict=True)]
    return y.double() + torch.cat(parts, dim=-1)


@pytest.mark.parametrize("dtype", row_kernel.DTYPES)
def test_each_row_gets_its_own_adapters_update_and_others_none(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    x, y = torch.randn(ROWS, 1, IN).to(dtype), torch.randn(ROWS, 1, sum(SIZES)).to(dtype)
    before, (first, second) = y.clone(), (adapter(), adapter())
    jobs = [(3, first), (1, second), (4, first)]
    scales = np.array([1.0, 0.5, 2.0], np.float32)
    row_kernel.add(y, x, *tables(jobs), scales)
    for (row, (a, bs)), scale in zip(jobs, scales, strict=True):
        wanted = expected(x[row, 0], before[row, 0], a, bs, float(scale)).to(dtype)
        torch.testing.assert_close(y[row, 0], wanted)
    for row in (0, 2):
        assert torch.equal(y[row], before[row])


def test_a_row_gets_the_same_bits_alone_as_beside_others() -> None:
    torch.manual_seed(0)
    x, y = torch.randn(ROWS, 1, IN), torch.randn(ROWS, 1, sum(SIZES))
    beside, mine = y.clone(), adapter()
    row_kernel.add(beside, x, *tables([(0, adapter()), (2, mine)]), np.ones(2, np.float32))
    alone = y[2:3].clone()
    row_kernel.add(alone, x[2:3].contiguous(), *tables([(0, mine)]), np.ones(1, np.float32))
    assert torch.equal(beside[2], alone[0])


def test_values_that_are_no_numbers_stay_visible() -> None:
    x, y = torch.full((1, 1, IN), float("nan")).bfloat16(), torch.zeros(1, 1, sum(SIZES)).bfloat16()
    row_kernel.add(y, x, *tables([(0, adapter())]), np.ones(1, np.float32))
    assert y.isnan().all()
