"""From a file of examples to an adapter that answers, in the browser alone: on a tiny base, so that it takes a minute."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.browser import panes
from tests.browser.conftest import pages, serving

THINGS = (
    "lamp kettle tent bicycle sofa desk mirror carpet clock vase ladder drum "
    "radio teapot bench basket pillow candle shelf towel mat jug bowl fan"
)


@pytest.mark.slow
def test_a_table_becomes_a_tested_adapter_that_answers_beside_the_base_though_page_and_app_end_meanwhile(
    browser: Any, tiny_base: Path, tmp_path: Path
) -> None:
    data, table = tmp_path / "data", tmp_path / "shop_floor.csv"
    rows = [f"where is the {thing}?,the {thing} ships to you today" for thing in THINGS.split()]
    table.write_text("\n".join(["question,answer", *rows]) + "\n")
    options = ("--base", str(tiny_base), "--quantization", "none")

    with serving(data, tmp_path / "first.log", *options) as address, pages(browser, address) as open_page:
        page = open_page()
        page.get_by_role("tab", name="Train").click()
        page.set_input_files("#train-file input[type=file]", table)
        page.get_by_text("Sound rows: 24").wait_for()
        assert "ships to you today" in page.locator("#train-rows mark").first.inner_text()
        page.wait_for_function(
            "title => document.querySelector('#train-title input, #train-title textarea').value === title",
            arg="Shop floor",
        )
        page.get_by_role("button", name="Train", exact=True).click()
        page.get_by_text("Close this page if you like").wait_for()
        page.get_by_role("tab", name="Compare").click()
        page.get_by_text("training shop-floor: answers are slower").wait_for()
        panes.ask(page, "where is the tent?")
        panes.wait_done(page, 1, 2)
        assert panes.answer(page, 1)

    with serving(data, tmp_path / "second.log", *options) as address, pages(browser, address) as open_page:
        page = open_page()
        page.get_by_role("tab", name="Train").click()
        page.locator("#train-gate").get_by_text("its test").first.wait_for()
        shown = page.locator("#train-gate").inner_text()
        assert "It passed its test." in shown
        page.get_by_text("Every list of modes has it, as adapter:shop-floor").wait_for()
        assert page.locator("#train-curves circle").count() >= 1
        for part in ("Held-out loss", "Memorised", "Generalises", "Forgot", "Consistent", "Bias"):
            assert part in shown
        assert "no held-out row has checks" in shown
        assert page.locator("#train-gate svg").count() == 6

        # The page is the same one: no reload tells the pickers.
        page.get_by_role("tab", name="Compare").click()
        picker = page.get_by_label("Pane 2 answers as")
        picker.click()
        picker.fill("Shop")
        page.get_by_role("option", name="Tuned · Shop floor", exact=True).click()
        panes.ask(page, "where is the lamp?")
        panes.wait_done(page, 1, 2)
        page.locator("#pane-2-receipt").get_by_role("button", name="Receipt").click()
        page.locator("#pane-2-receipt").get_by_text("adapter:shop-floor").first.wait_for()
