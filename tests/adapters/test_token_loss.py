"""The loss of bases of other architectures is the model's own, packed or padded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch.nn import functional

from adapters.training import batches, lora, token_loss
from adapters.training.encoding import NO_LOSS, Encoded
from adapters.training.recipe import Recipe
from tests.adapters.small_run import RECIPE

COMMON: dict[str, Any] = {
    "vocab_size": 256,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "initializer_range": 0.2,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
ARCHITECTURES: dict[str, tuple[bool, dict[str, Any]]] = {
    "Llama": (True, {}),
    "Granite": (True, {"logits_scaling": 4.0}),
    "Cohere": (True, {"logit_scale": 0.3}),
    "Gemma2": (True, {"head_dim": 16, "final_logit_softcapping": 2.0, "attn_logit_softcapping": 1.5}),
    "GPTNeoX": (True, {}),
    "Mistral": (False, {"sliding_window": 8}),  # shorter than the rows
    "Lfm2": (False, {"layer_types": ["conv", "full_attention"]}),  # a convolution runs on into the next row
}
"""Whether rows may be packed, and what its configuration says besides."""


def rows() -> list[Encoded]:
    draw = torch.Generator().manual_seed(1)
    ids = torch.randint(3, 256, (60,), generator=draw).tolist()
    made = [ids[:5] + ids[5 + 12 * row : 17 + 12 * row - row] for row in range(4)]
    return [Encoded(each, [NO_LOSS] * (7 + at) + each[7 + at :]) for at, each in enumerate(made)]


def adapted(architecture: str, folder: Path) -> Any:
    """A random base that was told nothing about how it attends, with a fresh adapter."""
    import strict_yaml

    config = getattr(transformers, f"{architecture}Config")(**{**COMMON, **ARCHITECTURES[architecture][1]})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        getattr(transformers, f"{architecture}ForCausalLM")(config).save_pretrained(folder)
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    linears = {
        name.rpartition(".")[2]
        for name, part in model.named_modules()
        if isinstance(part, torch.nn.Linear) and part is not model.get_output_embeddings()
    }
    recipe = strict_yaml.load(RECIPE, "recipe.yaml", Recipe)
    return lora.adapted(model, recipe.model_copy(update={"targets": tuple(sorted(linears)[:2])}))


def own_loss(model: Any, row: Encoded) -> float:
    """By the model's own forward pass, of a row alone."""
    with torch.inference_mode():
        logits = model(input_ids=torch.tensor([row.input_ids])).logits[0, :-1].float()
    return float(functional.cross_entropy(logits, torch.tensor(row.labels[1:]), reduction="sum"))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_loss_is_the_models_own_and_rows_are_packed_only_where_that_changes_nothing(
    architecture: str, tmp_path: Path
) -> None:
    model, some = adapted(architecture, tmp_path).eval(), rows()
    expected = sum(own_loss(model, row) for row in some)
    padded, count = token_loss.summed(model, batches.pad(some))
    assert float(padded) == pytest.approx(expected, rel=1e-4)
    assert count == sum(row.trained for row in some)
    packs = token_loss.packs(model, max(len(row.input_ids) for row in some))
    assert packs == ARCHITECTURES[architecture][0]
    if packs:
        assert float(token_loss.summed(model, batches.pack(some))[0]) == pytest.approx(expected, rel=1e-4)
