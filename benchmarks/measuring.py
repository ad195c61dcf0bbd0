"""A measurement's questions asked as full batches, against one by one: 40 questions of support through four modes.

    python benchmarks/measuring.py [--questions N] [--max-tokens N] [--suite NAME] [--json]

Both ways are the same run of the same plan, with the same seeds, on the engine of the app, one after the other in one
process; what differs is how many answers are under way at once. Nothing is timed alone and nothing graded in it: that
takes equally long both ways. Floor: 4 times as fast.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

FLOOR = 4.0
MODES = ("base", "persona:support-desk", "adapter:support", "adapter:support+persona:support-desk")


def measure(questions: int, most: int, suite: str) -> dict[str, Any]:
    """Seconds of both ways, and the tokens that each made."""
    from assembly import Places, build_parts
    from comparison.checks.check import Tools
    from comparison.measure import prepare
    from comparison.measure.folder import RunFolder
    from comparison.measure.prepare import Wanted
    from comparison.measure.runner import AT_ONCE, Runner

    with tempfile.TemporaryDirectory() as scratch:
        options = argparse.Namespace(
            base="embedded", quantization="nf4", dtype="auto", backend="local", data_dir=scratch
        )
        [first, *_], _ = prepare.suites(prepare.find(suite))
        # Each question once: paraphrases and repeats are questions like the others.
        tests = [test.model_copy(update={"paraphrases": ()}) for test in first.tests[:questions]]
        only = first.model_copy(update={"tests": tuple(tests), "repeat": None, "max_tokens": most})
        parts = build_parts(options, Places.from_options(options))
        found: dict[str, Any] = {"modes": len(MODES), "questions": len(tests), "max_tokens": most}
        with closing(parts.backends):
            parts.backend.wait()
            catalogue = parts.comparison.catalogue
            for name, at_once in (("batched", AT_ONCE), ("one_by_one", 1)):
                folder = RunFolder.begin(
                    Path(scratch) / name, prepare.plan([only], MODES, catalogue, Wanted(alone=0), 1)
                )
                runner = Runner(folder, parts.comparison, Tools(), at_once=at_once)
                runner.warm_up()
                began = time.monotonic()
                runner.run()
                records = folder.records().values()
                found[name] = {
                    "seconds": time.monotonic() - began,
                    "answers": len(records),
                    "tokens": sum(record.completion_tokens or 0 for record in records),
                    "failed": sum(record.failed is not None for record in records),
                }
    found["faster"] = found["one_by_one"]["seconds"] / found["batched"]["seconds"]
    return found


def table(result: dict[str, Any]) -> str:
    """The figures as Markdown."""
    lines = [
        f"{result['questions']} questions, {result['modes']} modes, at most {result['max_tokens']} tokens an answer",
        result["machine"],
        "",
        "| | seconds | answers | tokens |",
        "|:--|--:|--:|--:|",
    ]
    for name, title in (("batched", "as full batches"), ("one_by_one", "one by one")):
        one = result[name]
        lines.append(f"| {title} | {one['seconds']:.1f} | {one['answers']} | {one['tokens']:,} |")
    met = "✓" if result["faster"] >= FLOOR else "missed"
    return "\n".join([*lines, "", f"{result['faster']:.2f} times as fast (floor {FLOOR:g} {met})"])


def main() -> None:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--questions", type=int, default=40)
    options.add_argument("--max-tokens", type=int, default=80)
    options.add_argument("--suite", default="support")
    options.add_argument("--json", action="store_true", help="one JSON object")
    given = options.parse_args()
    from benchmarks.table import machine

    result = {"machine": machine(), **measure(given.questions, given.max_tokens, given.suite)}
    print(json.dumps(result) if given.json else table(result))


if __name__ == "__main__":
    main()
