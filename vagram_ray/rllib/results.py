"""From per-seed metrics to the result of one training iteration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from vagram_ray.records.cohort import cohort_metrics

SEED_SECTIONS = ("eval", "train", "model", "sac")
"""Sections of metrics that are reported for each seed. The others (``time``) are the cohort's."""


def cohort_results(metrics: Mapping[str, np.ndarray], seeds: Sequence[int], failed: np.ndarray) -> dict[str, Any]:
    """Nested results of a cohort: aggregated over the seeds, and of each seed.

    Args:
        metrics: Name such as ``"sac/critic_loss"`` to values (S,), NaN where it was not measured.
        seeds: The cohort.
        failed: (S,) bool, seeds that became NaN: the worst of the cohort in returns, in no aggregate of other metrics.
    """
    results: dict[str, Any] = {"seeds": {}}
    for name, values in metrics.items():
        for key, value in cohort_metrics(name, values, failed).items():
            set_nested(results, key, value)
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
