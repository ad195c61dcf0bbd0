"""Training: a recipe and a base in, an adapter's folder out. Nothing half-made is ever seen at the target."""

from __future__ import annotations

import math
import platform
import time
from collections import deque
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
from adapters.training.dataset import Encoded
from adapters.training.estimate import Estimate
from adapters.training.recipe import Recipe, dataset_path
from adapters.training.recipe import read as read_recipe
from adapters.training.workplace import Workplace
from backends.contract import BaseFacts
from errors import CounterpointError, WorkFailed

_LIBRARIES = ("torch", "transformers", "peft", "bitsandbytes", "safetensors", "tokenizers")


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the run is. `loss` is the last step's, in nats a token.

    Tokens are those computed: prompts and answers of all rows, a batch's common beginning counted once.
    """

    step: int
    steps: int
    loss: float
    tokens_per_s: float
    seconds_left: float


def train(
    recipe_path: Path,
    out: Path,
    base: BaseFacts | Path,
    resume: bool = False,
    report: Callable[[Progress], None] = lambda progress: None,
    announce: Callable[[Estimate], None] | None = None,
) -> Passport:
    """Trains the recipe's adapter on `base` and puts it into the new folder `out`.

    `base` is the base model's facts, or the folder with its `model.safetensors` and tokenizer. The run keeps
    checkpoints beside `out`; with `resume` a killed run goes on from the newest one that is whole, and ends
    with the weights that it would have had (on the same machine); without, it is left alone. `report` is called
    after each optimizer step; `announce`, if given, once before the first, after a batch or two to time it.
    Raises CounterpointError for anything wrong with the recipe, the data, the base or `out`, or if memory will
    not do, all of it before the first step; WorkFailed where the disk is full or the loss no finite number any
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
        "recipe": recipe.model_dump(mode="json"),
        "base": base_sha256,
        "train": train_data.sha256,
        "heldout": heldout_data.sha256,
    }
    workplace = Workplace(out)
    with workplace.opened(job, resume):
        from adapters.training import lora

        loaded, tokenizer = lora.load_base(folder, recipe)
        encoded = dataset.encode(train_rows, tokenizer, recipe.max_length, train_path.name)
        heldout = dataset.encode(heldout_rows, tokenizer, recipe.max_length, heldout_path.name)
        model = lora.adapted(loaded, recipe)
        kept = workplace.checkpoint()
        estimate.before(model, recipe, encoded, announce, done=kept.step if kept else 0)
        trained = _fit(model, recipe, encoded, workplace, report)
        heldout_loss = lora.mean_loss(model, heldout, recipe.batch_size)
        if not math.isfinite(heldout_loss):
            raise _diverged("The held-out loss is not a finite number", trained.steps, recipe, workplace)
        with workplace.writing():
            workplace.result.mkdir()
            lora.save(model, workplace.result, recipe.base)
            adapter_sha256 = durable.sha256(workplace.result / lora.WEIGHTS)
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
                trained_tokens=trained.tokens,
                seconds=round(trained.seconds, 1),
                device=str(model.device.type),
                train_loss=round(trained.loss, 4),
                heldout_loss=round(heldout_loss, 4),
                versions={"python": platform.python_version()} | {name: version(name) for name in _LIBRARIES},
            ),
        )
        with workplace.writing():
            passports.write(workplace.result, passport)
            workplace.publish()
    return passport


@dataclass(frozen=True, slots=True)
class _Fitted:
    steps: int
    tokens: int
    seconds: float
    loss: float


def _fit(
    model: Any,
    recipe: Recipe,
    encoded: Sequence[Encoded],
    workplace: Workplace,
    report: Callable[[Progress], None],
) -> _Fitted:
    """Trains `model` in place, from the newest checkpoint if there is one."""
    from transformers import TrainerCallback, TrainingArguments

    from adapters.training import lora

    steps_a_pass = max(1, math.ceil(len(encoded) / (recipe.batch_size * recipe.accumulation)))
    steps = max(1, round(recipe.passes * steps_a_pass))
    if recipe.max_steps is not None:
        steps = min(steps, recipe.max_steps)
    found = workplace.checkpoint()
    begun = found.step if found else 0
    notes: dict[str, Any] = found.notes if found else {"tokens": 0, "seconds": 0.0, "losses": []}
    losses: deque[float] = deque(notes["losses"], maxlen=steps_a_pass)
    started = time.monotonic()

    def spent() -> float:
        return float(notes["seconds"]) + time.monotonic() - started

    class Watch(TrainerCallback):
        """Tells the caller each step and seals each checkpoint."""

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            losses.append(trainer.take_loss())
            if not math.isfinite(losses[-1]):
                raise _diverged("The loss is not a finite number", state.global_step, recipe, workplace)
            seconds = time.monotonic() - started
            report(
                Progress(
                    step=state.global_step,
                    steps=steps,
                    loss=losses[-1],
                    tokens_per_s=trainer.tokens / seconds,
                    seconds_left=(steps - state.global_step) * seconds / (state.global_step - begun),
                )
            )

        def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if not lora.is_finite(model):
                raise _diverged(
                    "The adapter's weights are not finite numbers", state.global_step, recipe, workplace
                )
            sealed = {"tokens": notes["tokens"] + trainer.tokens, "seconds": spent(), "losses": list(losses)}
            with workplace.writing():
                workplace.seal(workplace.folder / f"checkpoint-{state.global_step}", sealed)

    arguments = TrainingArguments(
        output_dir=str(workplace.folder),
        max_steps=steps,
        per_device_train_batch_size=recipe.batch_size,
        gradient_accumulation_steps=recipe.accumulation,
        learning_rate=recipe.learning_rate,
        lr_scheduler_type={"constant": "constant_with_warmup"}.get(recipe.schedule, recipe.schedule),
        warmup_steps=round(recipe.warmup * steps),
        weight_decay=recipe.weight_decay,
        max_grad_norm=recipe.max_grad_norm,
        seed=recipe.seed,
        data_seed=recipe.seed,
        save_strategy="steps",
        save_steps=recipe.checkpoint_every,
        logging_strategy="no",
        eval_strategy="no",
        report_to=[],
        disable_tqdm=True,
        remove_unused_columns=False,
        dataloader_pin_memory=False,
        use_cpu=model.device.type == "cpu",
    )
    trainer = lora.trainer(model, arguments, encoded, Watch(), workplace.writing)
    trainer.train(resume_from_checkpoint=str(found.folder) if found else None)
    return _Fitted(
        steps=trainer.state.global_step,
        tokens=notes["tokens"] + trainer.tokens,
        seconds=spent(),
        loss=sum(losses) / max(1, len(losses)),
    )


def _diverged(what: str, step: int, recipe: Recipe, workplace: Workplace) -> WorkFailed:
    """For what is no finite number any more after `step`; checkpoints of before stay."""
    if step == 1:
        mend = "nothing was learned yet, so it is the base: set dtype: float32, or fetch the base again."
    else:
        mend = f"lower learning_rate (it is {recipe.learning_rate:g}) and train into another --out."
    kept = workplace.checkpoint()
    where = f" The checkpoint of step {kept.step} is kept in {workplace.folder}." if kept else ""
    return WorkFailed(f"{what} since step {step}: {mend}{where}")


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
