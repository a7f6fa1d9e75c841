"""The sweep's own W&B run: what came out of every cell, beside the runs of the seeds.

A seed's run cannot hold what is known only when all seeds have ended, so one more run per sweep does: final and best
interquartile means, and the sweep's facts (command, versions, commit, machine) as its config. The optional artifacts
go there too (``wandb_artifacts``).
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping
from typing import Any

from vagram_ray.records.seed_statistics import counted_returns, interquartile_mean
from vagram_ray.records.results import SweepResults, TrialRecords
from vagram_ray.text import format_seeds
from vagram_ray.sweep.wandb.ledger import NO_STEP, Logged
from vagram_ray.sweep.wandb.runs import close
from vagram_ray.sweep.wandb.target import RunIdentity, Target, note_sweep_run
from vagram_ray.sweep.wandb.text import digest


def log_sweep_run(target: Target, identity: RunIdentity, summary: Mapping[str, Any]) -> None:
    """Open (or, in a later launch, continue) the sweep's own run, write its summary, close it and note its id.

    Raises:
        TimeoutError: The server did not take everything in time.
    """
    live = target.open(identity)
    if live is None:
        return
    live.summary.update(dict(summary))
    note_sweep_run(
        target.directory,
        run_id=live.id,
        mode="offline" if live.offline else "online",
        project=target.project,
        entity=target.entity or "",
        tags=list(target.tags),
        url=live.url or "",
    )
    if close(live, 0):
        target.ledger.note(identity.run_id, Logged(NO_STEP, 0, not live.offline, summary_digest(summary)))


def summary_digest(summary: Mapping[str, Any]) -> str:
    """What tells whether a summary has changed since it was logged."""
    return digest(json.dumps(dict(summary), sort_keys=True, default=str), 16)


def sweep_summary(results: SweepResults) -> dict[str, Any]:
    """``cells/<label>/...`` for every cell; what no seed has is left out.

    ``final_iqm`` with ``final_low`` and ``final_high`` (95 % bootstrap interval), ``final_mean``, ``num_seeds`` of
    ``num_planned``; ``best_iqm`` is the highest interquartile mean over the seeds at any one evaluation, at
    ``best_env_steps``. A launch's trials have ended when this is written, so every missing seed counts as the worst of
    its cell; ``counted_as_worst`` names them.
    """
    from vagram_ray.records.summary import summarize_sweep  # imports PyTorch, which a look at W&B's mode does not need

    values: dict[str, Any] = {}
    summary = summarize_sweep(results, ended=True)
    for index, cell in enumerate(summary.cells):
        final = cell.statistics
        best, where = best_iqm(results, index, summary.return_metric, tuple(cell.returns), cell.lost)
        entries: dict[str, float] = {
            "final_iqm": final.iqm,
            "final_low": final.low,
            "final_high": final.high,
            "final_mean": final.mean,
            "num_seeds": len(cell.returns),
            "num_planned": cell.num_seeds,
            "best_iqm": best,
            "best_env_steps": where,
        }
        values |= {f"cells/{cell.label}/{name}": value for name, value in entries.items() if not math.isnan(value)}
        if cell.worst:
            values[f"cells/{cell.label}/counted_as_worst"] = format_seeds(cell.worst)
    return {**values, "complete": summary.complete}


def best_iqm(
    results: SweepResults, cell: int, metric: str, seeds: Collection[int], lost: Collection[int] = ()
) -> tuple[float, float]:
    """The highest interquartile mean at any step where all ``seeds`` were measured, and that step; else NaN.

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


def final_return_summary(info: Mapping[str, Any], trial: TrialRecords, seed: int) -> dict[str, float]:
    """``<return metric>_final`` of a seed, by the sweep's definition of a final return; empty where there is none.

    Args:
        info: The content of ``sweep.json``.
        trial: The records of the seed's trial.
        seed: The seed.
    """
    from vagram_ray.records.summary import final_return

    value, problem = final_return(trial, seed, info["return_metric"], info["epochs"])
    return {} if problem else {f"{info['return_metric']}_final": value}
