"""Prompt tuning: variants of one persona, ranked by a suite, and the best of them as a persona again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import Annotated, NamedTuple

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from adapters.verdict import Figure
from comparison.measure.plan import Plan, Slot
from comparison.measure.results import Results
from comparison.modes import ModeId
from errors import CounterpointError
from personas.render import variable_values
from personas.schema import Persona, Slug, placeholders
from strict_yaml import joined, load, sentences

MAX_VARIANTS = 48
RIGHT = "customisation/all"


def _tupled(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


class Grid(BaseModel):
    """What is varied of a persona, every combination of it: `variables` by their values, `instructions` by their numbers
    from 1, each of which is there or not, and how many `examples` there are, the first ones. `adapter` is one under it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    persona: Slug
    adapter: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    variables: dict[
        str,
        Annotated[tuple[str, ...], BeforeValidator(_tupled), Field(min_length=1, max_length=MAX_VARIANTS)],
    ] = Field(default_factory=dict)
    instructions: Annotated[
        tuple[Annotated[int, Field(ge=1)], ...], BeforeValidator(_tupled), Field(max_length=6)
    ] = ()
    examples: Annotated[
        tuple[Annotated[int, Field(ge=0)], ...], BeforeValidator(_tupled), Field(max_length=33)
    ] = ()


class _Variant(NamedTuple):
    variables: dict[str, str]
    without: tuple[int, ...]
    examples: int

    def told(self, persona: Persona, grid: Grid) -> str:
        """What is special about it, for its id."""
        parts = [f"{name}={value}" for name, value in self.variables.items() if name in grid.variables]
        parts += [f"without instruction {number}" for number in self.without]
        if grid.examples:
            parts.append("1 example" if self.examples == 1 else f"{self.examples} examples")
        return ", ".join(parts) or "as it is"


def read_grid(path: Path) -> Grid:
    """Raises CounterpointError with every problem and its line."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise CounterpointError(f"{path}: the variants cannot be read ({error}): give a YAML file.") from None
    return load(text, path.name, Grid)


def slots(persona: Persona, grid: Grid) -> list[Slot]:
    """A slot for each combination, the persona as it is first where it is one of them. Raises CounterpointError for what
    the persona does not have, or too many combinations."""
    problems = list(_problems(persona, grid))
    if problems:
        raise CounterpointError(f"variants of {persona.name}: {joined(problems)}.")
    names = list(grid.variables)
    without = [
        tuple(number for number, there in zip(grid.instructions, one, strict=True) if not there)
        for one in product((True, False), repeat=len(grid.instructions))
    ]
    examples = grid.examples or (len(persona.examples),)
    combined = [
        _Variant(dict(zip(names, values, strict=True)), left, count)
        for values in product(*grid.variables.values())
        for left in without
        for count in examples
        if len(left) < len(persona.instructions)
    ]
    if len(combined) > MAX_VARIANTS:
        raise CounterpointError(
            f"variants of {persona.name}: {len(combined)} combinations are too many to tell apart, at most "
            f"{MAX_VARIANTS}: vary less at once."
        )
    mode = str(ModeId(grid.adapter, persona.name))
    return [
        Slot(
            id=f"{mode} ({told})",
            mode=mode,
            label=f"{persona.title}: {told}",
            persona=made(persona, one.variables, one.without, one.examples),
        )
        for one in combined
        for told in [one.told(persona, grid)]
    ]


def made(persona: Persona, variables: dict[str, str], without: Sequence[int], examples: int) -> Persona:
    """The persona with other defaults, without these instructions (from 1), and with its first examples only."""
    instructions = tuple(
        one for number, one in enumerate(persona.instructions, start=1) if number not in without
    )
    content = persona.model_dump(exclude_defaults=True) | {
        "instructions": instructions,
        "examples": persona.examples[:examples],
        "variables": {
            name: variable.model_copy(update={"default": variables.get(name, variable.default)})
            for name, variable in persona.variables.items()
        },
    }
    # A variable that only a text named which is gone is none any more.
    told = Persona.model_construct(**{**dict(persona), **content})
    used = placeholders("\n".join(_texts(told)))
    content["variables"] = {
        name: each.model_dump() for name, each in content["variables"].items() if name in used
    }
    content["examples"] = [each.model_dump() for each in content["examples"]]
    return Persona.model_validate(content)


def ranked(found: Results, plan: Plan) -> list[tuple[str, Figure]]:
    """The variants with how much they got right, the best first, and of equals that with the shortest prompt. Raises
    CounterpointError where there are none, or nothing tells them apart."""
    row = found.row(RIGHT)
    varied = [slot.id for slot in plan.slots if slot.persona and row and slot.id in row.figures]
    if row is None or not varied:
        raise CounterpointError(
            "No variant can be ranked: measure some of a persona (--variants) by a suite with checks."
        )
    figures, prompts = row.figures, found.row("cost/prompt-tokens")

    def place(slot: str) -> tuple[float, float]:
        tokens = prompts.figures.get(slot) if prompts else None
        return -figures[slot].value, tokens.value if tokens else 0.0

    return [(slot, figures[slot]) for slot in sorted(varied, key=place)]


def winner(plan: Plan, slot_id: str, name: str) -> Persona:
    """A variant as a persona of this name. Raises CounterpointError where the slot is none, or the name cannot be."""
    slot = next((one for one in plan.slots if one.id == slot_id), None)
    if slot is None or slot.persona is None:
        variants = [one.id for one in plan.slots if one.persona]
        raise CounterpointError(f"{slot_id} is no variant: choose one of {', '.join(variants) or 'none'}.")
    try:
        return Persona.model_validate(slot.persona.model_dump(exclude_defaults=True) | {"name": name})
    except ValidationError as error:
        raise CounterpointError(f"{joined(sentences(error))}.") from None


def _problems(persona: Persona, grid: Grid) -> Iterator[str]:
    for number in grid.instructions:
        if number > len(persona.instructions):
            yield f"there is no instruction {number}: it has {len(persona.instructions)}"
    for count in grid.examples:
        if count > len(persona.examples):
            yield f"{count} examples are more than the {len(persona.examples)} that it has"
    for name, values in grid.variables.items():
        for value in values:
            try:
                variable_values(persona, {name: value})
            except CounterpointError as error:
                yield str(error).removesuffix(".")


def _texts(persona: Persona) -> Iterator[str]:
    yield persona.role
    yield persona.context
    yield persona.greeting
    for several in (persona.instructions, persona.constraints, persona.style):
        yield from several
    for example in persona.examples:
        yield example.user
        yield example.assistant
    for step in persona.steps:
        yield step.prompt
