"""What a trial reported for its seeds together, told again from its records.

RLlib's result has every metric over the cohort beside those of each seed. Records keep the seeds' alone. Schedulers,
searchers and stoppers of Tune judge a trial by the cohort's numbers, so a sweep that goes on tells them these again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from vagram_ray.records.seed_statistics import interquartile_mean, with_worst

RETURN_METRICS = ("eval/episode_return", "train/episode_return")
"""Metrics that are aggregated by their interquartile mean as well, under ``<name>_iqm``. A failed seed counts as the
worst of the cohort in them (``seed_statistics.with_worst``)."""
ENVIRONMENT_FAULT = "environment_fault"
"""Metric of a seed: 1 once its environment has returned a number that is not finite."""
OF_THE_TRIAL = ("training_iteration", "env_steps", "time_total_s")
"""Numbers that all seeds of a trial share."""


def cohort_metrics(name: str, values: np.ndarray, failed: np.ndarray) -> dict[str, float]:
    """One metric over the seeds of a trial.

    Args:
        name: Such as ``"sac/critic_loss"``.
        values: Of each seed (S,), NaN where it was not measured.
        failed: (S,) bool, seeds that became NaN: the worst of the cohort in returns, left out of other metrics.

    Returns:
        The mean under ``name``, and of returns the interquartile mean under ``<name>_iqm``, or NaN without a value.
    """
    finite = np.where(np.isfinite(values), values, np.nan)
    if name not in RETURN_METRICS:
        return {name: _mean(finite[~failed])}
    counted = with_worst(finite, failed)
    return {name: _mean(counted), f"{name}_iqm": float(interquartile_mean(counted))}


def cohort_result(record: Mapping[str, Any]) -> dict[str, float]:
    """What a trial reported at the end of an epoch, flat (``"eval/episode_return_iqm"``), from its record.

    What no seed measured is left out.
    """
    seeds = list(record["seeds"].values())
    failed = np.array([bool(own.get("failed")) for own in seeds], dtype=bool)
    result = {key: record[key] for key in OF_THE_TRIAL}
    for section in ("time", "perf"):
        result |= {f"{section}/{name}": value for name, value in record[section].items()}
    for name in dict.fromkeys(name for own in seeds for name in own if name != "failed"):
        values = np.array([own.get(name, np.nan) for own in seeds], dtype=np.float64)
        result |= {key: value for key, value in cohort_metrics(name, values, failed).items() if not np.isnan(value)}
    return result


def _mean(values: np.ndarray) -> float:
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if finite.size else float("nan")
