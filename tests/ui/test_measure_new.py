"""What a new measurement is set up with on the Measure tab, and what is refused."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gradio as gr
import pytest

from backends.contract import Status
from comparison.modes import ModeInfo
from errors import CounterpointError
from tests import tiny
from tests.comparison.measure import made
from tests.comparison.measure.conftest import SUITE
from tests.ui.measuring import EMPTY, MODES, UNVARIED, begin, says_fox, through
from tests.ui.scripted import ScriptedBackend
from ui import measure_setup
from ui.measure import Measure
from ui.measure_setup import NUMBERS, OWN, PRICES
from ui.parts import Parts


@pytest.fixture
def backend() -> ScriptedBackend:
    return ScriptedBackend(says_fox)


@pytest.fixture
def parts(measuring_parts: Callable[[ScriptedBackend], Parts], backend: ScriptedBackend) -> Parts:
    return measuring_parts(backend)


def settings(**values: str) -> list[str]:
    return [values.get(name, "") for name in (*PRICES, *NUMBERS)]


def test_the_suites_that_ship_are_offered_the_support_desk_first_and_a_file_of_ones_own_last() -> None:
    titles, names = zip(*measure_setup.choices(), strict=True)
    assert names[0] == "support"
    assert set(names) >= {"orders", "gazette", "general", "bias"}
    assert names[-1] == OWN
    assert "Coffee support desk" in titles


def test_what_a_suite_asks_and_what_it_would_take_is_told_before_anything_is_asked(tab: Measure) -> None:
    shown = tab.new.look("support", None, MODES, [], "")
    assert "It asks **113** questions." in shown[tab.new.read]
    assert "General questions (38), Who asks (96)" in shown[tab.new.read].replace("\\", "")
    assert shown[tab.new.start].interactive
    assert "answers will be asked of 2 modes." in shown[tab.new.forecast]
    assert "roughly" not in shown[tab.new.forecast], "nothing was measured here yet"
    twice = tab.new.foresee("support", None, MODES, "", True)
    assert "answers will be asked of 3 modes." in twice
    fewer = tab.new.foresee("support", None, ["base"], "0")
    assert int(fewer.split("**")[1]) < int(shown[tab.new.forecast].split("**")[1])


def test_a_file_of_ones_own_is_looked_at_as_it_comes(tab: Measure, own: str) -> None:
    shown = tab.new.look(OWN, None, MODES, MODES, "")
    assert shown[tab.new.read] == ""
    assert not shown[tab.new.start].interactive
    shown = tab.new.look(OWN, own, MODES, [], "")
    assert "It asks **4** questions." in shown[tab.new.read]
    assert shown[tab.new.start].interactive
    table = Path(own).with_name("table.csv")
    table.write_text("question,__expected\nthe fox?,icontains:fox\n")
    assert "It asks **1** questions." in tab.new.look(OWN, str(table), MODES, [], "")[tab.new.read]


def test_all_that_is_wrong_with_a_suite_is_told_with_its_lines(tab: Measure, own: str) -> None:
    Path(own).write_text(
        SUITE.replace("title: Foxes", "titel: <b>Foxes</b>").replace("max_tokens: 5", "max_tokens: no")
    )
    shown = tab.new.look(OWN, own, MODES, [], "")
    told = shown[tab.new.read].replace("\\", "")
    assert "- foxes.yaml:2: titel: is not a field" in told
    assert "- foxes.yaml:3: max_tokens:" in told
    assert not shown[tab.new.start].interactive
    assert tab.new.modes not in shown, "what was chosen stays"
    with pytest.raises(CounterpointError, match=r"foxes\.yaml:2: titel"):
        begin(tab, own)


def test_what_a_promptfoo_configuration_leaves_behind_is_listed_and_nothing_of_it_is_live(
    tab: Measure, own: str
) -> None:
    Path(own).write_text(
        "description: <img src=x>\nprompts: ['{{q}}']\nproviders: [openai:gpt]\n"
        "tests: [{vars: {q: 'a?'}, assert: [{type: icontains, value: fox}, {type: javascript, value: '1'}]}]\n"
    )
    told = tab.new.look(OWN, own, MODES, [], "")[tab.new.read].replace("\\", "")
    assert "**Not taken over**" in told
    assert "- providers: who answers is chosen as modes" in told
    assert "the check 'javascript' is not known here" in told


def test_modes_that_a_suite_suggests_make_way_for_the_next_ones_and_those_that_a_person_chose_stay(
    tab: Measure,
) -> None:
    first = tab.new.look("gazette", None, [], [], "")
    suggested = first[tab.new.guess]
    assert suggested == first[tab.new.modes] == ["base", "persona:gazette-reporter"]
    second = tab.new.look("support", None, suggested, suggested, "")
    assert second[tab.new.modes] == ["base", "persona:support-desk"]
    assert tab.new.modes not in tab.new.look("support", None, MODES, suggested, "")


def test_a_suites_modes_are_its_jobs_persona_adapter_and_both() -> None:
    def mode(id: str, family: Any, usable: bool = True) -> ModeInfo:
        return ModeInfo(id, id, family, usable)

    modes = [
        mode("base", "bare"),
        mode("persona:order-clerk", "prompted"),
        mode("persona:gazette-reporter", "prompted"),
        mode("adapter:orders", "tuned"),
        mode("adapter:orders+persona:order-clerk", "both"),
        mode("adapter:orders+persona:gazette-reporter", "both"),
        mode("adapter:support", "tuned", usable=False),
    ]
    suggest = measure_setup.default_modes
    assert suggest("orders", modes) == [
        "base",
        "persona:order-clerk",
        "adapter:orders",
        "adapter:orders+persona:order-clerk",
    ]
    assert suggest("gazette", modes) == ["base", "persona:gazette-reporter"]
    assert len(suggest("general", modes)) == 4
    assert suggest("support", modes) == suggest("general", modes), "an adapter that cannot be used is none"


@pytest.mark.parametrize(
    ("named", "modes", "told"),
    [
        (OWN, MODES, "choose a suite, or upload one"),
        ("support", [], "No mode is chosen"),
        ("support", None, "No mode is chosen"),
    ],
)
def test_what_is_not_chosen_is_told(tab: Measure, named: str, modes: Any, told: str) -> None:
    with pytest.raises(CounterpointError, match=told):
        tab._start(named, None, modes, False, False, *UNVARIED, "", *EMPTY)


def test_an_adapter_that_cannot_be_used_is_told_with_its_reason(
    tab: Measure, parts: Parts, own: str, tmp_path: Path, tiny_adapters: dict[str, Path]
) -> None:
    folder = Path(shutil.copytree(tiny_adapters["one"], tmp_path / "adapters" / "dora"))
    tiny.edit_config(folder, use_dora=True)
    with pytest.raises(CounterpointError, match=r"(?i)dora") as told:
        begin(tab, own, ["base", "adapter:dora", "persona:nobody"])
    assert "nobody" in str(told.value), "all at once"
    assert "\n" not in str(told.value)
    assert parts.measurements.list() == []


def test_while_the_base_loads_it_is_said_to_wait(tab: Measure, backend: ScriptedBackend, own: str) -> None:
    backend.becomes(Status("loading", "Loading", 0.4))
    with pytest.raises(CounterpointError, match="still loading: press Measure again once it is there"):
        begin(tab, own)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"machine_hour": "cheap"}, "An hour of this machine must be a number, not “cheap”"),
        (
            {"prompt_million": "nan", "seed": "1.5"},
            "A million prompt tokens must be a number.*Seed must be a whole",
        ),
        ({"training": "-1"}, "Training once must be 0 or more"),
        ({"alone": "1001"}, "Questions timed alone must be from 0 to 1,000"),
        ({"seed": "-1"}, "Seed must be from 0 to"),
    ],
)
def test_fields_that_hold_no_such_number_are_told_by_name(
    tab: Measure, own: str, given: dict[str, str], told: str
) -> None:
    with pytest.raises(CounterpointError, match=told):
        begin(tab, own, MODES, *settings(**given))


def test_prices_and_numbers_are_in_the_plan(tab: Measure, parts: Parts, own: str) -> None:
    given = settings(machine_hour="0,25", prompt_million=" 1 ", training="3.5", seed="7", alone="0")
    tab._start(OWN, own, ["base"], False, False, *UNVARIED, "€", *given)
    through(parts)
    plan = made.RunFolder(parts.measurements.get("foxes-1").folder).plan()
    assert (plan.prices.currency, plan.prices.machine_hour, plan.prices.prompt_million) == ("€", 0.25, 1.0)
    assert (plan.prices.completion_million, plan.prices.training) == (None, 3.5)
    assert (plan.seed, plan.alone, plan.python) == (7, 0, False)


def test_checks_that_need_more_say_where_on_the_page_to_give_it(tab: Measure, parts: Parts, own: str) -> None:
    text = "name: s\ntitle: S\ntests: [{question: 'a?', assert: [%s]}]\n"
    Path(own).write_text(text % "{type: cost, threshold: 1}")
    with pytest.raises(CounterpointError, match="say what you pay under Prices and more"):
        begin(tab, own)
    Path(own).write_text(text % "{type: python, value: 'True'}  ")
    with pytest.raises(CounterpointError, match="tick “Run python checks” under Prices and more"):
        begin(tab, own)
    tab._start(OWN, own, ["base"], False, True, *UNVARIED, "", *EMPTY)
    tab._stop("s-1")
    assert made.RunFolder(parts.measurements.get("s-1").folder).plan().python
    with gr.Blocks(analytics_enabled=False):
        served = Measure(dataclasses.replace(parts, public=True))
    with pytest.raises(CounterpointError, match="go on with it in the terminal"):
        served._resume("s-1")
    assert parts.measurements.going_on() is None


def test_the_first_mode_can_be_measured_against_itself(tab: Measure, parts: Parts, own: str) -> None:
    tab._start(OWN, own, MODES, True, False, *UNVARIED, "", *EMPTY)
    through(parts)
    slots = made.RunFolder(parts.measurements.get("foxes-1").folder).plan().slots
    assert [slot.id for slot in slots] == ["base", MODES[1], "base #2"]
    found = parts.measurements.results("foxes-1")
    assert found is not None
    gaps = [gap for row in found.rows if (gap := row.gap("base", "base #2")) and row.aspect != "speed"]
    assert gaps
    assert all(gap.outcome == "unclear" for gap in gaps)


def test_a_page_that_is_served_to_others_neither_offers_nor_runs_python_checks(
    parts: Parts, own: str
) -> None:
    with gr.Blocks(analytics_enabled=False):
        tab = Measure(dataclasses.replace(parts, public=True))
    assert not tab.new.python.visible
    Path(own).write_text(
        "name: s\ntitle: S\ntests: [{question: 'a?', assert: [{type: python, value: 'True'}]}]\n"
    )
    for ticked in (False, True):
        with pytest.raises(CounterpointError, match="runs nobody's code: take them out"):
            tab._start(OWN, own, ["base"], False, ticked, *UNVARIED, "", *EMPTY)
