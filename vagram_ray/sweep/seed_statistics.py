"""Statistics over seeds: the interquartile mean with a bootstrap interval, and the mean with its standard error."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

BOOTSTRAP_RESAMPLES = 10_000
CONFIDENCE = 0.95


@dataclass(frozen=True)
class SeedStatistics:
    """Summary of one number per seed; NaN where there are too few seeds for it."""

    count: int
    iqm: float
    low: float
    high: float
    mean: float
    standard_error: float


def interquartile_mean(values: Sequence[float] | np.ndarray) -> float:
    """Mean of the middle half: a quarter of the values, rounded down, is cut at either end (Agarwal et al., 2021)."""
    return float(stats.trim_mean(np.asarray(values, dtype=np.float64), 0.25)) if len(values) else math.nan


def summarize(values: Sequence[float] | np.ndarray) -> SeedStatistics:
    """Interquartile mean with its 95 % percentile bootstrap interval, mean and standard error.

    The bootstrap resamples the seeds 10,000 times with a fixed generator, so equal values give equal intervals.
    """
    sample = np.asarray(values, dtype=np.float64)
    count = len(sample)
    low = high = standard_error = math.nan
    if count >= 2:
        interval = stats.bootstrap(
            (sample,),
            lambda data, axis: stats.trim_mean(data, 0.25, axis=axis),
            n_resamples=BOOTSTRAP_RESAMPLES,
            confidence_level=CONFIDENCE,
            method="percentile",
            rng=np.random.default_rng(0),
        ).confidence_interval
        low, high = float(interval.low), float(interval.high)
        standard_error = float(sample.std(ddof=1) / math.sqrt(count))
    mean = float(sample.mean()) if count else math.nan
    return SeedStatistics(count, interquartile_mean(sample), low, high, mean, standard_error)
