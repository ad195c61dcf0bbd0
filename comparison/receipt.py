"""What a pane ends with: its answer, the steps before it, and the receipt of what really ran."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from backends.contract import FinishReason, Identity, Usage


@dataclass(frozen=True, slots=True)
class Receipt:
    """What really ran for one answer: the backend's own word, and the persona that made its prompt.

    Where the persona has steps, `identity` and `usage` are the last one's, and `steps` those before it.
    """

    identity: Identity
    usage: Usage
    persona: str | None
    persona_sha256: str | None
    persona_draft: bool = False
    """Whether it was one that has not been saved, in place of the stored one."""
    steps: tuple[StepDone, ...] = ()

    @property
    def total(self) -> Usage:
        """The tokens of all steps; the times are the last one's."""
        used = [self.usage, *(step.receipt.usage for step in self.steps)]
        prompts = [usage.prompt_tokens for usage in used if usage.prompt_tokens is not None]
        return dataclasses.replace(
            self.usage,
            prompt_tokens=sum(prompts) if len(prompts) == len(used) else None,
            completion_tokens=sum(usage.completion_tokens for usage in used),
            cached_tokens=sum(usage.cached_tokens for usage in used),
        )

    def as_dict(self) -> dict[str, Any]:
        """The receipt's fields in the order of the JSON that `ask --json` prints."""
        identity, usage = self.identity, self.usage
        sampling = dataclasses.asdict(identity.sampling)
        sampling["stop"] = list(sampling["stop"])
        sampling |= dict.fromkeys(identity.unsent)
        seed = sampling.pop("seed")
        fields = {
            "base": identity.base,
            "base_sha256": identity.base_sha256,
            "quantization": identity.quantization,
            "adapter": identity.adapter,
            "adapter_sha256": identity.adapter_sha256,
            "adapter_scale": identity.adapter_scale,
            "persona": self.persona,
            "persona_sha256": self.persona_sha256,
            "prompt": identity.prompt,
            "prompt_sha256": identity.prompt_sha256,
            "sampling": sampling,
            "seed": seed,
            "prompt_tokens": usage.prompt_tokens,
            "completion_tokens": usage.completion_tokens,
            "ttft_s": usage.ttft_s,
            "tokens_per_s": usage.tokens_per_s,
            "backend": identity.backend,
        }
        if identity.dtype is not None:
            fields["dtype"] = identity.dtype
        if self.persona_draft:
            fields["persona_draft"] = True
        if identity.server is not None:
            # What a server was sent stands for the prompt that it made of it.
            fields |= {"server": identity.server, "claimed": list(identity.claimed)}
            fields["messages"] = _sent(identity)
        if self.steps:
            fields["steps"] = [step.as_dict() for step in self.steps]
        return fields


@dataclass(frozen=True, slots=True)
class StepDone:
    """A step before the last has ended. `answer` is what the steps after it read, without the spaces around it."""

    name: str
    answer: str
    finish_reason: FinishReason
    receipt: Receipt

    def as_dict(self) -> dict[str, Any]:
        """What differs from step to step: the rest stands in the receipt of the answer."""
        identity, usage = self.receipt.identity, self.receipt.usage
        fields = {
            "name": self.name,
            "answer": self.answer,
            "finish_reason": self.finish_reason,
            "prompt_tokens": usage.prompt_tokens,
            "completion_tokens": usage.completion_tokens,
            "ttft_s": usage.ttft_s,
            "tokens_per_s": usage.tokens_per_s,
            "prompt": identity.prompt,
            "prompt_sha256": identity.prompt_sha256,
        }
        return fields if identity.server is None else {**fields, "messages": _sent(identity)}


@dataclass(frozen=True, slots=True)
class Answered:
    """A pane's answer is complete, or was stopped ("cancelled").

    `logprob` is the mean of its tokens' natural log-probabilities; None where nobody asked, or the backend told none.
    Of a chain that was stopped before its last step, `answer` and `receipt` are those of the step that ran last.
    """

    answer: str
    finish_reason: FinishReason
    receipt: Receipt
    logprob: float | None = None

    @property
    def steps(self) -> tuple[StepDone, ...]:
        """The steps before the one that gave the answer; none where the persona has no steps."""
        return self.receipt.steps


def _sent(identity: Identity) -> list[dict[str, Any]]:
    return [dict(message) for message in identity.messages or ()]
