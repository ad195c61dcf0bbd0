"""One chat completion: from what a client asks to requests of a backend, and from its events to OpenAI's objects."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import secrets
import time
from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

from api.draw import draw
from api.errors import NoSuchModel, WrongField
from api.metrics import Metrics
from api.schema import ChatRequest
from backends.contract import Backend, Delta, Done, Event, Failed, PromptTooLong, Request, TokenLogprob
from comparison.chain import Chain, Told
from comparison.live import Comparison, Pane, check_question
from comparison.modes import ModeId
from comparison.receipt import Answered
from errors import Busy, CounterpointError, WorkFailed

SERVERS_TELL_S = 2.0
"""How long a request waits for what a server has, where that is not known yet."""


@dataclass
class Completion:
    """A completion under way: `n` choices, which begin in one call to the backend. Where a persona has steps, the
    client gets the last one's text and pays for all."""

    asked: ChatRequest
    backend: Backend
    chains: tuple[Chain, ...]
    metrics: Metrics
    id: str = ""
    began: float = field(default_factory=time.monotonic)
    created: int = field(default_factory=lambda: int(time.time()))
    ended: dict[int, Answered] = field(default_factory=dict)
    written: dict[str, int] = field(default_factory=dict)
    """Tokens so far, by request: they were computed, whether or not somebody waits for the end."""

    def __post_init__(self) -> None:
        self.id = f"chatcmpl-{self.chains[0].call.id.rpartition('/')[0]}"
        self._numbers = {chain.call.id: number for number, chain in enumerate(self.chains)}
        self._told: list[tuple[int, Told]] = []
        self._first_s: dict[int, float] = {}

    @classmethod
    def of(cls, asked: ChatRequest, comparison: Comparison, metrics: Metrics) -> Completion:
        """Raises NoSuchModel, or another CounterpointError for what cannot be asked."""
        try:
            mode = ModeId.parse(asked.model)
            comparison.catalogue.check(mode, SERVERS_TELL_S)
        except WorkFailed:
            raise
        except CounterpointError as error:
            raise NoSuchModel(f"{error} /v1/models lists the modes.") from None
        pane, question = _conversation(asked, mode)
        run, drawn, top = secrets.token_hex(12), secrets.randbelow(2**31), asked.wanted_logprobs
        chains = []
        for number in range(asked.n):
            seed = (int(pane.sampling.get("seed", drawn)) + number) % 2**63
            one = dataclasses.replace(pane, sampling={**pane.sampling, "seed": seed})
            chains.append(comparison.chain(f"{run}/{number}", question, one, drawn, top))
        return cls(asked, comparison.backend(pane), tuple(chains), metrics)

    def stop(self) -> None:
        """Ends it within two tokens: nobody waits any more."""
        self.backend.stop([chain.stop() for chain in self.chains])

    async def events(self) -> AsyncGenerator[tuple[int, Delta | Answered], None]:
        """(choice, event) as they come. Raises CounterpointError at the first choice that fails."""
        outcome = "left"
        try:
            first = [chain.call for chain in self.chains]
            async with aclosing(draw(self.backend, first, self._take)) as drawn:
                async for _ in drawn:
                    told, self._told = self._told, []
                    for number, event in told:
                        if isinstance(event, Failed):
                            raise _error(event)
                        if isinstance(event, Delta | Answered):
                            yield number, event
            outcome = "left" if self._cancelled else "answered"
        except CounterpointError as error:
            outcome = Failed.of("", error).cause
            raise
        finally:
            self.metrics.ended(self.asked.model, outcome, sum(self.written.values()))

    def _take(self, event: Event) -> Request | None:
        """Counts an event and keeps what it tells the client; the call to be made because of it."""
        number = self._numbers[event.request_id]
        chain = self.chains[number]
        if isinstance(event, Delta):
            self.written[event.request_id] = event.completion_tokens
        elif isinstance(event, Done):
            self.written[event.request_id] = event.usage.completion_tokens
        is_shown, seconds = chain.is_last, time.monotonic() - self.began
        told, following = chain.take(event)
        for each in told:
            if isinstance(each, Delta):
                if not is_shown:
                    continue
                self._first_s.setdefault(number, seconds)
            elif isinstance(each, Answered):
                self.ended[number] = each
                if each.finish_reason != "cancelled":
                    usage = each.receipt.total
                    if each.steps:
                        usage = dataclasses.replace(usage, ttft_s=self._first_s.get(number))
                    self.metrics.answered(self.asked.model, usage, seconds)
            self._told.append((number, each))
        if following:
            self._numbers[following.id] = number
        return following

    @property
    def _cancelled(self) -> bool:
        return any(ended.finish_reason == "cancelled" for ended in self.ended.values())

    # --- OpenAI's objects

    async def whole(self) -> dict[str, Any]:
        """The chat.completion object, once every choice is complete."""
        texts: dict[int, list[str]] = {number: [] for number in range(self.asked.n)}
        tokens: dict[int, list[TokenLogprob]] = {number: [] for number in range(self.asked.n)}
        async with aclosing(self.events()) as events:
            async for number, event in events:
                if isinstance(event, Delta):
                    texts[number].append(event.text)
                    tokens[number] += event.logprobs
        choices = [
            {
                "index": number,
                "message": {"role": "assistant", "content": "".join(texts[number]), "refusal": None},
                "logprobs": _logprobs(tokens[number]) if self.asked.logprobs else None,
                "finish_reason": _reason(self.ended[number]),
            }
            for number in range(self.asked.n)
        ]
        return {**self._head("chat.completion"), "choices": choices, "usage": self._usage()}

    async def chunks(self) -> AsyncGenerator[dict[str, Any], None]:
        """The chat.completion.chunk objects in their order."""
        options = self.asked.stream_options
        with_usage = bool(options and options.include_usage)
        head = self._head("chat.completion.chunk")
        begun: set[int] = set()

        def chunk(
            number: int, delta: dict[str, Any], reason: str | None, logprobs: Any = None
        ) -> dict[str, Any]:
            choice = {"index": number, "delta": delta, "logprobs": logprobs, "finish_reason": reason}
            return {**head, "choices": [choice], **({"usage": None} if with_usage else {})}

        async with aclosing(self.events()) as events:
            async for number, event in events:
                if number not in begun:
                    begun.add(number)
                    yield chunk(number, {"role": "assistant", "content": ""}, None)
                if isinstance(event, Delta):
                    if event.text or event.logprobs:
                        told = _logprobs(event.logprobs) if self.asked.logprobs else None
                        yield chunk(number, {"content": event.text}, None, told)
                else:
                    head["system_fingerprint"] = self._fingerprint()
                    yield chunk(number, {}, _reason(event))
        if with_usage:
            yield {**head, "choices": [], "usage": self._usage()}

    def _head(self, kind: str) -> dict[str, Any]:
        return {
            "id": self.id,
            "object": kind,
            "created": self.created,
            "model": self.asked.model,
            "system_fingerprint": self._fingerprint(),
        }

    def _fingerprint(self) -> str | None:
        """Changes with whatever computed the answer: base, quantization, adapter and its strength, persona."""
        if not self.ended:
            return None
        receipt = next(iter(self.ended.values())).receipt
        identity = receipt.identity
        told = [
            identity.base,
            identity.base_sha256,
            identity.quantization,
            identity.dtype,
            identity.adapter,
            identity.adapter_sha256,
            identity.adapter_scale,
            receipt.persona_sha256,
        ]
        return "fp_" + hashlib.sha256(json.dumps(told).encode()).hexdigest()[:16]

    def _usage(self) -> dict[str, Any] | None:
        """The prompt is counted once, as OpenAI does, however many choices it has; None where nobody counted it."""
        used = [ended.receipt.total for ended in self.ended.values()]
        prompts = [usage.prompt_tokens for usage in used if usage.prompt_tokens is not None]
        if not prompts:
            return None
        written = sum(usage.completion_tokens for usage in used)
        return {
            "prompt_tokens": max(prompts),
            "completion_tokens": written,
            "total_tokens": max(prompts) + written,
            "prompt_tokens_details": {"cached_tokens": max(usage.cached_tokens for usage in used)},
        }


def _conversation(asked: ChatRequest, mode: ModeId) -> tuple[Pane, str]:
    """The pane and the question that a client's messages are. Raises WrongField where they are none."""
    messages = [turn.message for turn in asked.messages]
    if messages[-1]["role"] != "user":
        raise WrongField("messages: the last one must be the user's.", "messages")
    system = [message["role"] == "system" for message in messages]
    if any(system[1:]):
        raise WrongField("messages: there may be one system message, and it comes first.", "messages")
    if system[0] and mode.persona:
        raise WrongField(
            f"messages: persona:{mode.persona} brings the system message itself. Leave yours out, or ask a model "
            "without a persona.",
            "messages",
        )
    question = messages[-1]["content"]
    try:
        check_question(question)
    except CounterpointError as error:
        raise WrongField(f"messages: {error}", "messages") from None
    return Pane(asked.model, tuple(messages[:-1]), sampling=asked.sampling), question


def _error(failed: Failed) -> CounterpointError:
    kinds: dict[str, type[CounterpointError]] = {"context": PromptTooLong, "busy": Busy, "work": WorkFailed}
    return kinds.get(failed.cause, CounterpointError)(failed.message)


def _reason(ended: Answered) -> str:
    return "length" if ended.finish_reason == "length" else "stop"


def _logprobs(tokens: Iterable[TokenLogprob]) -> dict[str, Any]:
    def told(token: str, logprob: float) -> dict[str, Any]:
        # A token that is part of a character decodes to U+FFFD: which bytes it stands for is not known then.
        known = "\N{REPLACEMENT CHARACTER}" not in token
        return {"token": token, "logprob": logprob, "bytes": list(token.encode()) if known else None}

    content = [
        {
            **told(token.token, token.logprob),
            "top_logprobs": [told(other, logprob) for other, logprob in token.top],
        }
        for token in tokens
    ]
    return {"content": content, "refusal": None}


def event_bytes(data: Any) -> bytes:
    """A server-sent event."""
    return b"data: " + json.dumps(data, ensure_ascii=False, separators=(",", ":")).encode() + b"\n\n"


END = b"data: [DONE]\n\n"
