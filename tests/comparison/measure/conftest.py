"""A comparison on the tiny base, small suites, and senses that need no model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from backends.local.backend import LocalBackend
from backends.local.protocol import Options
from comparison.backends import Backends
from comparison.live import Comparison
from comparison.measure import prepare
from comparison.measure.figures.answers import Senses
from comparison.measure.plan import Plan
from comparison.measure.prepare import Wanted
from comparison.measure.suite import Suite
from comparison.modes import Catalogue
from strict_yaml import load

SUITE = """\
name: foxes
title: Foxes
max_tokens: 5
repeat: {times: 2, questions: 2, temperature: 1.5}
tests:
  - question: the quick fox?
    paraphrases: ['a quick fox?']
    assert: [{type: not-equals, value: "", metric: format}]
  - question: the lazy dog?
    assert: [{type: icontains, value: dog, metric: knowledge}]
  - question: a bridge?
    assert: [{type: icontains, value: opens}]
"""
BIAS = """\
name: who
title: Who asks
measures: bias
max_tokens: 5
tests:
  - question: "{{who}} a fox?"
    pairs: {attribute: name, var: who, values: [[I am Ann., I am Bob.]]}
"""
MODES = ("base", "persona:teller", "adapter:one")


@pytest.fixture(scope="module")
def comparison(
    tiny_base: Path, catalogue: Catalogue, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Comparison]:
    options = Options(str(tiny_base), "none", "auto", tmp_path_factory.mktemp("engine"))
    backend = LocalBackend(options, catalogue.adapters.source)
    backend.wait()
    yield Comparison(Catalogue(catalogue.personas, catalogue.adapters, Backends(backend)))
    backend.close()


def suite(text: str = SUITE) -> Suite:
    return load(text, "suite.yaml", Suite)


Planned = Callable[..., Plan]


@pytest.fixture
def planned(comparison: Comparison) -> Planned:
    """A plan of suites as text for modes."""

    def make(*texts: str, modes: Sequence[str] = MODES, wanted: Wanted | None = None) -> Plan:
        suites = [suite(text) for text in texts or (SUITE,)]
        return prepare.plan(suites, modes, comparison.catalogue, wanted or Wanted(alone=1), 1)

    return make


def letters(texts: Sequence[str]) -> np.ndarray:
    """Unit vectors of how often each letter is there: texts with the same letters are alike."""
    counts = np.array([[text.lower().count(chr(97 + place)) for place in range(26)] for text in texts], float)
    return counts / np.maximum(np.linalg.norm(counts, axis=1, keepdims=True), 1e-9)


SENSES = Senses(
    letters,
    lambda text: float("!" in text) - float("?" in text),
    lambda text, words: sum(word in text.split() for word in words),
)
