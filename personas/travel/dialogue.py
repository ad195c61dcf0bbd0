"""Example conversations as character cards write them: <START>, then lines of "{{user}}: …" and "{{char}}: …"."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

MAX_EXAMPLES = 32
MAX_CHARS = 8_000
START = re.compile(r"<START>", re.IGNORECASE)

Turn = tuple[str, str]
"""Who speaks ("user", "assistant"; "" before anyone does) and what."""


def read(text: str, char: str, users: Sequence[str] = ()) -> tuple[list[dict[str, str]], str]:
    """The questions with their answers, and what is neither: an opening line, a question without an answer.

    `users` are names that the person has in this text, besides {{user}}. Macros in what is said stay.
    """
    examples: list[dict[str, str]] = []
    rest: list[str] = []
    speaker = _speaker(char, users)
    for block in START.split(text):
        waiting: Turn | None = None
        for who, said in [*_turns(block, speaker), ("", "")]:
            fits = len(said) <= MAX_CHARS and said and len(examples) < MAX_EXAMPLES
            if waiting and who == "assistant" and fits:
                examples.append({"user": waiting[1], "assistant": said})
                waiting = None
                continue
            if waiting:
                rest.append(_line(waiting))
            waiting = (who, said) if who == "user" and fits else None
            if said and not waiting:
                rest.append(_line((who, said)))
    return examples, "\n".join(rest)


def write(examples: Iterable[tuple[str, str]]) -> str:
    """Questions and answers as example conversations, each a conversation of its own."""
    return "\n".join(f"<START>\n{{{{user}}}}: {user}\n{{{{char}}}}: {answer}" for user, answer in examples)


def _speaker(char: str, users: Sequence[str]) -> re.Pattern[str]:
    person = "|".join([r"\{\{[ \t]*user[ \t]*\}\}", "<USER>", "You", *map(re.escape, users)])
    character = "|".join([r"\{\{[ \t]*char[ \t]*\}\}", "<BOT>", "<CHAR>", re.escape(char)])
    return re.compile(rf"[ \t]*(?:({person})|(?:{character}))[ \t]*:[ \t]*", re.IGNORECASE)


def _turns(block: str, speaker: re.Pattern[str]) -> list[Turn]:
    """What each said in a row; two turns of one speaker after another are one."""
    turns: list[tuple[str, list[str]]] = [("", [])]
    for line in block.strip().split("\n"):
        found = speaker.match(line)
        if found:
            who = "user" if found[1] else "assistant"
            if turns[-1][0] != who:
                turns.append((who, []))
        turns[-1][1].append(line[found.end() :] if found else line)
    joined = [(who, "\n".join(said).strip()) for who, said in turns]
    return [turn for turn in joined if turn[1]]


def _line(turn: Turn) -> str:
    who, said = turn
    return {"user": "{{user}}: ", "assistant": "{{char}}: "}.get(who, "") + said
