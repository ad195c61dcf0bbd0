"""llama.cpp, in an environment of its own, as benchmarks/llama.py asks it: a JSON object a line, one back.

The first line says what to load: {"model": FILE, "adapters": {NAME: FILE}, "context": TOKENS A ROW, "rows": ROWS}.
Each further one is work: {"prompt": [TOKEN], "panes": [NAME or null], "tokens": N}; what comes back is
{"seconds": …, "first": …, "answers": [[TOKEN]]}.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import os
import sys
import time
from collections.abc import Iterable
from typing import Any

import numpy as np


def _llama_cpp() -> Any:
    """The package, which is in this script's environment alone."""
    return importlib.import_module("llama_cpp")


class Engine:
    """A base and its adapters. Panes of one adapter are decoded as a batch, adapters one after another: a llama.cpp
    context has one set of adapters at a time, and llama-server batches by it too."""

    def __init__(self, model: str, adapters: dict[str, str], context: int, rows: int):
        self._api = api = _llama_cpp()
        api.llama_backend_init()
        self.model = api.llama_model_load_from_file(model.encode(), api.llama_model_default_params())
        self.adapters = {
            name: api.llama_adapter_lora_init(self.model, file.encode()) for name, file in adapters.items()
        }
        if not self.model or not all(self.adapters.values()):
            raise SystemExit("llama.cpp could not load the base or an adapter")
        params = api.llama_context_default_params()
        params.n_ctx, params.n_seq_max = context * rows, rows
        params.n_batch = params.n_ubatch = context
        params.n_threads = params.n_threads_batch = os.cpu_count() or 1
        self.context = api.llama_init_from_model(self.model, params)
        self.batch = api.llama_batch_init(context, 0, 1)
        self.vocabulary = api.llama_vocab_n_tokens(api.llama_model_get_vocab(self.model))

    def run(self, prompt: list[int], panes: list[str | None], tokens: int) -> dict[str, Any]:
        """Greedy answers of `tokens` tokens each; the seconds for all, and until each pane had its first token."""
        api, began, first = self._api, time.perf_counter(), 0.0
        answers: list[list[int]] = [[] for _ in panes]
        for name in dict.fromkeys(panes):
            group = [number for number, pane in enumerate(panes) if pane == name]
            self._use(name)
            api.llama_memory_clear(api.llama_get_memory(self.context), True)
            # Read once, as the engine reads what its rows have in common.
            memory, last = api.llama_get_memory(self.context), len(prompt) - 1
            self._decode((token, place, 0, place == last) for place, token in enumerate(prompt))
            best = self._best(last)
            for row, number in enumerate(group):
                if row:
                    api.llama_memory_seq_cp(memory, 0, row, -1, -1)
                answers[number].append(best)
            first += time.perf_counter() - began - first
            for step in range(1, tokens):
                self._decode(
                    (answers[number][-1], len(prompt) + step - 1, row, True)
                    for row, number in enumerate(group)
                )
                for row, number in enumerate(group):
                    answers[number].append(self._best(row))
        return {"seconds": time.perf_counter() - began, "first": first, "answers": answers}

    def _use(self, name: str | None) -> None:
        api, chosen = self._api, [self.adapters[name]] if name else []
        handles = (api.llama_adapter_lora_p_ctypes * len(chosen))(
            *(ctypes.cast(one, api.llama_adapter_lora_p_ctypes) for one in chosen)
        )
        scales = (ctypes.c_float * len(chosen))(*[1.0] * len(chosen))
        if api.llama_set_adapters_lora(self.context, handles, len(chosen), scales):
            raise SystemExit(f"llama.cpp could not use {name}")

    def _decode(self, entries: Iterable[tuple[int, int, int, bool]]) -> None:
        api, count = self._api, 0
        for token, place, row, wanted in entries:
            self.batch.token[count], self.batch.pos[count] = token, place
            self.batch.n_seq_id[count], self.batch.seq_id[count][0] = 1, row
            self.batch.logits[count] = wanted
            count += 1
        self.batch.n_tokens = count
        if api.llama_decode(self.context, self.batch):
            raise SystemExit("llama.cpp could not decode")

    def _best(self, entry: int) -> int:
        logits = self._api.llama_get_logits_ith(self.context, entry)
        return int(np.ctypeslib.as_array(logits, shape=(self.vocabulary,)).argmax())


def main() -> None:
    engine = Engine(**json.loads(sys.stdin.readline()))
    print(json.dumps({"version": _llama_cpp().__version__}), flush=True)
    for line in sys.stdin:
        print(json.dumps(engine.run(**json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
