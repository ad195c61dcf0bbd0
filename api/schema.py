"""The bodies of /v1/chat/completions, as OpenAI's reference has them, and what of them is understood here."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator

import strict_json
from backends.contract import Message, Role
from errors import CounterpointError
from strict_yaml import dotted, friendly

MAX_CHOICES = 16
MAX_TOP_LOGPROBS = 20
IGNORED = frozenset(
    {
        "user", "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key",
        "prompt_cache_retention", "parallel_tool_calls", "verbosity", "reasoning_effort",
    }
)  # fmt: skip
"""Fields that say nothing about the answer here, or that clients send unasked."""
_NO_TOOLS = "no tool can be called here: leave it out"
EMPTY: dict[str, tuple[tuple[Any, ...], str]] = {
    "tools": (([],), _NO_TOOLS),
    "tool_choice": (("none", "auto"), _NO_TOOLS),
    "functions": (([],), _NO_TOOLS),
    "function_call": (("none", "auto"), _NO_TOOLS),
    "logit_bias": (({},), "no token can be made likelier here: leave it out"),
    "modalities": ((["text"],), 'answers are text here: leave it out, or send ["text"]'),
}
"""Fields that clients fill in though they ask for nothing: what they may hold, and what is said of all else."""

_STRICT = ConfigDict(extra="forbid", frozen=True)


class Part(BaseModel):
    """A piece of a message's content; a base of this kind reads text alone."""

    model_config = _STRICT

    type: Literal["text"]
    text: str


class Turn(BaseModel):
    """One message. `name` is allowed by OpenAI and read by no chat template here."""

    model_config = _STRICT

    role: Literal["system", "developer", "user", "assistant"]
    content: str | tuple[Part, ...]
    name: str | None = None

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
    seed: int | None = None
    stop: str | tuple[str, ...] | None = None
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

    @field_validator(*EMPTY)
    @classmethod
    def _asks_for_nothing(cls, value: Any, field: ValidationInfo) -> Any:
        harmless, otherwise = EMPTY[str(field.field_name)]
        if value not in harmless:
            raise ValueError(otherwise)
        return value

    @property
    def sampling(self) -> dict[str, Any]:
        """The fields of Sampling that the client set. Raises CounterpointError where two of them disagree."""
        limits = {limit for limit in (self.max_tokens, self.max_completion_tokens) if limit is not None}
        if len(limits) > 1:
            raise CounterpointError("max_tokens and max_completion_tokens differ: send one of them.")
        given: dict[str, Any] = {
            name: getattr(self, name)
            for name in (
                "temperature",
                "top_p",
                "min_p",
                "repetition_penalty",
                "presence_penalty",
                "frequency_penalty",
                "seed",
            )
        }
        given["max_tokens"] = next(iter(limits), None)
        if self.top_k is not None:
            given["top_k"] = max(self.top_k, 0)  # vLLM's -1 is off, too
        if self.stop is not None:
            given["stop"] = (self.stop,) if isinstance(self.stop, str) else self.stop
        return {name: value for name, value in given.items() if value is not None}

    @property
    def wanted_logprobs(self) -> int | None:
        """For Request.top_logprobs. Raises CounterpointError for likelier tokens without log-probabilities."""
        if self.top_logprobs and not self.logprobs:
            raise CounterpointError("top_logprobs needs logprobs to be true.")
        return (self.top_logprobs or 0) if self.logprobs else None


def read(body: bytes) -> ChatRequest:
    """A field that is null was not given. Raises CounterpointError that names everything wrong with the body."""
    try:
        fields = strict_json.parse(body)
    except ValueError as error:
        raise CounterpointError(f"The body cannot be read: {error}.") from None
    if not isinstance(fields, dict):
        raise CounterpointError("The body must be an object with model and messages.")
    given = {name: value for name, value in _without_nulls(fields).items() if name not in IGNORED}
    if isinstance(given.get("messages"), list):
        # An answer's message can be sent back as it came, its empty fields included.
        given["messages"] = [_without_nulls(message) for message in given["messages"]]
    try:
        return ChatRequest.model_validate_json(json.dumps(given), strict=True)
    except ValidationError as error:
        problems = error.errors(include_url=False, include_input=False)
        wrong = {problem["loc"][0] for problem in problems if len(problem["loc"]) > 1}
        # Pydantic counts a list's sound items only: what is wrong in it is not missing as well.
        problems = [each for each in problems if each["type"] != "too_short" or each["loc"][0] not in wrong]
        told = dict.fromkeys(f"{dotted(problem['loc'])}: {friendly(problem)}" for problem in problems)
        raise CounterpointError("; ".join(list(told)[:20])) from None


def _without_nulls(fields: Any) -> Any:
    return (
        {name: value for name, value in fields.items() if value is not None}
        if isinstance(fields, dict)
        else fields
    )
