"""The bodies of /v1/chat/completions, as OpenAI's reference has them, and what of them is understood here."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic_core import ErrorDetails

import strict_json
from api.errors import WrongField
from backends.contract import Message, OutOfRange, Role, Sampling
from strict_yaml import dotted, friendly

MAX_CHOICES = 16
MAX_TOP_LOGPROBS = 20
_NO_TOOLS = "no tool can be called here: leave it out"
EMPTY: dict[str, tuple[tuple[Any, ...], str]] = {
    "tools": (([],), _NO_TOOLS),
    "tool_choice": (("none", "auto"), _NO_TOOLS),
    "functions": (([],), _NO_TOOLS),
    "function_call": (("none", "auto"), _NO_TOOLS),
    "logit_bias": (({},), "no token can be made likelier here: leave it out"),
    "modalities": ((["text"],), 'answers are text here: leave it out, or send ["text"]'),
    "reasoning_effort": (("none",), "nothing here thinks before it answers: leave it out"),
    "verbosity": (("medium",), "how long an answer is cannot be asked for: leave it out, or say it in words"),
    "store": ((False,), "no answer is kept for later requests: leave it out"),
}
"""Fields that clients fill in though they ask for nothing: what they may hold, and what is said of all else."""
EMPTY_IN_MESSAGES = frozenset({"tool_calls", "annotations"})
"""What other servers' answers bring with them as empty lists."""

_STRICT = ConfigDict(extra="forbid", frozen=True)
_Text = Annotated[str, Tag("text")]


def _text_or(several: str) -> Discriminator:
    """For a field that takes a text or a list: which of them it is, and what is expected where it is neither."""

    def kind(value: Any) -> str | None:
        return "text" if isinstance(value, str) else "list" if isinstance(value, list | tuple) else None

    told = f"must be text or a list of {several}"
    return Discriminator(kind, custom_error_type="neither", custom_error_message=told)


class Part(BaseModel):
    """A piece of a message's content; a base of this kind reads text alone."""

    model_config = _STRICT

    type: Literal["text"]
    text: str
    cache_control: Any = None
    prompt_cache_breakpoint: Any = None
    """Both say where a cache shall end; here every beginning is stored anyhow."""


class Turn(BaseModel):
    """One message. `name` is allowed by OpenAI and read by no chat template here."""

    model_config = _STRICT

    role: Literal["system", "developer", "user", "assistant"]
    content: Annotated[_Text | Annotated[tuple[Part, ...], Tag("list")], _text_or("text parts")]
    name: str | None = None
    reasoning_content: Any = None
    reasoning: Any = None
    """Thoughts that another server's answer came with: they are no part of what was said."""

    @property
    def message(self) -> Message:
        role: Role = "system" if self.role == "developer" else self.role
        text = self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)
        return {"role": role, "content": text}


class StreamOptions(BaseModel):
    model_config = _STRICT

    include_usage: bool = False
    include_obfuscation: bool = False


class ResponseFormat(BaseModel):
    """Text alone: nothing here holds a model to a schema."""

    model_config = _STRICT

    type: Literal["text"]


class ChatRequest(BaseModel):
    """What a client asks. A field that is left out is as the mode says."""

    model_config = _STRICT

    model: str
    messages: Annotated[tuple[Turn, ...], Field(min_length=1)]
    stream: bool = False
    stream_options: StreamOptions | None = None
    n: Annotated[int, Field(ge=1, le=MAX_CHOICES)] = 1
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    seed: Annotated[int, Field(ge=-(2**63), le=2**63 - 1)] | None = None
    stop: Annotated[_Text | Annotated[tuple[str, ...], Tag("list")], _text_or("texts")] | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    logprobs: bool = False
    top_logprobs: Annotated[int, Field(ge=0, le=MAX_TOP_LOGPROBS)] | None = None
    response_format: ResponseFormat | None = None
    tools: Any = None
    tool_choice: Any = None
    functions: Any = None
    function_call: Any = None
    logit_bias: Any = None
    modalities: Any = None
    reasoning_effort: Any = None
    verbosity: Any = None
    store: Any = None

    # These say nothing about the answer: who asks, or how it may come sooner.
    user: str | None = None
    safety_identifier: str | None = None
    metadata: dict[str, str] | None = None
    service_tier: str | None = None
    parallel_tool_calls: bool | None = None
    prediction: dict[str, Any] | None = None
    prompt_cache_key: str | None = None
    prompt_cache_retention: str | None = None
    prompt_cache_options: dict[str, Any] | None = None

    @field_validator(*EMPTY)
    @classmethod
    def _asks_for_nothing(cls, value: Any, field: ValidationInfo) -> Any:
        harmless, otherwise = EMPTY[str(field.field_name)]
        if value not in harmless:
            raise ValueError(otherwise)
        return value

    @property
    def sampling(self) -> dict[str, Any]:
        """The fields of Sampling that the client set. Raises WrongField for those that cannot be."""
        limits = {limit for limit in (self.max_tokens, self.max_completion_tokens) if limit is not None}
        if len(limits) > 1:
            raise WrongField("max_tokens and max_completion_tokens differ: send one of them.", "max_tokens")
        given: dict[str, Any] = {
            name: getattr(self, name)
            for name in (
                "temperature",
                "top_p",
                "min_p",
                "repetition_penalty",
                "presence_penalty",
                "frequency_penalty",
            )
        }
        given["max_tokens"] = next(iter(limits), None)
        if self.seed is not None:
            given["seed"] = self.seed % 2**63  # OpenAI's are signed
        if self.top_k is not None:
            given["top_k"] = max(self.top_k, 0)  # vLLM's -1 is off, too
        if self.stop is not None:
            given["stop"] = (self.stop,) if isinstance(self.stop, str) else self.stop
        told = {name: value for name, value in given.items() if value is not None}
        try:
            Sampling(**told)
        except OutOfRange as error:
            # In the client's words, which may be the newer ones only.
            limit = "max_tokens" if self.max_tokens is not None else "max_completion_tokens"
            field = limit if error.field == "max_tokens" else error.field
            raise WrongField(str(error).replace("max_tokens", limit), field) from None
        return told

    @property
    def wanted_logprobs(self) -> int | None:
        """For Request.top_logprobs. Raises WrongField for likelier tokens without log-probabilities."""
        if self.top_logprobs and not self.logprobs:
            raise WrongField("top_logprobs needs logprobs to be true.", "top_logprobs")
        return (self.top_logprobs or 0) if self.logprobs else None


def read(body: bytes) -> ChatRequest:
    """A field that is null was not given. Raises WrongField that names everything wrong with the body."""
    try:
        fields = strict_json.parse(body)
    except ValueError as error:
        raise WrongField(f"The body cannot be read: {error}.") from None
    if not isinstance(fields, dict):
        raise WrongField("The body must be an object with model and messages.")
    given = _without_nulls(fields)
    if isinstance(given.get("messages"), list):
        # An answer's message can be sent back as it came, from here or elsewhere, its empty fields included.
        given["messages"] = [_without_nulls(message, EMPTY_IN_MESSAGES) for message in given["messages"]]
    try:
        return ChatRequest.model_validate_json(json.dumps(given), strict=True)
    except ValidationError as error:
        raise _wrong(error.errors(include_url=False, include_input=False), given) from None


def _wrong(problems: list[ErrorDetails], given: dict[str, Any]) -> WrongField:
    """All problems in one error. What follows from another one is not told."""
    found = [(_place(problem, given), problem) for problem in problems]
    # Pydantic counts a list's sound items only, and misses in an image what a text would have.
    within = {place[0] for place, _ in found if len(place) > 1}
    other = {
        place[:-1] for place, problem in found if place[-1] == "type" and problem["type"] == "literal_error"
    }
    told = [
        (place, friendly(problem))
        for place, problem in found
        if not (problem["type"] == "too_short" and place[0] in within)
        and not (place[:-1] in other and place[-1] != "type")
    ]
    lines = dict.fromkeys(f"{strict_json.clean(dotted(place))}: {what}" for place, what in told)
    return WrongField("; ".join(list(lines)[:20]), strict_json.clean(str(told[0][0][0])))


def _place(problem: ErrorDetails, given: Any) -> tuple[str | int, ...]:
    """Where in the body it is: pydantic's names for a union's members, which are in its path too, are no place."""
    place: list[str | int] = []
    for part in problem["loc"]:
        if isinstance(part, int) or (isinstance(given, dict) and part in given):
            place.append(part)
            given = given[part]
    return (*place, problem["loc"][-1]) if problem["type"] == "missing" else tuple(place)


def _without_nulls(fields: Any, empty: frozenset[str] = frozenset()) -> Any:
    """Nor those of `empty` that are empty lists."""
    if not isinstance(fields, dict):
        return fields
    return {
        name: value
        for name, value in fields.items()
        if value is not None and not (name in empty and value == [])
    }
