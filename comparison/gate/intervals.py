"""95 % intervals of the gate's figures, by SciPy's bootstrap and statsmodels' intervals for shares."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from scipy import stats
from statsmodels.stats.proportion import confint_proportions_2indep, proportion_confint

from adapters.verdict import Figure

_RESAMPLES = 2000
_FEWEST = 3
"""Of fewer rows no interval is told: resampling two values says nothing."""

Values = Sequence[float]


def mean(values: Values) -> Figure:
    """The mean over rows."""
    return _bootstrap((values,), np.mean)


def ratio(above: Values, below: Values) -> Figure:
    """The sum of `above` over that of `below`; each row has both."""

    def divided(a: Any, b: Any, axis: int = -1) -> Any:
        return np.sum(a, axis=axis) / np.sum(b, axis=axis)

    return _bootstrap((above, below), divided)


def difference(values: Values, others: Values) -> Figure:
    """The mean of `values` less that of `others`; each row has both."""
    return mean([a - b for a, b in zip(values, others, strict=True)])


def gap(values: Values, others: Values) -> Figure:
    """The mean of `values` less that of `others`, which are other rows."""

    def apart(a: Any, b: Any, axis: int = -1) -> Any:
        return np.mean(a, axis=axis) - np.mean(b, axis=axis)

    return _bootstrap((values, others), apart, paired=False)


def share(hits: Sequence[bool]) -> Figure:
    """The share of true ones, with Wilson's interval (Wilson 1927)."""
    low, high = proportion_confint(sum(hits), len(hits), method="wilson")
    return _figure(sum(hits) / len(hits), float(low), float(high), len(hits))


def share_gap(hits: Sequence[bool], others: Sequence[bool]) -> Figure:
    """The share of `hits` less that of `others`, which are other rows, with Newcombe's interval (Newcombe 1998,
    method 10). `n` is the smaller of both."""
    low, high = confint_proportions_2indep(sum(hits), len(hits), sum(others), len(others), method="newcomb")
    value = sum(hits) / len(hits) - sum(others) / len(others)
    return _figure(value, float(low), float(high), min(len(hits), len(others)))


def size(figure: Figure) -> Figure:
    """The figure without its sign."""
    if figure.low is None or figure.high is None:
        return figure.model_copy(update={"value": abs(figure.value)})
    ends = sorted((abs(figure.low), abs(figure.high)))
    low = 0.0 if figure.low <= 0 <= figure.high else ends[0]
    return _figure(abs(figure.value), low, ends[1], figure.n)


def _bootstrap(data: tuple[Values, ...], statistic: Callable[..., Any], paired: bool = True) -> Figure:
    """The bias-corrected and accelerated bootstrap (Efron 1987), always with the same resamples; by percentiles where
    the rows vary too little for it."""
    value, n = float(statistic(*data, axis=-1)), min(map(len, data))
    if n < _FEWEST:
        return _figure(value, None, None, n)
    for method in ("BCa", "percentile"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of rows that are all alike
            interval = stats.bootstrap(
                data,
                statistic,
                paired=paired and len(data) > 1,
                vectorized=True,
                n_resamples=_RESAMPLES,
                method=method,
                rng=np.random.default_rng(0),
            ).confidence_interval
        if math.isfinite(interval.low) and math.isfinite(interval.high):
            return _figure(value, float(interval.low), float(interval.high), n)
    return _figure(value, None, None, n)


def _figure(value: float, low: float | None, high: float | None, n: int) -> Figure:
    ends = [None if end is None else round(end, 6) for end in (low, high)]
    return Figure(value=round(value, 6), low=ends[0], high=ends[1], n=n)
