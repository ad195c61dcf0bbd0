"""From a suite to figures in the browser alone, on a tiny base: what is measured goes on whatever becomes of the page."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests import tiny
from tests.browser import panes
from tests.browser.conftest import OpenPage, pages, serving

SUITE = """\
name: foxes
title: Foxes and <b>bridges</b>
max_tokens: 120
tests:
  - question: the quick fox?
    assert: [{type: not-equals, value: "", metric: format}]
  - question: the lazy dog <img src=x onerror="window.hit = 1">?
    assert: [{type: icontains, value: dog, metric: knowledge}]
  - question: a bridge ${window.hit = 1}?
    assert: [{type: icontains, value: opens, metric: knowledge}]
""" + "".join(
    f"  - {{question: 'number {n}?', assert: [{{type: icontains, value: fox}}]}}\n" for n in range(7)
)
"""Enough of them that it still goes on when the page is there again."""


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny base that is slow enough to be stopped on the way."""
    return tiny.make_base(tmp_path_factory.mktemp("slow") / "base", layers=20, hidden=128)


@pytest.fixture(scope="module")
def data(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("measuring") / "data"
    tiny.make_adapter(folder / "adapters" / "one", base, scale=0.05)
    return folder


@pytest.fixture(scope="module")
def address(data: Path, base: Path) -> Any:
    with serving(data, data / "serve.log", "--base", str(base), "--quantization", "none") as served:
        yield served


@pytest.fixture
def open_tiny(browser: Any, address: str) -> Any:
    with pages(browser, address) as open_page:
        yield open_page


def come(page: Any) -> None:
    page.get_by_role("tab", name="Measure").click()
    # Either what would be asked, or what goes on.
    page.locator("#measure-forecast p, #measure-about p").first.wait_for()


def choose(page: Any, path: Path, *modes: str) -> None:
    """A suite of one's own and modes, in place of those that are suggested."""
    panes.pick(page, "Questions", "A file of your own")
    page.set_input_files("#measure-file input[type=file]", path)
    page.locator("#measure-read").get_by_text("It asks").wait_for()
    page.locator("#measure-modes").get_by_role("button", name="Clear").click()
    box = page.get_by_label("Modes", exact=True)
    for mode in modes:
        box.click()
        box.press_sequentially(mode)
        page.get_by_role("option", name=mode, exact=True).click()
        page.locator("#measure-modes .token", has_text=mode).wait_for()
    page.locator("#measure-forecast").get_by_text(f"of {len(modes)} modes").wait_for()


@pytest.mark.slow
def test_a_suite_is_measured_though_its_page_is_reloaded_stopped_gone_on_with_and_read(
    open_tiny: OpenPage, data: Path, tmp_path: Path
) -> None:
    suite = tmp_path / "foxes.yaml"
    suite.write_text(SUITE)
    page = open_tiny()
    come(page)
    choose(page, suite, "Bare", "Tuned · one")
    page.get_by_role("button", name="Measure", exact=True).click()
    page.locator("#measure-progress").get_by_text("timing answers one by one").wait_for()

    page.reload()
    page.wait_for_function("document.querySelector('.cp-state.cp-ready') !== null")
    page.get_by_text("measuring foxes-1: answers are slower").wait_for()
    come(page)
    page.locator("#measure-about").get_by_text("measuring", exact=True).wait_for()
    before = page.locator("#measure-progress progress").get_attribute("value")
    page.wait_for_function(
        "before => document.querySelector('#measure-progress progress')?.value > Number(before)", arg=before
    )
    page.get_by_role("button", name="Stop", exact=True).click()
    page.get_by_text("answers are kept: Go on asks the others").wait_for()
    answers = data / "measurements" / "foxes-1" / "answers.jsonl"
    kept = answers.read_bytes()
    assert 0 < kept.count(b"\n") < 41

    report = page.locator("#measure-report")
    question = report.locator("details.cp-m-question", has_text="the lazy dog").first
    question.locator("summary").click()
    page.get_by_role("button", name="Go on", exact=True).click()
    page.locator("#measure-about").get_by_text("complete", exact=True).wait_for()
    told = [json.loads(line) for line in answers.read_bytes().splitlines()]
    assert answers.read_bytes().startswith(kept)
    asked = [(one["kind"], one["case"], one["slot"]) for one in told]
    assert len(asked) == len(set(asked)) == 41, "ten questions timed and asked of two modes, and a change"

    report.get_by_text("Advice").wait_for()
    # What was opened of the figures so far stays open.
    question.get_by_text("seed").first.wait_for()
    assert "adapter:one" in question.inner_text()
    assert page.evaluate("window.hit") is None
    # A figure leads to the very answer that it comes from, which opens.
    figure = report.locator("#customisation-all")
    figure.locator("summary", has_text="questions behind it").click()
    link = figure.locator("td a").last
    place = (link.get_attribute("href") or "").removeprefix("#")
    answer = report.locator(f"[id='{place}']")
    assert not answer.is_visible()
    link.click()
    answer.get_by_text("seed").first.wait_for()

    page.get_by_role("button", name="Download", exact=True).click()
    for name, part in (
        ("report.html", "<!doctype html>"),
        ("answers.csv", "adapter:one"),
        ("figures.csv", "aspect"),
    ):
        with page.expect_download() as download:
            page.get_by_role("button", name=name).click()
        file = tmp_path / download.value.suggested_filename
        download.value.save_as(file)
        assert file.name == name
        assert part in file.read_text()

    other = open_tiny()
    come(other)
    other.get_by_role("radio", name="bridges").click()
    other.locator("#measure-report").get_by_text("Time of the whole answer").first.wait_for()
    assert other.get_by_role("button", name="Delete", exact=True).is_visible()


def test_a_mistake_is_one_line_and_loses_nothing(open_tiny: OpenPage, tmp_path: Path) -> None:
    broken = tmp_path / "broken.yaml"
    broken.write_text(SUITE.replace("title:", "titel:").replace("max_tokens: 120", "max_tokens: many"))
    suite = tmp_path / "foxes.yaml"
    suite.write_text(SUITE)
    page = open_tiny()
    come(page)
    panes.pick(page, "Questions", "A file of your own")
    page.set_input_files("#measure-file input[type=file]", broken)
    told = page.locator("#measure-read")
    told.get_by_text("broken.yaml:2: titel").wait_for()
    told.get_by_text("broken.yaml:3: max_tokens").wait_for()
    assert page.get_by_role("button", name="Measure", exact=True).is_disabled()
    page.locator("#measure-file").get_by_role("button", name="Clear").click()
    page.set_input_files("#measure-file input[type=file]", suite)
    told.get_by_text("It asks 10 questions").wait_for()
    page.get_by_role("button", name="Prices and more").click()
    price = page.get_by_label("An hour of this machine")
    price.press_sequentially("cheap")
    price.blur()
    page.get_by_role("button", name="Measure", exact=True).click()
    page.get_by_text("An hour of this machine must be a number, not “cheap”").wait_for()
    assert price.input_value() == "cheap"
    page.locator("#measure-modes").get_by_role("button", name="Clear").click()
    page.get_by_role("button", name="Measure", exact=True).click()
    page.get_by_text("No mode is chosen").wait_for()
    page.wait_for_function("!document.querySelector('#measure-forecast').innerText.trim()")


def test_a_phone_shows_the_form_and_never_scrolls_sideways(open_tiny: OpenPage) -> None:
    page = open_tiny(viewport={"width": 390, "height": 844})
    page.get_by_role("button", name="More tabs").click()
    page.locator(".overflow-dropdown").get_by_role("button", name="Measure").click()
    page.locator("#measure-forecast").get_by_text("answers will be asked").wait_for()
    page.get_by_role("button", name="Prices and more").click()
    page.get_by_label("Training once").wait_for()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
