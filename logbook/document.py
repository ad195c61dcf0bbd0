"""A conversation to be handed on: as Markdown, and as one HTML page that opens offline and replays it as it happened."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

from logbook.conversations import Conversation, Turn

_SCRIPT = Path(__file__).with_name("replay.js")
_STYLE = Path(__file__).with_name("replay.css")
_FENCES = re.compile(r"`{3,}")

Panes = Mapping[int, Sequence[Turn]]
"""Of each pane the turns that lead to where it stands."""


def file_name(conversation: Conversation, ending: str) -> str:
    """By its title, as any file system takes it."""
    stem = re.sub(r"[^\w]+", "-", conversation.title.lower()).strip("-")[:60] or "conversation"
    return f"{stem}.{ending}"


def markdown(conversation: Conversation, panes: Panes) -> str:
    """Questions and answers as they were typed and written, and what ran for each."""
    parts = [f"# {_line(conversation.title)}", f"{conversation.created_at[:16].replace('T', ' ')} UTC"]
    for number, path in sorted(panes.items()):
        if len(panes) > 1:
            parts.append(f"## Pane {number + 1}")
        for turn in path:
            parts.append("\n".join(f"> {line}" for line in turn.question.splitlines() or [""]))
            parts.append(f"**{_line(turn.label)}** (`{turn.mode}`)")
            parts += [_fenced(turn.answer)] if turn.answer else []
            parts += [f"*{_line(_notice(turn))}*"] if _notice(turn) else []
            parts += [f"*{_ran(turn)}*"] if turn.receipt else []
    return "\n\n".join(parts) + "\n"


def replay(conversation: Conversation, panes: Panes) -> str:
    """The page. Without its script, which it plays by, it shows all of it."""
    script, style = _SCRIPT.read_text(encoding="utf-8"), _STYLE.read_text(encoding="utf-8")
    allowed = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{allowed}'"
    rounds = "".join(_round(turns) for turns in _together(panes))
    title = escape(conversation.title)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{title} · Counterpoint</title><style>{style}</style></head><body><main>"
        f"<header><h1>{title}</h1><p>{escape(conversation.created_at[:16].replace('T', ' '))} UTC</p>"
        '<p id="tools" hidden><button id="play" type="button">Play</button> '
        '<label>Speed <select id="speed"><option value="1">as it was</option><option value="4">4 times</option>'
        '<option value="16">16 times</option></select></label></p></header>'
        f"{rounds}</main><script>{script}</script></body></html>\n"
    )


def _together(panes: Panes) -> list[list[Turn]]:
    """The turns that were asked together, in the order in which they were."""
    runs: dict[str, list[Turn]] = {}
    for turn in sorted((turn for path in panes.values() for turn in path), key=lambda turn: turn.asked_at):
        runs.setdefault(turn.run, []).append(turn)
    return [sorted(turns, key=lambda turn: turn.pane) for turns in runs.values()]


def _round(turns: Sequence[Turn]) -> str:
    asked = list(dict.fromkeys(turn.question for turn in turns))
    questions = "".join(f'<p class="question">{escape(question)}</p>' for question in asked)
    return (
        f'<section class="round">{questions}<div class="panes">{"".join(map(_answer, turns))}</div></section>'
    )


def _answer(turn: Turn) -> str:
    notice = f'<p class="notice">{escape(_notice(turn))}</p>' if _notice(turn) else ""
    ran = f'<p class="ran">{escape(_ran(turn))}</p>' if turn.receipt else ""
    timing = escape(json.dumps(turn.timing))
    return (
        f'<article class="{escape(turn.family)}"><h2>{escape(turn.label)}</h2>'
        f'<div class="answer" data-timing="{timing}">{escape(turn.answer)}</div>'
        f'<div class="end">{notice}{ran}</div></article>'
    )


def _notice(turn: Turn) -> str:
    lost = {
        "lost": "Lost: the program ended while this was being answered.",
        "running": "This was being answered.",
    }
    return lost.get(turn.state, turn.notice)


def _ran(turn: Turn) -> str:
    """What ran, in a line: the rest stands in the receipt, which the whole logbook's export has."""
    receipt = turn.receipt
    told = {
        "seed": receipt.get("seed"),
        "prompt tokens": receipt.get("prompt_tokens"),
        "tokens": receipt.get("completion_tokens"),
        "prompt sha256": str(receipt.get("prompt_sha256") or "")[:12],
        "adapter sha256": str(receipt.get("adapter_sha256") or "")[:12],
    }
    return " · ".join(f"{name} {value}" for name, value in told.items() if value not in (None, ""))


def _line(text: str) -> str:
    """Text on one line of Markdown, as typed (CommonMark 2.4: any ASCII punctuation can be escaped)."""
    return re.sub(r"([!-/:-@\[-`{-~])", r"\\\1", " ".join(text.split()))


def _fenced(text: str) -> str:
    """A code block that nothing in the text can end early."""
    longest = max((len(found) for found in _FENCES.findall(text)), default=2)
    fence = "`" * (longest + 1)
    return f"{fence}text\n{text}\n{fence}"
