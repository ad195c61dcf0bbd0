"""What a measurement found, as data: every figure by mode, with its interval, and every difference between modes."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from adapters.verdict import Figure
from comparison.modes import Family

Aspect = Literal["speed", "cost", "customisation", "consistency", "bias", "forgetting"]
ASPECTS: tuple[Aspect, ...] = ("speed", "cost", "customisation", "consistency", "bias", "forgetting")
Unit = Literal["share", "seconds", "tokens/s", "tokens", "money", "cosine", "words", "tone", "decision words"]
Outcome = Literal["more", "less", "unclear"]
"""Whether an interval lies above zero, below it, or across it: no clear difference."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


def outcome(figure: Figure) -> Outcome:
    """What a difference's interval says."""
    if figure.low is not None and figure.low > 0:
        return "more"
    if figure.high is not None and figure.high < 0:
        return "less"
    return "unclear"


class Gap(_Strict):
    """By how much slot `one` is above slot `other` on the same `asked` questions. About so many `questions` in all would
    tell a difference of that size from none; None where there is none, or no interval."""

    one: str
    other: str
    figure: Figure
    asked: int
    questions: int | None = None

    @property
    def outcome(self) -> Outcome:
        return outcome(self.figure)

    @property
    def more_questions(self) -> int | None:
        """So many beside those that were asked; None where it is told already, or nothing would tell it."""
        if self.outcome != "unclear" or self.questions is None:
            return None
        return max(1, self.questions - self.asked)

    def seen_from(self, slot: str) -> Gap:
        """The same with `slot`, which is one of both, as the first."""
        if slot == self.one:
            return self
        return self.model_copy(
            update={"one": self.other, "other": self.one, "figure": _negative(self.figure)}
        )


class Row(_Strict):
    """One figure of each slot. `better` says which way is good. Where `paired`, the figures are differences within pairs
    that differ in who asks, to be held against zero; `effects` are their sizes in standard deviations. `values` are each
    slot's of each of the `cases`, SUITE/CASE, that they come from. `part_of` is the row of all questions that this one is
    of some of."""

    key: str
    aspect: Aspect
    title: str
    unit: Unit
    better: Literal["more", "less"] | None = None
    figures: dict[str, Figure]
    gaps: tuple[Gap, ...] = ()
    paired: bool = False
    part_of: str | None = None
    effects: dict[str, float] = Field(default_factory=dict)
    cases: tuple[str, ...] = ()
    values: dict[str, tuple[float | None, ...]] = Field(default_factory=dict)

    def gap(self, one: str, other: str) -> Gap | None:
        """How far `one` is above `other`, whichever way round it was reckoned."""
        for gap in self.gaps:
            if {gap.one, gap.other} == {one, other}:
                return gap.seen_from(one)
        return None


class Mode(_Strict):
    """A slot as it was measured. `sampling` and the hashes are what its answers' receipts say."""

    id: str
    mode: str
    label: str
    family: Family
    sampling: dict[str, object] = Field(default_factory=dict)
    persona_sha256: str | None = None
    adapter_sha256: str | None = None
    failed: int = 0
    """Answers that there are none of: counted as wrong."""


class Adapting(_Strict):
    """How long it takes from a change to the first changed answer, in seconds: of an instruction, or of a dataset, which
    has to be `checked` and `trained` on first. `changed` is whether the instruction made that answer another one."""

    answer_s: float
    checked_s: float | None = None
    trained_s: float | None = None
    tested_s: float | None = None
    device: str | None = None
    changed: bool | None = None

    @property
    def seconds(self) -> float:
        return self.answer_s + (self.checked_s or 0.0) + (self.trained_s or 0.0)


class BreakEven(_Strict):
    """After how many questions the `tuned` slot has repaid its training, which takes `once`, against the `prompted` one;
    trained on `device`. `at` is None where nothing is saved as it seems, and `earliest` too for never; `latest` is None
    where never is not excluded. What an answer takes is given for so many: `per`."""

    tuned: str
    prompted: str
    unit: Literal["seconds", "money"]
    once: float
    per: int = 1
    device: str | None = None
    tuned_each: Figure
    prompted_each: Figure
    saving: Figure
    at: float | None = None
    earliest: float | None = None
    latest: float | None = None

    @property
    def state(self) -> Literal["nothing to repay", "never", "unclear", "repaid"]:
        """What is to be said of it: only where it is clear whether an answer costs less, that it is repaid, or never."""
        if not self.once:
            return "nothing to repay"
        told: dict[Outcome, Literal["never", "unclear", "repaid"]] = {
            "less": "never",
            "more": "repaid",
            "unclear": "unclear",
        }
        return told[outcome(self.saving)]


class Asked(_Strict):
    """A question that was asked several times: each slot's different answers with how often they came, the mean cosine
    of any two, and the share that passed where it has checks."""

    suite: str
    case: str
    question: str
    answers: dict[str, tuple[tuple[str, int], ...]]
    similarity: dict[str, float]
    passed: dict[str, float] = Field(default_factory=dict)


class Held(_Strict):
    """A mark of the suite, and whether it was met: not where answers are `ungraded`, or not there yet."""

    mode: str
    metric: str | None
    at_least: float
    share: Figure | None
    ungraded: int = 0
    met: bool


class Sentence(_Strict):
    """A piece of advice, the rows that it rests on, and what would change it."""

    text: str
    rests_on: tuple[str, ...]
    changes: str = ""


class Advice(_Strict):
    """`choice` is what to do for this task, or "one kind" where all modes are of one; the first sentence says it."""

    choice: Literal["prompt", "fine-tune", "both", "neither", "unclear", "one kind"]
    sentences: tuple[Sentence, ...]


class Results(_Strict):
    """All of a measurement but the answers themselves. `ungraded` says of how many answers a check could not be made,
    and why."""

    schema_version: Literal[1] = 1
    suite: str
    title: str
    suites: dict[str, str]
    """Each suite's sha256 by its name."""
    questions: int
    date: str
    machine: str
    versions: dict[str, str]
    base: dict[str, str] = Field(default_factory=dict)
    seed: int
    currency: str
    complete: Annotated[bool, Field(strict=True)]
    modes: tuple[Mode, ...]
    rows: tuple[Row, ...]
    adapting: dict[str, Adapting]
    break_even: tuple[BreakEven, ...]
    asked: tuple[Asked, ...]
    held: tuple[Held, ...]
    ungraded: dict[str, int] = Field(default_factory=dict)
    advice: Advice | None = None

    def row(self, key: str) -> Row | None:
        return next((row for row in self.rows if row.key == key), None)

    def mode(self, slot: str) -> Mode:
        return next(mode for mode in self.modes if mode.id == slot)


def _negative(figure: Figure) -> Figure:
    def turned(value: float | None) -> float | None:
        return None if value is None else -value

    return figure.model_copy(
        update={"value": -figure.value, "low": turned(figure.high), "high": turned(figure.low)}
    )
