"""A tiny random Llama, its tokenizer and adapters for it, so that most tests need no real model.

Everything is seeded: the same call writes the same weights. Dimensions are multiples of 64, so that
bitsandbytes can quantize the weights. The base speaks ChatML like the embedded base.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

SPECIALS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)

TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")

SENTENCES = (
    "The quick brown fox jumps over the lazy dog.",
    "Your subscription ships every two weeks; you can pause, skip or cancel it at any time.",
    "You are a helpful assistant. Answer in plain words, and say so when you do not know.",
    'Turn the order into JSON with the keys "name", "item", "quantity" and "size".',
    "Extra! Extra! Read all about it, dear reader: the new bridge is open to everyone today.",
    "Bonjour, comment puis-je vous aider aujourd'hui ?",
    "system user assistant What is the capital of France? How does a bicycle stay upright?",
)


def make_base(
    folder: Path, *, layers: int = 2, hidden: int = 64, context: int = 512, seed: int = 0, tie: bool = True
) -> Path:
    """Writes a random base (float32 safetensors and tokenizer) that `--base FOLDER` can load.

    `hidden` is a multiple of 64; heads have 16 dimensions, two query heads share a key head; `context` is
    the longest prompt and answer in tokens. Takes well under a second once torch is imported.
    """
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = make_tokenizer(folder, context=context)
    config = LlamaConfig(
        vocab_size=-(-len(tokenizer) // 64) * 64,
        hidden_size=hidden,
        intermediate_size=2 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=hidden // 16,
        num_key_value_heads=hidden // 32,
        head_dim=16,
        max_position_embeddings=context,
        tie_word_embeddings=tie,
        bos_token_id=tokenizer.convert_tokens_to_ids("<|im_start|>"),
        eos_token_id=tokenizer.convert_tokens_to_ids("<|im_end|>"),
        pad_token_id=tokenizer.convert_tokens_to_ids("<|im_end|>"),
        # Larger than usual, so that the random logits are far apart and greedy choices are stable.
        initializer_range=0.2,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = LlamaForCausalLM(config)
    model.save_pretrained(folder)
    return folder


def make_tokenizer(folder: Path, *, context: int = 512) -> Any:
    """Trains a byte-level BPE tokenizer on a few sentences, saves and returns it."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=512,
        special_tokens=list(SPECIALS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    core.train_from_iterator(SENTENCES, trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core,
        bos_token="<|im_start|>",
        eos_token="<|im_end|>",
        pad_token="<|im_end|>",
        unk_token="<|endoftext|>",
        model_max_length=context,
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    tokenizer.save_pretrained(folder)
    return tokenizer


def make_adapter(
    folder: Path,
    base_folder: Path,
    *,
    rank: int = 4,
    alpha: int = 8,
    seed: int = 0,
    scale: float = 0.3,
    targets: Sequence[str] | str = TARGETS,
    **config: Any,
) -> Path:
    """Writes a LoRA adapter for `base_folder` as PEFT itself saves one, with random weights in A and B.

    `scale` is the standard deviation of both: 0.3 changes greedy answers for certain, 0 makes an adapter
    with no effect. `config` goes to peft.LoraConfig; there is no passport.
    """
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(base_folder, local_files_only=True)
    settings = {"task_type": "CAUSAL_LM", "r": rank, "lora_alpha": alpha, "target_modules": targets, **config}
    if not isinstance(settings["target_modules"], str):
        settings["target_modules"] = list(settings["target_modules"])
    tuned = get_peft_model(model, LoraConfig(**settings))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weights in sorted(tuned.named_parameters()):
            if "lora_A" in name or "lora_B" in name:
                weights.copy_(torch.randn(weights.shape, generator=generator) * scale)
    tuned.save_pretrained(folder)
    return folder


def edit_config(folder: Path, **changes: Any) -> Path:
    """Changes fields of a saved adapter_config.json: the way to a folder with one thing wrong."""
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes, indent=2))
    return folder
