"""What every backend takes and gives: requests in, events out.

A backend has one streaming method. Everything else here is the data that goes through it: plain frozen
dataclasses, cheap to import and safe to pickle to another process.
"""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypedDict

from errors import Busy, CounterpointError, WorkFailed

Role = Literal["system", "user", "assistant"]
FinishReason = Literal["stop", "length", "cancelled"]
Cause = Literal["input", "context", "adapter", "busy", "work"]


class Message(TypedDict):
    """One chat turn, in the shape that chat templates and the OpenAI API take."""

    role: Role
    content: str


class OutOfRange(CounterpointError):
    """Values of Sampling that cannot be; `field` names the first of them."""

    def __init__(self, message: str, field: str | None = None) -> None:
        super().__init__(message)
        self.field = field


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the next token is chosen. `temperature` 0 is greedy; `top_k` 0, `top_p` 1, `min_p` 0 are off.

    Filters are applied in the order of Transformers' generate: repetition penalty (over prompt and
    answer), temperature, top_k, top_p, min_p. Presence and frequency penalty are OpenAI's: taken off the
    logits of what the answer holds already, once and once for each time it is there.
    """

    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    seed: int = 0
    max_tokens: int = 256
    stop: tuple[str, ...] = ()
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0

    def __post_init__(self) -> None:
        """Raises OutOfRange that names every value out of range at once."""
        ranges: dict[str, tuple[float, float]] = {
            "temperature": (0.0, 5.0),
            "top_p": (0.0, 1.0),
            "top_k": (0, 1_000_000),
            "min_p": (0.0, 1.0),
            "repetition_penalty": (0.1, 10.0),
            "seed": (0, 2**63 - 1),
            "max_tokens": (1, 8192),
            "presence_penalty": (-2.0, 2.0),
            "frequency_penalty": (-2.0, 2.0),
        }
        problems: list[tuple[str, str]] = []
        for name, (low, high) in ranges.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
                limits = [f"{limit:g}" if isinstance(limit, float) else str(limit) for limit in (low, high)]
                problems.append((name, f"must lie between {' and '.join(limits)}, not {value!r}"))
            elif name in ("top_k", "seed", "max_tokens") and not isinstance(value, int):
                problems.append((name, f"must be a whole number, not {value!r}"))
        if self.top_p == 0:
            problems.append(("top_p", "must be above 0"))
        if not isinstance(self.stop, tuple) or not all(isinstance(text, str) for text in self.stop):
            problems.append(("stop", "must be a tuple of texts"))
        elif len(self.stop) > 16 or any(not text or len(text) > 200 for text in self.stop):
            problems.append(("stop", "takes at most 16 texts of 1 to 200 characters"))
        if problems:
            told = "; ".join(f"{name} {what}" for name, what in problems)
            raise OutOfRange(f"Sampling: {told}.", problems[0][0])


class PromptTooLong(CounterpointError):
    """A prompt that the base's context does not hold."""


class AdapterFault(CounterpointError):
    """An adapter that is of no use to anybody, whatever is asked: no effect, or values that are not finite."""


@dataclass(frozen=True, slots=True)
class AdapterSource:
    """A validated LoRA adapter on disk, ready for an engine to read.

    `scaling` maps each adapted module of the base ("model.layers.0.self_attn.q_proj") to
    lora_alpha / r, or lora_alpha / sqrt(r) where the adapter is rank-stabilised. `keys` maps each of them to
    the names of its A (r, in) and B (out, r) in the file; where it is empty these are the standard ones,
    "base_model.model.M.lora_A.weight" and "…lora_B.weight" for module M.
    """

    name: str
    weights: Path
    sha256: str
    scaling: Mapping[str, float]
    keys: Mapping[str, tuple[str, str]] = field(default_factory=dict)

    @property
    def version(self) -> str:
        """Tells apart whatever computes differently: the same weights at another scaling are another adapter."""
        told = json.dumps([self.sha256, dict(self.scaling), dict(self.keys)], sort_keys=True)
        return hashlib.sha256(told.encode()).hexdigest()

    def key_names(self, module: str) -> tuple[str, str]:
        """The names of this module's A and B in the file."""
        stem = f"base_model.model.{module}"
        return self.keys.get(module, (f"{stem}.lora_A.weight", f"{stem}.lora_B.weight"))


@dataclass(frozen=True, slots=True)
class Request:
    """One answer to compute. `id` is unique among the requests under way.

    `adapter` names an adapter that the backend knows; `adapter_scale` multiplies its trained strength.
    `top_logprobs` asks for each token's log-probability and those of so many likelier or equal ones (0 to 20).
    """

    id: str
    messages: tuple[Message, ...]
    sampling: Sampling = field(default_factory=Sampling)
    adapter: str | None = None
    adapter_scale: float = 1.0
    top_logprobs: int | None = None


@dataclass(frozen=True, slots=True)
class Identity:
    """What really computed an answer, told by the backend itself; None where it cannot know.

    `claimed` names the fields that are a server's word: nothing on this side proves them. `server` is its
    address. A server renders its prompt itself: then `prompt` is None and `messages` is what it was sent.
    """

    backend: str
    base: str
    base_sha256: str | None
    quantization: str | None
    adapter: str | None
    adapter_sha256: str | None
    adapter_scale: float | None
    prompt: str | None
    prompt_sha256: str | None
    sampling: Sampling
    server: str | None = None
    claimed: tuple[str, ...] = ()
    messages: tuple[Message, ...] | None = None
    dtype: str | None = None
    """What it computes in: "float32" or "bfloat16"."""
    unsent: tuple[str, ...] = ()
    """Fields of `sampling` that the server was not sent, since it does not know or take them: it does as it is set."""


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens and seconds of one answer, measured where it was computed.

    `cached_tokens` of the prompt's tokens were not read again. `ttft_s` runs from the request's arrival at
    the backend to its first token; `tokens_per_s` counts the tokens after the first over the time after it
    (None for a single token). A server that counts nothing leaves `prompt_tokens` None; its completion
    tokens are then the pieces it sent.
    """

    prompt_tokens: int | None
    completion_tokens: int
    cached_tokens: int
    ttft_s: float | None
    tokens_per_s: float | None


@dataclass(frozen=True, slots=True)
class Queued:
    """The request waits for a free row; `place` 1 is next."""

    request_id: str
    place: int


@dataclass(frozen=True, slots=True)
class Waiting:
    """Nothing new for about a second; `message` says why, where there is a reason to tell.

    Whoever reads a stream gets the word at least that often, and so can leave it.
    """

    request_id: str
    message: str = ""


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """A token of an answer, its natural log-probability before sampling's filters, and the likeliest in its place."""

    token: str
    logprob: float
    top: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Delta:
    """More of the answer. `completion_tokens` and the speed are totals so far.

    `logprobs` are of the tokens since the delta before, where the request asked for them.
    """

    request_id: str
    text: str
    completion_tokens: int
    ttft_s: float | None = None
    tokens_per_s: float | None = None
    logprobs: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True, slots=True)
class Done:
    """The answer is complete (or was stopped: "cancelled")."""

    request_id: str
    finish_reason: FinishReason
    usage: Usage
    identity: Identity


@dataclass(frozen=True, slots=True)
class Failed:
    """This request failed, in one line that names the mend; the others go on.

    `cause` is "input" for what is wrong with the request, "context" where its prompt is too long, "adapter" where
    its adapter is of no use to anybody, whatever is asked, "busy" where it may be asked again later, and "work"
    for what happened to the backend.
    """

    request_id: str
    message: str
    cause: Cause = "input"

    @classmethod
    def of(cls, request_id: str, error: CounterpointError) -> Failed:
        """What that error means for a request."""
        causes: tuple[tuple[type[CounterpointError], Cause], ...] = (
            (PromptTooLong, "context"),
            (AdapterFault, "adapter"),
            (Busy, "busy"),
            (WorkFailed, "work"),
        )
        cause: Cause = next((cause for kind, cause in causes if isinstance(error, kind)), "input")
        return cls(request_id, str(error), cause)


Event = Queued | Waiting | Delta | Done | Failed


@dataclass(frozen=True, slots=True)
class Status:
    """What a backend is doing. `progress` is 0 to 1 while loading, None where it cannot be told.

    `input_at_fault` is whether it failed for what it was asked to load, and not for what happened to it.
    """

    state: Literal["loading", "ready", "failed"]
    message: str
    progress: float | None = None
    input_at_fault: bool = False

    def refuse(self) -> None:
        """Raises WorkFailed, or another CounterpointError where the input is at fault, if this is "failed"."""
        if self.state == "failed":
            raise (CounterpointError if self.input_at_fault else WorkFailed)(self.message)


@dataclass(frozen=True, slots=True)
class Rendered:
    """Messages as the base will read them, through its own chat template.

    `typed` are the control tokens whose names stand in the messages: there they are text like any other.
    Where a server renders them out of our sight, `prompt` shows the messages, and nothing is counted.
    """

    prompt: str
    prompt_tokens: int | None
    context: int | None
    typed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class BaseFacts:
    """What must be known of a base before an adapter is trusted with it.

    `linears` maps each linear module's name to (out_features, in_features).
    """

    id: str
    folder: Path
    sha256: str
    languages: tuple[str, ...]
    linears: Mapping[str, tuple[int, int]]


AdapterResolver = Callable[[str], AdapterSource]


class Backend(ABC):
    """Computes answers. One method streams; the rest asks what it can do."""

    name: str
    is_elsewhere: bool = False
    """Whether a server computes its answers, over a network and perhaps paid by the token."""

    @abstractmethod
    def stream(self, requests: Sequence[Request]) -> Generator[Event, None, None]:
        """All requests at once; their events as they happen, until each is Done or Failed.

        Closing the iterator stops what is still under way. Raises CounterpointError where the backend as a
        whole refuses (queue full, failed to load); what concerns one request is its Failed event.
        """

    @abstractmethod
    def stop(self, request_ids: Sequence[str]) -> None:
        """Ends these requests within two tokens; each still gives its Done. Unknown ids are ignored."""

    @abstractmethod
    def status(self) -> Status:
        """What it is doing now, without waiting."""

    @abstractmethod
    def render(self, messages: Sequence[Message]) -> Rendered:
        """The exact prompt and its length in tokens. Raises CounterpointError where it can't tell."""

    @abstractmethod
    def probe(self, adapter: str) -> str | None:
        """Loads an adapter and says what is wrong with it (no effect, cannot be batched), or None."""

    def forget(self, adapter: str) -> None:
        """Frees an adapter that is not answering, so that its next answer loads it anew; of a backend that brings its own
        nothing is freed."""
        return None

    def base(self) -> str | None:
        """What its base model is called, as far as it is known without waiting."""
        return None

    def adapters(self, timeout: float = 0) -> tuple[str, ...] | None:
        """The names of the adapters that it brings itself, as far as it has told them within `timeout` seconds;
        None where those of this machine are loaded into it."""
        return None

    def wait(self, watch: Callable[[Status], None] = lambda status: None) -> None:
        """Returns once it can answer; `watch` is told how far it is. Raises CounterpointError if it never can."""
        self.status().refuse()

    @abstractmethod
    def close(self) -> None:
        """Frees what it holds; afterwards it refuses requests."""
