"""What people say of answers: good or bad, in the data folder as soon as it is said."""

from __future__ import annotations

import builtins
import json
import os
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock
from pydantic import BaseModel, ConfigDict, ValidationError

import strict_json
from backends.contract import Message, Role
from errors import WorkFailed

FILE = "ratings.jsonl"
LOCK_S = 5.0
"""How long a verdict waits for another that is being written."""

Verdict = Literal["good", "bad"]


class Said(BaseModel):
    """A message of the conversation, as the contract has it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    role: Role
    content: str


class Rating(BaseModel):
    """One verdict on one answer; `verdict` is None where an earlier one is taken back."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    answer_id: str
    """The same for every verdict on this answer: the last one counts."""
    at: str
    """When it was said, ISO 8601 in UTC."""
    verdict: Verdict | None
    mode: str
    persona: str | None
    """The one that the mode asks."""
    conversation: tuple[Said, ...]
    """The pane's own turns before, and the question, without the persona's prompt."""
    answer: str
    cut_off: bool = False
    """Whether it ended at the most tokens allowed: to train on it would teach to end there."""
    receipt: dict[str, Any]


class Ratings:
    """The file: a line a verdict, which is only ever added to. Holds nothing."""

    def __init__(self, data: Path) -> None:
        self.path = data / FILE

    def add(self, rating: Rating) -> None:
        """The verdict is on disk when this returns. Raises WorkFailed where it cannot be written."""
        line = rating.model_dump_json().encode() + b"\n"
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            lock = FileLock(self.path.with_name(f".{FILE}.lock"), LOCK_S)
            with lock, open(self.path, "ab+", opener=_private) as file:
                if not _ends_whole(file):  # what a full disk cut off shall be no part of this line
                    line = b"\n" + line
                file.write(line)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            why = error.strerror or "another is writing it"
            raise WorkFailed(f"{self.path} cannot be written ({why}): the verdict is not kept.") from None

    def list(self) -> tuple[Rating, ...]:
        """The verdict that counts of each answer that has one, in the order in which they were first said.

        A line that cannot be read is passed over, and stays. Raises WorkFailed where the file cannot be read.
        """
        try:
            lines = self.path.read_bytes().splitlines()
        except FileNotFoundError:
            return ()
        except OSError as error:
            raise WorkFailed(f"{self.path} cannot be read ({error.strerror}): mend or remove it.") from None
        newest: dict[str, Rating] = {}
        for rating in filter(None, map(_rating, lines)):
            newest[rating.answer_id] = rating
        return tuple(rating for rating in newest.values() if rating.verdict)

    def to_train_on(self, persona: str) -> tuple[builtins.list[tuple[Message, ...]], int]:
        """The conversations whose every answer is whole, this persona's, with an adapter or without and on whatever
        backend, and rated good; and how many of its good answers end none of them.

        Training learns all answers of a conversation, not its last one alone.
        """
        rated = [each for each in self.list() if each.persona == persona and each.verdict == "good"]
        whole = {
            (*each.conversation, Said(role="assistant", content=each.answer)): None
            for each in rated
            if not each.cut_off
        }
        chats = [
            tuple(Message(role=said.role, content=said.content) for said in chat)
            for chat in whole
            if all(chat[: place + 1] in whole for place, said in enumerate(chat) if said.role == "assistant")
        ]
        # Who learns a conversation learns all that it begins with: those would count twice.
        begun = {chat[:place] for chat in map(_pairs, chats) for place in range(2, len(chat), 2)}
        unfit = len({(each.conversation, each.answer) for each in rated}) - len(chats)
        return [chat for chat in chats if _pairs(chat) not in begun], unfit


def _pairs(chat: tuple[Message, ...]) -> tuple[tuple[str, str], ...]:
    return tuple((message["role"], message["content"]) for message in chat)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _ends_whole(file: Any) -> bool:
    end = file.seek(0, os.SEEK_END)
    if not end:
        return True
    file.seek(end - 1)
    return bool(file.read(1) == b"\n")


def _rating(line: bytes) -> Rating | None:
    try:
        return Rating.model_validate_json(json.dumps(strict_json.parse(line)), strict=True)
    except (ValidationError, ValueError):
        return None
