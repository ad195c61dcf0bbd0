"""The benchmark's figures as a table, and the machine they come from."""

from __future__ import annotations

from typing import Any


def machine() -> str:
    """Processor, cores, memory and versions, to be named beside every figure."""
    import torch

    from comparison.measure.prepare import machine as named

    return f"{named()}, torch {torch.__version__}"


def table(result: dict[str, Any]) -> str:
    """The figures as a Markdown table, each that has a floor with it and whether it was met."""
    first, change, memory = result["first_token"], result["mode_change"], result["adapter_memory"]
    faster, six = result["faster_than_one_after_another"], result["six_panes_to_one"]
    second, third = first["second_to_first"], first["third_to_first"]
    counted = memory["counted_bytes"] / memory["weights_float32_bytes"]
    resident = memory["resident_bytes"] / memory["weights_float32_bytes"]
    bare, agreement = result["of_the_bare_batch"], result["nf4_agreement"]
    rows = [
        (f"four panes, {name}", f"{seconds:.2f} s", "") for name, seconds in result["four_panes_s"].items()
    ]
    rows += [
        ("this engine against one after another", f"{faster:.2f}×", _floor("≥ 3.5×", faster >= 3.5)),
        ("this engine against PEFT's mixed batch", f"{result['faster_than_peft_batch']:.2f}×", ""),
        ("share of the engine's own bare batch", f"{bare:.1%}", _floor("≥ 90 %", bare >= 0.9)),
        ("share of Transformers' bare batch", f"{result['of_transformers_bare_batch']:.0%}", ""),
        ("a step with 1 / 2 / 4 / 6 panes", " / ".join(f"{ms:.1f}" for ms in result["step_ms"].values()) + " ms", ""),
        ("six panes' step against one pane's", f"{six:.2f}×", _floor("≤ 1.6×", six <= 1.6)),
        (f"first token, {first['prompt_tokens']:.0f}-token persona, 1st / 2nd question",
         f"{first['first_question_s']:.2f} / {first['second_question_s']:.2f} s ({second:.2f}×)",
         _floor("≤ 0.35×", second <= 0.35)),
        ("first token, 1st / 3rd turn",
         f"{first['first_turn_s']:.2f} / {first['third_turn_s']:.2f} s ({third:.2f}×)",
         _floor("≤ 0.35×", third <= 0.35)),
        ("change to another mode in memory", f"{change['in_memory_ms']:.1f} ms",
         _floor("< 50 ms", change["in_memory_ms"] < 50)),
        ("first use of an adapter: read, check, prove", f"{change['first_use_ms']:.0f} ms", ""),
        ("a further adapter's memory against its float32 weights",
         f"{counted:.2f}× (resident {resident:.2f}×)", _floor("≤ 1.1×", counted <= 1.1)),
        ("NF4: answers the same alone as beside five others",
         f"{agreement['answers_equal']:.0%} (leading tokens {agreement['leading_tokens_equal']:.0%})", ""),
    ]  # fmt: skip
    if "page" in result:
        page = result["page"]
        rows.append(
            ("through the page, of the engine's own tokens/s",
             f"{page['share']:.1%} ({page['page_tokens_per_s']:.0f} of {page['engine_tokens_per_s']:.0f})",
             _floor("≥ 85 %", page["share"] >= 0.85))
        )  # fmt: skip
    lines = [f"Machine: {result['machine']}; {result['tokens_per_pane']} tokens a pane, medians of {result['rounds']}.",
             "", "| what | measured | floor |", "|---|---|---|"]  # fmt: skip
    return "\n".join(lines + [f"| {what} | {value} | {floor} |" for what, value, floor in rows])


def _floor(floor: str, met: bool) -> str:
    return f"{floor} {'✓' if met else 'missed'}"
