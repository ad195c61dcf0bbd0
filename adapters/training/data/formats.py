"""The formats that rows come in, and how a record of each becomes a row. Pure: a dict in, a row or what is wrong out.

messages            {"messages": [{"role", "content"}, …]}
ShareGPT            {"conversations": [{"from", "value"}, …]}, with role and content as well
prompt/completion   {"prompt", "completion"}: texts, or lists of messages as TRL has them
instruction         {"instruction", "input", "output"}: the input goes below the instruction
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

import strict_json
from adapters.training.data.findings import Name
from adapters.training.data.row import LABELS, Row
from strict_json import show

MESSAGES, SHAREGPT, COMPLETION, INSTRUCTION = "messages", "ShareGPT", "prompt/completion", "instruction"

QUESTIONS = ("prompt", "question", "query", "user", "input")
"""Names of the field that asks, the first that is there counts."""
ANSWERS = ("completion", "answer", "response", "output", "assistant")
"""Names of the field that answers."""
_BELOW = ("input", "context")
"""What goes below a question, with an empty line between."""
_SYSTEM = ("system", "system_prompt")

_ROLES = {
    "system": "system", "developer": "system",
    "user": "user", "human": "user", "prompter": "user",
    "assistant": "assistant", "gpt": "assistant", "chatgpt": "assistant", "bot": "assistant", "model": "assistant",
}  # fmt: skip
_MOST_CHECKS = 1000
_LOST_OF_A_ROW = frozenset(
    {"tools", "functions", "images", "image", "videos", "audios", "documents", "history"}
)
_LOST_OF_A_TURN = frozenset(
    {
        "tool_calls",
        "tool_call_id",
        "function_call",
        "weight",
        "train",
        "images",
        "reasoning_content",
        "thinking",
    }
)
"""Fields that change what a row teaches. Training knows none of them, and must not do as if it did."""

Problem = tuple[Name, str]


class Understood(NamedTuple):
    """What a record turned out to be: a row, or its problems. `unused` are fields that nothing reads."""

    format: str | None
    row: Row | None
    problems: Sequence[Problem]
    unused: Sequence[str]


def understand(record: object) -> Understood:
    """Reads a record of any format."""
    if not isinstance(record, dict):
        return _refused(
            None, [("unknown-format", f"a row must be an object with fields, not {_what(record)}")]
        )
    reading = _Reading(record)
    format, turns = reading.turns()
    if format is None:
        return _refused(None, reading.problems)
    checks = reading.checks()
    reading.refuse_lost()
    if not reading.problems:
        reading.check_roles(turns)
    if reading.problems:
        return _refused(format, reading.problems)
    # Lists and objects that nobody reads can take fifty times the room that they have in the file.
    plain = {name: value for name, value in reading.left.items() if not isinstance(value, list | dict)}
    row = Row.model_validate(plain | {"messages": turns, "checks": checks})
    return Understood(format, row, (), [name for name in reading.left if name not in LABELS])


def columns(names: Sequence[str]) -> bool:
    """Whether a table with such a header has a question and an answer."""
    asks = {*QUESTIONS, "instruction"} & {*names}
    answers = {*ANSWERS} & {*names}
    return bool(asks) and bool(answers)


def _refused(format: str | None, problems: Sequence[Problem]) -> Understood:
    return Understood(format, None, problems, ())


class _Reading:
    """One record as it is taken apart: `left` are the fields that nothing took yet."""

    def __init__(self, record: dict[str, Any]) -> None:
        self.left = dict(record)
        self.problems: list[Problem] = []

    def turns(self) -> tuple[str | None, list[dict[str, str]]]:
        """The format and the messages. Without a format, or with problems, there is no row."""
        system = self._system()
        if "messages" in self.left:
            return MESSAGES, system + self._list("messages")
        if name := self._first(("conversations", "conversation")):
            return SHAREGPT, system + self._list(name)
        if "instruction" in self.left:
            return INSTRUCTION, system + self._pair(("instruction",))
        if "rejected" in self.left:
            self._problem(
                "unknown-format", "a row of preferences (chosen, rejected) teaches no single answer"
            )
        elif self._first(QUESTIONS) or self._first(ANSWERS):
            return COMPLETION, system + self._pair(QUESTIONS)
        elif "text" in self.left:
            self._problem("unknown-format", "a row of plain text has no question and no answer")
        else:
            names = ", ".join(show(name, 30) for name in list(self.left)[:6]) or "no fields"
            self._problem("unknown-format", f"no question and no answer in {names}")
        return None, []

    def checks(self) -> list[Any]:
        """promptfoo's assertions; a table holds them as JSON."""
        checks = self.left.pop("checks", None)
        if isinstance(checks, str):
            try:
                checks = strict_json.parse(checks.encode()) if checks.strip() else []
            except ValueError as error:
                self._problem("bad-field", f"checks: {error}")
                return []
        checks = [] if checks is None else checks
        if not isinstance(checks, list) or not all(isinstance(check, dict) for check in checks):
            self._problem("bad-field", "checks: must be a list of objects")
            return []
        if len(checks) > _MOST_CHECKS or len(repr(checks)) > 100 * _MOST_CHECKS:
            self._problem("bad-field", f"checks: too many, or too large: at most {_MOST_CHECKS} are read")
            return []
        return checks

    def refuse_lost(self) -> None:
        self._refuse_lost(self.left, _LOST_OF_A_ROW, "")

    def check_roles(self, turns: list[dict[str, str]]) -> None:
        roles = [turn["role"] for turn in turns]
        talk = roles[1:] if roles[:1] == ["system"] else roles
        if talk and talk == ["user", "assistant"] * (len(talk) // 2):
            return
        if talk in ([], ["user"], ["assistant"]):
            lacks = "no question" if "user" not in talk else "no answer"
            self._problem("missing-turn", f"messages: there is {lacks}")
            return
        told = ", ".join(roles[:8]) + (", …" if len(roles) > 8 else "")
        self._problem(
            "role-order", f"messages: roles must go (system,) user, assistant, …, assistant, not {told}"
        )

    def _problem(self, kind: Name, text: str) -> None:
        self.problems.append((kind, text))

    def _first(self, names: Sequence[str]) -> str | None:
        return next((name for name in names if name in self.left), None)

    def _system(self) -> list[dict[str, str]]:
        """The system message, where it is a field of its own."""
        name = self._first(_SYSTEM)
        if name is None or not isinstance(self.left[name], str):
            return []
        content = self.left.pop(name)
        self._refuse_control(name, content)
        return [{"role": "system", "content": content}] if content.strip() else []

    def _pair(self, questions: Sequence[str]) -> list[dict[str, str]]:
        """A question and an answer out of two fields; what goes below the question out of a third."""
        asks, answers = self._first(questions), self._first(ANSWERS)
        if asks is None:
            self._problem("missing-turn", f"there is no question beside {answers}")
        if answers is None:
            self._problem("missing-turn", f"there is no answer beside {asks}: a field {', '.join(ANSWERS)}")
        if asks is None or answers is None:
            return []
        question = self._turns_or_text(asks, "user")
        below = self._first(_BELOW)
        if below and question and isinstance(self.left[below], str):
            more = self.left.pop(below).strip()
            self._refuse_control(below, more)
            if more and question[-1]["role"] == "user":
                above = question[-1]["content"]
                question[-1]["content"] = f"{above}\n\n{more}" if above else more
        turns = question + self._turns_or_text(answers, "assistant")
        for turn, name in ((question[-1:], asks), (turns[-1:], answers)):
            if turn and not turn[0]["content"]:
                self._problem("missing-turn", f"{name}: it is empty")
        return turns

    def _turns_or_text(self, name: str, role: str) -> list[dict[str, str]]:
        value = self.left[name]
        if isinstance(value, list):
            return self._list(name)
        del self.left[name]
        if isinstance(value, dict):
            self._problem("bad-field", f"{name}: must be text, not an object")
            return []
        text = "" if value is None else value.strip() if isinstance(value, str) else json.dumps(value)
        self._refuse_control(name, text)
        return [{"role": role, "content": text}]

    def _list(self, name: str) -> list[dict[str, str]]:
        """A list of messages under either pair of names. An empty one is a problem, as is all that is no message."""
        value = self.left.pop(name)
        if not isinstance(value, list):
            self._problem("bad-field", f"{name}: must be a list of messages, not {_what(value)}")
            return []
        if not value:
            self._problem("missing-turn", f"{name}: there is no message in it")
        before = len(self.problems)
        turns = []
        for index, each in enumerate(value):
            turns.append(self._turn(each, f"{name}.{index}"))
            if len(self.problems) - before > 8:  # of one row, these say enough
                break
        return [turn for turn in turns if turn]

    def _turn(self, turn: object, where: str) -> dict[str, str] | None:
        if not isinstance(turn, dict):
            self._problem("bad-field", f"{where}: must be a message with role and content, not {_what(turn)}")
            return None
        self._refuse_lost(turn, _LOST_OF_A_TURN, f"{where}.")
        said = turn.get("role", turn.get("from"))
        role = _ROLES.get(said.strip().lower()) if isinstance(said, str) else None
        if said is None:
            self._problem("missing-turn", f"{where}: it does not say who speaks (role, or from)")
        elif role is None:
            self._problem(
                "role-order", f"{where}: the role {show(said, 30)} is not user, assistant or system"
            )
        content = _joined(next((turn[name] for name in ("content", "value", "text") if name in turn), None))
        if content is None:
            self._problem("missing-turn", f"{where}: there is no content")
        elif not isinstance(content, str):
            self._problem("bad-field", f"{where}: the content must be text, not {_what(content)}")
        elif not content.strip():
            self._problem("missing-turn", f"{where}: the content is blank")
        elif role:
            self._refuse_control(where, content)
            return {"role": role, "content": content}
        return None

    def _refuse_lost(self, fields: dict[str, Any], lost: frozenset[str], where: str) -> None:
        for name in sorted(lost & fields.keys()):
            value = fields[name]
            # A weight of 1, and train: true, say what is done anyway.
            if value not in (None, "", [], {}, 1):
                self._problem(
                    "bad-field", f"{where}{name}: training would leave it out, and with it what it means"
                )

    def _refuse_control(self, where: str, text: str) -> None:
        if "\0" in text:
            self._problem("bad-text", f"{where}: it holds a NUL character")


def _joined(content: Any) -> Any:
    """The text of a content that is a list of text parts; any other content as it is."""
    if not isinstance(content, list) or not content:
        return content
    parts = [part for part in content if isinstance(part, dict) and part.get("type") == "text"]
    texts = [part["text"] for part in parts if isinstance(part.get("text"), str)]
    return "".join(texts) if len(texts) == len(content) else content


def _what(value: object) -> str:
    if value is None:
        return "nothing"
    kinds = (
        (bool, "true or false"),
        (str, "text"),
        (list, "a list"),
        (dict, "an object"),
        (int | float, "a number"),
    )
    return next(name for kind, name in kinds if isinstance(value, kind))
