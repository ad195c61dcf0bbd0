"""Text comes in whole characters, and a stop text never shows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from backends.local.answer import AnswerText


@pytest.fixture(scope="module")
def tokenizer(tiny_base: Path) -> Any:
    return AutoTokenizer.from_pretrained(tiny_base)


def pieces(tokenizer: Any, text: str, stop: tuple[str, ...] = ()) -> tuple[list[str], AnswerText]:
    answer = AnswerText(tokenizer, stop)
    shown = []
    for token in tokenizer(text, add_special_tokens=False)["input_ids"]:
        shown.append(answer.push(token))
        if answer.stopped:
            return shown, answer
    return [*shown, answer.finish()], answer


@pytest.mark.parametrize("text", ["Bonjour, ça va ? 🦊 naïve 東京", "plain words", "  spaces  and\n\nlines "])
def test_the_pieces_make_up_the_text_and_none_holds_half_a_character(tokenizer: Any, text: str) -> None:
    shown, _ = pieces(tokenizer, text)
    assert "".join(shown) == text
    assert not any("\ufffd" in piece for piece in shown)


def test_nothing_of_a_stop_text_shows_even_when_it_comes_in_pieces(tokenizer: Any) -> None:
    shown, answer = pieces(tokenizer, "The answer is 4.\nUser: next", ("\nUser:",))
    assert "".join(shown) == "The answer is 4."
    assert answer.stopped


def test_what_only_began_like_a_stop_text_shows_in_the_end(tokenizer: Any) -> None:
    shown, answer = pieces(tokenizer, "It ends with ###", ("####",))
    assert "".join(shown) == "It ends with ###"
    assert not answer.stopped


def test_the_earliest_of_several_stop_texts_ends_the_answer(tokenizer: Any) -> None:
    shown, _ = pieces(tokenizer, "one two three four", ("four", "two"))
    assert "".join(shown) == "one "
