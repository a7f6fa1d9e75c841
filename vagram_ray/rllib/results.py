"""From per-seed metrics to the result of one training iteration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from vagram_ray.records.seed_statistics import interquartile_mean, with_worst

SEED_SECTIONS = ("eval", "train", "model", "sac")
"""Sections of metrics that are reported for each seed; the others (``time``) are the cohort's."""
RETURN_METRICS = ("eval/episode_return", "train/episode_return")
"""Metrics that are aggregated by their interquartile mean as well, under ``<name>_iqm``; a failed seed counts as the
worst of the cohort in them (``seed_statistics.with_worst``)."""


def finite_mean(values: np.ndarray) -> float:
    """Mean of the finite values; NaN without any."""
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if finite.size else float("nan")


def cohort_results(metrics: Mapping[str, np.ndarray], seeds: Sequence[int], failed: np.ndarray) -> dict[str, Any]:
    """Nested results of a cohort: aggregated over the seeds, and of each seed.

    Args:
        metrics: Name such as ``"sac/critic_loss"`` to values (S,); NaN = not measured.
        seeds: The cohort.
        failed: (S,) bool, seeds that became NaN: the worst of the cohort in returns, in no aggregate of other metrics.
    """
    results: dict[str, Any] = {"seeds": {}}
    for name, values in metrics.items():
        finite = np.where(np.isfinite(values), values, np.nan)
        if name in RETURN_METRICS:
            counted = with_worst(finite, failed)
            set_nested(results, name, finite_mean(counted))
            set_nested(results, f"{name}_iqm", float(interquartile_mean(counted)))
        else:
            set_nested(results, name, finite_mean(finite[~failed]))
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
