"""Modes that servers answer: they come and go on the page as servers do, and no pick is taken back for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gradio as gr
import pytest

from backends.contract import Status
from comparison.live import Pane
from tests.ui.scripted import ScriptedBackend
from tests.ui.scripted_server import parts_on, server
from ui import pane, setup, streaming, variables
from ui.arrangement import SERVERS_TELL_S
from ui.asked import Asked
from ui.chat import Chat
from ui.compare import Compare
from ui.controls import screen_of
from ui.links import read_link, write_link
from ui.parts import Parts
from ui.personas import picker_updates
from ui.transcript import PaneState

GPU = "http://gpu:8000/v1"
TUNED = "gpu/adapter:org/support"


@pytest.fixture
def parts(tmp_path: Path) -> Parts:
    return parts_on(tmp_path, ScriptedBackend(lambda requests: iter(())), gpu=GPU)


def compare_and_chat(parts: Parts) -> tuple[Compare, Chat]:
    with gr.Blocks(), gr.Tabs(), gr.Tab("Compare") as tab:
        return Compare(parts, gr.State({}), tab), Chat(parts, gr.State({}), tab)


def values(modes: Sequence[str], strengths: Sequence[float] = (1.0,) * 6) -> list[Any]:
    filled = [*modes, *["base"] * (6 - len(modes))]
    return [*filled, *strengths, *[PaneState()] * 6, (0, 1), {}, *[""] * 7, *variables.empty()]


def ids(update: Any) -> list[str]:
    return [mode for _, mode in update.choices]


def takes_no_pick(update: Any) -> bool:
    return "value" not in update.constructor_args


def test_adapters_that_a_server_tells_late_are_in_every_list_and_no_pick_is_touched(parts: Parts) -> None:
    compare, chat = compare_and_chat(parts)
    known = compare.arrangement.catch_up((), "", "", values(["base"]))[compare.arrangement.known]
    in_chat = chat.on_load()[chat.known]
    server(parts).own = ("org/support",)
    picked = values(["gpu/base", "persona:meeting-notes"])
    updates = compare.arrangement.catch_up(known, "", "", picked)
    for picker in compare.pickers:
        assert TUNED in ids(updates[picker])
        assert takes_no_pick(updates[picker])
    for mode, state in (("base", PaneState()), ("gpu/base", PaneState())):
        update = chat.catch_up(in_chat, mode, state)[chat.picker]
        assert TUNED in ids(update)
        assert takes_no_pick(update), "what is picked while this is on its way stays"


def test_a_showcase_that_nobody_touched_is_not_set_again_for_a_server(parts: Parts) -> None:
    compare, _ = compare_and_chat(parts)
    arrangement = compare.arrangement
    showcase = setup.default_modes(parts.catalogue.list(), parts.languages)
    known = arrangement.catch_up((), "", "", values(showcase))[arrangement.known]
    server(parts).own = ("org/support",)
    updates = arrangement.catch_up(known, "", "", values(showcase))
    assert all(takes_no_pick(updates[picker]) for picker in compare.pickers)


def test_a_server_that_goes_down_is_marked_and_keeps_its_place_in_the_panes(parts: Parts) -> None:
    gpu = server(parts)
    gpu.own = ("org/support",)
    compare, chat = compare_and_chat(parts)
    known = compare.arrangement.catch_up((), "", "", values(["base"]))[compare.arrangement.known]
    in_chat = chat.on_load()[chat.known]
    gpu.becomes(Status("failed", "gpu is down (no route)."))
    updates = compare.arrangement.catch_up(known, "", "", values([TUNED, "base"]))
    assert takes_no_pick(updates[compare.pickers[0]])
    assert ("Tuned on gpu · org/support (not usable)", TUNED) in updates[compare.pickers[0]].choices
    assert takes_no_pick(chat.catch_up(in_chat, TUNED, PaneState())[chat.picker])
    assert "no route" in pane.mode_caption(parts, TUNED)


def test_a_picked_mode_outlasts_that_its_server_has_to_be_asked_anew(parts: Parts) -> None:
    gpu = server(parts)
    gpu.own = ("org/support",)
    compare, chat = compare_and_chat(parts)
    known = compare.arrangement.catch_up((), "", "", values(["base"]))[compare.arrangement.known]
    in_chat = chat.on_load()[chat.known]
    gpu.own = ()
    both = f"{TUNED}+persona:meeting-notes"
    updates = compare.arrangement.catch_up(known, "", "", values([TUNED, both]))
    for picker in compare.pickers[:2]:
        assert takes_no_pick(updates[picker])
        assert {TUNED, both} <= set(ids(updates[picker])), "Gradio refuses a value that is no choice"
    assert takes_no_pick(chat.catch_up(in_chat, TUNED, PaneState())[chat.picker])
    assert all(takes_no_pick(update) for update in picker_updates(parts, TUNED, both))
    assert "does not tell" in pane.mode_caption(parts, TUNED)


def test_a_picked_mode_goes_with_its_server(parts: Parts) -> None:
    server(parts).own = ("org/support",)
    store = parts.backends.store
    assert store is not None
    store.remove("gpu")
    parts.backends.refresh()
    assert [update.value for update in picker_updates(parts, TUNED, "gpu/base")] == [None, None]


def test_a_pane_says_which_server_answers_it(parts: Parts) -> None:
    server(parts).own = ("org/support",)
    for mode in ("gpu/base", "gpu/persona:meeting-notes", TUNED, f"{TUNED}+persona:meeting-notes"):
        assert "answered by gpu" in pane.mode_caption(parts, mode), mode
    assert "answered by" not in pane.mode_caption(parts, "base")


def test_a_servers_adapter_has_no_strength(parts: Parts) -> None:
    server(parts).own = ("org/support",)
    compare, chat = compare_and_chat(parts)
    assert screen_of(tuple(values([TUNED], [0.5] * 6))).scale(0) == 1
    assert compare._mode_changed(TUNED, {}, PaneState())[2].visible is False
    assert chat._mode_changed(TUNED, {})[1].visible is False


def test_only_panes_of_the_local_base_wait_for_it(parts: Parts) -> None:
    asked = [
        Asked(slot, PaneState(), Pane(mode), mode, "bare") for slot, mode in enumerate(("base", "gpu/base"))
    ]
    first = next(streaming.answers(parts.comparison, "Why?", asked, waiting_for="It loads."))
    assert [first[slot].turns[-1].notice for slot in (0, 1)] == ["It loads.", ""]


def test_a_link_to_a_server_sets_its_panes_up(parts: Parts) -> None:
    server(parts).own = ("org/support", "my lora")
    modes = parts.catalogue.list()
    wanted = ("gpu/base", TUNED, "gpu/adapter:my lora+persona:meeting-notes")
    for query in (
        write_link(wanted, "", None),
        "?mode=gpu/base&mode=gpu/adapter:org/support&mode=gpu/adapter:my+lora+persona:meeting-notes",
        "?mode=gpu/base&mode=gpu/adapter:org/support&mode=gpu/adapter:my%20lora%2Bpersona:meeting-notes",
    ):
        link = read_link(query, modes)
        assert (link.modes, link.problems) == (wanted, ()), query
    link = read_link("?mode=gpu/base&mode=cpu/base&mode=gpu/adapter:gone", modes)
    assert (link.modes, link.absent) == (("gpu/base", None, None), ("cpu/base", "gpu/adapter:gone"))
    assert len(link.problems) == 1


def test_a_page_opened_by_a_link_gives_its_server_time_to_tell(
    parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    monkeypatch.setattr("ui.arrangement.warn", told.append)
    gpu = server(parts)

    def adapters(timeout: float = 0) -> tuple[str, ...]:
        gpu.own = ("org/support",) if timeout else gpu.own
        return gpu.own or ()

    monkeypatch.setattr(gpu, "adapters", adapters)
    compare, _ = compare_and_chat(parts)
    query = write_link(("base", TUNED), "Why?", None, (1, 0.5))[1:]
    opened: Any = SimpleNamespace(request=SimpleNamespace(url=SimpleNamespace(query=query)))
    updates = compare.arrangement.on_load(opened)
    assert [updates[compare.pickers[slot]].value for slot in (0, 1)] == ["base", TUNED]
    assert TUNED in ids(updates[compare.pickers[1]])
    assert not updates[compare.panes[1].strength].visible
    assert told == []


def test_a_link_is_followed_at_once_where_a_server_stands_in_for_the_local_base(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    main = ScriptedBackend(lambda requests: iter(()))
    main.own = ("support",)
    parts = parts_on(tmp_path, main)
    monkeypatch.setattr(parts.adapters, "list", lambda: pytest.fail("this machine's adapters are not asked"))
    assert parts.base_is_known


def test_a_server_that_is_down_comes_and_goes_in_every_window(parts: Parts) -> None:
    server(parts).becomes(Status("failed", "gpu is down."))
    compare, chat = compare_and_chat(parts)
    known = compare.arrangement.catch_up((), "", "", values(["base"]))[compare.arrangement.known]
    in_chat = chat.on_load()[chat.known]
    assert compare.arrangement.catch_up(known, "", "", values(["base"])) == {}
    store = parts.backends.store
    assert store is not None
    store.remove("gpu")
    parts.backends.refresh()
    updates = compare.arrangement.catch_up(known, "", "", values(["gpu/base", "base"]))
    assert updates[compare.pickers[0]].value is None
    assert chat.catch_up(in_chat, "gpu/base", PaneState())[chat.picker].value is None


def test_a_picker_shows_what_servers_answer_among_its_first_hundred(parts: Parts) -> None:
    adapters = tuple(f"a{number}" for number in range(9))
    server(parts).own = adapters
    first = [mode for _, mode in setup.choices(parts.catalogue.list())][:100]
    assert {"gpu/base", "gpu/persona:meeting-notes", *(f"gpu/adapter:{name}" for name in adapters)} <= {
        *first
    }


def test_a_page_waits_for_all_the_servers_of_its_link_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ("gpu", "lab", "third")
    parts = parts_on(
        tmp_path, ScriptedBackend(lambda requests: iter(())), **{name: f"http://{name}/v1" for name in names}
    )
    compare, _ = compare_and_chat(parts)
    now = 0.0
    asked: list[tuple[str, float]] = []

    def silent(name: str) -> Callable[[float], tuple[str, ...]]:
        def adapters(timeout: float = 0) -> tuple[str, ...]:
            nonlocal now
            now += timeout
            asked.append((name, timeout))
            return ()

        return adapters

    monkeypatch.setattr("ui.arrangement.time.monotonic", lambda: now)
    for name in names:
        monkeypatch.setattr(server(parts, name), "adapters", silent(name))
    query = write_link([f"{name}/adapter:late" for name in names], "Why?", None, (1,) * 3)[1:]
    opened: Any = SimpleNamespace(request=SimpleNamespace(url=SimpleNamespace(query=query)))
    compare.arrangement.on_load(opened)
    assert now == SERVERS_TELL_S
    waited_for = next(name for name, timeout in asked if timeout)
    first = asked.index((waited_for, SERVERS_TELL_S))
    assert {name for name, _ in asked[:first]} == set(names), "all are asked before one is waited for"
