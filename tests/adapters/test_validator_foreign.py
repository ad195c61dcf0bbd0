"""Adapters as other tools save them: no passport, fields and names of their own, and yet they work."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from adapters.validator import inspect
from backends.contract import BaseFacts
from tests import tiny
from tests.adapters.folders import CONFIG

# What PEFT 0.18 to 0.21 writes for every LoRA, whichever tool calls it.
PEFT_FIELDS: dict[str, Any] = {
    "alora_invocation_tokens": None,
    "alpha_pattern": {},
    "arrow_config": None,
    "auto_mapping": None,
    "bias": "none",
    "corda_config": None,
    "ensure_weight_tying": False,
    "eva_config": None,
    "exclude_modules": None,
    "fan_in_fan_out": False,
    "inference_mode": True,
    "init_lora_weights": True,
    "layer_replication": None,
    "layers_pattern": None,
    "layers_to_transform": None,
    "loftq_config": {},
    "lora_alpha": 8,
    "lora_bias": False,
    "lora_dropout": 0,
    "megatron_config": None,
    "megatron_core": "megatron.core",
    "modules_to_save": None,
    "peft_type": "LORA",
    "peft_version": "0.18.1",
    "qalora_group_size": 16,
    "r": 4,
    "rank_pattern": {},
    "revision": None,
    "target_modules": ["up_proj", "v_proj", "o_proj", "k_proj", "q_proj", "gate_proj", "down_proj"],
    "target_parameters": None,
    "task_type": "CAUSAL_LM",
    "trainable_token_indices": None,
    "use_dora": False,
    "use_qalora": False,
    "use_rslora": False,
}
UNSLOTH_REGEX = (
    r"(?:.*?(?:language|text).*?(?:self_attn|attention|attn|mixer|mlp|feed_forward|ffn|dense).*?"
    r"\.(?:q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj))|(?:\bmodel\.layers\.[\d]{1,}"
    r"(?!.*\.experts\.\d)\..*?(?:self_attn|mlp).*?\.(?:(?:q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)))"
)
TOOLS: dict[str, dict[str, Any]] = {
    "peft": {"base_model_name_or_path": "HuggingFaceTB/SmolLM2-135M-Instruct"},
    "unsloth": {"base_model_name_or_path": "unsloth/smollm2-135m-instruct-bnb-4bit", "revision": "main"},
    "unsloth-regex": {
        "base_model_name_or_path": "unsloth/SmolLM2-135M-Instruct-unsloth-bnb-4bit",
        "auto_mapping": {
            "base_model_class": "LlamaForCausalLM",
            "parent_library": "transformers.models.llama.modeling_llama",
            "unsloth_fixed": True,
        },
        "target_modules": UNSLOTH_REGEX,
    },
    "llama-factory": {
        "base_model_name_or_path": "/root/autodl-tmp/models/SmolLM2-135M-Instruct",
        "lora_dropout": 0.0,
    },
    "llama-factory-rslora": {"base_model_name_or_path": "/mnt/models/smollm2", "use_rslora": True},
    "axolotl": {
        "base_model_name_or_path": "HuggingFaceTB/SmolLM2-135M-Instruct",
        "fan_in_fan_out": None,
        "lora_dropout": 0.05,
    },
    "swift": {
        "base_model_name_or_path": "/mnt/workspace/modelscope/models/HuggingFaceTB/SmolLM2-135M-Instruct",
        "modules_to_save": [],
        "lora_dtype": None,
        "lorap_emb_lr": 1e-06,
    },
}
FILES_BESIDE = (
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja"),
    *("trainer_state.json", "training_args.bin", "optimizer.pt", "scheduler.pt", "rng_state.pth"),
    *("additional_config.json", "all_results.json", "training_loss.png"),
)


@pytest.mark.parametrize("tool", TOOLS)
def test_an_adapter_of_another_tool_is_usable_and_marked_not_proven(
    tool: str, adapter: Path, base: BaseFacts
) -> None:
    (adapter / CONFIG).write_text(json.dumps(PEFT_FIELDS | TOOLS[tool], indent=2, sort_keys=True))
    for name in FILES_BESIDE:
        (adapter / name).write_bytes(b"\x80\x04not to be opened")
    found = inspect(adapter, base)
    assert found.problems == ()
    assert found.source is not None
    assert not found.base_proven
    assert found.warnings[0].startswith("base not proven")
    assert set(found.source.scaling) == set(base.linears)
    assert set(found.source.scaling.values()) == {4.0 if "rslora" in tool else 2.0}


def test_every_field_that_the_installed_peft_saves_is_known(adapter: Path, base: BaseFacts) -> None:
    """A field that a newer PEFT sets by default would make every adapter of its unusable: told here first."""
    saved = json.loads((adapter / CONFIG).read_text())
    assert len(saved) > 30
    assert inspect(adapter, base).problems == ()


def test_the_embedding_that_peft_adds_after_new_tokens_is_refused(
    tiny_base: Path, tmp_path: Path, base: BaseFacts
) -> None:
    """LLaMA-Factory's resize_vocab and additional_target do this."""
    folder = tiny.make_adapter(tmp_path / "one", tiny_base, modules_to_save=["embed_tokens", "lm_head"])
    found = inspect(folder, base)
    assert not found.usable
    assert "modules_to_save" in found.problems[0]


def test_an_adapter_saved_from_a_larger_base_of_the_same_name_is_refused(
    tmp_path: Path, base: BaseFacts
) -> None:
    larger = tiny.make_base(tmp_path / "larger", hidden=128, layers=3)
    folder = tiny.make_adapter(tmp_path / "one", larger)
    tiny.edit_config(folder, base_model_name_or_path=base.id)
    problems = " ".join(inspect(folder, base).problems)
    assert "do not fit this base" in problems
    assert "trained for another base" in problems


def test_looking_changes_nothing_in_the_folder(adapter: Path, base: BaseFacts) -> None:
    before = {path.name: path.stat().st_mtime_ns for path in adapter.iterdir()}
    inspect(adapter, base)
    assert {path.name: path.stat().st_mtime_ns for path in adapter.iterdir()} == before
