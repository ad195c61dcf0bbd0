"""Datasets: JSONL in, token ids and loss marks out. Everything wrong with a file is told at once."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from backends.contract import Message
from errors import CounterpointError

NO_LOSS = -100
_SHOWN = 30


class Turn(BaseModel):
    """One message of a row."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    role: Literal["system", "user", "assistant"]
    content: str = Field(min_length=1)


class Row(BaseModel):
    """One line of a dataset. `checks` are promptfoo's assertions; further keys are kept and not read here."""

    model_config = ConfigDict(extra="allow", frozen=True)

    messages: tuple[Turn, ...] = Field(min_length=2)
    checks: tuple[dict[str, Any], ...] = ()

    @property
    def question(self) -> list[Message]:
        """The messages before the last answer: what a model is asked."""
        return [{"role": turn.role, "content": turn.content} for turn in self.messages[:-1]]

    @property
    def answer(self) -> str:
        """The last message: what a right answer looks like."""
        return self.messages[-1].content


class ChatTokenizer(Protocol):
    """The parts of a Transformers tokenizer that are used here."""

    eos_token: str

    def apply_chat_template(self, conversation: Any, **options: Any) -> Any: ...
    def __call__(self, text: str, **options: Any) -> Any: ...


@dataclass(frozen=True, slots=True)
class Encoded:
    """A row as token ids; `labels` are NO_LOSS wherever the model is not to learn the token."""

    input_ids: list[int]
    labels: list[int]


def read(path: Path) -> list[Row]:
    """The rows of the JSONL file `path`. Raises CounterpointError with every problem and its line."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise CounterpointError(
            f"{path}: the dataset cannot be read ({error}): give a UTF-8 JSONL file."
        ) from None
    rows: list[Row] = []
    problems: list[str] = []
    # Not splitlines(): JSON strings may hold U+2028 and its like, which are no ends of a line in JSONL.
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        where = f"{path.name}:{number}"
        try:
            row = Row.model_validate(json.loads(line))
        except json.JSONDecodeError as error:
            problems.append(f"{where}: not JSON ({error.msg} at column {error.colno})")
        except ValidationError as error:
            for problem in error.errors(include_url=False):
                field = ".".join(str(part) for part in problem["loc"]) or "row"
                problems.append(f"{where}: {field}: {problem['msg'].lower()}")
        else:
            problems += [f"{where}: {what}" for what in _turn_problems(row)]
            rows.append(row)
    if not rows and not problems:
        problems.append(f"{path.name}: there is no row in it")
    if problems:
        raise _all_at_once(problems)
    return rows


def refuse_overlap(train: Sequence[Row], heldout: Sequence[Row]) -> None:
    """Raises CounterpointError if a held-out question is also trained on: its score would say nothing."""
    asked = {_normal(row) for row in train}
    shared = [row.question[-1]["content"] for row in heldout if _normal(row) in asked]
    if shared:
        raise CounterpointError(
            f"{len(shared)} held-out questions are also in the training rows, take them out of one: "
            + "; ".join(repr(text[:80]) for text in shared[:5])
        )


def encode(rows: Sequence[Row], tokenizer: ChatTokenizer, max_length: int, name: str) -> list[Encoded]:
    """The rows as the base reads them, through its own chat template; loss on the assistant's tokens only.

    The prompt's tokens are exactly those that the base is given when it answers. The end-of-turn token is
    learned, what the template puts after it is not. Raises CounterpointError naming every row of `name` that
    is longer than `max_length` tokens or that the template refuses.
    """
    encoded: list[Encoded] = []
    problems: list[str] = []
    for number, row in enumerate(rows, start=1):
        try:
            one = _encode(row, tokenizer)
        except CounterpointError as error:
            problems.append(f"{name}: row {number}: {error}")
            continue
        if len(one.input_ids) > max_length:
            problems.append(
                f"{name}: row {number}: {len(one.input_ids)} tokens, and max_length is {max_length}"
            )
        encoded.append(one)
    if problems:
        raise _all_at_once(problems)
    return encoded


def _encode(row: Row, tokenizer: ChatTokenizer) -> Encoded:
    messages = [turn.model_dump() for turn in row.messages]
    ids: list[int] = []
    labels: list[int] = []
    rendered = ""
    for index, message in enumerate(messages):
        if message["role"] != "assistant":
            continue
        prompt = _render(tokenizer, messages[:index], add_generation_prompt=True)
        whole = _render(tokenizer, messages[: index + 1], add_generation_prompt=False)
        if not prompt.startswith(rendered) or not whole.startswith(prompt):
            raise CounterpointError("this base's chat template rewrites earlier turns: use rows of one turn")
        learned, end, _after = whole[len(prompt) :].rpartition(tokenizer.eos_token)
        # What follows the end token (a newline in ChatML) comes with the next turn's prompt.
        for text, is_learned in ((prompt[len(rendered) :], False), (learned + end, True)):
            piece = tokenizer(text, add_special_tokens=False)["input_ids"]
            ids += piece
            labels += piece if is_learned else [NO_LOSS] * len(piece)
        rendered = prompt + learned + end
    return Encoded(ids, labels)


def _render(tokenizer: ChatTokenizer, messages: list[dict[str, str]], add_generation_prompt: bool) -> str:
    try:
        return tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=add_generation_prompt
        )
    except Exception as error:  # a template raises what it likes
        raise CounterpointError(f"the base's chat template refuses it: {error}") from None


def _turn_problems(row: Row) -> list[str]:
    roles = [turn.role for turn in row.messages]
    talk = roles[1:] if roles[0] == "system" else roles
    if talk != ["user", "assistant"] * (len(talk) // 2) or not talk:
        return [f"messages: roles must go (system,) user, assistant, …, assistant, not {', '.join(roles)}"]
    return [
        f"messages.{index}: the content is blank"
        for index, turn in enumerate(row.messages)
        if not turn.content.strip()
    ]


def _normal(row: Row) -> str:
    return "\n".join(" ".join(turn["content"].casefold().split()) for turn in row.question)


def _all_at_once(problems: list[str]) -> CounterpointError:
    more = f"; and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
    return CounterpointError("; ".join(problems[:_SHOWN]) + more)
