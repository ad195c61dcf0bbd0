"""What training computes otherwise than PEFT and Transformers, against them: the adapted linear, the attention."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import get_peft_model
from torch.nn.functional import scaled_dot_product_attention

from adapters.training import batches, lora, packed_attention, token_loss
from adapters.training.dataset import encode
from adapters.training.fused_lora import FusedLora
from adapters.training.recipe import Recipe
from tests.adapters.test_training_lora import QUESTIONS, chat

RECIPE = Recipe.model_validate(
    {
        **{"name": "t", "title": "t", "description": "t", "examples": ("a", "b", "c"), "base": "x/y"},
        **{"quantization": "none", "dtype": "float32", "rank": 4, "train": "t", "heldout": "h"},
    }
)


def with_effect(model: Any) -> Any:
    torch.manual_seed(1)
    for name, weight in model.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(weight.data, std=0.1)
    return model


def gradients(model: Any, batch: lora.Batch) -> tuple[float, dict[str, torch.Tensor]]:
    loss, _ = token_loss.summed(model, batch)
    loss.backward()
    return loss.item(), {name: part.grad for name, part in model.named_parameters() if part.grad is not None}


@pytest.mark.parametrize(("dtype", "close"), [(torch.float32, 1e-4), (torch.bfloat16, 0.1)])
def test_loss_and_gradients_are_pefts_and_transformers_own(
    tiny_base: Path, dtype: torch.dtype, close: float
) -> None:
    base = lora.load_base(tiny_base, RECIPE)
    rows = encode([chat(asked, f"Answer to {asked}") for asked in QUESTIONS], base.tokenizer, 500, "rows")
    bare = base.model.to(dtype)
    plain = with_effect(get_peft_model(copy.deepcopy(bare), lora.lora_config(RECIPE)))
    ours = with_effect(lora.adapted(bare, RECIPE))
    batch = batches.pack(rows)
    loss, told = gradients(ours, batch)
    expected_loss, expected = gradients(plain, batch)
    assert packed_attention.is_used(ours.get_base_model())
    assert not packed_attention.is_used(plain.get_base_model())
    assert loss == pytest.approx(expected_loss, rel=close / 10)
    assert told.keys() == expected.keys()
    for name, gradient in told.items():
        assert gradient.dtype is torch.float32
        apart = (gradient - expected[name]).norm() / expected[name].norm()
        assert apart < close, name


def layer(dropout: float = 0.0, **more: Any) -> tuple[Any, Any]:
    """The same linear, adapted by PEFT and by ours."""
    torch.manual_seed(2)
    bare = torch.nn.Sequential(torch.nn.Linear(12, 20, **more))
    config = lora.LoraConfig(r=3, lora_alpha=5, lora_dropout=dropout, target_modules=["0"])
    plain = with_effect(get_peft_model(copy.deepcopy(bare), config))
    config._register_custom_module({torch.nn.Linear: FusedLora})
    torch.manual_seed(2)
    ours = with_effect(get_peft_model(copy.deepcopy(bare), config))
    ours.load_state_dict(plain.state_dict())
    return plain, ours


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(12,), (4, 12), (2, 3, 12)])
def test_a_fused_layer_gives_what_pefts_gives_for_every_shape(bias: bool, shape: tuple[int, ...]) -> None:
    plain, ours = layer(bias=bias)
    x = torch.randn(shape)
    torch.testing.assert_close(ours(x), plain(x))
    with ours.disable_adapter(), plain.disable_adapter():
        torch.testing.assert_close(ours(x), plain(x))
        without = plain(x)
    assert not torch.allclose(ours(x), without)


def test_dropout_drops_what_pefts_does_with_its_gradients_and_nothing_outside_training() -> None:
    answers = []
    for model in layer(dropout=0.5):
        torch.manual_seed(3)
        x = torch.randn(4, 12, requires_grad=True)
        answer = model.train()(x)
        answer.sin().sum().backward()
        trained = [part.grad for part in model.parameters() if part.requires_grad]
        answers.append([answer, x.grad, *trained, model.eval()(x)])
    torch.testing.assert_close(answers[1], answers[0])
    assert not torch.allclose(answers[0][0], answers[0][-1])


@pytest.mark.parametrize("pieces", [[0, 3, 5, 1], [4, 3, 5, 1], [2, 7], [0, 6]])
def test_a_row_attends_to_the_beginning_and_to_itself_alone(pieces: list[int]) -> None:
    torch.manual_seed(4)
    tokens = sum(pieces)
    query = torch.randn(1, 4, tokens, 8, requires_grad=True)
    key, value = (torch.randn(1, 2, tokens, 8, requires_grad=True) for _ in range(2))
    owner = torch.tensor([row for row, length in enumerate(pieces) for _ in range(length)])
    seen = ((owner[:, None] == owner[None]) | (owner == 0)[None]).tril()
    if not pieces[0]:
        seen &= owner[:, None] == owner[None]
    expected = scaled_dot_product_attention(query, key, value, seen, enable_gqa=True)
    inputs = (query, key, value)
    wanted = torch.autograd.grad(expected.sin().sum(), inputs)
    told, _ = packed_attention.attend(torch.nn.Module(), query, key, value, None, torch.tensor(pieces))
    torch.testing.assert_close(told.transpose(1, 2), expected)
    torch.testing.assert_close(torch.autograd.grad(told.sin().sum(), inputs), wanted)


def test_a_model_that_does_not_attend_as_sdpa_does_keeps_its_own(tiny_base: Path) -> None:
    model = lora.load_base(tiny_base, RECIPE).model
    model.set_attn_implementation("eager")
    assert not packed_attention.is_used(lora.adapted(model, RECIPE).get_base_model())
