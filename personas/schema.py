"""What a persona is: prompt engineering as data, read strictly from one YAML file.

The schema is documented for users, field by field, in personas/README.md.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    ValidatorFunctionWrapHandler,
    field_validator,
    model_validator,
)
from pydantic_core import InitErrorDetails, PydanticCustomError

from backends.contract import Sampling
from errors import CounterpointError
from strict_json import parse
from strict_yaml import load

MAX_FILE_BYTES = 256 * 1024
MAX_VALUE_CHARS = 4_000
"""Longest value of a variable, in characters."""
MAX_ORIGIN_CHARS = 128 * 1024
"""Most that is kept of the file that a persona was imported from, in characters of JSON."""
QUESTION = "question"
"""What a step's prompt calls the question that was asked."""

SLUG = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*")
PLACEHOLDER = re.compile(r"\{\{[ \t]*([A-Za-z_][A-Za-z0-9_]*)[ \t]*\}\}")
"""A variable in a text. Anything else in braces, like {{7*7}} or {"key": 1}, is text and stays as typed."""


_JUDGE: ContextVar[Callable[[str], str | None]] = ContextVar("_JUDGE", default=lambda name: None)
"""What is wrong with a name where this file lies, if anything is; set while `parse_persona` reads it."""


def _tupled(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


def _text_as_list(value: object) -> object:
    return (value,) if isinstance(value, str) else _tupled(value)


def _slug(value: str) -> str:
    if not SLUG.fullmatch(value):
        raise ValueError("may only have small letters, digits and single hyphens, like support-desk")
    return value


def _one_line(value: str) -> str:
    if "\n" in value or "\r" in value:
        raise ValueError("must be a single line")
    return value


def _language_tag(value: str) -> str:
    if not re.fullmatch(r"[a-z]{2,3}(?:-[A-Za-z0-9]{2,8}){0,3}", value):
        raise ValueError("must be a language tag (BCP 47) like en, fr or pt-BR")
    return value


def _variable_name(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,39}", value):
        raise ValueError("a variable's name has letters, digits and underscores, at most 40, no digit first")
    return value


def _json_object(value: str) -> str:
    if not isinstance(parse(value.encode()), dict):
        raise ValueError("must be a JSON object")
    return value


Slug = Annotated[str, StringConstraints(max_length=64), AfterValidator(_slug)]
Line = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1, max_length=200),
    AfterValidator(_one_line),
]
Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=8_000)]
Value = Annotated[str, StringConstraints(strip_whitespace=True, max_length=MAX_VALUE_CHARS)]
Texts = Annotated[tuple[Text, ...], Field(max_length=64), BeforeValidator(_tupled)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Example(_Strict):
    """One worked question and its answer, shown to the model as a turn that already happened."""

    user: Text
    assistant: Text


class Variable(_Strict):
    """A value that a person fills in before asking."""

    description: Line
    default: Value
    choices: Annotated[tuple[Value, ...], Field(max_length=64), BeforeValidator(_tupled)] = ()

    @model_validator(mode="after")
    def _default_is_a_choice(self) -> Variable:
        if self.choices and self.default not in self.choices:
            raise _problems((("default",), f"{self.default!r} is not among the choices"))
        if len(set(self.choices)) != len(self.choices):
            raise _problems((("choices",), "has the same choice twice"))
        return self


def _sampling_value(field: str, value: Any) -> Any:
    """The value, where Sampling takes it for that field: the ranges live in one place, backends.contract."""
    if value is not None:
        try:
            Sampling(**{field: value})
        except CounterpointError as error:
            raise ValueError(str(error).removeprefix("Sampling: ").removesuffix(".")) from None
    return value


class PersonaSampling(_Strict):
    """Sampling defaults that suit the persona; what is left out keeps the app's own default."""

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None
    max_tokens: int | None = None
    stop: Annotated[tuple[str, ...] | None, BeforeValidator(_tupled)] = None

    @field_validator("*", mode="after")
    @classmethod
    def _in_range(cls, value: Any, info: Any) -> Any:
        return _sampling_value(info.field_name, value)

    def over(self, defaults: Sampling) -> Sampling:
        """`defaults`, with this persona's own values in their place."""
        return dataclasses.replace(defaults, **self.model_dump(exclude_none=True))


class Step(_Strict):
    """One call of a chain. Its prompt takes the question's place; its output is a variable of the steps after it."""

    name: Annotated[str, AfterValidator(_variable_name)]
    prompt: Text
    max_tokens: int | None = None
    """Most tokens of its output; without it, as the persona samples."""

    @field_validator("max_tokens", mode="after")
    @classmethod
    def _in_range(cls, value: int | None) -> int | None:
        return _sampling_value("max_tokens", value)


class Origin(_Strict):
    """What the file that a persona was imported from said, for an export to the same format to give it back.

    `data` is JSON as text, so that no number or key comes out another than it went in. No model ever reads it.
    """

    format: Literal["card", "webui", "modelfile"]
    data: Annotated[str, StringConstraints(max_length=MAX_ORIGIN_CHARS), AfterValidator(_json_object)]


class Persona(_Strict):
    """A way to prompt the base model. Immutable; made by `parse_persona`."""

    name: Slug
    title: Line
    description: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=1_000)]
    language: Annotated[str, AfterValidator(_language_tag)] = "en"
    tags: Annotated[tuple[Slug, ...], Field(max_length=16), BeforeValidator(_tupled)] = ()
    role: Text
    instructions: Annotated[Texts, Field(min_length=1)]
    context: Annotated[str, StringConstraints(strip_whitespace=True, max_length=64_000)] = ""
    constraints: Texts = ()
    style: Annotated[Texts, BeforeValidator(_text_as_list)] = ()
    examples: Annotated[tuple[Example, ...], Field(max_length=32), BeforeValidator(_tupled)] = ()
    variables: Annotated[
        dict[Annotated[str, AfterValidator(_variable_name)], Variable], Field(max_length=32)
    ] = Field(default_factory=dict)
    steps: Annotated[tuple[Step, ...], Field(max_length=8), BeforeValidator(_tupled)] = ()
    """Calls that are made one after another for one question; the last one's output is the answer."""
    sampling: PersonaSampling = PersonaSampling()
    greeting: Annotated[str, StringConstraints(strip_whitespace=True, max_length=8_000)] = ""
    questions: Annotated[tuple[Line, ...], Field(max_length=3), BeforeValidator(_tupled)] = ()
    origin: Origin | None = None

    @model_validator(mode="wrap")
    @classmethod
    def _every_problem_at_once(cls, data: Any, handler: ValidatorFunctionWrapHandler) -> Any:
        # An ordinary "after" validator would not run while any field is wrong, and a person would mend
        # the file only to be told of the next problem. So placeholders and names are checked on the raw data.
        found = []
        if isinstance(data, dict):
            found = [*_name_problems(data), *_step_name_problems(data), *_placeholder_problems(data)]
        try:
            persona = handler(data)
        except ValidationError as error:
            raise _problems(*found, known=error) from None
        if found:
            raise _problems(*found)
        return persona

    @property
    def sha256(self) -> str:
        """Of what the persona says, not of how its file is laid out: comments and key order don't count, nor
        where it came from."""
        content = self.model_dump(mode="json", exclude_defaults=True, exclude={"origin"})
        canonical = json.dumps(content, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()

    def to_yaml(self) -> str:
        """YAML that `parse_persona` reads back as an equal persona."""
        content = self.model_dump(mode="json", exclude_defaults=True)
        return dump(content)


def dump(content: Any) -> str:
    """Plain data as the YAML of a persona's file: `strict_yaml` reads every value back as it was."""
    return yaml.dump(content, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100_000)


def parse_persona(
    text: str, source: str, judge_name: Callable[[str], str | None] = lambda name: None
) -> Persona:
    """Reads one persona; `source` names the file in messages.

    `judge_name` says what else is wrong with the name that the text gives, or None; it is told with the rest.
    Raises CounterpointError with every problem of the file, each as "file:line: field: what is wrong".
    """
    size = len(text.encode(errors="replace"))
    if size > MAX_FILE_BYTES:
        raise CounterpointError(
            f"{source} has {size:,} bytes; a persona's file may have {MAX_FILE_BYTES:,}: shorten its context."
        )
    token = _JUDGE.set(judge_name)
    try:
        return load(text, source, Persona)
    finally:
        _JUDGE.reset(token)


def placeholders(text: str) -> set[str]:
    """The names of the variables that a text uses."""
    return set(PLACEHOLDER.findall(text))


def _name_problems(data: Mapping[str, Any]) -> Iterator[tuple[tuple[str | int, ...], str]]:
    name = data.get("name")
    if isinstance(name, str) and (wrong := _JUDGE.get()(name)):
        yield ("name",), wrong


def _step_name_problems(data: Mapping[str, Any]) -> Iterator[tuple[tuple[str | int, ...], str]]:
    steps, variables = _steps(data), data.get("variables")
    variables = variables if isinstance(variables, dict) else {}
    for index, (name, _) in enumerate(steps):
        if name == QUESTION:
            yield ("steps", index, "name"), "is what the question itself is called: name the step otherwise"
        elif name in variables:
            yield ("steps", index, "name"), f"is a variable already: {name!r} cannot be both"
        elif name and name in (earlier for earlier, _ in steps[:index]):
            yield ("steps", index, "name"), f"is an earlier step's name already: {name!r} cannot be both"
    if steps and QUESTION in variables:
        yield ("variables", QUESTION), "is what steps call the question itself: name the variable otherwise"


def _placeholder_problems(data: Mapping[str, Any]) -> Iterator[tuple[tuple[str | int, ...], str]]:
    variables = data.get("variables", {})
    if not isinstance(variables, dict):
        return  # A wrong type is told already; guessing what was meant would only add noise.
    used: set[str] = set()
    for location, text in _rendered_texts(data):
        names = placeholders(text)
        used |= names
        for name in sorted(names - variables.keys()):
            yield location, f"uses {{{{{name}}}}}, which is not declared under variables"
    steps = _steps(data)
    outputs = [name for name, _ in steps]
    asked: set[str] = set()
    for index, (_, prompt) in enumerate(steps):
        names = placeholders(prompt)
        asked |= names
        for name in sorted(names - {QUESTION, *variables, *outputs[:index]}):
            too_early = name in outputs[index:]
            why = (
                "not there before its own step has ended" if too_early else "no variable and no earlier step"
            )
            yield ("steps", index, "prompt"), f"uses {{{{{name}}}}}, which is {why}"
    if QUESTION not in asked and steps and all(prompt for _, prompt in steps):
        yield ("steps",), f"no prompt uses {{{{{QUESTION}}}}}: the model would never read what was asked"
    used |= asked
    for name in variables:
        if name not in used:
            yield ("variables", name), f"is declared but no text uses {{{{{name}}}}}"


def _steps(data: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Name and prompt of each step, as far as the raw data tells them: what is wrong with it is told elsewhere."""

    def text(step: object, field: str) -> str:
        value = step.get(field) if isinstance(step, dict) else None
        return value if isinstance(value, str) else ""

    steps = data.get("steps")
    listed = steps if isinstance(steps, list | tuple) else ()
    return [(text(step, "name"), text(step, "prompt")) for step in listed]


def _rendered_texts(data: Mapping[str, Any]) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """Every text in which variables are substituted, with its place in the file."""
    for field in ("role", "instructions", "context", "constraints", "style", "examples", "greeting"):
        value = data.get(field)
        if isinstance(value, str):
            yield (field,), value
        elif isinstance(value, list | tuple):
            for index, item in enumerate(value):
                if isinstance(item, str):
                    yield (field, index), item
                elif isinstance(item, dict):
                    for key, part in item.items():
                        if isinstance(part, str):
                            yield (field, index, key), part


def _problems(
    *found: tuple[tuple[str | int, ...], str], known: ValidationError | None = None
) -> ValidationError:
    """One pydantic error of our own findings (place, message) and, where given, another's."""
    details = [
        InitErrorDetails(type=PydanticCustomError("persona", message), loc=place, input=None)
        for place, message in found
    ]
    for problem in known.errors(include_url=False) if known else ():
        kind = PydanticCustomError(problem["type"], problem["msg"], problem.get("ctx"))
        details.append(InitErrorDetails(type=kind, loc=problem["loc"], input=None))
    return ValidationError.from_exception_data("Persona", details)


class _Dumper(yaml.SafeDumper):
    """Long texts as literal blocks; quotes around all that could be read as something else than text."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.Node:
    # YAML 1.2 reads more texts as numbers than PyYAML (1.1) quotes: 1e5. Numbers never begin with a letter.
    style = "|" if "\n" in text else None if text[:1].isalpha() else "'"
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _represent_text)
