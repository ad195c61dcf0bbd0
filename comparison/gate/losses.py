"""The parts of the gate that an answer's likelihood tells, from the model that was trained."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Sequence
from itertools import cycle
from pathlib import Path
from typing import Literal

from adapters.training.data.row import Row
from adapters.training.run import Trained
from adapters.verdict import Figure, Finding, Part, judge
from backends import pretrained
from backends.contract import Message
from comparison import intervals
from comparison.gate.likelihood import Likely, Reader
from comparison.gate.pairs import PAIRS
from comparison.gate.steps import Omitted, Step, about, asked_as, words
from comparison.intervals import About
from personas.schema import Persona

GENERAL = Path(__file__).with_name("general.jsonl")
"""Texts on all kinds of things, written for this project: none is in any dataset that ships."""


Mode = Literal["base", "prompted", "adapter"]


class Losses:
    """Measures one adapter, and the bare and the prompted base beside it."""

    def __init__(
        self, trained: Trained, persona: Persona | None, answers: Collection[str] | None = None
    ) -> None:
        """`answers` are all that were trained on, where `trained` has a sample of the rows."""
        self._answers = {row.answered for row in trained.train} if answers is None else answers
        self._marks, self._persona = trained.recipe.gate, persona
        context = pretrained.context_of(trained.base_folder) or trained.recipe.max_length
        recipe = trained.recipe
        self._reader = Reader(trained.model, trained.tokenizer, context, recipe.batch_size, recipe.packing)
        self._train, self._heldout = trained.train, trained.heldout
        self._others: tuple[Mode, ...] = ("base", "prompted") if persona else ("base",)

    def steps(self) -> Iterator[Step]:
        """Each part with what measures it, in this order."""
        steps: tuple[tuple[Part, Callable[[], Finding | Omitted]], ...] = (
            ("loss", self.loss),
            ("generalisation", self.generalisation),
            ("memorisation", self.memorisation),
            ("forgetting", self.forgetting),
            ("bias", self.bias),
        )
        yield from steps

    def loss(self) -> Finding:
        """Held-out loss in nats a token, the adapter's as a multiple of the base's; its exp is the perplexity."""
        modes: tuple[Mode, ...] = (*self._others, "adapter")
        read = {mode: _all(self._read(mode, self._heldout)) for mode in modes}
        same = about(self._heldout)
        figures: dict[str, Figure] = {mode: _loss(likely, same) for mode, likely in read.items()}
        adapter, base = ([one.loss for one in read[mode]] for mode in ("adapter", "base"))
        judged = intervals.ratio(adapter, base, same)
        return judge("loss", judged, self._marks.loss_ratio, figures)

    def generalisation(self) -> Finding:
        """How much less likely right answers to held-out phrasings are than those to trained ones."""

        def of(mode: Mode) -> tuple[Figure, dict[str, Figure]]:
            heldout, same = self._nats(mode, self._heldout)
            trained, others = self._nats(mode, self._train)
            sides = {"heldout": intervals.mean(heldout, same), "trained": intervals.mean(trained, others)}
            return intervals.gap(heldout, trained, same, others), sides

        judged, figures = of("adapter")
        beside: dict[str, Figure] = {mode: of(mode)[0] for mode in self._others}
        return judge("generalisation", judged, self._marks.gap, figures, beside=beside)

    def memorisation(self) -> Finding | Omitted:
        """How many answers come back word for word where only half of the question is asked: trained ones, against
        held-out ones that no trained row has."""
        others = [row for row in self._heldout if row.answered not in self._answers]
        if not others:
            return Omitted(
                "every held-out answer is that of a trained row too, so there is nothing to compare with"
            )
        trained, heldout = (
            [half for row in rows if (half := _halved(row))] for rows in (self._train, others)
        )
        if not trained or not heldout:
            return Omitted("no question has two words")

        def of(mode: Mode) -> tuple[Figure, dict[str, Figure]]:
            hits, same = self._verbatim(mode, trained)
            others_hits, others_same = self._verbatim(mode, heldout)
            sides = {
                "trained": intervals.share(hits, same),
                "heldout": intervals.share(others_hits, others_same),
            }
            return intervals.share_gap(hits, others_hits, same, others_same), sides

        judged, figures = of("adapter")
        beside: dict[str, Figure] = {mode: of(mode)[0] for mode in self._others}
        return judge("memorisation", judged, self._marks.memorised, figures, beside=beside)

    def forgetting(self) -> Finding:
        """The loss on general text, as a multiple of the base's."""
        texts = [json.loads(line)["text"] for line in GENERAL.read_text(encoding="utf-8").splitlines()]
        base, adapter = (self._reader.texts(texts, adapted=which) for which in (False, True))
        figures = {"base": _loss(base), "adapter": _loss(adapter)}
        judged = intervals.ratio([one.loss for one in adapter], [one.loss for one in base])
        return judge("forgetting", judged, self._marks.forgetting, figures)

    def bias(self) -> Finding | Omitted:
        """How much likelier the right answer is for one asker than for another; the attribute with the worst verdict. The
        intervals are such that all of them together hold 95 times of 100 (Bonferroni's correction)."""
        figures = {attribute: figure for attribute in PAIRS if (figure := self._apart("adapter", attribute))}
        if not figures:
            return Omitted("no held-out row has room for who asks")
        sizes = {attribute: intervals.size(figure) for attribute, figure in figures.items()}
        each = {
            attribute: judge("bias", size, self._marks.bias, figures) for attribute, size in sizes.items()
        }
        badness = {"passed": 0, "unclear": 1, "failed": 2}
        worst = max(
            each, key=lambda name: (badness[each[name].verdict], sizes[name].low or 0.0, sizes[name].value)
        )
        others = {mode: self._apart(mode, worst) for mode in self._others}
        beside = {mode: intervals.size(figure) for mode, figure in others.items() if figure}
        return each[worst].model_copy(update={"beside": beside})

    def _apart(self, mode: Mode, attribute: str) -> Figure | None:
        """How much less likely the right answer is for the first of each pair of askers; None where no row has room."""
        rows = self._heldout[: self._marks.pairs]
        one, other = (
            self._read(
                mode,
                [
                    _asked_by(pair[side], row)
                    for row, pair in zip(rows, cycle(PAIRS[attribute]), strict=False)
                ],
            )
            for side in (0, 1)
        )
        both = [
            (a.a_token - b.a_token, same)
            for a, b, same in zip(one, other, about(rows), strict=True)
            if a and b
        ]
        if not both:
            return None
        apart, same = zip(*both, strict=True)
        return intervals.mean(apart, same, confidence=1 - 0.05 / len(PAIRS))

    def _nats(self, mode: Mode, rows: Sequence[Row]) -> tuple[list[float], About]:
        """Nats a token of each row that the base can read, and what those are about."""
        read = [
            (one.a_token, same) for one, same in zip(self._read(mode, rows), about(rows), strict=True) if one
        ]
        return [nats for nats, _ in read], [same for _, same in read]

    def _verbatim(self, mode: Mode, rows: Sequence[Row]) -> tuple[list[bool], About]:
        """Whether each row's answer would come back word for word, and what the row is about."""
        read = [
            (one.verbatim, same) for one, same in zip(self._read(mode, rows), about(rows), strict=True) if one
        ]
        return [hit for hit, _ in read], [same for _, same in read]

    def _read(self, mode: Mode, rows: Sequence[Row]) -> list[Likely | None]:
        """Each row's last answer, asked for as the mode asks."""
        persona = self._persona if mode == "prompted" else None
        return self._reader.talks([asked_as(persona, row) for row in rows], adapted=mode == "adapter")


def _all(read: Sequence[Likely | None]) -> list[Likely]:
    """Of rows that can be read each, as training and `refuse` have seen."""
    return [one for one in read if one]


def _loss(read: Sequence[Likely], same: About | None = None) -> Figure:
    return intervals.ratio([one.loss for one in read], [one.tokens for one in read], same)


def _halved(row: Row) -> Row | None:
    """The row with the first half of its last question's words; None where that has only one."""
    *before, question, answer = row.talk
    told = words(question["content"])
    if len(told) < 2:
        return None
    space = " " if len(told) == len(question["content"].split()) else ""
    half: Message = {"role": "user", "content": space.join(told[: len(told) // 2])}
    return Row.of([*before, half, answer])


def _asked_by(who: str, row: Row) -> Row:
    *before, question, answer = row.talk
    asked: Message = {"role": "user", "content": who + question["content"]}
    return Row.of([*before, asked, answer])
