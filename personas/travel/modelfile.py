"""Ollama's Modelfiles (docs/modelfile.md and parser/parser.go of github.com/ollama/ollama): text and back.

SYSTEM and MESSAGE become the persona, PARAMETER its sampling. What is about the weights stays behind.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any

from backends.contract import Sampling
from errors import CounterpointError
from personas.render import render
from personas.schema import Persona, PersonaSampling
from personas.travel.modelfile_syntax import Instruction, check, instructions, line
from personas.travel.parcel import (
    CHANGED,
    KEPT,
    OWN,
    Arrival,
    Parcel,
    arrived,
    decoded,
    is_unedited,
    origin_of,
    packed,
    shown,
    slug,
    unix,
    unpacked,
    unsaid,
    with_origin,
)
from strict_json import parse, show

DEFAULT_BASE = "smollm2:135m"
"""Ollama's name for the embedded base."""
DEFAULT_ROLE = "You are a helpful assistant."
DEFAULT_INSTRUCTION = "Keep to your role in every answer."
MAX_ROLE, MAX_EXAMPLES, MAX_EXAMPLE_CHARS = 8_000, 32, 8_000
PARAMETERS = {
    "temperature": "temperature",
    "top_p": "top_p",
    "top_k": "top_k",
    "min_p": "min_p",
    "repeat_penalty": "repetition_penalty",
    "num_predict": "max_tokens",
}
"""Ollama's name for each of our sampling fields; `stop` is a list, and a persona has no seed."""
_WHOLE = ("top_k", "num_predict")
_SPOKEN = ("system", "message", "parameter")
_KEPT = ("from", "adapter", *_SPOKEN)


def read(raw: bytes, source: str, name: str | None = None) -> Arrival:
    """The persona of a Modelfile. Raises CounterpointError with all that is wrong, each with its line."""
    found, comments = instructions(decoded(raw, source), source)
    check(found, source)
    left = []
    for comment in comments:
        if comment.startswith(f"{OWN}: "):
            ours = _unpacked(comment.removeprefix(f"{OWN}: "), name)
            if ours and _plain(_spoken(ours)) == _plain(_mapped(found)):
                return _home(ours, found)
            left.append(CHANGED)
    return _foreign(found, source, name).after(left)


def write(persona: Persona, base: str | None = None, adapter: str | None = None) -> Parcel:
    """The persona as a Modelfile for `base` (by default what its own Modelfile named, else the embedded one).

    Raises CounterpointError for a text that Ollama's syntax cannot hold.
    """
    came = _came(persona)
    rest = [each for each in came if each.kind == "parameter" and not _samples(each)]
    unedited = came and is_unedited(persona, lambda: _foreign(came, "Modelfile", persona.name))
    spoken = [each for each in came if each.kind in _SPOKEN] if unedited else [*_spoken(persona), *rest]
    weights = [
        Instruction(0, kind, "", value)
        for kind, value in (("from", base or _value(came, "from") or DEFAULT_BASE), ("adapter", adapter))
        if value
    ]
    if not adapter:
        weights += [each for each in came if each.kind == "adapter"]
    lines = [f"# {persona.title}", *(line(each, persona.name) for each in [*weights, *spoken])]
    left: list[str] = []
    if not unedited:
        packet = json.dumps(packed(persona), ensure_ascii=False)
        lines.append(f"# {OWN}: {packet}")
        left = unsaid(
            persona, "modelfile", "description", "tags", "greeting", "questions", "language", "steps"
        )
    return Parcel(("\n".join(lines) + "\n").encode(), tuple(left))


def with_adapter(
    name: str, persona: Persona | None, base: str, adapter: str, sampling: Mapping[str, Any]
) -> Parcel:
    """A Modelfile for `base` with `adapter`, whose name is `name`, and with a persona where there is one.

    `sampling` is what the adapter's passport recommends; the persona's own goes before it, as in Counterpoint.
    Raises CounterpointError for a text that Ollama's syntax cannot hold.
    """
    if persona:
        own = persona.sampling.model_dump(exclude_none=True)
        sampled = PersonaSampling(**{**sampling, **own})
        return write(persona.model_copy(update={"sampling": sampled}), base, adapter)
    weights = [Instruction(0, "from", "", base), Instruction(0, "adapter", "", adapter)]
    lines = [line(each, name) for each in [*weights, *_parameters(PersonaSampling(**sampling))]]
    return Parcel(("\n".join([f"# {name}", *lines]) + "\n").encode())


def _spoken(persona: Persona) -> list[Instruction]:
    """What a persona tells the model and how it samples, its variables filled with their defaults."""
    system, *turns, _ = render(persona, "")
    said = [Instruction(0, "message", turn["role"], unix(turn["content"])) for turn in turns]
    return [Instruction(0, "system", "", unix(system["content"])), *_parameters(persona.sampling), *said]


def _parameters(sampling: PersonaSampling) -> list[Instruction]:
    found = [
        Instruction(0, "parameter", name, str(value))
        for name, field in PARAMETERS.items()
        if (value := getattr(sampling, field)) is not None
    ]
    return found + [Instruction(0, "parameter", "stop", unix(text)) for text in sampling.stop or ()]


def _home(ours: Persona, found: list[Instruction]) -> Arrival:
    """The persona that came along in a comment; other parameters than ours are kept for another export."""
    notes = _weights(found)
    if len(_mapped(found)) < sum(each.kind in _SPOKEN for each in found):
        ours, lost = with_origin(ours, "modelfile", _kept(found))
        notes += lost
    return Arrival(ours, ("all that Counterpoint wrote into the file",), tuple(notes))


def _mapped(found: list[Instruction]) -> list[Instruction]:
    """What a persona says: messages, and the parameters that its sampling has."""
    ours = ("system", "message")
    return [each for each in found if each.kind in ours or _samples(each)]


def _samples(instruction: Instruction) -> bool:
    return instruction.kind == "parameter" and instruction.key in (*PARAMETERS, "stop")


def _kept(found: list[Instruction]) -> dict[str, Any]:
    """What an origin keeps: base and adapter, then all that a persona or a parameter is made of."""
    kept = sorted((each for each in found if each.kind in _KEPT), key=lambda each: each.kind in _SPOKEN)
    return {"instructions": [list(each[1:]) for each in kept]}


def _foreign(found: list[Instruction], source: str, name: str | None) -> Arrival:
    system = "\n\n".join(
        text
        for text in [
            _value(found, "system"),
            *(each.value.strip() for each in found if each.kind == "message" and each.key == "system"),
        ]
        if text
    )
    examples, rest = _examples([each for each in found if each.kind == "message" and each.key != "system"])
    if not system and not examples and not rest:
        raise CounterpointError(
            f"{source} has neither SYSTEM nor MESSAGE: there is nothing to make a persona of."
        )
    fits = len(system) <= MAX_ROLE
    sampling, sampled, left = _sampling(found, source)
    name = name or slug(source.partition(".")[0])
    content = {
        "name": name,
        "title": name.replace("-", " ").capitalize(),
        "description": f"From an Ollama Modelfile for {show(_value(found, 'from')).strip(chr(39))}.",
        "role": system if system and fits else DEFAULT_ROLE,
        "instructions": [DEFAULT_INSTRUCTION],
        "context": "\n\n".join(part for part in ("" if fits else system, rest) if part),
        "examples": examples,
        "sampling": sampling,
    }
    carried = [
        f"{what} → {where}"
        for what, where, there in (
            ("SYSTEM", "role" if fits else "context", system),
            ("MESSAGE", shown(len(examples), rest), examples or rest),
            (f"PARAMETER {', '.join(sampled)}", "sampling", sampled),
        )
        if there
    ]
    left.append(f"the instruction “{DEFAULT_INSTRUCTION}” was added: a persona needs one")
    left += _weights(found)
    return arrived(content, source, ("modelfile", _kept(found)), carried, left)


def _examples(messages: list[Instruction]) -> tuple[list[dict[str, str]], str]:
    """Questions with their answers, and the other messages as text."""
    examples: list[dict[str, str]] = []
    rest = []
    place = 0
    while place < len(messages):
        pair = messages[place : place + 2]
        texts = [each.value.strip() for each in pair]
        fits = all(0 < len(text) <= MAX_EXAMPLE_CHARS for text in texts) and len(examples) < MAX_EXAMPLES
        if [each.key for each in pair] == ["user", "assistant"] and fits:
            examples.append(dict(zip(("user", "assistant"), texts, strict=True)))
            place += 2
            continue
        if texts[0]:
            rest.append(f"{pair[0].key}: {texts[0]}")
        place += 1
    return examples, "\n".join(rest)


def _sampling(found: list[Instruction], source: str) -> tuple[dict[str, Any], list[str], list[str]]:
    """The persona's sampling, what it came from and what did not come along. Raises for what is no number."""
    sampling: dict[str, Any] = {}
    left, problems = [], []
    stops = []
    for each in (each for each in found if each.kind == "parameter"):
        if each.key == "stop":
            stops.append(each.value)
        elif each.key == "seed":
            left.append(f"PARAMETER seed {show(each.value)}: a seed is chosen where a question is asked")
        elif each.key not in PARAMETERS:
            left.append(f"PARAMETER {each.key}: not part of a persona's sampling{KEPT} to a Modelfile")
        else:
            field = PARAMETERS[each.key]
            try:
                number = int(each.value[:40]) if each.key in _WHOLE else float(each.value)
                if not math.isfinite(number):
                    raise ValueError
            except ValueError:
                kind = "whole number" if each.key in _WHOLE else "number"
                problems.append(
                    f"{source}:{each.number}: PARAMETER {each.key}: {show(each.value)} is no {kind}"
                )
                continue
            try:
                Sampling(**{field: number})  # type: ignore[arg-type]
            except CounterpointError as error:
                left.append(
                    f"PARAMETER {each.key}: {str(error).removeprefix('Sampling: ').removesuffix('.')}"
                )
            else:
                sampling[field] = number
    if problems:
        raise CounterpointError("; ".join(problems))
    short = [text for text in dict.fromkeys(stops) if 0 < len(text) <= 200][:16]
    if len(short) < len(set(stops)):
        left.append("PARAMETER stop: at most 16 texts of 1 to 200 characters; the others were left out")
    if short:
        sampling["stop"] = tuple(short)
    used = [name for name, field in PARAMETERS.items() if field in sampling]
    return sampling, [*used, *(["stop"] if short else [])], left


def _weights(found: list[Instruction]) -> list[str]:
    """Notes of the instructions that are about the weights, or about one program."""
    why = {
        "from": f"the base is chosen here{KEPT} to a Modelfile",
        "adapter": f"import it on its own as an adapter{KEPT} to a Modelfile",
        "template": "the chat template is the base's own; left out",
        "license": "is about the weights; left out",
    }
    notes = []
    for kind in dict.fromkeys(each.kind for each in found if each.kind not in _SPOKEN):
        value = f" {show(_value(found, kind))}" if kind in ("from", "adapter") else ""
        notes.append(f"{kind.upper()}{value}: {why.get(kind, 'is for Ollama alone; left out')}")
    return notes


def _value(found: list[Instruction], kind: str) -> str:
    """The value of an instruction that counts once; Ollama takes the last."""
    return next((each.value.strip() for each in reversed(found) if each.kind == kind), "")


def _plain(found: Any) -> list[tuple[str, str, str]]:
    return [(each.kind, each.key, each.value) for each in found]


def _unpacked(comment: str, name: str | None) -> Persona | None:
    try:
        return unpacked(parse(comment.encode()), name)
    except ValueError:
        return None


def _came(persona: Persona) -> list[Instruction]:
    """The instructions that the persona's own Modelfile had; none where it has none, or a hand has broken it."""
    kept = (origin_of(persona, "modelfile") or {}).get("instructions")
    if not isinstance(kept, list):
        return []
    whole = [each for each in kept if isinstance(each, list) and [type(part) for part in each] == [str] * 3]
    # A key stands unquoted in its line: it must not bring lines of its own.
    return [Instruction(0, *each) for each in whole if each[0] in _KEPT and re.fullmatch(r"\w*", each[1])]
