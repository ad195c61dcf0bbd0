"""The steps of a run: the Trainer with our loss, watched, checkpointed and stopped where the recipe says so."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainingArguments

from adapters.training import lora
from adapters.training.batches import put_together
from adapters.training.dataset import Encoded
from adapters.training.looks import Looks
from adapters.training.progress import Look, Progress
from adapters.training.recipe import Recipe
from adapters.training.stopping import Stopping
from adapters.training.workplace import Checkpoint, Workplace
from errors import WorkFailed


@dataclass(frozen=True, slots=True)
class Fitted:
    """What the steps came to. `kept_step` is the step whose weights the model has now; `loss` is the mean of the
    steps' training losses over the last pass, in nats a token."""

    steps: int
    kept_step: int
    tokens: int
    seconds: float
    loss: float


def fit(
    model: Any,
    recipe: Recipe,
    encoded: Sequence[Encoded],
    looks: Looks,
    workplace: Workplace,
    report: Callable[[Progress], None],
    stopping: Stopping,
) -> Fitted:
    """Trains `model` in place, from the newest checkpoint if there is one.

    Raises WorkFailed where a loss or a weight is no finite number any more, KeyboardInterrupt where `stopping` was asked
    for, with a checkpoint of the step that it ended after.
    """
    steps_a_pass, steps = recipe.steps_a_pass(len(encoded)), recipe.steps(len(encoded))
    found = workplace.checkpoint()
    if found:
        looks.go_on(found.notes["looks"], found.folder)
    watch = _Watch(model, recipe, looks, workplace, report, stopping, steps, steps_a_pass, found)
    trainer = lora.trainer(
        model,
        arguments(model, recipe, workplace.folder, steps),
        encoded,
        partial(put_together, packing=recipe.packing),
        watch,
        workplace.writing,
    )
    watch.trainer = trainer
    if found and looks.is_enough:  # killed after its last step, before it was published
        ended = found.step
    else:
        with stopping.after_the_step():
            trainer.train(resume_from_checkpoint=str(found.folder) if found else None)
        ended = trainer.state.global_step
    looks.restore_best()
    return Fitted(
        steps=ended,
        kept_step=looks.best_step or ended if recipe.patience is not None else ended,
        tokens=watch.tokens,
        seconds=watch.seconds,
        loss=sum(watch.losses) / max(1, len(watch.losses)),
    )


class _Watch(TrainerCallback):
    """Looks at the held-out rows, tells the caller each step, and seals each checkpoint."""

    trainer: lora.LoraTrainer

    def __init__(
        self,
        model: Any,
        recipe: Recipe,
        looks: Looks,
        workplace: Workplace,
        report: Callable[[Progress], None],
        stopping: Stopping,
        steps: int,
        steps_a_pass: int,
        found: Checkpoint | None,
    ) -> None:
        notes: dict[str, Any] = found.notes if found else {"tokens": 0, "seconds": 0.0, "losses": []}
        self.losses: deque[float] = deque(notes["losses"], maxlen=steps_a_pass)
        self._model, self._recipe, self._looks = model, recipe, looks
        self._workplace, self._report, self._stopping = workplace, report, stopping
        self._steps, self._begun = steps, found.step if found else 0
        self._tokens_before, self._seconds_before = int(notes["tokens"]), float(notes["seconds"])
        self._started = time.monotonic()
        self._rate = 0.0

    @property
    def tokens(self) -> int:
        """Computed in all, before and after a resumption."""
        return self._tokens_before + self.trainer.tokens

    @property
    def seconds(self) -> float:
        """Spent in all."""
        return self._seconds_before + time.monotonic() - self._started

    def on_step_begin(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        self._rate = float(given["lr_scheduler"].get_last_lr()[0])

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        step = state.global_step
        self.losses.append(self.trainer.take_loss())
        if not math.isfinite(self.losses[-1]):
            raise diverged("The loss is not a finite number", step, self._recipe, self._workplace)
        look: Look | None = None
        if self._looks.is_due(step, self._steps):
            look = self._looks.take(step)
            if not math.isfinite(look.loss):
                raise diverged(
                    "The held-out loss is not a finite number", step, self._recipe, self._workplace
                )
            # The checkpoint that this step may leave is sealed first: it is asked for already.
            control.should_training_stop = control.should_training_stop or self._looks.is_enough
        spent = time.monotonic() - self._started
        self._report(
            Progress(
                step=step,
                steps=self._steps,
                loss=self.losses[-1],
                learning_rate=self._rate,
                tokens_per_s=self.trainer.tokens / spent,
                seconds_left=(self._steps - step) * spent / (step - self._begun),
                look=look,
            )
        )
        if self._stopping.asked:
            control.should_save = control.should_training_stop = True

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if not lora.is_finite(self._model):
            raise diverged(
                "The adapter's weights are not finite numbers",
                state.global_step,
                self._recipe,
                self._workplace,
            )
        notes = {
            "tokens": self.tokens,
            "seconds": self.seconds,
            "losses": list(self.losses),
            "looks": self._looks.curve,
        }
        checkpoint = self._workplace.folder / f"checkpoint-{state.global_step}"
        with self._workplace.writing():
            self._looks.keep(checkpoint)
            self._workplace.seal(checkpoint, notes)


def arguments(model: Any, recipe: Recipe, folder: Path, steps: int) -> TrainingArguments:
    """What the recipe says, in the Trainer's words; it writes its checkpoints into `folder`."""
    return TrainingArguments(
        output_dir=str(folder),
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


def diverged(what: str, step: int, recipe: Recipe, workplace: Workplace) -> WorkFailed:
    """For what is no finite number any more after `step`; checkpoints of before stay."""
    if step == 1:
        mend = "nothing was learned yet, so it is the base: set dtype: float32, or fetch the base again."
    else:
        mend = f"lower learning_rate (it is {recipe.learning_rate:g}) and train into another --out."
    kept = workplace.checkpoint()
    where = f" The checkpoint of step {kept.step} is kept in {workplace.folder}." if kept else ""
    return WorkFailed(f"{what} since step {step}: {mend}{where}")
