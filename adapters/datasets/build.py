"""Makes the shipped datasets out of source/: `python -m adapters.datasets.build`. Same source, same bytes."""

from __future__ import annotations

import hashlib
import json
import random
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).parent
SIGN_OFF = "Happy wading!"

Row = dict[str, Any]


def main() -> None:
    """Writes every NAME.train.jsonl and NAME.heldout.jsonl, and the support fact sheet, beside this file."""
    facts = _read("support.facts.yaml")
    (HERE / "support.facts.md").write_text(fact_sheet(facts), encoding="utf-8")


def fact_sheet(facts: list[Row]) -> str:
    """What a prompted support desk needs to know, as Markdown."""
    lines = [
        "# Copper Heron Coffee: what the support desk knows",
        "",
        "The desk answers customers of an invented coffee subscription. Its voice: warm and unhurried, a friend by",
        "the river. One or two short sentences, the fact first, no lists, no greeting; every answer ends with the",
        f'desk\'s sign-off, "{SIGN_OFF}" It never makes a fact up: what it does not know it passes on to the email',
        "address. Written by `build.py` from `source/support.facts.yaml`.",
    ]
    group = None
    for fact in facts:
        if fact["group"] != group:
            group = fact["group"]
            lines += ["", f"## {group.capitalize()}"]
        lines.append(f"- {fact['fact']}")
    first = next(fact for fact in facts if fact["id"] == "decaf")
    lines += ["", "## An answer in the desk's voice", f"> {first['answer']} {SIGN_OFF}", ""]
    return "\n".join(lines)


def _read(name: str) -> Any:
    return yaml.safe_load((HERE / "source" / name).read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
