"""The tensors of an adapter's file against the base: every A with its B, all fitting, none missing."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from adapters.lora_config import MAX_RANK, LoraSettings
from adapters.safetensors_header import Tensor
from strict_json import show

# PEFT writes "base_model.model.M.lora_A.weight"; a raw state dict has the adapter's name before "weight",
# and weights taken off a model without PEFT's wrapper have no prefix.
KEY = re.compile(
    r"(?:base_model\.model\.)?(?P<module>.+)\.lora_(?P<side>[AB])\.(?:(?P<adapter>[\w-]+)\.)?weight"
)
FOREIGN = {
    "lora_magnitude_vector": "it is a DoRA adapter: train it again without use_dora",
    "lora_embedding_": "it adapts the token embedding: train it again without embed_tokens in target_modules",
    "lora_B.bias": "it adds biases: train it again with lora_bias false",
    "lora_diag": "it is a KaSA adapter: train it again as plain LoRA",
    "modules_to_save": "it brings whole layers of its own: train it again without modules_to_save",
    "embed_tokens.": "it holds the base's whole embedding: save it again with save_embedding_layers=False",
    "lm_head.": "it holds the base's whole head: save it again with save_embedding_layers=False",
    ".lora_a": "its names are MLX's: convert it to PEFT's format",
}


@dataclass(slots=True)
class Fitted:
    """The adapted modules. `ranks` and `keys` (names of A and B in the file) are by module."""

    ranks: dict[str, int] = field(default_factory=dict)
    keys: dict[str, tuple[str, str]] = field(default_factory=dict)
    parameters: int = 0

    @property
    def kinds(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(module.rpartition(".")[2] for module in self.keys))


def fit(
    tensors: Mapping[str, Tensor], settings: LoraSettings | None, linears: Mapping[str, tuple[int, int]]
) -> tuple[Fitted, list[str]]:
    """Pairs the tensors and holds them against the configuration and the base's `linears` (out, in).

    Without `settings` (the configuration is unusable) only what the weights alone tell is checked.
    """
    problems: list[str] = []
    sides = _sides(tensors, problems)
    fitted = Fitted()
    lonely, unknown, misfits, ranks = [], [], [], []
    for module, found in sides.items():
        if set(found) != {"A", "B"}:
            lonely.append(module)
            continue
        if module not in linears:
            unknown.append(module)
            continue
        a, b = tensors[found["A"]].shape, tensors[found["B"]].shape
        outs, ins = linears[module]
        rank = a[0] if a else 0
        if a != (rank, ins) or b != (outs, rank) or rank < 1:
            misfits.append(f"{module}: A {a} and B {b} where ({rank}, {ins}) and ({outs}, {rank}) fit")
            continue
        fitted.keys[module] = (found["A"], found["B"])
        fitted.ranks[module] = rank
        fitted.parameters += rank * (ins + outs)
        if settings and not settings.ranks.refused:
            wanted = int(settings.ranks.value(module, settings.rank))
            if rank != wanted:
                ranks.append(f"{module}: {rank}, not {wanted}")
    tell(problems, lonely, "an A without its B, or a B without its A: copy the adapter again")
    tell(problems, unknown, "no linear layer of this base has the name: it was trained for another base")
    tell(problems, misfits, "the shapes do not fit this base: choose the base it was trained for")
    tell(problems, ranks, "the rank is not what the configuration says: correct r or rank_pattern")
    highest = max(fitted.ranks.values(), default=0)
    if highest > MAX_RANK:
        problems.append(f"its weights have rank {highest}, above the {MAX_RANK} that this engine takes.")
    if settings and not lonely and not unknown:
        _check_targets(settings, set(sides), linears, problems)
    return fitted, problems


def _sides(tensors: Mapping[str, Tensor], problems: list[str]) -> dict[str, dict[str, str]]:
    """For each module the names of its A and B in the file, in the order of the modules' names."""
    sides: dict[str, dict[str, str]] = {}
    foreign, twice, adapters = [], [], set()
    for name in sorted(tensors):
        match = KEY.fullmatch(name) if len(name) <= 512 else None
        if match is None:
            foreign.append(name)
            continue
        found = sides.setdefault(match["module"], {})
        if match["side"] in found:
            twice.append(name)
        found[match["side"]] = name
        adapters.add(match["adapter"])
    for part, reason in FOREIGN.items():
        told = [name for name in foreign if part in name]
        foreign = [name for name in foreign if part not in name]
        tell(problems, told, reason)
    tell(problems, foreign, "the tensor is no part of a LoRA: save the adapter alone, with PEFT")
    tell(problems, twice, "the module has weights twice: save one adapter alone")
    if len(adapters) > 1 and not twice:
        names = ", ".join(sorted(show(name or "none") for name in adapters)[:4])
        problems.append(f"its tensors belong to several adapters ({names}): save one adapter alone.")
    return sides


def _check_targets(
    settings: LoraSettings, present: set[str], linears: Mapping[str, tuple[int, int]], problems: list[str]
) -> None:
    absent = settings.targets.absent(linears)
    tell(problems, absent, "the target is no linear layer of this base: take it off target_modules")
    wanted = settings.targets.select(linears)
    if wanted is None:
        if not present:
            problems.append("it adapts no module of this base: choose the base it was trained for.")
        return
    missing = sorted(wanted - present)
    tell(problems, missing, "target_modules means the module, but it has no weights: copy the adapter again")
    if not settings.targets.all_linear:
        extra = sorted(present - wanted)
        tell(problems, extra, "the module has weights, but target_modules leaves it out: add it there")
    if not wanted and not absent:
        problems.append("target_modules names nothing to adapt: list the adapted modules.")


def tell(problems: list[str], found: list[str], reason: str) -> None:
    """One line for a kind of problem, however many tensors or modules have it."""
    if found:
        more = f" and {len(found) - 1} more" if len(found) > 1 else ""
        problems.append(f"{show(found[0], 140)}{more}: {reason}.")
