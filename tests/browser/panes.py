"""The panes of the Compare tab as a test speaks of them; they count from 1, as on the page."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

FOUR = ("base", "persona:explain-to-a-child", "adapter:trial", "adapter:trial+persona:explain-to-a-child")


def link(*modes: str, **more: str | int) -> str:
    return "?" + urlencode([*(("mode", mode) for mode in modes), *more.items()])


def ask(page: Any, question: str) -> None:
    """Returns once the panes show the question: what they say from then on is about it."""
    box = page.get_by_label("Your question")
    box.fill(question)
    box.press("Enter")
    page.wait_for_function(
        "asked => [...document.querySelectorAll('.cp-question')].some(shown => shown.innerText.includes(asked))",
        arg=question[:20],
    )


def answer(page: Any, pane: int) -> str:
    text: str = page.locator(f".block#pane-{pane}-answer").inner_text()
    return text.strip()


def notice(page: Any, pane: int) -> str:
    text: str = page.locator(f".block#pane-{pane}-notice").inner_text()
    return text.strip()


def mode_shown(page: Any, pane: int) -> str:
    value: str = page.get_by_label(f"Pane {pane} answers as").input_value()
    return value


def is_busy(page: Any, pane: int) -> bool:
    busy: bool = page.locator(f"#pane-{pane}-foot.cp-busy").count() == 1
    return busy


def wait_streaming(page: Any, *panes: int) -> None:
    """Until every one of these panes has tokens while all of them are still being answered."""
    page.wait_for_function(
        """panes => panes.every(n => document.querySelector(`#pane-${n}-foot.cp-busy`)
            && /\\d tokens?$/.test(document.querySelector(`.block#pane-${n}-speed`).innerText.trim()))""",
        arg=list(panes),
        polling=30,
    )


def wait_done(page: Any, *panes: int) -> None:
    page.wait_for_function(
        """panes => panes.every(n => document.querySelector(`#pane-${n}-foot.cp-asked`)
            && !document.querySelector(`#pane-${n}-foot.cp-busy`))""",
        arg=list(panes),
    )


def pick(page: Any, name: str, choice: str) -> None:
    """Picks in a dropdown by its label, with the keyboard alone."""
    box = page.get_by_label(name, exact=True)
    box.click()
    box.press("ControlOrMeta+a")
    # Key by key: what is set at once does not narrow the list, and Gradio shows no more than 100 of it.
    box.press_sequentially(choice)
    page.get_by_role("option", name=choice).first.wait_for()
    box.press("Enter")
    # Gradio takes a choice in a later frame than the key: leaving the box before that takes it back.
    page.get_by_role("option").first.wait_for(state="hidden")
    page.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")


def set_most_tokens(page: Any, tokens: int) -> None:
    sampling = page.locator("#sampling")
    field = sampling.get_by_label("Most tokens")
    if not field.is_visible():
        sampling.get_by_role("button", name="Sampling").click()
    field.fill(str(tokens))
