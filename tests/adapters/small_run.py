"""A run that takes a second on the tiny base, and ways to end it early."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from adapters.training.progress import Progress

RECIPE = """\
name: tiny
title: A tiny adapter
description: Learns four answers.
examples: [One, Two, Three]
base: example/tiny-chat
quantization: none
dtype: float32
rank: 4
alpha: 8
learning_rate: 2e-2
passes: 6
batch_size: 2
checkpoint_every: 3
seed: 5
train: data/train.jsonl
heldout: data/heldout.jsonl
max_length: 100
"""

Killed = Callable[[Progress], None]


def row(question: str, answer: str) -> str:
    turns = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return json.dumps({"messages": turns}) + "\n"


def failing(error: Exception) -> Callable[..., None]:
    def fail(*_: Any, **__: Any) -> None:
        raise error

    return fail


def killed_at(step: int) -> Killed:
    def report(progress: Progress) -> None:
        if progress.step == step:
            raise KeyboardInterrupt

    return report
