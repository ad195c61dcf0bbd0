"""A measurement on disk: its plan, and each answer and grade as a line that is there before anybody is told of it.

A killed run leaves at most half a line, which is cut off when the run goes on.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from filelock import FileLock, Timeout
from pydantic import BaseModel, ConfigDict, ValidationError

import durable
from comparison.measure.plan import Kind, Plan, key
from errors import CounterpointError, WorkFailed

PLAN, ANSWERS, GRADES, LOCK = "plan.json", "answers.jsonl", "grades.jsonl", ".running"


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Record(_Strict):
    """An answer, or why there is none (`failed`). `seconds` is the whole answer's, asked alone, and `first_s` that to its
    first words, whatever steps were before them; `logprob` the mean of its tokens' natural log-probabilities; `checked_s`
    how long the adapter's dataset took to check. `steps` are those that were done before one failed; of an answer they
    stand in its receipt."""

    kind: Kind
    suite: str
    case: str
    slot: str
    repeat: int = 0
    seed: int
    question: str
    answer: str = ""
    finish_reason: str | None = None
    failed: str | None = None
    logprob: float | None = None
    seconds: float | None = None
    first_s: float | None = None
    checked_s: float | None = None
    receipt: dict[str, Any] | None = None
    steps: tuple[dict[str, Any], ...] = ()

    @property
    def key(self) -> str:
        return key(self.kind, self.suite, self.case, self.slot, self.repeat)

    @property
    def prompt_tokens(self) -> int | None:
        """Of all its calls, where it was answered in steps."""
        return self._counted("prompt_tokens")

    @property
    def completion_tokens(self) -> int | None:
        return self._counted("completion_tokens")

    def _counted(self, name: str) -> int | None:
        if self.receipt is None or self.receipt.get(name) is None:
            return None
        return int(self.receipt[name]) + sum(
            int(step.get(name) or 0) for step in self.receipt.get("steps", ())
        )


class Graded(_Strict):
    """What the checks of an answer say: all together, and each in its order. `cannot` is why they could not be made;
    `of` is the sha256 of the text that they were made of."""

    key: str
    of: str | None = None
    passed: bool | None = None
    score: float | None = None
    reason: str = ""
    parts: tuple[tuple[bool, float, str] | None, ...] = ()
    cannot: str | None = None


Line = TypeVar("Line", Record, Graded)


class RunFolder:
    """The folder of one measurement."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def begin(cls, path: Path, plan: Plan) -> RunFolder:
        """Makes the folder. Raises CounterpointError where one is there, WorkFailed where it cannot be written."""
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            told = "go on with it by --resume" if (path / PLAN).is_file() else "name an empty or a new one"
            raise CounterpointError(f"{path} is there already: {told}.")
        with _told(path):
            path.mkdir(parents=True, exist_ok=True)
            durable.write(path / PLAN, plan.model_dump_json(by_alias=True, indent=1) + "\n")
        return cls(path)

    def plan(self) -> Plan:
        """Raises CounterpointError for a folder without a plan, or with one that is broken."""
        try:
            return Plan.model_validate_json((self.path / PLAN).read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise CounterpointError(f"{self.path} holds no measurement: there is no {PLAN} in it.") from None
        except (OSError, UnicodeDecodeError) as error:
            raise CounterpointError(
                f"{self.path / PLAN} cannot be read ({error}): mend it or measure anew."
            ) from None
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            place = ".".join(map(str, first["loc"])) or "the file"
            raise CounterpointError(
                f"{self.path / PLAN} is broken ({place}: {first['msg']}): measure anew into another folder."
            ) from None

    def records(self) -> dict[str, Record]:
        """All answers so far by their keys."""
        return {record.key: record for record in self._lines(ANSWERS, Record)}

    def grades(self) -> dict[str, Graded]:
        """All grades so far by their answers' keys. What an answer said that was changed by hand is no longer known."""
        answers = self.records()
        return {graded.key: _still(graded, answers.get(graded.key)) for graded in self._lines(GRADES, Graded)}

    def answered(self, record: Record) -> None:
        """Keeps an answer; it is on disk when this returns. Raises WorkFailed where it cannot be."""
        self._append(ANSWERS, record)

    def graded(self, graded: Graded) -> None:
        """Keeps a grade, as `answered` does."""
        self._append(GRADES, graded)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Keeps others from measuring into it meanwhile. Raises CounterpointError where one does."""
        with _told(self.path):
            lock = FileLock(self.path / LOCK)
            try:
                lock.acquire(timeout=0)
            except Timeout:
                raise CounterpointError(
                    f"{self.path} is being measured into by another process: wait for it, or stop it."
                ) from None
        try:
            for name in (ANSWERS, GRADES):
                self._cut(self.path / name)
            yield
        finally:
            lock.release()

    def _lines(self, name: str, kind: type[Line]) -> Iterator[Line]:
        try:
            raw = (self.path / name).read_bytes()
        except FileNotFoundError:
            return
        except OSError as error:
            raise CounterpointError(f"{self.path / name} cannot be read ({error.strerror}).") from None
        # What follows the last end of a line was being written when the run was killed.
        for number, line in enumerate(raw.split(b"\n")[:-1], start=1):
            try:
                yield kind.model_validate_json(line)
            except ValidationError:
                raise CounterpointError(
                    f"{self.path / name}:{number}: the line is broken: take it out, and go on with the measurement."
                ) from None

    def _append(self, name: str, line: Record | Graded) -> None:
        with _told(self.path), (self.path / name).open("ab") as file:
            file.write(line.model_dump_json(exclude_defaults=True).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())

    def _cut(self, path: Path) -> None:
        """Takes off the half line that a killed run left."""
        with _told(self.path):
            if not path.exists():
                return
            with path.open("r+b") as file:
                raw = file.read()
                file.truncate(raw.rfind(b"\n") + 1)


def _still(graded: Graded, record: Record | None) -> Graded:
    if record is None or graded.of in (None, sha256(record.answer)):
        return graded
    return Graded(key=graded.key, cannot="the answer was changed after it was graded")


def sha256(text: str) -> str:
    """What a grade knows its answer by."""
    return hashlib.sha256(text.encode()).hexdigest()


@contextmanager
def _told(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise WorkFailed(
            f"{path} cannot be written ({error.strerror or error}): make room, or name another folder."
        ) from None
