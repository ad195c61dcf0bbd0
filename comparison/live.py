"""One question through several modes at once: renders each pane, calls the backend, yields deltas and receipts."""

from __future__ import annotations

import contextlib
import dataclasses
import secrets
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from backends.contract import Backend, Failed, Message, Rendered, Request, Sampling
from comparison.chain import Chain, StepBegan, Told
from comparison.gather import Gathering, gather
from comparison.modes import Catalogue, ModeId
from comparison.receipt import Answered, Receipt, StepDone
from errors import CounterpointError
from personas.schema import Persona

__all__ = [
    "MAX_PANES",
    "Answered",
    "Comparison",
    "Pane",
    "PaneEvent",
    "Receipt",
    "StepBegan",
    "StepDone",
    "check_question",
]

MAX_PANES = 6
MAX_SCALE = 4.0
MAX_QUESTION_CHARS = 32_000
"""Longest question; refused here, whatever a page or a client lets through."""


@dataclass(frozen=True, slots=True)
class Pane:
    """A mode's place on the screen, as one question finds it.

    `persona` is a draft that stands in for the stored one of the mode; `variables` fill it. What `sampling`
    names (fields of Sampling) wins over what the mode says. `question` is asked here instead of the one that all
    panes are asked. With `logprobs` the answer says how likely its tokens were.
    """

    mode: str
    history: tuple[Message, ...] = ()
    adapter_scale: float = 1.0
    persona: Persona | None = None
    variables: Mapping[str, str] = field(default_factory=dict)
    sampling: Mapping[str, Any] = field(default_factory=dict)
    question: str | None = None
    logprobs: bool = False


@dataclass(frozen=True, slots=True)
class PaneEvent:
    pane: int
    event: Told


class Comparison:
    """Asks questions. Holds nothing between them: a pane's history is the caller's."""

    def __init__(self, catalogue: Catalogue):
        self.catalogue = catalogue
        self._backends = catalogue.backends
        self._under_way: dict[str, Mapping[int, Chain]] = {}

    def ask(
        self,
        question: str,
        panes: Sequence[Pane],
        run_id: str | None = None,
        seed: int | None = None,
    ) -> Generator[PaneEvent, None, None]:
        """The panes' events as they happen, until every pane is Answered or Failed.

        All panes share the seed; without one a random one is drawn, and the receipts tell it. A pane that
        cannot be asked fails alone. Closing the iterator stops what is under way. Raises CounterpointError
        where nothing can be asked at all (no question, too many panes, the engine failed).
        """
        check_question(question, len(panes))
        run_id = run_id or secrets.token_hex(8)
        seed = secrets.randbelow(2**31) if seed is None else seed
        chains: dict[int, Chain] = {}
        backends: dict[int, Backend] = {}
        for number, pane in enumerate(panes):
            try:
                likely = 0 if pane.logprobs else None
                chain = self.chain(_request_id(run_id, number), question, pane, seed, likely)
                backends[number] = self.backend(pane)
                chains[number] = chain
            except CounterpointError as error:
                yield PaneEvent(number, Failed.of(_request_id(run_id, number), error))
        self._under_way[run_id] = chains
        try:
            yield from self._events(chains, backends)
        finally:
            self._under_way.pop(run_id, None)

    def _events(
        self, chains: Mapping[int, Chain], backends: Mapping[int, Backend]
    ) -> Generator[PaneEvent, None, None]:
        """Of the calls that the panes begin with, one batch for each backend, and of those that follow them."""
        calls: dict[str, tuple[Backend, list[Request]]] = {}
        for number, chain in chains.items():
            calls.setdefault(backends[number].name, (backends[number], []))[1].append(chain.call)
            yield from (PaneEvent(number, told) for told in chain.began)
        places = {chain.call.id: number for number, chain in chains.items()}
        gathering, batches = Gathering(), list(calls.values())
        goes_on = any(not chain.is_last for chain in chains.values())
        # A generator left to the garbage collector would go on until it is found.
        with contextlib.closing(gathering.events(batches) if goes_on else gather(batches)) as events:
            for event in events:
                number = places[event.request_id]
                if isinstance(event, Failed) and event.cause == "adapter":
                    self._mark(chains[number].asked.adapter, event.message)
                told, following = chains[number].take(event)
                if following:
                    places[following.id] = number
                    gathering.begin(backends[number], [following])
                yield from (PaneEvent(number, each) for each in told)

    def stop(self, run_id: str, pane: int | None = None) -> None:
        """Ends one pane of a run under way, or all of them, in whatever step they are."""
        chains = self._under_way.get(run_id, {})
        # A run that is not under way may be about to begin: the page shows Stop before the question gets here.
        numbers = (chains or range(MAX_PANES)) if pane is None else (pane,)
        ids = [chains[each].stop() if each in chains else _request_id(run_id, each) for each in numbers]
        for backend in self._backends.all:
            backend.stop(ids)

    def preview(self, pane: Pane, question: str) -> Rendered:
        """The exact prompt that a pane would send, its first one where its persona has steps. Raises CounterpointError
        where it cannot be asked."""
        chain = self.chain("preview", question, pane, seed=0)
        return self.backend(pane).render(chain.call.messages)

    def probe(self, adapter: str) -> str | None:
        """Tries an adapter in the engine; why it is of no use, which its list entry then says too, or None."""
        entry = self.catalogue.adapters.get(adapter)
        if not entry.usable:
            return "; ".join(entry.inspection.problems)
        problem = self._backends.get(None).probe(adapter)
        if problem is not None:
            self.catalogue.adapters.mark(adapter, problem)
        return problem

    def forget(self, mode: str) -> None:
        """Has its backend free a mode's adapter, so that its next answer loads it anew. Raises CounterpointError for a
        backend that is not declared."""
        named = ModeId.parse(mode)
        if named.adapter:
            self._backends.get(named.backend).forget(named.adapter)

    def _mark(self, adapter: str | None, problem: str) -> None:
        if adapter:
            # It may have been deleted while it was asked.
            with contextlib.suppress(CounterpointError):
                self.catalogue.adapters.mark(adapter, problem)

    def backend(self, pane: Pane) -> Backend:
        """What answers a pane. Raises CounterpointError for a backend that is not declared."""
        return self._backends.get(ModeId.parse(pane.mode).backend)

    def chain(
        self, request_id: str, question: str, pane: Pane, seed: int, top_logprobs: int | None = None
    ) -> Chain:
        """What a pane asks its backend, beginning with a call of that id; `top_logprobs` as in Request. Raises
        CounterpointError where it cannot be asked."""
        question = pane.question or question
        check_question(question)
        mode = ModeId.parse(pane.mode)
        draft = pane.persona if mode.persona else None
        persona = draft or self.catalogue.persona(mode)
        if not 0 <= pane.adapter_scale <= MAX_SCALE:
            raise CounterpointError(f"An adapter's strength lies between 0 and {MAX_SCALE:g}.")
        sampling = self.catalogue.sampling(mode, persona)
        unknown = set(pane.sampling) - {field.name for field in dataclasses.fields(Sampling)}
        if unknown:
            raise CounterpointError(f"Sampling has no such field: {sorted(unknown)[0]}.")
        sampling = dataclasses.replace(sampling, **{"seed": seed, **pane.sampling})
        return Chain(
            Request(request_id, (), sampling, mode.adapter, pane.adapter_scale, top_logprobs),
            persona,
            question,
            pane.history,
            pane.variables,
            is_draft=draft is not None,
            limits_answer="max_tokens" in pane.sampling,
        )


def check_question(question: str, panes: int = 1) -> None:
    """Raises CounterpointError where nothing can be asked: no question, no panes or too many."""
    if not question.strip():
        raise CounterpointError("There is no question: type one first.")
    if len(question) > MAX_QUESTION_CHARS:
        raise CounterpointError(
            f"The question has {len(question):,} characters, and {MAX_QUESTION_CHARS:,} fit: shorten it."
        )
    if not 1 <= panes <= MAX_PANES:
        raise CounterpointError(f"A comparison has 1 to {MAX_PANES} panes, not {panes}.")


def _request_id(run_id: str, pane: int) -> str:
    return f"{run_id}/{pane}"
