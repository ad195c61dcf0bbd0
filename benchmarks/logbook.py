"""How fast the logbook finds and keeps: a file of 100,000 turns, made up of words as frequent as those of a language.

    python benchmarks/logbook.py [--turns N] [--json]

Each search is made three times, and its slowest counts: as somebody types, no search is the second of its kind. Limit:
200 ms.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import string
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

LIMIT_S = 0.2
KINDS = 20_000
"""Different words; the n-th is as frequent as 1/n (Zipf's law)."""
OF_ONE = 20
"""Turns of a conversation, in four panes."""


def measure(turns: int) -> dict[str, Any]:
    """Seconds of each search and of other work, and the file's bytes."""
    from logbook.conversations import Asked, End
    from logbook.database import Database
    from logbook.logbook import Logbook

    draw = random.Random(1)
    words = [
        "".join(draw.choices(string.ascii_lowercase, k=length))
        for length in draw.choices(range(2, 10), k=KINDS)
    ]
    often = list(itertools.accumulate(1 / (place + 1) for place in range(KINDS)))

    def text(count: int) -> str:
        return " ".join(draw.choices(words, cum_weights=often, k=count))

    with tempfile.TemporaryDirectory() as folder:
        logbook = Logbook(Path(folder))
        _fill(logbook.database, turns, text)
        kept = logbook.conversations
        searches = {
            "a letter": "a",
            "three letters, each of its own": "e s t",
            "two letters": "ab",
            "the most frequent word": words[0],
            "six of the most frequent words": " ".join(words[:6]),
            "a rare word": words[-1],
            "nothing that is there": "zzzzqq",
        }
        found: dict[str, Any] = {
            "turns": turns,
            "bytes": logbook.database.path.stat().st_size,
            "searches_s": {
                name: max(_seconds(partial(kept.list, search)) for _ in range(3))
                for name, search in searches.items()
            },
            "list_s": _seconds(kept.list),
            "open_s": _seconds(lambda: kept.panes("c7")),
        }

        def turn() -> None:
            begun = kept.begin("chat", [Asked(0, text(15), "base", "Bare", "bare")])
            kept.end(begun.turns[0], End("done", text(90)))

        found["turn_s"] = sum(_seconds(turn) for _ in range(50)) / 50
        logbook.close()
        found["start_s"] = _seconds(lambda: Database(Path(folder)).check())
    return found


def _fill(database: Any, turns: int, text: Callable[[int], str]) -> None:
    receipt = json.dumps({"prompt": "x" * 3000})
    with database.writing() as db:
        for number in range(-(-turns // OF_ONE)):
            same = {"created_at": "x", "changed_at": f"{number:06d}"}
            db.table("conversation").insert({"id": f"c{number}", "kind": "compare", "title": text(6), **same})
        db.table("turn").insert_all(
            {
                "id": f"t{number}",
                "conversation_id": f"c{number // OF_ONE}",
                "pane": number % 4,
                "parent_id": f"t{number - 4}" if number % OF_ONE >= 4 else None,
                "run": "r",
                "question": text(15),
                "mode": "base",
                "label": "Bare",
                "family": "bare",
                "state": "done",
                "answer": text(90),
                "receipt": receipt,
                "asked_at": "x",
            }
            for number in range(turns)
        )


def _seconds(work: Callable[[], Any]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def table(found: dict[str, Any]) -> str:
    """As Markdown."""
    lines = [f"{found['turns']:,} turns, {found['bytes'] / 1e6:.0f} MB", "", "| | ms |", "|---|---|"]
    lines += [f"| search: {name} | {1000 * seconds:.0f} |" for name, seconds in found["searches_s"].items()]
    for name, key in (
        ("list without a search", "list_s"),
        ("open a conversation", "open_s"),
        ("keep a turn, question and end", "turn_s"),
        ("look whether the file is sound, at a start", "start_s"),
    ):
        lines.append(f"| {name} | {1000 * found[key]:.1f} |")
    slowest = max(found["searches_s"].values())
    met = "met" if slowest <= LIMIT_S else "missed"
    return "\n".join(
        [*lines, "", f"the slowest search: {1000 * slowest:.0f} ms (limit {1000 * LIMIT_S:.0f}, {met})"]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=100_000)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    found = measure(options.turns)
    print(json.dumps(found) if options.json else table(found))


if __name__ == "__main__":
    main()
