"""Attention over rows of different lengths: what parting them leaves out, and that it changes no answer."""

from __future__ import annotations

import pytest
import torch

from backends.local import attention
from backends.local.attention import Run, attend, mask, runs


def test_rows_about_as_long_stay_together_and_long_ones_are_parted_from_short_ones() -> None:
    assert runs([40, 40, 90]) == (Run(0, 3, 90, False),)
    assert runs([40, 40, 1000, 1000, 41]) == (Run(0, 2, 40, True), Run(2, 4, 1000, True), Run(4, 5, 41, True))
    assert runs([5]) == (Run(0, 1, 5, True),)
    climbing = runs(list(range(1, 1000, 20)))
    assert [run.first for run in climbing[1:]] == [run.end for run in climbing[:-1]]
    assert climbing[-1].end == 50


@pytest.mark.parametrize("softcap", [None, 30.0])
def test_parted_or_not_every_row_sees_the_same(softcap: float | None) -> None:
    torch.manual_seed(0)
    lengths = [3, 3, 200, 150, 9]
    reach, rows = max(lengths), len(lengths)
    query = torch.randn(rows, 6, 1, 8)
    key, value = torch.randn(2, rows, 2, reach, 8).unbind(0)
    starts = torch.tensor(lengths) - 1
    hidden = mask(starts, torch.ones_like(starts), reach, torch.float32)
    module = torch.nn.Module()
    whole, _ = attend(module, query, key, value, hidden, softcap=softcap)
    parts = runs(lengths)
    assert len(parts) == 3
    parted, _ = attend(module, query, key, value, hidden, softcap=softcap, row_runs=parts)
    torch.testing.assert_close(parted, whole)
    assert attention.PADDING < 150 - 9
