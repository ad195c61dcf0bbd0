"""Bases of other architectures than the embedded one answer as Transformers has them answer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from transformers import AutoModelForCausalLM

from backends.local.base_model import load
from backends.local.decode import Decoder
from tests import tiny
from tests.backends.test_decode import QUESTIONS, generated, row, run, tokens

COMMON: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "initializer_range": 0.2,
    "pad_token_id": 0,
}
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "Qwen2": {},  # biases on q, k and v
    "Qwen3": {"head_dim": 16},  # norms on q and k
    "Mistral": {"sliding_window": None},
    "Gemma2": {
        "head_dim": 16,
        "sliding_window": 4096,
        "attn_logit_softcapping": 1.5,
    },  # soft-capped attention
    "Phi3": {},  # q, k and v in one projection of its own
    "GPTNeoX": {},  # other names, and attention beside the MLP
}


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_several_rows_of_another_architecture_equal_transformers_generate(
    architecture: str, tmp_path: Path
) -> None:
    tokenizer = tiny.make_tokenizer(tmp_path)
    config = getattr(transformers, f"{architecture}Config")(
        **COMMON,
        **ARCHITECTURES[architecture],
        vocab_size=-(-len(tokenizer) // 64) * 64,
        eos_token_id=tokenizer.convert_tokens_to_ids("<|im_end|>"),
        bos_token_id=tokenizer.convert_tokens_to_ids("<|im_start|>"),
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        getattr(transformers, f"{architecture}ForCausalLM")(config).save_pretrained(tmp_path)
    base = load(tmp_path, "none", "auto")
    reference = AutoModelForCausalLM.from_pretrained(
        tmp_path, dtype=torch.float32, attn_implementation="eager"
    )
    expected = [generated(reference, tokens(base, question)) for question in QUESTIONS]
    assert run(Decoder(base, 0), [row(base, question) for question in QUESTIONS]) == expected
