from __future__ import annotations

import re
from typing import Any

from tests.browser import panes
from tests.browser.conftest import OpenPage
from tests.browser.panes import FOUR, link

LONG = "Write a long story about a river and a mill."


def test_one_question_streams_in_four_panes_at_once(open_page: OpenPage) -> None:
    page = open_page(link(*FOUR, seed=1))
    panes.ask(page, LONG)
    panes.wait_streaming(page, 1, 2, 3, 4)
    first = [len(panes.answer(page, pane)) for pane in (1, 2, 3, 4)]
    page.wait_for_function(
        """before => [1, 2, 3, 4].every((n, i) =>
            document.querySelector(`.block#pane-${n}-answer`).innerText.trim().length > before[i]
            || !document.querySelector(`#pane-${n}-foot.cp-busy`))""",
        arg=first,
    )
    page.get_by_label("Your question").press("Escape")
    panes.wait_done(page, 1, 2, 3, 4)
    answers = [panes.answer(page, pane) for pane in (1, 2, 3, 4)]
    assert len(set(answers)) == 4
    for pane in (1, 2, 3, 4):
        speed = page.locator(f".block#pane-{pane}-speed").inner_text()
        assert re.search(r"s to first token · [\d.]+ tokens/s · \d+ tokens", speed)


def test_one_pane_is_stopped_and_asked_again_while_others_go_on(open_page: OpenPage) -> None:
    page = open_page(link("base", "base"))
    panes.set_most_tokens(page, 2000)  # both go on until they are stopped, however slow the page is
    panes.ask(page, LONG)
    panes.wait_streaming(page, 1, 2)
    page.locator("#pane-1-stop").click()
    panes.wait_done(page, 1)
    assert panes.is_busy(page, 2)
    assert panes.notice(page, 1) == "Stopped."
    page.locator("#pane-1-again").click()
    panes.wait_streaming(page, 1, 2)
    page.get_by_role("button", name="Stop all").click()
    panes.wait_done(page, 1, 2)
    assert panes.notice(page, 2) == "Stopped."


def test_enter_sends_shift_enter_breaks_and_escape_stops(open_page: OpenPage) -> None:
    page = open_page(link("base", "base"))
    box = page.get_by_label("Your question")
    box.fill("Write a long story")
    box.press("Shift+Enter")
    box.type("about a mill.")
    assert box.input_value() == "Write a long story\nabout a mill."
    assert not panes.is_busy(page, 1)
    box.press("Enter")
    panes.wait_streaming(page, 1, 2)
    assert box.input_value() == ""
    page.keyboard.press("Escape")
    panes.wait_done(page, 1, 2)
    assert {panes.notice(page, 1), panes.notice(page, 2)} == {"Stopped."}


def test_a_link_reproduces_the_set_up_and_is_copied_again(open_page: OpenPage) -> None:
    page = open_page(
        link(*FOUR[::-1], q="Can I pause?", seed=7), permissions=["clipboard-read", "clipboard-write"]
    )
    assert page.get_by_label("Your question").input_value() == "Can I pause?"
    assert panes.mode_shown(page, 1).startswith("Both · trial")
    assert panes.mode_shown(page, 4) == "Bare"
    assert not panes.is_busy(page, 1)
    page.get_by_role("button", name="Copy link").click()
    page.get_by_role("button", name="Copied").wait_for()
    copied = page.evaluate("navigator.clipboard.readText()")
    again = open_page(copied.split("/", 3)[3])
    assert again.get_by_label("Your question").input_value() == "Can I pause?"
    assert panes.mode_shown(again, 3) == panes.mode_shown(page, 3)


def test_a_link_to_a_mode_that_is_not_here_says_so_in_one_line(open_page: OpenPage) -> None:
    page = open_page(link("base", "adapter:gone", q="Hi"))
    page.get_by_text("The link asks for a mode that is not here: adapter:gone.").wait_for()
    assert page.get_by_label("Your question").input_value() == "Hi"
    assert panes.mode_shown(page, 2) == "", "nothing else answers in its place"
    page.get_by_label("Your question").press("Enter")
    page.get_by_text("Pane 2 has no mode").wait_for()
    assert page.get_by_label("Your question").input_value() == "Hi"


def test_the_mode_of_a_pane_is_changed_and_the_next_answer_is_its(open_page: OpenPage) -> None:
    page = open_page(link("base", "base"))
    panes.set_most_tokens(page, 8)
    panes.ask(page, "Why is the sky blue?")
    panes.wait_done(page, 1, 2)
    panes.pick(page, "Pane 2 answers as", "Prompted · Coffee support desk")
    page.locator("#pane-2.cp-prompted").wait_for()
    newest = page.locator(".block#pane-2-by")
    newest.get_by_text("Bare", exact=True).wait_for()
    panes.ask(page, "And the sea?")
    assert newest.inner_text().strip() == "", "the heading says it"
    panes.wait_done(page, 1, 2)
    page.locator("#pane-2-receipt").get_by_role("button", name="Receipt").click()
    receipt = page.locator("#pane-2-receipt")
    receipt.get_by_text("support-desk").first.wait_for()
    text = receipt.inner_text()
    assert "You are the support desk of Copper Heron Coffee" in text
    assert "Why is the sky blue?" in text, "the follow-up goes on in the pane's own history"
    assert page.locator("#pane-2-older").get_by_text("Why is the sky blue?").count() == 1


def test_a_prompt_that_is_too_long_is_one_panes_error_and_loses_nothing(open_page: OpenPage) -> None:
    page = open_page(link("base", "base"))
    box = page.get_by_label("Your question")
    kept = "asked => document.querySelector('#question textarea').value === asked"
    longer = ("heron " * 9_000).strip()
    box.fill(longer)
    box.press("Enter")
    page.get_by_text("32,000 fit").first.wait_for()
    page.wait_for_function(kept, arg=longer)
    assert page.locator(".block#pane-1-question").inner_text().strip() == "", (
        "no pane shows what was not asked"
    )
    question = ("heron " * 5_000).strip()
    panes.ask(page, question)
    panes.wait_done(page, 1, 2)
    page.wait_for_function("document.querySelector('.block#pane-1-notice').innerText.includes('tokens')")
    page.wait_for_function(kept, arg=question)


def test_the_exact_prompt_can_be_seen_before_asking(open_page: OpenPage) -> None:
    page = open_page(link("base", "persona:support-desk", q="Can I pause?"))
    page.locator("#pane-2-adjust").get_by_role("button", name="Adjust").click()
    shown = page.locator("#pane-2-adjust")
    shown.get_by_text(re.compile(r"tokens of the [\d,]+ that fit")).wait_for()
    assert "Can I pause?" in shown.inner_text()
    assert "made-up question" not in shown.inner_text()
    assert "Copper Heron Coffee" in shown.inner_text()


def test_a_personas_variables_are_filled_in_once_for_all_its_panes(open_page: OpenPage) -> None:
    page = open_page(
        link("persona:marketing-planner", "adapter:trial+persona:marketing-planner", q="A bakery")
    )
    budget = page.get_by_label(re.compile("Budget:"))
    budget.wait_for()
    assert budget.count() == 1
    budget.fill("ninety pounds")
    budget.blur()
    for pane in (1, 2):
        page.locator(f"#pane-{pane}-adjust").get_by_role("button", name="Adjust").click()
        page.wait_for_function(
            """pane => {
                if (document.querySelector(`#pane-${pane}-adjust`).innerText.includes('ninety pounds')) return true;
                document.querySelector(`#pane-${pane}-show-prompt`).click();
                return false;
            }""",
            arg=pane,
            polling=500,
        )
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.get_by_role("button", name="Copy link").click()
    page.get_by_role("button", name="Copied").wait_for()
    again = open_page(page.evaluate("navigator.clipboard.readText()").split("/", 3)[3])
    again.wait_for_function(
        "[...document.querySelectorAll('.cp-variables textarea')].some(box => box.value === 'ninety pounds')"
    )


def test_panes_are_added_and_removed_between_two_and_six(open_page: OpenPage) -> None:
    page = open_page(link("base", "base"))
    add = page.get_by_role("button", name="Add pane")
    for count in (3, 4, 5, 6):
        add.click()
        page.wait_for_function("n => document.querySelectorAll('.cp-pane').length === n", arg=count)
    added = [panes.mode_shown(page, pane) for pane in (3, 4, 5, 6)]
    assert len({"Bare", *added}) == 5, "each answers in a way of its own"
    add.click()
    page.get_by_text("There are 6 panes already").first.wait_for()
    page.get_by_role("button", name="Remove this pane").nth(2).click()
    page.wait_for_function("document.querySelectorAll('.cp-pane').length === 5")


def test_markup_in_a_question_is_shown_as_typed(open_page: OpenPage) -> None:
    page = open_page(link("base", "base"))
    panes.set_most_tokens(page, 4)
    nasty = '<img src=x onerror="window.hit=1"> **bold** ![x](http://127.0.0.1:9/x.png)'
    panes.ask(page, nasty)
    panes.wait_done(page, 1, 2)
    assert page.locator(".block#pane-1-question").inner_text().strip() == nasty
    panes.ask(page, "And now?")
    panes.wait_done(page, 1, 2)
    assert page.evaluate("window.hit") is None


def test_a_stopped_pane_among_six_shows_to_its_end_that_it_was(open_page: OpenPage) -> None:
    page = open_page(link(*["base"] * 6))
    panes.ask(page, "Write a long story about a river, chapter by chapter.")
    page.wait_for_function(
        "() => [...document.querySelectorAll('.cp-pane .cp-body')].some(body => body.scrollTop > 60)"
    )
    page.get_by_role("button", name="Stop all").click()
    panes.wait_done(page, 1, 2, 3, 4, 5, 6)
    page.wait_for_function(
        """() => [...document.querySelectorAll('.cp-pane .cp-body')].every(body =>
            body.innerText.includes('Stopped.') && body.scrollHeight - body.scrollTop - body.clientHeight < 2)"""
    )


def test_a_phone_swipes_through_panes_and_never_scrolls_sideways(open_page: OpenPage) -> None:
    page = open_page(link(*FOUR), viewport={"width": 390, "height": 844})
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    first, second = (page.locator(f"#pane-{pane}").bounding_box() for pane in (1, 2))
    assert first["y"] == second["y"]
    assert first["width"] > 250
    page.locator("#panes").evaluate("row => row.scrollTo({left: row.scrollWidth, behavior: 'instant'})")
    page.wait_for_function("document.querySelector('#pane-4').getBoundingClientRect().left < innerWidth / 2")
    box = page.get_by_label("Your question").bounding_box()
    assert box["y"] + box["height"] <= 844, "the question stays in reach"
    for tab in ("Chat", "Personas", "Adapters"):
        _open_tab(page, tab)
        page.locator(f"#{tab.lower()}").wait_for()
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), tab


def _open_tab(page: Any, name: str) -> None:
    tab = page.get_by_role("tab", name=name)
    if not tab.is_visible():
        page.get_by_role("button", name="More tabs").click()
        page.locator(".overflow-dropdown").get_by_role("button", name=name).click()
        return
    tab.click()


def test_dark_follows_the_system_until_it_is_chosen(open_page: OpenPage) -> None:
    page = open_page(color_scheme="dark")
    assert page.evaluate("document.body.classList.contains('dark')")
    dark = page.get_by_role("button", name="Dark")
    assert dark.get_attribute("aria-pressed") == "true"
    dark.click()
    page.wait_for_function("!document.body.classList.contains('dark')")
    page.reload()
    page.get_by_label("Your question").wait_for()
    page.wait_for_function("window.counterpoint !== undefined")
    assert not page.evaluate("document.body.classList.contains('dark')")


def test_demo_mode_is_readable_across_a_room(open_page: OpenPage) -> None:
    page = open_page()
    size = "parseFloat(getComputedStyle(document.querySelector('.cp-answer')).fontSize)"
    before = page.evaluate(size)
    page.get_by_role("button", name="Demo mode").click()
    page.wait_for_function("document.documentElement.classList.contains('cp-large')")
    assert page.evaluate(size) >= 1.6 * before


def test_enter_while_answers_run_says_so_and_keeps_the_text(open_page: OpenPage) -> None:
    page = open_page(link("base", "base"))
    panes.ask(page, "Write a very long story about a fox, a hen and a river.")
    panes.wait_streaming(page, 1, 2)
    box = page.get_by_label("Your question")
    box.fill("And then?")
    box.press("Enter")
    page.get_by_role("button", name="Still answering").wait_for()
    assert box.input_value() == "And then?"
    page.keyboard.press("Escape")
    panes.wait_done(page, 1, 2)
