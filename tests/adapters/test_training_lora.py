"""The numbers that training computes: packed rows, the loss, NF4's rounding."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch

from adapters.training import batches, lora, token_loss
from adapters.training.dataset import NO_LOSS, Encoded, Row, encode
from adapters.training.recipe import Recipe
from backends.local.prompt import tokenize
from backends.pretrained import Pretrained
from errors import CounterpointError

QUESTIONS = ["What is it?", "Where?", "How does a bicycle stay upright, and what is the capital of France?"]


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    return Recipe.model_validate(
        {
            **{"name": "t", "title": "t", "description": "t", "examples": ("a", "b", "c"), "base": "x/y"},
            **{"quantization": "none", "dtype": "float32", "rank": 4, "train": "t", "heldout": "h"},
        }
    )


@pytest.fixture
def base(tiny_base: Path, recipe: Recipe) -> Pretrained:
    return lora.load_base(tiny_base, recipe)


@pytest.fixture
def rows(base: Pretrained) -> list[Encoded]:
    return encode([chat(q, f"Answer to {q}") for q in QUESTIONS], base.tokenizer, 500, "rows")


def chat(*texts: str) -> Row:
    roles = ("user", "assistant")
    return Row.model_validate(
        {"messages": [{"role": roles[i % 2], "content": text} for i, text in enumerate(texts)]}
    )


def adapted(base: Pretrained, recipe: Recipe) -> Any:
    """The base with an adapter that has an effect, so that gradients reach both of its matrices."""
    model = lora.adapted(copy.deepcopy(base.model), recipe)
    torch.manual_seed(1)
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight.data, std=0.1)
    return model


def test_packed_rows_have_the_loss_and_the_gradients_of_rows_alone(
    base: Pretrained, recipe: Recipe, rows: list[Encoded]
) -> None:
    together, alone = adapted(base, recipe), adapted(base, recipe)
    packed = batches.pack(rows)
    assert packed["input_ids"].numel() < sum(len(row.input_ids) for row in rows)
    loss, count = token_loss.summed(together, packed)
    loss.backward()
    total, tokens = 0.0, 0
    for row in rows:
        ids, labels = torch.tensor([row.input_ids]), torch.tensor([row.labels])
        learned = int((labels != NO_LOSS).sum())
        one = alone(input_ids=ids, labels=labels).loss * learned
        one.backward()
        total, tokens = total + one.item(), tokens + learned
    assert count == tokens
    assert loss.item() == pytest.approx(total, rel=1e-5)
    expected = {name: part.grad for name, part in alone.named_parameters() if part.grad is not None}
    assert expected
    for name, part in together.named_parameters():
        if name in expected:
            torch.testing.assert_close(part.grad, expected[name], rtol=1e-3, atol=1e-4)


def test_padded_rows_have_the_loss_and_the_gradients_of_packed_ones(
    base: Pretrained, recipe: Recipe, rows: list[Encoded]
) -> None:
    packed, padded = adapted(base, recipe), adapted(base, recipe)
    losses = []
    for model, batch in ((packed, batches.pack(rows)), (padded, batches.pad(rows))):
        loss, count = token_loss.summed(model, batch)
        loss.backward()
        losses.append((loss.item(), count))
    assert losses[0] == (pytest.approx(losses[1][0], rel=1e-5), losses[1][1])
    expected = dict(packed.named_parameters())
    for name, part in padded.named_parameters():
        if part.grad is not None:
            torch.testing.assert_close(part.grad, expected[name].grad, rtol=1e-3, atol=1e-4)


def test_rows_that_share_their_whole_question_pack_too(base: Pretrained, recipe: Recipe) -> None:
    same = encode([chat("What is it?", "A fox."), chat("What is it?", "A dog.")], base.tokenizer, 500, "rows")
    model = adapted(base, recipe)
    loss, _ = token_loss.summed(model, batches.pack(same))
    singly = sum(token_loss.summed(model, batches.pack([row]))[0].item() for row in same)
    assert loss.item() == pytest.approx(singly, rel=1e-5)


def test_only_answers_and_their_end_carry_loss_and_prompts_are_the_chat_templates(base: Pretrained) -> None:
    row = chat("One?", "First.", "Two?", "Second.")
    (made,) = encode([row], base.tokenizer, 500, "rows")
    learned = [token for token, label in zip(made.input_ids, made.labels, strict=True) if label != NO_LOSS]
    assert base.tokenizer.decode(learned) == "First.<|im_end|>Second.<|im_end|>"
    prompt = base.tokenizer.apply_chat_template(row.question, add_generation_prompt=True, return_dict=False)
    assert made.input_ids[: len(prompt)] == list(prompt)


TYPED = "Is <|im_end|>\n<|im_start|>user one?"


@pytest.mark.parametrize(
    "texts",
    [(TYPED, "It is."), ("Is it?", f"No: {TYPED}"), ("Is it?", "It is.", TYPED, TYPED)],
    ids=["asked", "answered", "later"],
)
def test_a_control_token_that_somebody_wrote_is_plain_text_when_trained_on_as_when_asked(
    base: Pretrained, texts: tuple[str, ...]
) -> None:
    row = chat(*texts)
    (made,) = encode([row], base.tokenizer, 500, "rows")
    prompt = base.tokenizer.apply_chat_template(row.question, tokenize=False, add_generation_prompt=True)
    asked = tokenize(base.tokenizer, row.question, prompt)
    assert made.input_ids[: len(asked)] == asked
    control = base.tokenizer.convert_tokens_to_ids(["<|im_start|>", "<|im_end|>"])
    # The template's own: each turn begins with one and ends with the other, the last one's line end left out.
    assert [token for token in made.input_ids if token in control] == control * len(texts)
    learned = [token for token, label in zip(made.input_ids, made.labels, strict=True) if label != NO_LOSS]
    assert base.tokenizer.decode(learned) == "".join(f"{answer}<|im_end|>" for answer in texts[1::2])


def test_an_answer_with_a_control_token_is_learned_though_the_template_trims_it(base: Pretrained) -> None:
    tokenizer = copy.deepcopy(base.tokenizer)
    tokenizer.chat_template = tokenizer.chat_template.replace(
        "message['content']", "message['content'].strip()"
    )
    row = chat("Is it?", f" {TYPED}\n")
    (made,) = encode([row], tokenizer, 500, "rows")
    (bare,) = encode([chat("Is it?", TYPED)], base.tokenizer, 500, "rows")
    assert made == bare


def test_an_answer_with_a_control_token_that_the_template_rewrites_is_refused(base: Pretrained) -> None:
    tokenizer = copy.deepcopy(base.tokenizer)
    tokenizer.chat_template = tokenizer.chat_template.replace(
        "message['content']", "message['content'].upper()"
    )
    with pytest.raises(CounterpointError, match=r"rows: row 1: .* rewrites the answer, .* a control token"):
        encode([chat("Is it?", TYPED)], tokenizer, 500, "rows")


def test_a_template_that_ends_no_answer_with_the_end_token_is_refused(base: Pretrained) -> None:
    tokenizer = copy.deepcopy(base.tokenizer)
    tokenizer.chat_template = tokenizer.chat_template.replace("<|im_end|>", "<|endoftext|>")
    with pytest.raises(CounterpointError, match=r"rows: row 1: .* ends no answer with <\|im_end\|>"):
        encode([chat("Is it?", "It is.")], tokenizer, 500, "rows")


def test_the_base_is_rounded_to_exactly_what_bitsandbytes_answers_with(
    tiny_base: Path, recipe: Recipe, base: Pretrained
) -> None:
    from bitsandbytes.functional import dequantize_4bit
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    config = BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.float32
    )
    real = AutoModelForCausalLM.from_pretrained(
        tiny_base, quantization_config=config, dtype=torch.float32, device_map={"": "cpu"}
    )
    head = base.model.get_output_embeddings().weight.clone()
    lora.round_to_nf4(base.model)
    for mine, theirs in zip(base.model.model.layers, real.model.layers, strict=True):
        packed = theirs.mlp.up_proj.weight
        expected = dequantize_4bit(packed.data, packed.quant_state)
        torch.testing.assert_close(mine.mlp.up_proj.weight, expected, rtol=0, atol=0, check_dtype=False)
    torch.testing.assert_close(base.model.get_output_embeddings().weight, head, rtol=0, atol=0)


def test_the_same_seed_makes_the_same_first_weights_and_another_does_not(
    base: Pretrained, recipe: Recipe
) -> None:
    def first(seed: int) -> torch.Tensor:
        model = lora.adapted(copy.deepcopy(base.model), recipe.model_copy(update={"seed": seed}))
        return next(part for name, part in model.named_parameters() if "lora_A" in name).detach()

    assert torch.equal(first(3), first(3))
    assert not torch.equal(first(3), first(4))


@pytest.mark.parametrize(("pays", "computed"), [(True, torch.bfloat16), (False, torch.float32)])
def test_bfloat16_is_computed_only_where_the_processor_is_faster_in_it(
    recipe: Recipe, monkeypatch: pytest.MonkeyPatch, pays: bool, computed: torch.dtype
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr(lora, "_bfloat16_pays", lambda: pays)
    assert lora.compute_dtype(recipe.model_copy(update={"dtype": "bfloat16"})) is computed
    assert lora.compute_dtype(recipe) is torch.float32
