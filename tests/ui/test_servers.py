"""The Servers tab: what is declared, looked at, removed; what is wrong is one line and nothing typed is lost."""

from __future__ import annotations

import json
import threading
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr
import pytest

from backends.contract import Status
from backends.served import Offer
from backends.server_errors import Down
from comparison.backends import connect
from comparison.servers import FILE, Entry
from errors import CounterpointError, WorkFailed
from tests.backends.scripted_server import Call, serving
from tests.ui.scripted import ScriptedBackend
from tests.ui.scripted_server import parts_on, server
from ui import markup, page, server_form
from ui import servers as tab
from ui.looks import Seen
from ui.parts import Parts
from ui.servers import Servers

ADDRESS = "http://gpu:8000/v1"
GPU = ("gpu", ADDRESS, "", "", "", "says")


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    lines: list[str] = []
    monkeypatch.setattr(tab, "inform", lines.append)
    return lines


@pytest.fixture
def warned(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    lines: list[str] = []
    monkeypatch.setattr(tab, "warn", lines.append)
    return lines


def main() -> ScriptedBackend:
    return ScriptedBackend(lambda requests: iter(()))


def built(parts: Parts) -> Servers:
    with gr.Blocks():
        return Servers(parts)


def shown(servers: Servers, updates: list[Any]) -> dict[Any, Any]:
    """The updates by component, of a handler that changes all of the tab or what is told alone."""
    outputs = [servers.drafts, *servers.told, *servers.filled]
    if len(updates) < len(outputs):
        outputs = outputs[1:] if len(updates) == len(outputs) - 1 else servers.told
    return dict(zip(outputs, updates, strict=True))


def test_a_saved_server_is_declared_at_once_and_its_modes_are_there(tmp_path: Path, told: list[str]) -> None:
    parts = parts_on(tmp_path, main())
    servers = built(parts)
    after = shown(servers, servers._save({}, None, *GPU))
    assert parts.backends.others == ("gpu",)
    assert parts.mode("gpu/base") is not None
    assert after[servers.open] == after[servers.list].value == "gpu"
    assert after[servers.list].choices == [("gpu · not looked at yet", "gpu")]
    assert "gpu" in told[0]


def test_a_name_that_another_server_has_is_refused_and_a_new_one_renames(
    tmp_path: Path, told: list[str]
) -> None:
    servers = built(parts_on(tmp_path, main()))
    servers._save({}, None, *GPU)
    servers._save({}, None, "lab", "http://lab:8000/v1", *GPU[2:])
    for opened in (None, "lab"):
        with pytest.raises(CounterpointError, match="There is a server gpu already"):
            servers._save({}, opened, "gpu", "http://other:8000/v1", *GPU[2:])
    servers._save({}, "lab", "attic", "http://lab:8000/v1", *GPU[2:])
    assert [(one.name, one.url) for one in servers._declared()] == [
        ("gpu", GPU[1]),
        ("attic", "http://lab:8000/v1"),
    ]


def test_a_mistake_names_its_field_and_saves_nothing(tmp_path: Path) -> None:
    parts = parts_on(tmp_path, main())
    servers = built(parts)
    form = ("GPU 1", "gpu:8000", "", "sk-secret-1", "support\na = x\na = y", "says")
    with pytest.raises(CounterpointError) as raised:
        servers._save({}, None, *form)
    line = str(raised.value)
    assert "\n" not in line
    for field in ("name", "url", "key_env", "adapters"):
        assert tab.say("server_" + field) in line, field
    assert "line 1" in line
    assert "line 3" in line
    assert server_form.KEY_EXAMPLE in line
    assert "sk-secret" not in line
    assert parts.backends.others == ()


def test_what_the_form_says_reads_back_and_keeps_what_it_has_no_field_for() -> None:
    before = Entry(
        name="hosted",
        url="https://api.example.com/v1",
        model="small",
        key_env="COUNTERPOINT_KEY_EXAMPLE",
        adapters={"a": "ft:a=1", "b": "ft:b"},
        extended=False,
        silence_s=7,
    )
    assert server_form.read(server_form.to_fields(before), [before]) == before
    assert server_form.read(GPU, [before]).silence_s is None


def test_whether_a_key_is_set_is_told_and_the_key_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COUNTERPOINT_KEY_SOME", "sk-very-secret")
    monkeypatch.delenv("COUNTERPOINT_KEY_OTHER", raising=False)
    assert server_form.key_note("COUNTERPOINT_KEY_SOME") == "COUNTERPOINT_KEY_SOME is set."
    assert "is not set" in server_form.key_note("COUNTERPOINT_KEY_OTHER")
    for no_name in ("", "sk-very-secret", "<b>", "PATH", None):
        assert server_form.key_note(no_name) == ""


def test_a_look_tells_in_words_what_a_server_has_or_why_not(tmp_path: Path) -> None:
    parts = parts_on(tmp_path, main(), gpu=ADDRESS)
    servers = built(parts)
    gpu = server(parts)
    gpu.has = ("orders", "<b>bold</b>")
    *_, last = servers._look("gpu", *GPU)
    about = shown(servers, last)[servers.about]
    assert "ready" in about
    assert "org\\/base" in about
    assert "<b>" not in about
    assert "gpu/adapter:orders" in [mode.id for mode in parts.catalogue.list()]
    for problem, state in (
        (Down("No route."), "down"),
        (WorkFailed("It refuses the key."), "not usable yet"),
    ):
        gpu.problem = problem
        *_, last = servers._look("gpu", *GPU)
        after = shown(servers, last)
        assert markup.plain(str(problem)) in after[servers.about]
        assert after[servers.list].choices == [(f"gpu · {state}", "gpu")]


def test_an_address_that_lacks_its_end_is_told_as_that_and_not_as_a_server_that_is_down(
    tmp_path: Path, told: list[str]
) -> None:
    def listed(call: Call) -> None:
        there = call.path == "/v1/models"
        call.status(200 if there else 404, json.dumps({"data": call.server.models} if there else {}))

    parts = parts_on(tmp_path, main(), connect)
    servers = built(parts)
    with serving(lambda call: call.answer("x")) as gpu, closing(parts.backends):
        gpu.listed = listed
        form = ("gpu", gpu.url.removesuffix("/v1"), *GPU[2:])
        servers._save({}, None, *form)
        *_, last = servers._look("gpu", *form)
        after = shown(servers, last)
        assert after[servers.list].choices == [("gpu · not usable yet", "gpu")]
        assert markup.plain(f"gpu answers, but has no {form[1]}/models.") in after[servers.about]
        assert markup.plain("An address mostly ends in /v1: add that") in after[servers.about]
        form = ("gpu", gpu.url, *GPU[2:])
        servers._save({}, "gpu", *form)
        *_, last = servers._look("gpu", *form)
        assert shown(servers, last)[servers.list].choices == [("gpu · ready", "gpu")]


def test_how_many_adapters_are_left_out_is_told(tmp_path: Path) -> None:
    parts = parts_on(tmp_path, main(), gpu=ADDRESS)
    servers = built(parts)
    server(parts).left_out = 12
    *_, last = servers._look("gpu", *GPU)
    assert "12 more are left out" in shown(servers, last)[servers.about]


def test_a_server_that_went_down_is_told_with_what_it_last_had(tmp_path: Path) -> None:
    parts = parts_on(tmp_path, main(), gpu=ADDRESS)
    servers = built(parts)
    list(servers._look("gpu", *GPU))
    server(parts).becomes(Status("failed", "gpu is down (no route)."))
    about = servers._tell("gpu")[servers.told.index(servers.about)]
    assert "no route" in about
    assert "Last seen" in about


def test_a_silent_server_keeps_nobody_waiting_and_is_looked_at_once_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = parts_on(tmp_path, main(), gpu=ADDRESS)
    looks = built(parts).looks
    is_asked, speaks = threading.Event(), threading.Event()
    asked: list[str] = []

    def offer(fresh: bool) -> Offer:
        asked.append("gpu")
        is_asked.set()
        assert speaks.wait(30)
        return Offer("gpu", "org/base", "org/base")

    monkeypatch.setattr(server(parts), "offer", offer)
    looks.look(["gpu"], 0)
    looks.look(["gpu"], 0)
    assert is_asked.wait(30)
    assert looks.seen("gpu") == Seen("looking")
    assert asked == ["gpu"]
    speaks.set()
    looks.look(["gpu"], 30)
    assert looks.seen("gpu").state == "ready"


def test_a_server_declared_anew_is_not_taken_for_the_one_before(tmp_path: Path, told: list[str]) -> None:
    parts = parts_on(tmp_path, main(), gpu=ADDRESS)
    servers = built(parts)
    list(servers._look("gpu", *GPU))
    first = server(parts)
    servers._save({}, "gpu", "gpu", "http://other:8000/v1", *GPU[2:])
    assert not first.open
    assert servers.looks.seen("gpu").state == "unseen"


def test_what_is_typed_outlasts_a_look_the_tab_and_another_server(tmp_path: Path) -> None:
    parts = parts_on(tmp_path, main(), gpu=ADDRESS, cpu="http://cpu:8000/v1")
    servers = built(parts)
    typed = ("gpu", "http://moved:8000/v1", *GPU[2:])
    again = shown(servers, servers._refresh("gpu", *typed))
    assert all(again[field] == gr.skip() for field in servers.filled)
    assert tab.say("server_unsaved") in again[servers.about]
    away = shown(servers, servers._select("cpu", "gpu", {}, *typed))
    assert away[servers.form[1]] == "http://cpu:8000/v1"
    drafts = away[servers.drafts]
    back = shown(servers, servers._select("gpu", "cpu", drafts, *(away[field] for field in servers.form)))
    assert tuple(back[field] for field in servers.form) == typed
    assert back[servers.drafts] == drafts


def test_the_first_server_is_open_when_nothing_is_typed(tmp_path: Path) -> None:
    parts = parts_on(tmp_path, main(), gpu=ADDRESS)
    servers = built(parts)
    after = shown(servers, servers._refresh(None, *server_form.EMPTY))
    assert tuple(after[field] for field in servers.form) == GPU
    typing = shown(servers, servers._refresh(None, "new", *server_form.EMPTY[1:]))
    assert typing[servers.open] is None
    assert typing[servers.form[0]] == gr.skip()


def test_a_server_is_removed_once_one_is_sure(tmp_path: Path, told: list[str]) -> None:
    parts = parts_on(tmp_path, main(), gpu=ADDRESS)
    servers = built(parts)
    assert servers._remove(None, {}) == gr.skip(), "who is not sure removes nothing"
    after = shown(servers, servers._remove("gpu", {}))
    assert parts.backends.others == ()
    assert after[servers.list].choices == []
    assert tuple(after[field] for field in servers.form) == server_form.EMPTY
    assert after[servers.remove].visible is False


def test_an_adapter_is_loaded_onto_a_server_and_seen_there(tmp_path: Path, told: list[str]) -> None:
    parts = parts_on(tmp_path, main(), gpu=ADDRESS)
    servers = built(parts)
    with pytest.raises(CounterpointError, match="nothing to load"):
        servers._load("gpu", "orders", " ")
    assert servers._load("gpu", " orders ", "/adapters/orders") == ["", ""]
    assert server(parts).loaded == [("orders", "/adapters/orders")]
    *_, last = servers._look("gpu", *GPU)
    assert "orders" in shown(servers, last)[servers.about]


def test_a_look_at_nothing_leaves_the_page_as_it_is(tmp_path: Path) -> None:
    servers = built(parts_on(tmp_path, main()))
    assert list(servers._look(None, *server_form.EMPTY)) == [gr.skip()]


def test_a_server_in_place_of_the_local_base_is_told_as_that(tmp_path: Path) -> None:
    stands_in = main()
    stands_in.name = "gpu"
    servers = built(parts_on(tmp_path, stands_in, gpu=ADDRESS))
    about = servers._tell("gpu")[servers.told.index(servers.about)]
    assert tab.say("server_is_main") in about


def test_on_a_public_address_servers_are_shown_and_nothing_of_them_is_changed(
    tmp_path: Path, told: list[str]
) -> None:
    parts = replace(parts_on(tmp_path, main(), gpu=ADDRESS, cpu="http://cpu:8000/v1"), public=True)
    servers = built(parts)
    kept = (tmp_path / FILE).read_text()
    for change in (
        lambda: servers._save({}, None, *GPU),
        lambda: servers._remove("gpu", {}),
        lambda: servers._load("gpu", "orders", "/adapters/orders"),
    ):
        with pytest.raises(CounterpointError, match=r"declared in servers\.yaml"):
            change()
    assert (tmp_path / FILE).read_text() == kept
    assert server(parts).loaded == []
    assert not told
    *_, last = servers._look("gpu", *server_form.EMPTY)
    selected = servers._select("cpu", "gpu", {}, *server_form.EMPTY)
    for updates in (servers._refresh(None, *server_form.EMPTY), last, selected):
        after = shown(servers, updates)
        assert [name for _, name in after[servers.list].choices] == ["gpu", "cpu"]
        assert after[servers.look].visible
        assert not any(after[each].visible for each in (servers.new, servers.remove, servers.load_box))
        assert tab.say("server_unsaved") not in after[servers.about]
        assert ADDRESS not in str(updates)
    assert "ready" in shown(servers, last)[servers.about]
    assert not servers.save.visible
    assert not servers.form_box.visible


def test_a_file_that_was_edited_by_hand_acts_as_soon_as_the_tab_is_opened(tmp_path: Path) -> None:
    parts = parts_on(tmp_path, main(), gpu=ADDRESS)
    servers = built(parts)
    before = server(parts)
    (tmp_path / FILE).write_text("servers:\n- name: lab\n  url: http://lab/v1\n")
    assert shown(servers, servers._tell("gpu"))[servers.list].choices == [], (
        "what is not taken in yet breaks nothing"
    )
    after = shown(servers, servers._refresh(None, *server_form.EMPTY))
    assert [name for _, name in after[servers.list].choices] == ["lab"]
    assert after[servers.form[1]] == "http://lab/v1"
    assert parts.backends.others == ("lab",)
    assert not before.open


def test_a_file_that_cannot_be_read_is_one_warning_and_the_servers_of_before_stay(
    tmp_path: Path, warned: list[str]
) -> None:
    parts = parts_on(tmp_path, main(), gpu=ADDRESS)
    servers = built(parts)
    (tmp_path / FILE).write_text("servers:\n- name: gpu\n  url: nowhere\n")
    for open_, form in ((None, server_form.EMPTY), ("gpu", GPU)):
        for updates in (servers._refresh(open_, *form), servers._look_at_all(open_, *form)):
            after = shown(servers, updates)
            assert [name for _, name in after[servers.list].choices] == ["gpu"]
        (line,) = warned
        assert "servers.yaml:3" in line
        assert f"(in {tmp_path}). Mend" in line
        warned.clear()
    assert "ready" in after[servers.about]
    with pytest.raises(CounterpointError, match=r"servers\.yaml:3"):
        servers._save({}, "gpu", *GPU)


def test_every_mode_list_hears_of_what_changes_the_servers(tmp_path: Path) -> None:
    blocks = page.build(parts_on(tmp_path, main()))
    buttons = {each.elem_id: each for each in blocks.blocks.values() if isinstance(each, gr.Button)}
    pickers = {
        each._id
        for each in blocks.blocks.values()
        if isinstance(each, gr.Dropdown) and "cp-mode" in each.elem_classes
    }
    for name in ("save", "remove", "look", "load"):
        (clicked,) = (
            number
            for number, fn in blocks.fns.items()
            if (buttons[f"server-{name}"]._id, "click") in fn.targets
        )
        chain, painted = {clicked}, set()
        for number, fn in blocks.fns.items():
            if fn.trigger_after in chain:
                chain.add(number)
                painted |= {output._id for output in fn.outputs}
        assert pickers <= painted, name
