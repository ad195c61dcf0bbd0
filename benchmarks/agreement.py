"""Whether vLLM and the local engine answer alike: both in bfloat16, greedy, on the shipped held-out questions.

    python benchmarks/agreement.py [--json] [--rows N] [--family bare|prompted|tuned|both]

For each shipped adapter: how many of its held-out rows pass their checks on each side, with Wilson's 95 % interval,
and how many answers are the same word for word. Rounding in 16 bits makes some of them part, so the shares are what
has to agree.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

LIBRARY = ROOT / "adapters" / "library"
ADAPTERS = ("support", "orders", "gazette")


def compare(
    ours: Any, theirs: Any, modes: Any, adapter: str, family: str, rows: int | None
) -> dict[str, Any]:
    """One adapter's held-out rows through both backends."""
    from adapters.training import dataset
    from comparison.measure.asking import through_backend
    from comparison.measure.heldout import measure
    from comparison.modes import ModeId, job
    from personas.render import render

    asked = dataset.read(ROOT / "adapters" / "datasets" / f"{adapter}.heldout.jsonl")[:rows]
    counterpart = next(entry.name for entry in modes.personas.list() if job(entry.name) == job(adapter))
    mode = ModeId(
        adapter if family in ("tuned", "both") else None,
        counterpart if family in ("prompted", "both") else None,
    )
    persona = modes.persona(mode)
    sampling = replace(modes.sampling(mode, persona), temperature=0.0)
    questions = [render(persona, row.question[-1]["content"], row.question[:-1]) for row in asked]
    told: dict[str, Any] = {"rows": len(asked)}
    answers = {}
    for name, backend in (("local", ours), ("vllm", theirs)):
        measured = measure(asked, through_backend(backend, sampling, mode.adapter)(questions))
        score = measured.score(name)
        answers[name] = measured.answers
        told[name] = {"passed": score.passed, "share": score.share, "low": score.low, "high": score.high}
    told["same_words"] = sum(a.strip() == b.strip() for a, b in zip(*answers.values(), strict=True))
    told["agrees"] = told["vllm"]["low"] <= told["local"]["share"] <= told["vllm"]["high"]
    return told


def run(rows: int | None, family: str) -> dict[str, Any]:
    from adapters.store import AdapterStore
    from backends.local.backend import LocalBackend
    from backends.local.fetch import cache_folder
    from backends.local.protocol import Options
    from backends.openai_server import OpenAIServer
    from backends.server_client import Server
    from benchmarks.serving import free_port
    from benchmarks.table import machine
    from benchmarks.vllm_server import KEY, vllm
    from comparison.modes import Catalogue
    from personas.store import PersonaStore

    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder)
        adapters = AdapterStore(LIBRARY, data, lambda: ours.facts())
        ours = LocalBackend(Options("embedded", "none", "bfloat16", cache_folder()), adapters.source)
        modes = Catalogue(PersonaStore(ROOT / "personas" / "library", data), adapters)
        with closing(ours):
            ours.wait()
            base = ours.facts().folder
            shipped = {name: LIBRARY / name for name in ADAPTERS}
            with vllm(base, shipped, free_port(), data / "vllm.log") as address:
                theirs = OpenAIServer(Server("vllm", address), KEY)
                with closing(theirs):
                    found = {name: compare(ours, theirs, modes, name, family, rows) for name in ADAPTERS}
    return {"machine": machine(), "family": family, "adapters": found}


def table(result: dict[str, Any]) -> str:
    """The result as Markdown."""
    lines = [
        f"{result['family']}, greedy, bfloat16, {result['machine']}",
        "",
        "| adapter | rows | local engine | vLLM | agree | same words |",
        "|:--|--:|--:|--:|:--|--:|",
    ]
    for name, one in result["adapters"].items():
        sides = [
            f"{one[side]['passed']} = {one[side]['share']:.1%} ({one[side]['low']:.0%} to {one[side]['high']:.0%})"
            for side in ("local", "vllm")
        ]
        lines.append(
            f"| {name} | {one['rows']} | {sides[0]} | {sides[1]} | {'yes' if one['agrees'] else '**no**'} | "
            f"{one['same_words']} |"
        )
    return "\n".join(lines)


def main() -> None:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--json", action="store_true", help="one JSON object")
    options.add_argument("--rows", type=int, help="only the first rows of each dataset")
    options.add_argument("--family", choices=("bare", "prompted", "tuned", "both"), default="tuned")
    given = options.parse_args()
    result = run(given.rows, given.family)
    print(json.dumps(result) if given.json else table(result))


if __name__ == "__main__":
    main()
