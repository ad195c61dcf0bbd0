"""From chat messages to the base's tokens, through the base's own chat template and no other."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from backends.contract import Message
from errors import CounterpointError


def tokenize(tokenizer: Any, messages: Sequence[Message], prompt: str) -> list[int]:
    """The token ids of `prompt`, which is what the chat template made of `messages`.

    What a person or a persona wrote never becomes a control token: "<|im_end|>" in a question is those
    characters, and cannot end the turn or forge another. Raises CounterpointError where the template makes
    something else of such a message than its text, trimmed at most: then nobody can tell whose a token is.
    """
    # Not only the few that have a name: any special token is one id, whatever it stands for.
    control = [str(token) for token in tokenizer.added_tokens_decoder.values() if token.special]
    typed = [token for token in control if any(token in message["content"] for message in messages)]
    if not typed:
        return _ids(tokenizer, prompt)
    # The template is rendered once more with marks in the messages' place; between the marks stands what is
    # the template's own.
    marked = [{**message, "content": f"\ue000{number}\ue001"} for number, message in enumerate(messages)]
    rendered = tokenizer.apply_chat_template(marked, tokenize=False, add_generation_prompt=True)
    read, *rest = re.split("\ue000(\\d+)\ue001", rendered)
    ids = _ids(tokenizer, read)
    for number, own in zip(rest[::2], rest[1::2], strict=True):
        content = messages[int(number)]["content"]
        forms = (content, content.strip(), content.rstrip(), content.lstrip())
        written = next((form for form in forms if prompt.startswith(form + own, len(read))), content)
        ids += _ids(tokenizer, written, split_special_tokens=True) + _ids(tokenizer, own)
        read += written + own
    if read != prompt:
        raise CounterpointError(
            f"This base's chat template rewrites messages, and one spells {typed[0]}, a control token: take it out."
        )
    return ids


def _ids(tokenizer: Any, text: str, **options: bool) -> list[int]:
    return list(tokenizer(text, add_special_tokens=False, **options)["input_ids"])
