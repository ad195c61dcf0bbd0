"""Choosing each row's next token, with the row's own rules and its own source of randomness."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from backends.contract import Sampling

CANDIDATES = 256
"""Most likely tokens looked at first; a row whose filters could reach further is done over the whole vocabulary."""
GREEDY_BELOW = 1e-5
"""A lower temperature takes the maximum: logits divided by it could overflow, and drawing would say the same."""


TokenId = int
Likely = tuple[float, list[tuple[TokenId, float]]]
"""A chosen token's log-probability, and the likeliest tokens in its place with theirs."""


class Chooser:
    """One row's state between tokens: what it has seen (for the penalties), its generator, and what was likely.

    `likely` has an entry for each token where `top_logprobs` asks for so many of them: of the model's own
    distribution, before penalties and filters.
    """

    def __init__(
        self, sampling: Sampling, prompt: Sequence[int], vocabulary: int, top_logprobs: int | None = None
    ):
        self.sampling = sampling
        self.top_logprobs = top_logprobs
        self.likely: list[Likely] = []
        self.generator = torch.Generator().manual_seed(sampling.seed)
        self.seen: torch.Tensor | None = None
        if sampling.repetition_penalty != 1:
            self.seen = torch.zeros(vocabulary, dtype=torch.bool)
            self.seen[torch.tensor(prompt, dtype=torch.long)] = True
        self.counts: torch.Tensor | None = None
        if sampling.presence_penalty or sampling.frequency_penalty:
            self.counts = torch.zeros(vocabulary)

    def note(self, token: int) -> None:
        """The row's answer now holds this token."""
        if self.seen is not None:
            self.seen[token] = True
        if self.counts is not None:
            self.counts[token] += 1


def choose(logits: torch.Tensor, choosers: Sequence[Chooser]) -> list[int]:
    """The next token of each row. logits: (rows, vocabulary), changed in place.

    Greedy rows (temperature below `GREEDY_BELOW`) take the maximum. The others draw by the inverse of the
    cumulative distribution with one uniform number of the row's generator, so that a row's draw does not depend
    on its neighbours'.
    """
    logits = logits.float()
    raw = {
        row: torch.log_softmax(logits[row], -1)
        for row, chooser in enumerate(choosers)
        if chooser.top_logprobs is not None
    }
    for row, chooser in enumerate(choosers):
        if chooser.seen is not None:
            _penalize(logits[row], chooser.seen, chooser.sampling.repetition_penalty)
        if chooser.counts is not None:
            _lower(logits[row], chooser.counts, chooser.sampling)
    tokens: list[int] = logits.argmax(-1).tolist()
    for row, chooser in enumerate(choosers):
        if chooser.sampling.temperature >= GREEDY_BELOW:
            tokens[row] = _draw(logits[row], chooser)
    for row, logprobs in raw.items():
        choosers[row].likely.append(_likely(logprobs, tokens[row], choosers[row].top_logprobs or 0))
    return tokens


def _likely(logprobs: torch.Tensor, token: TokenId, top: int) -> Likely:
    values, indices = logprobs.topk(top)
    return float(logprobs[token]), list(zip(indices.tolist(), values.tolist(), strict=True))


def _penalize(logits: torch.Tensor, seen: torch.Tensor, penalty: float) -> None:
    """Tokens already there become less likely (Keskar et al. 2019, CTRL, section 4.1; as in Transformers)."""
    index = seen.nonzero().squeeze(-1)
    values = logits[index]
    logits[index] = torch.where(values < 0, values * penalty, values / penalty)


def _lower(logits: torch.Tensor, counts: torch.Tensor, sampling: Sampling) -> None:
    """OpenAI's penalties: mu[j] - c[j] * frequency - (c[j] > 0) * presence (its API's guide, "Parameter details")."""
    logits -= counts * sampling.frequency_penalty + (counts > 0) * sampling.presence_penalty


def _draw(logits: torch.Tensor, chooser: Chooser) -> int:
    sampling = chooser.sampling
    scaled = logits.double() / sampling.temperature
    uniform = torch.rand((), generator=chooser.generator, dtype=torch.float64).item()
    if sampling.top_k == 0 and sampling.top_p == 1 and sampling.min_p == 0:
        return _inverse(torch.exp(scaled - scaled.max()), uniform)
    total = torch.logsumexp(scaled, -1)
    values, indices = scaled.topk(min(max(CANDIDATES, sampling.top_k), len(scaled)))
    kept = _kept(values, total, sampling, whole=len(values) == len(scaled))
    if kept is None:
        values, indices = scaled.sort(descending=True)
        kept = _kept(values, total, sampling, whole=True)
    return int(indices[_inverse(torch.exp(values[:kept] - values[0]), uniform)])


def _inverse(weights: torch.Tensor, uniform: float) -> int:
    """The place where the cumulative weights (n,) pass `uniform` (0 to 1) of their sum."""
    cumulative = weights.cumsum(0)
    place = int(torch.searchsorted(cumulative, uniform * cumulative[-1], right=True))
    return min(place, len(weights) - 1)


def _kept(values: torch.Tensor, total: torch.Tensor, sampling: Sampling, whole: bool) -> int | None:
    """How many of the most likely tokens stay, or None where `values` may be too few to tell.

    values: scaled logits, descending; `whole` if they are the whole vocabulary; total: the log of the sum of
    all their exponentials. In the order of Transformers: top_k, then top_p over what is left (Holtzman et
    al. 2020: the smallest set whose probability reaches top_p), then min_p (Nguyen et al. 2024: at least
    min_p times the most likely one's probability).
    """
    kept = len(values)
    if 0 < sampling.top_k <= kept:
        # Transformers also keeps ties with the last of them; a draw from k tokens is what the name says.
        kept, whole = sampling.top_k, True
        total = torch.logsumexp(values[:kept], -1)
    if sampling.top_p < 1:
        reached = torch.exp(values[:kept] - total).cumsum(0) >= sampling.top_p
        if bool(reached[-1]):
            kept, whole = int(reached.int().argmax()) + 1, True
    if sampling.min_p > 0:
        likely = torch.exp(values[:kept] - values[0]) >= sampling.min_p
        if not bool(likely[-1]):
            kept, whole = int(likely.sum()), True
    return kept if whole else None
