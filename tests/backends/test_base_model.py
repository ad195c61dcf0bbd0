"""What a base computes with, on CPUs of both kinds: with and without a product over packed NF4 weights."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from backends import nf4
from backends.local import base_model
from backends.local.base_model import Linears, compute_dtype, load
from backends.local.fused_linear import FusedLinear
from backends.local.packed_linear import PackedLinear
from backends.local.prepacked_linear import PrepackedLinear
from errors import CounterpointError

CPU = torch.device("cpu")


def linears(base: base_model.BaseModel) -> list[torch.nn.Module]:
    return [part.base for part in base.model.modules() if isinstance(part, FusedLinear)]


def wide(linear: torch.nn.Module) -> torch.nn.Module:
    """What multiplies many tokens."""
    return linear.wide if isinstance(linear, PackedLinear) else linear


@pytest.mark.parametrize("shape", [(960, 576), (576, 1536), (49152, 576), (112, 64)])
def test_prepacked_sums_do_not_depend_on_the_threads(
    shape: tuple[int, int], threads: Callable[[int], None]
) -> None:
    chance = torch.Generator().manual_seed(1)
    weight, bias = torch.randn(shape, generator=chance), torch.randn(shape[0], generator=chance)
    x = torch.randn(40, shape[1], generator=chance)
    linear = PrepackedLinear(weight, bias)
    for rows in (1, 4, 6, 40):
        threads(1)
        alone = linear(x[:rows])
        torch.testing.assert_close(
            alone, torch.nn.functional.linear(x[:rows], weight, bias), rtol=1e-4, atol=1e-3
        )
        for count in (2, 3):
            threads(count)
            assert torch.equal(linear(x[:rows]), alone)


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


def test_unpacked_weights_are_exactly_those_that_are_packed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nf4, "is_fused", lambda device: True)
    weight = torch.randn(96, 128, generator=torch.Generator().manual_seed(1))
    packed, unpacked = (Linears("nf4", each, torch.float32, CPU).make(weight, None) for each in (False, True))
    from bitsandbytes.functional import dequantize_4bit

    expected = dequantize_4bit(packed.weight.data, packed.weight.quant_state)
    answered = unpacked(torch.eye(128)).t()
    assert not torch.equal(answered, weight)
    torch.testing.assert_close(answered, expected, rtol=0, atol=0)


def test_nf4_is_unpacked_once_only_where_every_product_would_have_to(
    tiny_base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nf4, "is_fused", lambda device: False)
    base = load(tiny_base, "nf4", "auto")
    assert not any(hasattr(linear, "weight") for linear in map(wide, linears(base)))
    assert base.steady
    monkeypatch.setattr(base_model, "UNPACKED_BYTES", 1000)
    too_large = load(tiny_base, "nf4", "auto")
    assert all(hasattr(linear.weight, "quant_state") for linear in map(wide, linears(too_large)))
    assert not too_large.steady, "the sums of ordinary products may depend on the threads"
    monkeypatch.setattr(nf4, "is_fused", lambda device: True)
    packed = load(tiny_base, "nf4", "auto")
    assert all(hasattr(linear.weight, "quant_state") for linear in linears(packed))
    assert packed.steady


def test_a_base_that_lacks_a_weight_is_refused_and_never_filled_in(tiny_base: Path, tmp_path: Path) -> None:
    folder = tmp_path / "part"
    shutil.copytree(tiny_base, folder)
    weights = load_file(folder / "model.safetensors")
    lost = next(name for name in weights if name.endswith("down_proj.weight"))
    save_file(
        {name: part for name, part in weights.items() if name != lost},
        folder / "model.safetensors",
        metadata={"format": "pt"},
    )
    with pytest.raises(CounterpointError, match=rf"lacks weights \({re.escape(lost)}"):
        load(folder, "none", "auto")
