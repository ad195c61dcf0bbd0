"""The parts of the gate that need answers, asked of the engine that gives them in the app."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from difflib import SequenceMatcher
from itertools import combinations
from statistics import mean

from adapters.training.data.row import Row
from adapters.training.run import Trained
from adapters.verdict import Finding, judge
from backends.contract import Backend, Sampling
from comparison import intervals
from comparison.checks.check import parse, passes
from comparison.gate.steps import Omitted, Step, about, asked, words
from comparison.measure.asking import through_backend
from comparison.modes import DEFAULT_SAMPLING
from personas.schema import Persona

TEMPERATURE = 0.7
"""At which one question is asked several times: at 0, as some adapters answer, seeds change nothing."""
TOKENS = 64
"""Of those answers: as much as tells them apart."""


class Asked:
    """Asks the bare base, the prompted one where there is a persona, and the adapter."""

    def __init__(
        self,
        trained: Trained,
        persona: Persona | None,
        backend: Backend,
        told: Callable[[float], None] = lambda seconds_left: None,
    ) -> None:
        """`told` hears after every few answers how long the others will take, in seconds."""
        self._marks, self._backend, self._told = trained.recipe.gate, backend, told
        self._checked = [row for row in trained.heldout if row.checks]
        self._repeated = trained.heldout[: self._marks.questions]
        tuned = replace(DEFAULT_SAMPLING, **trained.recipe.sampling.model_dump())
        # What nobody set is as long as the adapter's answers: the others are asked the same questions.
        bare = replace(DEFAULT_SAMPLING, max_tokens=tuned.max_tokens)
        self._modes: dict[str, tuple[Sampling, Persona | None, str | None]] = {"base": (bare, None, None)}
        if persona:
            self._modes["prompted"] = (persona.sampling.over(bare), persona, None)
        self._modes["adapter"] = (tuned, None, trained.recipe.name)
        self._began = time.monotonic()
        self._tokens = 0

    def steps(self) -> Iterator[Step]:
        """Each part with what measures it."""
        yield "checks", self.checks
        yield "consistency", self.consistency

    def checks(self) -> Finding | Omitted:
        """The share of the held-out rows with checks whose answers pass them, sampled as each mode is in the app."""
        rows = self._checked
        if not rows:
            return Omitted("no held-out row has checks")
        checks = [parse(row.checks, "a held-out row") for row in rows]
        passed = {
            mode: [passes(of_row, text) for of_row, text in zip(checks, self._ask(mode, rows), strict=True)]
            for mode in self._modes
        }
        figures = {mode: intervals.share(hits, about(rows)) for mode, hits in passed.items()}
        return judge("checks", figures["adapter"], self._marks.right, figures, least=True)

    def consistency(self) -> Finding:
        """How alike the answers to one question are with several seeds: the mean share of words that two of them have
        in common, in order. What is judged is how much more that is than the bare base's."""
        rows = self._repeated
        alike: dict[str, list[float]] = {}
        for mode in self._modes:
            answers = [self._ask(mode, rows, seed) for seed in range(self._marks.seeds)]
            alike[mode] = [
                mean(_alike(a, b) for a, b in combinations(each, 2)) for each in zip(*answers, strict=True)
            ]
        same = about(rows)
        figures = {mode: intervals.mean(values, same) for mode, values in alike.items()}
        judged = intervals.difference(alike["adapter"], alike["base"], same)
        return judge("consistency", judged, -self._marks.consistency, figures, least=True)

    def _ask(self, mode: str, rows: Sequence[Row], seed: int | None = None) -> list[str]:
        """Answers to the rows' questions as the mode samples; with a seed, at TEMPERATURE and no longer than TOKENS."""
        sampling, persona, adapter = self._modes[mode]
        if seed is not None:
            most = _repeated_tokens(sampling)
            sampling = replace(sampling, temperature=TEMPERATURE, seed=seed, max_tokens=most)

        def answered(count: int) -> None:
            self._tokens += count * sampling.max_tokens
            a_token = (time.monotonic() - self._began) / self._tokens
            self._told(a_token * (self._most_tokens() - self._tokens))

        ask = through_backend(self._backend, sampling, adapter, answered=answered)
        return ask([asked(persona, row) for row in rows])

    def _most_tokens(self) -> int:
        """Of all answers that are asked for, if each were as long as it may be."""
        return sum(
            len(self._checked) * sampling.max_tokens
            + len(self._repeated) * self._marks.seeds * _repeated_tokens(sampling)
            for sampling, _, _ in self._modes.values()
        )


def _repeated_tokens(sampling: Sampling) -> int:
    """The most of an answer to a question that is asked several times."""
    return min(TOKENS, sampling.max_tokens)


def _alike(one: str, other: str) -> float:
    """1 for the same words, 0 for none in common (difflib's ratio, Ratcliff & Metzener 1988), or for no words at all: who
    says nothing is not consistent."""
    if not one.split():
        return 0.0
    return SequenceMatcher(None, words(one), words(other), autojunk=False).ratio()
