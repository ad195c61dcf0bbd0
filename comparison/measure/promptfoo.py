"""A plain promptfoo configuration as a suite, and what of it does not come along (promptfoo.dev/docs/configuration).

Its prompts and providers are what modes are here: a persona is a prompt, so of several prompts the first is the
question's template, and the others are told.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError

from comparison.checks.check import SET, Check
from comparison.checks.kinds import KINDS
from comparison.measure.suite import MAX_TESTS, QUESTION, Suite
from comparison.measure.suite_table import table_tests
from errors import CounterpointError
from strict_json import show
from strict_yaml import friendly, joined, load_plain, sentences

_CHECK_FIELDS = {"type", "value", "threshold", "weight", "metric", "assert"}
_TEST_FIELDS = {"description", "vars", "assert", "threshold"}
_TAKEN = {"description", "prompts", "providers", "targets", "defaultTest", "tests"}
_LOGIC = re.compile(r"\{%|\{\{[^{}]*[|(.\[]")
"""Where a text has more of Nunjucks in it than a variable's name."""


class Import(NamedTuple):
    """The suite, and a line for each thing that it left behind."""

    suite: Suite
    left: tuple[str, ...]


def is_config(told: object) -> bool:
    """Whether a YAML file is a promptfoo configuration rather than a suite of ours."""
    return (
        isinstance(told, dict) and "tests" in told and bool({"prompts", "providers", "targets"} & told.keys())
    )


def read_config(text: str, path: Path) -> Import:
    """Raises CounterpointError where nothing of it can be asked."""
    told = load_plain(text, path.name)
    if not is_config(told):
        raise CounterpointError(f"{path.name} is no promptfoo configuration: it needs prompts and tests.")
    return _Reading(path).suite(told)


class _Reading:
    def __init__(self, path: Path) -> None:
        self._path = path
        self._left: list[str] = []

    def suite(self, told: Mapping[str, Any]) -> Import:
        for name in told.keys() - _TAKEN:
            self._leave(name, "is not known here")
        for name in ("providers", "targets"):
            if name in told:
                self._leave(name, "who answers is chosen as modes")
        template = self._template(told.get("prompts"))
        default = told.get("defaultTest")
        if default is not None and not isinstance(default, dict):
            self._leave("defaultTest", "is no mapping here: write it out")
        default = default if isinstance(default, dict) else {}
        tests = list(self._tests(told.get("tests")))
        content: dict[str, Any] = {
            "name": re.sub(r"[^a-z0-9]+", "-", self._path.stem.lower()).strip("-")[:64] or "suite",
            "title": " ".join(str(told.get("description") or self._path.stem).split())[:200],
            "question": template,
            "defaultTest": self._test(default, "defaultTest"),
            "tests": tests,
        }
        always = bool(content["defaultTest"]["assert"])
        content["tests"] = [
            test for number, test in enumerate(tests) if always or self._checked(test, number)
        ]
        if not content["tests"]:
            raise CounterpointError(f"{self._path.name}: nothing is left to measure: {joined(self._left)}.")
        try:
            return Import(Suite.model_validate(content), tuple(self._left))
        except ValidationError as error:
            left = f" Not taken over: {joined(self._left)}." if self._left else ""
            raise CounterpointError(f"{self._path.name}: {joined(sentences(error))}.{left}") from None

    def _leave(self, place: str, why: str) -> None:
        self._left.append(f"{place}: {why}")

    def _template(self, prompts: Any) -> str:
        listed = prompts if isinstance(prompts, list) else [prompts]
        for number, prompt in enumerate(listed):
            place = f"prompts[{number}]"
            text = prompt.get("raw") if isinstance(prompt, dict) else prompt
            if not isinstance(text, str) or text.startswith("file://") or text.lstrip().startswith("["):
                self._leave(place, "only a text can be a question's template: make a persona of it")
                continue
            for other in range(number + 1, len(listed)):
                self._leave(f"prompts[{other}]", "one prompt is taken: make personas of the others")
            if _LOGIC.search(text):
                self._leave(place, "of its template only variables' names are filled in")
            return text
        return f"{{{{{QUESTION}}}}}"

    def _tests(self, tests: Any) -> Iterator[dict[str, Any]]:
        listed = tests if isinstance(tests, list) else [tests]
        for number, test in enumerate(listed):
            place = f"tests[{number}]"
            if isinstance(test, str):
                yield from self._table(test, place)
            elif isinstance(test, dict):
                yield from self._of_lists(self._test(test, place), place)
            else:
                self._leave(place, "is no test")

    def _table(self, name: str, place: str) -> Iterator[dict[str, Any]]:
        path = self._path.parent / name.removeprefix("file://")
        inside = path.resolve().is_relative_to(self._path.parent.resolve())
        if path.suffix.lower() != ".csv" or not inside or not path.is_file():
            self._leave(place, f"{show(name, 60)} is no CSV file beside it")
            return
        try:
            tests = table_tests(path.read_text(encoding="utf-8-sig"), path)
        except UnicodeDecodeError:
            raise CounterpointError(f"{path.name} is not UTF-8 text: save it as that.") from None
        yield from tests

    def _of_lists(self, test: dict[str, Any], place: str) -> Iterator[dict[str, Any]]:
        """One test for each combination of the values of variables that are lists."""
        values = {name: value if isinstance(value, list) else [value] for name, value in test["vars"].items()}
        count = 0
        for count, chosen in enumerate(itertools.product(*values.values()), start=1):
            if count > MAX_TESTS:
                self._leave(place, f"of its combinations the first {MAX_TESTS:,} are taken")
                return
            yield test | {"vars": dict(zip(values, chosen, strict=True))}

    def _test(self, test: Mapping[str, Any], place: str) -> dict[str, Any]:
        for name in test.keys() - _TEST_FIELDS:
            self._leave(f"{place}.{name}", "is not known here")
        given = test.get("vars")
        variables: dict[str, Any] = {}
        for name, value in (given if isinstance(given, dict) else {}).items():
            values = value if isinstance(value, list) else [value]
            if any(str(one).startswith("file://") for one in values):
                self._leave(f"{place}.vars.{name}", "its value is in a file (file://): write it out")
            elif any(isinstance(one, dict | list) for one in values):
                self._leave(f"{place}.vars.{name}", "only texts and numbers are filled in")
            else:
                variables[name] = value if isinstance(value, list) else str(value)
        made: dict[str, Any] = {"vars": variables, "assert": []}
        listed = test.get("assert")
        if listed is not None and not isinstance(listed, list):
            self._leave(f"{place}.assert", "is no list")
        for number, check in enumerate(listed if isinstance(listed, list) else []):
            made["assert"] += self._check(check, f"{place}.assert[{number}]")
        if isinstance(test.get("threshold"), int | float):
            made["threshold"] = test["threshold"]
        if isinstance(test.get("description"), str) and place != "defaultTest":
            made["description"] = " ".join(test["description"].split())[:200]
        return made

    def _check(self, check: Any, place: str) -> list[dict[str, Any]]:
        """The check, or nothing where it is not known here."""
        if not isinstance(check, dict) or not isinstance(check.get("type"), str):
            self._leave(place, "has no type")
            return []
        kind = check["type"].removeprefix("not-")
        if kind not in KINDS and kind != SET:
            self._leave(place, f"the check {show(check['type'], 40)} is not known here")
            return []
        value = check.get("value")
        if isinstance(value, str) and value.startswith("file://"):
            self._leave(place, "its value is in a file: write it out")
            return []
        for name in check.keys() - _CHECK_FIELDS:
            self._leave(f"{place}.{name}", "is not known here")
        made = {name: check[name] for name in _CHECK_FIELDS & check.keys() if check[name] is not None}
        if kind in ("is-json", "contains-json") and isinstance(value, str):
            try:
                made["value"] = load_plain(value, "its schema")
            except CounterpointError as error:
                self._leave(place, str(error))
                return []
        if kind == SET:
            parts = check.get("assert")
            listed = enumerate(parts if isinstance(parts, list) else [])
            made["assert"] = [
                one for number, part in listed for one in self._check(part, f"{place}.assert[{number}]")
            ]
        try:
            Check.model_validate(made)
        except ValidationError as error:
            self._leave(place, friendly(error.errors(include_url=False)[0]))
            return []
        return [made]

    def _checked(self, test: Mapping[str, Any], number: int) -> bool:
        if test.get("assert"):
            return True
        self._leave(f"tests[{number}]", "no check of it is known here, so it is not asked")
        return False
