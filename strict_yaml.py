"""YAML read strictly: every problem of a file told at once, each with its line.

Plain data only: no tags, no anchors, no merge keys, string keys, no key twice. Scalars follow the YAML 1.2
core schema, so that `no`, `on` and `2026-01-01` stay the text that was typed and `2e-4` is a number.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from errors import CounterpointError

M = TypeVar("M", bound=BaseModel)

_Path = tuple[str | int, ...]

_DEPTH = 32
_FRIENDLY = {
    "missing": "is missing",
    "extra_forbidden": "is not a field that is known here (a misspelling?)",
    "string_type": "must be text (quote it if it looks like a number)",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "bool_type": "must be true or false",
    "list_type": "must be a list",
    "tuple_type": "must be a list",
    "dict_type": "must be a mapping",
    "model_type": "must be a mapping",
}

MAX_PROBLEMS = 50
"""How many of a file's problems are told."""
_FIGURES = {
    "too_short": ("needs at least {}", "min_length"),
    "too_long": ("takes at most {}", "max_length"),
    "string_too_short": ("needs at least {} characters", "min_length"),
    "string_too_long": ("takes at most {} characters", "max_length"),
    "greater_than_equal": ("must be {} or more", "ge"),
    "less_than_equal": ("must be {} or less", "le"),
    "greater_than": ("must be above {}", "gt"),
    "less_than": ("must be below {}", "lt"),
    "literal_error": ("must be {}", "expected"),
}
"""What to say where something has a limit, and which of pydantic's figures names it."""


class _Core(yaml.SafeLoader):
    """SafeLoader with the scalars of YAML 1.2's core schema instead of 1.1's surprises, and without aliases."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        """The next node; an alias is empty, so that the rest of the file can still be judged."""
        if not self.check_event(yaml.AliasEvent):
            return super().compose_node(parent, index)
        alias = self.get_event()
        return yaml.ScalarNode("tag:yaml.org,2002:null", "", alias.start_mark, alias.end_mark)


_Core.yaml_implicit_resolvers = {}
_Core.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF")
)
_Core.add_implicit_resolver(
    "tag:yaml.org,2002:null", re.compile(r"^(?:~|null|Null|NULL|)$"), ["~", "n", "N", ""]
)
_Core.add_implicit_resolver(
    "tag:yaml.org,2002:int", re.compile(r"^[-+]?(?:0|[1-9][0-9]*)$"), list("-+0123456789")
)
_Core.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(
        r"^[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?$|^[-+]?\.(?:inf|Inf|INF)$|^\.nan$"
    ),
    list("-+.0123456789"),
)


def load(text: str, source: str, model: type[M]) -> M:
    """Reads `text` as YAML and validates it with `model`; `source` names the file in messages.

    Validation is pydantic's strict JSON mode: no "5" for 5, but a list may become a tuple and a text a
    Path, a date or an enum. Raises CounterpointError with every problem as "file:line: field: what is
    wrong", joined by "; ".
    """
    data, lines, problems = _read(text)
    if lines:
        seen = {(line, field) for line, field, _ in problems}
        try:
            validated = model.model_validate_json(json.dumps(data), strict=True)
        except ValidationError as error:
            problems.extend(p for p in _validation(error, lines) if p[:2] not in seen)
        else:
            if not problems:
                return validated
    raise CounterpointError(joined(_told(source, problems)))


def load_plain(text: str, source: str) -> Any:
    """Reads `text` as YAML into dicts, lists and scalars, whatever they mean.

    Raises CounterpointError with every problem as `load` does.
    """
    data, _, problems = _read(text)
    if problems:
        raise CounterpointError(joined(_told(source, problems)))
    return data


def joined(problems: Sequence[str]) -> str:
    """A file's problems in one message: all of them, but of a file that is nothing else only the first."""
    more = len(problems) - MAX_PROBLEMS
    return "; ".join([*problems[:MAX_PROBLEMS], *([f"and {more:,} more"] if more > 0 else [])])


def friendly(problem: ErrorDetails) -> str:
    """What pydantic found wrong with one value, in a person's words."""
    if problem["type"] in _FIGURES:
        told, limit = _FIGURES[problem["type"]]
        return told.format(problem["ctx"][limit])
    return _FRIENDLY.get(problem["type"]) or problem["msg"].removeprefix("Value error, ")


def sentences(error: ValidationError) -> list[str]:
    """What pydantic found wrong, each with its place: "tests[0].vars: must be a mapping"."""
    details = error.errors(include_url=False)
    return [": ".join(filter(None, (dotted(one["loc"]), friendly(one)))) for one in details]


def dotted(path: Sequence[str | int]) -> str:
    """A place in a file as it is written in messages: examples[0].user."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else (f".{part}" if text else part)
    return text


def _read(text: str) -> tuple[Any, dict[_Path, int], list[tuple[int, str, str]]]:
    """The data, the 1-based line of each path in it (empty where it is no YAML), and what is wrong."""
    problems: list[tuple[int, str, str]] = []
    lines: dict[_Path, int] = {}
    data: Any = None
    depth = 0
    try:
        for event in yaml.parse(text, Loader=_Core):
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > 4 * _DEPTH:
                # PyYAML's time grows with the square of the depth: nothing more is read.
                return None, {}, [(_line(event.start_mark), "", "is nested too deeply")]
            anchor = getattr(event, "anchor", None)
            if anchor is not None:
                problems.append(
                    (_line(event.start_mark), anchor, "anchors and aliases are not allowed: write it out")
                )
        node = yaml.compose(text, Loader=_Core)
        if node is None:
            problems.append((1, "", "the file is empty"))
        else:
            data = _plain(node, (), lines, problems)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        problems.append((_line(mark), "", f"not valid YAML: {error.problem or error.context}"))
    except RecursionError:
        problems.append((1, "", "is nested too deeply"))
    except yaml.YAMLError as error:
        problems.append((1, "", f"not valid YAML: {' '.join(str(error).split())}"))
    return data, lines, problems


def _line(mark: Any) -> int:
    return mark.line + 1 if mark else 1


def _told(source: str, problems: list[tuple[int, str, str]]) -> list[str]:
    return [
        f"{source}:{line}: {field}: {what}" if field else f"{source}:{line}: {what}"
        for line, field, what in sorted(problems)
    ]


def _plain(
    node: yaml.Node, path: _Path, lines: dict[_Path, int], problems: list[tuple[int, str, str]]
) -> Any:
    """The node as dicts, lists and scalars. Fills `lines` (path to 1-based line) and `problems`."""
    line = node.start_mark.line + 1
    lines.setdefault(path, line)
    if len(path) > _DEPTH:
        problems.append((line, dotted(path[:4]), f"is nested deeper than {_DEPTH} levels"))
        return None
    if isinstance(node, yaml.MappingNode):
        mapping: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key_line = key_node.start_mark.line + 1
            if key_node.tag != "tag:yaml.org,2002:str" or not isinstance(key_node, yaml.ScalarNode):
                problems.append((key_line, dotted(path), "keys must be text (quote this one)"))
                continue
            here = (*path, key_node.value)
            if key_node.value in mapping:
                problems.append((key_line, dotted(here), f"is given twice (first in line {lines[here]})"))
                continue
            lines[here] = key_line
            mapping[key_node.value] = _plain(value_node, here, lines, problems)
        return mapping
    if isinstance(node, yaml.SequenceNode):
        return [_plain(item, (*path, index), lines, problems) for index, item in enumerate(node.value)]
    return _scalar(node, line, path, problems)


def _scalar(node: yaml.Node, line: int, path: _Path, problems: list[tuple[int, str, str]]) -> Any:
    text = node.value
    match node.tag.rpartition(":")[2]:
        case "str":
            return text
        case "null":
            return None
        case "bool":
            return text.lower() == "true"
        case "int" if len(text) <= 40 and re.fullmatch(r"[-+]?[0-9]+", text):
            return int(text)
        case "float" if re.fullmatch(r"[-+.0-9eE]+", text):
            number = float(text)
            if math.isfinite(number):
                return number
            problems.append((line, dotted(path), f"{text} is too large"))
        case "int" | "float":
            problems.append((line, dotted(path), f"{text[:40]} is not a number that can be used"))
        case _:
            problems.append((line, dotted(path), f"the tag {node.tag} is not allowed: plain data only"))
    return None


def _validation(error: ValidationError, lines: dict[_Path, int]) -> Iterator[tuple[int, str, str]]:
    for problem in error.errors(include_url=False):
        location = problem["loc"]
        path: _Path = ()
        # Pydantic puts names of union members into `loc`: what is no path of the file is passed over,
        # except a missing field's own name, which is no path either and comes last.
        for part in location:
            if (*path, part) in lines:
                path = (*path, part)
        line = lines[path]
        if problem["type"] == "missing":
            path = (*path, location[-1])
        yield line, dotted(path), friendly(problem)
