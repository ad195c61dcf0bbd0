"""95 % intervals of what is measured: SciPy's bootstrap, Student's t where rows are few, statsmodels' for shares."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Hashable, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy import stats
from statsmodels.stats.proportion import confint_proportions_2indep, proportion_confint

from adapters.verdict import Figure

_RESAMPLES = 2000
_MANY = 30
"""From so many rows or things on intervals are by the bootstrap."""
_FEWEST = 3
"""Of fewer rows, or things that they are about, no interval is told: resampling two values says nothing."""

Values = Sequence[float]
About = Sequence[Hashable]
"""What each row is about: rows about the same thing, such as phrasings of one question, are right or wrong together, so
they are resampled together (Davison & Hinkley 1997, section 3.8). Left out, each row stands for itself."""


def mean(values: Values, about: About | None = None, confidence: float = 0.95) -> Figure:
    """The mean over rows."""
    return ratio(values, [1.0] * len(values), about, confidence)


def ratio(above: Values, below: Values, about: About | None = None, confidence: float = 0.95) -> Figure:
    """The sum of `above` over that of `below`; each row has both."""

    def divided(a: Any, b: Any, axis: int = -1) -> Any:
        return np.sum(a, axis=axis) / np.sum(b, axis=axis)

    one, other = _sums(about, above, below)
    if len(one) < _MANY:
        return _linear(float(divided(one, other)), [_spread(one, other)], len(above), confidence)
    return _bootstrap((one, other), divided, len(above), confidence=confidence)


def difference(values: Values, others: Values, about: About | None = None) -> Figure:
    """The mean of `values` less that of `others`; each row has both."""
    return mean([a - b for a, b in zip(values, others, strict=True)], about)


def gap(
    values: Values, others: Values, about: About | None = None, others_about: About | None = None
) -> Figure:
    """The mean of `values` less that of `others`, which are other rows."""
    sums, counts = _sums(about, values, [1.0] * len(values))
    others_sums, others_counts = _sums(others_about, others, [1.0] * len(others))

    def apart(drawn: Any, others_drawn: Any, axis: int = -1) -> Any:
        i, j = drawn.astype(int), others_drawn.astype(int)
        mine = sums[i].sum(axis=axis) / counts[i].sum(axis=axis)
        return mine - others_sums[j].sum(axis=axis) / others_counts[j].sum(axis=axis)

    fewest = min(len(values), len(others))
    if min(len(sums), len(others_sums)) < _MANY:
        value = float(sums.sum() / counts.sum() - others_sums.sum() / others_counts.sum())
        return _linear(value, [_spread(sums, counts), _spread(others_sums, others_counts)], fewest)
    places = (np.arange(len(sums)), np.arange(len(others_sums)))
    return _bootstrap(places, apart, fewest, paired=False)


def share(hits: Sequence[bool], about: About | None = None) -> Figure:
    """The share of true ones, with Wilson's interval (Wilson 1927)."""
    right, count = _effective(hits, about)
    low, high = proportion_confint(right, count, method="wilson")
    return _figure(right / count, float(low), float(high), len(hits))


def share_gap(
    hits: Sequence[bool],
    others: Sequence[bool],
    about: About | None = None,
    others_about: About | None = None,
) -> Figure:
    """The share of `hits` less that of `others`, which are other rows, with Newcombe's interval (Newcombe 1998,
    method 10). `n` is the smaller of both."""
    (one, n), (other, m) = _effective(hits, about), _effective(others, others_about)
    low, high = confint_proportions_2indep(one, n, other, m, method="newcomb")
    return _figure(one / n - other / m, float(low), float(high), min(len(hits), len(others)))


def paired_share(hits: Sequence[bool], others: Sequence[bool], about: About | None = None) -> Figure:
    """The share of `hits` less that of `others`, which are of the same rows; see `sign`."""
    return sign([float(a) - float(b) for a, b in zip(hits, others, strict=True)], about)


def sign(apart: Values, about: About | None = None, confidence: float = 0.95) -> Figure:
    """The mean of paired differences that are -1, 0 or 1.

    The adjusted Wald interval for paired shares (Bonett & Price 2012, equation 4), which has no width of zero where no
    row differs. Rows about one thing count for as many as would tell as much, as in `share`.
    """
    sums, counts = _sums(about, apart, [1.0] * len(apart))
    n, things, value = float(counts.sum()), len(counts), float(sums.sum() / counts.sum())
    if things < _FEWEST:
        return _figure(value, None, None, len(apart))
    up, down = (sum(one == side for one in apart) / n for side in (1.0, -1.0))
    effective = n
    if things < n:
        own = up + down - value**2
        variance = things / (things - 1) * float(((sums - value * counts) ** 2).sum()) / n**2
        effective = min(own / variance, n) if variance and own else float(things)
    more, less = ((effective * part + 1) / (effective + 2) for part in (up, down))
    middle = more - less
    half = _two_sided(confidence) * math.sqrt((more + less - middle**2) / (effective + 2))
    return _figure(value, max(-1.0, middle - half), min(1.0, middle + half), len(apart))


def within(
    figure: Figure,
    values: Values,
    about: About | None,
    least: float,
    most: float,
    confidence: float = 0.95,
) -> Figure:
    """The mean of values that lie between `least` and `most`: its interval reaches no further.

    Where no thing differs from another, their spread says nothing of those that were not asked. Of n that are alike up
    to 1 - (1 - confidence)^(1/n) of all may differ (Clopper & Pearson 1934, for none of n), as far as can be; where that
    has no end there is no interval.
    """
    if figure.low is None or figure.high is None:
        return figure
    low, high = max(least, figure.low), min(most, figure.high)
    sums, counts = _sums(about, values, [1.0] * len(values))
    # Cosines of texts that are the same differ in their last bits.
    if np.ptp(sums / counts) < 1e-6:
        if math.isinf(least) or math.isinf(most):
            return figure.model_copy(update={"low": None, "high": None})
        others = 1 - (1 - confidence) ** (1 / len(sums))
        low, high = (figure.value + others * (end - figure.value) for end in (least, most))
    return _figure(figure.value, low, high, figure.n)


def effect(values: Values) -> float | None:
    """The mean of paired differences in their standard deviations (Cohen 1988, d_z); None where they do not vary."""
    spread = float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
    return float(np.mean(values)) / spread if spread else None


def things_to_tell(figure: Figure, things: int, confidence: float = 0.95) -> int | None:
    """About how many things like the `things` that a difference comes from would tell it from none, 80 times of 100, if
    it is as large as it seems: its standard error falls with their root (Cohen 1988, section 1.3). None where there is
    nothing to tell, or no interval."""
    if figure.low is None or figure.high is None or not figure.value:
        return None
    error = (figure.high - figure.low) / 2 / _two_sided(confidence)
    needed = (_two_sided(confidence) + float(stats.norm.ppf(0.8))) * error / abs(figure.value)
    return math.ceil(things * needed**2)


def _two_sided(confidence: float) -> float:
    """How many standard errors an interval reaches to either side."""
    return float(stats.norm.ppf((1 + confidence) / 2))


def _sums(about: About | None, *columns: Values) -> tuple[np.ndarray, ...]:
    """Each column summed over the rows about one thing."""
    values = [np.asarray(column, float) for column in columns]
    if about is None:
        return tuple(values)
    places = {one: place for place, one in enumerate(dict.fromkeys(about))}
    rows = [places[one] for one in about]
    return tuple(np.bincount(rows, weights=column, minlength=len(places)) for column in values)


def _effective(hits: Sequence[bool], about: About | None) -> tuple[float, float]:
    """True ones and rows, as many as would tell as much if each stood for itself (Korn & Graubard 1998): the variance of
    a share of such rows is that of this one. Where all are alike, as many as there are things."""
    right, counts = _sums(about, [float(hit) for hit in hits], [1.0] * len(hits))
    n, things, value = float(counts.sum()), len(counts), float(right.sum() / counts.sum())
    if value in (0, 1) or things in (1, n):
        return value * things, things
    variance = things / (things - 1) * float(((right - value * counts) ** 2).sum()) / n**2
    effective = min(max(value * (1 - value) / variance, 1.0), n) if variance else n
    return value * effective, effective


def size(figure: Figure) -> Figure:
    """The figure without its sign."""
    if figure.low is None or figure.high is None:
        return figure.model_copy(update={"value": abs(figure.value)})
    ends = sorted((abs(figure.low), abs(figure.high)))
    low = 0.0 if figure.low <= 0 <= figure.high else ends[0]
    return _figure(abs(figure.value), low, ends[1], figure.n)


class _Spread(NamedTuple):
    """The variance of an estimate, and of how many things it comes."""

    variance: float
    things: int


def _spread(above: np.ndarray, below: np.ndarray) -> _Spread:
    """Of the ratio of two sums over things, by linearisation (Cochran 1977, section 6.4)."""
    things = len(above)
    if things < _FEWEST:
        return _Spread(math.nan, things)
    apart = (above - above.sum() / below.sum() * below) / below.mean()
    return _Spread(float(apart.var(ddof=1)) / things, things)


def _linear(value: float, spreads: Sequence[_Spread], n: int, confidence: float = 0.95) -> Figure:
    """By Student's t, of one estimate or of the difference of two (with Welch's degrees of freedom, 1947): of few things
    the bootstrap's intervals are too narrow."""
    if any(each.things < _FEWEST for each in spreads):
        return _figure(value, None, None, n)
    variance = sum(each.variance for each in spreads)
    parts = sum(each.variance**2 / (each.things - 1) for each in spreads)
    freedom = variance**2 / parts if parts else math.inf
    half = float(stats.t.ppf((1 + confidence) / 2, freedom)) * math.sqrt(variance)
    return _figure(value, value - half, value + half, n)


def _bootstrap(
    data: tuple[Any, ...],
    statistic: Callable[..., Any],
    n: int,
    paired: bool = True,
    confidence: float = 0.95,
) -> Figure:
    """The bias-corrected and accelerated bootstrap (Efron 1987), always with the same resamples; by percentiles where
    the rows vary too little for it."""
    value = float(statistic(*data, axis=-1))
    if min(map(len, data)) < _FEWEST:
        return _figure(value, None, None, n)
    for method in ("BCa", "percentile"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of rows that are all alike
            interval = stats.bootstrap(
                data,
                statistic,
                paired=paired,
                vectorized=True,
                n_resamples=_RESAMPLES,
                confidence_level=confidence,
                method=method,
                rng=np.random.default_rng(0),
            ).confidence_interval
        if math.isfinite(interval.low) and math.isfinite(interval.high):
            return _figure(value, float(interval.low), float(interval.high), n)
    return _figure(value, None, None, n)


def _figure(value: float, low: float | None, high: float | None, n: int) -> Figure:
    ends = [None if end is None else round(end, 6) for end in (low, high)]
    return Figure(value=round(value, 6), low=ends[0], high=ends[1], n=n)
