"""What a base computes with, on CPUs of both kinds: with and without a product over packed NF4 weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from backends import nf4
from backends.local import base_model
from backends.local.base_model import Linears, compute_dtype, load
from backends.local.fused_linear import FusedLinear

CPU = torch.device("cpu")


def linears(base: base_model.BaseModel) -> list[torch.nn.Module]:
    return [part.base for part in base.model.modules() if isinstance(part, FusedLinear)]


@pytest.mark.parametrize(
    ("quantization", "fused", "dtype"),
    [
        ("nf4", True, torch.bfloat16),
        ("nf4", False, torch.float32),
        ("int8", False, torch.bfloat16),
        ("none", True, torch.float32),
    ],
)
def test_a_cpu_computes_in_float32_what_it_cannot_multiply_packed(
    monkeypatch: pytest.MonkeyPatch, quantization: str, fused: bool, dtype: torch.dtype
) -> None:
    monkeypatch.setattr(nf4, "is_fused", lambda device: fused)
    assert compute_dtype(quantization, "auto", CPU) is dtype
    assert compute_dtype(quantization, "auto", torch.device("cuda")) is torch.bfloat16
    assert compute_dtype(quantization, "float32", CPU) is torch.float32


def test_unpacked_weights_are_exactly_those_that_are_packed() -> None:
    weight = torch.randn(96, 128, generator=torch.Generator().manual_seed(1))
    packed, unpacked = (Linears("nf4", each, torch.float32, CPU).make(weight, None) for each in (False, True))
    from bitsandbytes.functional import dequantize_4bit

    expected = dequantize_4bit(packed.weight.data, packed.weight.quant_state)
    assert not torch.equal(unpacked.weight, weight)
    torch.testing.assert_close(unpacked.weight.data, expected, rtol=0, atol=0)


def test_nf4_is_unpacked_once_only_where_every_product_would_have_to(
    tiny_base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nf4, "is_fused", lambda device: False)
    base = load(tiny_base, "nf4", "auto")
    assert {type(linear) for linear in linears(base)} == {torch.nn.Linear}
    assert not base.steady, "the sums of ordinary products may depend on the threads"
    monkeypatch.setattr(base_model, "UNPACKED_BYTES", 1000)
    too_large = load(tiny_base, "nf4", "auto")
    assert all(hasattr(linear.weight, "quant_state") for linear in linears(too_large))
    monkeypatch.setattr(nf4, "is_fused", lambda device: True)
    packed = load(tiny_base, "nf4", "auto")
    assert all(hasattr(linear.weight, "quant_state") for linear in linears(packed))
    assert packed.steady
