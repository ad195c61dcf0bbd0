"""From a suite's file and some modes' ids to a plan: all that can be wrong is told before anything is asked."""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from comparison.measure.embedding import MODEL
from comparison.measure.plan import Made, Plan, Prices, Slot
from comparison.measure.suite import Suite, read, read_any
from comparison.modes import Catalogue, ModeId
from errors import CounterpointError
from strict_yaml import joined

LIBRARY = Path(__file__).with_name("library")
"""The suites that ship."""
_ROOMS = ("adapters", "api", "backends", "comparison", "logbook", "personas", "ui")
"""Where our own code lies, beside the top."""
_LIBRARIES = (
    "torch",
    "transformers",
    "sentence-transformers",
    "scipy",
    "statsmodels",
    "sacrebleu",
    "rouge-score",
    "vaderSentiment",
    "bitsandbytes",
    "peft",
)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a person asks for beside suite and modes. `alone` are the questions of each mode that are timed alone."""

    seed: int = 0
    prices: Prices = field(default_factory=Prices)
    python: bool = False
    alone: int = 12


def shipped() -> dict[str, Path]:
    """The suites that ship, by name."""
    return {path.stem: path for path in sorted(LIBRARY.glob("*.yaml"))}


def find(named: str | Path) -> Path:
    """A suite's file: a path, or the name of one that ships. Raises CounterpointError where there is neither."""
    path = Path(named)
    if path.is_file():
        return path
    library = shipped()
    if str(named) in library:
        return library[str(named)]
    raise CounterpointError(
        f"{named}: there is no such suite: give a file, or one that ships ({', '.join(library)})."
    )


def suites(path: Path) -> tuple[tuple[Suite, ...], tuple[str, ...]]:
    """The suite in a file with those that go along, and what of a promptfoo configuration did not come along."""
    main, left = read_any(path)
    along = []
    for name in main.along:
        beside = path.parent / name
        if not beside.resolve().is_relative_to(path.parent.resolve()):
            raise CounterpointError(
                f"{path.name}: along: {name} lies outside of the suite's folder: copy it there, or name a suite that ships."
            )
        along.append(read(beside if beside.is_file() else find(name)))
    return (main, *along), left


def plan(
    suites: Sequence[Suite], modes: Sequence[str], catalogue: Catalogue, wanted: Wanted, timeout: float
) -> Plan:
    """Raises CounterpointError with all that keeps the modes from being measured by the suites; servers are waited for
    `timeout` seconds at most."""
    return of_slots(suites, slots(modes, catalogue, timeout), wanted)


def of_slots(suites: Sequence[Suite], slots: Sequence[Slot], wanted: Wanted) -> Plan:
    """A plan of modes that have been checked, or of variants."""
    needs = set().union(*(suite.needs for suite in suites))
    if "python" in needs and not wanted.python:
        raise CounterpointError(
            f"{suites[0].name} has python checks, which run code of the suite's on this machine: where you trust it, "
            "turn them on with --python."
        )
    if "cost" in needs and not wanted.prices.given:
        raise CounterpointError(
            f"{suites[0].name} has cost checks: say what you pay by --machine-hour-price, or by the token."
        )
    for name, value, most in (("--alone", wanted.alone, 1_000), ("--seed", wanted.seed, 2**31 - 1)):
        if not 0 <= value <= most:
            raise CounterpointError(f"{name} {value}: give a number from 0 to {most:,}.")
    twice = [name for name, count in Counter(suite.name for suite in suites).items() if count > 1]
    if twice:
        raise CounterpointError(f"{suites[0].name}: two suites are named {twice[0]}: rename one.")
    return Plan(
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        machine=machine(),
        versions=_versions(),
        suites=tuple(suites),
        slots=tuple(slots),
        seed=wanted.seed,
        prices=wanted.prices,
        python=wanted.python,
        alone=wanted.alone,
    )


def slots(modes: Sequence[str], catalogue: Catalogue, timeout: float) -> list[Slot]:
    """A slot for each mode, in the order given; one that is there again is an A/B of it against itself."""
    found: list[Slot] = []
    problems: list[str] = []
    times: Counter[str] = Counter()
    labels = {mode.id: mode.label for mode in catalogue.list(timeout)}
    for named in modes:
        try:
            mode = ModeId.parse(named)
            catalogue.check(mode, timeout)
        except CounterpointError as error:
            problems.append(str(error).removesuffix("."))
            continue
        told = str(mode)
        times[told] += 1
        again = f" #{times[told]}" if times[told] > 1 else ""
        label = labels.get(told, told) + again
        found.append(Slot(id=told + again, mode=told, label=label, made=_made(mode, catalogue)))
    if problems:
        raise CounterpointError(f"{joined(list(dict.fromkeys(problems)))}.")
    if not found:
        raise CounterpointError("There is no mode to measure: name at least one with --mode.")
    return found


def _made(mode: ModeId, catalogue: Catalogue) -> Made | None:
    """What an adapter's passport says of its training; None for one without."""
    passport = catalogue.passport(mode) if mode.adapter else None
    if passport is None:
        return None
    training = passport.training
    return Made(
        rows=passport.train.rows,
        steps=training.steps,
        seconds=training.seconds,
        tested_s=passport.gate.seconds if passport.gate else None,
        device=training.device,
        dtype=training.dtype,
        sha256=passport.adapter_sha256,
    )


def machine() -> str:
    """Processor, cores and memory, to be named beside every figure."""
    import psutil

    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        named = [line for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        model = named[0].split(":", 1)[1].strip() if named else model
    memory = psutil.virtual_memory().total / 1024**3
    return f"{model}, {os.cpu_count()} cores, {memory:.0f} GiB, {_gpu()}"


def _gpu() -> str:
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"


def _own_version() -> str:
    """The commit that is checked out, and whether files differ from it; without one, a hash of the code itself."""
    root = Path(__file__).parents[2]
    try:
        asked = ["git", "-C", str(root), "describe", "--always", "--abbrev=12", "--dirty= and changed files"]
        told = subprocess.run(asked, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
        if (root / ".git").exists() and told:
            return f"commit {told}"
    except (OSError, subprocess.SubprocessError):
        pass  # no git, or no checkout of it
    code = hashlib.sha256()
    for room in (root.glob("*.py"), *(root.glob(f"{name}/**/*.py") for name in _ROOMS)):
        for path in sorted(room):
            code.update(path.read_bytes())
    return f"code sha256 {code.hexdigest()[:12]}"


def _versions() -> dict[str, str]:
    found = {"counterpoint": _own_version(), "python": platform.python_version()}
    found[MODEL.id] = f"{MODEL.requirement}, sha256 {next(iter(MODEL.files.values()))}"
    for name in _LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
