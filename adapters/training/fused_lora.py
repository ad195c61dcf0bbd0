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
    """x Wᵀ + s (d Aᵀ) Bᵀ (Hu et al. 2021, equation 3) with gradients for x, d, A and B; W is frozen.

    x (tokens, in), weight (out, in) and bias (out,) or None in one dtype; a (rank, in) and b (out, rank) in float32. d is
    x after dropout, (tokens, in) too, or None where nothing is dropped: then it is x.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        dropped: torch.Tensor | None,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        a: torch.Tensor,
        b: torch.Tensor,
        scaling: float,
    ) -> torch.Tensor:
        read = x if dropped is None else dropped
        low = functional.linear(read, a.to(x.dtype)).mul_(scaling)
        ctx.save_for_backward(read, weight, a, b, low)
        ctx.scaling, ctx.is_dropped = scaling, dropped is not None
        return functional.linear(x, weight, bias).addmm_(low, b.to(x.dtype).T)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        read, weight, a, b, low = ctx.saved_tensors
        of_low = (gradient @ b.to(read.dtype)).mul_(ctx.scaling)
        of_x = of_dropped = None
        if ctx.needs_input_grad[0]:
            of_x = gradient @ weight
            if ctx.is_dropped:
                of_dropped = of_low @ a.to(read.dtype)
            else:
                of_x.addmm_(of_low, a.to(read.dtype))
        return of_x, of_dropped, None, None, (of_low.T @ read).float(), (gradient.T @ low).float(), None


class FusedLora(Linear):
    """PEFT's layer, computed by `_Product` wherever that is the same: one adapter, switched on."""

    def forward(self, x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        """x (…, in) → (…, out)."""
        if args or kwargs or self.disable_adapters or self.merged or len(self.active_adapters) != 1:
            return super().forward(x, *args, **kwargs)
        [name] = self.active_adapters
        if name in self.lora_variant:
            return super().forward(x)
        base, dropout, rows = self.get_base_layer(), self.lora_dropout[name], x.reshape(-1, x.shape[-1])
        drops = self.training and not isinstance(dropout, torch.nn.Identity)
        a, b = self.lora_A[name].weight, self.lora_B[name].weight
        result: torch.Tensor = _Product.apply(
            rows, dropout(rows) if drops else None, base.weight, base.bias, a, b, self.scaling[name]
        )
        return result.reshape(*x.shape[:-1], -1)
