"""Attention over rows of different lengths, registered with Transformers under our own name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface

from errors import CounterpointError

NAME = "counterpoint_rows"
PADDING = 64
"""Places that a row may be shorter than another of its run: reading them costs less than a further call."""


@dataclass(frozen=True, slots=True)
class Run:
    """Rows `first` to `end` of a decode step, side by side and about as long: `reach` is the longest's length."""

    first: int
    end: int
    reach: int
    even: bool
    """Whether all are equally long, so that nothing is hidden from any of them."""


def runs(lengths: Sequence[int]) -> tuple[Run, ...]:
    """The rows of a decode step, whose lengths with the new token these are, parted where lengths differ much.

    One call over all of them would read every row as far as the longest: a persona's long prompt would slow down
    all the short ones beside it.
    """
    found: list[Run] = []
    first = 0
    for end in range(1, len(lengths) + 1):
        longest, shortest = max(lengths[first:end]), min(lengths[first:end])
        if end == len(lengths) or max(longest, lengths[end]) - min(shortest, lengths[end]) > PADDING:
            found.append(Run(first, end, longest, longest == shortest))
            first = end
    return tuple(found)


def attend(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    softcap: float | None = None,
    s_aux: torch.Tensor | None = None,
    row_runs: Sequence[Run] = (),
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Query (rows, heads, width, dim), key and value (rows, kv_heads, reach, dim) → (rows, width, heads, dim).

    Computed in the dtype that the keys are kept in: on a CPU that is float32, where torch's fused kernel is
    several times faster than in 16 bit. `row_runs` parts the rows, where that is worth it.
    """
    if s_aux is not None:
        raise CounterpointError("This base's attention sinks are not supported: choose another base model.")
    query_ = query.to(key.dtype)
    if len(row_runs) <= 1:
        output = _attend(query_, key, value, attention_mask, scaling, softcap)
    else:
        output = torch.cat(
            [
                _attend(
                    query_[run.first : run.end],
                    key[run.first : run.end, :, : run.reach],
                    value[run.first : run.end, :, : run.reach],
                    None
                    if run.even or attention_mask is None
                    else attention_mask[run.first : run.end, :, :, : run.reach],
                    scaling,
                    softcap,
                )
                for run in row_runs
            ]
        )
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
