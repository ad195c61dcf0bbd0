"""Whether llama.cpp would answer faster than the local engine: one pane, and four with different adapters.

    python benchmarks/llama.py [--json] [--tokens 64] [--rounds 5] [--own-kernel]

Both decode the same tokens' number greedily on the embedded base, llama.cpp from its Q4_1 file and the engine in NF4,
with the same adapters (float32 in both) and all cores, in turns within one run; figures are medians. llama.cpp's own
calls are used, without a server between. An adapter has to change llama.cpp's answer, and the words of both are shown.
With --own-kernel NF4 is computed as on a processor without AVX512-BF16, where bitsandbytes has no kernel for it.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

PYTHON = ROOT / ".venv-llama" / "bin" / "python"
ADAPTER, OTHER = "support", "gazette"
PANES: dict[str, tuple[str | None, ...]] = {
    "one pane, bare": (None,),
    "one pane, an adapter": (ADAPTER,),
    "four panes, bare": (None,) * 4,
    "four panes, one adapter": (ADAPTER,) * 4,
    "four panes: two bare, two adapters": (None, None, ADAPTER, OTHER),
}
READ = "first token after a long prompt, bare"
QUESTION = "Can I get a decaf, and when do you ship?"
LONG_TOKENS = 600


class Worker:
    """benchmarks/llama_worker.py, as a process."""

    def __init__(self, load: dict[str, Any]):
        environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
        self._process = subprocess.Popen(
            [str(PYTHON), str(ROOT / "benchmarks" / "llama_worker.py")],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment,
        )  # fmt: skip
        self.version = self.ask(load)["version"]

    def ask(self, work: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps(work) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("llama.cpp ended: run benchmarks/llama_worker.py by hand to see why")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()


@contextmanager
def llama(base: Path, adapters: dict[str, Path]) -> Iterator[Worker]:
    """llama.cpp with the embedded base's own GGUF, fetched, and the adapters converted."""
    from backends.local.fetch import EMBEDDED, download
    from benchmarks import gguf_adapter

    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        model = download(EMBEDDED, place, lambda share, what: None)
        files = {name: place / f"{name}.gguf" for name in adapters}
        for name, file in files.items():
            gguf_adapter.write(adapters[name], base, file)
        worker = Worker({
            "model": str(model), "adapters": {name: str(file) for name, file in files.items()},
            "context": 1024, "rows": 4,
        })  # fmt: skip
        try:
            yield worker
        finally:
            worker.close()


def measure(tokens: int, rounds: int) -> dict[str, Any]:
    """Tokens a second of each engine for each set of panes, and the seconds until a long prompt's first token."""
    from adapters.store import AdapterStore
    from backends.local.fetch import cache_folder, locate
    from benchmarks.panes import Ours
    from benchmarks.table import machine

    facts = locate("embedded", cache_folder())
    store = AdapterStore(ROOT / "adapters" / "library", Path(os.devnull), lambda: facts)
    sources = {name: store.source(name) for name in (ADAPTER, OTHER)}
    ours = Ours(facts.folder, sources)
    asked = [{"role": "user", "content": QUESTION}]
    prompt = ours.prompt(asked)
    long = (prompt * LONG_TOKENS)[:LONG_TOKENS]
    rates: dict[str, dict[str, list[float]]] = {name: {"llama.cpp": [], "engine": []} for name in PANES}
    read: dict[str, list[float]] = {"llama.cpp": [], "engine": []}
    with llama(facts.folder, {name: source.weights.parent for name, source in sources.items()}) as theirs:
        for turn in range(rounds + 1):  # the first warms both
            for name, panes in PANES.items():
                one = theirs.ask({"prompt": prompt, "panes": list(panes), "tokens": tokens})
                other = ours.run(ours.rows(panes, tokens, asked))
                if turn:
                    rates[name]["llama.cpp"].append(len(panes) * tokens / one["seconds"])
                    rates[name]["engine"].append(len(panes) * tokens / other["seconds"])
            one = theirs.ask({"prompt": long, "panes": [None], "tokens": 1})
            row = ours.rows([None], 1, asked)
            row[0].prompt[:] = long
            other = ours.run(row)
            if turn:
                read["llama.cpp"].append(one["first"])
                read["engine"].append(other["first"])
        answers = theirs.ask({"prompt": prompt, "panes": [None, ADAPTER], "tokens": tokens})["answers"]
        version = theirs.version
    if answers[0] == answers[1]:
        raise RuntimeError("the adapter changed nothing in llama.cpp")
    own = ours.run(ours.rows([None, ADAPTER], tokens, asked))["answers"]
    words = ours.base.tokenizer
    return {
        "machine": machine(),
        "llama_cpp_python": version,
        "tokens_per_pane": tokens,
        "rounds": rounds,
        "dtype": str(ours.base.model.dtype).removeprefix("torch."),
        "tokens_per_s": {name: _medians(both) for name, both in rates.items()},
        "long_prompt_first_token_s": _medians(read),
        "answers": {
            name: {"llama.cpp": words.decode(answers[place]), "engine": words.decode(own[place])}
            for place, name in enumerate(("bare", ADAPTER))
        },
    }


def _medians(both: dict[str, list[float]]) -> dict[str, float]:
    return {engine: statistics.median(values) for engine, values in both.items()}


def table(result: dict[str, Any]) -> str:
    """The result as Markdown."""
    lines = [
        f"llama-cpp-python {result['llama_cpp_python']}, {result['machine']}, NF4 in {result['dtype']}; "
        f"{result['tokens_per_pane']} tokens a pane, medians of {result['rounds']}.",
        "",
        "| tokens/s, all panes together | llama.cpp, Q4_1 | this engine, NF4 | this engine over llama.cpp |",
        "|:--|--:|--:|--:|",
    ]
    for name, both in result["tokens_per_s"].items():
        lines.append(_line(name, both, "{:.0f}", both["engine"] / both["llama.cpp"]))
    both = result["long_prompt_first_token_s"]
    lines.append(_line(READ, both, "{:.2f} s", both["llama.cpp"] / both["engine"]))
    for name, words in result["answers"].items():
        lines += ["", f"{name}: " + " · ".join(f"{who}: {json.dumps(said)}" for who, said in words.items())]
    return "\n".join(lines)


def _line(name: str, both: dict[str, float], form: str, ratio: float) -> str:
    return f"| {name} | {form.format(both['llama.cpp'])} | {form.format(both['engine'])} | {ratio:.2f}× |"


def main(arguments: Sequence[str] | None = None) -> None:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--json", action="store_true", help="one JSON object")
    options.add_argument("--tokens", type=int, default=64, help="tokens a pane")
    options.add_argument("--rounds", type=int, default=5, help="times that each engine takes its turn")
    options.add_argument("--own-kernel", action="store_true", help="NF4 without bitsandbytes' kernel")
    given = options.parse_args(arguments)
    if given.own_kernel:
        from backends import nf4
        from backends.local import nf4_kernel

        if not nf4_kernel.can_multiply(nf4.BLOCK):
            options.error("--own-kernel: there is none for this machine")
        nf4.is_fused = lambda device: device.type != "cpu"
    result = measure(given.tokens, given.rounds)
    print(json.dumps(result, ensure_ascii=False) if given.json else table(result))


if __name__ == "__main__":
    main()
