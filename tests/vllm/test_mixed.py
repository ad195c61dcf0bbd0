"""The same question in one comparison, in the browser: the local engine in NF4, vLLM, and a second Counterpoint."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.serving import app
from comparison.servers import Declared, ServerStore
from tests.browser import panes
from tests.browser.conftest import CHROMIUM, FLAGS
from tests.vllm.conftest import KEY_ENV

pytestmark = pytest.mark.vllm
PANES = ("adapter:support", "vllm/adapter:support", "second/adapter:support", "second/persona:support-desk")


def test_one_question_runs_through_three_engines_side_by_side(address: str, tmp_path: Path) -> None:
    from playwright.sync_api import sync_playwright

    with app(tmp_path / "second") as second:
        first_data = tmp_path / "first"
        first_data.mkdir()
        store = ServerStore(first_data)
        store.save(Declared(name="vllm", url=address, key_env=KEY_ENV))
        store.save(Declared(name="second", url=second))
        with app(first_data) as first, sync_playwright() as playwright:
            chromium = playwright.chromium.launch(
                executable_path=CHROMIUM if CHROMIUM.exists() else None, args=FLAGS
            )
            page = chromium.new_page(viewport={"width": 1440, "height": 900})
            page.set_default_timeout(180_000)
            page.goto(first.removesuffix("v1") + panes.link(*PANES))
            page.wait_for_function("document.querySelector('.cp-state.cp-ready') !== null")
            page.wait_for_function(
                "[4].every(n => document.querySelector(`#pane-${n}-mode input`)?.value.includes('second'))"
            )
            panes.ask(page, "How much is the Heron plan?")
            panes.wait_done(page, 1, 2, 3, 4)
            answers = [panes.answer(page, number) for number in (1, 2, 3, 4)]
            for number, told in ((1, "nf4"), (2, "vllm"), (3, "second")):
                receipt = page.locator(f"#pane-{number}-receipt")
                receipt.get_by_role("button", name="Receipt").click()
                receipt.get_by_text(told).first.wait_for()
            chromium.close()
    assert all("£34" in answer for answer in answers[:3]), answers
    assert answers[3] != answers[2]
