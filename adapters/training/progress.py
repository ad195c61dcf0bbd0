"""What a run tells while it goes on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from adapters.verdict import Part

_BARS = "▁▂▃▄▅▆▇█"
SAMPLE_TOKENS = 64
"""The most of an answer that a look gives."""


@dataclass(frozen=True, slots=True)
class Sample:
    """A held-out question with its right answer, and the one that the adapter gives as it is now."""

    question: str
    expected: str
    answer: str


@dataclass(frozen=True, slots=True)
class Look:
    """A look at the held-out rows after `step` optimizer steps. `loss` is their mean, in nats a token."""

    step: int
    loss: float
    samples: tuple[Sample, ...]


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the run is. `loss` and `learning_rate` are the last step's; losses are in nats a token.

    Tokens are those computed: prompts and answers of all rows, a batch's common beginning counted once.
    `look` is there after a step that the recipe has looked at.
    """

    step: int
    steps: int
    loss: float
    learning_rate: float
    tokens_per_s: float
    seconds_left: float
    look: Look | None = None


@dataclass(frozen=True, slots=True)
class Examining:
    """How far the test after training is: `part` is being measured, `done` of `parts` are behind. `seconds_left` is
    there as soon as answers have been timed, which are what takes long."""

    part: Part
    done: int
    parts: int
    seconds_left: float | None = None


def curve(values: Sequence[float], width: int = 16) -> str:
    """Values as a line of bars for a terminal, the lowest the smallest; of more than `width` the means of as many equal
    parts. Values that are no finite numbers are gaps."""
    parts = [values[at * len(values) // width : (at + 1) * len(values) // width] for at in range(width)]
    shown = [sum(part) / len(part) for part in parts] if len(values) > width else list(values)
    finite = [value for value in shown if math.isfinite(value)]
    low, span = min(finite, default=0.0), max(finite, default=0.0) - min(finite, default=0.0)
    return "".join(
        _BARS[round((value - low) / span * (len(_BARS) - 1)) if span else 0] if math.isfinite(value) else " "
        for value in shown
    )
