from __future__ import annotations

import re

from tests.browser import panes
from tests.browser.conftest import OpenPage
from tests.browser.panes import link

NOTES = "exam on Tuesday, phones stay outside, bring a pencil"
MODE = "persona:stepwise-editor"


def test_a_pane_says_which_step_is_at_work_and_keeps_what_each_wrote_to_be_unfolded(
    open_page: OpenPage,
) -> None:
    page = open_page(link(MODE, "base"))
    panes.ask(page, NOTES)
    page.locator(".block#pane-1-answer").get_by_text(re.compile("Step 2 of 3: draft")).wait_for()
    panes.wait_done(page, 1, 2)
    assert "Step" not in panes.answer(page, 1)
    speed = page.locator(".block#pane-1-speed").inner_text()
    assert re.search(r"3 steps, \d+ tokens in all$", speed)
    folds = page.locator(".block#pane-1-steps details")
    assert folds.count() == 2
    outline = folds.first.locator("p")
    assert not outline.is_visible()
    folds.first.locator("summary").press("Enter")
    assert outline.is_visible()
    assert outline.inner_text().startswith("- exam on Tuesday")
    assert re.search(
        r"Step 1: outline .*s to first token · .*tokens$", folds.first.locator("summary").inner_text()
    )
    assert page.locator(".block#pane-2-steps details").count() == 0
    page.get_by_role("button", name="New conversation").first.click()
    page.wait_for_function("document.querySelectorAll('.cp-steps details').length === 0")


def test_chat_shows_the_steps_of_its_last_answer(open_page: OpenPage) -> None:
    page = open_page()
    page.get_by_role("tab", name="Chat").click()
    panes.pick(page, "The next answer comes from", "Prompted · Stepwise editor")
    page.get_by_label("Your message").fill(NOTES)
    page.get_by_label("Your message").press("Enter")
    page.locator("#chat-foot.cp-asked:not(.cp-busy)").wait_for()
    assert page.locator(".block#chat-steps details").count() == 2
