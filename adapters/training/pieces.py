"""Tokenizes many texts that share pieces: the system message of all rows, the turns that a talk's later prompts repeat.

A tokenizer takes control tokens out before it looks at anything else, and what stands between two of them is read by
itself. So a text can be cut before each control token, and each different piece be read once. A piece keeps the token
that it begins with, because some tokenizers read a text's beginning otherwise than what follows a token.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any


class Pieces:
    """Reads texts for `tokenizer`, a Transformers tokenizer."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._core: Any = getattr(tokenizer, "backend_tokenizer", None)
        control = [token for token in tokenizer.added_tokens_decoder.values() if token.special]
        names = sorted(map(str, control), key=len, reverse=True)
        self._control = re.compile("|".join(map(re.escape, names)) or "(?!)")
        # One that takes in the spaces beside it, or is only one between words, depends on what is beside it.
        self._can_be_cut = self._core is not None and not any(
            token.lstrip or token.rstrip or token.single_word or token.normalized for token in control
        )
        self._cut = re.compile(f"(?={self._control.pattern})")

    def spells_control(self, text: str) -> bool:
        """Whether a control token's name is in `text`."""
        return self._control.search(text) is not None

    def ids(self, texts: Sequence[str]) -> list[list[int]]:
        """The token ids of each text, without any that the tokenizer would put around it."""
        if not self._can_be_cut:
            return list(self._tokenizer(list(texts), add_special_tokens=False)["input_ids"]) if texts else []
        pieces = [[piece for piece in self._cut.split(text) if piece] for text in texts]
        different = list(dict.fromkeys(piece for each in pieces for piece in each))
        # The tokenizer as such: Transformers' own call takes half as long again, to tell where each token stands.
        self._core.no_truncation()
        self._core.no_padding()
        self._core.encode_special_tokens = False
        encodings = self._core.encode_batch_fast(different, add_special_tokens=False)
        known = {piece: one.ids for piece, one in zip(different, encodings, strict=True)}
        return [[one for piece in each for one in known[piece]] for each in pieces]
