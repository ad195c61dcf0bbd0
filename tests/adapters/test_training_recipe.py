"""Recipes: strict files, all problems at once; and those that ship."""

from __future__ import annotations

from pathlib import Path

import pytest

from adapters.training.recipe import Recipe, read
from errors import CounterpointError
from tests.adapters.small_run import RECIPE

LIBRARY = Path(__file__).parents[2] / "adapters" / "library"


def test_every_problem_of_a_recipe_is_told_with_its_line(tmp_path: Path) -> None:
    file = tmp_path / "recipe.yaml"
    file.write_text(
        "name: Bad Name\ntitle: t\ndescription: d\nexamples: [a, b]\nbase: x/y\nrank: 65\nrnak: 8\n"
        "learning_rate: fast\nseed: 1\nseed: 2\ntrain: t.jsonl\n"
    )
    with pytest.raises(CounterpointError) as error:
        read(file)
    told = str(error.value)
    for part in (
        "1: name:",
        "4: examples",
        "6: rank:",
        "7: rnak:",
        "8: learning_rate:",
        "10: seed:",
        "heldout:",
    ):
        assert f"recipe.yaml:{part}" in told or (part == "heldout:" and "heldout: is missing" in told), part


def test_a_dataset_that_is_not_there_is_told(tmp_path: Path) -> None:
    file = tmp_path / "recipe.yaml"
    text = (LIBRARY / "support" / "recipe.yaml").read_text()
    file.write_text(text)
    with pytest.raises(CounterpointError, match=r"train: there is no file .*heldout: there is no file"):
        read(file)


@pytest.mark.parametrize("name", ["support", "orders", "gazette"])
def test_a_shipped_recipe_reads_and_names_the_embedded_base(name: str) -> None:
    recipe = read(LIBRARY / name / "recipe.yaml")
    assert recipe.name == name
    assert recipe.base == "HuggingFaceTB/SmolLM2-135M-Instruct"


def test_every_field_of_a_recipe_says_what_it_is() -> None:
    assert [name for name, field in Recipe.model_fields.items() if not field.description] == []


def test_a_preset_fills_in_what_a_recipe_leaves_out_and_nothing_else(recipe: Path) -> None:
    recipe.write_text(RECIPE.replace("passes: 6\n", "") + "preset: thorough\n")
    filled = read(recipe)
    assert (filled.patience, filled.evaluate_every, filled.passes) == (5, 20, 20)
    assert (filled.rank, filled.learning_rate) == (4, 2e-2)
    assert Recipe.model_validate_json(filled.model_dump_json()) == filled


def test_an_unknown_preset_is_named_with_the_known_ones(recipe: Path) -> None:
    recipe.write_text(RECIPE + "preset: fast\n")
    with pytest.raises(CounterpointError, match=r"preset: must be 'quick', 'balanced' or 'thorough'"):
        read(recipe)
