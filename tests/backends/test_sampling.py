"""Sampling keeps what Transformers keeps, and draws by the probabilities that are left."""

from __future__ import annotations

import pytest
import torch
from transformers import (
    LogitsProcessorList,
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from backends.contract import Sampling
from backends.local.sampling import Chooser, choose
from errors import CounterpointError

VOCABULARY = 500


def logits(seed: int) -> torch.Tensor:
    return torch.randn(VOCABULARY, generator=torch.Generator().manual_seed(seed)) * 3


def reference(scores: torch.Tensor, prompt: list[int], sampling: Sampling) -> torch.Tensor:
    """The probabilities (VOCABULARY,) that Transformers samples from."""
    warpers = LogitsProcessorList([RepetitionPenaltyLogitsProcessor(sampling.repetition_penalty)])
    warpers.append(TemperatureLogitsWarper(sampling.temperature))
    if sampling.top_k:
        warpers.append(TopKLogitsWarper(sampling.top_k))
    if sampling.top_p < 1:
        warpers.append(TopPLogitsWarper(sampling.top_p))
    if sampling.min_p:
        warpers.append(MinPLogitsWarper(sampling.min_p))
    return warpers(torch.tensor([prompt]), scores[None].clone())[0].softmax(-1)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"top_k": 5},
        {"top_k": 300},
        {"top_p": 0.8},
        {"top_p": 0.999999},
        {"min_p": 0.1},
        {"top_k": 50, "top_p": 0.9, "min_p": 0.02, "repetition_penalty": 1.4},
    ],
)
@pytest.mark.parametrize("temperature", [0.3, 1.0, 4.0])
def test_draws_follow_the_distribution_of_transformers(settings: dict, temperature: float) -> None:
    sampling = Sampling(temperature=temperature, seed=5, **settings)
    scores, prompt = logits(1), [int(logits(1).argmax()), 3]
    expected = reference(scores, prompt, sampling)
    chooser = Chooser(sampling, prompt, VOCABULARY)
    draws = 1_500
    counts = torch.zeros(VOCABULARY)
    for _ in range(draws):
        counts[choose(scores[None].clone(), [chooser])[0]] += 1
    assert float(expected[counts > 0].min()) > 0, "nothing that Transformers filters out may be drawn"
    # Chi-square over the tokens that are expected often enough; 5 standard deviations above its mean.
    likely = expected * draws >= 10
    statistic = float(((counts - expected * draws)[likely] ** 2 / (expected * draws)[likely]).sum())
    freedom = max(int(likely.sum()) - 1, 1)
    assert statistic < freedom + 5 * (2 * freedom) ** 0.5 + 5


def test_a_rows_draws_do_not_depend_on_its_neighbours() -> None:
    def draws(count: int) -> list[int]:
        choosers = [Chooser(Sampling(temperature=1.0, seed=row), [0], VOCABULARY) for row in range(count)]
        return [
            choose(torch.stack([logits(row + step) for row in range(count)]), choosers)[0]
            for step in range(20)
        ]

    assert draws(1) == draws(6)


def test_every_value_out_of_range_is_named_at_once() -> None:
    with pytest.raises(CounterpointError, match=r"temperature .*top_p .*max_tokens"):
        Sampling(temperature=-1, top_p=2, max_tokens=0)


def test_a_value_that_is_no_number_is_refused() -> None:
    with pytest.raises(CounterpointError, match="temperature"):
        Sampling(temperature=float("nan"))


@pytest.mark.parametrize("wrong", [{"seed": 1.5}, {"max_tokens": 2.0}, {"stop": ["a"]}, {"stop": (1,)}])
def test_a_value_of_the_wrong_type_is_refused(wrong: dict) -> None:
    with pytest.raises(CounterpointError, match=next(iter(wrong))):
        Sampling(**wrong)


def test_presence_and_frequency_penalties_are_openais_formula() -> None:
    sampling = Sampling(presence_penalty=0.5, frequency_penalty=1.5)
    chooser = Chooser(sampling, [7], VOCABULARY)
    for token in (3, 3, 9):
        chooser.note(token)
    scores = logits(2)
    expected = scores.clone()
    expected[3] -= 2 * 1.5 + 0.5
    expected[9] -= 1.5 + 0.5
    given = scores[None].clone()
    choose(given, [chooser])
    assert torch.allclose(given[0], expected), "the prompt's own tokens are not counted"


def test_log_probabilities_are_the_models_own_before_penalties_and_filters() -> None:
    scores = logits(4)
    favourite = int(scores.argmax())
    sampling = Sampling(temperature=0.5, top_k=3, presence_penalty=2.0, seed=1)
    chooser = Chooser(sampling, [0], VOCABULARY, top_logprobs=2)
    chooser.note(favourite)
    token = choose(scores[None].clone(), [chooser])[0]
    expected = scores.log_softmax(-1)
    ((logprob, likeliest),) = chooser.likely
    assert logprob == pytest.approx(float(expected[token]))
    assert likeliest[0] == (favourite, pytest.approx(float(expected[favourite])))
    assert len(likeliest) == 2


@pytest.mark.parametrize("temperature", [5e-324, 1e-310, 1e-308, 1e-6])
@pytest.mark.parametrize("filters", [{}, {"top_k": 5}, {"top_p": 0.9}, {"min_p": 0.1}])
def test_a_temperature_near_0_takes_the_likeliest_token(temperature: float, filters: dict) -> None:
    sampling = Sampling(temperature=temperature, seed=2, **filters)
    for seed in range(5):
        scores = logits(seed)
        assert choose(scores[None].clone(), [Chooser(sampling, [0], VOCABULARY)]) == [int(scores.argmax())]
    assert sampling.temperature == temperature
