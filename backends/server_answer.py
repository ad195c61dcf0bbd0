"""One answer of a server that speaks the OpenAI API: what is asked for, what has arrived, what it amounts to."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field, fields
from typing import Any, NamedTuple

from backends.contract import (
    Delta,
    Done,
    Event,
    FinishReason,
    Identity,
    Request,
    Sampling,
    TokenLogprob,
    Usage,
)
from backends.served import LLAMA_CPP, OLLAMA, SGLANG, Offer
from backends.server_errors import readable

_NEEDED = frozenset({"model", "messages", "stream", "logprobs", "top_logprobs", "extra_body"})
_SAMPLING = frozenset(each.name for each in fields(Sampling))
NOT_OPENAIS = frozenset({"top_k", "min_p", "repetition_penalty"})
"""What of a sampling OpenAI's own API does not know."""
_LLAMA_CPPS_NAME = "repeat_penalty"
"""What llama.cpp's servers read where others read repetition_penalty."""
_THOUGHTS = ("reasoning_content", "reasoning")
"""Where models that think put what is not shown."""
_LARGEST_COUNT = 2**53
SLACK = 8
"""Pieces beyond max_tokens after which an answer is cut off: the server does not keep to it."""
LONGEST_TOKEN = 256
"""Characters of a token, at most, by which an answer in few large pieces is cut off."""
_LONGEST_MODEL = 200


class Counts(NamedTuple):
    """Tokens as the server counts them; None where it does not tell."""

    prompt: int | None = None
    completion: int | None = None
    cached: int | None = None
    reasoning: int | None = None
    """Of those of the answer, the ones that are not shown."""


@dataclass(slots=True)
class ServerAnswer:
    """What has arrived of one answer. Seconds are `time.monotonic`'s."""

    request: Request
    began: float
    offer: Offer | None = None
    model: str = ""
    pieces: int = 0
    arrived: int = 0
    """Pieces, and thoughts: these are not shown, but count towards the end as well."""
    characters: int = 0
    first: float | None = None
    last: float | None = None
    reason: FinishReason | None = None
    counts: Counts = field(default_factory=Counts)
    has_logprobs: bool = False
    is_filtered: bool = False
    said_model: str | None = None
    left_out: set[str] = field(default_factory=set)
    """Parameters that the server refused by name."""
    unsent: set[str] = field(default_factory=set)
    """Fields of the request's sampling that it was not sent."""

    @property
    def over(self) -> bool:
        """Whether the server goes on past the end that was asked for."""
        if self.arrived <= self._most and self.characters < self._most * LONGEST_TOKEN:
            return False
        self.reason = "length"
        return True

    @property
    def _most(self) -> int:
        return self.request.sampling.max_tokens + SLACK

    @property
    def ttft_s(self) -> float | None:
        return None if self.first is None else self.first - self.began

    @property
    def tokens(self) -> int:
        return self.pieces if self.counts.completion is None else self.counts.completion

    @property
    def tokens_per_s(self) -> float | None:
        """Of what is shown; None where thoughts that are not shown, and not counted, took a part of the time."""
        shown = self.tokens - (self.counts.reasoning or 0)
        hidden = self.arrived > self.pieces + SLACK and not self.counts.reasoning
        if hidden or shown < 2 or self.first is None or self.last is None or self.last <= self.first:
            return None
        return (shown - 1) / (self.last - self.first)

    def leave_out(self, refused: Collection[str], asked: dict[str, Any]) -> bool:
        """Whether to ask again without the parameters that the server refuses; the receipt then says so.

        Log-probabilities are not left out: who asks for them would wait for them in vain.
        """
        sent = (asked.keys() | asked.get("extra_body", {}).keys()) - _NEEDED
        left_out = sent.intersection(refused)
        self.left_out |= left_out
        sampled = {"repetition_penalty" if name == _LLAMA_CPPS_NAME else name for name in left_out}
        self.unsent |= sampled & _SAMPLING
        return bool(left_out)

    def begin(self) -> None:
        """Forgets what came of an earlier try, which broke off before anything of it was shown: thoughts, mostly."""
        self.arrived = self.characters = 0
        self.reason = self.said_model = None
        self.counts = Counts()

    def take(self, chunk: Any, tell: Callable[[Event], None]) -> bool:
        """One event of the server's stream; whether it says anything of the answer, its thoughts or its end.

        Raises what NONSENSE names for what is no such event.
        """
        self.counts = _counts(getattr(chunk, "usage", None)) or self.counts
        self.said_model = readable(getattr(chunk, "model", None) or "")[:_LONGEST_MODEL] or self.said_model
        choices = getattr(chunk, "choices", None)
        if not choices:
            return False
        choice = choices[0]
        said = getattr(choice.delta, "content", None) or getattr(choice.delta, "refusal", None)
        text = readable(said or "")[: self._most * LONGEST_TOKEN - self.characters]
        self.characters += len(text)
        logprobs = _logprobs(choice)
        if text or logprobs:
            # A token may have a probability and no text: the first part of a character, or the end.
            self.pieces += 1
            self.has_logprobs |= bool(logprobs)
            self.last = time.monotonic()
            self.first = self.first or self.last
            tell(Delta(self.request.id, text, self.pieces, self.ttft_s, self.tokens_per_s, logprobs))
        says = bool(text or logprobs) or any(getattr(choice.delta, name, None) for name in _THOUGHTS)
        self.arrived += says
        if choice.finish_reason and self.reason is None:
            says = True
            self.is_filtered = choice.finish_reason == "content_filter"
            self.reason = "length" if choice.finish_reason == "length" else "stop"
        return says

    def done(self, backend: str, url: str) -> Done:
        request, counts = self.request, self.counts
        usage = Usage(
            prompt_tokens=counts.prompt,
            completion_tokens=self.tokens,
            cached_tokens=counts.cached or 0,
            ttft_s=self.ttft_s,
            tokens_per_s=self.tokens_per_s,
        )
        told = {"prompt_tokens": counts.prompt, "completion_tokens": counts.completion}
        claimed = (
            "base",
            *(("adapter", "adapter_scale") if request.adapter else ()),
            "sampling",
            *(name for name, count in told.items() if count is not None),
        )
        identity = Identity(
            backend=backend,
            base=self.offer.base_name if self.offer else "",
            base_sha256=None,
            quantization=None,
            adapter=request.adapter,
            adapter_sha256=None,
            adapter_scale=1.0 if request.adapter else None,
            prompt=None,
            prompt_sha256=None,
            sampling=self.request.sampling,
            server=f"{url}, model {self.said_model or self.model}" + self._without(),
            claimed=claimed,
            messages=request.messages,
            unsent=tuple(sorted(self.unsent)),
        )
        return Done(request.id, self.reason or "stop", usage, identity)

    def _without(self) -> str:
        told = sorted(self.left_out - {"stream_options", "max_completion_tokens"})
        return f", which does not take {', '.join(told)}" if told else ""


def parameters(request: Request, answer: ServerAnswer, extended: bool) -> dict[str, Any]:
    sampling = request.sampling
    owner = answer.offer.owner if answer.offer else None
    told: dict[str, Any] = {
        "model": answer.model,
        "messages": list(request.messages),
        "stream": True,
        "stream_options": {"include_usage": True},
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "seed": sampling.seed,
    }
    # OpenAI's newer models refuse the old name; one's own servers know it for certain.
    old_name = extended or owner == OLLAMA or "max_completion_tokens" in answer.left_out
    told["max_tokens" if old_name else "max_completion_tokens"] = sampling.max_tokens
    if sampling.stop:
        told["stop"] = list(sampling.stop)
    for name in ("presence_penalty", "frequency_penalty"):
        if getattr(sampling, name):
            told[name] = getattr(sampling, name)
    if request.top_logprobs is not None:
        told |= {"logprobs": True, "top_logprobs": request.top_logprobs}
    if extended:
        extra = {"min_p": sampling.min_p, "repetition_penalty": sampling.repetition_penalty}
        # Unsent it would be as the model's generation_config says; SGLang refuses the 0 that is off elsewhere.
        extra["top_k"] = -1 if owner == SGLANG and not sampling.top_k else sampling.top_k
        extra |= {_LLAMA_CPPS_NAME: sampling.repetition_penalty} if owner in LLAMA_CPP else {}
        told["extra_body"] = {name: value for name, value in extra.items() if name not in answer.left_out}
    return {name: value for name, value in told.items() if name not in answer.left_out}


def _counts(usage: Any) -> Counts | None:
    """What a server tells of its tokens; None where that is nothing. What is no count is not told."""
    if usage is None:
        return None

    def count(of: Any, name: str) -> int | None:
        value = getattr(of, name, None)
        is_count = isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _LARGEST_COUNT
        return value if is_count else None

    return Counts(
        count(usage, "prompt_tokens"),
        count(usage, "completion_tokens"),
        count(getattr(usage, "prompt_tokens_details", None), "cached_tokens"),
        count(getattr(usage, "completion_tokens_details", None), "reasoning_tokens"),
    )


def _logprobs(choice: Any) -> tuple[TokenLogprob, ...]:
    content = getattr(getattr(choice, "logprobs", None), "content", None) or ()
    return tuple(
        TokenLogprob(
            readable(item.token),
            _finite(item.logprob),
            # An alternative that cannot be is told as one of minus infinity, or of none.
            tuple(
                (readable(other.token), other.logprob)
                for other in item.top_logprobs or ()
                if other.logprob is not None and math.isfinite(other.logprob)
            ),
        )
        for item in content
    )


def _finite(logprob: float) -> float:
    if not math.isfinite(logprob):
        raise ValueError("no probability")
    return logprob
