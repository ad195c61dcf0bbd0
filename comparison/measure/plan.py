"""What a measurement asks, decided before the first answer: suites, modes and seeds, and each single question."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from comparison.checks.check import Need
from comparison.measure.suite import Case, Mode, Suite
from comparison.modes import Family, ModeId
from personas.schema import Persona

Kind = Literal["warm", "adapt", "alone", "answer", "repeat"]
"""Why a question is asked: so that what is loaded on first use is there; to time the first answer after a change; to
time it with nothing beside it; for what it says; again with another seed, for how alike the answers are."""


def _tupled(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Prices(_Strict):
    """What a person pays, in any one currency: for an hour of the machine, for a million tokens of a hosted model."""

    currency: Annotated[str, Field(min_length=1, max_length=8)] = "$"
    machine_hour: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    prompt_million: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    completion_million: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    training: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    """For training an adapter, once; by the machine's hours where it is not given."""

    @property
    def given(self) -> bool:
        return any(
            price is not None for price in (self.machine_hour, self.prompt_million, self.completion_million)
        )

    def of_machine(self, seconds: float | None) -> float | None:
        """Money for so long of this machine; None where that has no price, or the time is not known."""
        if self.machine_hour is None or seconds is None:
            return None
        return seconds / 3600 * self.machine_hour

    def of_tokens(self, prompt: int | None, completion: int | None) -> float | None:
        """Money for an answer of a hosted model; None where that has no price, or the tokens were not told."""
        priced = [
            (count, price)
            for count, price in ((prompt, self.prompt_million), (completion, self.completion_million))
            if price is not None
        ]
        if not priced or any(count is None for count, _ in priced):
            return None
        return sum((count or 0) * price for count, price in priced) / 1e6


class Made(_Strict):
    """How an adapter came about: seconds of training and of the test after it, and on what."""

    rows: int
    steps: int
    seconds: float
    tested_s: float | None = None
    device: str
    dtype: str | None = None
    sha256: str


class Slot(_Strict):
    """A mode's place in a measurement; one mode may have several. `persona` is a draft that stands in for the mode's
    own, `variables` fill it."""

    id: Annotated[str, Field(min_length=1, max_length=300)]
    mode: Mode
    label: str = ""
    persona: Persona | None = None
    variables: dict[str, str] = Field(default_factory=dict)
    made: Made | None = None

    @property
    def family(self) -> Family:
        return ModeId.parse(self.mode).family


class Plan(_Strict):
    """`suites` begins with the one that was asked for. Of each slot `alone` questions are asked with nothing beside
    them; where that is 0, nothing is timed, not even a change."""

    schema_version: Literal[1] = 1
    date: str
    machine: str
    versions: dict[str, str]
    suites: Annotated[tuple[Suite, ...], BeforeValidator(_tupled), Field(min_length=1, max_length=9)]
    slots: Annotated[tuple[Slot, ...], BeforeValidator(_tupled), Field(min_length=1, max_length=64)]
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    prices: Prices = Prices()
    python: bool = False
    alone: Annotated[int, Field(ge=0, le=1_000)] = 12

    @model_validator(mode="after")
    def _named_once(self) -> Plan:
        for what, names in (
            ("suite", [one.name for one in self.suites]),
            ("mode", [one.id for one in self.slots]),
        ):
            twice = next((name for name in names if names.count(name) > 1), None)
            if twice:
                raise PydanticCustomError(
                    "plan", "the {what} {name} is there twice", {"what": what, "name": twice}
                )
        return self

    @property
    def suite(self) -> Suite:
        """The one that was asked for."""
        return self.suites[0]

    @property
    def needs(self) -> set[Need]:
        return set().union(*(suite.needs for suite in self.suites))

    @cached_property
    def cases(self) -> dict[str, dict[str, Case]]:
        """By suite and by id, in the suite's order."""
        return {suite.name: {case.id: case for case in suite.cases()} for suite in self.suites}

    def slot(self, slot_id: str) -> Slot:
        return next(slot for slot in self.slots if slot.id == slot_id)

    @cached_property
    def items(self) -> tuple[Item, ...]:
        """All that is asked, in this order: what is timed first, while nothing else runs."""
        return tuple(self._items())

    def _items(self) -> Iterator[Item]:
        first = next(iter(self.cases[self.suite.name].values()))
        for slot in self.slots:
            if self.alone and slot.family in ("prompted", "tuned"):
                yield self._item("adapt", self.suite.name, first, slot)
        for suite in self.suites:
            timed = self._timed(suite)
            for case in timed:
                for slot in self.slots:
                    yield self._item("alone", suite.name, case, slot)
        for suite in self.suites:
            for case in self.cases[suite.name].values():
                for slot in self.slots:
                    yield self._item("answer", suite.name, case, slot)
        for suite in self.suites:
            if suite.repeat:
                for case in self.repeated(suite):
                    for time in range(1, suite.repeat.times + 1):
                        for slot in self.slots:
                            yield self._item("repeat", suite.name, case, slot, time)

    def _timed(self, suite: Suite) -> list[Case]:
        """Those whose checks need their time, and a few of the suite that was asked for."""
        cases = list(self.cases[suite.name].values())
        some = (
            _spread([case for case in cases if case.wording == 0], self.alone) if suite is self.suite else []
        )
        return [case for case in cases if "latency" in case.needs or case in some]

    def repeated(self, suite: Suite) -> list[Case]:
        """The questions that are asked several times, spread evenly over the suite."""
        cases = [case for case in self.cases[suite.name].values() if case.wording == 0 and not case.side]
        return _spread(cases, suite.repeat.questions or len(cases)) if suite.repeat else []

    def _item(self, kind: Kind, suite: str, case: Case, slot: Slot, repeat: int = 0) -> Item:
        # Both sides of a pair have one seed, so that they differ in who asks alone; what is timed says what is checked.
        said = "answer" if kind in ("adapt", "alone") else kind
        place = f"{self.seed}/{suite}/{case.test}.{case.wording}.{case.pair}/{slot.id}/{said}/{repeat}"
        seed = int.from_bytes(hashlib.blake2b(place.encode(), digest_size=4).digest()) % 2**31
        return Item(kind, suite, case, slot, repeat, seed)


@dataclass(frozen=True, slots=True)
class Item:
    """One question to one slot; `repeat` counts from 1 where it is asked again."""

    kind: Kind
    suite: str
    case: Case
    slot: Slot
    repeat: int
    seed: int

    @property
    def key(self) -> str:
        """Unique in its plan."""
        return key(self.kind, self.suite, self.case.id, self.slot.id, self.repeat)


def key(kind: Kind, suite: str, case: str, slot: str, repeat: int = 0) -> str:
    """What an answer is found by."""
    return f"{kind}/{suite}/{case}/{repeat}/{slot}"


def _spread(cases: list[Case], count: int) -> list[Case]:
    """At most `count` of them, evenly over the list."""
    if count >= len(cases):
        return cases
    return [cases[number * len(cases) // count] for number in range(count)]
