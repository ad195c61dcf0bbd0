"""A suite as a table, as promptfoo has them: each column a variable, each row a question, and what is expected in
`__expected`, `__expected1`, `__expected2` and so on.

An expectation is a text that the answer has to equal, or KIND:VALUE, or KIND(THRESHOLD):VALUE, with "not-" before it to
turn it around: icontains:tomorrow, similar(0.8):You can skip a month.
"""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from comparison.checks.check import Check
from comparison.checks.kinds import KINDS
from comparison.measure.suite import MAX_TESTS, QUESTION, Suite
from errors import CounterpointError
from strict_json import show
from strict_yaml import friendly, joined, sentences

_EXPECTED = re.compile(r"__expected\d*")
_KNOWN = {"__description", "__metric", "__threshold"}
_TYPED = re.compile(r"(?P<type>[a-z-]+)(?:\((?P<threshold>[0-9.]+)\))?(?::(?P<value>.*))?", re.DOTALL)
_MEANT = re.compile(r"\s*(?P<type>(?:not-)?[a-z-]+)\s*(?:\([^)]*\)\s*)?:", re.IGNORECASE)
"""What may have been meant as a check, however it is written."""
_VALUED = {
    "javascript": "its code is JavaScript",
    "fn": "its code is JavaScript",
    "eval": "its code is JavaScript",
}


def read_table(text: str, path: Path) -> Suite:
    """The suite in a table whose column `question` asks. Raises CounterpointError with every problem and its line."""
    tests = table_tests(text, path, QUESTION)
    stem = re.sub(r"[^a-z0-9]+", "-", path.stem.lower()).strip("-") or "suite"
    told = {"name": stem[:64].strip("-"), "title": path.stem[:200], "tests": tests}
    try:
        return Suite.model_validate(told)
    except ValidationError as error:
        raise CounterpointError(f"{path.name}: {joined(sentences(error))}") from None


def table_tests(text: str, path: Path, asks: str | None = None) -> list[dict[str, Any]]:
    """A table's rows as tests; `asks` is the column that has to be there and filled. Raises CounterpointError with every
    problem and its line."""
    delimiter = "\t" if path.suffix.lower() == ".tsv" else ","
    try:
        rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True))
    except csv.Error as error:
        raise CounterpointError(f"{path.name}: it is no table ({error}): mend its quotation marks.") from None
    header, *lines = rows or [[]]
    names = [name.strip() for name in header]
    problems = [f"{path.name}:1: {told}" for told in _header_problems(names, asks)]
    tests = []
    for number, cells in enumerate(lines, start=2):
        if not any(cell.strip() for cell in cells):
            continue
        if len(cells) != len(names):
            problems.append(f"{path.name}:{number}: has {len(cells)} cells, and the header {len(names)}")
            continue
        made, wrong = _test(dict(zip(names, cells, strict=True)), asks)
        problems += [f"{path.name}:{number}: {told}" for told in wrong]
        tests.append(made)
    if not tests and not problems:
        problems.append(f"{path.name}: has no rows: give a header, and a row for each question")
    if len(tests) > MAX_TESTS:
        problems.append(f"{path.name}: has {len(tests):,} rows, and {MAX_TESTS:,} are taken: split it")
    if problems:
        raise CounterpointError(joined(problems))
    return tests


def expectation(text: str) -> dict[str, Any]:
    """A check as a cell says it. Raises CounterpointError for one that is not known here."""
    typed = _TYPED.fullmatch(text.strip())
    kind = typed["type"].removeprefix("not-") if typed else ""
    if typed and kind in _VALUED:
        raise CounterpointError(f"the check {kind!r} is not known here: {_VALUED[kind]}; write it as python")
    if typed is None:
        meant = _MEANT.match(text)
        if meant and meant["type"].lower().removeprefix("not-") in KINDS:
            raise CounterpointError(
                f"{show(meant[0].strip(), 40)} is no check as it is written: in small letters, without spaces, a number in "
                "its brackets, as in similar(0.8):text; to ask for this text, write equals:"
            )
        return {"type": "equals", "value": text}
    if kind == "grade":
        kind = "llm-rubric"
    if kind not in KINDS:
        # A word, a colon and no space is promptfoo's way to name a check; a text's own colon has one, a URL's two slashes.
        value = typed["value"] or " "
        if typed["threshold"] is None and (value[0].isspace() or value.startswith("//")):
            return {"type": "equals", "value": text}
        raise CounterpointError(
            f"the check {show(typed['type'], 40)} is not known here: to ask for this text, write equals:"
        )
    check: dict[str, Any] = {"type": f"not-{kind}" if typed["type"].startswith("not-") else kind}
    if typed["value"] is not None and typed["value"].strip():
        check["value"] = typed["value"].strip()
    if typed["threshold"] is not None:
        try:
            check["threshold"] = float(typed["threshold"])
        except ValueError:
            raise CounterpointError(f"{show(typed['threshold'], 20)} is no number") from None
    return check


def _header_problems(names: list[str], asks: str | None) -> list[str]:
    problems = []
    twice = next((name for name in names if name and names.count(name) > 1), None)
    if twice:
        problems.append(f"the column {show(twice, 30)} is there twice")
    if asks and asks not in names:
        problems.append(f"there is no column {asks}: name the one that asks so")
    problems += [
        f"the column {show(name, 30)} is not known here: take it out"
        for name in names
        if name.startswith("__") and name not in _KNOWN and not _EXPECTED.fullmatch(name)
    ]
    return problems


def _test(cells: dict[str, str], asks: str | None) -> tuple[dict[str, Any], list[str]]:
    """A row as a test, and what is wrong with it."""
    checks, problems = [], []
    metric = cells.get("__metric", "").strip()
    for name, cell in cells.items():
        if not _EXPECTED.fullmatch(name) or not cell.strip():
            continue
        try:
            told = expectation(cell) | ({"metric": metric} if metric else {})
            Check.model_validate(told)
            checks.append(told)
        except CounterpointError as error:
            problems.append(f"{name}: {error}")
        except ValidationError as error:
            problems += [f"{name}: {friendly(one)}" for one in error.errors(include_url=False)]
    test: dict[str, Any] = {
        "vars": {name: cell for name, cell in cells.items() if name and not name.startswith("__")},
        "assert": checks,
    }
    if asks and not cells.get(asks, "").strip():
        problems.append(f"{asks} is empty")
    if not checks and not problems:
        problems.append("nothing is expected of its answer: fill __expected")
    if cells.get("__description", "").strip():
        test["description"] = cells["__description"].strip()
    if threshold := cells.get("__threshold", "").strip():
        try:
            test["threshold"] = float(threshold)
        except ValueError:
            problems.append(f"__threshold: {show(threshold, 20)} is no number")
    return test, problems
