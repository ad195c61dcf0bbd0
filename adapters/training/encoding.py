"""Rows as token ids and loss marks, many at once: rendering and tokenizing one by one would take three times as long.

The prompt's tokens are exactly those that the engine gives the base when it answers: a control token that
somebody wrote is plain text, in the answers too. The end-of-turn token is learned, what the template puts after it
is not.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from adapters.training.data.row import Row
from adapters.training.pieces import Pieces
from backends.contract import Message
from backends.local.prompt import tokenize
from errors import CounterpointError

NO_LOSS = -100

_BATCH_ROWS = 256
_BATCH_CHARACTERS = 2**18
"""Of all prompts together: a tokenizer holds some hundred bytes for each token while it works."""


class ChatTokenizer(Protocol):
    """The parts of a Transformers tokenizer that are used here."""

    eos_token: str
    added_tokens_decoder: Mapping[int, Any]

    def apply_chat_template(self, conversation: Any, **options: Any) -> Any: ...
    def get_vocab(self) -> dict[str, int]: ...
    def decode(self, token_ids: Any, **options: Any) -> Any: ...
    def __call__(self, text: Any, **options: Any) -> Any: ...


@dataclass(frozen=True, slots=True)
class Encoded:
    """A row as token ids; `labels` are NO_LOSS wherever the model is not to learn the token."""

    input_ids: list[int]
    labels: list[int]

    @property
    def trained(self) -> int:
        """How many tokens are learned."""
        return len(self.labels) - self.labels.count(NO_LOSS)

    @property
    def last_answer_at(self) -> int:
        """Where the last answer's tokens begin."""
        end = len(self.labels)
        while self.labels[end - 1] == NO_LOSS:
            end -= 1
        while end and self.labels[end - 1] != NO_LOSS:
            end -= 1
        return end


@dataclass(frozen=True, slots=True)
class Refused:
    """Why a row cannot be trained on. `tokens` is its length where it is too long; at least that of one so
    long that nobody counts."""

    why: str
    tokens: int | None = None


class _Turn(NamedTuple):
    """One answer with all that comes before it."""

    read: list[int]
    learned: list[int]


def encoded(rows: Iterable[Row], tokenizer: ChatTokenizer, max_length: int) -> Iterator[Encoded | Refused]:
    """Each row as the base reads it, in the rows' order; Refused for one that is longer than `max_length` tokens
    or that the template refuses."""
    pieces = Pieces(tokenizer)
    # No token stands for more characters than its own name has, so beyond this a row need not be tokenized.
    most_characters = max_length * max(map(len, tokenizer.get_vocab()))
    for batch in _batches(rows):
        ready: dict[int, Encoded | Refused] = {}
        for number, row in enumerate(batch):
            if _characters(row) > most_characters:
                ready[number] = _too_long(max_length + 1, max_length, "more than ")
        together = [number for number in range(len(batch)) if number not in ready]
        if pieces.spells_control("\n".join(turn.content for row in batch for turn in row.messages)):
            together = [number for number in together if not _spells_control(batch[number], pieces)]
        done = _together([batch[number].talk for number in together], tokenizer, pieces, max_length)
        ready |= zip(together, done, strict=False)
        for number, row in enumerate(batch):
            yield ready[number] if number in ready else _alone(row.talk, tokenizer, max_length)


def _batches(rows: Iterable[Row]) -> Iterator[list[Row]]:
    batch: list[Row] = []
    size = 0
    for row in rows:
        cost = _characters(row) * (
            len(row.messages) // 2
        )  # every answer has a prompt that is read from its start
        if batch and (len(batch) == _BATCH_ROWS or size + cost > _BATCH_CHARACTERS):
            yield batch
            batch, size = [], 0
        batch.append(row)
        size += cost
    if batch:
        yield batch


def _characters(row: Row) -> int:
    return sum(len(turn.content) for turn in row.messages)


def _spells_control(row: Row, pieces: Pieces) -> bool:
    return any(pieces.spells_control(turn.content) for turn in row.messages)


def _answers(talk: Sequence[Message]) -> list[int]:
    return [index for index, message in enumerate(talk) if message["role"] == "assistant"]


def _too_long(tokens: int, max_length: int, more: str = "") -> Refused:
    return Refused(f"{more}{tokens - bool(more):,} tokens, and max_length is {max_length:,}", tokens)


def _together(
    talks: Sequence[list[Message]], tokenizer: ChatTokenizer, pieces: Pieces, max_length: int
) -> list[Encoded | Refused]:
    """Rows in which nobody spells a control token. Fewer than `talks` where the template refuses one of them, or
    where one is too much for a batch: those are left to `_alone`."""
    cost = sum(len(talk) // 2 * sum(len(message["content"]) for message in talk) for talk in talks)
    if not talks or cost > _BATCH_CHARACTERS:
        return []
    where = [(number, index) for number, talk in enumerate(talks) for index in _answers(talk)]
    try:
        prompts = _render(tokenizer, [talks[number][:index] for number, index in where], True)
        wholes = _render(tokenizer, [talks[number][: index + 1] for number, index in where], False)
    except CounterpointError:
        return []
    parts = [_split(tokenizer, prompt, whole) for prompt, whole in zip(prompts, wholes, strict=True)]
    texts = [text for part in parts if isinstance(part, tuple) for text in part]
    ids = iter(pieces.ids(texts))
    turns: list[list[_Turn | Refused]] = [[] for _ in talks]
    for (number, _index), part in zip(where, parts, strict=True):
        turns[number].append(part if isinstance(part, Refused) else _Turn(next(ids), next(ids)))
    return [_joined(each, max_length) for each in turns]


def _split(tokenizer: ChatTokenizer, prompt: str, whole: str) -> tuple[str, str] | Refused:
    """The prompt, and what is learned after it."""
    try:
        if not whole.startswith(prompt):
            raise _rewrites()
        answer, end = _until_end(tokenizer, whole[len(prompt) :])
    except CounterpointError as error:
        return Refused(str(error))
    return prompt, answer + end


def _joined(turns: Sequence[_Turn | Refused], max_length: int) -> Encoded | Refused:
    """A row of its answers, the first one first."""
    ids: list[int] = []
    labels: list[int] = []
    for turn in turns:
        if isinstance(turn, Refused):
            return turn
        if turn.read[: len(ids)] != ids:
            return Refused(str(_rewrites()))
        labels += [NO_LOSS] * (len(turn.read) - len(ids)) + turn.learned
        ids = turn.read + turn.learned
    return Encoded(ids, labels) if len(ids) <= max_length else _too_long(len(ids), max_length)


def _alone(talk: list[Message], tokenizer: ChatTokenizer, max_length: int) -> Encoded | Refused:
    """A row by itself: what somebody wrote in it may spell a control token."""
    turns: list[_Turn | Refused] = []
    try:
        *_earlier, last = _answers(talk)
        whole = _turn(talk, last, tokenizer)
        if (length := len(whole.read) + len(whole.learned)) > max_length:
            # A row of very many turns is not read once more for each of them.
            return _too_long(length, max_length)
        turns += [_turn(talk, index, tokenizer) for index in _earlier]
    except CounterpointError as error:
        return Refused(str(error))
    return _joined([*turns, whole], max_length)


def _turn(talk: list[Message], index: int, tokenizer: ChatTokenizer) -> _Turn:
    [prompt] = _render(tokenizer, [talk[:index]], True)
    [whole] = _render(tokenizer, [talk[: index + 1]], False)
    if not whole.startswith(prompt):
        raise _rewrites()
    read = tokenize(tokenizer, talk[:index], prompt)
    return _Turn(read, _answer(tokenizer, whole[len(prompt) :], talk[index]["content"]))


def _answer(tokenizer: ChatTokenizer, said: str, content: str) -> list[int]:
    """The tokens to learn of what the template made of an answer: up to its end token.

    What follows that (a newline in ChatML) comes with the next turn's prompt. A control token that the answer's
    `content` spells is not one, just as in a prompt.
    """
    answer, end = _until_end(tokenizer, said)
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


def _until_end(tokenizer: ChatTokenizer, said: str) -> tuple[str, str]:
    answer, end, _after = said.rpartition(tokenizer.eos_token)
    if not end:
        raise CounterpointError(
            f"this base's chat template ends no answer with {tokenizer.eos_token}, so no end could be learned"
        )
    return answer, end


def _rewrites() -> CounterpointError:
    return CounterpointError("this base's chat template rewrites earlier turns: use rows of one turn")


def _ids(tokenizer: ChatTokenizer, text: str, **options: bool) -> list[int]:
    return list(tokenizer(text, add_special_tokens=False, **options)["input_ids"])


def _render(
    tokenizer: ChatTokenizer, talks: Sequence[Sequence[Message]], add_generation_prompt: bool
) -> list[str]:
    try:
        return list(
            tokenizer.apply_chat_template(talks, tokenize=False, add_generation_prompt=add_generation_prompt)
        )
    except Exception as error:  # a template raises what it likes
        raise CounterpointError(f"the base's chat template refuses it: {error}") from None
