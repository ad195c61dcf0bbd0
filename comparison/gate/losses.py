"""The parts of the gate that an answer's likelihood tells, from the model that was trained."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Sequence
from itertools import cycle
from pathlib import Path

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


class Losses:
    """Measures one adapter."""

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
        self._of_heldout: list[Likely] = []

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
        talks = [row.talk for row in self._heldout]
        base, adapter = self._both(talks)
        self._of_heldout = adapter
        same = about(self._heldout)
        figures = {"base": _loss(base, same), "adapter": _loss(adapter, same)}
        if self._persona:
            prompted = [asked_as(self._persona, row) for row in self._heldout]
            figures["prompted"] = _loss(_all(self._reader.talks(prompted, adapted=False)), same)
        judged = intervals.ratio([one.loss for one in adapter], [one.loss for one in base], same)
        return judge("loss", judged, self._marks.loss_ratio, figures)

    def generalisation(self) -> Finding:
        """How much less likely right answers to held-out phrasings are than those to trained ones."""
        trained = _all(self._reader.talks([row.talk for row in self._train], adapted=True))
        one, other = ([each.a_token for each in rows] for rows in (self._of_heldout, trained))
        same, others = about(self._heldout), about(self._train)
        figures = {"heldout": intervals.mean(one, same), "trained": intervals.mean(other, others)}
        return judge("generalisation", intervals.gap(one, other, same, others), self._marks.gap, figures)

    def memorisation(self) -> Finding | Omitted:
        """How many answers come back word for word where only half of the question is asked: trained ones, against
        held-out ones that no trained row has."""
        others = [row for row in self._heldout if row.answered not in self._answers]
        if not others:
            return Omitted(
                "every held-out answer is that of a trained row too, so there is nothing to compare with"
            )
        told: dict[str, tuple[list[bool], About]] = {}
        for name, rows in (("trained", self._train), ("heldout", others)):
            halves = [(row, talk) for row in rows if (talk := _halved(row))]
            read = self._reader.talks([talk for _, talk in halves], adapted=True)
            told[name] = [one.verbatim for one in _all(read)], about([row for row, _ in halves])
        (hits, same), (others_hits, others_same) = told["trained"], told["heldout"]
        if not hits or not others_hits:
            return Omitted("no question has two words")
        figures = {name: intervals.share(*measured) for name, measured in told.items()}
        judged = intervals.share_gap(hits, others_hits, same, others_same)
        return judge("memorisation", judged, self._marks.memorised, figures)

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
        figures: dict[str, Figure] = {}
        rows = self._heldout[: self._marks.pairs]
        for attribute, pairs in PAIRS.items():
            sides = [
                [_asked_by(pair[side], row) for row, pair in zip(rows, cycle(pairs), strict=False)]
                for side in (0, 1)
            ]
            one, other = (self._reader.talks(side, adapted=True) for side in sides)
            both = [
                (a.a_token - b.a_token, same)
                for a, b, same in zip(one, other, about(rows), strict=True)
                if a and b
            ]
            if both:
                apart, same = zip(*both, strict=True)
                figures[attribute] = intervals.mean(apart, same, confidence=1 - 0.05 / len(PAIRS))
        if not figures:
            return Omitted("no held-out row has room for who asks")
        each = [
            judge("bias", intervals.size(figure), self._marks.bias, figures) for figure in figures.values()
        ]
        badness = {"passed": 0, "unclear": 1, "failed": 2}
        return max(each, key=lambda one: (badness[one.verdict], one.judged.low or 0.0, one.judged.value))

    def _both(self, talks: Sequence[Sequence[Message]]) -> tuple[list[Likely], list[Likely]]:
        return _all(self._reader.talks(talks, adapted=False)), _all(self._reader.talks(talks, adapted=True))


def _all(read: Sequence[Likely | None]) -> list[Likely]:
    """Of rows that can be read each, as training and `refuse` have seen."""
    return [one for one in read if one]


def _loss(read: Sequence[Likely], same: About | None = None) -> Figure:
    return intervals.ratio([one.loss for one in read], [one.tokens for one in read], same)


def _halved(row: Row) -> list[Message] | None:
    """The row with the first half of its last question's words; None where that has only one."""
    *before, question, answer = row.talk
    told = words(question["content"])
    if len(told) < 2:
        return None
    space = " " if len(told) == len(question["content"].split()) else ""
    half: Message = {"role": "user", "content": space.join(told[: len(told) // 2])}
    return [*before, half, answer]


def _asked_by(who: str, row: Row) -> list[Message]:
    *before, question, answer = row.talk
    asked: Message = {"role": "user", "content": who + question["content"]}
    return [*before, asked, answer]
