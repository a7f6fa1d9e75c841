"""The bootstrap over seeds, vectorized: resamples that are always the same, and percentiles."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from vagram_ray.records.seed_statistics import CONFIDENCE, interquartile_mean

RANDOM_SEED = 0
CHUNK = 4_000_000
"""Numbers in memory at a time: 32 MiB."""
TAILS = ((1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2)
"""Quantiles at the ends of a percentile interval."""


@lru_cache(maxsize=64)
def resampled_indices(size: int, resamples: int, stream: int = 0) -> np.ndarray:
    """Indices (R, n) of samples with replacement from n = ``size`` seeds.

    Streams are independent of each other, and each is always the same: samples that are resampled together, such as
    the two of a difference, take different ones.
    """
    indices = np.random.default_rng([RANDOM_SEED, stream]).integers(size, size=(resamples, size))
    indices.flags.writeable = False
    return indices


@lru_cache(maxsize=64)
def resampled_counts(size: int, resamples: int, stream: int = 0) -> np.ndarray:
    """How often each seed is drawn in each resample of :func:`resampled_indices`: (R, n) floats."""
    places = resampled_indices(size, resamples, stream) + size * np.arange(resamples)[:, None]
    counts = np.bincount(places.ravel(), minlength=size * resamples).reshape(resamples, size).astype(np.float64)
    counts.flags.writeable = False
    return counts


def interval_ends(drawn: np.ndarray) -> np.ndarray:
    """Both ends (2, ...) of the 95 % percentile interval of resampled statistics (R, ...). NaN is left out."""
    percentile = np.nanpercentile if np.isnan(drawn).any() else np.percentile
    return percentile(drawn, [100 * tail for tail in TAILS], axis=0)


def iqm_ends(returns: np.ndarray, indices: np.ndarray) -> np.ndarray:
    """Ends (2, T) of the interval of the IQM over resamples ``indices`` (R, S) of the seeds of ``returns`` (S, T)."""
    columns = returns.T
    size = max(1, CHUNK // indices.size)
    parts = [
        interval_ends(interquartile_mean(columns[start : start + size][:, indices]).T)
        for start in range(0, len(columns), size)
    ]
    return np.concatenate(parts, axis=-1)
