"""What requirements.txt pins: nothing older than is safe, and each line with its reason."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from packaging.version import Version

LINES = (Path(__file__).resolve().parents[1] / "requirements.txt").read_text(encoding="utf-8").splitlines()
PINS = {match[1].lower(): match[2] for line in LINES if (match := re.match(r"([\w-]+)==(\S+)", line))}
FLOORS = {
    "gradio": "6.31",
    "torch": "2.10",
    "transformers": "5.3",
    "jinja2": "3.1.6",
    "bitsandbytes": "0.50",
}
"""Below these lie known holes; what another package merely needs may be older, so each is pinned by us."""


@pytest.mark.parametrize("name", FLOORS)
def test_no_package_with_a_known_hole_is_installed(name: str) -> None:
    assert Version(PINS[name]) >= Version(FLOORS[name])


@pytest.mark.parametrize("line", [line for line in LINES if not line.startswith("#")])
def test_every_package_is_pinned_and_says_why_it_is_here(line: str) -> None:
    assert re.fullmatch(r"[\w-]+==\S+ +# \S.*", line)
