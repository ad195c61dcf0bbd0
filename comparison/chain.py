"""What one pane asks of its backend: a single call, or its persona's steps one after another."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from statistics import fmean

from backends.contract import Delta, Done, Event, Failed, Message, Queued, Request, Waiting
from comparison.receipt import Answered, Receipt, StepDone
from personas.render import render, render_step
from personas.schema import Persona


@dataclass(frozen=True, slots=True)
class StepBegan:
    """A step of a chain is asked now: `number` (from 1 on) of `of`."""

    number: int
    of: int
    name: str


Told = Queued | Waiting | Delta | StepBegan | StepDone | Answered | Failed
"""What a pane tells on its way to Answered or Failed."""


@dataclass
class Chain:
    """The calls of one pane. Its persona's steps run in their order, each with the outputs of those before it; the last
    one's output is the answer. Without steps there is one call, which asks the question itself.

    `asked` is what all calls have in common, its id that of the first. With `limits_answer` its max_tokens wins over what
    the last step says; earlier ones keep their own. One thread takes the events; `stop` may come from any.
    """

    asked: Request
    persona: Persona | None
    question: str
    history: tuple[Message, ...] = ()
    variables: Mapping[str, str] = field(default_factory=dict)
    is_draft: bool = False
    limits_answer: bool = False
    done: tuple[StepDone, ...] = field(default=(), init=False)

    def __post_init__(self) -> None:
        """Raises CounterpointError for variables that the persona does not take."""
        self.steps = self.persona.steps if self.persona else ()
        self._stopped = False
        self._begin()

    @property
    def call(self) -> Request:
        """The call that is under way, or to be made first."""
        return self._call

    @property
    def is_last(self) -> bool:
        """Whether that call gives the answer."""
        return len(self.done) + 1 >= len(self.steps)

    @property
    def began(self) -> list[Told]:
        """That the step of that call begins; nothing where there are no steps."""
        number = len(self.done) + 1
        return [StepBegan(number, len(self.steps), self.steps[number - 1].name)] if self.steps else []

    def stop(self) -> str:
        """No further step begins; the call that is to be stopped for that, by its id."""
        self._stopped = True
        return self._call.id

    def take(self, event: Event) -> tuple[list[Told], Request | None]:
        """What the pane tells of an event of its call, and the call to be made next."""
        if isinstance(event, Failed):
            return [self._failed(event)], None
        if not isinstance(event, Done):
            if isinstance(event, Delta):
                self._texts.append(event.text)
                self._logprobs += [token.logprob for token in event.logprobs]
            return [event], None
        ended = self._ended(event)
        if self.is_last or event.finish_reason == "cancelled":
            return [ended], None
        step = self.steps[len(self.done)]
        if not ended.answer.strip():
            why = "answered nothing: change its prompt or give it more max_tokens, or ask again."
            return [Failed(event.request_id, f"{self._place} {why}")], None
        before = self.done
        done = StepDone(
            step.name, ended.answer.strip(), event.finish_reason, replace(ended.receipt, steps=())
        )
        self.done = (*before, done)
        self._begin()
        # Asked after the new call has its id: whoever stops the pane now knows either that call or that there is none.
        if self._stopped:
            self.done = before
            return [replace(ended, finish_reason="cancelled")], None
        return [done, *self.began], self._call

    @property
    def _place(self) -> str:
        number = len(self.done) + 1
        return f"Step {self.steps[number - 1].name} ({number} of {len(self.steps)})"

    def _begin(self) -> None:
        number = len(self.done) + 1
        self._texts: list[str] = []
        self._logprobs: list[float] = []
        asked = self.asked
        if not (self.persona and self.steps):
            messages = render(self.persona, self.question, self.history, self.variables)
            self._call = replace(asked, messages=tuple(messages))
            return
        step = self.steps[number - 1]
        outputs = [done.answer for done in self.done]
        messages = render_step(self.persona, number, self.question, outputs, self.history, self.variables)
        sampling = asked.sampling
        if step.max_tokens is not None and not (self.is_last and self.limits_answer):
            sampling = replace(sampling, max_tokens=step.max_tokens)
        self._call = replace(
            asked,
            id=asked.id if number == 1 else f"{asked.id}/{number}",
            messages=tuple(messages),
            sampling=sampling,
            top_logprobs=asked.top_logprobs if self.is_last else None,
        )

    def _ended(self, event: Done) -> Answered:
        """The call's own end, as the answer."""
        persona = self.persona
        receipt = Receipt(
            event.identity,
            event.usage,
            persona.name if persona else None,
            persona.sha256 if persona else None,
            self.is_draft,
            self.done,
        )
        logprob = fmean(self._logprobs) if self._logprobs else None
        return Answered("".join(self._texts), event.finish_reason, receipt, logprob)

    def _failed(self, event: Failed) -> Told:
        if not self.steps or (self._stopped and not self.done):
            return event
        if self._stopped and not self._texts:
            # It was stopped before the backend had begun with it: what there is, is of the step before.
            *before, last = self.done
            return Answered(last.answer, "cancelled", replace(last.receipt, steps=tuple(before)))
        message = f"{self._place}: {event.message}"
        if event.cause == "context" and self.done:
            message += " Or give the steps before it fewer max_tokens."
        return replace(event, message=message)
