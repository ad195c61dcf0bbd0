"""A catalogue over the tiny base: two sound adapters, one unusable one, two personas and a broken one."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from adapters.store import AdapterStore
from backends.contract import BaseFacts
from backends.local.fetch import locate
from comparison.modes import Catalogue
from personas.store import PersonaStore
from tests import tiny

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
