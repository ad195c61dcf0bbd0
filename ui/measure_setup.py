"""What a measurement is set up with on the page: suites, the modes that suit them, and what its fields say."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import ValidationError

from comparison.measure import prepare
from comparison.measure.plan import Plan, Prices, Slot
from comparison.measure.prepare import Wanted
from comparison.measure.suite import Suite
from comparison.modes import ModeInfo, job
from errors import CounterpointError
from strict_yaml import joined, sentences
from ui import setup
from ui.words import say

OWN = ""
"""The choice that stands for a file of one's own."""
FIRST = "support"
"""The suite that stands there first: all four ways answer it differently."""
PRICES = ("machine_hour", "prompt_million", "completion_million", "training")
NUMBERS = {"seed": 2**31 - 1, "alone": 1_000}
"""The most that each may be."""
ENDINGS = [".yaml", ".yml", ".csv", ".tsv"]

Suites = tuple[Suite, ...]


def choices() -> list[tuple[str, str]]:
    """(title, name) of the suites that ship, the first one first, and a file of one's own."""
    shipped = prepare.shipped()
    names = sorted(shipped, key=lambda name: (name != FIRST, name))
    return [*((_title(shipped[name]), name) for name in names), (say("measure_own"), OWN)]


def suites(named: str | None, file: str | None) -> tuple[Suites, tuple[str, ...]]:
    """The chosen suite with those that go along, and what of a promptfoo configuration did not come along.

    Raises CounterpointError where none is chosen, or with all that is wrong with it.
    """
    if not named and not file:
        raise CounterpointError(say("measure_no_suite"))
    path = prepare.find(named) if named else Path(file or "")
    try:
        told = path.stat()
    except OSError:
        raise CounterpointError(say("measure_file_gone")) from None
    return _read(path, told.st_mtime_ns, told.st_size)


def problems(error: CounterpointError, file: str | None) -> list[str]:
    """What an error tells of a file, each with its line."""
    name = Path(file).name if file else ""
    told = str(error)
    if not name or not told.startswith(f"{name}:"):
        return [told]
    return [f"{name}:{one}" for one in told.removeprefix(f"{name}:").split(f"; {name}:")]


def default_modes(suite: str, modes: Sequence[ModeInfo], languages: Sequence[str] = ()) -> list[str]:
    """The bare base, and the persona, the adapter and both that do the suite's job; the page's own first modes where
    there is neither."""
    usable = [mode.id for mode in modes if mode.usable and not mode.backend]
    doing_it = [three for three in setup.counterparts(modes) if _does(three[1], suite)]
    its = doing_it[0] if doing_it else [mode for mode in usable if _does(mode, suite)]
    return ["base", *its] if its else list(dict.fromkeys(setup.default_modes(modes, languages)))


def wanted(values: Mapping[str, str | None], currency: str, python: bool) -> Wanted:
    """What the fields under "Prices and more" say. Raises CounterpointError that names every one that cannot be."""
    found, wrong = setup.numbers(values, tuple(NUMBERS), prefix="measure_set_")
    for name, value in found.items():
        if not 0 <= value <= NUMBERS.get(name, value):
            kind = "measure_range" if name in NUMBERS else "measure_negative"
            wrong.append(say(kind, field=say(f"measure_set_{name}"), most=f"{NUMBERS.get(name, 0):,}"))
    if wrong:
        raise CounterpointError(" ".join(wrong))
    numbers = {name: found.pop(name) for name in NUMBERS if name in found}
    try:
        prices = Prices(**found, **({"currency": currency.strip()} if currency.strip() else {}))  # type: ignore[arg-type]
    except ValidationError as error:
        raise CounterpointError(say("measure_prices", told=joined(sentences(error)))) from None
    return Wanted(prices=prices, python=python, **{name: int(value) for name, value in numbers.items()})


def refuse_what_cannot_be(suites: Suites, wanted: Wanted, public: bool) -> None:
    """Raises CounterpointError for checks that need what was not given; says where on the page to give it."""
    needs = set().union(*(suite.needs for suite in suites))
    if "python" in needs and public:
        raise CounterpointError(say("measure_python_public"))
    if "python" in needs and not wanted.python:
        raise CounterpointError(say("measure_python_off"))
    if "cost" in needs and not wanted.prices.given:
        raise CounterpointError(say("measure_needs_prices"))


def as_slots(modes: Sequence[str]) -> list[Slot]:
    """Modes as they will be measured; whether they are there is not looked at."""
    return [Slot(id=f"{mode} #{place}", mode=mode) for place, mode in enumerate(modes)]


def sketch(suites: Suites, slots: Sequence[Slot], alone: int) -> Plan:
    """A plan that tells how much will be asked."""
    return Plan(date="", machine="", versions={}, suites=suites, slots=tuple(slots), alone=alone)


def _does(mode: str, suite: str) -> bool:
    """Whether a persona or an adapter, and not both, does the job that a suite is about."""
    persona, adapter = setup.persona_of(mode), setup.adapter_of(mode)
    alone = adapter if persona is None else persona if adapter is None else None
    return alone is not None and job(alone) == job(suite)


@functools.lru_cache(maxsize=16)
def _read(path: Path, modified: int, size: int) -> tuple[Suites, tuple[str, ...]]:
    return prepare.suites(path)


@functools.cache
def _title(path: Path) -> str:
    """As a suite that ships says it, without reading all of it: that takes a second."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return next((line.removeprefix("title: ") for line in lines if line.startswith("title: ")), path.stem)
