"""Assertions on an answer, with promptfoo's names (promptfoo.dev/docs/configuration/expected-outputs).

Those that the shipped datasets use: equals, contains, icontains, contains-all, icontains-all, contains-any,
icontains-any, starts-with, regex, is-json and assert-set with a threshold; "not-" in front turns one around.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from errors import CounterpointError

Check = Mapping[str, Any]


def passes(checks: Sequence[Check], answer: str) -> bool:
    """Whether `answer` passes all of `checks`. Raises CounterpointError for a check that is not known."""
    return all(_passes(check, answer) for check in checks)


def refuse_unknown(checks: Sequence[Check], where: str) -> None:
    """Raises CounterpointError that begins with `where` for a check that cannot be made: of a kind that is not known, or
    with a value that its kind does not take."""
    for check in checks:
        try:
            _passes(check, "")
        except CounterpointError as error:
            raise CounterpointError(f"{where}: {error}") from None
        except (re.error, KeyError, TypeError, AttributeError, ZeroDivisionError) as error:
            told = f"{where}: the check {check.get('type')!r} can't be made ({error}): mend its value."
            raise CounterpointError(told) from None


def _passes(check: Check, answer: str) -> bool:
    kind = str(check.get("type", ""))
    if kind == "assert-set":
        parts = check["assert"]
        share = sum(_passes(part, answer) for part in parts) / len(parts)
        return share >= check.get("threshold", 1)
    if kind.startswith("not-"):
        return not _passes({**check, "type": kind.removeprefix("not-")}, answer)
    if kind not in _KINDS:
        raise CounterpointError(
            f"the check {kind!r} is not known: use one of {', '.join([*_KINDS, 'assert-set'])}."
        )
    return _KINDS[kind](answer, check.get("value"))


def _equals(answer: str, value: Any) -> bool:
    """Text is compared as text; an object or a list with the answer read as JSON, whatever the keys' order."""
    if isinstance(value, str):
        return answer.strip() == value.strip()
    try:
        return _same(json.loads(answer), value)
    except ValueError:
        return False


def _same(a: Any, b: Any) -> bool:
    """Deep equality that, unlike Python's, tells true from 1."""
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(_same(a[key], b[key]) for key in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(_same, a, b))
    return type(a) is type(b) and bool(a == b)


def _is_json(answer: str, _: Any) -> bool:
    try:
        json.loads(answer)
    except ValueError:
        return False
    return True


_KINDS: dict[str, Callable[[str, Any], bool]] = {
    "equals": _equals,
    "contains": lambda answer, value: value in answer,
    "icontains": lambda answer, value: value.casefold() in answer.casefold(),
    "contains-all": lambda answer, value: all(text in answer for text in value),
    "icontains-all": lambda answer, value: all(text.casefold() in answer.casefold() for text in value),
    "contains-any": lambda answer, value: any(text in answer for text in value),
    "icontains-any": lambda answer, value: any(text.casefold() in answer.casefold() for text in value),
    "starts-with": lambda answer, value: answer.startswith(value),
    "regex": lambda answer, value: re.search(value, answer) is not None,
    "is-json": _is_json,
}
