"""Checks that a text alone passes or fails."""

from __future__ import annotations

import csv
import functools
import json
import re
from collections.abc import Iterator
from typing import Any

import jsonschema
import regex as regex_module
from referencing import Registry
from referencing.exceptions import Unresolvable

from comparison.checks.check import Answer, CannotGrade, Check, Grade, Tools

_MOST_SECONDS = 2.0
"""For one regular expression: some take for ever on some texts."""
_OPENS = re.compile(r"[{\[]")


def equals(check: Check, answer: Answer, tools: Tools) -> Grade:
    """Text is compared as it is, letter by letter; an object or a list with the answer read as JSON."""
    if not isinstance(check.value, dict | list):
        return _told(answer.text == _text(check.value), f"is not “{_text(check.value)}”")
    return _told(_same(_json(answer.text), check.value), "is not the expected JSON")


def contains(check: Check, answer: Answer, tools: Tools) -> Grade:
    """Whether the texts of `value` are in the answer: one, all or any of them, and in any case of letters, as its name
    says."""
    fold = check.kind.startswith("i")
    text = answer.text.casefold() if fold else answer.text
    wanted = listed(check.value) if check.kind.endswith(("-all", "-any")) else texts(check.value)
    missing = [one for one in wanted if (one.casefold() if fold else one) not in text]
    if check.kind.endswith("-any"):
        return _told(len(missing) < len(wanted), f"has none of {_listed(wanted)}")
    return _told(not missing, f"has not {_listed(missing)}")


def starts_with(check: Check, answer: Answer, tools: Tools) -> Grade:
    return _told(answer.text.startswith(_text(check.value)), f"does not begin with “{_text(check.value)}”")


def regex(check: Check, answer: Answer, tools: Tools) -> Grade:
    try:
        found = regex_module.search(check.value, answer.text, timeout=_MOST_SECONDS)
    except regex_module.error as error:  # one that variables made
        raise CannotGrade(f"“{check.value}” is no regular expression ({error})") from None
    except TimeoutError:
        raise CannotGrade(f"the regular expression “{check.value}” takes too long: simplify it") from None
    return _told(found is not None, f"does not match “{check.value}”")


def is_json(check: Check, answer: Answer, tools: Tools) -> Grade:
    """The whole answer is JSON, and keeps to the schema if there is one."""
    value = _json(answer.text)
    if value is _NO_JSON:
        return Grade(False, 0.0, "is not JSON")
    return _keeps_to(check.value, [value])


def contains_json(check: Check, answer: Answer, tools: Tools) -> Grade:
    """Somewhere in the answer is an object or a list, and one of them keeps to the schema if there is one."""
    found = list(_within(answer.text))
    return _keeps_to(check.value, found) if found else Grade(False, 0.0, "has no JSON in it")


def texts(value: Any) -> list[str]:
    """One text or several."""
    if isinstance(value, list | tuple):
        return [_text(one) for one in value]
    return [_text(value)]


def listed(value: Any) -> list[str]:
    """Several texts; of one text, what is between its commas, as in promptfoo's tables."""
    if isinstance(value, str):
        return [part.strip() for part in next(csv.reader([value], skipinitialspace=True), [])]
    return texts(value)


def no_text(value: Any) -> str | None:
    if isinstance(value, bool) or not isinstance(value, str | int | float) or value == "":
        return "needs a text as its value"
    return None


def no_texts(value: Any) -> str | None:
    if isinstance(value, list | tuple):
        wrong = not value or any(no_text(one) for one in value)
    else:
        wrong = not isinstance(value, str) or value == ""
    return "needs a list of texts as its value" if wrong else None


def no_pattern(value: Any) -> str | None:
    if not isinstance(value, str):
        return "needs a regular expression as its value"
    try:
        regex_module.compile(value)
    except (regex_module.error, RecursionError, OverflowError) as error:
        return f"has a regular expression that Python does not take ({error})"
    return None


def no_schema(value: Any) -> str | None:
    if value is None:
        return None
    if not isinstance(value, dict | bool):
        return "takes a JSON schema as its value, or none"
    try:
        jsonschema.Draft202012Validator.check_schema(value)
    except jsonschema.SchemaError as error:
        return f"has no JSON schema as its value ({' '.join(str(error.message).split())[:120]})"
    return None


def nothing_wrong(value: Any) -> str | None:
    return "needs a value" if value is None else None


def _text(value: Any) -> str:
    """A number as it is written; whole ones without a point."""
    return value if isinstance(value, str) else json.dumps(value)


def _listed(wanted: list[str]) -> str:
    return ", ".join(map(repr, wanted[:5])) + (", …" if len(wanted) > 5 else "")


def _told(passed: bool, why: str) -> Grade:
    return Grade(passed, float(passed), "" if passed else why)


_NO_JSON = object()


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return _NO_JSON


def _within(text: str) -> Iterator[Any]:
    """The objects and lists in a text, the outermost of each."""
    decoder, at = json.JSONDecoder(), 0
    while (found := _OPENS.search(text, at)) is not None:
        try:
            value, at = decoder.raw_decode(text, found.start())
        except (ValueError, RecursionError):
            at = found.end()
        else:
            yield value


def _keeps_to(schema: Any, values: list[Any]) -> Grade:
    if schema is None:
        return Grade(True, 1.0)
    validator = _validator(json.dumps(schema))
    try:
        problems = [next(validator.iter_errors(value), None) for value in values]
    except TimeoutError:
        raise CannotGrade("a pattern of the schema takes too long: write it more simply") from None
    except (Unresolvable, RecursionError) as error:
        raise CannotGrade(f"the schema cannot be followed ({' '.join(str(error).split())[:120]})") from None
    if None in problems:
        return Grade(True, 1.0)
    told = problems[-1]
    return Grade(
        False, 0.0, f"does not keep to the schema: {' '.join(str(told and told.message).split())[:200]}"
    )


@functools.lru_cache(maxsize=256)
def _validator(schema: str) -> jsonschema.Draft202012Validator:
    # With an empty registry nothing is fetched that a schema may refer to.
    content = json.loads(schema)
    if _names(content, "patternProperties"):
        raise CannotGrade("patternProperties in a schema are not followed here: name its properties")
    return _TIMED(content, registry=Registry())


def _names(schema: Any, keyword: str) -> bool:
    if isinstance(schema, dict):
        return keyword in schema or any(_names(value, keyword) for value in schema.values())
    return isinstance(schema, list) and any(_names(value, keyword) for value in schema)


def _pattern(validator: Any, pattern: Any, value: Any, schema: Any) -> Iterator[jsonschema.ValidationError]:
    """As jsonschema's own, but for no longer than a regex check may take."""
    if isinstance(value, str) and not regex_module.search(pattern, value, timeout=_MOST_SECONDS):
        yield jsonschema.ValidationError(f"{value!r} does not match {pattern!r}")


_TIMED = jsonschema.validators.extend(jsonschema.Draft202012Validator, {"pattern": _pattern})


def _same(a: Any, b: Any) -> bool:
    """Deep equality that, unlike Python's, tells true from 1; whole numbers are the same however they are written."""
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(_same(a[key], b[key]) for key in a)
    if isinstance(a, list) and isinstance(b, list | tuple):
        return len(a) == len(b) and all(map(_same, a, b))
    if isinstance(a, bool) or isinstance(b, bool):
        return a is b
    if isinstance(a, int | float) and isinstance(b, int | float):
        return a == b
    return type(a) is type(b) and bool(a == b)
