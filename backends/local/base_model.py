"""The base model in memory: loaded from a folder, quantized, its projections fused and ready for LoRA rows."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from backends import nf4, pretrained
from backends.local import nf4_kernel
from backends.local.fused_linear import FusedLinear, Part
from backends.local.lora_rows import LoraRows
from backends.local.packed_linear import PackedLinear
from backends.local.prepacked_linear import PrepackedLinear, can_prepack
from errors import CounterpointError

FUSED = (("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj"))
"""Projections that read the same input in the models of this family; others stand alone."""

UNPACKED_BYTES = 2**31
"""NF4 weights are unpacked once for products of many tokens, where each would have to, for a base of up to this size."""

Report = Callable[[float, str], None]


@dataclass(frozen=True, slots=True)
class BaseModel:
    """A causal language model with its tokenizer. `rows` says which row of a pass uses which adapter."""

    model: Any
    tokenizer: Any
    rows: LoraRows
    quantization: str
    device: torch.device
    context: int
    end_tokens: frozenset[int]
    steady: bool
    """Whether products are the same bit by bit with any number of threads."""

    @property
    def is_exact(self) -> bool:
        """Whether answers are computed bit by bit as if nothing else had ever been: not by what is beside them, nor by
        what is known already. It costs some speed; in 16 bit and quantized speed goes first."""
        return self.device.type == "cpu" and self.quantization == "none" and self.model.dtype is torch.float32

    @property
    def kv_dtype(self) -> torch.dtype:
        """What keys and values are kept in while in use: attention on a CPU is fastest in float32."""
        return torch.float32 if self.device.type == "cpu" else self.model.dtype


def compute_dtype(quantization: str, dtype: str, device: torch.device) -> torch.dtype:
    """bfloat16, but float32 for what a CPU has no library's kernel for, unless `dtype` names one."""
    if dtype != "auto":
        return {"float32": torch.float32, "bfloat16": torch.bfloat16}[dtype]
    packed = quantization == "int8" or (quantization == "nf4" and nf4.is_fused(device))
    return torch.bfloat16 if device.type != "cpu" or packed else torch.float32


def load(folder: Path, quantization: str, dtype: str, report: Report = lambda share, what: None) -> BaseModel:
    """Loads a base model. Raises CounterpointError where the folder's model cannot be used."""
    from backends.local import attention

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", 0)) or _cores())
    computed = compute_dtype(quantization, dtype, device)
    report(0.1, "Reading the base model's weights")
    model, tokenizer = pretrained.load(folder, dtype=computed)
    if getattr(model.config, "quantization_config", None) is not None:
        raise CounterpointError(
            f"The base model in {folder} is quantized already: pick the original and let --quantization do it."
        )
    model.eval().requires_grad_(False)
    rows = LoraRows(torch.float32 if device.type == "cpu" else computed, device)
    groups = list(_linear_groups(model))
    linears = Linears(quantization, _unpacks(model, quantization, device), computed, device)
    for number, (parent, prefix, names) in enumerate(groups):
        report(0.2 + 0.75 * number / len(groups), "Quantizing" if quantization != "none" else "Preparing")
        _fuse(parent, prefix, names, rows, linears)
    if can_prepack(device, computed):
        head = model.get_output_embeddings()
        model.set_output_embeddings(PrepackedLinear(head.weight, head.bias))
    model.to(device)
    model.set_attn_implementation(attention.NAME)
    # The last token's slice of several rows is not contiguous, and for such torch copies the whole
    # vocabulary's weights once a row: 160 ms for four rows of the embedded base.
    model.get_output_embeddings().register_forward_pre_hook(lambda _, inputs: (inputs[0].contiguous(),))
    return BaseModel(
        model, tokenizer, rows, quantization, device, pretrained.context(model.config), _end_tokens(model, tokenizer),
        steady=linears.steady,
    )  # fmt: skip


def _unpacks(model: nn.Module, quantization: str, device: torch.device) -> bool:
    if quantization != "nf4" or nf4.is_fused(device):
        return False
    return sum(weights.nbytes for weights in model.parameters()) <= UNPACKED_BYTES


def _cores() -> int:
    """Cores that this process may use: a container's share can be less than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _end_tokens(model: Any, tokenizer: Any) -> frozenset[int]:
    ends: set[int] = set()
    for value in (model.generation_config.eos_token_id, tokenizer.eos_token_id):
        ends |= set(value) if isinstance(value, list) else {value} - {None}
    return frozenset(ends)


def _linear_groups(model: Any) -> Iterator[tuple[nn.Module, str, tuple[str, ...]]]:
    """The linears of the decoder's layers, those that share an input together: (parent, its name, children)."""
    head = model.get_output_embeddings()
    for prefix, parent in list(model.named_modules()):
        linears = {
            name: child
            for name, child in parent.named_children()
            if isinstance(child, nn.Linear) and child is not head
        }
        for names in FUSED:
            alike = {
                (linears[name].in_features, linears[name].bias is None) for name in names if name in linears
            }
            if all(name in linears for name in names) and len(alike) == 1:
                yield parent, prefix, names
                linears = {name: child for name, child in linears.items() if name not in names}
        for name in linears:
            yield parent, prefix, (name,)


def _fuse(
    parent: nn.Module,
    prefix: str,
    names: tuple[str, ...],
    rows: LoraRows,
    linears: Linears,
) -> None:
    """Replaces these linears by one product over their stacked weights.

    NF4 blocks and int8 rows lie within one output row each, so stacking changes no quantized value.
    """
    children = [getattr(parent, name) for name in names]
    sizes = [child.out_features for child in children]
    weight = torch.cat([child.weight.data for child in children])
    bias = None if children[0].bias is None else torch.cat([child.bias.data for child in children])
    fused = FusedLinear(
        linears.make(weight, bias),
        [f"{prefix}.{name}" if prefix else name for name in names],
        sizes,
        rows,
    )
    rows.adopt(fused, children[0].in_features)
    if len(names) == 1:
        setattr(parent, names[0], fused)
        return
    parent.add_module("fused_" + "_".join(names), fused)
    for index, name in enumerate(names):
        setattr(parent, name, Part(fused, index))


@dataclass(frozen=True, slots=True)
class Linears:
    """Makes linear layers of a base's weights: quantized, on a device."""

    quantization: str
    unpacked: bool
    """Whether NF4's values are kept in `dtype`, instead of packed."""
    dtype: torch.dtype
    device: torch.device

    @property
    def prepacked(self) -> bool:
        """Whether they are made for oneDNN."""
        return (self.quantization == "none" or self.unpacked) and can_prepack(self.device, self.dtype)

    @property
    def steady(self) -> bool:
        """Whether their sums are the same with any number of threads."""
        packed = self.quantization == "nf4" and not self.unpacked
        return self.prepacked or (packed and self.device.type == "cpu" and nf4.is_fused(self.device))

    def make(self, weight: torch.Tensor, bias: torch.Tensor | None) -> nn.Module:
        """weight (out, in), bias (out) → the layer."""
        if not self.packs(weight.shape[1]):
            return self._others(nf4.rounded(weight) if self.unpacked else weight, bias)
        codes, state = nf4.packed(weight)
        wide = self._others(nf4.unpacked(codes, state) if self.unpacked else weight, bias)
        scales = state.absmax.reshape(len(weight), -1)
        return PackedLinear(nf4_kernel.arranged(codes, len(weight)), scales, wide, bias)

    def packs(self, in_features: int) -> bool:
        """Whether NF4's products of few tokens are our own."""
        ours = self.quantization == "nf4" and self.device.type == "cpu" and self.dtype is torch.float32
        return ours and not nf4.is_fused(self.device) and nf4_kernel.can_multiply(in_features)

    def _others(self, weight: torch.Tensor, bias: torch.Tensor | None) -> nn.Module:
        """A layer of a library's own products."""
        if self.prepacked:
            return PrepackedLinear(weight, bias)
        if self.quantization == "none" or self.unpacked:
            made = self._plain(weight, bias)
        else:
            made = self._nf4(weight, bias) if self.quantization == "nf4" else self._int8(weight, bias)
        if bias is not None:
            made.bias = nn.Parameter(bias, requires_grad=False)
        return made.to(self.device).eval()

    def _plain(self, weight: torch.Tensor, bias: torch.Tensor | None) -> nn.Module:
        out_features, in_features = weight.shape
        plain = nn.Linear(in_features, out_features, bias is not None, dtype=self.dtype, device="meta")
        plain.weight = nn.Parameter(weight, requires_grad=False)
        return plain

    def _nf4(self, weight: torch.Tensor, bias: torch.Tensor | None) -> nn.Module:
        from bitsandbytes.nn import Linear4bit, Params4bit

        out_features, in_features = weight.shape
        quantized = Linear4bit(
            in_features, out_features, bias is not None, self.dtype, compress_statistics=False,
            quant_type="nf4", device="meta",
        )  # fmt: skip
        quantized.weight = Params4bit(
            weight, requires_grad=False, blocksize=nf4.BLOCK, quant_type="nf4", compress_statistics=False,
            module=quantized,
        )  # fmt: skip
        return quantized

    def _int8(self, weight: torch.Tensor, bias: torch.Tensor | None) -> nn.Module:
        from bitsandbytes.nn import Int8Params, Linear8bitLt

        out_features, in_features = weight.shape
        quantized: nn.Module = Linear8bitLt(
            in_features, out_features, bias is not None, has_fp16_weights=False, threshold=6.0, device="meta"
        )
        quantized.weight = Int8Params(weight.to(torch.float16), requires_grad=False, has_fp16_weights=False)
        return quantized
