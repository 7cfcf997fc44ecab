"""How sure a mean over questions is, and whether the difference of two runs is more than chance.

A question that a metric does not apply to is NaN; means are over the others. Intervals are percentile bootstrap
intervals over questions (Efron 1979), tests are paired randomisation tests, which Smucker et al. 2007
(https://doi.org/10.1145/1321440.1321528) find fit for retrieval metrics, and Holm's correction (1979) keeps the
chance of any false alarm among several comparisons at the level of one. All draws come from a fixed seed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

DRAWS = 10_000
CONFIDENCE = 0.95
_SEED = 20_070_611
_HAIR = 1e-9  # the same sum in another order must count as equal
_BLOCK = 1_000  # draws at once: 1,000 questions then take 8 MB


@dataclass(frozen=True, slots=True)
class Measure:
    """A mean over `count` questions with its 95 % interval."""

    mean: float
    low: float
    high: float
    count: int


@dataclass(frozen=True, slots=True)
class Difference:
    """How far the mean of a run lies above that of another over the same questions, with its 95 % interval.

    `p` is the chance of a difference at least as large if the two were alike, `adjusted` the same after Holm's
    correction; `wins` and `losses` count the questions that score higher and lower.
    """

    mean: float
    low: float
    high: float
    p: float
    adjusted: float
    wins: int
    losses: int


def measure(values: Array) -> list[Measure | None]:
    """The mean and interval of each column of `values`, shape (questions, metrics); None for a column without values.

    >>> measure(np.array([[1.0], [1.0]]))
    [Measure(mean=1.0, low=1.0, high=1.0, count=2)]
    """
    counts = (~np.isnan(values)).sum(axis=0)
    means = _means(np.nansum(values, axis=0), counts)
    low, high = _interval(np.concatenate([_resampled(values, weights) for weights in _resamples(len(values))]))
    return [
        Measure(float(means[i]), float(low[i]), float(high[i]), int(counts[i])) if counts[i] else None
        for i in range(values.shape[1])
    ]


def compare(base: Array, other: Array) -> list[Difference | None]:
    """How `other` differs from `base`, column by column; both have the shape (questions, metrics), rows paired.

    None for a column in which one of them has no value. `adjusted` is `p` until `holm` corrects it.

    >>> compare(np.array([[0.0], [0.0]]), np.array([[0.0], [0.0]]))[0].p
    1.0
    """
    observed = _differences(base, other, np.zeros((1, len(base))))[0]
    extreme = np.zeros(base.shape[1])
    for swaps in _swaps(len(base)):
        extreme += (np.abs(_differences(base, other, swaps)) >= np.abs(observed) - _HAIR).sum(axis=0)
    p = (extreme + 1) / (DRAWS + 1)  # the observed labelling is one of the draws (Davison and Hinkley 1997)
    resampled = [_resampled(other, weights) - _resampled(base, weights) for weights in _resamples(len(base))]
    low, high = _interval(np.concatenate(resampled))
    wins, losses = (other > base + _HAIR).sum(axis=0), (other < base - _HAIR).sum(axis=0)
    columns = zip(*(row.tolist() for row in (observed, low, high, p, p, wins, losses)), strict=True)
    return [None if np.isnan(column[0]) else Difference(*column) for column in columns]


def holm(p_values: Sequence[float]) -> list[float]:
    """The p-values of several comparisons, corrected by Holm's step-down method; the order stays.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    adjusted = [0.0] * len(p_values)
    highest = 0.0
    for step, position in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        highest = max(highest, min(1.0, (len(p_values) - step) * p_values[position]))
        adjusted[position] = highest
    return adjusted


def _resampled(values: Array, weights: Array) -> Array:
    """The means of each resample, shape (resamples, metrics)."""
    return _means(weights @ np.nan_to_num(values), weights @ ~np.isnan(values))


def _differences(base: Array, other: Array, swaps: Array) -> Array:
    """Mean of `other` minus mean of `base` where `swaps` (draws, questions) tells which pairs change places."""
    sums = [np.nan_to_num(base), np.nan_to_num(other)]
    counts = [(~np.isnan(base)).astype(float), (~np.isnan(other)).astype(float)]
    moved, moved_counts = swaps @ (sums[1] - sums[0]), swaps @ (counts[1] - counts[0])
    first = _means(sums[0].sum(axis=0) + moved, counts[0].sum(axis=0) + moved_counts)
    second = _means(sums[1].sum(axis=0) - moved, counts[1].sum(axis=0) - moved_counts)
    return second - first


def _means(sums: Array, counts: Array | npt.NDArray[np.int_]) -> Array:
    means: Array = np.divide(sums, counts, out=np.full(np.shape(sums), np.nan), where=counts > 0)
    return means


def _interval(means: Array) -> tuple[Array, Array]:
    outside = (1 - CONFIDENCE) / 2
    columns = [column[~np.isnan(column)] for column in means.T]
    low, high = (
        np.array([np.quantile(column, share) if len(column) else np.nan for column in columns])
        for share in (outside, 1 - outside)
    )
    return low, high


def _resamples(count: int) -> Iterator[Array]:
    """How often each question is drawn, `count` draws with replacement; blocks of shape (draws, questions)."""

    def block(random: np.random.Generator) -> Array:
        drawn = random.integers(count, size=(_BLOCK, count)) + count * np.arange(_BLOCK)[:, None]
        return np.bincount(drawn.ravel(), minlength=_BLOCK * count).reshape(_BLOCK, count).astype(float)

    return _blocks(block)


def _swaps(count: int) -> Iterator[Array]:
    return _blocks(lambda random: random.integers(2, size=(_BLOCK, count)).astype(float))


def _blocks(block: Callable[[np.random.Generator], Array]) -> Iterator[Array]:
    random = np.random.default_rng(_SEED)
    for _ in range(DRAWS // _BLOCK):
        yield block(random)
