"""What a run of training will take, told before its first step; and what would fit where the machine cannot do it.

Memory is a formula (needs.py), time is measured (probe.py). Importing this needs no torch.
"""

from __future__ import annotations

import math
import random
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from adapters.training import free_memory
from adapters.training.encoding import Encoded
from adapters.training.needs import Needs, common_beginning
from adapters.training.progress import SAMPLE_TOKENS
from adapters.training.recipe import Recipe
from errors import CounterpointError

_MOST_ACCUMULATION = 1024
"""The most that a recipe takes."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """What the run will take, and what this machine has for it.

    `memory_bytes` is the most that the process (on a GPU: the run on it) holds at once; `available_bytes` is what is
    free, with what the run holds already. `seconds` are those of the steps that are left.
    """

    seconds: float
    memory_bytes: int
    available_bytes: int

    def __str__(self) -> str:
        memory, available = _size(self.memory_bytes), _size(self.available_bytes)
        return f"about {_duration(self.seconds)} and then its test, {memory} of memory ({available} are free)"


def before(
    model: Any,
    recipe: Recipe,
    rows: Sequence[Encoded],
    heldout: Sequence[Encoded],
    announce: Callable[[Estimate], None] | None,
    done: int = 0,
) -> None:
    """Tells `announce` what training `model` on `rows` and looking at `heldout` ones will take; `done` steps of it are
    behind already.

    Without `announce` no time is spent on a probe. Raises CounterpointError where memory will not do, with the
    setting that would.
    """
    device = str(model.device.type)
    needs = Needs.of(model, rows, recipe.packing)
    memory = needs.memory(recipe)
    available = free_memory.available(device, needs.standing(recipe.rank))
    if memory > available:
        raise CounterpointError(
            f"training takes about {_size(memory)} of memory, and {_size(available)} are free: "
            f"{what_fits(needs, recipe, available)}."
        )
    if announce is None:
        return
    from adapters.training import probe

    steps = recipe.steps(len(rows))
    a_token = probe.seconds_a_token(model, median(rows, recipe.batch_size), recipe.packing)
    seconds = a_token * tokens(recipe, rows) * (1 - done / steps)
    looks = looks_left(recipe, done, steps)
    if looks:
        # A look reads without going back: of a step with a frozen base that is about half.
        a_look = a_token * sum(len(row.input_ids) for row in heldout) / 2
        if recipe.samples:
            answers = min(recipe.samples, len(heldout)) * min(SAMPLE_TOKENS, recipe.sampling.max_tokens)
            a_look += answers * probe.seconds_an_answer_token(model, heldout[0])
        seconds += looks * a_look
    announce(Estimate(seconds=seconds, memory_bytes=memory, available_bytes=available))


def looks_left(recipe: Recipe, done: int, steps: int) -> int:
    """How many looks at the held-out rows there are after step `done`, the one after the last step with them."""
    every = recipe.evaluate_every
    return steps // every - done // every + bool(steps % every) if every and done < steps else 0


def what_fits(needs: Needs, recipe: Recipe, available: int) -> str:
    """The setting nearest to the recipe's that takes no more than `available` bytes, as advice.

    Fewer rows at once change nothing but speed, so they come first; then a lower rank, then shorter rows.
    """

    def largest(choices: Sequence[int], memory: Callable[[int], int]) -> int | None:
        fitting = bisect_right(choices, available, key=memory)
        return choices[fitting - 1] if fitting else None

    size = largest(
        range(1, min(recipe.batch_size, len(needs.rows))), lambda size: needs.memory(recipe, batch_size=size)
    )
    if size:
        return f"set batch_size: {size}{_accumulation(recipe, size)}"
    smallest = f"batch_size: 1{_accumulation(recipe, 1)}"
    rank = largest(range(1, recipe.rank), lambda rank: needs.memory(recipe, 1, rank))
    if rank:
        alpha = max(1, round(recipe.alpha * rank / recipe.rank))
        return f"set {smallest}, rank: {rank} and alpha: {alpha}"
    lengths = sorted({length for length, _ in needs.rows})
    longest = largest(lengths, lambda longest: needs.memory(recipe, 1, max_length=longest))
    if longest:
        longer = sum(length > longest for length, _ in needs.rows)
        return f"set {smallest} and max_length: {longest}, and shorten or take out the {longer} longer rows"
    return "no setting fits: use a smaller base"


def _accumulation(recipe: Recipe, batch_size: int) -> str:
    """As many rows a step as before, or about as many."""
    batches = round(recipe.batch_size * recipe.accumulation / batch_size)
    return f", accumulation: {max(1, min(batches, _MOST_ACCUMULATION))}"


def tokens(recipe: Recipe, rows: Sequence[Encoded]) -> float:
    """About how many tokens a run computes: batches' common beginnings once, or padding as well."""
    size, lengths = recipe.batch_size, [len(row.input_ids) for row in rows]
    if recipe.packing:
        spared = common_beginning(rows) * (len(rows) - math.ceil(len(rows) / size))
        a_pass = sum(lengths) - spared
    else:
        random.Random(0).shuffle(lengths)
        batches = [lengths[start : start + size] for start in range(0, len(lengths), size)]
        a_pass = sum(len(batch) * max(batch) for batch in batches)
    return a_pass * recipe.steps(len(rows)) / recipe.steps_a_pass(len(rows))


def median(rows: Sequence[Encoded], batch_size: int) -> list[Encoded]:
    """A batch of rows of middling length."""
    ordered = sorted(rows, key=lambda row: len(row.input_ids))
    start = max(0, (len(rows) - batch_size) // 2)
    return ordered[start : start + batch_size]


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{math.ceil(seconds)} s"
    return f"{seconds / 60:.0f} min" if seconds < 100 * 60 else f"{seconds / 3600:.1f} h"


def _size(size: int) -> str:
    if size < 2**30:
        return f"{size / 2**20:.0f} MiB"
    return f"{size / 2**30:.{int(size < 10 * 2**30)}f} GiB"
