"""Variants of a persona: every combination once, and the best as a persona that can be used."""

from __future__ import annotations

from pathlib import Path

import pytest

from comparison.measure import variants
from comparison.measure.figures.reckon import results
from comparison.measure.plan import Plan
from comparison.measure.variants import Grid, read_grid
from errors import CounterpointError
from personas.schema import Persona, parse_persona
from tests.comparison.measure import made
from tests.comparison.measure.conftest import SENSES
from tests.comparison.measure.test_figures import many

PERSONA = """\
name: clerk
title: Clerk
description: x
role: You serve {{place}}.
instructions: [Be brief., "Be {{mood}}."]
examples:
  - {user: a, assistant: b}
  - {user: c, assistant: d}
variables:
  place: {description: Where, default: the shop}
  mood: {description: How, default: kind, choices: [kind, stern]}
"""


@pytest.fixture
def clerk() -> Persona:
    return parse_persona(PERSONA, "clerk.yaml")


def test_every_combination_is_a_variant_and_the_persona_as_it_is_comes_first(clerk: Persona) -> None:
    grid = Grid(persona="clerk", variables={"mood": ("kind", "stern")}, instructions=(2,), examples=(2, 0))
    made_of = variants.slots(clerk, grid)
    assert len(made_of) == 8
    assert made_of[0].id == "persona:clerk (mood=kind, 2 examples)"
    assert made_of[0].persona == clerk
    assert made_of[-1].id == "persona:clerk (mood=stern, without instruction 2, 0 examples)"
    last = made_of[-1].persona
    assert last is not None
    assert (last.instructions, last.examples) == (("Be brief.",), ())
    # Nothing names the mood any more, and a variable that no text uses is a mistake in a persona.
    assert set(last.variables) == {"place"}
    stern = next(one.persona for one in made_of if "stern" in one.id and "without" not in one.id)
    assert stern is not None
    assert stern.variables["mood"].default == "stern"


def test_never_all_instructions_are_left_out(clerk: Persona) -> None:
    grid = Grid(persona="clerk", instructions=(1, 2))
    assert [len(one.persona.instructions) for one in variants.slots(clerk, grid) if one.persona] == [2, 1, 1]


def test_what_the_persona_does_not_have_is_told_all_at_once(clerk: Persona) -> None:
    grid = Grid(
        persona="clerk", variables={"mood": ("mad",), "tone": ("x",)}, instructions=(3,), examples=(5,)
    )
    with pytest.raises(CounterpointError) as told:
        variants.slots(clerk, grid)
    assert all(part in str(told.value) for part in ("instruction 3", "5 examples", "'mad'", "'tone'"))


def test_too_many_combinations_are_refused(clerk: Persona) -> None:
    grid = Grid(persona="clerk", variables={"place": tuple(f"place {n}" for n in range(25))}, examples=(0, 1))
    with pytest.raises(CounterpointError, match="50 combinations are too many"):
        variants.slots(clerk, grid)


def test_a_grid_is_read_strictly(tmp_path: Path) -> None:
    path = tmp_path / "grid.yaml"
    path.write_text("persona: clerk\nexampels: [1]\ninstructions: [0]\n")
    with pytest.raises(CounterpointError, match=r"grid\.yaml:2: exampels.*grid\.yaml:3: instructions"):
        read_grid(path)
    path.write_text("persona: clerk\nexamples: [0, 2]\n")
    assert read_grid(path).examples == (0, 2)
    with pytest.raises(CounterpointError, match="cannot be read"):
        read_grid(tmp_path / "none.yaml")


def test_the_winner_is_a_persona_of_its_own_name(clerk: Persona, tmp_path: Path) -> None:
    slots = tuple(variants.slots(clerk, Grid(persona="clerk", examples=(2, 1, 0))))
    plan: Plan = made.plan([many(20)], "base").model_copy(update={"slots": slots})
    folder = made.folder(tmp_path / "run", plan, passes=lambda item: "1 example" in item.slot.id)
    found = results(folder, SENSES)
    ranked = variants.ranked(found, folder.plan())
    assert [share.value for _, share in ranked] == [1, 0, 0]
    best = ranked[0][0]
    assert best == "persona:clerk (1 example)"
    # Drafts are kept whole: what was measured is what is saved.
    saved = variants.winner(folder.plan(), best, "better-clerk")
    assert (saved.name, saved.examples) == ("better-clerk", clerk.examples[:1])
    assert parse_persona(saved.to_yaml(), "better-clerk.yaml") == saved
    with pytest.raises(CounterpointError, match="is no variant"):
        variants.winner(plan, "base", "x")
    with pytest.raises(CounterpointError, match="name"):
        variants.winner(plan, best, "No Name!")


def test_modes_beside_variants_are_never_the_winner(clerk: Persona, tmp_path: Path) -> None:
    slots = tuple(variants.slots(clerk, Grid(persona="clerk", examples=(1, 0))))
    base: Plan = made.plan([many(9)], "base")
    plan = base.model_copy(update={"slots": (*slots, *base.slots)})
    folder = made.folder(tmp_path / "run", plan, passes=lambda item: item.slot.id == "base")
    found = results(folder, SENSES)
    assert {slot for slot, _ in variants.ranked(found, plan)} == {slot.id for slot in slots}
    with pytest.raises(CounterpointError, match="No variant can be ranked"):
        variants.ranked(found, base)
