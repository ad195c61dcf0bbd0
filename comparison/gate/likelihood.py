"""How likely a model finds a given answer, with an adapter and without: nothing is generated for it.

Whether greedy decoding would give an answer word for word can be told from one pass over it: it does exactly where
each of its tokens is the likeliest one after those before it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional

from adapters.training import token_loss
from adapters.training.batches import put_together
from adapters.training.data.row import Row
from adapters.training.encoding import NO_LOSS, ChatTokenizer, Encoded, encoded
from backends.contract import Message

_TEXTS = 8
"""At most so many general texts at once."""


@dataclass(frozen=True, slots=True)
class Likely:
    """An answer of `tokens` tokens: the sum of their cross entropies in nats, and whether greedy decoding gives it."""

    loss: float
    tokens: int
    verbatim: bool

    @property
    def a_token(self) -> float:
        """Nats a token."""
        return self.loss / self.tokens


class Reader:
    """Reads conversations that end with an answer, through the base's chat template, and plain texts."""

    def __init__(
        self, model: Any, tokenizer: ChatTokenizer, context: int, batch_size: int, packing: bool = True
    ) -> None:
        self._model, self._tokenizer = model, tokenizer
        self._context, self._batch_size, self._packing = context, batch_size, packing

    def talks(self, talks: Sequence[Sequence[Message]], adapted: bool) -> list[Likely | None]:
        """The last answer of each; None for one that the context does not hold or the template refuses."""
        read = list(encoded(map(Row.of, talks), self._tokenizer, self._context))
        sound = [_last_answer(one) for one in read if isinstance(one, Encoded)]
        found = iter(self._likely(sound, adapted, self._batch_size))
        return [next(found) if isinstance(one, Encoded) else None for one in read]

    def texts(self, texts: Sequence[str], adapted: bool) -> list[Likely]:
        """Each text as it is, its first token given."""
        read = [
            self._tokenizer(text, add_special_tokens=False)["input_ids"][: self._context] for text in texts
        ]
        rows = [Encoded(list(ids), [NO_LOSS, *ids[1:]]) for ids in read if len(ids) > 1]
        # Every token of a text is predicted, of a row only its answer's: fewer fit into memory at once.
        return self._likely(rows, adapted, min(self._batch_size, _TEXTS))

    def _likely(self, rows: Sequence[Encoded], adapted: bool, at_once: int) -> list[Likely]:
        self._model.eval()
        # Rows of like length together: a batch's attention is as wide as all of them.
        order = sorted(range(len(rows)), key=lambda number: len(rows[number].input_ids))
        found: dict[int, Likely] = {}
        with torch.inference_mode(), nullcontext() if adapted else self._model.disable_adapter():
            for start in range(0, len(order), at_once):
                numbers = order[start : start + at_once]
                found |= zip(numbers, self._batch([rows[number] for number in numbers]), strict=True)
        return [found[number] for number in range(len(rows))]

    def _batch(self, rows: Sequence[Encoded]) -> Iterator[Likely]:
        batch = {
            name: part.to(self._model.device) for name, part in put_together(rows, self._packing).items()
        }
        logits, labels = token_loss.learned_logits(self._model, batch)
        losses = functional.cross_entropy(logits, labels, reduction="none")
        hit = logits.argmax(-1) == labels
        counts = [row.trained for row in rows]
        for of_row, right in zip(losses.split(counts), hit.split(counts), strict=True):
            yield Likely(of_row.sum().item(), len(of_row), bool(right.all()))


def _last_answer(row: Encoded) -> Encoded:
    start = row.last_answer_at
    return Encoded(row.input_ids, [NO_LOSS] * start + row.labels[start:])
