"""A frozen linear layer with its low-rank update as one step of autograd, for training on a CPU.

PEFT's own layer computes the update beside the layer, in the adapter's float32: each input and output is copied to
twice its bytes, and added and copied back. On a CPU these passes over memory cost as much as the products. Here all
products are in the base's dtype and add into one result; the adapter's weights, gradients and optimizer stay float32.
"""

from __future__ import annotations

from typing import Any

import torch
from peft.tuners.lora import Linear
from torch.nn import functional


class _Product(torch.autograd.Function):
    """x Wᵀ + s (x Aᵀ) Bᵀ (Hu et al. 2021, equation 3) with gradients for x, A and B; W is frozen.

    x (tokens, in), weight (out, in) and bias (out,) or None in one dtype; a (rank, in) and b (out, rank) in float32.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        a: torch.Tensor,
        b: torch.Tensor,
        scaling: float,
    ) -> torch.Tensor:
        low = functional.linear(x, a.to(x.dtype)).mul_(scaling)
        ctx.save_for_backward(x, weight, a, b, low)
        ctx.scaling = scaling
        return functional.linear(x, weight, bias).addmm_(low, b.to(x.dtype).T)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, weight, a, b, low = ctx.saved_tensors
        of_low = (gradient @ b.to(x.dtype)).mul_(ctx.scaling)
        of_x = (gradient @ weight).addmm_(of_low, a.to(x.dtype)) if ctx.needs_input_grad[0] else None
        return of_x, None, None, (of_low.T @ x).float(), (gradient.T @ low).float(), None


class FusedLora(Linear):
    """PEFT's layer, computed by `_Product` wherever that is the same: one adapter, switched on, without dropout."""

    def forward(self, x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        """x (…, in) → (…, out)."""
        if args or kwargs or self.disable_adapters or self.merged or len(self.active_adapters) != 1:
            return super().forward(x, *args, **kwargs)
        [name] = self.active_adapters
        dropout = self.lora_dropout[name]
        if name in self.lora_variant or (self.training and not isinstance(dropout, torch.nn.Identity)):
            return super().forward(x)
        base = self.get_base_layer()
        a, b = self.lora_A[name].weight, self.lora_B[name].weight
        result: torch.Tensor = _Product.apply(
            x.reshape(-1, x.shape[-1]), base.weight, base.bias, a, b, self.scaling[name]
        )
        return result.reshape(*x.shape[:-1], -1)
