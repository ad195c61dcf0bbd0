"""NF4 as it is packed: what is multiplied, and that nothing beside a row changes its sums."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from bitsandbytes.functional import dequantize_4bit
from torch import nn

from backends import nf4
from backends.local import nf4_kernel, openmp
from backends.local.base_model import Linears, load
from backends.local.packed_linear import FEW, PackedLinear

CPU = torch.device("cpu")
SHAPES = ((96, 64), (7, 576), (33, 1536))
pytestmark = pytest.mark.skipif(
    not nf4_kernel.can_multiply(64), reason="a processor without AVX2, or another OpenMP"
)


def random(*shape: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def layer(monkeypatch: pytest.MonkeyPatch) -> Callable[..., nn.Module]:
    """Makes a layer of weights as a machine without AVX512-BF16 does."""
    monkeypatch.setattr(nf4, "is_fused", lambda device: False)

    def make(weight: torch.Tensor, bias: torch.Tensor | None = None, unpacked: bool = True) -> nn.Module:
        return Linears("nf4", unpacked, torch.float32, CPU).make(weight, bias)

    return make


def multiplied(weight: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    codes, state = nf4.packed(weight)
    scales = state.absmax.reshape(len(weight), -1)
    return nf4_kernel.multiply(x, nf4_kernel.arranged(codes, len(weight)), scales)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_weights_are_bit_by_bit_those_of_bitsandbytes(shape: tuple[int, int]) -> None:
    weight = random(*shape)
    weight[0, :64] = torch.linspace(-1, 1, 64)  # all 16 values
    weight[-1, -64:] = 0
    answered = multiplied(weight, torch.eye(shape[1])).t()
    assert torch.equal(answered, dequantize_4bit(*nf4.packed(weight)))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("rows", range(1, 10))
def test_products_are_those_of_the_unpacked_weights(shape: tuple[int, int], rows: int) -> None:
    weight, x = random(*shape), random(rows, shape[1], seed=2)
    exact = (x.double() @ nf4.rounded(weight).double().t()).float()
    torch.testing.assert_close(multiplied(weight, x), exact, rtol=1e-5, atol=1e-4)


def test_it_computes_on_as_many_threads_as_torch(
    threads: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    library, asked = openmp._openmp(), []
    assert library
    parallel = library.parallel

    def noted(function: int, data: int, count: int, flags: int) -> None:
        asked.append(count)
        parallel(function, data, count, flags)

    monkeypatch.setattr(library, "parallel", noted)
    for count in (1, 2):
        threads(count)
        multiplied(random(96, 64), random(1, 64))
    assert asked == [1, 2]


def test_where_numba_compiles_for_less_there_is_no_kernel() -> None:
    told = subprocess.run(
        [sys.executable, "-c", "from backends.local import nf4_kernel; print(nf4_kernel.can_multiply(64))"],
        env=os.environ | {"NUMBA_CPU_NAME": "generic"}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert told.stdout == "False\n"


def test_a_rows_sums_depend_on_neither_the_rows_beside_it_nor_the_threads(
    threads: Callable[[int], None],
) -> None:
    weight, x = random(101, 576), random(11, 576, seed=2)
    threads(1)
    alone = torch.cat([multiplied(weight, row[None]) for row in x])
    for count in (1, 2, 3, 128):
        threads(count)
        for rows in range(1, 12):
            assert torch.equal(multiplied(weight, x[:rows]), alone[:rows]), (count, rows)


def test_few_tokens_are_multiplied_packed_and_many_as_before(layer: Callable[..., nn.Module]) -> None:
    weight, bias = random(96, 128), random(96, seed=3)
    made = layer(weight, bias)
    assert isinstance(made, PackedLinear)
    made.wide = nn.Module()  # which cannot be called
    for shape in ((1, 128), (FEW, 1, 128), (2, 3, 128)):
        x = random(*shape, seed=4)
        told = made(x)
        assert told.shape == (*shape[:-1], 96)
        torch.testing.assert_close(told, x @ nf4.rounded(weight).t() + bias, rtol=1e-5, atol=1e-4)
    strided = random(2, 4, 128, seed=5)[:, ::2]
    torch.testing.assert_close(made(strided), strided @ nf4.rounded(weight).t() + bias, rtol=1e-5, atol=1e-4)
    for unpacked in (True, False):
        x, made = random(FEW + 1, 128, seed=4), layer(weight, bias, unpacked)
        assert torch.equal(made(x), made.wide(x))


def test_a_base_of_packed_weights_gives_the_logits_of_the_unpacked_ones(
    tiny_base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nf4, "is_fused", lambda device: False)
    tokens = torch.tensor([[5, 9, 4, 7, 6]])
    packed = load(tiny_base, "nf4", "auto")
    assert any(isinstance(part, PackedLinear) for part in packed.model.modules())
    monkeypatch.setattr(nf4_kernel, "can_multiply", lambda in_features: False)
    unpacked = load(tiny_base, "nf4", "auto")
    assert not any(isinstance(part, PackedLinear) for part in unpacked.model.modules())
    with torch.inference_mode():
        given, expected = (
            base.model(tokens, attention_mask=torch.zeros(1, 1, 5, 5)).logits for base in (packed, unpacked)
        )
    torch.testing.assert_close(given, expected, rtol=1e-4, atol=1e-4)


def test_blocks_that_span_rows_are_left_to_others(layer: Callable[..., nn.Module]) -> None:
    assert not isinstance(layer(random(64, 96)), PackedLinear)


@pytest.mark.parametrize(
    ("x", "codes", "scales"),
    [
        (torch.zeros(1, 64).double(), torch.zeros(2, 32).byte(), torch.zeros(2, 1)),
        (torch.zeros(1, 128), torch.zeros(2, 32).byte(), torch.zeros(2, 1)),
        (torch.zeros(1, 64), torch.zeros(2, 32).byte(), torch.zeros(2, 2)),
        (torch.zeros(64, 2).t()[:1], torch.zeros(2, 32).byte(), torch.zeros(2, 1)),
        (torch.zeros(2, 128)[:, ::2], torch.zeros(2, 32).byte(), torch.zeros(2, 1)),
        (torch.zeros(1, 96), torch.zeros(2, 48).byte(), torch.zeros(2, 1)),
        (torch.zeros(1, 64, device="meta"), torch.zeros(2, 32).byte(), torch.zeros(2, 1)),
    ],
)
def test_memory_that_is_not_what_the_kernel_reads_is_refused(
    x: torch.Tensor, codes: torch.Tensor, scales: torch.Tensor
) -> None:
    with pytest.raises(ValueError, match="not what is multiplied"):
        nf4_kernel.multiply(x, codes, scales)
