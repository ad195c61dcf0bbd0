"""The compiled update of a decode step gives what the formula says, and touches no other row."""

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


def test_what_the_kernel_cannot_compute_is_refused_before_it_touches_memory() -> None:
    y = torch.zeros(1, 1, sum(SIZES), dtype=torch.float16)
    with pytest.raises(TypeError, match="float16"):
        row_kernel.add(y, torch.zeros(1, 1, IN, dtype=torch.float16), *tables([(0, adapter())]), np.ones(1))
    with pytest.raises(IndexError):
        row_kernel.add(
            y.float(), torch.zeros(1, 1, IN), *tables([(1, adapter())]), np.ones(1, dtype=np.float32)
        )


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_step_of_mixed_rows_is_the_same_by_the_kernel_as_by_batched_products(
    tiny_base: Path, sources: dict[str, AdapterSource], dtype: str
) -> None:
    base = load(tiny_base, "none", dtype)
    for source in sources.values():
        base.rows.load(source, set())
    rows = [None, "one", "two", "narrow", "one"]
    base.rows.assign(rows, [1.0, 1.0, 0.5, 1.0, 2.0])
    ids = torch.arange(1, 1 + len(rows)).view(-1, 1)
    with torch.inference_mode():
        by_kernel = base.model(input_ids=ids, use_cache=False).logits.float()
        base.rows.kernel = None
        by_products = base.model(input_ids=ids, use_cache=False).logits.float()
    assert not torch.equal(by_kernel, by_products) or dtype == "bfloat16", "both ways were taken"
    error = (by_kernel - by_products).abs().max() / by_products.abs().max()
    assert error < (1e-5 if dtype == "float32" else 3e-2)


def test_values_that_are_no_numbers_stay_visible() -> None:
    x, y = torch.full((1, 1, IN), float("nan")).bfloat16(), torch.zeros(1, 1, sum(SIZES)).bfloat16()
    row_kernel.add(y, x, *tables([(0, adapter())]), np.ones(1, np.float32))
    assert y.isnan().all()
