"""Passports: ours, another tool's, broken ones, and those of the adapters that ship."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

import durable
from adapters import passport as passports
from adapters.passport import Passport
from adapters.training.recipe import dataset_path
from adapters.training.recipe import read as read_recipe
from errors import CounterpointError

LIBRARY = Path(passports.__file__).parent / "library"
SHIPPED = ("support", "orders", "gazette")


@pytest.fixture
def passport() -> Passport:
    found = passports.read(LIBRARY / "support")
    assert found is not None
    return found


def test_what_is_written_is_read_again(passport: Passport, tmp_path: Path) -> None:
    passports.write(tmp_path, passport)
    assert passports.read(tmp_path) == passport
    assert [path.name for path in tmp_path.iterdir()] == ["passport.json"]


def test_no_passport_and_another_tools_passport_are_none(tmp_path: Path) -> None:
    assert passports.read(tmp_path) is None
    (tmp_path / "passport.json").write_text('{"made_by": "another tool"}')
    assert passports.read(tmp_path) is None


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('"base_sha256": "', '"base_sha256": "x'),
        ('"schema_version": 1', '"schema_version": 2'),
        ('"seed"', '"sead"'),
        ("{", "["),
    ],
)
def test_a_broken_passport_is_one_line_of_error(
    passport: Passport, tmp_path: Path, before: str, after: str
) -> None:
    passports.write(tmp_path, passport)
    file = tmp_path / "passport.json"
    file.write_text(file.read_text().replace(before, after, 1))
    with pytest.raises(CounterpointError) as error:
        passports.read(tmp_path)
    assert "passport.json" in str(error.value)
    assert "\n" not in str(error.value)


def test_an_unknown_field_cannot_be_written(passport: Passport) -> None:
    with pytest.raises(ValidationError):
        Passport.model_validate({**passport.model_dump(), "colour": "red"})


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_passport_tells_the_truth_about_the_files_beside_it(name: str) -> None:
    folder = LIBRARY / name
    passport = passports.read(folder)
    assert passport is not None
    recipe = read_recipe(folder / "recipe.yaml")
    assert passport.recipe == recipe
    assert passport.adapter_sha256 == durable.sha256(folder / "adapter_model.safetensors")
    for data, path in ((passport.train, recipe.train), (passport.heldout, recipe.heldout)):
        assert data.sha256 == durable.sha256(dataset_path(folder / "recipe.yaml", path))
    assert set(passport.scores) == {"bare", "prompted", "tuned", "both"}
    assert all(score.n == passport.heldout.rows for score in passport.scores.values())


@pytest.mark.parametrize(("name", "target"), [("support", 0.85), ("orders", 0.90), ("gazette", 0.85)])
def test_a_shipped_adapter_keeps_to_what_it_is_good_for(name: str, target: float) -> None:
    passport = passports.read(LIBRARY / name)
    assert passport is not None
    assert passport.scores["tuned"].share >= target
