"""A recipe: everything that decides how an adapter is trained, in one strict YAML file."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

import strict_yaml
from adapters.training.marks import Marks
from adapters.training.presets import PRESETS, Preset
from errors import CounterpointError

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")]
Title = Annotated[str, Field(min_length=1, max_length=200)]
Question = Annotated[str, Field(min_length=1, max_length=500)]
Text = Annotated[str, Field(min_length=1, max_length=2000)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class RecommendedSampling(_Strict):
    """How its answers are best sampled; names and ranges are those of backends.contract.Sampling."""

    temperature: float = Field(default=0.0, ge=0, le=5)
    """0 is greedy."""
    top_p: float = Field(default=1.0, gt=0, le=1)
    """Keep the likeliest tokens up to this share; 1 keeps all."""
    repetition_penalty: float = Field(default=1.0, ge=0.1, le=10)
    """Above 1 makes tokens that were there already less likely."""
    max_tokens: int = Field(default=128, ge=1, le=8192)
    """The longest answer that makes sense, in tokens."""


class Recipe(_Strict):
    """One training run. Paths are relative to the recipe's own folder."""

    preset: Preset | None = None
    """Whose values stand for the training's fields that are left out (see presets.py); without one, those here."""

    name: Name
    """The adapter's name, as in the mode id adapter:NAME."""
    title: Title
    """What people read in a list."""
    description: Text
    """One or two sentences: what it does, and what it does not."""
    examples: tuple[Question, Question, Question]
    """Three questions that show what it is good for."""
    sampling: RecommendedSampling = RecommendedSampling()
    """How its answers are best sampled."""

    base: Text
    """The base model's id, as published; never a path."""
    quantization: Literal["nf4", "none"] = "nf4"
    """What the base's linear layers are rounded to while training: best the same as when answering."""
    dtype: Literal["float32", "bfloat16"] = "bfloat16"
    """What the base computes in; on a CPU that is slower in bfloat16, float32 all the same. The adapter itself is always
    trained in float32."""

    rank: int = Field(default=8, ge=1, le=64)
    """r, the rank of the low-rank products."""
    alpha: int = Field(default=16, ge=1, le=1024)
    """The products are scaled by alpha / rank."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Share of the adapter's inputs set to zero in each training step."""
    targets: Annotated[tuple[Name, ...], Field(min_length=1)] = (
        "q_proj",
        "k_proj",
        "v_proj",
        "o_proj",
        "gate_proj",
        "up_proj",
        "down_proj",
    )
    """The linear layers that are adapted, by the last part of their names."""

    learning_rate: float = Field(default=1e-3, gt=0, le=0.1)
    """The highest learning rate, after the warm-up."""
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    """How the learning rate goes on after the warm-up."""
    warmup: float = Field(default=0.05, ge=0, lt=1)
    """Share of the steps in which the learning rate rises from zero."""
    weight_decay: float = Field(default=0.0, ge=0, le=1)
    """AdamW's weight decay."""
    max_grad_norm: float = Field(default=1.0, gt=0)
    """Gradients are clipped to this norm."""

    passes: float = Field(default=4, gt=0, le=100)
    """How often each row is seen."""
    max_steps: int | None = Field(default=None, ge=1)
    """Stop after this many optimizer steps, whatever `passes` says."""
    batch_size: int = Field(default=8, ge=1, le=1024)
    """Rows computed at once."""
    accumulation: int = Field(default=1, ge=1, le=1024)
    """Batches summed up before each optimizer step."""
    packing: bool = True
    """Rows of a batch are computed as one sequence, in which none sees another, instead of padded to the longest: the same
    numbers for fewer tokens."""
    checkpoint_every: int = Field(default=50, ge=1)
    """Optimizer steps between two checkpoints, from which a killed run can be resumed."""
    evaluate_every: int = Field(default=0, ge=0)
    """Optimizer steps between two looks at the held-out loss; 0 looks at the end only."""
    samples: int = Field(default=2, ge=0, le=20)
    """How many held-out questions are answered at each look, for people to read."""
    patience: int | None = Field(default=None, ge=1)
    """Early stopping: end after this many looks in a row without a lower held-out loss, and keep the weights of
    the lowest one. Without it the last weights are kept."""
    seed: int = Field(default=0, ge=0, lt=2**32)
    """Of the adapter's first weights, of the order of the rows and of dropout."""

    train: Path
    """The training rows: JSONL, a JSON array or a table, in any format that `check-data` understands."""
    heldout: Path
    """Rows that training never sees: for the loss at the end and for the scores."""
    max_length: int = Field(default=512, ge=8, le=131072)
    """Longest row in tokens. A longer one is an error: nothing is cut silently."""

    gate: Marks = Marks()
    """What the adapter has to show in the test after training, before it is offered."""

    def steps_a_pass(self, rows: int) -> int:
        """Optimizer steps in which so many rows are seen once."""
        return max(1, math.ceil(rows / (self.batch_size * self.accumulation)))

    def steps(self, rows: int) -> int:
        """Optimizer steps of a run on so many rows, if it is not stopped early."""
        most = max(1, round(self.passes * self.steps_a_pass(rows)))
        return most if self.max_steps is None else min(most, self.max_steps)

    @model_validator(mode="after")
    def _filled(self) -> Self:
        # Afterwards, since pydantic reads JSON's lists as tuples only where nothing has touched them before.
        for name, value in PRESETS.get(self.preset or "", {}).items():
            if name not in self.model_fields_set:
                self.__dict__[name] = value
        return self

    @model_validator(mode="after")
    def _can_lose_patience(self) -> Self:
        if self.patience is not None and not self.evaluate_every:
            raise ValueError("patience needs looks at the held-out loss: give evaluate_every as well")
        return self


def read(path: Path) -> Recipe:
    """The recipe in the YAML file `path`.

    Raises CounterpointError: every problem of the file in one message, with its line; missing datasets too.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is no text"
        raise CounterpointError(
            f"{path}: the recipe cannot be read ({why}): give the path of a YAML file."
        ) from None
    if path.suffix.lower() in (".csv", ".tsv", ".jsonl", ".json"):
        raise CounterpointError(
            f"{path.name} is data, and here a recipe is wanted: a YAML file that names it (adapters/training/README.md)."
        )
    recipe = strict_yaml.load(text, path.name, Recipe)
    missing = [
        f"{path.name}: {field}: there is no file {getattr(recipe, field)} (paths start at the recipe's folder)"
        for field in ("train", "heldout")
        if not dataset_path(path, getattr(recipe, field)).is_file()
    ]
    if missing:
        raise CounterpointError("; ".join(missing))
    return recipe


def dataset_path(recipe_path: Path, dataset: Path) -> Path:
    """Where a dataset of the recipe in `recipe_path` lies."""
    return (recipe_path.parent / dataset).resolve()
