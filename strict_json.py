"""JSON from strangers: bounded in size and depth, no duplicate keys, no NaN, and one kind of error."""

from __future__ import annotations

import json
import math
import re
from typing import Any, NoReturn

MAX_DEPTH = 64
"""Levels of objects and lists: what is read can also be written again, and walked by recursion."""

_HALF = re.compile(rb"\\u[dD][89a-fA-F]")
"""Where half of a character may be escaped; most of these are one of two halves that belong together."""


def parse(raw: bytes) -> Any:
    """The value in `raw` (UTF-8). Raises ValueError, in one line, for whatever is not strict JSON."""
    try:
        value = json.loads(
            raw.decode("utf-8"),
            object_pairs_hook=_unique,
            parse_constant=_no_constant,
            parse_float=_finite,
            parse_int=_whole,
        )
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except UnicodeDecodeError:
        raise ValueError("it is not UTF-8 text") from None
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}" if b"\n" in raw else f"column {error.colno}"
        raise ValueError(f"it is not JSON ({error.msg}, {where})") from None
    # What opens no more levels than that cannot have them: most values need no walk.
    if raw.count(b"{") + raw.count(b"[") > MAX_DEPTH and _depth(value) > MAX_DEPTH:
        raise ValueError("it is nested too deeply")
    if _HALF.search(raw):
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise ValueError("it holds half a character (a lone surrogate), which is no text") from None
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"it has the key {show(twice)} twice")
    return found


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"it holds {name}, which is not JSON")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"it holds {clean(text, 40)}, a number that is too large")
    return number


def _whole(text: str) -> int:
    if len(text) > 40:
        raise ValueError(f"it holds {clean(text, 40)}, a number that is too large")
    return int(text)


def _depth(value: Any) -> int:
    """How many levels of objects and lists there are, counted without recursion."""
    depth, level = 0, [value]
    while level:
        depth += any(isinstance(each, dict | list) for each in level)
        level = [
            inner
            for each in level
            if isinstance(each, dict | list)
            for inner in (each.values() if isinstance(each, dict) else each)
        ]
    return depth


def show(value: object, limit: int = 60) -> str:
    """`value` for a message: on one line, printable, quoted and short, whatever a file put in it."""
    text = clean(value if isinstance(value, str) else repr(value), limit)
    return f"'{text}'" if isinstance(value, str) else text


def clean(text: str, limit: int = 300) -> str:
    """`text` on one line, short, and without what would steer a terminal."""
    text = text if len(text) <= limit else text[: limit - 1] + "…"
    return text if text.isprintable() else ascii(text)[1:-1]
