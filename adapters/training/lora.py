"""The parts of training that need torch: the base as it will answer, the adapter on it, its trainer, its file.

Kept apart so that the rest of the room can be imported in no time.
"""

from __future__ import annotations

import functools
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch.nn import functional
from transformers import (
    BitsAndBytesConfig,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    set_seed,
)

from adapters.training import packed_attention, token_loss
from adapters.training.batches import Batch
from adapters.training.dataset import Encoded
from adapters.training.fused_lora import FusedLora
from adapters.training.recipe import Recipe
from backends import nf4, pretrained
from backends.pretrained import Pretrained
from errors import CounterpointError

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"


def compute_dtype(recipe: Recipe) -> torch.dtype:
    """The recipe's dtype, but float32 on a CPU where bfloat16 is slower: emulated, or with narrower arithmetic."""
    if recipe.dtype == "float32" or not (torch.cuda.is_available() or _bfloat16_pays()):
        return torch.float32
    return torch.bfloat16


@functools.cache
def _bfloat16_pays() -> bool:
    """Whether this CPU multiplies faster in bfloat16, tried: of those that have its instructions, some take twice as
    long with them (Intel's, without their matrix extension) and others half as long."""
    from bitsandbytes.functional import has_avx512bf16

    return bool(has_avx512bf16()) and _product_s(torch.bfloat16) < _product_s(torch.float32)


def _product_s(dtype: torch.dtype) -> float:
    """Seconds of one product as training has them, the fastest of several."""
    rows, weights = torch.ones(512, 512, dtype=dtype), torch.ones(1024, 512, dtype=dtype)
    took = []
    for _ in range(8):
        began = time.perf_counter()
        functional.linear(rows, weights)
        took.append(time.perf_counter() - began)
    return min(took)


def load_base(folder: Path, recipe: Recipe, dtype: torch.dtype | None = None) -> Pretrained:
    """The base in `folder` as the recipe wants it: on a GPU if there is one, rounded to NF4 if it says so; computing in
    `dtype`, or else in what `compute_dtype` says.

    Raises CounterpointError where the engine, too, would not take it.
    """
    on_gpu = torch.cuda.is_available()
    dtype = dtype or compute_dtype(recipe)
    options: dict[str, Any] = {"dtype": dtype}
    if on_gpu:
        options["device_map"] = {"": 0}
        if recipe.quantization == "nf4":
            options["quantization_config"] = BitsAndBytesConfig(
                load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=dtype
            )
    base = pretrained.load(folder, **options)
    if recipe.quantization == "nf4" and not on_gpu:
        round_to_nf4(base.model)
    return base


def round_to_nf4(model: torch.nn.Module) -> None:
    """Replaces each linear layer's weights, but the output head's, by what NF4 makes of them.

    The model computes with the values it will have when it answers in NF4, at the speed of unquantized
    weights: on a CPU, taking packed weights apart again in every forward and backward pass is what costs.
    """
    head = model.get_output_embeddings()  # type: ignore[operator]
    for module in model.modules():
        if isinstance(module, torch.nn.Linear) and module is not head:
            module.weight.data = nf4.rounded(module.weight.data)


def adapted(model: Any, recipe: Recipe) -> Any:
    """The base with a fresh float32 LoRA adapter. Raises CounterpointError for targets that it lacks."""
    set_seed(recipe.seed)
    linears = {
        name.rpartition(".")[2] for name, part in model.named_modules() if isinstance(part, torch.nn.Linear)
    }
    unknown = sorted(set(recipe.targets) - linears)
    if unknown:
        raise CounterpointError(
            f"targets: the base has no linear layer {', '.join(unknown)}; it has {', '.join(sorted(linears))}"
        )
    config = lora_config(recipe)
    if model.device.type == "cpu":
        packed_attention.use(model)
        config._register_custom_module({torch.nn.Linear: FusedLora})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # PEFT asks Transformers by an old name
        return get_peft_model(model, config, autocast_adapter_dtype=True)


def lora_config(recipe: Recipe) -> LoraConfig:
    """What the recipe says, in PEFT's words."""
    return LoraConfig(
        task_type="CAUSAL_LM",
        r=recipe.rank,
        lora_alpha=recipe.alpha,
        lora_dropout=recipe.dropout,
        target_modules=list(recipe.targets),
    )


class LoraTrainer(Trainer):
    """Trainer with the loss of `token_loss.summed`, which counts what it reads and saves checkpoints within `writing`."""

    tokens = 0
    writing: Callable[[], AbstractContextManager[None]]
    _loss = 0.0

    def compute_loss(
        self, model: Any, inputs: Batch, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> torch.Tensor:
        """The batch's share of the step's mean loss."""
        summed, count = token_loss.summed(model, inputs)
        share = summed / (count if num_items_in_batch is None else num_items_in_batch)
        self.tokens += inputs["input_ids"].numel()
        self._loss += share.item()
        return share

    def take_loss(self) -> float:
        """The mean loss since it was last taken: one optimizer step's."""
        taken, self._loss = self._loss, 0.0
        return taken

    def _save_checkpoint(self, *given: Any, **named: Any) -> None:
        with self.writing():
            super()._save_checkpoint(*given, **named)


def trainer(
    model: Any,
    arguments: TrainingArguments,
    rows: Sequence[Encoded],
    collate: Callable[[Sequence[Encoded]], Batch],
    watch: TrainerCallback,
    writing: Callable[[], AbstractContextManager[None]],
) -> LoraTrainer:
    """A silent trainer of `model` on `rows`, put together by `collate`, which tells only `watch`."""
    made = LoraTrainer(
        model=model,
        args=arguments,
        train_dataset=rows,
        data_collator=collate,
        callbacks=[watch],
    )
    # So that num_items_in_batch arrives and accumulated batches weigh by their tokens.
    made.model_accepts_loss_kwargs = True
    made.writing = writing
    made.remove_callback(PrinterCallback)
    return made


def trained(model: Any) -> Iterator[tuple[str, torch.nn.Parameter]]:
    """The adapter's own weights, which are what is trained, with their names."""
    return ((name, part) for name, part in model.named_parameters() if part.requires_grad)


@contextmanager
def as_saved(model: Any) -> Iterator[None]:
    """The adapter's weights as its file has them, in bfloat16, while it is measured."""
    before = [(part, part.detach().clone()) for _, part in trained(model)]
    with torch.no_grad():
        for part, _ in before:
            part.copy_(part.to(torch.bfloat16))
    try:
        yield
    finally:
        with torch.no_grad():
            for part, kept in before:
                part.copy_(kept)


def is_finite(model: Any) -> bool:
    """Whether all that is trained still consists of finite numbers."""
    return all(bool(part.isfinite().all()) for _, part in trained(model))


def save(model: Any, folder: Path, base_id: str) -> None:
    """Writes adapter_config.json and adapter_model.safetensors (bfloat16, half the bytes) into `folder`.

    PEFT's save_pretrained would add a model card with this machine's paths, and ask the network for the base.
    """
    config = model.peft_config["default"]
    config.base_model_name_or_path = base_id
    config.inference_mode = True
    config.save_pretrained(folder)
    state = get_peft_model_state_dict(model, save_embedding_layers=False)
    save_file(
        {name: tensor.to("cpu", torch.bfloat16).contiguous() for name, tensor in state.items()},
        folder / WEIGHTS,
        metadata={"format": "pt"},
    )


def load(model: Any, folder: Path) -> None:
    """Gives an adapted model the weights that `save` wrote. Raises CounterpointError where they are not its own."""
    try:
        taken: Any = set_peft_model_state_dict(model, load_file(folder / WEIGHTS))
        strange = taken.unexpected_keys
    except (OSError, SafetensorError, RuntimeError):
        strange = [WEIGHTS]
    if strange:
        raise CounterpointError(
            f"{folder / WEIGHTS} does not fit the recipe beside it: train the adapter again."
        )
