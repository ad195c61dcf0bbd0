"""A row is shown as the base reads it, and what is learned of it is told apart."""

from __future__ import annotations

from pathlib import Path

import pytest

from adapters.training.data.preview import preview
from backends import pretrained
from errors import CounterpointError
from tests.adapters.test_data_lengths import row


def test_a_row_is_shown_through_the_template_with_answers_and_their_ends_as_trained(tiny_base: Path) -> None:
    tokenizer = pretrained.tokenizer(tiny_base)
    spans = preview(row("Why?", "So é ✓.", "And?", "Thus."), tokenizer, 500)
    assert [(text, trained) for text, trained, _ in spans] == [
        ("<|im_start|>user\nWhy?<|im_end|>\n<|im_start|>assistant\n", False),
        ("So é ✓.<|im_end|>", True),
        ("\n<|im_start|>user\nAnd?<|im_end|>\n<|im_start|>assistant\n", False),
        ("Thus.<|im_end|>", True),
    ]
    with pytest.raises(CounterpointError, match="tokens, and max_length is 10"):
        preview(row("Why?", "So."), tokenizer, 10)
