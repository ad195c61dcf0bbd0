"""Takes the README's screenshots from a running app: python docs/screenshots/take.py [ADDRESS]

Asks the first screen's example in all panes, waits for every answer, and writes compare-light.png,
compare-dark.png and compare-phone.png beside this file.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright

HERE = Path(__file__).parent
CHROMIUM = Path("/usr/bin/chromium")
QUESTION = "Why is the sky blue?"
DESK = {"width": 1440, "height": 900}
PHONE = {"width": 390, "height": 844}
SHOTS: dict[str, dict[str, Any]] = {
    "compare-light": {"viewport": DESK, "color_scheme": "light"},
    "compare-dark": {"viewport": DESK, "color_scheme": "dark"},
    "compare-phone": {"viewport": PHONE, "color_scheme": "light", "device_scale_factor": 2},
}
ANSWERED = """() => {
  const feet = [...document.querySelectorAll('.cp-pane .cp-foot')];
  return feet.length > 1 && feet.every(foot => foot.classList.contains('cp-asked'));
}"""


def main(address: str) -> None:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM if CHROMIUM.exists() else None, args=["--no-sandbox", "--disable-gpu"]
        )
        for name, settings in SHOTS.items():
            context = browser.new_context(**settings)
            page = context.new_page()
            page.set_default_timeout(120_000)
            page.goto(address)
            page.get_by_label("Your question").wait_for()
            page.wait_for_function("document.querySelector('.cp-state.cp-ready') !== null", timeout=300_000)
            page.reload()
            page.get_by_label("Your question").wait_for()
            page.wait_for_function("document.querySelectorAll('.cp-pane').length === 4")
            page.get_by_label("Your question").fill(QUESTION)
            page.get_by_label("Your question").press("Enter")
            page.wait_for_function(ANSWERED, timeout=900_000)
            if settings["viewport"] is PHONE:
                page.locator("#panes").evaluate(
                    "row => row.scrollTo({left: row.querySelector('#pane-3').offsetLeft - 10, behavior: 'instant'})"
                )
            page.wait_for_timeout(400)
            page.screenshot(path=HERE / f"{name}.png")
            context.close()
        browser.close()


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:7860/")
