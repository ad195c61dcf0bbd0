"""What the test after training found: figures with intervals, held against the recipe's marks."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

Part = Literal["loss", "checks", "memorisation", "generalisation", "forgetting", "consistency", "bias"]
Verdict = Literal["passed", "unclear", "failed"]
PARTS: tuple[Part, ...] = (
    "loss",
    "checks",
    "memorisation",
    "generalisation",
    "forgetting",
    "consistency",
    "bias",
)


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Figure(_Strict):
    """`low` and `high` bound its 95 % interval over `n` rows; None where they are too few to tell."""

    value: float
    low: float | None
    high: float | None
    n: int


class Finding(_Strict):
    """One part: `judged` is the adapter's, which is held against `mark`; `figures` are those that it comes from, by what
    they are of: base, prompted, adapter, trained, heldout, name, gender, origin. Where none of them is the base's,
    `beside` has what would be judged of it, and of the prompted counterpart."""

    part: Part
    verdict: Verdict
    judged: Figure
    mark: float
    figures: dict[str, Figure]
    beside: dict[str, Figure] = {}


class Gate(_Strict):
    """All parts that could be measured; `omitted` says why others could not. `persona` is the prompted counterpart,
    with the sha256 of its file."""

    persona: str | None = None
    persona_sha256: str | None = None
    findings: tuple[Finding, ...]
    omitted: dict[Part, str]
    seconds: float

    @property
    def failed(self) -> tuple[Part, ...]:
        """The parts for which the adapter is not offered: a loss that is not shown to be lower, shown harm."""
        return tuple(
            one.part
            for one in self.findings
            if one.verdict == "failed" or (one.part == "loss" and one.verdict != "passed")
        )

    @property
    def unclear(self) -> tuple[Part, ...]:
        """The parts that do not keep it from being offered, and for which the rows were too few to tell."""
        return tuple(
            one.part for one in self.findings if one.verdict == "unclear" and one.part not in self.failed
        )

    @property
    def passed(self) -> bool:
        return not self.failed and any(one.part == "loss" for one in self.findings)


def judge(
    part: Part,
    judged: Figure,
    mark: float,
    figures: dict[str, Figure],
    least: bool = False,
    beside: dict[str, Figure] | None = None,
) -> Finding:
    """A finding: `judged` may be at most `mark`, or must be at `least` that. A loss has to be below its mark: an adapter
    that changes nothing has the base's."""
    verdict: Verdict = "unclear"
    if judged.low is not None and judged.high is not None:
        good, bad = (judged.low, judged.high) if least else (-judged.high, -judged.low)
        bar = mark if least else -mark
        met = good > bar if part == "loss" else good >= bar
        verdict = "passed" if met else "failed" if bad < bar else "unclear"
    return Finding(part=part, verdict=verdict, judged=judged, mark=mark, figures=figures, beside=beside or {})
