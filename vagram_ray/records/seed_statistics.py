"""Statistics over seeds: the interquartile mean with a bootstrap interval, the mean with its standard error.

One rule for seeds without a return holds for every number over the seeds of a cell. A *lost* seed counts as the worst
return that another seed of its cell has at that point (:func:`with_worst`). It is lost when its numbers became NaN,
when its trial failed, or when that came to its end without a value. Left out, it would make a method look better whose
bad seeds break down. A *pending* seed, whose trial lacks epochs and has not failed, says nothing of the method and is
left out: the sweep runs, was interrupted, or was killed.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from vagram_ray.records.intervals import Interval

BOOTSTRAP_RESAMPLES = 10_000
CONFIDENCE = 0.95
MIN_SEEDS = 5
"""Seeds of a cell below which no interval is trusted."""
SIGNIFICANCE = 0.05
"""Of tests."""


def fewest_seeds(comparisons: int = 1) -> int:
    """Seeds per cell below which no paired difference is significant among so many comparisons, however large it is.

    The smallest two-sided p-value of Wilcoxon's signed-rank test with n pairs is 2 / 2^n. Corrections for several
    comparisons (Bonferroni, Holm) multiply the smallest by their number.
    """
    return math.ceil(1 + math.log2(max(1, comparisons) / SIGNIFICANCE))


def most_comparisons(seeds: int) -> int:
    """Comparisons above which no paired difference of so many seeds is significant, as in :func:`fewest_seeds`."""
    return math.floor(SIGNIFICANCE * 2.0 ** (seeds - 1))


@dataclass(frozen=True)
class SeedStatistics:
    """Summary of one number per seed, or NaN where there are too few seeds for it."""

    count: int
    iqm: float
    low: float
    high: float
    mean: float
    standard_error: float

    @property
    def interval(self) -> Interval:
        """The interquartile mean with its interval."""
        return Interval(self.iqm, self.low, self.high)


def with_worst(values: np.ndarray, lost: np.ndarray) -> np.ndarray:
    """Returns in which every lost seed has the worst return of the others.

    Args:
        values: Returns (S, ...), NaN where there is none.
        lost: Which entries (S, ...) belong to a lost seed, bool. What ``values`` holds there is not looked at.

    Returns:
        The same shape. A lost entry is the lowest of the other seeds at the same place, NaN where no other seed has a
        return. What is NaN and not lost stays NaN.
    """
    numbers = np.asarray(values, dtype=np.float64)
    worst = np.where(lost | np.isnan(numbers), np.inf, numbers).min(axis=0, initial=np.inf)
    return np.where(lost, np.where(np.isinf(worst), np.nan, worst), numbers)


def counted_returns(returns: Mapping[int, float], lost: Iterable[int]) -> dict[int, float]:
    """Returns by seed, in order of seeds, with the worst of them for every lost seed, empty if no seed has a return."""
    missing = set(lost)
    seeds = sorted({*returns, *missing})
    values = np.array([returns.get(seed, math.nan) for seed in seeds])
    filled = with_worst(values, np.array([seed in missing for seed in seeds], dtype=bool))
    return {seed: float(value) for seed, value in zip(seeds, filled, strict=True) if not math.isnan(value)}


def interquartile_mean(values: Sequence[float] | np.ndarray) -> np.ndarray:
    """Mean of the middle half over the last axis (Agarwal et al., 2021), of what is not NaN.

    A quarter of the values, rounded down, is cut at either end, as by ``scipy.stats.trim_mean(values, 0.25)``.

    Args:
        values: (..., S).

    Returns:
        (...), NaN where there is no value, a scalar for (S,).
    """
    ordered = np.sort(np.asarray(values, dtype=np.float64), axis=-1)  # NaN last
    length = ordered.shape[-1]
    if not np.isnan(ordered).any():
        cut = int(0.25 * length)
        return ordered[..., cut : length - cut].mean(axis=-1) if length else np.full(ordered.shape[:-1], np.nan)
    count = (~np.isnan(ordered)).sum(axis=-1, keepdims=True)
    cut = (0.25 * count).astype(np.int64)
    place = np.arange(length)
    middle = (place >= cut) & (place < count - cut)
    with np.errstate(invalid="ignore"):
        return np.where(middle, ordered, 0.0).sum(axis=-1) / (count - 2 * cut)[..., 0]


def summarize(values: Sequence[float] | np.ndarray) -> SeedStatistics:
    """Interquartile mean with its 95 % percentile bootstrap interval, mean and standard error.

    The bootstrap resamples the seeds 10,000 times with a fixed generator, so equal values give equal intervals.

    Args:
        values: One number per seed that counts, lost seeds included (:func:`counted_returns`).
    """
    from scipy import stats  # the package is read without it

    sample = np.asarray(values, dtype=np.float64)
    count = len(sample)
    low = high = standard_error = math.nan
    if count >= 2:
        interval = stats.bootstrap(
            (sample,),
            lambda data, axis: interquartile_mean(data),  # the axis is the last one
            n_resamples=BOOTSTRAP_RESAMPLES,
            confidence_level=CONFIDENCE,
            method="percentile",
            vectorized=True,
            rng=np.random.default_rng(0),
        ).confidence_interval
        low, high = float(interval.low), float(interval.high)
        standard_error = float(sample.std(ddof=1) / math.sqrt(count))
    mean = float(sample.mean()) if count else math.nan
    return SeedStatistics(count, float(interquartile_mean(sample)), low, high, mean, standard_error)
