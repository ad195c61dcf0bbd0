"""The compiled update of a forward pass gives what the formula says, and touches no other row."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from backends.contract import AdapterSource
from backends.local import row_kernel
from backends.local.base_model import load

IN, SIZES, RANKS = 24, (16, 8, 8), (4, 2, 3)
ROWS = 5


def adapter(dtype: torch.dtype = torch.float32) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """(A of all projections below one another, one B (rank, size) a projection)."""
    return torch.randn(sum(RANKS), IN).to(dtype), [
        torch.randn(rank, size).to(dtype) for rank, size in zip(RANKS, SIZES, strict=True)
    ]


def tables(
    jobs: list[tuple[int, tuple[torch.Tensor, list[torch.Tensor]]]],
) -> tuple[np.ndarray, np.ndarray]:
    """Jobs and parts as `row_kernel.add` wants them."""
    starts, lows = np.cumsum([0, *SIZES[:-1]]), np.cumsum([0, *RANKS[:-1]])
    first: list[list[int]] = []
    parts: list[list[int]] = []
    for row, (a, bs) in jobs:
        own = [
            [b.data_ptr(), start, b.shape[1], low, b.shape[0]]
            for b, start, low in zip(bs, starts, lows, strict=True)
        ]
        begin, end = len(parts), len(parts) + len(own)
        first.append([row, a.data_ptr(), a.shape[0], begin, end, a.dtype is torch.bfloat16])
        parts += own
    return np.array(first, np.int64), np.array(parts, np.int64)


def expected(
    x: torch.Tensor, y: torch.Tensor, a: torch.Tensor, bs: list[torch.Tensor], scale: float
) -> torch.Tensor:
    low = x.double() @ a.double().t() * scale
    parts = [part @ b.double() for part, b in zip(low.split(RANKS, dim=-1), bs, strict=True)]
    return y.double() + torch.cat(parts, dim=-1)


@pytest.mark.parametrize("width", [1, 3])
@pytest.mark.parametrize("dtype", row_kernel.DTYPES)
def test_each_row_gets_its_own_adapters_update_and_others_none(dtype: torch.dtype, width: int) -> None:
    torch.manual_seed(0)
    x, y = torch.randn(ROWS, width, IN).to(dtype), torch.randn(ROWS, width, sum(SIZES)).to(dtype)
    before, (first, second) = y.clone(), (adapter(torch.bfloat16), adapter())
    jobs = [(3, first), (1, second), (4, first)]
    scales = np.array([1.0, 0.5, 2.0], np.float32)
    row_kernel.add(y, x, *tables(jobs), scales)
    for (row, (a, bs)), scale in zip(jobs, scales, strict=True):
        torch.testing.assert_close(y[row], expected(x[row], before[row], a, bs, float(scale)).to(dtype))
    for row in (0, 2):
        assert torch.equal(y[row], before[row])


def test_a_row_gets_the_same_bits_alone_as_beside_others() -> None:
    torch.manual_seed(0)
    x, y = torch.randn(ROWS, 2, IN), torch.randn(ROWS, 2, sum(SIZES))
    beside, mine = y.clone(), adapter()
    row_kernel.add(beside, x, *tables([(0, adapter()), (2, mine)]), np.ones(2, np.float32))
    alone = y[2:3].clone()
    row_kernel.add(alone, x[2:3].contiguous(), *tables([(0, mine)]), np.ones(1, np.float32))
    assert torch.equal(beside[2], alone[0])


def test_what_the_kernel_cannot_compute_is_refused_before_it_touches_memory() -> None:
    y = torch.zeros(1, 1, sum(SIZES), dtype=torch.float16)
    with pytest.raises(TypeError, match="float16"):
        row_kernel.add(y, torch.zeros(1, 1, IN, dtype=torch.float16), *tables([(0, adapter())]), np.ones(1))
    with pytest.raises(IndexError):
        row_kernel.add(
            y.float(), torch.zeros(1, 1, IN), *tables([(1, adapter())]), np.ones(1, dtype=np.float32)
        )


@pytest.mark.parametrize("width", [1, 7])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_mixed_rows_are_the_same_by_the_kernel_one_after_another_and_side_by_side(
    tiny_base: Path, sources: dict[str, AdapterSource], dtype: str, width: int
) -> None:
    base = load(tiny_base, "none", dtype)
    for source in sources.values():
        base.rows.load(source, set())
    rows = [None, "one", "two", "narrow", "one"]
    ids = torch.arange(1, 1 + len(rows) * width).view(-1, width)

    def logits() -> torch.Tensor:
        base.rows.forget_plans()
        base.rows.assign(rows, [1.0, 1.0, 0.5, 1.0, 2.0])
        with torch.inference_mode():
            return base.model(input_ids=ids, use_cache=False).logits.float()

    by_kernel = logits()
    base.rows.kernel = None
    one_by_one = logits()
    base.rows.side_by_side = True
    alone = base.rows.bytes
    side_by_side = logits()
    assert base.rows.bytes == 2 * alone, "the copy was made, and is counted"
    assert not torch.equal(by_kernel, one_by_one) or dtype == "bfloat16", "both ways were taken"
    for other in (one_by_one, side_by_side):
        error = (by_kernel - other).abs().max() / other.abs().max()
        assert error < (1e-5 if dtype == "float32" else 3e-2)


def test_values_that_are_no_numbers_stay_visible() -> None:
    x, y = torch.full((1, 1, IN), float("nan")).bfloat16(), torch.zeros(1, 1, sum(SIZES)).bfloat16()
    row_kernel.add(y, x, *tables([(0, adapter())]), np.ones(1, np.float32))
    assert y.isnan().all()
