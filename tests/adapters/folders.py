"""Ways to break an adapter's folder, and to give it a passport."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import durable
from adapters import passport
from adapters.training.recipe import Recipe, RecommendedSampling
from backends.contract import BaseFacts

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
PREFIX = "base_model.model.model.layers."


def rewrite_tensors(folder: Path, change: Callable[[dict[str, Any]], Mapping[str, Any]]) -> Path:
    """Saves the weights again as `change` makes them: a mapping of names to torch tensors."""
    from safetensors.torch import load_file, save_file

    tensors = {name: tensor.contiguous() for name, tensor in change(load_file(folder / WEIGHTS)).items()}
    save_file(tensors, folder / WEIGHTS)
    return folder


def rewrite_header(folder: Path, change: Callable[[dict[str, Any]], Any]) -> Path:
    """Puts another header in front of the same tensor data: an object, or the JSON text itself."""
    raw = (folder / WEIGHTS).read_bytes()
    length = int.from_bytes(raw[:8], "little")
    changed = change(json.loads(raw[8 : 8 + length]))
    text = (changed if isinstance(changed, str) else json.dumps(changed)).encode()
    (folder / WEIGHTS).write_bytes(len(text).to_bytes(8, "little") + text + raw[8 + length :])
    return folder


def add_passport(
    folder: Path, base: BaseFacts, *, base_sha256: str | None = None, adapter_sha256: str | None = None
) -> Path:
    """A passport as the training writes it, true for these weights and this base unless told otherwise."""
    sampling = RecommendedSampling()
    data = passport.Dataset(path="rows.jsonl", sha256="0" * 64, rows=3)
    examples = ("What is it?", "Who are you?", "Why?")
    recipe = Recipe(
        name="one",
        title="One",
        description="For tests.",
        examples=examples,
        base=base.id,
        train=Path("train.jsonl"),
        heldout=Path("heldout.jsonl"),
    )
    training = passport.Training(
        date=datetime(2030, 1, 1, tzinfo=UTC),
        steps=1,
        trained_tokens=1,
        seconds=1.0,
        device="cpu",
        train_loss=1.0,
        heldout_loss=1.0,
        versions={"peft": "0"},
    )
    passport.write(
        folder,
        passport.Passport(
            name="one",
            title="One",
            description="For tests.",
            examples=examples,
            sampling=sampling,
            base=base.id,
            base_sha256=base_sha256 or base.sha256,
            quantization="none",
            adapter_sha256=adapter_sha256 or durable.sha256(folder / WEIGHTS),
            train=data,
            heldout=data,
            recipe=recipe,
            seed=0,
            training=training,
        ),
    )
    return folder
