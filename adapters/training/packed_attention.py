"""Attention over packed rows, each over its own tokens and the common beginning alone, for training on a CPU.

One product of all with all under a mask would compute every row with every other, only to forget it.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

NAME = "counterpoint_packed"


def use(model: Any) -> None:
    """Makes the model attend so, if it attends as SDPA does: softcaps, sinks and the like stay with its own."""
    if model.config._attn_implementation == "sdpa":
        model.set_attn_implementation(NAME)


def is_used(model: Any) -> bool:
    return bool(model.config._attn_implementation == NAME)


def attend(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    pieces: torch.Tensor | None = None,
    scaling: float | None = None,
    **more: Any,
) -> tuple[torch.Tensor, None]:
    """Query (1, heads, tokens, dim), key and value (1, kv_heads, tokens, dim) → (1, tokens, heads, dim).

    `pieces` are the tokens of the common beginning (0 where there is none) and of each row's rest. Computed in
    float32: torch's kernel for CPUs is several times faster in it than in 16 bit.
    """
    if pieces is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling, **more)
    groups = query.shape[1] // key.shape[1]
    lengths = pieces.tolist()
    queries, keys, values = (
        part.float().split(lengths, dim=2)
        for part in (query, key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1))
    )
    # Copied, or a view of it would keep all keys and values in memory besides those that each row attends to.
    common = [(keys[0].clone(), values[0].clone())] if lengths[0] else []
    attended = [
        scaled_dot_product_attention(queries[0], *each, is_causal=True, scale=scaling) for each in common
    ]
    for q, k, v in zip(queries[1:], keys[1:], values[1:], strict=True):
        seen = None
        if common:
            k, v = (torch.cat(parts, 2) for parts in zip(*common, (k, v), strict=True))
            seen = torch.ones(q.shape[2], k.shape[2], dtype=torch.bool).tril(lengths[0])
        attended.append(scaled_dot_product_attention(q, k, v, seen, is_causal=seen is None, scale=scaling))
    return torch.cat(attended, 2).transpose(1, 2).to(query.dtype), None


AttentionInterface.register(NAME, attend)
# Without it Transformers would make no mask of one that tells padding from tokens.
AttentionMaskInterface.register(NAME, sdpa_mask)
