"""The parts of training that need torch: the base as it will answer, the adapter on it, the loss, the file.

Kept apart so that the rest of the room can be imported in no time.
"""

from __future__ import annotations

import functools
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
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

from adapters.training import packed_attention
from adapters.training.dataset import NO_LOSS, Encoded
from adapters.training.fused_lora import FusedLora
from adapters.training.recipe import Recipe
from backends import nf4, pretrained
from backends.pretrained import Pretrained
from errors import CounterpointError

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"

Batch = dict[str, torch.Tensor]


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


def pack(rows: Sequence[Encoded]) -> Batch:
    """The rows as one sequence without padding, their common beginning computed once.

    Every row begins with the chat template's own system line, often a third of its tokens. Here it stands
    once; each row's rest follows, sees that beginning and itself, and keeps its own positions: the same
    numbers as row by row, for fewer tokens. Returns input_ids, position_ids and labels (1, length), and a
    boolean attention_mask (1, 1, length, length). `labels` are shifted already: the token to predict *after* each.
    `pieces` (1 + rows,) are the lengths of the beginning and of each row's rest.
    """
    # The token that predicts a row's first learned token must be the row's own.
    shared = min(next(i for i, label in enumerate(row.labels) if label != NO_LOSS) - 1 for row in rows)
    first = rows[0].input_ids
    while any(row.input_ids[:shared] != first[:shared] for row in rows):
        shared -= 1
    ids, positions, labels, owners = first[:shared], list(range(shared)), [NO_LOSS] * shared, [-1] * shared
    for owner, row in enumerate(rows):
        rest = range(shared, len(row.input_ids))
        ids += row.input_ids[shared:]
        positions += rest
        labels += [*row.labels[shared + 1 :], NO_LOSS]
        owners += [owner] * len(rest)
    owner_of = torch.tensor(owners)
    own = owner_of[:, None] == owner_of[None, :]
    mask = (own | (owner_of == -1)[None, :]).tril()
    return {
        "input_ids": torch.tensor([ids]),
        "position_ids": torch.tensor([positions]),
        "attention_mask": mask[None, None],
        "labels": torch.tensor([labels]),
        "pieces": torch.tensor([shared, *(len(row.input_ids) - shared for row in rows)]),
    }


def pad(rows: Sequence[Encoded]) -> Batch:
    """The rows one below the other, padded on the right to the longest: what `pack` is measured against.

    Returns input_ids, position_ids, labels, shifted as in `pack`, and an attention_mask of what is no padding, all
    (rows, longest).
    """
    longest = max(len(row.input_ids) for row in rows)

    def even(values: list[int], padding: int) -> list[int]:
        return values + [padding] * (longest - len(values))

    return {
        "input_ids": torch.tensor([even(row.input_ids, 0) for row in rows]),
        "position_ids": torch.arange(longest).expand(len(rows), longest).contiguous(),
        "attention_mask": torch.tensor([even([1] * len(row.input_ids), 0) for row in rows]),
        "labels": torch.tensor([even([*row.labels[1:], NO_LOSS], NO_LOSS) for row in rows]),
    }


def collator(recipe: Recipe) -> Callable[[Sequence[Encoded]], Batch]:
    """How the recipe puts rows together."""
    return pack if recipe.packing else pad


def learned_logits(model: Any, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    """Of a batch's tokens that carry loss: logits (tokens, vocabulary) in float32, and labels (tokens,).

    The vocabulary projection, a third of the work of a small model, is computed for those tokens only.
    """
    causal = model.get_base_model()
    packed = "pieces" in batch and packed_attention.is_used(causal)
    hidden = causal.base_model(
        input_ids=batch["input_ids"],
        position_ids=batch["position_ids"],
        attention_mask=batch["attention_mask"],
        use_cache=False,
        **({"pieces": batch["pieces"]} if packed else {}),
    ).last_hidden_state
    learned = batch["labels"] != NO_LOSS
    return causal.get_output_embeddings()(hidden[learned]).float(), batch["labels"][learned]


def summed_loss(model: Any, batch: Batch) -> tuple[torch.Tensor, int]:
    """Cross entropy of a batch, summed over the tokens that carry loss, and their number."""
    logits, labels = learned_logits(model, batch)
    return functional.cross_entropy(logits, labels, reduction="sum"), len(labels)


def mean_loss(model: Any, rows: Sequence[Encoded], batch_size: int) -> float:
    """Mean cross entropy in nats over all tokens of `rows` that carry loss; its exp is the perplexity."""
    model.eval()
    total, count = 0.0, 0
    ordered = sorted(rows, key=lambda row: len(row.input_ids))
    with torch.inference_mode():
        for start in range(0, len(ordered), batch_size):
            batch = pack(ordered[start : start + batch_size])
            loss, tokens = summed_loss(model, {name: part.to(model.device) for name, part in batch.items()})
            total += loss.item()
            count += tokens
    return total / max(1, count)


class LoraTrainer(Trainer):
    """Trainer with the loss of `summed_loss`, which counts what it reads and saves checkpoints within `writing`."""

    tokens = 0
    writing: Callable[[], AbstractContextManager[None]]
    _loss = 0.0

    def compute_loss(
        self, model: Any, inputs: Batch, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> torch.Tensor:
        """The batch's share of the step's mean loss."""
        summed, count = summed_loss(model, inputs)
        loss = summed / (count if num_items_in_batch is None else num_items_in_batch)
        self.tokens += inputs["input_ids"].numel()
        self._loss += loss.item()
        return loss

    def take_loss(self) -> float:
        """The mean loss since it was last taken: one optimizer step's."""
        loss, self._loss = self._loss, 0.0
        return loss

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
