"""adapter_config.json, read with suspicion: what it asks for, and why this engine cannot give it.

The fields are those of peft.LoraConfig (0.21), checked by hand: one batch of several adapters can hold plain
LoRA only, and whatever would change the base, its head or its embeddings is refused with the reason.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adapters.module_patterns import MAX_PATTERNS, Patterns, Targets, compile_patterns
from strict_json import parse, show

MAX_CONFIG_BYTES = 2**20
MAX_RANK = 64
MAX_ALPHA = 4096


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Fields that change nothing in how trained weights are applied: notes, and settings of the training.
IGNORED = _words(
    """
    auto_mapping base_model_class parent_library unsloth_fixed inference_mode lora_dropout peft_version
    revision runtime_config megatron_config megatron_core qalora_group_size loftq_config eva_config
    corda_config lora_ga_config velora_config ensure_weight_tying lora_dtype lorap_lr_ratio lorap_emb_lr
    """
)
CHECKED = _words(
    """
    peft_type task_type r lora_alpha use_rslora bias init_lora_weights fan_in_fan_out target_modules
    exclude_modules layers_to_transform layers_pattern rank_pattern alpha_pattern base_model_name_or_path
    """
)
REFUSED = {
    "use_dora": "it is a DoRA adapter, which rescales the base's weights: train it again without use_dora",
    "modules_to_save": "it brings whole layers of its own (often the head): train it again without",
    "trainable_token_indices": "it changes token embeddings of the base: train it again without",
    "layer_replication": "it makes a deeper model out of the base: train it again without",
    "lora_bias": "it adds biases beside the low-rank weights: train it again with lora_bias false",
    "target_parameters": "it adapts parameters outside of linear layers: train it on target_modules",
    "alora_invocation_tokens": "it is an activated LoRA, which works on a part of the prompt only",
    "arrow_config": "it routes between several adapters (Arrow): give one of those adapters instead",
    "use_bdlora": "it is a block-diagonal LoRA (BD-LoRA): train it again as plain LoRA",
    "use_qalora": "it is a QA-LoRA, tied to GPTQ's groups: train it again as plain LoRA",
    "kasa_config": "it truncates the base's own weights (KaSA): train it again as plain LoRA",
    "monteclora_config": "it samples its weights at random (MonteCLoRA): train it again as plain LoRA",
}
# These leave the base as it is: trained weights mean the same as plain LoRA's (peft/tuners/lora/layer.py).
PLAIN_STARTS = ("gaussian", "eva", "orthogonal", "mica")
REWRITING_STARTS = ("pissa", "olora", "corda", "loftq", "lora_ga")


@dataclass(frozen=True, slots=True)
class LoraSettings:
    """What a usable configuration says. `base_named` is what its writer called the base."""

    rank: int
    alpha: float
    rank_stabilised: bool
    targets: Targets
    ranks: Patterns
    alphas: Patterns
    base_named: str | None

    def scaling(self, module: str, rank: int) -> float:
        """lora_alpha / r, or lora_alpha / sqrt(r) where rank-stabilised (arXiv:2312.03732, section 3)."""
        alpha = self.alphas.value(module, self.alpha)
        return alpha / math.sqrt(rank) if self.rank_stabilised else alpha / rank


def read_config(path: Path) -> tuple[LoraSettings | None, list[str]]:
    """The settings in `path` and everything that is wrong with them; no settings where something is."""
    try:
        if path.stat().st_size > MAX_CONFIG_BYTES:
            raise ValueError(f"it is larger than {MAX_CONFIG_BYTES:,} bytes")
        config = parse(path.read_bytes())
        if not isinstance(config, dict):
            raise ValueError("it holds no JSON object")
    except (ValueError, OSError) as error:
        return None, [f"adapter_config.json can't be read: {_reason(error)}; copy the folder again."]
    problems: list[str] = []
    if config.get("peft_type") != "LORA":
        kind = show(config.get("peft_type"))
        return None, [f"peft_type is {kind}: only LORA can share a batch with others; train a LoRA instead."]
    _check_features(config, problems)
    rank = _natural(config.get("r"), "r", MAX_RANK, problems)
    alpha = _alpha(config.get("lora_alpha"), "lora_alpha", problems)
    ranks = _pattern(config, "rank_pattern", problems)
    alphas = _pattern(config, "alpha_pattern", problems)
    targets = _targets(config, problems)
    base_named = config.get("base_model_name_or_path")
    if base_named is not None and not isinstance(base_named, str):
        problems.append("base_model_name_or_path is no text: set it to the base's id, or to null.")
    if problems:
        return None, problems
    stabilised = config.get("use_rslora") is True
    return LoraSettings(rank, alpha, stabilised, targets, ranks, alphas, base_named or None), []


def _check_features(config: dict[str, Any], problems: list[str]) -> None:
    if config.get("task_type") not in (None, "CAUSAL_LM"):
        kind = show(config["task_type"])
        problems.append(f"task_type is {kind}: only CAUSAL_LM answers questions; train it for that task.")
    for field, reason in REFUSED.items():
        if _is_set(config.get(field)):
            problems.append(f"{field} is set: {reason}.")
    if config.get("bias", "none") != "none":
        problems.append("bias is not 'none': it changes the base's biases; train it again with bias 'none'.")
    if _is_set(config.get("fan_in_fan_out")):
        problems.append(
            "fan_in_fan_out is set: it is for GPT-2's Conv1D layers; set it to false for linears."
        )
    if not isinstance(config.get("use_rslora"), bool | None):
        problems.append("use_rslora is neither true nor false: set it to what the adapter was trained with.")
    start = config.get("init_lora_weights", True)
    if isinstance(start, str) and start.lower().startswith(REWRITING_STARTS):
        mend = "train it again with init_lora_weights true"
        if start.lower() != "loftq":
            mend = "save it as plain LoRA with PEFT's path_initial_model_for_weight_conversion"
        problems.append(f"init_lora_weights is {show(start)}, which rewrites the base when loaded: {mend}.")
    elif not isinstance(start, bool | None) and str(start).lower() not in PLAIN_STARTS:
        problems.append(
            f"init_lora_weights is {show(start)}, which is unknown: set it to true for plain LoRA."
        )
    for field in sorted(set(config) - IGNORED - CHECKED - REFUSED.keys()):
        if _is_set(config[field]):
            problems.append(f"the field {show(field)} is unknown: remove it if the weights mean the same.")


def _is_set(value: object) -> bool:
    return value is not None and value is not False and value not in ([], {}, "")


def _natural(value: object, name: str, most: int, problems: list[str]) -> int:
    if type(value) is not int or value < 1:
        problems.append(f"{name} is {show(value)}, no whole number above 0: set it to the weights' rank.")
        return 0
    if value > most:
        problems.append(f"{name} is {value}, above the {most} taken here: train it with a lower rank.")
    return value


def _alpha(value: object, name: str, problems: list[str]) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= MAX_ALPHA:
        problems.append(f"{name} is {show(value)}, not between 0 and {MAX_ALPHA}: set it as it was trained.")
        return 0.0
    return float(value)


def _pattern(config: dict[str, Any], name: str, problems: list[str]) -> Patterns:
    entries = config.get(name) or {}
    if not isinstance(entries, dict) or len(entries) > MAX_PATTERNS:
        problems.append(f"{name} is no table of at most {MAX_PATTERNS} modules: remove it or correct it.")
        return Patterns()
    found: list[str] = []
    for key, value in entries.items():
        if name == "rank_pattern":
            _natural(value, f"rank_pattern of {show(key)}", MAX_RANK, found)
        else:
            _alpha(value, f"alpha_pattern of {show(key)}", found)
    problems += found[:3]
    patterns = compile_patterns(entries) if not found else Patterns()
    # Ranks are seen in the weights themselves; alphas are nowhere else.
    if patterns.refused and name == "alpha_pattern":
        key = show(patterns.refused[0])
        problems.append(f"alpha_pattern has {key}, which is not evaluated: write the modules' names instead.")
    return patterns


def _targets(config: dict[str, Any], problems: list[str]) -> Targets:
    modules, excluded = config.get("target_modules"), config.get("exclude_modules") or []
    layers, lists = config.get("layers_to_transform"), config.get("layers_pattern") or []
    layers = [layers] if type(layers) is int else layers
    lists = [lists] if isinstance(lists, str) else lists
    if not (modules is None or isinstance(modules, str) or _texts(modules)):
        problems.append("target_modules is neither a list of names nor a text: list the adapted modules.")
    if not (isinstance(excluded, str) or _texts(excluded)):
        problems.append("exclude_modules is neither a list of names nor a text: list the modules left out.")
    if layers and not (isinstance(layers, list) and all(type(layer) is int for layer in layers)):
        problems.append("layers_to_transform is no list of layer numbers: list the adapted layers, from 0.")
    if lists and not (_texts(lists) and all(re.fullmatch(r"\w{1,60}", name) for name in lists)):
        problems.append("layers_pattern is no plain name: name the list of layers, mostly 'layers'.")
    if problems:
        return Targets(None)
    if isinstance(modules, str) and modules.lower() == "all-linear" and not isinstance(excluded, str):
        return Targets(None, all_linear=True, excluded=tuple(excluded))
    if modules is None or isinstance(modules, str) or isinstance(excluded, str):
        return Targets(None)
    chosen = frozenset(layers) if layers else None
    return Targets(tuple(modules), excluded=tuple(excluded), layers=chosen, layer_lists=tuple(lists))


def _texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) and item for item in value)


def _reason(error: Exception) -> str:
    return (error.strerror or "it can't be opened") if isinstance(error, OSError) else str(error)
