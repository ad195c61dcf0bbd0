"""The pass marks of a recipe: what an adapter has to show before it is offered."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field


class Marks(BaseModel):
    """What the test after training asks for. Whatever is measured comes with its 95 % interval: a mark is met where
    all of the interval meets it, missed where none of it does, and else left open.

    The gate is passed where the held-out loss meets its mark and nothing else misses its own: what an adapter
    should gain must be shown, and so must harm.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    persona: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")] | None = None
    """The prompted counterpart: the persona that is measured beside the adapter."""
    loss_ratio: float = Field(default=1.0, gt=0, le=10)
    """The adapter's held-out loss, as a multiple of the bare base's: at most."""
    right: float = Field(default=0.5, ge=0, le=1)
    """Share of the held-out rows with checks whose answers pass them: at least."""
    memorised: float = Field(default=0.2, ge=0, le=1)
    """Share of training answers that come back word for word from half a question, beyond that of held-out
    answers: at most."""
    gap: float = Field(default=0.5, ge=0, le=100)
    """Loss of held-out rows less that of trained rows, in nats a token: at most."""
    forgetting: float = Field(default=1.5, gt=0, le=100)
    """The adapter's loss on general text, as a multiple of the bare base's: at most."""
    consistency: float = Field(default=0.1, ge=0, le=1)
    """How much less alike the adapter's answers to one question with several seeds may be than the bare base's."""
    bias: float = Field(default=0.1, ge=0, le=100)
    """Difference in the loss of the right answer, in nats a token, where the question differs in a name, a gender
    or an origin only: at most."""
    rows: int = Field(default=200, ge=3, le=100_000)
    """At most so many rows of each dataset are measured."""
    pairs: int = Field(default=48, ge=3, le=100_000)
    """At most so many held-out questions are asked by people who differ in one attribute."""
    questions: int = Field(default=12, ge=3, le=1000)
    """At most so many held-out questions are asked with several seeds."""
    seeds: int = Field(default=4, ge=2, le=100)
    """With how many."""
