"""Statistics over seeds, after Agarwal et al., "Deep RL at the Edge of the Statistical Precipice" (NeurIPS 2021).

The estimators are those of ``rliable``, the authors' library, against which the tests hold them: the interquartile
mean (IQM), run-score performance profiles, and the probability of improvement, each with a 95 % percentile interval
from the stratified bootstrap, which resamples the seeds of each cell for itself. A lost seed counts as the worst of
its cell everywhere, in curves from where it has no return on (:mod:`vagram_ray.records.seed_statistics`).

Every resample has a fixed seed of its own (:mod:`vagram_ray.report.bootstrap`): equal results give equal numbers,
whatever was called before.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy import stats

from vagram_ray.records.intervals import Interval
from vagram_ray.records.seed_statistics import BOOTSTRAP_RESAMPLES, SIGNIFICANCE, interquartile_mean, with_worst
from vagram_ray.report.bootstrap import (
    CHUNK,
    TAILS,
    interval_ends,
    iqm_ends,
    resampled_counts,
    resampled_indices,
)
from vagram_ray.report.curves import CellCurves, SeedCurve

CURVE_RESAMPLES = 2000
"""Resamples behind each band and profile. Numbers in tables and sentences have
``seed_statistics.BOOTSTRAP_RESAMPLES``."""
MAX_STEPS = 400
"""Points of a curve whose seeds were measured at different steps. Where all share their steps, all are kept."""
POWER = 0.8
MAX_SEEDS = 1000
"""More seeds per cell than this are no answer."""


UNKNOWN_INTERVAL = Interval(math.nan, math.nan, math.nan)


# -- curves ------------------------------------------------------------------------------------------------------


def on_common_steps(cell: CellCurves) -> tuple[np.ndarray, np.ndarray]:
    """Environment steps (T,) and returns (S, T) of all seeds with a curve, in their order, and of lost ones without.

    The steps are all at which any seed was measured (``MAX_STEPS`` evenly spaced ones if the seeds differ in them and
    there are more). A seed is interpolated linearly inside its own range and NaN outside. A lost seed has the worst
    return of the others after its own range.
    """
    if not cell.returns:
        return np.zeros(0, dtype=np.int64), np.zeros((0, 0))
    steps, returns = _measured(list(cell.returns.values()))
    missing = set(cell.lost)
    if not missing:
        return steps, returns
    bare = missing - cell.returns.keys()
    returns = np.concatenate([returns, np.full((len(bare), len(steps)), np.nan)])
    ends = [curve.env_steps[-1] if seed in missing else np.inf for seed, curve in cell.returns.items()]
    return steps, with_worst(returns, steps > np.array([*ends, *(-1 for _ in bare)])[:, None])


def _measured(curves: Sequence[SeedCurve]) -> tuple[np.ndarray, np.ndarray]:
    """Environment steps (T,) and values (S, T) as far as they were measured."""
    shared = all(np.array_equal(curve.env_steps, curves[0].env_steps) for curve in curves)
    if shared:
        return curves[0].env_steps, np.stack([curve.values for curve in curves])
    steps = np.unique(np.concatenate([curve.env_steps for curve in curves]))
    if len(steps) > MAX_STEPS:
        steps = np.unique(np.linspace(steps[0], steps[-1], MAX_STEPS).round().astype(np.int64))
    rows = [np.interp(steps, curve.env_steps, curve.values, left=np.nan, right=np.nan) for curve in curves]
    return steps, np.stack(rows)


def mean_and_standard_error(returns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean (T,) and its standard error (T,) over the seeds of ``returns`` (S, T).

    The standard error is s / √n, with n - 1 in s.

    NaN in ``returns`` is left out. NaN comes out where no seed is there, or fewer than two for the standard error.
    """
    there = ~np.isnan(returns)
    count = there.sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.where(there, returns, 0.0).sum(axis=0) / count
        squares = np.where(there, (returns - mean) ** 2, 0.0).sum(axis=0)
        error = np.sqrt(squares / (count - 1) / count)
    return mean, np.where(count >= 2, error, np.nan)


def iqm_curve(cell: CellCurves) -> tuple[np.ndarray, np.ndarray]:
    """Environment steps (T,) and the IQM (T,) over the seeds."""
    steps, returns = on_common_steps(cell)
    return steps, interquartile_mean(returns.T) if len(steps) else np.zeros(0)


def iqm_band(returns: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """IQM (T,) and the ends of its pointwise 95 % bootstrap interval, (T,) each, over the seeds of ``returns`` (S, T).

    Whole curves are resampled, so at every step the interval is that of the bootstrap over seeds. NaN in ``returns``
    is left out. The ends are NaN where fewer than two seeds are there.
    """
    iqm = interquartile_mean(np.asarray(returns, dtype=np.float64).T)
    low, high = (np.full(iqm.shape, np.nan) for _ in range(2))
    enough = (~np.isnan(returns)).sum(axis=0) >= 2
    if enough.any():
        indices = resampled_indices(returns.shape[0], CURVE_RESAMPLES)
        low[enough], high[enough] = iqm_ends(returns[:, enough], indices)
    return iqm, low, high


def steps_to_reach(cell: CellCurves, thresholds: Sequence[float] | np.ndarray) -> list[Interval]:
    """Sample efficiency: environment steps until the IQM of the returns first is at least each threshold.

    A value is a step at which returns were measured, or infinite where the IQM never gets there. The interval is over
    resamples of the seeds. An end is infinite where so many resamples never get there, NaN with fewer than two seeds.
    """
    levels = np.asarray(thresholds, dtype=np.float64)
    steps, returns = on_common_steps(cell)
    if not len(steps):
        return [Interval(math.inf, math.nan, math.nan)] * len(levels)
    values = _first_reached(interquartile_mean(returns.T)[None], steps, levels)[0]
    ends = np.full((2, len(levels)), np.nan)
    if len(returns) >= 2:
        indices = resampled_indices(len(returns), CURVE_RESAMPLES)
        size = max(1, CHUNK // returns.size)
        parts = [indices[start : start + size] for start in range(0, len(indices), size)]
        drawn = (interquartile_mean(np.moveaxis(returns[part], 1, 2)) for part in parts)
        reached = [_first_reached(iqm, steps, levels) for iqm in drawn]
        # Infinity has no middle.
        ends = np.quantile(np.concatenate(reached), TAILS, axis=0, method="inverted_cdf")
    return [Interval(*map(float, numbers)) for numbers in zip(values, *ends, strict=True)]


def _first_reached(iqm: np.ndarray, steps: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """First of ``steps`` (T,) at which each curve of ``iqm`` (R, T) is at least each level, or infinity: (R, K)."""
    best = np.maximum.accumulate(np.where(np.isnan(iqm), -np.inf, iqm), axis=1)
    places = np.stack([(best < level).sum(axis=1) for level in levels], axis=-1)
    return np.append(steps.astype(np.float64), np.inf)[places]


def iqm_span(cells: Sequence[CellCurves]) -> tuple[float, float]:
    """The lowest first and the highest IQM of the cells' curves: the way there is to go, or NaN without curves."""
    curves = [curve for _, curve in map(iqm_curve, cells) if len(curve)]
    if not curves:
        return math.nan, math.nan
    return min(float(curve[0]) for curve in curves), max(float(np.nanmax(curve)) for curve in curves)


def areas_under_curves(*cells: CellCurves) -> list[dict[int, float]]:
    """Mean return along the way of every seed that came to its end, cell by cell.

    It is the area under the seed's curve, piecewise linear, over the steps that all of these seeds were measured at,
    divided by their number: in units of the return. No seed has one where that is no more than a single step.
    """
    curves = [{s: cell.returns[s] for s in cell.final_returns if s in cell.returns} for cell in cells]
    measured = [curve.env_steps for own in curves for curve in own.values()]
    start, end = max((s[0] for s in measured), default=1), min((s[-1] for s in measured), default=0)
    if start >= end:
        return [{} for _ in cells]
    return [{seed: _mean_between(curve, start, end) for seed, curve in own.items()} for own in curves]


def _mean_between(curve: SeedCurve, start: int, end: int) -> float:
    inside = curve.env_steps[(curve.env_steps > start) & (curve.env_steps < end)]
    steps = np.concatenate([[start], inside, [end]])
    values = np.interp(steps, curve.env_steps, curve.values)
    return float(np.trapezoid(values, steps) / (end - start))


# -- final returns -----------------------------------------------------------------------------------------------


def iqm_difference(a: CellCurves, b: CellCurves) -> Interval:
    """IQM of a minus IQM of b, of final returns. Both are resampled independently."""
    x, y = _scores(a), _scores(b)
    if not len(x) or not len(y):
        return UNKNOWN_INTERVAL
    value = float(interquartile_mean(x) - interquartile_mean(y))
    if min(len(x), len(y)) < 2:
        return Interval(value, math.nan, math.nan)
    first = interquartile_mean(x[resampled_indices(len(x), BOOTSTRAP_RESAMPLES, 0)])
    second = interquartile_mean(y[resampled_indices(len(y), BOOTSTRAP_RESAMPLES, 1)])
    low, high = interval_ends(first - second)
    return Interval(value, float(low), float(high))


def performance_profile(
    cell: CellCurves, thresholds: Sequence[float] | np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Share of a cell's seeds whose final return is above each threshold.

    F(τ) = 1/N Σ_n 1[x_n > τ], the run-score distribution of Agarwal et al. (2021), section 4.2.

    Returns:
        The share and the ends of its pointwise 95 % interval, (K,) each: NaN without final returns, the ends also
        with one.
    """
    scores = _scores(cell)
    above = (scores[:, None] > np.asarray(thresholds, dtype=np.float64)).astype(np.float64)
    unknown = np.full(above.shape[1], np.nan)
    if len(scores) < 2:
        return above[0] if len(scores) else unknown, unknown, unknown
    low, high = interval_ends(resampled_counts(len(scores), CURVE_RESAMPLES) @ above / len(scores))
    return above.mean(axis=0), low, high


def probability_of_improvement(a: CellCurves, b: CellCurves) -> Interval:
    """Probability that a seed of a ends above one of b, P(X > Y) + ½ P(X = Y).

    This is the Mann-Whitney U statistic over the number of pairs.
    """
    x, y = _scores(a), _scores(b)
    if not len(x) or not len(y):
        return UNKNOWN_INTERVAL
    wins = _wins(x, y)
    value = float(wins.mean())
    if min(len(a.final_returns), len(b.final_returns)) < 2:
        return Interval(value, math.nan, math.nan)
    first = resampled_counts(len(x), BOOTSTRAP_RESAMPLES, 0)
    second = resampled_counts(len(y), BOOTSTRAP_RESAMPLES, 1)
    low, high = interval_ends(((first @ wins) * second).sum(axis=1) / wins.size)
    return Interval(value, float(low), float(high))


def mann_whitney_p(a: CellCurves, b: CellCurves) -> float:
    """Two-sided p value of the Mann-Whitney U test of the final returns, exact without ties, or NaN without seeds."""
    x, y = _scores(a), _scores(b)
    if not len(x) or not len(y):
        return math.nan
    ties = len(np.unique(np.concatenate([x, y]))) < len(x) + len(y)
    method = "asymptotic" if ties or len(x) * len(y) > 10_000 else "exact"
    p = float(stats.mannwhitneyu(x, y, alternative="two-sided", method=method).pvalue)
    return 1.0 if math.isnan(p) else p  # all values equal


def equivalence_p(a: CellCurves, b: CellCurves, margin: float) -> float:
    """p value of the hypothesis that two cells' final returns lie ``margin`` or more apart.

    The larger of two one-sided Mann-Whitney tests of the returns that are moved towards each other by the margin
    (Schuirmann's two one-sided tests, 1987), or NaN without seeds or margin.
    """
    x, y = _scores(a), _scores(b)
    if not len(x) or not len(y) or math.isnan(margin):
        return math.nan
    pairs = ((x + margin, y), (y + margin, x))
    return max(float(stats.mannwhitneyu(*pair, alternative="greater").pvalue) for pair in pairs)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's correction (1979): p values that may be held against 5 % although several hypotheses are tested.

    NaN stands for a comparison that was not possible and is not counted.
    """
    p = np.asarray(p_values, dtype=np.float64)
    known = np.flatnonzero(~np.isnan(p))
    order = known[np.argsort(p[known], kind="stable")]
    adjusted = p.copy()
    largest = 0.0
    for rank, place in enumerate(order):
        largest = max(largest, min(1.0, (len(known) - rank) * p[place]))
        adjusted[place] = largest
    return adjusted.tolist()


def seeds_for_firm_answer(a: CellCurves, b: CellCurves, comparisons: int = 1) -> int | None:
    """Seeds per cell with which a Mann-Whitney U test would find the difference that is seen now.

    n = (z_{1 - α/2} + z_{0.8})² / (6 (p - ½)²) with p the probability of improvement: Noether, *Sample size
    determination for some common nonparametric tests* (JASA 1987), for equal groups, two-sided at 5 % with power 0.8.

    It takes the estimate p for the truth. p is uncertain, and n more so.

    Args:
        a: One cell.
        b: The other.
        comparisons: Number of tests among which this is one: alpha is 5 % over it (Bonferroni, the most that Holm's
            correction asks for).

    Returns:
        The number, or ``None`` if it is above ``MAX_SEEDS`` or there are no final returns.
    """
    x, y = _scores(a), _scores(b)
    return needed_seeds(float(_wins(x, y).mean()), 6, comparisons) if len(x) and len(y) else None


def needed_seeds(share: float, factor: int, comparisons: int, fewest: int = 0) -> int | None:
    """Noether's number (z_{1 - α/2} + z_{0.8})² / (factor (share - ½)²), or ``None`` if it is above ``MAX_SEEDS``."""
    if share == 0.5:
        return None
    normal = stats.norm.ppf(1 - SIGNIFICANCE / max(1, comparisons) / 2) + stats.norm.ppf(POWER)
    seeds = max(math.ceil(normal**2 / (factor * (share - 0.5) ** 2)), fewest)
    return seeds if seeds <= MAX_SEEDS else None


def _scores(cell: CellCurves) -> np.ndarray:
    return np.array(list(cell.scores.values()), dtype=np.float64)


def _wins(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """1 where a seed of x (n,) is above one of y (m,), ½ where they are equal, else 0: (n, m)."""
    return (x[:, None] > y) + 0.5 * (x[:, None] == y)
