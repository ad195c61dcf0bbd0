"""Wall time and peak memory of `python app.py check-data`, in a process of its own, on rows made from a seed.

    python benchmarks/check_data.py [--rows N] [--seed N] [--json]

The rows are questions and answers of the words of the datasets that ship, 15 to some hundred each, every tenth one a
talk of two turns, with labels; 1 % are exact duplicates, 2 % near ones, which differ in one word of the question. One
row in a hundred more is held out. Floors: 60 s and 1 GB (2^30 bytes) for 100,000 rows on 2 cores.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

EXACT, NEAR = 0.01, 0.02
SECONDS, BYTES = 60, 2**30


def rows(count: int, seed: int) -> Iterator[dict[str, Any]]:
    """Rows with duplicates in random places after what they repeat."""
    draw = random.Random(seed)
    words = _words()

    def say(least: int, mean: float) -> str:
        return " ".join(draw.choices(words, k=least + int(draw.expovariate(1 / mean)))).capitalize()

    made: list[list[str]] = []
    for _ in range(count):
        kind = draw.random()
        if made and kind < EXACT:
            texts = draw.choice(made)
        elif made and kind < EXACT + NEAR:
            texts = list(draw.choice(made))
            asked = texts[0].split()
            asked[draw.randrange(len(asked))] = draw.choice(words)
            texts[0] = " ".join(asked)
        else:
            turns = 2 if draw.random() < 0.1 else 1
            texts = [text for _ in range(turns) for text in (say(15, 10) + "?", say(8, 25) + ".")]
            made.append(texts)
        roles = ("user", "assistant") * (len(texts) // 2)
        turns_told = [{"role": role, "content": text} for role, text in zip(roles, texts, strict=True)]
        yield {"messages": turns_told, "label": draw.choice(("refund", "order", "praise"))}


def _words() -> list[str]:
    """The words of the datasets that ship, as often as they come there."""
    files = sorted((ROOT / "adapters" / "datasets").glob("*.train.jsonl"))
    texts = [
        turn["content"] for file in files for line in file.open() for turn in json.loads(line)["messages"]
    ]
    return [word for text in texts for word in re.findall(r"[A-Za-z',-]+", text)]


def write(path: Path, count: int, seed: int) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows(count, seed))


def measure(count: int, seed: int = 0, *options: str) -> dict[str, Any]:
    """Runs the command on `count` rows; `options` are further ones of it."""
    with tempfile.TemporaryDirectory() as folder:
        data, heldout = Path(folder, "data.jsonl"), Path(folder, "heldout.jsonl")
        write(data, count, seed)
        write(heldout, max(1, count // 100), seed + 1)
        command = [sys.executable, str(ROOT / "app.py"), "check-data", str(data), "--heldout", str(heldout)]
        started = time.perf_counter()
        with subprocess.Popen([*command, "--json", *options], stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            told = process.stdout.read()
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        seconds = time.perf_counter() - started
        bytes_a_unit = 1 if sys.platform == "darwin" else 1024
        size = data.stat().st_size
    report = json.loads(told)
    found = {
        each["kind"]: each["count"]
        for each in report["problems"] + report["notes"]
        if each["file"] == data.name
    }
    return {
        "rows": count,
        "file_bytes": size,
        "seconds": seconds,
        "cpu_seconds": usage.ru_utime + usage.ru_stime,
        "peak_bytes": usage.ru_maxrss * bytes_a_unit,
        "tokens": report["data"]["tokens"]["total"],
        "found": found,
    }


def table(result: dict[str, Any]) -> str:
    """The figures as Markdown."""
    full = result["rows"] >= 100_000
    seconds, peak = result["seconds"], result["peak_bytes"]
    lines = [
        f"{result['rows']:,} rows, {result['file_bytes'] / 2**20:.0f} MiB, {result['tokens']:,} tokens",
        result["machine"],
        "",
        "| what | measured | floor |",
        "|:--|--:|:--|",
        f"| wall time of the command | {seconds:.1f} s | {_floor(f'< {SECONDS} s', seconds < SECONDS) if full else ''} |",
        f"| processor time | {result['cpu_seconds']:.1f} s | |",
        f"| peak memory | {peak / 2**20:,.0f} MiB | {_floor('< 1,024 MiB', peak < BYTES) if full else ''} |",
    ]
    return "\n".join(lines + [f"| {kind} | {count:,} | |" for kind, count in result["found"].items()])


def _floor(floor: str, met: bool) -> str:
    return f"{floor} {'✓' if met else 'missed'}"


def main() -> None:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--rows", type=int, default=100_000)
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--json", action="store_true", help="one JSON object")
    given = options.parse_args()
    from benchmarks.table import machine

    result = {"machine": machine(), **measure(given.rows, given.seed)}
    print(json.dumps(result) if given.json else table(result))


if __name__ == "__main__":
    main()
