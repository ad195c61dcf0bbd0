"""How fast this machine trains, from a step that is thrown away."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from adapters.training import token_loss
from adapters.training.batches import put_together
from adapters.training.encoding import Encoded

_LONG_S = 5.0
"""A first pass that takes longer is not repeated: what is done once only is a small part of it."""

_TOKENS = 8
"""Generated to time one."""


def seconds_a_token(model: Any, rows: Sequence[Encoded], packing: bool = True) -> float:
    """Seconds of a forward and backward pass over `rows` as one batch, packed or padded, by its tokens; after one to warm
    up if time allows. Leaves no trace."""
    batch = {name: part.to(model.device) for name, part in put_together(rows, packing).items()}
    took = 0.0
    with _undisturbed(model):
        model.train()
        for _warm_up in range(2):
            started = time.perf_counter()
            of_batch, _learned = token_loss.summed(model, batch)
            of_batch.backward()
            if model.device.type == "cuda":
                torch.cuda.synchronize()
            took = time.perf_counter() - started
            if took > _LONG_S:
                break
    return took / batch["input_ids"].numel()


def seconds_an_answer_token(model: Any, row: Encoded) -> float:
    """Seconds of one token of an answer to the row's question, as a look generates it; the reading of the question is
    divided among a few. Leaves no trace."""
    prompt = row.input_ids[: row.last_answer_at]
    with _undisturbed(model):
        model.eval()
        started = time.perf_counter()
        greedily(model, prompt, _TOKENS, min_new_tokens=_TOKENS)
        return (time.perf_counter() - started) / _TOKENS


def greedily(model: Any, prompt: Sequence[int], most: int, **options: Any) -> list[int]:
    """The tokens that the model gives after `prompt`, at most so many."""
    ids = torch.tensor([list(prompt)], device=model.device)
    with torch.inference_mode():
        made = model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=most,
            do_sample=False,
            temperature=None,
            top_p=None,
            top_k=None,
            pad_token_id=0,  # nothing is padded: named only so that nobody warns
            **options,
        )
    return list(made[0, len(prompt) :].tolist())


@contextmanager
def _undisturbed(model: Any) -> Iterator[None]:
    """Afterwards weights, gradients, the modules' modes and the state of randomness are as they were."""
    modes = [(module, module.training) for module in model.modules()]
    with torch.random.fork_rng(devices=[model.device] if model.device.type == "cuda" else []):
        try:
            yield
        finally:
            model.zero_grad(set_to_none=True)
            for module, training in modes:
                module.training = training
