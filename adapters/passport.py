"""The passport of an adapter: where it comes from and what it was measured to do."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

import durable
from adapters.training.recipe import Question, Recipe, RecommendedSampling, Text, Title
from adapters.verdict import Gate
from errors import CounterpointError

FILE = "passport.json"
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Share = Annotated[float, Field(ge=0, le=1)]
Family = Literal["bare", "prompted", "tuned", "both"]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Dataset(_Strict):
    """A dataset as it was: `path` is relative to the recipe."""

    path: str
    sha256: Sha256
    rows: int


class Training(_Strict):
    """What the run did. Losses are in nats a token, over the assistant's tokens only. `kept_step` is the step whose
    weights were kept, where early stopping chose, and `looks` are the steps at which the held-out loss was looked
    at, with it. `dtype` is what the base computed in, which need not be the recipe's."""

    date: datetime
    steps: int
    kept_step: int | None = None
    looks: tuple[tuple[int, float], ...] = ()
    trained_tokens: int
    seconds: float
    device: str
    dtype: str | None = None
    train_loss: float
    heldout_loss: float
    versions: dict[str, str]


class Score(_Strict):
    """`passed` of `n` held-out rows; `low` and `high` bound the share's 95 % Wilson interval."""

    passed: int
    n: int
    share: Share
    low: Share
    high: Share
    answered_by: str
    persona: str | None = None


class Passport(_Strict):
    """passport.json, which lies beside an adapter's weights. `gate` is the test after its training, None where it was
    not tested."""

    schema_version: Literal[1] = 1
    name: Title
    title: Title
    description: Text
    examples: tuple[Question, Question, Question]
    sampling: RecommendedSampling
    base: Text
    base_sha256: Sha256
    quantization: Literal["nf4", "none"]
    adapter_sha256: Sha256
    train: Dataset
    heldout: Dataset
    recipe: Recipe
    seed: int
    training: Training
    gate: Gate | None = None
    scores: dict[Family, Score] = Field(default_factory=dict)


def read(folder: Path) -> Passport | None:
    """The passport in an adapter's folder; None if there is none, or it is another tool's.

    Raises CounterpointError if it says that it is ours (`schema_version`) and is broken.
    """
    path = folder / FILE
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise CounterpointError(f"{path}: cannot be read ({error}): mend it or take it away.") from None
    try:
        return Passport.model_validate_json(text)
    except ValidationError as error:
        problems = error.errors(include_url=False)
        json_is_broken = any(problem["type"] == "json_invalid" for problem in problems)
        if not json_is_broken and '"schema_version"' not in text:
            return None
        told = "; ".join(
            f"{'.'.join(map(str, problem['loc'])) or 'file'}: {problem['msg']}" for problem in problems[:10]
        )
        raise CounterpointError(
            f"{path}: {told}: train the adapter again or take the passport away."
        ) from None


def write(folder: Path, passport: Passport) -> None:
    """Puts the passport into the folder, whole or not at all."""
    durable.write(folder / FILE, passport.model_dump_json(indent=2) + "\n")
