"""Writes into a logbook and is killed, again and again: python -m tests.logbook.killing FOLDER KILLS

A process that has nothing but the logbook forks writers, each of which says of every turn and verdict that it is on disk
when it is; it is killed at a random moment. What was said then has to be there. Prints one JSON object.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
import sys
import time
from pathlib import Path

from logbook.conversations import Asked, End
from logbook.database import FILE
from logbook.logbook import Logbook
from logbook.ratings import Rating


def write(data: Path, said: int) -> None:
    """Asks, answers and rates for ever; each line says what is on disk."""
    logbook = Logbook(data)
    with os.fdopen(said, "w", buffering=1) as out:
        while True:
            begun = logbook.conversations.begin(
                "compare", [Asked(pane, "why?", "base", "Bare", "bare") for pane in (0, 1)]
            )
            out.write(f"asked {' '.join(begun.turns)}\n")
            for turn in begun.turns:
                logbook.conversations.end(turn, End("done", "so " * 400, receipt={"prompt": "x" * 3000}))
                out.write(f"ended {turn}\n")
                logbook.ratings.add(_rating(turn))
                out.write(f"rated {turn}\n")


def _rating(turn: str) -> Rating:
    return Rating(
        answer_id=turn,
        at="2026-01-01T00:00:00+00:00",
        verdict="good",
        mode="base",
        persona=None,
        conversation=(),
        answer="so",
        receipt={},
    )


def kill_one(data: Path, after_s: float) -> list[tuple[str, str]]:
    """What a writer had said when it was killed: (what, turn)."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        write(data, writing)
    os.close(writing)
    time.sleep(after_s)  # the random moment
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    with os.fdopen(reading) as told:
        lines = told.read().split("\n")[:-1]
    return [(what, turn) for what, *turns in (line.split() for line in lines) for turn in turns]


def main(data: Path, kills: int) -> None:
    draw = random.Random(11)
    said: list[tuple[str, str]] = []
    sound = lost = 0
    for _ in range(kills):
        said += kill_one(data, draw.uniform(0.0, 0.12))
        if not (data / FILE).exists():
            sound += 1
            continue
        with sqlite3.connect(data / FILE) as raw:
            sound += raw.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        raw.close()
    logbook = Logbook(data)
    lost = logbook.conversations.lose()
    with logbook.database.reading() as db:
        states = dict(db.execute("SELECT id, state FROM turn").fetchall())
        rated = {row[0] for row in db.execute("SELECT answer_id FROM rating")}
    missing = [
        turn
        for what, turn in said
        if turn not in states
        or (what == "ended" and states[turn] != "done")
        or (what == "rated" and turn not in rated)
    ]
    print(
        json.dumps(
            {
                "kills": kills,
                "sound": sound,
                "said": len(said),
                "missing": len(missing),
                "lost": lost,
                "running": sum(state == "running" for state in states.values()),
            }
        )
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
