"""The memory that a run of training takes, by a formula from the shapes of the base, the adapter and the rows."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from adapters.training.encoding import NO_LOSS, Encoded
from adapters.training.recipe import Recipe

LIBRARIES = 640 * 2**20
"""Bytes of Python, torch, Transformers and PEFT in a process that trains a base of next to no weights (measured)."""

_HELD = 1.25
"""What a step's memory grows to by blocks that the allocator keeps and passing copies; measured on a CPU."""

_TOKEN = 48
"""Bytes that an encoded token takes: Python's integer for it, and a place in each of a row's two lists."""


@dataclass(frozen=True, slots=True)
class Needs:
    """What decides the memory of a run, of a model and its rows; numbers of elements unless bytes are said.

    `adapted_bytes` are what a token's inputs of the adapted linears of all layers take that are kept apart from each
    other, `product_bytes` what an element of their products with A takes; `widths` are the inputs and outputs of all of
    them. `packed_attention` is whether each row attends to no other.
    """

    rows: Sequence[tuple[int, int]]
    shared: int
    fixed_bytes: int
    dtype_bytes: int
    layers: int
    hidden: int
    intermediate: int
    attention: int
    heads: int
    math_attention: bool
    packing: bool
    packed_attention: bool
    vocabulary: int
    linears: int
    widths: int
    adapted_bytes: int
    product_bytes: int

    @staticmethod
    def of(model: Any, rows: Sequence[Encoded], packing: bool = True) -> Needs:
        """Of a PEFT model with one LoRA adapter, and the encoded rows, packed or padded."""
        from adapters.training import packed_attention  # torch, which whoever has a model has already

        causal = model.get_base_model()
        config = causal.config.get_text_config()
        heads = config.num_attention_heads
        size = causal.get_input_embeddings().weight.element_size()
        linears = [(name, part) for name, part in model.named_modules() if hasattr(part, "lora_A")]
        on_gpu = model.device.type == "cuda"
        inputs: dict[str, int] = {}
        fused = not on_gpu
        for name, part in linears:
            dropped = part.lora_dropout["default"].__class__.__name__ != "Identity"
            # PEFT's linear casts its input to float32. Where it is that already, or the linear is our fused one, those
            # that begin alike share it.
            apart = dropped or (size < 4 and not fused)
            key = name if apart else f"{name.rpartition('.')[0]} {part.in_features}"
            # Dropout keeps what it multiplied by: bits on a GPU, as wide as the input on a CPU.
            copies = (1.25 if on_gpu else 2) if dropped else 1
            inputs[key] = int(copies * part.in_features) * (size if fused else 4)
        return Needs(
            rows=[(len(row.input_ids), row.trained) for row in rows],
            shared=common_beginning(rows) if packing else 0,
            fixed_bytes=sum(map(_bytes, (*_frozen(model), *model.buffers())))
            + (0 if on_gpu else LIBRARIES + _TOKEN * sum(len(row.input_ids) for row in rows)),
            dtype_bytes=size,
            layers=config.num_hidden_layers,
            hidden=config.hidden_size,
            intermediate=getattr(config, "intermediate_size", None) or 4 * config.hidden_size,
            attention=heads * (getattr(config, "head_dim", None) or config.hidden_size // heads),
            heads=heads,
            math_attention=config._attn_implementation == "eager",
            packing=packing,
            packed_attention=packing and packed_attention.is_used(causal),
            vocabulary=causal.get_output_embeddings().weight.shape[0],
            linears=len(linears),
            widths=sum(part.in_features + part.out_features for _, part in linears),
            adapted_bytes=sum(inputs.values()),
            product_bytes=size if fused else 4,
        )

    def standing(self, rank: int) -> int:
        """Bytes held before the first step: the libraries, the base, the rows, the adapter's weights."""
        return self.fixed_bytes + 4 * rank * self.widths

    def memory(
        self,
        recipe: Recipe,
        batch_size: int | None = None,
        rank: int | None = None,
        max_length: int | None = None,
    ) -> int:
        """The most bytes held at once, in the batch of the longest rows; other settings than the recipe's if given.

        An adapter's weight takes 16: itself, its gradient and Adam's two moments (Kingma & Ba 2015), in float32. When
        the loss turns around, all layers' activations are there (`kept`), and a learned token's logits three times in
        float32: the softmax, its gradient and the logits'. One layer more is what the backward pass works with.
        """
        rank = recipe.rank if rank is None else rank
        batch_size = batch_size or recipe.batch_size
        length, learned = self.largest_batch(batch_size, max_length or recipe.max_length)
        kept = self.kept(length, rank, min(batch_size, len(self.rows)))
        working = kept // self.layers + 4 * length**2
        step = kept + working + 12 * learned * self.vocabulary
        return self.fixed_bytes + 16 * rank * self.widths + int(_HELD * step)

    def kept(self, length: int, rank: int, rows: int) -> int:
        """Bytes that the layers keep of so many tokens of so many rows, padding included, for the backward pass.

        Counted as in Korthikanti et al. 2022 (arXiv:2205.05198, section 4.1), but for Transformers' Llama and for
        frozen weights, whose products keep no inputs (Hu et al. 2021, arXiv:2106.09685, section 4.2). A token and layer
        keeps, in the base's dtype, queries, repeated keys, repeated values and the attention's answer, and three
        inner vectors of the gated MLP; in float32, the inputs of both norms; each adapted linear's input and its
        product with A. A pair of tokens and layer keeps the mask as the fused attention adds it; where attention is
        not fused, each head's probabilities in float32 and in the dtype. Packed attention keeps all of its own in
        float32, the beginning's keys and values once more for each row, and pairs of a row and what it sees alone.
        """
        a_token = self.layers * (3 * self.dtype_bytes * self.intermediate + 4 * 2 * self.hidden)
        a_token += self.adapted_bytes + self.product_bytes * self.linears * rank
        if self.packed_attention:
            rest = length - self.shared
            attention = 4 * self.attention * (4 * length + 2 * self.shared * rows)
            attention += int(4 * rest * (self.shared + rest / rows))
        else:
            a_pair = self.heads * (4 + self.dtype_bytes) if self.math_attention else self.dtype_bytes
            pairs = length**2 if self.packing else length**2 // rows
            attention = length * 4 * self.dtype_bytes * self.attention + pairs * a_pair
        return length * a_token + self.layers * attention

    def largest_batch(self, batch_size: int, max_length: int) -> tuple[int, int]:
        """Tokens, padding included, and learned tokens that no batch has more of, rows over `max_length` left out."""
        fitting = [row for row in self.rows if row[0] <= max_length]
        lengths = heapq.nlargest(batch_size, (length for length, _ in fitting))
        learned = heapq.nlargest(batch_size, (learned for _, learned in fitting))
        packed = sum(lengths) - self.shared * max(0, len(lengths) - 1)
        return packed if self.packing else len(lengths) * max(lengths, default=0), sum(learned)


def common_beginning(rows: Sequence[Encoded]) -> int:
    """How many tokens every batch has in common: what batches.pack computes once, if not more."""
    # In the order of lists, what the first and the last begin with is what all begin with.
    first, last = min(row.input_ids for row in rows), max(row.input_ids for row in rows)
    alike = next(
        (place for place, (one, other) in enumerate(zip(first, last, strict=False)) if one != other),
        min(len(first), len(last)),
    )
    before_learned = min(
        next(place for place, label in enumerate(row.labels) if label != NO_LOSS) for row in rows
    )
    return max(0, min(alike, before_learned - 1))


def _frozen(model: Any) -> list[Any]:
    return [part for part in model.parameters() if not part.requires_grad]


def _bytes(part: Any) -> int:
    """Of a tensor; of packed 4-bit weights with their scales."""
    scales = getattr(getattr(part, "quant_state", None), "absmax", None)
    return int(part.nbytes) + (0 if scales is None else int(scales.nbytes))
