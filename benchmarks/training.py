"""How fast an adapter is trained: by `python app.py train`, and by Transformers' Trainer used plainly.

    python benchmarks/training.py [--recipe FILE] [--steps N] [--plain-dtype D] [--plain-nf4 W] [--json]

One recipe, twice, each run in a process of its own, one after the other: the same base, rows, order of rows, seed,
optimizer, schedule and steps. The plain run pads each batch to its longest row and computes the vocabulary for every
place. Trained tokens are those that carry loss, counted where each run computes its loss; seconds are those of the
training alone, not of loading. Beside other work the ratio of processor times is the steadier one. One function says
both held-out losses. Floors: 1.5 times the plain run's trained tokens a second (goal 2.5), the held-out loss within 2 %
of the plain run's.

`--plain-dtype ours` (the default) lets the plain run compute in what ours chooses for this machine, `recipe` in what the
recipe names. `--plain-nf4 rounded` gives it the values of NF4 in ordinary weights, as ours has them; `packed` is the usual
QLoRA: bitsandbytes' 4-bit layers.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

FASTER, GOAL, CLOSE = 1.5, 2.5, 0.02


class _Processor:
    """Processor time of all threads from the first batch to the end of the last step."""

    seconds = 0.0
    _began: float | None = None

    def begin(self) -> None:
        if self._began is None:
            self._began = time.process_time()

    def stepped(self) -> None:
        self.begin()
        self.seconds = time.process_time() - (self._began or 0.0)


def ours(recipe_path: Path, base: Path, folder: Path) -> dict[str, Any]:
    """Trains as `python app.py train` does."""
    from adapters.training import token_loss
    from adapters.training.run import train

    summed_loss, counted, processor = token_loss.summed, 0, _Processor()

    def counting(model: Any, batch: Any) -> tuple[Any, int]:
        nonlocal counted
        processor.begin()
        loss, tokens = summed_loss(model, batch)
        counted += tokens if model.training else 0
        return loss, tokens

    token_loss.summed = counting
    done = train(recipe_path, folder / "ours", base, report=lambda _: processor.stepped()).training
    return {
        "steps": done.steps,
        "seconds": done.seconds,
        "processor_seconds": processor.seconds,
        "loss_tokens": counted,
        "heldout_loss": done.heldout_loss,
    }


def plain(recipe_path: Path, base: Path, folder: Path, steps: int, dtype_of: str, nf4: str) -> dict[str, Any]:
    """Trains as the documentation of Transformers and PEFT shows."""
    from peft import get_peft_model
    from transformers import DataCollatorForSeq2Seq, Trainer, TrainerCallback, set_seed

    from adapters.training import dataset, fit, lora, token_loss
    from adapters.training.recipe import dataset_path, read

    recipe = read(recipe_path)
    model, tokenizer = _plain_base(base, recipe, dtype_of, nf4)
    train_path = dataset_path(recipe_path, recipe.train)
    heldout_path = dataset_path(recipe_path, recipe.heldout)
    rows, heldout = (
        dataset.encode(dataset.read(path), tokenizer, recipe.max_length, path.name)
        for path in (train_path, heldout_path)
    )
    set_seed(recipe.seed)
    model = get_peft_model(model, lora.lora_config(recipe))
    processor = _Processor()
    counted = {"loss_tokens": 0, "row_tokens": 0, "computed_tokens": 0}

    class Counting(Trainer):
        def compute_loss(self, model: Any, inputs: Any, *given: Any, **named: Any) -> Any:
            processor.begin()
            counted["loss_tokens"] += int((inputs["labels"] != dataset.NO_LOSS).sum())
            counted["row_tokens"] += int(inputs["attention_mask"].sum())
            counted["computed_tokens"] += inputs["input_ids"].numel()
            return super().compute_loss(model, inputs, *given, **named)

    class Watch(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            processor.stepped()

    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    items = [{"input_ids": row.input_ids, "labels": row.labels} for row in rows]
    started = time.monotonic()
    trainer = Counting(
        model=model,
        args=fit.arguments(model, recipe, folder / "plain", steps),
        train_dataset=items,
        data_collator=DataCollatorForSeq2Seq(tokenizer, padding="longest"),
        callbacks=[Watch()],
    )
    trainer.train()
    return {
        "steps": trainer.state.global_step,
        "seconds": round(time.monotonic() - started, 1),
        "processor_seconds": processor.seconds,
        **counted,
        "heldout_loss": token_loss.mean(model, heldout, recipe.batch_size),
    }


def _plain_base(base: Path, recipe: Any, dtype_of: str, nf4: str) -> tuple[Any, Any]:
    """The base and its tokenizer, its linear layers rounded to NF4 or, where `nf4` is "packed", kept in it."""
    import torch
    from peft import prepare_model_for_kbit_training
    from transformers import BitsAndBytesConfig

    from adapters.training import lora
    from backends import pretrained

    dtype = lora.compute_dtype(recipe) if dtype_of == "ours" else getattr(torch, recipe.dtype)
    on_gpu = torch.cuda.is_available()
    options: dict[str, Any] = {"dtype": dtype} | ({"device_map": {"": 0}} if on_gpu else {})
    packed = recipe.quantization == "nf4" and nf4 == "packed"
    if packed:
        options["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=dtype
        )
    model, tokenizer = pretrained.load(base, **options)
    if packed:
        model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)
    elif recipe.quantization == "nf4":
        lora.round_to_nf4(model)
    return model, tokenizer


def measure(
    recipe_path: Path,
    base: Path | None = None,
    steps: int | None = None,
    dtype_of: str = "ours",
    nf4: str = "rounded",
) -> dict[str, Any]:
    """Both runs, one after the other. `base` is a folder; None is the recipe's base, fetched if need be."""
    from adapters.training.recipe import dataset_path, read
    from backends.local.fetch import cache_folder, locate

    recipe = read(recipe_path)
    base = base or locate(recipe.base, cache_folder()).folder
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shortened = recipe.model_dump(mode="json") | {
            "train": str(dataset_path(recipe_path, recipe.train)),
            "heldout": str(dataset_path(recipe_path, recipe.heldout)),
            "max_steps": steps or recipe.max_steps,
        }
        copy = folder / "recipe.yaml"
        copy.write_text(json.dumps(shortened), encoding="utf-8")  # JSON is YAML
        mine = _child("ours", copy, base)
        usual = _child(
            "plain", copy, base, "--steps", str(mine["steps"]), "--plain-dtype", dtype_of, "--plain-nf4", nf4
        )
    mine["row_tokens"] = usual["row_tokens"]  # of the same rows, if as many tokens carried loss
    for run in (mine, usual):
        seconds = max(run["seconds"], 0.05)  # given to a tenth
        run["loss_tokens_per_s"] = run["loss_tokens"] / seconds
        run["row_tokens_per_s"] = run["row_tokens"] / seconds
    return {
        "recipe": recipe.name,
        "steps": mine["steps"],
        "ours": mine,
        "plain": usual,
        "same_rows": mine["loss_tokens"] == usual["loss_tokens"],
        "faster": mine["loss_tokens_per_s"] / usual["loss_tokens_per_s"],
        "faster_by_processor_time": usual["processor_seconds"] / mine["processor_seconds"],
        "heldout_difference": mine["heldout_loss"] / usual["heldout_loss"] - 1,
    }


def _child(way: str, recipe_path: Path, base: Path, *options: str) -> dict[str, Any]:
    """What a fresh process prints that makes one of the runs."""
    command = [sys.executable, __file__, "--way", way, "--recipe", str(recipe_path), "--base", str(base)]
    told = subprocess.run([*command, *options], stdout=subprocess.PIPE, check=True).stdout
    report: dict[str, Any] = json.loads(told.splitlines()[-1])
    return report


def _alone(given: argparse.Namespace) -> dict[str, Any]:
    """One of the runs, in this process."""
    from adapters.training import lora
    from adapters.training.recipe import read

    recipe = read(given.recipe)
    computed = str(lora.compute_dtype(recipe)).removeprefix("torch.")
    with tempfile.TemporaryDirectory() as name:
        if given.way == "ours":
            told = ours(given.recipe, given.base, Path(name))
        else:
            told = plain(
                given.recipe, given.base, Path(name), given.steps, given.plain_dtype, given.plain_nf4
            )
            if given.plain_dtype == "recipe":
                computed = recipe.dtype
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    weights = given.plain_nf4 if given.way == "plain" else "rounded"
    quantization = f"NF4, {weights}" if recipe.quantization == "nf4" else "not quantized"
    return {**told, "computed_in": f"{computed}, {quantization}", "peak_bytes": peak}


def table(result: dict[str, Any]) -> str:
    """The figures as Markdown."""
    mine, usual, faster = result["ours"], result["plain"], result["faster"]
    apart = result["heldout_difference"]
    goal = f"{_floor(f'≥ {FASTER}×', faster >= FASTER)}, {_floor(f'goal {GOAL}×', faster >= GOAL)}"
    rows = [
        ("computed in", mine["computed_in"], usual["computed_in"], ""),
        ("seconds of training", f"{mine['seconds']:.1f}", f"{usual['seconds']:.1f}", ""),
        ("processor seconds of it", f"{mine['processor_seconds']:.1f}", f"{usual['processor_seconds']:.1f}", ""),
        ("tokens that carry loss", f"{mine['loss_tokens']:,}", f"{usual['loss_tokens']:,}",
         _floor("the same", result["same_rows"])),
        ("… a second", f"{mine['loss_tokens_per_s']:.1f}", f"{usual['loss_tokens_per_s']:.1f}", ""),
        ("tokens of rows, without padding, a second", f"{mine['row_tokens_per_s']:.0f}",
         f"{usual['row_tokens_per_s']:.0f}", ""),
        ("**against the plain run**", f"**{faster:.2f}×**", "1", goal),
        ("the same by processor time", f"{result['faster_by_processor_time']:.2f}×", "1", ""),
        ("held-out loss", f"{mine['heldout_loss']:.4f}", f"{usual['heldout_loss']:.4f}", ""),
        ("its difference", f"{apart:+.2%}", "", _floor(f"within {CLOSE:.0%}", abs(apart) <= CLOSE)),
        ("peak memory", f"{mine['peak_bytes'] / 2**20:,.0f} MiB", f"{usual['peak_bytes'] / 2**20:,.0f} MiB", ""),
    ]  # fmt: skip
    lines = [
        f"Machine: {result['machine']}; {result['recipe']}, {result['steps']} steps.",
        "",
        "| | app | plain Trainer | floor |",
        "|:--|--:|--:|:--|",
    ]
    return "\n".join(lines + [f"| {' | '.join(row)} |" for row in rows])


def _floor(floor: str, met: bool) -> str:
    return f"{floor} {'✓' if met else 'missed'}"


def main(words: Sequence[str] | None = None) -> None:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--recipe", type=Path, default=ROOT / "adapters/library/support/recipe.yaml")
    options.add_argument("--base", type=Path, help="the base's folder, if it is not the recipe's own base")
    options.add_argument("--steps", type=int, help="optimizer steps, fewer than the recipe's")
    options.add_argument("--plain-dtype", choices=("ours", "recipe"), default="ours")
    options.add_argument("--plain-nf4", choices=("rounded", "packed"), default="rounded")
    options.add_argument("--json", action="store_true", help="one JSON object")
    options.add_argument("--way", choices=("ours", "plain"), help=argparse.SUPPRESS)  # a run's own process
    given = options.parse_args(words)
    if given.way:
        print(json.dumps(_alone(given)))
        return
    result = measure(given.recipe, given.base, given.steps, given.plain_dtype, given.plain_nf4)
    from benchmarks.table import machine  # imports torch, so not before the runs

    result = {"machine": machine(), **result}
    print(json.dumps(result) if given.json else table(result))


if __name__ == "__main__":
    main()
