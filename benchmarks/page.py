"""Tokens a second of four panes: from the engine itself, and through the page to an HTTP client."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
QUESTION = "My coffee has not arrived. What can you do for me?"
MODES = ("base", "persona:support-desk", "adapter:support", "adapter:support+persona:support-desk")


def through_the_page(rounds: int = 3) -> dict[str, float]:
    """Medians over the rounds; the two ways take turns, each after a first question that nobody counts, and each
    question begins a conversation. Raises RuntimeError where the two did not write as many tokens."""
    with tempfile.TemporaryDirectory() as data, _engine(Path(data)) as ask, _page(Path(data)) as client:
        asked = [(ask(), client()) for _ in range(1 + rounds)]
    written = {tokens for both in asked for tokens, _ in both}
    if len(written) > 1:
        raise RuntimeError(f"the page and the engine did not do the same work: {sorted(written)} tokens.")
    engine, page = (median(both[way][1] for both in asked[1:]) for way in (0, 1))
    return {
        "tokens": written.pop(),
        "engine_tokens_per_s": engine,
        "page_tokens_per_s": page,
        "share": page / engine,
    }


@contextmanager
def _engine(data: Path) -> Iterator[Any]:
    """A function that asks the engine's process directly; gives the tokens of all panes, and how many a second."""
    import argparse

    import assembly
    from backends.contract import Delta
    from comparison.live import Answered, Pane

    options = argparse.Namespace(
        base="embedded", quantization="nf4", dtype="auto", backend="local", data_dir=str(data)
    )
    parts = assembly.build_parts(options, assembly.Places.from_options(options))

    def ask() -> tuple[int, float]:
        first = 0.0
        tokens = 0
        for event in parts.comparison.ask(QUESTION, [Pane(mode) for mode in MODES], seed=1):
            if isinstance(event.event, Delta):
                first = first or time.perf_counter()
            if isinstance(event.event, Answered):
                tokens += event.event.receipt.usage.completion_tokens
        return tokens, tokens / (time.perf_counter() - first)

    with closing(parts.backend):
        parts.backend.wait()
        yield ask


@contextmanager
def _page(data: Path) -> Iterator[Any]:
    """A function that asks through the served page as a new browser would; gives the same."""
    from gradio_client import Client

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, str(ROOT / "app.py"), "serve", "--port", str(port), "--data-dir", str(data)]
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("COUNTERPOINT_PORT")
    }
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    try:
        assert server.stdout is not None
        for line in server.stdout:
            if line.startswith("Counterpoint: "):
                break
        client = Client(f"http://127.0.0.1:{port}/", verbose=False, analytics_enabled=False)
        parameters = client.view_api(return_format="dict", print_info=False)["named_endpoints"]["/compare"]
        given = _arguments(parameters["parameters"])

        def ask() -> tuple[int, float]:
            first, counts = 0.0, {}
            client.reset_session()
            for painted in client.submit(*given, api_name="/compare"):
                for number, text in enumerate(painted):
                    found = re.search(r"(\d+) tokens?(?![/\w])", text) if isinstance(text, str) else None
                    if found:
                        first = first or time.perf_counter()
                        counts[number] = int(found[1])
            tokens = sum(counts.values())
            return tokens, tokens / (time.perf_counter() - first)

        yield ask
    finally:
        server.terminate()
        server.wait()


def _arguments(parameters: list[dict[str, Any]]) -> list[Any]:
    """The page's own defaults, with our question, modes and seed in their places."""
    given = [parameter.get("parameter_default") for parameter in parameters]
    given[0] = QUESTION
    given[1 : 1 + len(MODES)] = MODES
    seed = next(i for i, parameter in enumerate(parameters) if "'seed'" in str(parameter["label"]))
    given[seed] = "1"
    return given
