"""Ways to answer: which modes there are, what each is called, and whether it can be used."""

from __future__ import annotations

import builtins
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

from adapters.store import AdapterStore
from backends.contract import Sampling
from errors import CounterpointError
from personas.schema import Persona
from personas.store import PersonaStore

Family = Literal["bare", "prompted", "tuned", "both"]
BASE = "base"
DEFAULT_SAMPLING = Sampling(temperature=0.2, top_p=0.9, repetition_penalty=1.1)
"""For modes that recommend nothing: the temperature and top_p of SmolLM2's own model card, and a penalty,
because greedy small models repeat themselves for ever."""


@dataclass(frozen=True, slots=True)
class ModeId:
    """`base`, `persona:NAME`, `adapter:NAME` or `adapter:NAME+persona:NAME`, taken apart."""

    adapter: str | None = None
    persona: str | None = None

    @classmethod
    def parse(cls, text: str) -> ModeId:
        """Raises CounterpointError for anything that is not a mode's id."""
        if text == BASE:
            return cls()
        found: dict[str, str] = {}
        kinds = []
        for piece in text.split("+"):
            kind, colon, name = piece.partition(":")
            kinds.append(kind)
            found[kind] = name
            if not colon or not name:
                kinds.append("?")
        if kinds not in (["persona"], ["adapter"], ["adapter", "persona"]):
            raise CounterpointError(
                f"{text!r} is not a mode: write base, persona:NAME, adapter:NAME or adapter:NAME+persona:NAME."
            )
        return cls(found.get("adapter"), found.get("persona"))

    def __str__(self) -> str:
        pieces = [
            f"{kind}:{name}" for kind, name in (("adapter", self.adapter), ("persona", self.persona)) if name
        ]
        return "+".join(pieces) or BASE

    @property
    def family(self) -> Family:
        if self.adapter:
            return "both" if self.persona else "tuned"
        return "prompted" if self.persona else "bare"


@dataclass(frozen=True, slots=True)
class ModeInfo:
    """A mode as the pickers show it. `note` says why it is not usable, or what to know of it."""

    id: str
    label: str
    family: Family
    usable: bool = True
    note: str | None = None
    language: str | None = None


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
    """The modes that the personas and adapters at hand make up."""

    def __init__(self, personas: PersonaStore, adapters: AdapterStore):
        self.personas = personas
        self.adapters = adapters

    def list(self) -> list[ModeInfo]:
        """The bare base, every persona, every adapter, and every adapter with every persona in its language."""
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
        tuned = _told_apart(self._tuned())
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

    def persona(self, mode: ModeId) -> Persona | None:
        """The mode's persona. Raises CounterpointError where there is none of that name."""
        return self.personas.get(mode.persona) if mode.persona else None

    def sampling(self, mode: ModeId, persona: Persona | None) -> Sampling:
        """How a mode samples unless told otherwise: as its persona says, else its adapter, else the default."""
        sampling = DEFAULT_SAMPLING
        if mode.adapter:
            passport = self.adapters.get(mode.adapter).inspection.passport
            if passport is not None:
                sampling = replace(sampling, **passport.sampling.model_dump())
        return persona.sampling.over(sampling) if persona else sampling
