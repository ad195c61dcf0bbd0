"""How fast this machine trains, from a step that is thrown away."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import torch

from adapters.training import lora
from adapters.training.encoding import Encoded

_LONG_S = 5.0
"""A first pass that takes longer is not repeated: what is done once only is a small part of it."""


def seconds_a_token(model: Any, rows: Sequence[Encoded], packing: bool = True) -> float:
    """Seconds of a forward and backward pass over `rows` as one batch, packed or padded, by its tokens; after one to warm
    up if time allows.

    Leaves no trace: weights, gradients, the modules' modes and the state of randomness are as they were.
    """
    batch = {name: part.to(model.device) for name, part in (lora.pack if packing else lora.pad)(rows).items()}
    on_gpu = model.device.type == "cuda"
    modes = [(module, module.training) for module in model.modules()]
    took = 0.0
    with torch.random.fork_rng(devices=[model.device] if on_gpu else []):
        try:
            model.train()
            for _warm_up in range(2):
                started = time.perf_counter()
                loss, _learned = lora.summed_loss(model, batch)
                loss.backward()
                if on_gpu:
                    torch.cuda.synchronize()
                took = time.perf_counter() - started
                if took > _LONG_S:
                    break
        finally:
            model.zero_grad(set_to_none=True)
            for module, training in modes:
                module.training = training
    return took / batch["input_ids"].numel()
