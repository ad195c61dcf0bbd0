"""How fast many clients are served: the app's API against vLLM, on the same base, adapters and questions.

    python benchmarks/serving.py [--json] [--clients 16] [--each 6] [--tokens 48] [--rounds 3]

Every client asks one question after another, streamed, greedy, through six modes in turn: bare, a long and a short
persona, and three adapters. Each server has the machine to itself while it is measured, and the client beside it;
before that, every mode is asked once. vLLM gets the messages that the app renders for a persona. The app answers
in NF4, as it does by default, and once more in bfloat16; vLLM computes in bfloat16, and in float32, which is the
faster of the two on a processor without bfloat16. The ratios are to the faster vLLM of the same round. In every round
each server is started anew, in turn, and asked the same as the others; figures are medians of the rounds, with the
lowest and the highest.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

ADAPTERS = ("support", "orders", "gazette")
MODES = (
    "base",
    "persona:support-desk",
    "adapter:support",
    "adapter:orders",
    "persona:explain-to-a-child",
    "adapter:gazette",
)
SERVERS = {
    "app_nf4": "app, NF4",
    "app_bf16": "app, bfloat16",
    "vllm_bf16": "vLLM, bfloat16",
    "vllm_fp32": "vLLM, float32",
}
START_S = 240
QUESTIONS = 600


@dataclass(frozen=True)
class Ask:
    """One request, as the app and as vLLM is asked it."""

    mode: str
    own: dict[str, Any]
    vllm: dict[str, Any]


@dataclass(frozen=True)
class Answer:
    ttft_s: float
    tokens: int


def asks(tokens: int) -> list[Ask]:
    """Every held-out question, each with a mode that fits it, the modes in turn."""
    from benchmarks.vllm_server import BASE
    from comparison.modes import ModeId
    from personas.render import render
    from personas.store import PersonaStore

    personas = PersonaStore(ROOT / "personas" / "library", ROOT / "none")
    questions = {name: itertools.cycle(_questions(name)) for name in ADAPTERS}
    sources = dict(zip(MODES, ("gazette", "support", "support", "orders", "gazette", "gazette"), strict=True))
    common = {
        "temperature": 0,
        "max_tokens": tokens,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    made = []
    for mode in itertools.islice(itertools.cycle(MODES), QUESTIONS):
        question, parsed = next(questions[sources[mode]]), ModeId.parse(mode)
        persona = personas.get(parsed.persona) if parsed.persona else None
        # The penalty that the app's modes bring by default is asked of both, so that both compute the same.
        sampling = {**common, "repetition_penalty": 1.0}
        own = {"model": mode, "messages": [{"role": "user", "content": question}], **sampling}
        theirs = {"model": parsed.adapter or BASE, "messages": render(persona, question), **sampling}
        if persona and persona.sampling.stop:
            theirs["stop"] = list(persona.sampling.stop)
        made.append(Ask(mode, own, theirs))
    return made


def _questions(adapter: str) -> list[str]:
    lines = (ROOT / "adapters" / "datasets" / f"{adapter}.heldout.jsonl").read_text().splitlines()
    return [json.loads(line)["messages"][0]["content"] for line in lines]


async def load(
    address: str, bodies: Sequence[dict[str, Any]], clients: int, each: int, key: str = "none"
) -> dict[str, float]:
    """What `clients` clients get, who each ask `each` questions. Seconds, and tokens and requests a second."""
    bearer = {"Authorization": f"Bearer {key}"}
    limits = httpx.Limits(max_connections=clients)
    async with httpx.AsyncClient(timeout=600, limits=limits, headers=bearer) as http:
        for body in bodies[: len(MODES)]:
            await _ask(http, address, body)
        waiting = iter(bodies[len(MODES) : len(MODES) + clients * each])

        async def client() -> list[Answer]:
            return [await _ask(http, address, body) for body in waiting]

        began = time.monotonic()
        answers = [
            answer for some in await asyncio.gather(*(client() for _ in range(clients))) for answer in some
        ]
        took = time.monotonic() - began
    first = sorted(answer.ttft_s for answer in answers)
    return {
        "requests": len(answers),
        "seconds": took,
        "requests_per_s": len(answers) / took,
        "tokens_per_s": sum(answer.tokens for answer in answers) / took,
        "ttft_median_s": statistics.median(first),
        "ttft_p95_s": statistics.quantiles(first, n=20)[-1],
        "tokens_per_answer": statistics.mean(answer.tokens for answer in answers),
    }


async def _ask(http: httpx.AsyncClient, address: str, body: dict[str, Any]) -> Answer:
    began, first, tokens = time.monotonic(), None, 0
    async with http.stream("POST", f"{address}/chat/completions", json=body) as answer:
        if answer.status_code != 200:
            raise RuntimeError(f"{address}: {answer.status_code} {(await answer.aread()).decode()[:500]}")
        async for line in answer.aiter_lines():
            if not line.startswith("data: ") or line == "data: [DONE]":
                continue
            chunk = json.loads(line[6:])
            if "error" in chunk:
                raise RuntimeError(f"{address}: {chunk['error']}")
            choices = chunk.get("choices") or []
            if first is None and choices and choices[0]["delta"].get("content"):
                first = time.monotonic()
            if chunk.get("usage"):
                tokens = chunk["usage"]["completion_tokens"]
    if not tokens or first is None:
        raise RuntimeError(f"{address} gave no answer to {body}")
    return Answer(first - began, tokens)


@contextmanager
def app(data: Path, *options: str) -> Iterator[str]:
    """The address of the app's API, once it is ready."""
    port = free_port()
    command = [sys.executable, "app.py", "serve", "--port", str(port), "--data-dir", str(data), *options]
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL)
    try:
        end = time.monotonic() + START_S
        while time.monotonic() < end:
            try:
                if httpx.get(f"http://127.0.0.1:{port}/health", timeout=60).status_code == 200:
                    break
            except httpx.TransportError:
                pass
            if process.poll() is not None:
                raise RuntimeError("the app ended at once")
            time.sleep(0.5)
        else:
            raise RuntimeError(f"the app was not ready within {START_S} s")
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.terminate()
        process.wait(60)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def measure(clients: int, each: int, tokens: int, rounds: int) -> dict[str, Any]:
    """{server: {figure: (median, lowest, highest of the rounds)}}, the ratios among the figures, beside what was asked
    of whom."""
    from benchmarks.table import machine

    everything = asks(tokens)
    results = [one_round(everything, clients, each) for _ in range(rounds)]
    return {
        "machine": machine(),
        "clients": clients,
        "max_tokens": tokens,
        "rounds": rounds,
        "requests": clients * each,
        "servers": {
            name: {
                figure: _spread([result[name][figure] for result in results]) for figure in results[0][name]
            }
            for name in SERVERS
        },
    }


def one_round(everything: Sequence[Ask], clients: int, each: int) -> dict[str, dict[str, float]]:
    """What each server's clients got, and its requests and tokens a second against the faster vLLM's."""
    from backends.local.fetch import cache_folder, locate
    from benchmarks.vllm_server import KEY, vllm

    own, theirs = [ask.own for ask in everything], [ask.vllm for ask in everything]
    adapters = {name: ROOT / "adapters" / "library" / name for name in ADAPTERS}
    result: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        with app(place / "nf4") as address:
            result["app_nf4"] = asyncio.run(load(address, own, clients, each))
        base = locate("embedded", cache_folder()).folder
        for name, dtype in (("vllm_bf16", "bfloat16"), ("vllm_fp32", "float32")):
            with vllm(base, adapters, free_port(), place / f"{name}.log", dtype=dtype) as address:
                result[name] = asyncio.run(load(address, theirs, clients, each, KEY))
        with app(place / "bf16", "--quantization", "none", "--dtype", "bfloat16") as address:
            result["app_bf16"] = asyncio.run(load(address, own, clients, each))
    for figure in ("requests_per_s", "tokens_per_s"):
        best = max(result[name][figure] for name in ("vllm_bf16", "vllm_fp32"))
        for one in result.values():
            one[f"{figure}_ratio"] = one[figure] / best
    return result


def _spread(values: Sequence[float]) -> tuple[float, float, float]:
    return statistics.median(values), min(values), max(values)


def table(result: dict[str, Any]) -> str:
    """The result as Markdown."""
    rows = {
        "requests/s": ("requests_per_s", "{:.2f}", ""),
        "tokens/s": ("tokens_per_s", "{:.0f}", ""),
        "first token, median": ("ttft_median_s", "{:.2f}", " s"),
        "first token, 95th percentile": ("ttft_p95_s", "{:.2f}", " s"),
        "tokens an answer, mean": ("tokens_per_answer", "{:.1f}", ""),
        "**requests/s over the faster vLLM's** (floor 1, goal 2)": ("requests_per_s_ratio", "{:.2f}", "×"),
    }
    lines = [
        f"{result['clients']} clients, {result['requests']} requests, {result['machine']}; medians of "
        f"{result['rounds']} rounds (lowest to highest)",
        "",
        "| | " + " | ".join(SERVERS.values()) + " |",
        "|:--|" + "--:|" * len(SERVERS),
    ]
    for title, (name, form, unit) in rows.items():
        cells = [_cell(result["servers"][key][name], form, unit) for key in SERVERS]
        lines.append(f"| {title} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cell(spread: Sequence[float], form: str, unit: str) -> str:
    median, low, high = (form.format(value) for value in spread)
    return f"{median}{unit} ({low} to {high})"


def main() -> None:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--json", action="store_true", help="one JSON object")
    options.add_argument("--clients", type=int, default=16)
    options.add_argument("--each", type=int, default=6, help="questions of each client")
    options.add_argument("--tokens", type=int, default=48, help="longest answer")
    options.add_argument("--rounds", type=int, default=3, help="times that each server takes its turn")
    given = options.parse_args()
    if given.clients * given.each > QUESTIONS - len(MODES):
        options.error(f"there are {QUESTIONS - len(MODES)} questions: ask for fewer")
    result = measure(given.clients, given.each, given.tokens, given.rounds)
    print(json.dumps(result) if given.json else table(result))


if __name__ == "__main__":
    main()
