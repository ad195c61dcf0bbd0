"""Looks at the held-out rows while a run goes on: their loss, a few answers to read, and when to stop.

Needs torch; what a look tells is in progress.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from adapters.training import lora, token_loss
from adapters.training.dataset import ChatTokenizer, Encoded, Row
from adapters.training.probe import greedily
from adapters.training.progress import SAMPLE_TOKENS, Look, Sample
from adapters.training.recipe import Recipe

BEST = "best.safetensors"
"""In a checkpoint: the weights of the best look until then, which need not be the checkpoint's own."""


class Looks:
    """All looks of a run. A look changes nothing of what training does next: it draws no random number."""

    def __init__(
        self,
        model: Any,
        tokenizer: ChatTokenizer,
        recipe: Recipe,
        rows: Sequence[Row],
        encoded: Sequence[Encoded],
    ) -> None:
        self.curve: list[tuple[int, float]] = []
        """Each look's step and mean held-out loss, in nats a token."""
        self._model, self._tokenizer, self._recipe, self._encoded = model, tokenizer, recipe, encoded
        # Spread over the file, which is often sorted by topic.
        shown = range(0, len(rows), -(-len(rows) // recipe.samples)) if recipe.samples else ()
        self._asked = [
            (rows[number], encoded[number].input_ids[: encoded[number].last_answer_at]) for number in shown
        ]
        self._best: dict[str, torch.Tensor] = {}

    @property
    def best_step(self) -> int | None:
        """The step of the lowest loss, the first of equals."""
        return min(self.curve, key=lambda look: look[1])[0] if self.curve else None

    @property
    def is_enough(self) -> bool:
        """Whether the last `patience` looks brought nothing."""
        patience = self._recipe.patience
        if patience is None or not self.curve:
            return False
        steps = [step for step, _ in self.curve]
        return len(steps) - 1 - steps.index(self.best_step or 0) >= patience

    def is_due(self, step: int, last: int) -> bool:
        """After every `evaluate_every` steps; the last step is looked at too, so that it can be the best."""
        every = self._recipe.evaluate_every
        return bool(every) and (step % every == 0 or step == last)

    def take(self, step: int) -> Look:
        """A look after `step` steps."""
        recipe = self._recipe
        loss = token_loss.mean(self._model, self._encoded, recipe.batch_size, recipe.packing)
        self.curve.append((step, loss))
        if self._recipe.patience is not None and self.best_step == step:
            self._best = {name: part.detach().cpu().clone() for name, part in lora.trained(self._model)}
        samples = tuple(Sample(_question(row), row.answer, self._answer(ids)) for row, ids in self._asked)
        self._model.train()
        return Look(step, loss, samples)

    def keep(self, folder: Path) -> None:
        """Puts the best weights into a checkpoint's folder."""
        if self._best:
            save_file(self._best, folder / BEST)

    def go_on(self, curve: Sequence[Sequence[float]], folder: Path) -> None:
        """Takes up the looks that a checkpoint tells of."""
        self.curve = [(int(step), loss) for step, loss in curve]
        if (folder / BEST).is_file():
            self._best = load_file(folder / BEST)

    def restore_best(self) -> None:
        """Gives the model the weights of the best look, where patience kept any."""
        with torch.no_grad():
            for name, part in lora.trained(self._model):
                if self._best:
                    part.copy_(self._best[name])

    def _answer(self, ids: list[int]) -> str:
        """What the model says to a prompt as it is now, greedily."""
        most = min(SAMPLE_TOKENS, self._recipe.sampling.max_tokens)
        made = greedily(self._model, ids, most)
        said: str = self._tokenizer.decode(made, skip_special_tokens=True)
        return said


def _question(row: Row) -> str:
    return row.question[-1]["content"]
