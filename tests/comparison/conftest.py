"""A catalogue over the tiny base: two sound adapters, one unusable one, two personas and a broken one."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from adapters.store import AdapterStore
from adapters.training.run import Trained, train
from adapters.verdict import Gate
from backends.contract import BaseFacts
from backends.local.fetch import locate
from comparison.modes import Catalogue
from personas.store import PersonaStore
from tests import tiny
from tests.adapters.small_run import RECIPE, row

TRAIN = [("a fox?", "jumps"), ("a dog?", "is lazy"), ("an order?", "ships"), ("a bridge?", "opens today")]
HELDOUT = [("the quick fox?", "jumps"), ("the lazy dog?", "is lazy"), ("the new bridge?", "opens today")]

TELLER = """\
name: teller
title: The teller
description: Tells it short.
role: You tell {{whom}} what is so.
instructions: [Be brief.]
variables:
  whom: {description: Who asks, default: the fox}
sampling: {temperature: 0.0, max_tokens: 9}
"""

PLAIN = """\
name: plain
title: Plain
description: Recommends nothing.
role: You answer.
instructions: [Answer.]
"""


@pytest.fixture(scope="module")
def facts(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> BaseFacts:
    return locate(str(tiny_base), tmp_path_factory.mktemp("cache"))


def lay_out(place: Path, tiny_adapters: dict[str, Path]) -> Path:
    """Fills the folders "adapters" and "personas" of a place."""
    for name in ("one", "two"):
        shutil.copytree(tiny_adapters[name], place / "adapters" / name)
    tiny.edit_config(Path(shutil.copytree(tiny_adapters["one"], place / "adapters" / "dora")), use_dora=True)
    (place / "personas").mkdir()
    (place / "personas" / "teller.yaml").write_text(TELLER)
    (place / "personas" / "plain.yaml").write_text(PLAIN)
    (place / "personas" / "broken.yaml").write_text("name: broken\n")
    return place


@pytest.fixture(scope="module")
def catalogue(
    facts: BaseFacts, tiny_adapters: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Catalogue:
    place = lay_out(tmp_path_factory.mktemp("catalogue"), tiny_adapters)
    return Catalogue(
        PersonaStore(place / "personas", place / "data"),
        AdapterStore(place / "adapters", place / "data", lambda: facts),
    )


@pytest.fixture(scope="session")
def trained(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """An adapter that knows its four rows as well as so small a base can."""
    folder = tmp_path_factory.mktemp("gate")
    (folder / "data").mkdir()
    for name, pairs in (("train", TRAIN), ("heldout", HELDOUT)):
        (folder / "data" / f"{name}.jsonl").write_text("".join(row(*pair) for pair in pairs))
    longer = RECIPE.replace("passes: 6", "passes: 100").replace("batch_size: 2", "batch_size: 4")
    (folder / "recipe.yaml").write_text(
        longer.replace("rank: 4", "rank: 32").replace("alpha: 8", "alpha: 32")
    )
    kept: list[Trained] = []

    def keep(made: Trained) -> Gate:
        kept.append(made)
        return Gate(findings=(), omitted={}, seconds=0)

    train(folder / "recipe.yaml", folder / "made", tiny_base, test=keep)
    return replace(kept[0], folder=folder / "made")
