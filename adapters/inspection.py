"""What an inspection found, and the words and fields in which a person or a program is told."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from adapters.passport import Passport
from backends.contract import AdapterSource
from strict_json import clean

Scaling = Literal["alpha / r", "alpha / sqrt(r)"]


@dataclass(frozen=True, slots=True)
class Inspection:
    """An adapter's folder as it was found, before any library opened it.

    With `problems` it is unusable and `source` is None. `rank` is the largest of its modules' ranks,
    `targets` the kinds of modules it adapts ("q_proj"), `parameters` their count, `weight_bytes` the size of
    the weights' file. What could not be read is 0, empty or None.
    """

    name: str
    folder: Path
    problems: tuple[str, ...] = ()
    """One line each, that names the mend."""
    warnings: tuple[str, ...] = ()
    """One line each, for what a person should know and may accept."""
    base_proven: bool = False
    """True where the passport's sha256 is that of the base in memory."""
    base_named: str | None = None
    """What the adapter calls its base."""
    source: AdapterSource | None = None
    sha256: str | None = None
    rank: int = 0
    lora_alpha: float = 0.0
    scaling: Scaling = "alpha / r"
    targets: tuple[str, ...] = ()
    parameters: int = 0
    weight_bytes: int = 0
    passport: Passport | None = None

    @property
    def usable(self) -> bool:
        return self.source is not None and not self.problems


def gated(found: Inspection, accepted: bool) -> Inspection:
    """The inspection, where the adapter did not pass the test after its training: unusable unless a person accepted
    that, and then with a warning."""
    gate = found.passport.gate if found.passport else None
    if gate is None or gate.passed:
        return found
    told = f"did not pass the test after its training ({', '.join(gate.failed)})"
    if accepted:
        return replace(found, warnings=(f"{told}, and is used all the same.", *found.warnings))
    problem = f"{told}: train it anew, or say where you import it that it is to be used all the same."
    return replace(found, problems=(problem, *found.problems), source=None)


def describe(inspection: Inspection) -> list[str]:
    """The lines that a person reads in a terminal; the problems are told apart."""
    state = "usable" if inspection.usable else "not usable"
    if inspection.usable and not inspection.base_proven:
        state = "usable, base not proven"
    lines = [f"{inspection.name}: {state}"]
    lines += [f"  warning: {warning}" for warning in inspection.warnings]
    if inspection.rank and inspection.lora_alpha:
        lines.append(
            f"  LoRA of rank {inspection.rank}, alpha {inspection.lora_alpha:g} ({inspection.scaling}), "
            f"on {', '.join(inspection.targets)}"
        )
        lines.append(f"  {inspection.parameters:,} parameters, {inspection.weight_bytes / 1e6:.2f} MB")
    if inspection.base_named:
        lines.append(
            f"  base: {clean(inspection.base_named)}" + (" (proven)" if inspection.base_proven else "")
        )
    if inspection.sha256:
        lines.append(f"  sha256: {inspection.sha256}")
    if passport := inspection.passport:
        lines.append(f"  {clean(passport.title)}: {clean(passport.description)}")
        for family, score in passport.scores.items():
            lines.append(f"  held out, {family}: {score.passed} of {score.n} ({score.share:.0%})")
    return lines


def as_dict(inspection: Inspection) -> dict[str, Any]:
    """The same for --json: only what JSON can hold."""
    passport = inspection.passport
    return {
        "name": inspection.name,
        "folder": str(inspection.folder),
        "usable": inspection.usable,
        "problems": list(inspection.problems),
        "warnings": list(inspection.warnings),
        "base": inspection.base_named,
        "base_proven": inspection.base_proven,
        "sha256": inspection.sha256,
        "rank": inspection.rank,
        "lora_alpha": inspection.lora_alpha,
        "scaling": inspection.scaling,
        "targets": list(inspection.targets),
        "parameters": inspection.parameters,
        "weight_bytes": inspection.weight_bytes,
        "passport": passport.model_dump(mode="json") if passport else None,
    }
