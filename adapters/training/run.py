"""Training: a recipe and a base in, an adapter's folder out. Nothing half-made is ever seen at the target."""

from __future__ import annotations

import math
import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import durable
from adapters import passport as passports
from adapters.passport import Dataset, Passport, Training
from adapters.training import dataset, estimate
from adapters.training.data.row import Row
from adapters.training.encoding import ChatTokenizer
from adapters.training.estimate import Estimate
from adapters.training.marks import Marks
from adapters.training.progress import Progress
from adapters.training.recipe import Recipe, dataset_path
from adapters.training.recipe import read as read_recipe
from adapters.training.stopping import Stopping
from adapters.training.workplace import Workplace
from adapters.verdict import Gate
from backends import pretrained
from backends.contract import BaseFacts
from errors import CounterpointError

_LIBRARIES = ("torch", "transformers", "peft", "bitsandbytes", "safetensors", "tokenizers")


@dataclass(frozen=True, slots=True)
class Trained:
    """What steps have made, before it is published: a PEFT model with its tokenizer, the rows, and the `folder` with
    the adapter's files. The `recipe` packs no rows where the model cannot."""

    model: Any
    tokenizer: ChatTokenizer
    recipe: Recipe
    train: Sequence[Row]
    heldout: Sequence[Row]
    base_folder: Path
    folder: Path


def train(
    recipe_path: Path,
    out: Path,
    base: BaseFacts | Path,
    resume: bool = False,
    report: Callable[[Progress], None] = lambda progress: None,
    announce: Callable[[Estimate], None] | None = None,
    test: Callable[[Trained], Gate] | None = None,
    stopping: Stopping | None = None,
) -> Passport:
    """Trains the recipe's adapter on `base` and puts it into the new folder `out`.

    `base` is the base model's facts, or the folder with its `model.safetensors` and tokenizer. The run keeps
    checkpoints beside `out`; with `resume` a killed run goes on from the newest one that is whole, and ends
    with the weights that it would have had (on the same machine); without, it is left alone. `report` is called
    after each optimizer step; `announce`, if given, once before the first, after a batch or two to time it; `test`
    after the last, for what the passport says of the gate. `stopping` may be told to end it: then KeyboardInterrupt is
    raised, after the step under way. What it computes in is decided once for all of the run.
    Raises CounterpointError for anything wrong with the recipe, the data, the base or `out`, or if memory will
    not do, all of it before the first step; WorkFailed where disk or memory is full or the loss no finite number any
    more, with the last good checkpoint kept.
    """
    recipe = read_recipe(recipe_path)
    folder, base_sha256 = _base(base, recipe)
    train_path, heldout_path = (
        dataset_path(recipe_path, recipe.train),
        dataset_path(recipe_path, recipe.heldout),
    )
    train_rows, heldout_rows = dataset.read(train_path), dataset.read(heldout_path)
    dataset.refuse_overlap(train_rows, heldout_rows)
    train_data = Dataset(path=str(recipe.train), sha256=durable.sha256(train_path), rows=len(train_rows))
    heldout_data = Dataset(
        path=str(recipe.heldout), sha256=durable.sha256(heldout_path), rows=len(heldout_rows)
    )
    job = {
        "recipe": recipe.model_dump(mode="json", exclude={"gate"}),  # which may be mended before going on
        "base": base_sha256,
        "train": train_data.sha256,
        "heldout": heldout_data.sha256,
    }
    workplace = Workplace(out)
    with workplace.opened(job, resume), workplace.within_memory():
        import torch

        from adapters.training import lora, token_loss
        from adapters.training.fit import diverged, fit
        from adapters.training.looks import Looks

        # Tried for milliseconds, so another time it might be another.
        dtype = workplace.decided("dtype", lambda: str(lora.compute_dtype(recipe)).removeprefix("torch."))
        loaded, tokenizer = lora.load_base(folder, recipe, getattr(torch, dtype))
        most = min(recipe.max_length, pretrained.context_of(folder) or recipe.max_length)
        encoded = dataset.encode(train_rows, tokenizer, most, train_path.name)
        heldout = dataset.encode(heldout_rows, tokenizer, most, heldout_path.name)
        model = lora.adapted(loaded, recipe)
        longest = max(len(row.input_ids) for row in (*encoded, *heldout))
        if recipe.packing and not token_loss.packs(model, longest):
            recipe = recipe.model_copy(update={"packing": False})
        kept = workplace.checkpoint()
        estimate.before(model, recipe, encoded, heldout, announce, done=kept.step if kept else 0)
        looks = Looks(model, tokenizer, recipe, heldout_rows, heldout)
        trained = fit(model, recipe, encoded, looks, workplace, report, stopping or Stopping())
        with lora.as_saved(model):
            heldout_loss = token_loss.mean(model, heldout, recipe.batch_size, recipe.packing)
        if not math.isfinite(heldout_loss):
            raise diverged("The held-out loss is not a finite number", trained.steps, recipe, workplace)
        with workplace.writing():
            workplace.result.mkdir()
            lora.save(model, workplace.result, recipe.base)
            adapter_sha256 = durable.sha256(workplace.result / lora.WEIGHTS)
        made = Trained(model, tokenizer, recipe, train_rows, heldout_rows, folder, workplace.result)
        passport = Passport(
            name=recipe.name,
            title=recipe.title,
            description=recipe.description,
            examples=recipe.examples,
            sampling=recipe.sampling,
            base=recipe.base,
            base_sha256=base_sha256,
            quantization=recipe.quantization,
            adapter_sha256=adapter_sha256,
            train=train_data,
            heldout=heldout_data,
            recipe=recipe,
            seed=recipe.seed,
            training=Training(
                date=datetime.now(UTC).replace(microsecond=0),
                steps=trained.steps,
                kept_step=trained.kept_step,
                looks=tuple(looks.curve),
                trained_tokens=trained.tokens,
                seconds=round(trained.seconds, 1),
                device=str(model.device.type),
                dtype=dtype,
                train_loss=round(trained.loss, 4),
                heldout_loss=round(heldout_loss, 4),
                versions={"python": platform.python_version()} | {name: version(name) for name in _LIBRARIES},
            ),
            gate=test(made) if test else None,
        )
        with workplace.writing():
            passports.write(workplace.result, passport)
            workplace.publish()
    return passport


def loaded(folder: Path, base: BaseFacts, recipe_path: Path | None = None) -> Trained:
    """An adapter that was trained before, from its folder with the passport and its recipe (recipe.yaml in there, if no
    other place is told), as it was when it was made.

    Raises CounterpointError where one of these is not there, and where the recipe's data have changed since.
    """
    from adapters.training import lora

    passport = passports.read(folder) if folder.is_dir() else None
    if passport is None:
        raise CounterpointError(
            f"{folder}: there is no passport of ours in it: give the folder of an adapter trained here."
        )
    recipe_path = recipe_path or folder / "recipe.yaml"
    if not recipe_path.is_file():
        raise CounterpointError(
            f"{recipe_path}: there is no such file: give the recipe that it was trained by with --recipe."
        )
    recipe = read_recipe(recipe_path)
    base_folder, _ = _base(base, recipe)
    if _learned(recipe) != _learned(passport.recipe):
        raise CounterpointError(
            f"{recipe_path} is not what the adapter was trained by any more: only its gate may be changed."
        )
    train_rows = _rows_of(dataset_path(recipe_path, recipe.train), passport.train)
    heldout_rows = _rows_of(dataset_path(recipe_path, recipe.heldout), passport.heldout)
    base_model, tokenizer = lora.load_base(base_folder, recipe)
    model = lora.adapted(base_model, recipe)
    lora.load(model, folder)
    return Trained(model, tokenizer, recipe, train_rows, heldout_rows, base_folder, folder)


def _learned(recipe: Recipe) -> Recipe:
    """The recipe without what has no part in training: the marks, and where the data lie."""
    return recipe.model_copy(update={"gate": Marks(), "train": Path(), "heldout": Path()})


def _rows_of(path: Path, told: Dataset) -> Sequence[Row]:
    if not path.is_file() or durable.sha256(path) != told.sha256:
        raise CounterpointError(
            f"{path} is not what the adapter was trained with any more: put it back, or train it again."
        )
    return dataset.read(path)


def _base(base: BaseFacts | Path, recipe: Recipe) -> tuple[Path, str]:
    """The base's folder and sha256. Raises CounterpointError if it is not the recipe's."""
    if isinstance(base, BaseFacts):
        if base.id != recipe.base:
            raise CounterpointError(
                f"the recipe is for {recipe.base}, and the base is {base.id}: give --base {recipe.base}."
            )
        return base.folder, base.sha256
    weights = base / "model.safetensors"
    if not weights.is_file():
        raise CounterpointError(
            f"{base}: there is no model.safetensors in it: give the folder of a base model."
        )
    return base, durable.sha256(weights)
