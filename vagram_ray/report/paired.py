"""Statistics of two cells that share their seeds: each seed is compared with itself.

Equal seeds of a sweep have the same initial weights and the same system of distractors, so that the difference of a
seed is more certain than its two returns are. The test is Wilcoxon's signed-rank test (1945). The bootstrap resamples
seeds, hence pairs. Everything takes the differences d (n,) of the seeds: final return of the first cell
minus that of the second.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy import stats

from vagram_ray.records.intervals import Interval
from vagram_ray.records.seed_statistics import BOOTSTRAP_RESAMPLES, fewest_seeds, interquartile_mean
from vagram_ray.report.bootstrap import interval_ends, resampled_counts, resampled_indices
from vagram_ray.report.curves import CellCurves
from vagram_ray.report.statistics import UNKNOWN_INTERVAL, needed_seeds


def differences(a: CellCurves, b: CellCurves, seeds: Sequence[int]) -> np.ndarray:
    """Final return of a minus that of b for each of the seeds: (n,)."""
    return np.array([a.scores[seed] - b.scores[seed] for seed in seeds], dtype=np.float64)


def paired_difference(d: np.ndarray) -> Interval:
    """IQM of the seeds' differences. The bootstrap resamples seeds."""
    if not len(d):
        return UNKNOWN_INTERVAL
    value = float(interquartile_mean(d))
    if len(d) < 2:
        return Interval(value, math.nan, math.nan)
    low, high = interval_ends(interquartile_mean(d[resampled_indices(len(d), BOOTSTRAP_RESAMPLES)]))
    return Interval(value, float(low), float(high))


def paired_probability(d: np.ndarray) -> Interval:
    """Probability that the first is higher on a seed, P(D > 0) + ½ P(D = 0). The bootstrap resamples seeds."""
    if not len(d):
        return UNKNOWN_INTERVAL
    wins = (d > 0) + 0.5 * (d == 0)
    value = float(wins.mean())
    if len(d) < 2:
        return Interval(value, math.nan, math.nan)
    low, high = interval_ends(resampled_counts(len(d), BOOTSTRAP_RESAMPLES) @ wins / len(d))
    return Interval(value, float(low), float(high))


def wilcoxon_p(d: np.ndarray) -> float:
    """Two-sided p value of Wilcoxon's signed-rank test, or NaN without seeds.

    Seeds without a difference are left out, as Wilcoxon did. Exact without ties up to 50 seeds, and with ties up to 13
    (``scipy.stats.wilcoxon``).
    """
    if not len(d):
        return math.nan
    told = d[d != 0]
    return float(stats.wilcoxon(told).pvalue) if len(told) else 1.0


def equivalence_p(d: np.ndarray, margin: float) -> float:
    """p value of the hypothesis that the seeds' differences lie around ``margin`` or more, on either side.

    The larger of the two one-sided signed-rank tests of d + margin and d - margin (Schuirmann's two one-sided tests,
    1987, with Wilcoxon's), or NaN without seeds or margin.
    """
    if not len(d) or math.isnan(margin):
        return math.nan
    return max(_one_sided_p(d + margin), _one_sided_p(margin - d))


def _one_sided_p(d: np.ndarray) -> float:
    told = d[d != 0]
    return float(stats.wilcoxon(told, alternative="greater").pvalue) if len(told) else 1.0


def seeds_for_firm_paired_answer(d: np.ndarray, comparisons: int = 1) -> int | None:
    """Seeds with which a signed-rank test would find the difference that is seen now.

    n = (z_{1 - α/2} + z_{0.8})² / (3 (p - ½)²) with p the share of pairs of seeds whose differences have a positive
    sum: Noether, *Sample size determination for some common nonparametric tests* (JASA 1987), two-sided at 5 % with
    power 0.8, at least as many as the exact test needs at all, 2^(1 - n) <= α. It takes the estimate p for the truth.

    Args:
        d: Differences of the seeds (n,).
        comparisons: Number of tests among which this is one: α is 5 % over it (Bonferroni).

    Returns:
        The number, or ``None`` if it is above ``MAX_SEEDS`` or there are fewer than two seeds.
    """
    if len(d) < 2:
        return None
    first, second = np.triu_indices(len(d), 1)
    sums = d[first] + d[second]
    share = float(((sums > 0) + 0.5 * (sums == 0)).mean())
    return needed_seeds(share, 3, comparisons, fewest_seeds(comparisons))
