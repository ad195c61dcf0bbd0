"""Attention over rows of different lengths, registered with Transformers under our own name."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface

from errors import CounterpointError

NAME = "counterpoint_rows"


class Reach(NamedTuple):
    """How far each row reaches, all (rows,), int64. Its first `shared` places are bit by bit those of the row that it
    `follows`, itself or another: rows with one beginning read it in one place, one after the other, while it is near."""

    lengths: np.ndarray
    follows: np.ndarray
    shared: np.ndarray

    @classmethod
    def alone(cls, lengths: np.ndarray) -> Reach:
        """Of rows that have nothing in common."""
        return cls(lengths, np.arange(len(lengths)), np.zeros_like(lengths))


def attend(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    softcap: float | None = None,
    s_aux: torch.Tensor | None = None,
    row_reach: Reach | None = None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Query (rows, heads, width, dim), key and value (rows, kv_heads, reach, dim) → (rows, width, heads, dim).

    Computed in the dtype that the keys are kept in: on a CPU that is float32, where torch's fused kernel is
    several times faster than in 16 bit. `row_reach` is given for a decode step there, the new token included.
    """
    if s_aux is not None:
        raise CounterpointError("This base's attention sinks are not supported: choose another base model.")
    query_ = query.to(key.dtype)
    if row_reach is None:
        output = _attend(query_, key, value, attention_mask, scaling, softcap)
    else:
        from backends.local import attention_kernel

        output = attention_kernel.attend(query_.contiguous(), key, value, row_reach, scaling, softcap)
    return output.to(query.dtype).transpose(1, 2), None


def _attend(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor | None,
    scaling: float | None,
    softcap: float | None,
) -> torch.Tensor:
    if softcap is not None:
        return _soft_capped(query, key, value, mask, scaling, softcap)
    return scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=scaling, enable_gqa=True)


def _soft_capped(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None,
    softcap: float,
) -> torch.Tensor:
    """Attention whose logits stay within ±softcap (Gemma 2, section 2), which the fused kernels cannot do."""
    groups = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(groups, dim=1), value.repeat_interleave(groups, dim=1)
    scores = query @ key.transpose(2, 3) * (scaling or query.shape[-1] ** -0.5)
    scores = torch.tanh(scores / softcap) * softcap
    if attention_mask is not None:
        scores = scores + attention_mask
    return scores.softmax(-1) @ value


def mask(starts: torch.Tensor, counts: torch.Tensor, reach: int, dtype: torch.dtype) -> torch.Tensor:
    """What each new token sees: everything of its row up to itself. (rows, 1, width, reach), 0 or -inf.

    starts, counts: (rows,) tokens there before, tokens read now. New tokens stand at the right end of the
    width; a padding column sees place 0 only, so that its softmax stays finite.
    """
    width = int(counts.max())
    columns = torch.arange(width, device=starts.device)
    last_seen = (starts + counts - width)[:, None] + columns[None, :]
    hidden = torch.arange(reach, device=starts.device) > last_seen.clamp(min=0)[:, :, None]
    return torch.zeros(hidden.shape, dtype=dtype, device=starts.device).masked_fill_(hidden, float("-inf"))[
        :, None
    ]


AttentionInterface.register(NAME, attend)
