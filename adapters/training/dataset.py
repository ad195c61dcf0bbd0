"""Datasets: JSONL in, token ids and loss marks out. Everything wrong with a file is told at once."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from backends.contract import Message
from backends.local.prompt import tokenize
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
    def talk(self) -> list[Message]:
        """All messages, as a chat template takes them."""
        return [{"role": turn.role, "content": turn.content} for turn in self.messages]

    @property
    def question(self) -> list[Message]:
        """The messages before the last answer: what a model is asked."""
        return self.talk[:-1]

    @property
    def answer(self) -> str:
        """The last message: what a right answer looks like."""
        return self.messages[-1].content


class ChatTokenizer(Protocol):
    """The parts of a Transformers tokenizer that are used here."""

    eos_token: str
    added_tokens_decoder: Mapping[int, Any]

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

    The prompt's tokens are exactly those that the engine gives the base when it answers: a control token that
    somebody wrote is plain text, in the answers too. The end-of-turn token is learned, what the template puts
    after it is not. Raises CounterpointError naming every row of `name` that
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
    messages = row.talk
    ids: list[int] = []
    labels: list[int] = []
    for index, message in enumerate(messages):
        if message["role"] != "assistant":
            continue
        prompt = _render(tokenizer, messages[:index], add_generation_prompt=True)
        whole = _render(tokenizer, messages[: index + 1], add_generation_prompt=False)
        read = tokenize(tokenizer, messages[:index], prompt)
        if not whole.startswith(prompt) or read[: len(ids)] != ids:
            raise CounterpointError("this base's chat template rewrites earlier turns: use rows of one turn")
        learned = _answer(tokenizer, whole[len(prompt) :], message["content"])
        labels += [NO_LOSS] * (len(read) - len(ids)) + learned
        ids = read + learned
    return Encoded(ids, labels)


def _answer(tokenizer: ChatTokenizer, said: str, content: str) -> list[int]:
    """The tokens to learn of what the template made of an answer: up to its end token.

    What follows that (a newline in ChatML) comes with the next turn's prompt. A control token that the answer's
    `content` spells is not one, just as in a prompt.
    """
    answer, end, _after = said.rpartition(tokenizer.eos_token)
    if not end:
        raise CounterpointError(
            f"this base's chat template ends no answer with {tokenizer.eos_token}, so no end could be learned"
        )
    added = tokenizer.added_tokens_decoder.values()
    if not any(token.special and str(token) in content for token in added):
        return _ids(tokenizer, answer + end)
    before, typed, after = answer.partition(content.strip())  # some templates trim
    if not typed:
        raise CounterpointError(
            "this base's chat template rewrites the answer, which spells a control token: take it out"
        )
    return (
        _ids(tokenizer, before)
        + _ids(tokenizer, typed, split_special_tokens=True)
        + _ids(tokenizer, after + end)
    )


def _ids(tokenizer: ChatTokenizer, text: str, **options: bool) -> list[int]:
    return list(tokenizer(text, add_special_tokens=False, **options)["input_ids"])


def _render(tokenizer: ChatTokenizer, messages: list[Message], add_generation_prompt: bool) -> str:
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
