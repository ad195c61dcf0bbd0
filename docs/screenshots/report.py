"""Pictures of a measurement's report: `python docs/screenshots/report.py docs/report/support.html`."""

from __future__ import annotations

import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

HERE = Path(__file__).parent
ARGUMENTS = [
    "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--no-first-run",
]  # fmt: skip


def main(report: Path) -> None:
    """The advice in light, and what was right in dark."""
    system = Path("/usr/bin/chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=system if system.exists() else None, args=ARGUMENTS
        )
        for name, scheme, place in (("light", "light", "h1"), ("dark", "dark", "#aspect-customisation")):
            page = browser.new_page(
                viewport={"width": 1100, "height": 900}, color_scheme="dark" if scheme == "dark" else "light"
            )
            page.goto(report.resolve().as_uri())
            page.evaluate(f"document.querySelector('{place}').scrollIntoView()")
            page.screenshot(path=HERE / f"report-{name}.png")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
