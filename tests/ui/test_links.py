from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import gradio as gr
import pytest

from backends.contract import Event, Request
from comparison.modes import ModeInfo
from errors import CounterpointError
from tests.ui.scripted import ScriptedBackend, delta, done
from tests.ui.test_setup import MODES
from ui import setup, variables
from ui.arrangement import Arrangement
from ui.compare import Compare
from ui.controls import screen_of
from ui.links import read_link, write_link
from ui.parts import Parts
from ui.streaming import answers
from ui.transcript import PaneState

PartsWith = Callable[[ScriptedBackend], Parts]
BOTH = "adapter:gazette+persona:gazette-reporter"


def test_a_link_reads_back_to_what_it_was_written_from() -> None:
    set_values = {"temperature": 0.7, "max_tokens": 64}
    link = read_link(write_link(("base", BOTH), "Why? & how=much", 7, (1, 0.35), set_values), MODES)
    assert (link.modes, link.question, link.seed) == (("base", BOTH), "Why? & how=much", 7)
    assert (link.scales, link.sampling, link.problems) == ((1, 0.35), set_values, ())


def test_a_link_carries_what_a_person_gave_to_variables() -> None:
    given = {"marketing-planner": {"audience": "night & shift nurses", "budget": "2,000"}}
    modes = ("base", "persona:marketing-planner")
    link = read_link(write_link(modes, "", None, variables=given), MODES)
    assert link.variables == given


def test_a_link_is_short_where_nothing_was_set() -> None:
    assert write_link(("base", BOTH), "", None, (1, 1), {}) == (
        "?mode=base&mode=adapter%3Agazette%2Bpersona%3Agazette-reporter"
    )


def test_a_link_typed_by_hand_may_have_a_bare_plus() -> None:
    link = read_link("?mode=adapter:gazette+persona:gazette-reporter", MODES)
    assert link.modes == (BOTH,)


def test_what_a_link_asks_in_vain_is_named_and_the_rest_is_used() -> None:
    link = read_link("?mode=base&mode=adapter:gone&q=Hi&seed=-1", MODES)
    assert link.modes == ("base", None), "no other mode answers in its place"
    assert link.question == "Hi"
    assert len(link.problems) == 2
    assert "adapter:gone" in link.problems[0]
    assert "-1" in link.problems[1]


@pytest.mark.parametrize(
    ("part", "named"),
    [
        ("scale=1&scale=nan", "nan"),
        ("scale=1&scale=-0.5", "-0.5"),
        ("scale=1&scale=2&scale=2", "more adapter strengths"),
        ("temperature=hot", "hot"),
        ("temperature=9", "temperature must lie"),
        ("max_tokens=1.5", "1.5"),
    ],
)
def test_a_bad_value_is_one_line_and_is_left_out(part: str, named: str) -> None:
    link = read_link(f"?mode=base&mode=adapter:gazette&top_k=3&{part}", MODES)
    assert len(link.problems) == 1
    assert named in link.problems[0]
    assert link.sampling == {"top_k": 3}
    assert link.scales[0] == 1
    assert 0 <= link.scales[1] <= setup.MAX_STRENGTH


def test_a_strength_stays_with_its_mode_where_another_mode_is_gone() -> None:
    link = read_link("?mode=adapter:gone&mode=adapter:gazette&scale=0.2&scale=0.4", MODES)
    assert (link.modes, link.scales) == ((None, "adapter:gazette"), (0.2, 0.4))


def test_a_link_has_at_most_six_panes() -> None:
    link = read_link("?" + "&".join(["mode=base"] * 9), MODES)
    assert len(link.modes) == len(link.scales) == 6
    assert link.problems


def test_an_endless_link_is_refused() -> None:
    assert read_link("?q=" + "x" * 10_000, MODES).question == ""
    assert read_link("?" + "a=1&" * 60, MODES).problems


def screen_values(states: Sequence[PaneState], sampling: Sequence[str] = ("",) * 7) -> list[Any]:
    modes = ["base", "adapter:gazette", *["base"] * 4]
    strengths = [0.5, 0.25, *[1.0] * 4]
    filled = [*states, *[PaneState()] * (6 - len(states))]
    return [*modes, *strengths, *filled, (0, 1), {}, *sampling, *variables.empty()]


def opened(query: str) -> Any:
    """The request of a page that is opened with this query."""
    return SimpleNamespace(request=SimpleNamespace(url=SimpleNamespace(query=query)))


def arranged(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> tuple[Arrangement, list[str]]:
    """Compare's arrangement, and what it warns of."""
    told: list[str] = []
    monkeypatch.setattr("ui.arrangement.warn", told.append)
    with gr.Blocks(), gr.Tab() as tab:
        return Compare(parts, gr.State({}), tab).arrangement, told


def test_the_link_sets_the_page_up_as_it_was_when_it_was_copied(
    parts_with: PartsWith, monkeypatch: pytest.MonkeyPatch
) -> None:
    def script(requests: Sequence[Request]) -> Iterator[Event]:
        for request in requests:
            yield delta(request, "Fine.")
            yield done(request)

    parts = parts_with(ScriptedBackend(script))
    with gr.Blocks(), gr.Tabs(), gr.Tab("Compare") as tab:
        compare = Compare(parts, gr.State({}), tab)
    screen = screen_of(tuple(screen_values(())))
    screen = replace(screen, modes=["base"] * 6)
    states: dict[int, PaneState] = {}
    for paint in answers(parts.comparison, "Why?", screen.asked([0, 1], parts.catalogue)):
        states |= paint
    used = states[0].turns[-1].receipt["seed"]
    query = compare._link("", *screen_values([states[0], states[1]], ["0,7", *[""] * 4, "64", ""]))
    monkeypatch.setattr(parts.catalogue, "list", lambda: [*MODES, ModeInfo("adapter:a", "A", "tuned")])
    updates = compare.arrangement.on_load(opened(query[1:]))
    assert [updates[compare.pickers[slot]].value for slot in (0, 1)] == ["base", "adapter:gazette"]
    assert updates[compare.question] == "Why?"
    fields = dict(zip(setup.SAMPLING, compare.sampling, strict=True))
    assert updates[fields["seed"]] == str(used)
    assert updates[fields["temperature"]] == "0.7"
    assert updates[fields["max_tokens"]] == "64"
    assert fields["top_p"] not in updates
    assert updates[compare.panes[1].strength].value == 0.25
    assert not updates[compare.panes[0].strength].visible, "a mode without an adapter has no strength"
    assert set(updates) <= set(compare.arrangement.caught_up)
    other = compare._link("Something new?", *screen_values([states[0], states[1]]))
    assert "seed=" not in other, "the seed belongs to the question that was asked with it"


def test_a_link_waits_for_its_adapters_until_the_base_is_known(
    parts_with: PartsWith, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = parts_with(ScriptedBackend(lambda requests: iter(())))
    arrangement, told = arranged(parts, monkeypatch)
    query = "mode=base&mode=adapter:gazette&q=Why%3F&gone.hue=red"

    def unknown() -> Any:
        raise CounterpointError("The base model is still being fetched.")

    adapters = parts.adapters.list
    monkeypatch.setattr(parts.adapters, "list", unknown)
    first = arrangement.on_load(opened(query))
    assert (first[arrangement.link], first[arrangement.question], told) == (query, "Why?", [])
    monkeypatch.setattr(parts.adapters, "list", adapters)
    monkeypatch.setattr(parts.catalogue, "list", lambda: [*MODES, ModeInfo("adapter:a", "A", "tuned")])
    values = screen_values([PaneState(), PaneState()])
    later = arrangement.catch_up(first[arrangement.known], query, "Why not?", values)
    assert later[arrangement.panes[1].mode].value == "adapter:gazette"
    assert len(told) == 1, "what the link asks in vain is told once, when it is followed"
    assert (later[arrangement.link], later[arrangement.question]) == ("", "Why not?")


def test_a_links_variables_that_nobody_can_take_are_named(
    parts_with: PartsWith, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = parts_with(ScriptedBackend(lambda requests: iter(())))
    arrangement, told = arranged(parts, monkeypatch)
    query = "mode=base&mode=persona:marketing-planner&marketing-planner.hue=red&marketing-planner.budget="
    updates = arrangement.on_load(opened(query))
    assert len(told) == 1
    assert "hue" in told[0]
    shown = [updates[field] for field in arrangement.variables.texts]
    assert any("Budget" in str(field.label) and field.value == "" for field in shown), "emptied stays empty"


def test_a_link_that_would_be_too_long_is_refused_where_it_is_made() -> None:
    with pytest.raises(CounterpointError, match="too long"):
        write_link(("base",), "Ж" * 1_500, None)


def test_a_link_never_asks_by_itself(parts_with: PartsWith) -> None:
    from ui import page
    from ui.theme import SCRIPT

    parts = parts_with(ScriptedBackend(lambda requests: iter(())))
    built = page.build(parts)
    loads = [each for each in built.fns.values() if ("load" in [target[1] for target in each.targets])]
    assert loads
    followed = {each.trigger_after for each in built.fns.values()}
    assert not followed & {each._id for each in loads}, "nothing follows the page's load"
    assert "ask-all" not in SCRIPT.read_text(encoding="utf-8")
