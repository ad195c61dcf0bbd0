"""Texts read piece by piece have the ids that the tokenizer gives them whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tokenizers import AddedToken, normalizers, pre_tokenizers

from adapters.training.pieces import Pieces
from backends import pretrained

SYSTEM = "<|im_start|>system\nAnswer in plain words. <|im_end|>\n"
TEXTS = [
    "",
    "no control token at all",
    "<|im_end|>",
    SYSTEM,
    SYSTEM + "<|im_start|>user\nWhat is the capital of France? <|im_end|>\n<|im_start|>assistant\n",
    SYSTEM + "<|im_start|>user\n  spaces, \n\n lines <|im_end|>\n<|im_start|>assistant\n",
    "before <|im_start|><|im_start|> <|endoftext|>after<|im_end|>",
    "the end<|im_end|>",
]


@pytest.fixture
def tokenizer(tiny_base: Path) -> Any:
    return pretrained.tokenizer(tiny_base)


def whole(tokenizer: Any) -> list[list[int]]:
    return [tokenizer(text, add_special_tokens=False)["input_ids"] for text in TEXTS]


def test_pieces_are_read_as_the_whole_is(tokenizer: Any) -> None:
    assert Pieces(tokenizer).ids(TEXTS) == whole(tokenizer)
    assert Pieces(tokenizer).ids([]) == []


def test_a_tokenizer_that_reads_a_beginning_otherwise_gives_the_same_ids(tokenizer: Any) -> None:
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Metaspace(prepend_scheme="first"), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    assert Pieces(tokenizer).ids(TEXTS) == whole(tokenizer)
    tokenizer.backend_tokenizer.normalizer = normalizers.Prepend("x")
    assert Pieces(tokenizer).ids(TEXTS) == whole(tokenizer)


def test_a_control_token_that_takes_in_spaces_is_not_cut_at(tokenizer: Any) -> None:
    tokenizer.add_special_tokens(
        {"extra_special_tokens": [AddedToken("<|wide|>", lstrip=True, special=True)]}
    )
    text = "before   <|wide|> after"
    assert Pieces(tokenizer).ids([text]) == [tokenizer(text, add_special_tokens=False)["input_ids"]]


def test_ids_do_not_depend_on_what_was_read_before(tokenizer: Any) -> None:
    expected = whole(tokenizer)
    tokenizer("<|im_end|>", add_special_tokens=False, split_special_tokens=True)
    tokenizer("x " * 50, truncation=True, max_length=3, padding="max_length")
    assert Pieces(tokenizer).ids(TEXTS) == expected


def test_a_control_token_is_seen_wherever_it_stands(tokenizer: Any) -> None:
    pieces = Pieces(tokenizer)
    assert pieces.spells_control("a<|im_end|>b")
    assert not pieces.spells_control("a<|im_en|>b")
