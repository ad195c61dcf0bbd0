"""Turns and receipts as Markdown. What a person typed is escaped: it is shown as typed, never as markup."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from backends.contract import Message, Rendered
from ui.transcript import Turn, speed_of
from ui.words import say

_MARKUP = re.compile(r"([!-/:-@\[-`{-~])")
_FENCES = re.compile(r"`{3,}")


def plain(text: str) -> str:
    """Markdown that shows `text` exactly as typed (CommonMark 2.4: any ASCII punctuation can be escaped)."""
    lines = _MARKUP.sub(r"\\\1", text).splitlines()
    return "  \n".join(_indented(line) for line in lines)


def listed(title: str, lines: Sequence[str]) -> str:
    """A title and plain lines below it; nothing where there are none."""
    return "\n".join([f"**{title}**", "", *(f"- {plain(line)}" for line in lines)]) if lines else ""


def fenced(text: str, language: str = "") -> str:
    """A code block that nothing in `text` can end early."""
    longest = max((len(found) for found in _FENCES.findall(text)), default=2)
    fence = "`" * (longest + 1)
    return f"{fence}{language}\n{text}\n{fence}"


def answer(turn: Turn) -> str:
    """The answer as the model wrote it; while nothing has come, that its prompt is being read. Until it has ended, which
    of its persona's steps writes it."""
    if turn.state != "running":
        return turn.answer
    written = turn.answer or ("…" if turn.notice else f"*{say('reading')}*")
    step = turn.step
    if step is None or step.of == 1:
        return written
    told = say("step_of", number=step.number, of=step.of, name=plain(step.name))
    return f"*{told}*\n\n{written}"


def steps(turn: Turn) -> str:
    """What the steps before the answer wrote, each to be unfolded, as typed."""
    folds = []
    for number, step in enumerate(turn.steps, start=1):
        cut = f" · {say('step_cut_off')}" if step["finish_reason"] == "length" else ""
        title = f"{say('step', number=number, name=step['name'])} <span>{speed_of(step)}{cut}</span>"
        # Blank lines, so that what is between them is read as Markdown.
        folds.append(f"<details><summary>{title}</summary>\n\n{plain(step['answer'])}\n\n</details>")
    return "\n\n".join(folds)


def answered_by(turn: Turn) -> str:
    """The mode that gives an answer, as the label above it."""
    return f"*{plain(turn.label)}*"


def notice(turn: Turn) -> str:
    return plain(turn.notice)


def older_messages(turns: Sequence[Turn]) -> list[Any]:
    """Chatbot messages of the turns before the last, each answer labelled with the mode that gave it."""
    messages: list[Any] = []
    for turn in turns:
        notice_line = f"*{plain(turn.notice)}*" if turn.notice else ""
        body = "\n\n".join(part for part in (turn.answer, notice_line) if part)
        messages.append({"role": "user", "content": plain(turn.question)})
        messages.append({"role": "assistant", "content": f"{answered_by(turn)}\n\n{body}"})
    return messages


_ROWS = (
    "mode",
    "base",
    "base_sha256",
    "quantization",
    "dtype",
    "backend",
    "server",
    "claimed",
    "adapter",
    "adapter_sha256",
    "adapter_scale",
    "persona",
    "persona_sha256",
    "sampling",
    "seed",
    "prompt_tokens",
    "completion_tokens",
    "ttft_s",
    "tokens_per_s",
    "prompt_sha256",
)
_SOMETIMES = ("dtype", "server", "claimed")
"""Rows that not every receipt has: what only a local base tells, and what only a server."""


def receipts(turns: Sequence[Turn]) -> str:
    """What really ran for each answer, the newest first, with the exact prompt."""
    parts = [receipt(turn) for turn in reversed(turns) if turn.receipt or turn.steps]
    return "\n\n---\n\n".join(parts) if parts else say("no_receipt")


def receipt(turn: Turn) -> str:
    """One receipt: a table of what ran, then the prompt as the base read it, or what a server was sent for it; last the
    steps before it."""
    values: dict[str, Any] = {"mode": turn.mode, **turn.receipt}
    claimed = values.get("claimed") or ()
    for key in claimed:
        values[key] = values.get(key) or say("not_told")
    if "claimed" in values:
        values["claimed"] = ", ".join(say("receipt_" + key) for key in claimed)
    if values.get("persona_draft"):
        values["persona"] = f"{values['persona']} ({say('draft')})"
    lines = [f"**{plain(turn.label)}**"]
    if turn.receipt:  # a chain that failed has none, but that of the steps before
        rows = [key for key in _ROWS if key in values or key not in _SOMETIMES]
        lines += ["", "| | |", "|:--|:--|"]
        lines += [f"| {say('receipt_' + key)} | {_cell(key, values.get(key))} |" for key in rows]
        lines += _prompt(values)
    for number, step in enumerate(turn.steps, start=1):
        lines += ["", f"**{say('step', number=number, name=plain(step['name']))}** · {plain(speed_of(step))}"]
        lines += ["", fenced(step["answer"], "text"), *_prompt(step)]
    return "\n".join(lines)


def _prompt(values: Mapping[str, Any]) -> list[str]:
    """The lines of a prompt as the base read it, or of what a server was sent for it."""
    prompt, messages = values.get("prompt"), values.get("messages")
    if prompt:
        return ["", f"**{say('receipt_prompt')}**", "", fenced(str(prompt), "text")]
    return ["", f"**{say('receipt_messages')}**", "", fenced(_sent(messages), "text")] if messages else []


def preview(shown: Rendered, note: str = "") -> str:
    """A prompt that has not been sent yet, with its length, and what to know of it."""
    lines = [f"*{plain(note)}*"] if note else []
    if shown.prompt_tokens is None:
        lines.append(say("preview_messages"))
    if shown.prompt_tokens is not None and shown.context is not None:
        lines.append(say("prompt_tokens", tokens=f"{shown.prompt_tokens:,}", context=f"{shown.context:,}"))
    if shown.typed:
        lines.append(plain(say("typed_controls", names=", ".join(shown.typed))))
    return "\n\n".join([*lines, fenced(shown.prompt, "text")])


def _sent(messages: Sequence[Message]) -> str:
    return "\n\n".join(f"[{message['role']}]\n{message['content']}" for message in messages)


def _cell(key: str, value: Any) -> str:
    if value is None:
        return say("none")
    if key.endswith("sha256"):
        return f"`{str(value)[:16]}…`"
    if isinstance(value, Mapping):
        shown = {name: item for name, item in value.items() if item not in (None, (), [])}
        return plain(", ".join(f"{name} {json.dumps(item)}" for name, item in shown.items()))
    if isinstance(value, float):
        return f"{value:.4g}"
    return plain(str(value)).replace("\n", " ")


def _indented(line: str) -> str:
    # Four leading spaces would make a code block of the line.
    stripped = line.lstrip(" \t")
    return "&nbsp;" * (len(line) - len(stripped)) + stripped
