"""Ways to answer: which modes there are, what each is called, and whether it can be used."""

from __future__ import annotations

import builtins
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from adapters.passport import Passport
from adapters.store import AdapterStore
from backends.contract import Sampling, Status
from comparison.backends import Backends
from errors import CounterpointError, WorkFailed
from personas.schema import Persona
from personas.store import PersonaStore

Family = Literal["bare", "prompted", "tuned", "both"]
FAMILIES: tuple[Family, ...] = ("bare", "prompted", "tuned", "both")
BASE = "base"
DEFAULT_SAMPLING = Sampling(temperature=0.2, top_p=0.9, repetition_penalty=1.1)
"""For modes that recommend nothing: the temperature and top_p of SmolLM2's own model card, and a penalty,
because greedy small models repeat themselves for ever."""


_MODE = re.compile(
    r"(?:(?P<backend>[^/:+]+)/)?"
    r"(?:base|persona:(?P<only>[^+:]+)|adapter:(?P<adapter>(?:(?!\+(?:adapter|persona):).)+)(?:\+persona:(?P<persona>[^+:]+))?)"
)


@dataclass(frozen=True, slots=True)
class ModeId:
    """`base`, `persona:NAME`, `adapter:NAME` or `adapter:NAME+persona:NAME`, taken apart; `BACKEND/` before it
    where another backend than the main one answers. A server's adapters may have any name, "org/name" too."""

    adapter: str | None = None
    persona: str | None = None
    backend: str | None = None

    @classmethod
    def parse(cls, text: str) -> ModeId:
        """Raises CounterpointError for anything that is not a mode's id."""
        found = _MODE.fullmatch(text)
        if found is None:
            raise CounterpointError(
                f"{text!r} is not a mode: write base, persona:NAME, adapter:NAME or adapter:NAME+persona:NAME, "
                "with BACKEND/ before it for another backend."
            )
        return cls(found["adapter"], found["only"] or found["persona"], found["backend"])

    def __str__(self) -> str:
        pieces = [
            f"{kind}:{name}" for kind, name in (("adapter", self.adapter), ("persona", self.persona)) if name
        ]
        return (f"{self.backend}/" if self.backend else "") + ("+".join(pieces) or BASE)

    @property
    def family(self) -> Family:
        if self.adapter:
            return "both" if self.persona else "tuned"
        return "prompted" if self.persona else "bare"


@dataclass(frozen=True, slots=True)
class ModeInfo:
    """A mode as the pickers show it. `note` says why it is not usable, or what to know of it; `backend` which
    other backend than the main one answers."""

    id: str
    label: str
    family: Family
    usable: bool = True
    note: str | None = None
    language: str | None = None
    backend: str | None = None


def job(name: str) -> str:
    """What a persona or an adapter is for, told by the first word of its name: the persona support-desk and the
    adapter support do the same job, and order-clerk does that of orders."""
    return name.split("-")[0].removesuffix("s")


def _told_apart(modes: Iterable[ModeInfo]) -> list[ModeInfo]:
    """The modes, where several have one title each with its name behind it."""
    modes = list(modes)
    count = Counter(mode.label for mode in modes)
    return [
        replace(mode, label=f"{mode.label} ({mode.id.partition(':')[2]})") if count[mode.label] > 1 else mode
        for mode in modes
    ]


class Catalogue:
    """The modes that the personas, the adapters and the backends at hand make up."""

    def __init__(self, personas: PersonaStore, adapters: AdapterStore, backends: Backends | None = None):
        self.personas = personas
        self.adapters = adapters
        self.backends = backends or Backends()

    def list(self, timeout: float = 0) -> list[ModeInfo]:
        """The bare base, every persona, every adapter, and every adapter with every persona; then the same on
        every other backend. Servers are waited for at most `timeout` seconds."""
        prompted = _told_apart(
            ModeInfo(
                f"persona:{entry.name}",
                entry.persona.title if entry.persona else entry.name,
                "prompted",
                entry.persona is not None,
                entry.problem,
                entry.persona.language if entry.persona else None,
            )
            for entry in self.personas.list()
        )
        found = self._modes_of(self.backends.adapters(None, timeout), prompted)
        for name in self.backends.others:
            its_own = self.backends.adapters(name, timeout)
            status = self.backends.get(name).status()
            found += [_on(name, status, mode) for mode in self._modes_of(its_own, prompted)]
        return found

    def _modes_of(
        self, its_own: Sequence[str] | None, prompted: builtins.list[ModeInfo]
    ) -> builtins.list[ModeInfo]:
        """The modes of a backend with its own adapters, or with those of this machine."""
        if its_own is None:
            tuned = _told_apart(self._tuned())
        else:
            tuned = [ModeInfo(f"adapter:{name}", name, "tuned") for name in its_own]
        both = [
            ModeInfo(
                f"{adapter.id}+{persona.id}",
                f"{adapter.label} + {persona.label}",
                "both",
                adapter.usable and persona.usable,
                "; ".join(part.note for part in (adapter, persona) if not part.usable and part.note)
                or adapter.note
                or persona.note,
                persona.language,
            )
            for adapter in tuned
            for persona in prompted
        ]
        return [ModeInfo(BASE, "Bare base model", "bare"), *prompted, *tuned, *both]

    def _tuned(self) -> builtins.list[ModeInfo]:
        try:
            entries = self.adapters.list()
        except CounterpointError:
            # No base is known yet, so no adapter can be judged; the page says that it loads.
            return []
        return [
            ModeInfo(
                f"adapter:{entry.name}",
                entry.inspection.passport.title if entry.inspection.passport else entry.name,
                "tuned",
                entry.usable,
                "; ".join(entry.inspection.problems or entry.inspection.warnings) or None,
            )
            for entry in entries
        ]

    def check(self, mode: ModeId, timeout: float = 0) -> None:
        """Raises CounterpointError for a mode whose backend, persona or adapter is not there."""
        self.persona(mode)
        its_own = self.backends.adapters(mode.backend, timeout)
        if mode.adapter and its_own is None:
            self.adapters.source(mode.adapter)
        elif mode.adapter and mode.adapter not in (its_own or ()):
            backend = self.backends.get(mode.backend)
            if backend.base() is None:
                backend.status().refuse()
                raise WorkFailed(f"{backend.name} has not told yet which adapters it has: try again.")
            known = ", ".join((its_own or ())[:20]) or "none"
            raise CounterpointError(
                f"{mode.backend or 'The server'} has no adapter {mode.adapter[:80]}. It has: {known}."
            )

    def persona(self, mode: ModeId) -> Persona | None:
        """The mode's persona. Raises CounterpointError where there is none of that name."""
        return self.personas.get(mode.persona) if mode.persona else None

    def sampling(self, mode: ModeId, persona: Persona | None) -> Sampling:
        """How a mode samples unless told otherwise: as its persona says, else its adapter, else the default.

        A server's adapter goes by the one of that name here, so that both answer alike.
        """
        sampling = DEFAULT_SAMPLING
        if mode.adapter:
            passport = self.passport(mode)
            if passport is not None:
                sampling = replace(sampling, **passport.sampling.model_dump())
        return persona.sampling.over(sampling) if persona else sampling

    def passport(self, mode: ModeId) -> Passport | None:
        """What is known here of a mode's adapter; None for a server's own that has no namesake here."""
        try:
            return self.adapters.get(mode.adapter or "").inspection.passport
        except CounterpointError:
            if self.backends.adapters(mode.backend) is None:
                raise
            return None


def _on(name: str, status: Status, mode: ModeInfo) -> ModeInfo:
    """The mode as the backend of that name answers it."""
    down = status.state == "failed"
    return replace(
        mode,
        id=f"{name}/{mode.id}",
        backend=name,
        usable=mode.usable and not down,
        note=status.message if down else mode.note,
    )
