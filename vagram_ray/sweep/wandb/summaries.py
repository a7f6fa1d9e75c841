"""Summaries from a sweep's records: of a seed's run, and of the sweep's own run.

A seed's run cannot hold what is known only when all seeds have ended, so one more run per sweep does: final and best
interquartile means, and the sweep's facts (command, versions, commit, machine) as its configuration.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Any

from vagram_ray.records.results import SweepResults
from vagram_ray.records.seed_statistics import counted_returns, interquartile_mean
from vagram_ray.records.trials import TrialRecords
from vagram_ray.text import format_seeds

RETURN_KEY = "eval/episode_return"
FINAL_KEYS = ("eval/episode_return_final", "train/episode_return_final")
_CELLS = "cells/"


def seed_summary(info: Mapping[str, Any], trial: TrialRecords, seed: int) -> dict[str, float]:
    """What a seed's run ends with: last and best evaluation, where the best was, and the final return if there is one.

    Args:
        info: The content of ``sweep.json``.
        trial: The records of the seed's trial.
        seed: The seed.
    """
    _, env_steps, values = trial.series(seed, RETURN_KEY)
    summary: dict[str, float] = {}
    if len(values):
        best = int(values.argmax())
        summary = {
            RETURN_KEY: float(values[-1]),
            f"{RETURN_KEY}_best": float(values[best]),
            f"{RETURN_KEY}_best_env_steps": int(env_steps[best]),
        }
    final, problem = trial.final_return(seed, info["return_metric"], info["epochs"])
    return summary if problem else {**summary, f"{info['return_metric']}_final": final}


def sweep_summary(results: SweepResults) -> dict[str, Any]:
    """``cells/<label>/...`` for every cell. What no seed has is left out.

    ``final_iqm`` with ``final_low`` and ``final_high`` (95 % bootstrap interval), ``final_mean``, ``num_seeds`` of
    ``num_planned``. ``best_iqm`` is the highest interquartile mean over the seeds at any one evaluation, at
    ``best_env_steps``. ``counted_as_worst`` names the seeds that count as the worst of their cell.
    """
    values: dict[str, Any] = {}
    for index, cell in enumerate(results.cells):
        final = cell.statistics
        best, where = best_iqm(results, index, results.info["return_metric"], tuple(cell.final_returns), cell.lost)
        entries: dict[str, float] = {
            "final_iqm": final.iqm,
            "final_low": final.low,
            "final_high": final.high,
            "final_mean": final.mean,
            "num_seeds": len(cell.final_returns),
            "num_planned": len(cell.seeds),
            "best_iqm": best,
            "best_env_steps": where,
        }
        values |= {f"{_CELLS}{cell.label}/{name}": value for name, value in entries.items() if not math.isnan(value)}
        if cell.worst:
            values[f"{_CELLS}{cell.label}/counted_as_worst"] = format_seeds(cell.worst)
    return {**values, "complete": results.complete}


def write_summary(live: Any, summary: Mapping[str, Any]) -> None:
    """Write an open run's summary, and take back what it said before that holds no more.

    A sweep that has got more epochs since has no final returns, and a seed that was lost may come to its end.
    """
    live.summary.update(summary)
    for key in list(live.summary.keys()):  # a summary is no dict
        if key not in summary and (key in FINAL_KEYS or key.startswith(_CELLS)):
            del live.summary[key]


def best_iqm(
    results: SweepResults, cell: int, metric: str, seeds: Collection[int], lost: Collection[int] = ()
) -> tuple[float, float]:
    """The highest interquartile mean at any step where all ``seeds`` were measured, and that step, else NaN.

    A ``lost`` seed counts with its own value as long as it has one, then as the worst of the others.
    """
    by_step: dict[int, dict[int, float]] = {}
    for seed, curve in results.curves(cell, metric).items():
        for env_steps, value in zip(*curve, strict=True):
            by_step.setdefault(int(env_steps), {})[seed] = float(value)
    means = {
        step: float(interquartile_mean(list(counted_returns(own, set(lost) - own.keys()).values())))
        for step, own in by_step.items()
        if seeds and own.keys() >= set(seeds)
    }
    if not means:
        return math.nan, math.nan
    best = max(means, key=means.__getitem__)
    return means[best], best
