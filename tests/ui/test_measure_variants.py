"""Variants of a persona on the Measure tab: what is varied, and the best as a persona of yours."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from backends.contract import Event, Request
from errors import CounterpointError
from tests.ui.measuring import EMPTY, UNVARIED, through
from tests.ui.scripted import ScriptedBackend, delta, done
from ui.measure import Measure
from ui.measure_setup import OWN
from ui.parts import Parts

CHILD, DESK = "explain-to-a-child", "support-desk"
SUITE = (
    "name: rows\ntitle: Rows\ntests: [{question: 'what?', assert: [{type: equals, value: '4 messages'}]}]\n"
)
NOTHING = ("", *EMPTY)


def counts(requests: Sequence[Request]) -> Iterator[Event]:
    """Says of how many messages the prompt is: of one example, four."""
    for request in requests:
        yield delta(request, f"{len(request.messages)} messages")
        yield done(request)


@pytest.fixture
def parts(measuring_parts: Callable[[ScriptedBackend], Parts]) -> Parts:
    return measuring_parts(ScriptedBackend(counts))


@pytest.fixture
def own(tmp_path: Path) -> str:
    path = tmp_path / "rows.yaml"
    path.write_text(SUITE)
    return str(path)


def varied(tab: Measure, own: str, *fields: Any, modes: Sequence[str] = ()) -> None:
    tab._start(OWN, own, list(modes), False, False, *fields, *NOTHING)


def test_a_chosen_persona_shows_what_of_it_can_be_varied(tab: Measure) -> None:
    varying = tab.new.varying
    shown = varying.show(CHILD)
    assert shown[varying.instructions].choices == [("1. Say what it is like.", 1)]
    assert shown[varying.examples].visible
    assert "It has 5;" in shown[varying.examples].info
    assert not shown[varying.variables].visible
    gone = varying.show("")
    assert not any(field.visible for field in gone.values())


def test_every_combination_is_foretold(tab: Measure, own: str) -> None:
    one = tab.new.foresee(OWN, own, [], "0", False, CHILD, "", [], "", "")
    four = tab.new.foresee(OWN, own, ["base"], "0", True, CHILD, "", [1], "0, 2", "")
    assert "of 1 mode." in one
    assert "of 4 modes." in four, "an only instruction is never left out"


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ((CHILD, "", [], "two", ""), "write them with commas, as 0, 2"),
        ((CHILD, "", [], "-1", ""), "examples"),
        ((CHILD, "", [], "9", ""), "9 examples are more than the 5"),
        ((CHILD, "", [], "", "audience: all"), "line 1 must be NAME = one value"),
        ((CHILD, "", [], "", "audience = a | "), "line 1 must be NAME = one value"),
        ((CHILD, "", [], "", "a = b\n\na = c"), "line 3 names a a second time"),
        ((CHILD, "", [], "", "nobody = b"), "nobody"),
        (("gone", "", [], "", ""), "gone"),
        ((CHILD, "gone", [], "", ""), "gone"),
    ],
)
def test_what_cannot_be_varied_is_told_by_its_field_and_nothing_begins(
    tab: Measure, parts: Parts, own: str, fields: tuple[Any, ...], told: str
) -> None:
    with pytest.raises(CounterpointError, match=told) as error:
        varied(tab, own, *fields)
    assert "\n" not in str(error.value)
    assert parts.measurements.list() == []


def test_variants_are_ranked_and_the_best_becomes_a_persona(tab: Measure, parts: Parts, own: str) -> None:
    varied(tab, own, CHILD, "", [], "0, 1, 2", "", modes=["base"])
    through(parts)
    shown = tab._figures("rows-1", None)
    assert shown[tab.winner.row].visible
    choices = shown[tab.winner.variant].choices
    best = f"persona:{CHILD} (1 example)"
    assert shown[tab.winner.variant].value == best
    assert choices[0][1] == best
    assert choices[0][0].startswith(f"{best}: 100 %")
    assert len(choices) == 3, "the base is no variant"
    for variant, name, wrong in (
        (None, "short", "No variant is chosen"),
        (best, " ", "has no name"),
        (best, "No Name!", "name"),
        ("base", "short", "base is no variant"),
    ):
        with pytest.raises(CounterpointError, match=wrong):
            tab.winner.keep("rows-1", variant, name, False)
    tab.winner.keep("rows-1", best, "short", False)
    saved = parts.personas.get("short")
    assert len(saved.examples) == 1
    assert saved.instructions == parts.personas.get(CHILD).instructions
    with pytest.raises(CounterpointError, match="There is a persona short already"):
        tab.winner.keep("rows-1", choices[1][1], "short", False)
    tab.winner.keep("rows-1", f"persona:{CHILD} (2 examples)", "short", True)
    assert len(parts.personas.get("short").examples) == 2


def test_a_measurement_without_variants_offers_no_winner(tab: Measure, parts: Parts, own: str) -> None:
    tab._start(OWN, own, ["base"], False, False, *UNVARIED, *NOTHING)
    through(parts)
    assert not tab._figures("rows-1", None)[tab.winner.row].visible


def test_what_is_gone_leaves_the_lists_and_what_is_there_stays_chosen(tab: Measure, parts: Parts) -> None:
    varying = tab.new.varying
    assert varying.refresh(DESK, "")[varying.persona].value == DESK
    assert varying.refresh("gone", "gone")[varying.persona].value == ""
    assert varying.refresh("gone", "gone")[varying.adapter].value == ""
