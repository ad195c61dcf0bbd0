"""What a pane remembers: its turns, and how events change them. Pure, so that a test needs no browser."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from backends.contract import Delta, Failed, Message, Queued, Waiting
from comparison.chain import StepBegan, Told
from comparison.receipt import StepDone
from logbook.ratings import Verdict
from ui.words import say

TurnState = Literal["running", "done", "stopped", "failed"]


@dataclass(frozen=True, slots=True)
class Turn:
    """One question in one pane, and what became of it. `label` and `family` are the mode's that answered."""

    question: str
    mode: str
    label: str
    family: str
    state: TurnState = "running"
    answer: str = ""
    notice: str = ""
    speed: str = ""
    receipt: Mapping[str, Any] = field(default_factory=dict)
    cut_off: bool = False
    """Whether it ended at the most tokens allowed, and not where the model ended it."""
    verdict: Verdict | None = None
    """What the person said of the answer."""
    step: StepBegan | None = None
    """Where its persona has steps: the one that writes `answer` now, or did when it ended."""
    steps: tuple[Mapping[str, Any], ...] = ()
    """The steps before that one, as receipts have them."""
    strength: float = 1.0
    """Of the mode's adapter."""
    id: str | None = None
    """What the logbook calls it; None where it is not kept."""
    remark: str = ""
    """What is to be added to its notice when it ends."""

    @property
    def is_on_its_way(self) -> bool:
        """Whether `answer` is what a step wrote that others were to follow."""
        return self.step is not None and self.step.number < self.step.of


@dataclass(frozen=True, slots=True)
class PaneState:
    """A pane's turns, oldest first. `run` and `position` name the last answer, for `Comparison.stop`; `conversation` is
    what the logbook calls the one that they are of."""

    turns: tuple[Turn, ...] = ()
    run: str | None = None
    position: int = 0
    conversation: str | None = None

    @property
    def busy(self) -> bool:
        return bool(self.turns) and self.turns[-1].state == "running"

    @property
    def last(self) -> Turn | None:
        return self.turns[-1] if self.turns else None

    @property
    def last_question(self) -> str:
        return self.turns[-1].question if self.turns else ""


def history(state: PaneState) -> tuple[Message, ...]:
    """What the model is told of earlier turns: those with an answer, a stopped one included; what a step wrote that was
    not the last is no answer."""
    messages: list[Message] = []
    for turn in state.turns:
        if turn.state in ("done", "stopped") and turn.answer.strip() and not turn.is_on_its_way:
            messages.append({"role": "user", "content": turn.question})
            messages.append({"role": "assistant", "content": turn.answer})
    return tuple(messages)


def without_last(state: PaneState) -> PaneState:
    """The pane before its last question, so that it can be asked anew."""
    return replace(state, turns=state.turns[:-1], run=None)


def begin(state: PaneState, turn: Turn, run: str, position: int) -> PaneState:
    return replace(state, turns=(*state.turns, turn), run=run, position=position)


def known_as(state: PaneState, conversation: str, turn: str) -> PaneState:
    """The pane whose last turn the logbook calls that."""
    state = replace(state, conversation=conversation)
    return _with_last(state, replace(state.turns[-1], id=turn))


def last_kept(state: PaneState) -> str | None:
    """What the logbook calls the newest turn of the pane that it has."""
    return next((turn.id for turn in reversed(state.turns) if turn.id), None)


def remarked(state: PaneState, remark: str) -> PaneState:
    """The pane that says so with its last turn, from now on."""
    return _with_last(state, replace(state.turns[-1], notice=remark, remark=remark))


def apply(state: PaneState, event: Told) -> PaneState:
    """The pane after an event of its answer."""
    turn = state.turns[-1]
    if isinstance(event, Waiting):
        return _with_last(state, replace(turn, notice=event.message)) if event.message else state
    if isinstance(event, Queued):
        return _with_last(state, replace(turn, notice=say("queued", place=event.place)))
    if isinstance(event, Delta):
        speed = speed_line(event.ttft_s, event.tokens_per_s, event.completion_tokens)
        return _with_last(state, replace(turn, answer=turn.answer + event.text, speed=speed, notice=""))
    if isinstance(event, StepBegan):
        return _with_last(state, replace(turn, step=event, answer="", speed=""))
    if isinstance(event, StepDone):
        return _with_last(state, replace(turn, steps=(*turn.steps, event.as_dict())))
    if isinstance(event, Failed):
        return fail(state, event.message)
    receipt = event.receipt.as_dict()
    stopped, cut_off = event.finish_reason == "cancelled", event.finish_reason == "length"
    notice = say("stopped") if stopped else say("cut_off") if cut_off else ""
    step, speed = turn.step, speed_of(receipt)
    if step:
        # Between two steps it is stopped in the one before, though the next may have been told.
        step = replace(step, number=len(event.steps) + 1)
        if stopped and step.number < step.of:
            notice = say("stopped_in_step", number=step.number, of=step.of)
    if event.steps:
        tokens = event.receipt.total.completion_tokens
        speed += " · " + say("steps_in_all", steps=len(event.steps) + 1, tokens=tokens)
    done = replace(
        turn,
        state="stopped" if stopped else "done",
        answer=event.answer,
        notice=notice,
        speed=speed,
        receipt=receipt,
        cut_off=cut_off,
        step=step,
        steps=tuple(each.as_dict() for each in event.steps),
    )
    return _with_last(state, done)


def fail(state: PaneState, message: str) -> PaneState:
    """The pane whose answer could not be (fully) given; what was already written stays to be read."""
    return _with_last(state, replace(state.turns[-1], state="failed", notice=message))


def stopped(state: PaneState, notice: str) -> PaneState:
    """The pane whose answer is left where it is."""
    return _with_last(state, replace(state.turns[-1], state="stopped", notice=notice))


def foot_classes(state: PaneState) -> list[str]:
    """How the row of tools under the pane's answer looks."""
    if state.busy:
        return ["cp-foot", "cp-busy"]
    turn = state.last
    if turn is None:
        return ["cp-foot"]
    told = "cp-wrong" if turn.state == "failed" else f"cp-is-{turn.verdict}" if turn.verdict else ""
    return ["cp-foot", "cp-asked", *([told] if told else [])]


def speed_line(ttft_s: float | None, tokens_per_s: float | None, tokens: int) -> str:
    """For example "0.21 s to first token · 27.4 tokens/s · 83 tokens"; what is not known is left out."""
    parts = []
    if ttft_s is not None:
        parts.append(say("ttft", seconds=f"{ttft_s:.2f}"))
    if tokens_per_s is not None:
        parts.append(say("tokens_per_s", speed=f"{tokens_per_s:.1f}"))
    parts.append(say("tokens" if tokens != 1 else "token", count=tokens))
    return " · ".join(parts)


def speed_of(figures: Mapping[str, Any]) -> str:
    """The speed line of a receipt, or of one of its steps."""
    return speed_line(figures["ttft_s"], figures["tokens_per_s"], figures["completion_tokens"])


def copy_text(states: list[PaneState]) -> str:
    """The last question and every pane's answer to it as Markdown, to be pasted elsewhere."""
    turns = [state.turns[-1] for state in states if state.turns]
    if not turns:
        return ""
    blocks = []
    asked = ""
    for turn in turns:
        if turn.question != asked:
            asked = turn.question
            blocks.append("> " + asked.replace("\n", "\n> "))
        blocks.append("\n\n".join(part for part in (f"### {turn.label}", turn.answer, turn.notice) if part))
    return "\n\n".join(blocks) + "\n"


def _with_last(state: PaneState, turn: Turn) -> PaneState:
    return replace(state, turns=(*state.turns[:-1], turn))
