"""The syntax of Modelfiles as Ollama's own parser reads it: instructions, comments, and texts in quotes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from errors import CounterpointError
from strict_json import show

KINDS = (
    "from",
    "adapter",
    "draft",
    "license",
    "message",
    "parameter",
    "parser",
    "renderer",
    "requires",
    "capability",
    "system",
    "template",
)
ROLES = ("system", "user", "assistant")
_KEYED = ("parameter", "message")
_INSTRUCTION = re.compile(r"([A-Za-z]+)[ \t]+(.*)", re.DOTALL)
_KEY = re.compile(r"(\w+)[ \t]+(.*)", re.DOTALL)
MAX_INSTRUCTIONS = 10_000


class Instruction(NamedTuple):
    """One instruction; `number` is its line, `key` a parameter's name or a message's role."""

    number: int
    kind: str
    key: str
    value: str


def instructions(text: str, source: str) -> tuple[list[Instruction], list[str]]:
    """The instructions and the comments of a Modelfile.

    Raises CounterpointError with every line that is none, as "file:line: what is wrong".
    """
    lines = text.split("\n")
    found: list[Instruction] = []
    comments: list[str] = []
    problems: list[str] = []
    place = 0
    while place < len(lines) and len(problems) < 20:
        number, here = place + 1, lines[place].lstrip()
        place += 1
        if here.startswith("#"):
            comments.append(here.lstrip("#").strip())
            continue
        if not here:
            continue
        match = _INSTRUCTION.fullmatch(here)
        kind = match[1].lower() if match else ""
        keyed = _KEY.fullmatch(match[2]) if match and kind in _KEYED else None
        if match is None or kind not in KINDS or (kind in _KEYED and keyed is None):
            problems.append(f"{source}:{number}: {show(here.rstrip())} is no instruction of a Modelfile")
            continue
        key, begun = (keyed[1], keyed[2]) if keyed else ("", match[2])
        if kind == "message" and key not in ROLES:
            problems.append(f"{source}:{number}: MESSAGE {show(key)}: a message is of {', '.join(ROLES)}")
        value, place = _value(begun, lines, place)
        if value is None:
            problems.append(f"{source}:{number}: the text in quotes that begins here never ends")
            break
        found.append(Instruction(number, kind, key.lower() if kind == "parameter" else key, value))
    if problems:
        raise CounterpointError("; ".join(problems))
    return found, comments


def check(found: Sequence[Instruction], source: str) -> None:
    """Raises CounterpointError where these instructions are no Modelfile: without FROM, or far too many."""
    if not any(each.kind == "from" for each in found):
        raise CounterpointError(f"{source} has no FROM line, so it is no Modelfile: name its base in one.")
    if len(found) > MAX_INSTRUCTIONS:
        raise CounterpointError(f"{source} has {len(found):,} instructions, and {MAX_INSTRUCTIONS:,} fit.")


def line(instruction: Instruction, name: str) -> str:
    """The instruction as text. Raises CounterpointError for a value that nothing can quote.

    Ollama knows no escape: a text in quotes ends at the first line that ends in them.
    """
    value = instruction.value
    if any(each.rstrip().endswith('"""') for each in value.split("\n")[:-1]):
        raise CounterpointError(
            f'{name} cannot become a Modelfile: a line of it ends in """, which would end its text: change it.'
        )
    if instruction.kind == "system" or value != value.strip() or set(value) & {"\n", '"'} or not value:
        value = f'"""{value}"""'
    return " ".join(part for part in (instruction.kind.upper(), instruction.key, value) if part)


def _value(begun: str, lines: Sequence[str], place: int) -> tuple[str | None, int]:
    """A value that begins so, and the place after its last line; None where its quotes never close."""
    quotes = next((each for each in ('"""', '"') if begun.startswith(each)), "")
    if not quotes:
        return begun.strip(), place
    parts, last = [begun], begun.rstrip()
    closed = len(last) >= 2 * len(quotes) and last.endswith(quotes)
    while not closed:
        if place == len(lines):
            return None, place
        parts.append(lines[place])
        last = lines[place].rstrip()
        closed = last.endswith(quotes)
        place += 1
    return "\n".join(parts).rstrip()[len(quotes) : -len(quotes)], place
