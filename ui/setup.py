"""What stands on the page before anyone asks: modes, examples, variables, and what its fields say."""

from __future__ import annotations

import math
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass

from backends.contract import Sampling
from comparison.modes import BASE, FAMILIES, ModeId, ModeInfo, job
from errors import CounterpointError
from personas.schema import Persona
from personas.store import PersonaStore
from ui.words import say

MIN_PANES = 2
MAX_STRENGTH = 2.0
"""Of an adapter, as its slider goes; the comparison takes more."""

MAX_TYPED_CHARS = 1_000_000
"""Where a text box cuts off: far above what can be asked, so that too much is told and not cut in silence."""
SHOWCASE = "gazette"
"""The job of the first screen, where there is a persona and an adapter for it: all four ways answer it differently."""

MAX_EXAMPLES = 6
LANGUAGE_NAMES = {
    "de": "German",
    "en": "English",
    "es": "Spanish",
    "fr": "French",
    "it": "Italian",
    "nl": "Dutch",
    "pt": "Portuguese",
}
SAMPLING = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty", "max_tokens", "seed")
"""The sampling fields, in the order in which they stand on the page."""
WHOLE = ("top_k", "max_tokens", "seed")


@dataclass(frozen=True, slots=True)
class Example:
    """A question that fits the modes beside it."""

    question: str
    modes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class VariableRow:
    """A variable of a persona that is on the page."""

    persona: str
    name: str
    description: str
    default: str
    choices: tuple[str, ...]


def choices(modes: Sequence[ModeInfo]) -> list[tuple[str, str]]:
    """(label, id) for a mode picker: by family, in each what other backends answer after what the main one does;
    what cannot be used comes last.

    Gradio shows the first 100 and the rest to who types: families go first, so that what is cut off is but some of
    the many pairs of an adapter and a persona.
    """

    def rank(mode: ModeInfo) -> tuple[bool, int, bool]:
        return (not mode.usable, FAMILIES.index(mode.family), mode.backend is not None)

    return [(mode_title(mode), mode.id) for mode in sorted(modes, key=rank)]


def known_ids(modes: Sequence[ModeInfo]) -> tuple[str, ...]:
    """What a tab keeps of the modes that it knows, to notice that others came or went: the ids of the usable ones,
    and of the others with a mark."""
    return tuple(mode.id if mode.usable else f"!{mode.id}" for mode in modes)


def mode_title(mode: ModeInfo) -> str:
    """For example "Tuned · Support", or "Tuned on gpu · support"; the bare base needs no second half."""
    family = say("family_" + mode.family)
    if mode.backend:
        family = say("on_backend", family=family, backend=mode.backend)
    title = family if mode.family == "bare" else f"{family} · {mode.label}"
    return title if mode.usable else f"{title} ({say('unusable')})"


def counterparts(modes: Sequence[ModeInfo]) -> list[tuple[str, str, str]]:
    """(prompted, tuned, both) of every job that has all three, the showcase first.

    Of several adapters for a job the shortest name wins.
    """
    usable = {mode.id for mode in modes if mode.usable and not mode.backend}
    found: dict[str, tuple[str, str, str]] = {}
    for both in sorted(usable, key=lambda mode: (len(mode), mode)):
        persona, adapter = persona_of(both), adapter_of(both)
        if persona and adapter and job(persona) == job(adapter):
            three = (f"persona:{persona}", f"adapter:{adapter}", both)
            if usable.issuperset(three):
                found.setdefault(persona, three)
    return sorted(
        found.values(), key=lambda three: (job(three[1].removeprefix("adapter:")) != SHOWCASE, three)
    )


def default_modes(modes: Sequence[ModeInfo], languages: Sequence[str] = (), count: int = 4) -> list[str]:
    """One job done in the four ways, or else one usable mode of each family, the showcase's if it is there."""
    usable = [
        mode
        for mode in modes
        if mode.usable and not mode.backend and not language_note(mode.language, languages)
    ]
    jobs = counterparts(modes)
    chosen = ["base", *(jobs[0] if jobs else ())]
    for family in FAMILIES:
        of_family = [mode.id for mode in usable if mode.family == family]
        if of_family and not set(of_family) & set(chosen):
            chosen.append(min(of_family, key=lambda mode: job(mode.split(":")[1]) != SHOWCASE))
    chosen += ["base"] * (MIN_PANES - len(chosen))
    return chosen[:count]


def next_mode(modes: Sequence[ModeInfo], taken: Sequence[str | None], languages: Sequence[str] = ()) -> str:
    """What a further pane answers as: a usable mode of the catalogue that is not taken, the plainest first."""
    free = [
        mode
        for mode in modes
        if mode.usable
        and not mode.backend
        and mode.id not in taken
        and not language_note(mode.language, languages)
    ]
    return min(free, key=lambda mode: FAMILIES.index(mode.family)).id if free else BASE


def chat_mode(modes: Sequence[ModeInfo]) -> str:
    """The mode that the Chat tab opens with: the tuned one of the showcase, else the base."""
    jobs = counterparts(modes)
    return jobs[0][1] if jobs else "base"


def examples(
    modes: Sequence[ModeInfo], personas: PersonaStore, languages: Sequence[str] = ()
) -> list[Example]:
    """Questions that the personas say they are good at, each with the modes that do that job.

    Jobs with an adapter come first: their question shows all four ways.
    """
    usable = {mode.id for mode in modes if mode.usable and not language_note(mode.language, languages)}
    questions = {
        f"persona:{entry.name}": entry.persona.questions
        for entry in personas.list()
        if entry.persona and entry.persona.questions
    }
    jobs = [three for three in counterparts(modes) if three[0] in questions]
    found = [Example(questions[three[0]][0], ("base", *three)) for three in jobs]
    alone = [mode for mode in questions if mode in usable and mode not in {three[0] for three in jobs}]
    found += [Example(questions[mode][0], ("base", mode)) for mode in alone]
    unique: dict[str, Example] = {}
    for example in found:
        unique.setdefault(example.question, example)  # a copy of a persona asks what the persona does
    return list(unique.values())[:MAX_EXAMPLES]


def language_note(language: str | None, languages: Sequence[str]) -> str | None:
    """What to say of a persona in a language that the base is not known to speak; None where all is well."""
    if not language or not languages:
        return None
    spoken = {each.split("-")[0] for each in languages}
    short = language.split("-")[0]
    return None if short in spoken else say("needs_language", language=LANGUAGE_NAMES.get(short, language))


def variables_in_use(
    modes: Sequence[str], personas: PersonaStore, drafts: Mapping[str, Persona]
) -> list[VariableRow]:
    """The variables of every persona in these modes, each once; a draft's own in place of the stored ones."""
    stored = {entry.name: entry.persona for entry in personas.list()}
    names = dict.fromkeys(name for mode in modes if (name := persona_of(mode)))
    rows = []
    for name in names:
        persona = drafts.get(name) or stored.get(name)
        if persona:
            rows += [
                VariableRow(name, key, variable.description, variable.default, tuple(variable.choices))
                for key, variable in persona.variables.items()
            ]
    return rows


def persona_of(mode: str) -> str | None:
    """The persona's name in a mode id, if it is one and has one."""
    parsed = _parsed(mode)
    return parsed.persona if parsed else None


def adapter_of(mode: str) -> str | None:
    """The adapter's name in a mode id, if it is one and has one."""
    parsed = _parsed(mode)
    return parsed.adapter if parsed else None


def server_of(mode: str) -> str | None:
    """The name of the other backend that answers, where the mode id names one."""
    parsed = _parsed(mode)
    return parsed.backend if parsed else None


def has_strength(mode: str) -> bool:
    """Whether the mode's adapter can be made stronger or weaker: servers have theirs as trained."""
    return bool(adapter_of(mode)) and not server_of(mode)


def _parsed(mode: str) -> ModeId | None:
    try:
        return ModeId.parse(mode)
    except CounterpointError:
        return None


def sampling(values: Mapping[str, str | None]) -> dict[str, float | int]:
    """Only what a person set: an empty field stays as each mode says.

    Raises CounterpointError that names every field that holds no number.
    """
    found, wrong = numbers(values, WHOLE)
    try:
        Sampling(**found)  # type: ignore[arg-type]
    except CounterpointError as error:
        wrong.append(str(error))
    if wrong:
        raise CounterpointError(" ".join(wrong))
    return found


def numbers(
    values: Mapping[str, str | None], whole: Container[str] = (), prefix: str = ""
) -> tuple[dict[str, float | int], list[str]]:
    """The numbers in the fields that are not empty, and a sentence on each that holds none; `whole` names those that
    must be whole, and `prefix` stands before a field's name in its key among the words."""
    found: dict[str, float | int] = {}
    wrong = []
    for name, text in values.items():
        text = (text or "").strip().replace(",", ".")
        if not text:
            continue
        try:
            found[name] = int(text) if name in whole else float(text)
            if not math.isfinite(found[name]):
                raise ValueError(text)
        except ValueError:
            kind = "whole_number" if name in whole else "number"
            wrong.append(say(kind, field=say(prefix + name), text=text[:20]))
    return found, wrong
