"""The benchmark's figures as a table, and the machine they come from."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any


def machine() -> str:
    """Processor, cores and versions, to be named beside every figure."""
    import torch

    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        named = [
            line.split(":", 1)[1].strip()
            for line in cpuinfo.read_text().splitlines()
            if line.startswith("model name")
        ]
        model = named[0] if named else model
    gpu = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ", no GPU"
    return f"{model}, {os.cpu_count()} cores{gpu}, torch {torch.__version__}"


def table(result: dict[str, Any]) -> str:
    """The figures as a Markdown table, each with its floor where it has one."""
    first, change, memory = result["first_token"], result["mode_change"], result["adapter_memory"]
    rows = [
        (f"four panes, {name}", f"{seconds:.2f} s", "") for name, seconds in result["four_panes_s"].items()
    ]
    rows += [
        ("this engine against one after another", f"{result['faster_than_one_after_another']:.2f}×", "≥ 3.5×"),
        ("this engine against PEFT's mixed batch", f"{result['faster_than_peft_batch']:.2f}×", ""),
        ("share of the engine's own bare batch", f"{result['of_the_bare_batch']:.0%}", "≥ 90 %"),
        ("share of Transformers' bare batch", f"{result['of_transformers_bare_batch']:.0%}", ""),
        ("a step with 1 / 2 / 4 / 6 panes", " / ".join(f"{ms:.1f}" for ms in result["step_ms"].values()) + " ms", ""),
        ("six panes' step against one pane's", f"{result['six_panes_to_one']:.2f}×", "≤ 1.6×"),
        (f"first token, {first['prompt_tokens']:.0f}-token persona, 1st / 2nd question",
         _pair(first["first_question_s"], first["second_question_s"]), "≤ 0.35×"),
        ("first token, 1st / 3rd turn", _pair(first["first_turn_s"], first["third_turn_s"]), "≤ 0.35×"),
        ("change to another mode in memory", f"{change['in_memory_ms']:.1f} ms", "< 50 ms"),
        ("read an adapter from disk", f"{change['from_disk_ms']:.0f} ms", ""),
        ("a further adapter's memory against its float32 weights",
         f"{memory['counted_bytes'] / memory['weights_float32_bytes']:.2f}× "
         f"(resident {memory['resident_bytes'] / memory['weights_float32_bytes']:.2f}×)", "≤ 1.1×"),
        ("NF4: answers the same alone as beside five others",
         f"{result['nf4_agreement']['answers_equal']:.0%} "
         f"(leading tokens {result['nf4_agreement']['leading_tokens_equal']:.0%})", ""),
    ]  # fmt: skip
    if "page" in result:
        page = result["page"]
        rows.append(
            ("through the page, of the engine's own tokens/s",
             f"{page['share']:.0%} ({page['page_tokens_per_s']:.0f} of {page['engine_tokens_per_s']:.0f})", "≥ 85 %")
        )  # fmt: skip
    lines = [f"Machine: {result['machine']}; {result['tokens_per_pane']} tokens a pane, medians of {result['rounds']}.",
             "", "| what | measured | floor |", "|---|---|---|"]  # fmt: skip
    return "\n".join(lines + [f"| {what} | {value} | {floor} |" for what, value, floor in rows])


def _pair(first: float, second: float) -> str:
    return f"{first:.2f} / {second:.2f} s ({second / first:.2f}×)"
