"""What people say of answers: good or bad, in the logbook as soon as it is said."""

from __future__ import annotations

import builtins
import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError
from sqlite_utils import Database as Connection

import strict_json
from backends.contract import Message, Role
from errors import WorkFailed
from logbook.database import Database

EARLIER = "ratings.jsonl"
"""Where they lay before there was a logbook."""

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


@dataclass(frozen=True, slots=True)
class Preference:
    """Of two answers to the same conversation the one that was rated good, and the one that was rated bad."""

    prompt: tuple[Said, ...]
    chosen: str
    rejected: str

    def as_dict(self) -> dict[str, Any]:
        """As TRL has a conversational preference: `prompt`, `chosen` and `rejected` are messages."""
        answers = {"chosen": self.chosen, "rejected": self.rejected}
        return {
            "prompt": [said.model_dump() for said in self.prompt],
            **{name: [{"role": "assistant", "content": text}] for name, text in answers.items()},
        }


class Ratings:
    """All of a data folder, in its logbook. Holds nothing."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._earlier = database.path.with_name(EARLIER)

    def add(self, rating: Rating) -> None:
        """The verdict is on disk when this returns. Raises as `Database.writing`."""
        self._take_over()
        with self._database.writing() as db:
            _insert(db, rating)

    def list(self) -> tuple[Rating, ...]:
        """The verdict that counts of each answer that has one, in the order in which they were first said. Raises as
        `Database.writing`."""
        self._take_over()
        with self._database.reading() as db:
            rows = db.query(
                "SELECT rating.* FROM rating JOIN (SELECT answer_id, min(number) AS first, max(number) AS last FROM rating "
                "GROUP BY answer_id) ON number = last WHERE verdict IS NOT NULL ORDER BY first"
            )
            return tuple(map(_of_row, rows))

    def _take_over(self) -> None:
        """What earlier versions kept as a file of lines. One that cannot be read is passed over: the file stays, under
        another name."""
        if not self._earlier.exists():
            return
        with self._database.writing() as db:
            try:
                lines = self._earlier.read_bytes().splitlines()
            except FileNotFoundError:  # another process was first
                return
            except OSError as error:
                raise WorkFailed(
                    f"{self._earlier} cannot be read ({error.strerror}): mend or remove it."
                ) from None
            for rating in filter(None, map(_rating, lines)):
                # Where it was taken over before its file had its other name, later verdicts stay the last ones.
                said = [rating.answer_id, rating.at, rating.verdict]
                known = "SELECT 1 FROM rating WHERE answer_id = ? AND at = ? AND verdict IS ?"
                if db.execute(known, said).fetchone() is None:
                    _insert(db, rating)
        with suppress(FileNotFoundError):
            self._earlier.rename(self._earlier.with_name(f"{EARLIER}.taken-over"))

    def verdicts(self, answers: Sequence[str]) -> dict[str, Verdict]:
        """By answer the verdict that counts, of those that have one. Raises as `Database.writing`."""
        self._take_over()
        with self._database.reading() as db:
            found = db.execute(
                "SELECT answer_id, verdict FROM rating WHERE verdict IS NOT NULL AND number IN (SELECT max(number) "
                "FROM rating WHERE answer_id IN (SELECT value FROM json_each(?)) GROUP BY answer_id)",
                [json.dumps(answers)],
            )
            return dict(found.fetchall())

    def to_train_on(self, persona: str | None = None) -> tuple[builtins.list[tuple[Message, ...]], int]:
        """The conversations whose every answer is whole, this persona's (anybody's without one), with an adapter or
        without and on whatever backend, and rated good; and how many of its good answers end none of them.

        Training learns all answers of a conversation, not its last one alone.
        """
        rated = [each for each in self.list() if each.verdict == "good" and persona in (None, each.persona)]
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

    def preferences(self, persona: str | None = None) -> builtins.list[Preference]:
        """Every two answers to the same words of which one is rated good and the other bad, of this persona or of
        anybody. What was cut off is preferred to nothing."""
        by_prompt: dict[tuple[Said, ...], dict[Verdict, dict[str, None]]] = {}
        for each in self.list():
            if each.verdict and persona in (None, each.persona):
                its = by_prompt.setdefault(each.conversation, {"good": {}, "bad": {}})
                if each.verdict == "bad" or not each.cut_off:
                    its[each.verdict][each.answer] = None
        return [
            Preference(prompt, good, bad)
            for prompt, its in by_prompt.items()
            for good in its["good"]
            for bad in its["bad"]
            if good != bad
        ]


def _pairs(chat: tuple[Message, ...]) -> tuple[tuple[str, str], ...]:
    return tuple((message["role"], message["content"]) for message in chat)


def _insert(db: Connection, rating: Rating) -> None:
    told = rating.model_dump(mode="json")
    for name in ("conversation", "receipt"):
        told[name] = json.dumps(told[name], ensure_ascii=False)
    db.table("rating").insert(told)


def _of_row(row: dict[str, Any]) -> Rating:
    told = {name: value for name, value in row.items() if name != "number"}
    told |= {name: json.loads(told[name]) for name in ("conversation", "receipt")}
    return Rating.model_validate({**told, "cut_off": bool(told["cut_off"])})


def _rating(line: bytes) -> Rating | None:
    try:
        return Rating.model_validate_json(json.dumps(strict_json.parse(line)), strict=True)
    except (ValidationError, ValueError):
        return None
