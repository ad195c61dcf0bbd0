"""Checks that hold a figure of the answer against a threshold: its likeness to a reference, its cost, its time."""

from __future__ import annotations

import functools
import math
from typing import Any

from rapidfuzz.distance import Levenshtein

from comparison.checks.check import Answer, CannotGrade, Check, Grade, Tools
from comparison.checks.plain import texts


def levenshtein(check: Check, answer: Answer, tools: Tools) -> Grade:
    """At most so many single-character edits apart (Levenshtein 1966)."""
    return _at_most(check, Levenshtein.distance(answer.text, str(check.value)), "edits")


def rouge_n(check: Check, answer: Answer, tools: Tools) -> Grade:
    """ROUGE-1's F measure (Lin 2004): the words that answer and reference share."""
    score = _rouge().score(str(check.value), answer.text)["rouge1"].fmeasure
    return _at_least(check, float(score), "ROUGE-1")


def bleu(check: Check, answer: Answer, tools: Tools) -> Grade:
    """A sentence's BLEU (Papineni et al. 2002), 0 to 1, against one reference or several, in any case of letters, of
    as many orders of n-grams as the sentence has (sacreBLEU's effective order)."""
    score = _bleu().sentence_score(answer.text, texts(check.value)).score / 100
    return _at_least(check, min(1.0, score), "BLEU")


def similar(check: Check, answer: Answer, tools: Tools) -> Grade:
    """The cosine of the embeddings of answer and reference; of several references the best."""
    if tools.similarity is None:
        raise CannotGrade("there is no embedding model to compare with")
    return _at_least(
        check, max(tools.similarity(answer.text, one) for one in texts(check.value)), "similarity"
    )


def perplexity(check: Check, answer: Answer, tools: Tools) -> Grade:
    """How surprised the model was by its own answer: the exponential of its tokens' mean negative log-probability."""
    if answer.logprob is None:
        raise CannotGrade("the backend told no log-probabilities")
    return _at_most(check, math.exp(min(-answer.logprob, 700)), "perplexity")


def latency(check: Check, answer: Answer, tools: Tools) -> Grade:
    """Milliseconds of the whole answer, asked alone."""
    if answer.latency_ms is None:
        raise CannotGrade("the answer's time alone was not measured")
    return _at_most(check, answer.latency_ms, "ms")


def cost(check: Check, answer: Answer, tools: Tools) -> Grade:
    """Money for the answer, by the prices that were given."""
    if answer.cost is None:
        raise CannotGrade("no prices were given")
    return _at_most(check, answer.cost, "of cost")


def no_references(value: Any) -> str | None:
    wrong = not value if isinstance(value, list | tuple) else not isinstance(value, str)
    if wrong or (not isinstance(value, str) and not all(isinstance(one, str) for one in value)):
        return "needs a text, or a list of texts, as its value"
    return None


def no_value(value: Any) -> str | None:
    return None if value is None else "takes no value, only a threshold"


def _at_least(check: Check, figure: float, what: str) -> Grade:
    passed = figure >= check.limit
    return Grade(
        passed, max(0.0, min(1.0, figure)), f"{figure:.2f} {what}, and {check.limit:g} is the threshold"
    )


def _at_most(check: Check, figure: float, what: str) -> Grade:
    passed = figure <= check.limit
    return Grade(passed, float(passed), f"{figure:.4g} {what}, and {check.limit:g} is the threshold")


@functools.cache
def _rouge() -> Any:
    from rouge_score.rouge_scorer import RougeScorer  # takes seconds

    return RougeScorer(["rouge1"])


@functools.cache
def _bleu() -> Any:
    from sacrebleu.metrics import BLEU

    return BLEU(lowercase=True, effective_order=True)
