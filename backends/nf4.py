"""NF4 as bitsandbytes makes it (Dettmers et al. 2023), for answering as for training."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from bitsandbytes.functional import QuantState

BLOCK = 64
"""Weights that share a scale."""


def is_fused(device: torch.device) -> bool:
    """Whether bitsandbytes multiplies weights as they are packed. On a CPU that takes AVX512-BF16: without it, every
    product unpacks its weights first, which costs more than the product."""
    from bitsandbytes.functional import has_avx512bf16

    return device.type != "cpu" or bool(has_avx512bf16())


def packed(weight: torch.Tensor) -> tuple[torch.Tensor, QuantState]:
    """The weights of a linear layer, two to a byte, and what unpacks them: `absmax` has each block's scale."""
    from bitsandbytes.functional import quantize_4bit

    made: tuple[torch.Tensor, QuantState] = quantize_4bit(
        weight.contiguous(), quant_type="nf4", blocksize=BLOCK
    )
    return made


def unpacked(codes: torch.Tensor, state: QuantState) -> torch.Tensor:
    """What `packed` made of the weights, in their own shape and dtype."""
    from bitsandbytes.functional import dequantize_4bit

    return dequantize_4bit(codes, state)


def rounded(weight: torch.Tensor) -> torch.Tensor:
    """What NF4 makes of the weights of a linear layer, in their own shape and dtype."""
    return unpacked(*packed(weight)).to(weight.dtype)
