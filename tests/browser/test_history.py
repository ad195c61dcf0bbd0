"""Nothing said is lost: conversations are found again, kept in order, and gone on with, also after a crash."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests import tiny
from tests.browser import panes
from tests.browser.conftest import OpenPage, pages, serving


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("history") / "data"


@pytest.fixture(scope="module")
def address(data: Path, tiny_base: Path) -> Iterator[str]:
    options = ("--base", str(tiny_base), "--quantization", "none")
    with serving(data, data.parent / "serve.log", *options) as served:
        yield served


@pytest.fixture
def open_tiny(browser: Any, address: str) -> Iterator[OpenPage]:
    with pages(browser, address) as open_page:
        yield open_page


def talk(page: Any, *questions: str) -> None:
    panes.set_most_tokens(page, 8)
    for question in questions:
        panes.ask(page, question)
        panes.wait_done(page, 1, 2)


def look(page: Any, search: str = "") -> Any:
    page.get_by_role("tab", name="History").click()
    page.locator("#history-list label").first.wait_for()
    listed = page.locator("#history-list label")
    if search:
        box = page.get_by_label("Search everything that was said")
        box.press("ControlOrMeta+a")
        box.press_sequentially(search)
        page.wait_for_function("() => document.querySelectorAll('#history-list label').length === 1")
    return listed


def replayed(page: Any, file: Path) -> None:
    """Opens the page without any network, plays it, and sees all of it in the end."""
    offline = page.context.browser.new_context(offline=True)
    shown = offline.new_page()
    problems: list[str] = []
    shown.on("console", lambda message: problems.append(message.text))
    shown.goto(file.as_uri())
    answers = [one.inner_text() for one in shown.locator(".answer").all()]
    assert all(answers)
    shown.get_by_label("Speed").select_option("16")
    shown.get_by_role("button", name="Play").click()
    shown.locator(".round").nth(1).wait_for(state="hidden")
    shown.get_by_role("button", name="Play").wait_for()
    assert [one.inner_text() for one in shown.locator(".answer").all()] == answers
    assert problems == []
    offline.close()


def test_a_conversation_is_found_kept_in_order_and_gone_on_with_in_another_page(
    open_tiny: OpenPage, tmp_path: Path
) -> None:
    page = open_tiny(panes.link("base", "base"))
    talk(page, "where is the fox <b>?", "and the bear?")
    page.get_by_role("button", name="New conversation").first.click()
    talk(page, "when does the bridge open?")
    listed = look(page)
    page.wait_for_function("document.querySelectorAll('#history-list label').length === 2")
    assert "when does the bridge open?" in listed.first.inner_text()
    look(page, "bea")
    assert "“and the bear?”" in listed.first.inner_text()
    listed.first.click()
    page.locator("#history-about").get_by_text("where is the fox <b>?").wait_for()
    assert page.locator("#history-turns").get_by_text("and the bear?").count() == 2

    title = page.get_by_label("Title (Enter keeps it)")
    title.fill("Zoo")
    title.press("Enter")
    page.locator("#history-list").get_by_text("Zoo · ").wait_for()
    tags = page.get_by_label("Tags, with commas between")
    tags.fill("demo, for Ann")
    tags.press("Enter")
    page.locator("#history-about").get_by_text("for Ann").wait_for()
    page.get_by_role("button", name="Pin", exact=True).click()
    page.locator("#history-list").get_by_text("📌 Zoo").wait_for()

    page.get_by_role("button", name="Export", exact=True).click()
    for name, ending in (("Markdown", "md"), ("Replay (HTML)", "html")):
        with page.expect_download() as download:
            page.get_by_role("button", name=name, exact=True).click()
        assert download.value.suggested_filename == f"zoo.{ending}"
        download.value.save_as(tmp_path / f"zoo.{ending}")
    assert "> and the bear?" in (tmp_path / "zoo.md").read_text()
    replayed(page, tmp_path / "zoo.html")

    page.get_by_role("button", name="Delete", exact=True).click()
    page.get_by_text("“Zoo” is deleted.").wait_for()
    page.get_by_text("Nothing was found").wait_for()
    page.get_by_role("button", name="Undo", exact=True).click()
    page.locator("#history-list").get_by_text("📌 Zoo").wait_for()

    other = open_tiny()
    assert "Zoo" in look(other).first.inner_text(), "pinned ones are the first"
    look(other).first.click()
    other.get_by_role("button", name="Go on with it").click()
    other.locator("#pane-2-question").get_by_text("and the bear?").wait_for()
    assert "where is the fox <b>?" in other.locator("#pane-1-older").inner_text()
    talk(other, "and the wolf?")
    assert "and the bear?" in other.locator("#pane-2-older").inner_text()

    # The first page knows nothing of that until it looks again.
    page.get_by_role("tab", name="Chat").click()
    look(page)
    page.locator("#history-turns").get_by_text("and the wolf?").first.wait_for()


def test_the_later_of_two_pages_is_told_and_its_branch_can_be_left_again(open_tiny: OpenPage) -> None:
    page = open_tiny(panes.link("base", "base"))
    talk(page, "what is a mill?")
    other = open_tiny()
    look(other, "mill").first.click()
    other.get_by_role("button", name="Go on with it").click()
    other.locator("#pane-1-question").get_by_text("what is a mill?").wait_for()
    talk(other, "the first to go on?")
    talk(page, "the later one?")
    assert "has gone on in another page meanwhile" in panes.notice(page, 1)
    look(page, "mill").first.click()
    page.locator("#history-turns").get_by_text("the later one?").first.wait_for()
    panes.pick(page, "Go back to another branch", "Pane 1, question 2: the first to go on?")
    page.locator("#history-turns").get_by_text("the first to go on?").first.wait_for()


@pytest.mark.slow
def test_after_a_crash_all_that_was_said_is_there_and_what_was_under_way_is_told_as_lost(
    browser: Any, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    base = tiny.make_base(tmp_path / "slow", layers=20, hidden=128)
    options = ("--base", str(base), "--quantization", "none")
    with serving(data, tmp_path / "first.log", *options) as address, pages(browser, address) as open_page:
        page = open_page(panes.link("base", "base"))
        talk(page, "one?")
        [app] = [
            process
            for process in psutil.process_iter(["cmdline"])
            if str(data) in (process.info["cmdline"] or []) and "serve" in process.info["cmdline"]
        ]
        panes.set_most_tokens(page, 4000)
        panes.ask(page, "two, at length?")
        panes.wait_streaming(page, 1, 2)
        os.kill(app.pid, signal.SIGKILL)
    with serving(data, tmp_path / "second.log", *options) as address, pages(browser, address) as open_page:
        assert (
            "2 answers were under way when Counterpoint last ended" in (tmp_path / "second.log").read_text()
        )
        page = open_page()
        look(page, "length").first.click()
        page.locator("#history-turns").get_by_text("Lost: Counterpoint ended").first.wait_for()
        page.get_by_role("button", name="Go on with it").click()
        page.locator("#pane-1-notice").get_by_text("Lost: Counterpoint ended").wait_for()
        assert "one?" in page.locator("#pane-1-older").inner_text()
        talk(page, "three?")
        assert panes.answer(page, 1)
