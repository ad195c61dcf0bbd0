"""A linear layer with NF4 weights for few tokens as they are packed, and for many as is fastest for those."""

from __future__ import annotations

import torch
from torch import nn

from backends.local import nf4_kernel

FEW = 12 if nf4_kernel.has_wider_registers() else 48
"""Tokens up to which packed weights are not slower. All linears of the embedded base in float32 on 2 cores, packed and
unpacked, on an EPYC (Zen 5), where the libraries have registers of twice the width, for 1, 4, 8, 12 and 16 tokens: 5, 7,
13, 20 and 26 ms; 15, 14, 16, 20 and 20 ms. On one without (Zen 3), for 1, 8, 16, 32 and 64: 9, 29, 45, 65 and 124 ms; 32,
44, 58, 73 and 123 ms."""


class PackedLinear(nn.Module):
    """`nn.Linear` for answering only, in float32."""

    def __init__(self, codes: torch.Tensor, scales: torch.Tensor, wide: nn.Module, bias: torch.Tensor | None):
        """`codes` and `scales` as `nf4_kernel.multiply` takes them; `wide` computes the same of more than FEW tokens."""
        super().__init__()
        nf4_kernel.warm_up()
        self.wide = wide
        self.bias = None if bias is None else nn.Parameter(bias, requires_grad=False)
        # In a tuple they are not registered: `to` may not change what the kernel reads.
        self._packed = (codes, scales)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(..., in) → (..., out)"""
        tokens = x.numel() // x.shape[-1]
        if tokens > FEW or x.dtype is not torch.float32:
            wide: torch.Tensor = self.wide(x)
            return wide
        y = nf4_kernel.multiply(x.reshape(tokens, x.shape[-1]).contiguous(), *self._packed)
        y = y.reshape(*x.shape[:-1], y.shape[1])
        return y if self.bias is None else y + self.bias
