"""The loss of an adapted model: cross entropy over the tokens that are learned, and over no others."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from torch.nn import functional

from adapters.training import batches, packed_attention
from adapters.training.encoding import NO_LOSS, Encoded

_CLOSE = 0.02
"""By how much, of the logits' norm, packed rows may differ from single ones: twice as much as 16 bit rounds."""


def learned_logits(model: Any, batch: batches.Batch) -> tuple[torch.Tensor, torch.Tensor]:
    """Of a batch's tokens that carry loss: logits (tokens, vocabulary) in float32, and labels (tokens,).

    They are the model's own, scaled and capped as it does. The vocabulary projection, a third of the work of a small
    model, is computed only for places where a row learns.
    """
    causal = model.get_base_model()
    learned = batch["labels"] != NO_LOSS
    places = learned.any(0).nonzero().squeeze(1)
    given: dict[str, Any] = {}
    if "pieces" in batch and packed_attention.is_used(causal):
        given["pieces"] = batch["pieces"]
    some = "logits_to_keep" in inspect.signature(causal.forward).parameters
    if some:
        given["logits_to_keep"] = places
    logits = causal(
        input_ids=batch["input_ids"],
        position_ids=batch["position_ids"],
        attention_mask=_as_read(causal, batch["attention_mask"]),
        use_cache=False,
        **given,
    ).logits
    kept = learned[:, places] if some else learned
    return logits[kept].float(), batch["labels"][learned]


def summed(model: Any, batch: batches.Batch) -> tuple[torch.Tensor, int]:
    """Cross entropy of a batch, summed over the tokens that carry loss, and their number."""
    logits, labels = learned_logits(model, batch)
    return functional.cross_entropy(logits, labels, reduction="sum"), len(labels)


def mean(model: Any, rows: Sequence[Encoded], batch_size: int, packing: bool = True) -> float:
    """Mean cross entropy in nats over all tokens of `rows` that carry loss; its exp is the perplexity."""
    model.eval()
    total, count = 0.0, 0
    ordered = sorted(rows, key=lambda row: len(row.input_ids))
    with torch.inference_mode():
        for start in range(0, len(ordered), batch_size):
            batch = batches.put_together(ordered[start : start + batch_size], packing)
            of_batch, tokens = summed(model, {name: part.to(model.device) for name, part in batch.items()})
            total += of_batch.item()
            count += tokens
    return total / max(1, count)


def packs(model: Any, longest: int) -> bool:
    """Whether `model` gives packed rows of up to `longest` tokens the logits that it gives each alone, tried on a few
    tokens.

    Where what is read runs on from token to token, as in state-space models and convolutions, rows run into each
    other; a sliding window is not told of a mask of ours.
    """
    config = model.get_base_model().config.get_text_config()
    window = getattr(config, "sliding_window", None) or getattr(config, "attention_chunk_size", None)
    if window and longest > window:
        return False
    draw = torch.Generator().manual_seed(0)
    ids = torch.randint(config.vocab_size, (24,), generator=draw).tolist()
    rows = [
        Encoded(row, [NO_LOSS] * 5 + row[5:]) for row in (ids[:4] + ids[4:15], ids[:4] + ids[15:], ids[:9])
    ]
    was_training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            alone = torch.cat([_logits(model, batches.pad([row])) for row in rows])
            packed = _logits(model, batches.pack(rows))
    except Exception:  # a model raises what it likes at a mask that it does not know
        return False
    finally:
        model.train(was_training)
    return bool((packed - alone).norm() <= _CLOSE * alone.norm())


def _logits(model: Any, batch: batches.Batch) -> torch.Tensor:
    return learned_logits(model, {name: part.to(model.device) for name, part in batch.items()})[0]


def _as_read(causal: Any, mask: torch.Tensor) -> torch.Tensor:
    """A mask as the model's attention takes it: eager attention adds it to the scores."""
    if mask.dim() < 4 or causal.config._attn_implementation != "eager":
        return mask
    dtype = causal.get_input_embeddings().weight.dtype
    return torch.zeros(mask.shape, dtype=dtype, device=mask.device).masked_fill(~mask, torch.finfo(dtype).min)
