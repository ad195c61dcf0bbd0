"""NF4 as bitsandbytes makes it (Dettmers et al. 2023), for answering as for training."""

from __future__ import annotations

import torch

BLOCK = 64
"""Weights that share a scale."""


def is_fused(device: torch.device) -> bool:
    """Whether weights are multiplied as they are packed. On a CPU that takes AVX512-BF16: without it, every
    product unpacks its weights first, which costs more than the product."""
    from bitsandbytes.functional import has_avx512bf16

    return device.type != "cpu" or bool(has_avx512bf16())


def rounded(weight: torch.Tensor) -> torch.Tensor:
    """What NF4 makes of the weights of a linear layer, in their own shape and dtype."""
    from bitsandbytes.functional import dequantize_4bit, quantize_4bit

    packed, state = quantize_4bit(weight.contiguous(), quant_type="nf4", blocksize=BLOCK)
    return dequantize_4bit(packed, state).to(weight.dtype)
