"""Conversations in words: in a list, and read from beginning to end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from logbook.conversations import Conversation, Turn, shortened
from ui import markup
from ui.words import say

_LAST = 30
"""Turns of a pane that are shown: opened, it has all."""
_QUESTION = 60


def listed(one: Conversation, marks: tuple[str, str]) -> str:
    """In the list; of a search with what was found."""
    turns = say("history_turn") if one.turns == 1 else say("history_turns", count=f"{one.turns:,}")
    told = [f"📌 {one.title}" if one.pinned else one.title, _when(one.changed_at), turns, *one.tags]
    found = one.found.replace(marks[0], "").replace(marks[1], "")
    return " · ".join([*told, *([f"“{shortened(found, 120)}”"] if found else [])])


def about(one: Conversation) -> str:
    """Its heading."""
    kind = say(f"tab_{one.kind}")
    told = [kind, say("history_begun", when=_when(one.created_at)), *(f"`{tag}`" for tag in one.tags)]
    return f"## {markup.plain(one.title)}\n\n{' · '.join(told)}"


def deleted(one: Conversation) -> str:
    return markup.plain(say("history_deleted", title=one.title))


def branch(turn: Turn, number: int, question: str) -> str:
    """Another branch, by where it begins and by its question."""
    return say(
        "history_branch_at", pane=turn.pane + 1, number=number, question=shortened(question, _QUESTION)
    )


def turns(panes: Mapping[int, Sequence[Turn]]) -> str:
    """Every pane's turns, as Markdown."""
    parts = []
    for pane, path in panes.items():
        if len(panes) > 1:
            parts.append(f"### {say('pane_name', number=pane + 1)}")
        if len(path) > _LAST:
            parts.append(f"*{say('history_earlier', count=len(path) - _LAST)}*")
        for turn in path[-_LAST:]:
            states = {"lost": say("lost"), "running": say("answered_elsewhere")}
            notice = states.get(turn.state, turn.notice)
            parts.append(f"**{markup.plain(turn.question)}**")
            parts.append(f"*{markup.plain(turn.label)}*")
            parts += [turn.answer] if turn.answer else []
            parts += [f"*{markup.plain(notice)}*"] if notice else []
    return "\n\n".join(parts)


def _when(moment: str) -> str:
    """As the clock of this machine has it."""
    return datetime.fromisoformat(moment).astimezone().strftime("%Y-%m-%d %H:%M")
