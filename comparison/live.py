"""One question through several modes at once: renders each pane, calls the backend, yields deltas and receipts."""

from __future__ import annotations

import contextlib
import dataclasses
import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

from backends.contract import (
    Backend,
    Delta,
    Done,
    Failed,
    FinishReason,
    Identity,
    Message,
    Queued,
    Rendered,
    Request,
    Sampling,
    Usage,
    Waiting,
)
from comparison.gather import gather
from comparison.modes import Catalogue, ModeId
from errors import CounterpointError
from personas.render import render
from personas.schema import Persona

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
class Receipt:
    """What really ran for one answer: the backend's own word, and the persona that made its prompt."""

    identity: Identity
    usage: Usage
    persona: str | None
    persona_sha256: str | None
    persona_draft: bool = False
    """Whether it was one that has not been saved, in place of the stored one."""

    def as_dict(self) -> dict[str, Any]:
        """The receipt's fields in the order of the JSON that `ask --json` prints."""
        identity, usage = self.identity, self.usage
        sampling = dataclasses.asdict(identity.sampling)
        sampling["stop"] = list(sampling["stop"])
        sampling |= dict.fromkeys(identity.unsent)
        seed = sampling.pop("seed")
        fields = {
            "base": identity.base,
            "base_sha256": identity.base_sha256,
            "quantization": identity.quantization,
            "adapter": identity.adapter,
            "adapter_sha256": identity.adapter_sha256,
            "adapter_scale": identity.adapter_scale,
            "persona": self.persona,
            "persona_sha256": self.persona_sha256,
            "prompt": identity.prompt,
            "prompt_sha256": identity.prompt_sha256,
            "sampling": sampling,
            "seed": seed,
            "prompt_tokens": usage.prompt_tokens,
            "completion_tokens": usage.completion_tokens,
            "ttft_s": usage.ttft_s,
            "tokens_per_s": usage.tokens_per_s,
            "backend": identity.backend,
        }
        if identity.dtype is not None:
            fields["dtype"] = identity.dtype
        if self.persona_draft:
            fields["persona_draft"] = True
        if identity.server is not None:
            # What a server was sent stands for the prompt that it made of it.
            fields |= {"server": identity.server, "claimed": list(identity.claimed)}
            fields["messages"] = [dict(message) for message in identity.messages or ()]
        return fields


@dataclass(frozen=True, slots=True)
class Answered:
    """A pane's answer is complete, or was stopped ("cancelled").

    `logprob` is the mean of its tokens' natural log-probabilities; None where nobody asked, or the backend told none.
    """

    answer: str
    finish_reason: FinishReason
    receipt: Receipt
    logprob: float | None = None


@dataclass(frozen=True, slots=True)
class PaneEvent:
    pane: int
    event: Queued | Waiting | Delta | Answered | Failed


class Comparison:
    """Asks questions. Holds nothing between them: a pane's history is the caller's."""

    def __init__(self, catalogue: Catalogue):
        self.catalogue = catalogue
        self._backends = catalogue.backends

    def ask(
        self,
        question: str,
        panes: Sequence[Pane],
        run_id: str | None = None,
        seed: int | None = None,
        most: int = MAX_PANES,
    ) -> Iterator[PaneEvent]:
        """The panes' events as they happen, until every pane is Answered or Failed; at `most` so many.

        All panes share the seed; without one a random one is drawn, and the receipts tell it. A pane that
        cannot be asked fails alone. Closing the iterator stops what is under way. Raises CounterpointError
        where nothing can be asked at all (no question, too many panes, the engine failed).
        """
        check_question(question, len(panes), most)
        run_id = run_id or secrets.token_hex(8)
        seed = secrets.randbelow(2**31) if seed is None else seed
        requests: dict[str, tuple[int, Request, Persona | None]] = {}
        calls: dict[str, tuple[Backend, list[Request]]] = {}
        for number, pane in enumerate(panes):
            try:
                request, persona = self.request(_request_id(run_id, number), question, pane, seed)
                backend = self.backend(pane)
                calls.setdefault(backend.name, (backend, []))[1].append(request)
                requests[request.id] = (number, request, persona)
            except CounterpointError as error:
                yield PaneEvent(number, Failed.of(_request_id(run_id, number), error))
        texts: dict[str, list[str]] = {request_id: [] for request_id in requests}
        logprobs: dict[str, list[float]] = {request_id: [] for request_id in requests}
        # A generator left to the garbage collector would go on until it is found.
        with contextlib.closing(gather(list(calls.values()))) as events:
            for event in events:
                number, _, persona = requests[event.request_id]
                if isinstance(event, Delta):
                    texts[event.request_id].append(event.text)
                    logprobs[event.request_id] += [token.logprob for token in event.logprobs]
                if isinstance(event, Failed) and event.cause == "adapter":
                    self._mark(panes[number].mode, event.message)
                if not isinstance(event, Done):
                    yield PaneEvent(number, event)
                    continue
                receipt = Receipt(
                    event.identity,
                    event.usage,
                    persona.name if persona else None,
                    persona.sha256 if persona else None,
                    persona is not None and persona is panes[number].persona,
                )
                answer = "".join(texts[event.request_id])
                told = logprobs[event.request_id]
                logprob = fmean(told) if told else None
                yield PaneEvent(number, Answered(answer, event.finish_reason, receipt, logprob))

    def stop(self, run_id: str, pane: int | None = None) -> None:
        """Ends one pane of a run under way, or all of them."""
        numbers = range(MAX_PANES) if pane is None else (pane,)
        for backend in self._backends.all:
            backend.stop([_request_id(run_id, number) for number in numbers])

    def preview(self, pane: Pane, question: str) -> Rendered:
        """The exact prompt that a pane would send. Raises CounterpointError where it cannot be asked."""
        request, _ = self.request("preview", question, pane, seed=0)
        return self.backend(pane).render(request.messages)

    def probe(self, adapter: str) -> str | None:
        """Tries an adapter in the engine; why it is of no use, which its list entry then says too, or None."""
        entry = self.catalogue.adapters.get(adapter)
        if not entry.usable:
            return "; ".join(entry.inspection.problems)
        problem = self._backends.get(None).probe(adapter)
        if problem is not None:
            self.catalogue.adapters.mark(adapter, problem)
        return problem

    def _mark(self, mode: str, problem: str) -> None:
        adapter = ModeId.parse(mode).adapter
        if adapter:
            # It may have been deleted while it was asked.
            with contextlib.suppress(CounterpointError):
                self.catalogue.adapters.mark(adapter, problem)

    def backend(self, pane: Pane) -> Backend:
        """What answers a pane. Raises CounterpointError for a backend that is not declared."""
        return self._backends.get(ModeId.parse(pane.mode).backend)

    def request(
        self, request_id: str, question: str, pane: Pane, seed: int
    ) -> tuple[Request, Persona | None]:
        """What a pane asks its backend, and the persona in it. Raises CounterpointError where it cannot be
        asked."""
        question = pane.question or question
        check_question(question)
        mode = ModeId.parse(pane.mode)
        persona = pane.persona if mode.persona and pane.persona else self.catalogue.persona(mode)
        if not 0 <= pane.adapter_scale <= MAX_SCALE:
            raise CounterpointError(f"An adapter's strength lies between 0 and {MAX_SCALE:g}.")
        messages = render(persona, question, pane.history, pane.variables)
        sampling = self.catalogue.sampling(mode, persona)
        unknown = set(pane.sampling) - {field.name for field in dataclasses.fields(Sampling)}
        if unknown:
            raise CounterpointError(f"Sampling has no such field: {sorted(unknown)[0]}.")
        sampling = dataclasses.replace(sampling, **{"seed": seed, **pane.sampling})
        likely = 0 if pane.logprobs else None
        request = Request(request_id, tuple(messages), sampling, mode.adapter, pane.adapter_scale, likely)
        return request, persona


def check_question(question: str, panes: int = 1, most: int = MAX_PANES) -> None:
    """Raises CounterpointError where nothing can be asked: no question, no panes or too many."""
    if not question.strip():
        raise CounterpointError("There is no question: type one first.")
    if len(question) > MAX_QUESTION_CHARS:
        raise CounterpointError(
            f"The question has {len(question):,} characters, and {MAX_QUESTION_CHARS:,} fit: shorten it."
        )
    if not 1 <= panes <= most:
        raise CounterpointError(f"A comparison has 1 to {most} panes, not {panes}.")


def _request_id(run_id: str, pane: int) -> str:
    return f"{run_id}/{pane}"
