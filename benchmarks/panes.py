"""How fast several panes are answered: one after another, as one PEFT batch, and as this engine does it.

    python benchmarks/panes.py [--json] [--tokens 64] [--rounds 3] [--without-page]

All in one run on one machine, on the real base in NF4 with two of the shipped adapters; every way decodes the
same number of tokens greedily and never stops early. The ways take turns, so that a machine whose speed drifts
slows all alike; figures are medians over the rounds, ratios are of those medians.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

ADAPTERS = ("support", "gazette")
COPIES = 8
"""Of an adapter, to see what one takes of memory."""
PANES: tuple[str | None, ...] = (None, None, *ADAPTERS)
PERSONA_TOKENS = 600
QUESTION = (
    "My coffee has not arrived and the post office knows nothing. What can you do for me, and how long?"
)


def milliseconds(seconds: Sequence[float]) -> float:
    return statistics.median(seconds) * 1000


class Ours:
    """The engine's own decoder, without its process."""

    def __init__(self, folder: Path, sources: dict[str, Any]):
        from backends.local.base_model import load
        from backends.local.decode import Decoder

        self.base = load(folder, "nf4", "auto")
        self.sources = sources
        self.decoder = Decoder(self.base, 512 * 1024**2)

    def prompt(self, messages: Sequence[Any]) -> list[int]:
        tokenizer = self.base.tokenizer
        text = tokenizer.apply_chat_template(list(messages), tokenize=False, add_generation_prompt=True)
        ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids

    def rows(
        self, adapters: Sequence[str | None], tokens: int, messages: Sequence[Any] | None = None
    ) -> list[Any]:
        from backends.contract import Sampling
        from backends.local.decode import Row

        prompt = self.prompt(messages or [{"role": "user", "content": QUESTION}])
        for name in adapters:
            if name:
                self.base.rows.load(self.sources[name], set())
        return [
            Row(
                prompt,
                Sampling(max_tokens=tokens),
                adapter=name,
                adapter_version=name and self.sources[name].version,
            )
            for name in adapters
        ]

    def run(self, rows: list[Any], forget: bool = True) -> dict[str, Any]:
        """Decodes every row to its max_tokens; seconds for all, to the first token, and of each step."""
        if forget:
            self.decoder.store.clear()
        began = time.perf_counter()
        self.decoder.add(rows)
        while self.decoder.reading:
            self.decoder.read()
        first = time.perf_counter() - began
        steps = []
        while len(rows[0].answer) < rows[0].sampling.max_tokens:
            step = time.perf_counter()
            self.decoder.answer()
            steps.append(time.perf_counter() - step)
        seconds = time.perf_counter() - began
        for row in list(rows):
            self.decoder.remove(row)
        return {
            "seconds": seconds,
            "first": first,
            "steps": steps,
            "answers": [list(row.answer) for row in rows],
        }


class Usual:
    """Transformers and PEFT, used as their documentation shows."""

    def __init__(self, folder: Path, adapters: dict[str, Path]):
        import torch
        from peft import PeftModel
        from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig

        from backends.local.base_model import compute_dtype

        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        # As it is fastest there, like the engine.
        dtype = compute_dtype("nf4", "auto", torch.device("cpu"))
        config = BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=dtype
        )
        model: Any = AutoModelForCausalLM.from_pretrained(folder, quantization_config=config, dtype=dtype)
        names = list(adapters)
        self.model: Any = PeftModel.from_pretrained(
            model, str(adapters[names[0]]), adapter_name=names[0], autocast_adapter_dtype=False
        )
        for name in names[1:]:
            self.model.load_adapter(str(adapters[name]), adapter_name=name, autocast_adapter_dtype=False)
        self.model.eval()

    def _generate(self, rows: int, tokens: int, **options: Any) -> None:
        import torch

        text = self.tokenizer.apply_chat_template(
            [{"role": "user", "content": QUESTION}], tokenize=False, add_generation_prompt=True
        )
        ids = torch.tensor([self.tokenizer(text, add_special_tokens=False)["input_ids"]] * rows)
        with torch.inference_mode():
            self.model.generate(
                input_ids=ids, attention_mask=torch.ones_like(ids), do_sample=False,
                max_new_tokens=tokens, min_new_tokens=tokens, **options,
            )  # fmt: skip

    def one_after_another(self, panes: Sequence[str | None], tokens: int) -> None:
        for name in panes:
            if name is None:
                with self.model.disable_adapter():
                    self._generate(1, tokens)
            else:
                self.model.set_adapter(name)
                self._generate(1, tokens)

    def mixed_batch(self, panes: Sequence[str | None], tokens: int) -> None:
        self._generate(len(panes), tokens, adapter_names=[name or "__base__" for name in panes])

    def bare_batch(self, rows: int, tokens: int) -> None:
        with self.model.disable_adapter():
            self._generate(rows, tokens)


def timed(action: Callable[[], object]) -> float:
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


def compare_ways(ours: Ours, usual: Usual, tokens: int, rounds: int) -> dict[str, float]:
    """Seconds for four panes each way, medians over the rounds."""
    ways: dict[str, Callable[[], object]] = {
        "one after another, set_adapter": lambda: usual.one_after_another(PANES, tokens),
        "one PEFT mixed batch": lambda: usual.mixed_batch(PANES, tokens),
        "this engine": lambda: ours.run(ours.rows(PANES, tokens)),
        "bare batch, this engine": lambda: ours.run(ours.rows((None,) * len(PANES), tokens)),
        "bare batch, Transformers": lambda: usual.bare_batch(len(PANES), tokens),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for way in ways.values():
        way()
    for _ in range(rounds):
        for name, way in ways.items():
            seconds[name].append(timed(way))
    return {name: statistics.median(values) for name, values in seconds.items()}


def step_times(ours: Ours, tokens: int, rounds: int) -> dict[str, float]:
    """Milliseconds a decode step for 1, 2, 4 and 6 panes: bare, and from the second on each adapter in turn."""
    steps: dict[int, list[float]] = {1: [], 2: [], 4: [], 6: []}
    for _ in range(rounds):
        for count, seen in steps.items():
            adapters = [(None, *ADAPTERS)[number % 3] for number in range(count)]
            seen += ours.run(ours.rows(sorted(adapters, key=str), tokens))["steps"]
    return {str(count): milliseconds(seen) for count, seen in steps.items()}


def first_tokens(ours: Ours, rounds: int) -> dict[str, float]:
    """Seconds to the first token of a persona's first and second question, and of a third turn.

    The persona is the support desk with as much of its fact sheet as makes a prompt of 600 tokens.
    """
    from personas.render import render
    from personas.store import PersonaStore

    persona = PersonaStore(ROOT / "personas" / "library", Path(os.devnull)).get("support-desk")

    def messages(question: str, history: Sequence[Any] = ()) -> list[Any]:
        return list(render(persona, question, history))

    while len(ours.prompt(messages("When do you ship?"))) > PERSONA_TOKENS:
        shorter = persona.context.splitlines()[:-1]
        persona = persona.model_copy(update={"context": "\n".join(shorter)})

    first, second, turns = [], [], {1: [], 3: []}  # type: ignore[var-annotated]
    for _ in range(rounds):
        first.append(ours.run(ours.rows([None], 2, messages("When do you ship?")))["first"])
        second.append(ours.run(ours.rows([None], 2, messages("Is there a decaf?")), forget=False)["first"])
        ours.decoder.store.clear()
        history: list[Any] = []
        for turn, question in enumerate(
            ("When do you ship?", "And abroad?", "What does that cost?"), start=1
        ):
            rows = ours.rows([None], 24, messages(question, history))
            ran = ours.run(rows, forget=False)
            if turn in turns:
                turns[turn].append(ran["first"])
            answer = ours.base.tokenizer.decode(ran["answers"][0], skip_special_tokens=True)
            history += [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return {
        "prompt_tokens": len(ours.prompt(messages("When do you ship?"))),
        "first_question_s": statistics.median(first),
        "second_question_s": statistics.median(second),
        "second_to_first": statistics.median(second) / statistics.median(first),
        "first_turn_s": statistics.median(turns[1]),
        "third_turn_s": statistics.median(turns[3]),
        "third_to_first": statistics.median(turns[3]) / statistics.median(turns[1]),
    }


def mode_change(ours: Ours) -> dict[str, float]:
    """Milliseconds to use another adapter that is in memory; to read, check and prove one on first use."""
    rows = ours.base.rows

    def change(name: str) -> None:
        rows.load(ours.sources[name], set())
        rows.assign([name], [1.0])

    probe = ours.prompt([{"role": "user", "content": QUESTION}])

    def first_use() -> None:
        rows.unload(ADAPTERS[0])
        rows.load(ours.sources[ADAPTERS[0]], set())
        ours.decoder.effect(ADAPTERS[0], probe)

    in_memory = []
    for number in range(20):
        # What was worked out for these rows before is forgotten, as for a mix of modes never asked before.
        rows.forget_plans()
        in_memory.append(timed(lambda name=ADAPTERS[number % 2]: change(name)))  # type: ignore[misc]
    rows.assign([None], [1.0])
    from_disk = [timed(first_use) for _ in range(3)]
    return {"in_memory_ms": milliseconds(in_memory), "first_use_ms": milliseconds(from_disk)}


def resident() -> int:
    """Bytes of this process that are in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def adapter_memory(ours: Ours) -> dict[str, float]:
    """What a further adapter adds: the engine's own count, and what the operating system says of several of them (one
    may find room in what was freed before)."""
    from safetensors.torch import load_file

    further = next((name for name in ours.sources if name not in ADAPTERS), ADAPTERS[0])
    weights = sum(tensor.numel() * 4 for tensor in load_file(ours.sources[further].weights).values())
    rows, copies = ours.base.rows, [f"{further}-{number}" for number in range(COPIES)]
    gc.collect()
    counted, before = rows.bytes, resident()
    for name in copies:
        rows.load(replace(ours.sources[further], name=name), set())
    gc.collect()
    counted, added = rows.bytes - counted, resident() - before
    for name in copies:
        rows.unload(name)
    return {
        "weights_float32_bytes": weights,
        "counted_bytes": counted / COPIES,
        "resident_bytes": added / COPIES,
    }


def agreement(ours: Ours, tokens: int) -> dict[str, float]:
    """In NF4: the share of answers, and of leading tokens, that are the same alone as beside five others."""
    adapters: list[str | None] = [None, None, None, *ADAPTERS, ADAPTERS[0]]
    questions = ("What is the capital of France?", "When do you ship?", QUESTION, "How do I boil an egg?",
                 "Tell me about the new bridge.", "Is there a decaf?")  # fmt: skip

    def rows() -> list[Any]:
        return [
            ours.rows([name], tokens, [{"role": "user", "content": question}])[0]
            for name, question in zip(adapters, questions, strict=True)
        ]

    together = ours.run(rows())["answers"]
    alone = [ours.run([row])["answers"][0] for row in rows()]
    leading = [
        next((i for i, (x, y) in enumerate(zip(a, b, strict=True)) if x != y), len(a))
        for a, b in zip(together, alone, strict=True)
    ]
    return {
        "answers_equal": sum(a == b for a, b in zip(together, alone, strict=True)) / len(alone),
        "leading_tokens_equal": sum(leading) / (tokens * len(alone)),
    }


def measure(tokens: int, rounds: int, page: bool) -> dict[str, Any]:
    """Every figure of the benchmark."""
    from adapters.store import AdapterStore
    from backends.local.fetch import cache_folder, locate
    from benchmarks.table import machine

    facts = locate("embedded", cache_folder())
    store = AdapterStore(ROOT / "adapters" / "library", Path(os.devnull), lambda: facts)
    sources = {entry.name: store.source(entry.name) for entry in store.list() if entry.usable}
    ours = Ours(facts.folder, sources)
    usual = Usual(facts.folder, {name: sources[name].weights.parent for name in ADAPTERS})
    ways = compare_ways(ours, usual, tokens, rounds)
    del usual
    gc.collect()
    engine = ways["this engine"]
    steps = step_times(ours, tokens, rounds)
    result: dict[str, Any] = {
        "machine": machine(),
        "tokens_per_pane": tokens,
        "rounds": rounds,
        "four_panes_s": ways,
        "faster_than_one_after_another": ways["one after another, set_adapter"] / engine,
        "faster_than_peft_batch": ways["one PEFT mixed batch"] / engine,
        "of_the_bare_batch": ways["bare batch, this engine"] / engine,
        "of_transformers_bare_batch": ways["bare batch, Transformers"] / engine,
        "step_ms": steps,
        "six_panes_to_one": steps["6"] / steps["1"],
        "first_token": first_tokens(ours, rounds),
        "mode_change": mode_change(ours),
        "adapter_memory": adapter_memory(ours),
        "nf4_agreement": agreement(ours, tokens),
    }
    if page:
        from benchmarks.page import through_the_page

        del ours
        gc.collect()
        result["page"] = through_the_page(rounds)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of the table")
    parser.add_argument("--tokens", type=int, default=64, help="tokens a pane")
    parser.add_argument("--rounds", type=int, default=3, help="times that each way takes its turn")
    parser.add_argument(
        "--without-page", action="store_true", help="leave out the measurement through the page"
    )
    options = parser.parse_args()
    from benchmarks.table import table

    result = measure(options.tokens, options.rounds, not options.without_page)
    print(json.dumps(result, ensure_ascii=False) if options.json else table(result))


if __name__ == "__main__":
    main()
