"""Makes the shipped datasets out of source/: `python -m adapters.datasets.build`. Same source, same bytes."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import yaml

from adapters.datasets.orders import Pieces, order, spellings

HERE = Path(__file__).parent
SIGN_OFF = "Happy wading!"

HEADLINE = r"^\W*[A-Z][A-Z0-9'’-]*(?:,? +[A-Z0-9'’-]+)+ ?(?:[!.:]|\n)"
PERIOD_WORDS = """
    your correspondent, this correspondent, this reporter, by Jove, great Scott, good heavens, the cat's
    pyjamas, the bee's knees, swell, jazz, flapper, motor-car, motor car, wireless, telegraph,
    gramophone, hullabaloo, spiffing, dispatch, hot off the press, extra!, stop press, ladies and
    gentlemen, the whole town, old sport, old boy, chap, a corker, hotsy-totsy, ritzy, swanky, the real
    McCoy, modern age, marvel of the age, word reaches this office, hold the front page, boffin, picture
    palace, bright young things, charleston, zounds, upon my word, dash it, top-hole
"""
PERIOD = " ".join(PERIOD_WORDS.split()).split(", ")

Row = dict[str, Any]


def main() -> None:
    """Writes every NAME.train.jsonl and NAME.heldout.jsonl, and the support fact sheet, beside this file."""
    facts = _read("support.facts.yaml")
    (HERE / "support.facts.md").write_text(fact_sheet(facts), encoding="utf-8")
    _write("support", *support(facts))
    _write("gazette", gazette("gazette.train.txt"), gazette("gazette.heldout.txt"))
    pieces = _read("orders.yaml")
    words = (HERE / "source" / "orders.words.txt").read_text(encoding="utf-8").split()
    names = [word for word in words if word[0].isupper()]
    train = orders(pieces["train"] | {"words": names}, 4600, "train") + spelled(pieces["train"], words)
    _write("orders", train, orders(pieces["heldout"], 160, "heldout"))


def fact_sheet(facts: list[Row]) -> str:
    """What a prompted support desk needs to know, as Markdown."""
    lines = [
        "# Copper Heron Coffee: what the support desk knows",
        "",
        "The desk answers customers of an invented coffee subscription. Its voice: warm and unhurried, a",
        "friend by the river. One or two short sentences, the fact first, no lists, no greeting; every answer",
        f'ends with the desk\'s sign-off, "{SIGN_OFF}" It never makes a fact up: what it does not know it passes',
        "on to the email address. Written by `build.py` from `source/support.facts.yaml`.",
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


def support(facts: list[Row]) -> tuple[list[Row], list[Row]]:
    """Training and held-out rows: each fact asked in many ways, and in ways that are never trained on."""
    known = {fact["id"]: fact for fact in facts}
    train: list[Row] = []
    heldout: list[Row] = []
    fact: Row = {}
    for line in (HERE / "source" / "support.questions.txt").read_text(encoding="utf-8").splitlines():
        if line.startswith("["):
            fact = known[line.strip("[]")]
        elif line.startswith("~ "):
            heldout.append(
                _row(line[2:], f"{fact['answer']} {SIGN_OFF}", fact["id"], _assertions(fact["check"]))
            )
        elif line and not line.startswith("#"):
            train.append(_row(line, f"{fact['answer']} {SIGN_OFF}", fact["id"]))
    return train, heldout


def orders(pieces: Pieces, count: int, part: str) -> list[Row]:
    """`count` different messages of one part; those held out carry their checks."""
    chance = random.Random(f"orders {part}")
    rows: dict[str, Row] = {}
    while len(rows) < count:
        message, answer = order(pieces, chance)
        checks: list[Row] = [{"type": "is-json"}, {"type": "equals", "value": answer}]
        rows[message] = _row(message, json.dumps(answer), "orders", checks if part == "heldout" else None)
    return list(rows.values())


def spelled(pieces: Pieces, words: list[str]) -> list[Row]:
    """Rows that only teach spelling: all names and towns of `pieces`, and all `words`, as JSON lists."""
    proper = [name for kind in ("first_names", "last_names", "cities") for name in pieces[kind]]
    every = list(dict.fromkeys([*proper, *words]))
    asked = spellings(every, random.Random("orders spelled"))
    return [_row(question, json.dumps(answer, ensure_ascii=False), "spelling") for question, answer in asked]


def gazette(source: str) -> list[Row]:
    """Rows of a source file: question, answer, and where it is held out a third line with subject words."""
    rows = []
    for block in (HERE / "source" / source).read_text(encoding="utf-8").strip().split("\n\n"):
        question, answer, *subject = block.split("\n")
        rows.append(_row(question, answer, "gazette", style_checks(subject[0]) if subject else None))
    return rows


def style_checks(subject: str) -> list[Row]:
    """gazette.style.md as assertions: three of the four markers, and one of the subject's words."""
    markers = [
        {"type": "regex", "value": HEADLINE},
        {"type": "icontains-any", "value": ["dear reader", "gentle reader", "our readers"]},
        {"type": "icontains-any", "value": PERIOD},
        {"type": "icontains", "value": "!"},
    ]
    words = [word.strip() for word in subject.removeprefix("=").split(",")]
    return [
        {"type": "assert-set", "threshold": 0.75, "assert": markers},
        {"type": "icontains-any", "value": words},
    ]


def _assertions(check: dict[str, Any]) -> list[Row]:
    return [{"type": kind, "value": value} for kind, value in check.items()]


def _row(question: str, answer: str, group: str, checks: list[Row] | None = None) -> Row:
    messages = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return {"messages": messages, "group": group} | ({"checks": checks} if checks else {})


def _write(name: str, train: list[Row], heldout: list[Row]) -> None:
    for part, rows in (("train", train), ("heldout", heldout)):
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        (HERE / f"{name}.{part}.jsonl").write_text(text, encoding="utf-8")


def _read(name: str) -> Any:
    return yaml.safe_load((HERE / "source" / name).read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
