"""From chat messages to the base's tokens, through the base's own chat template and no other."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from backends.contract import Message


def tokenize(tokenizer: Any, messages: Sequence[Message], prompt: str) -> list[int]:
    """The token ids of `prompt`, which is what the chat template made of `messages`.

    What a person or a persona wrote never becomes a control token: "<|im_end|>" in a question is those
    characters, and cannot end the turn or forge another.
    """
    # Not only the few that have a name: any added token is one id, whatever it stands for.
    control = [str(token) for token in tokenizer.added_tokens_decoder.values()]
    if not any(token in message["content"] for message in messages for token in control):
        ids: list[int] = tokenizer(prompt, add_special_tokens=False)["input_ids"]
        return ids
    # The template is rendered once more with marks in the messages' place; between the marks stands what is
    # the template's own.
    marks = [f"\ue000{number}\ue001" for number in range(len(messages))]
    marked = [{**message, "content": mark} for message, mark in zip(messages, marks, strict=True)]
    rendered = tokenizer.apply_chat_template(marked, tokenize=False, add_generation_prompt=True)
    ids = []
    for piece in re.split("(\ue000\\d+\ue001)", rendered):
        if piece in marks:
            content = messages[marks.index(piece)]["content"]
            ids += tokenizer(content, add_special_tokens=False, split_special_tokens=True)["input_ids"]
        else:
            ids += tokenizer(piece, add_special_tokens=False)["input_ids"]
    return ids
