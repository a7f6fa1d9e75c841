"""From per-seed metrics to the result of one training iteration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy import stats

SEED_SECTIONS = ("eval", "train", "model", "sac")
"""Sections of metrics that are reported for each seed; the others (``time``) are the cohort's."""
IQM_METRICS = ("eval/episode_return", "train/episode_return")
"""Metrics that are aggregated by their interquartile mean as well, under ``<name>_iqm``."""


def interquartile_mean(values: np.ndarray) -> float:
    """Mean of the middle half of the finite values (Agarwal et al., 2021); NaN without any."""
    finite = values[np.isfinite(values)]
    return float(stats.trim_mean(finite, 0.25)) if finite.size else float("nan")


def finite_mean(values: np.ndarray) -> float:
    """Mean of the finite values; NaN without any."""
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if finite.size else float("nan")


def cohort_results(metrics: Mapping[str, np.ndarray], seeds: Sequence[int], failed: np.ndarray) -> dict[str, Any]:
    """Nested results of a cohort: aggregated over the seeds, and of each seed.

    Args:
        metrics: Name such as ``"sac/critic_loss"`` to values (S,); NaN = not measured.
        seeds: The cohort.
        failed: (S,) bool, seeds that became NaN; they count in no aggregate.
    """
    results: dict[str, Any] = {"seeds": {}}
    for name, values in metrics.items():
        sound = np.asarray(values, dtype=np.float64)[~failed]
        set_nested(results, name, finite_mean(sound))
        if name in IQM_METRICS:
            set_nested(results, f"{name}_iqm", interquartile_mean(sound))
    for index, seed in enumerate(seeds):
        own: dict[str, Any] = {"failed": int(failed[index])}
        for name, values in metrics.items():
            if name.split("/")[0] in SEED_SECTIONS:
                set_nested(own, name, float(values[index]))
        results["seeds"][f"seed_{seed}"] = own
    return results


def set_nested(target: dict[str, Any], name: str, value: Any) -> None:
    """Set ``target["a"]["b"]`` for the name ``"a/b"``."""
    *sections, key = name.split("/")
    for section in sections:
        target = target.setdefault(section, {})
    target[key] = value


def merge(target: dict[str, Any], update: Mapping[str, Any]) -> dict[str, Any]:
    """Add nested ``update`` to nested ``target``, in place."""
    for key, value in update.items():
        if isinstance(value, Mapping) and isinstance(target.get(key), dict):
            merge(target[key], value)
        else:
            target[key] = value
    return target
