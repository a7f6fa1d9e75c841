"""The sweep's own W&B run: what came out of every cell, beside the runs of the seeds.

A seed's run cannot hold what is known only when all seeds have ended, so one more run per sweep does: final and best
interquartile means, and the sweep's facts (command, versions, commit, machine) as its config. The optional artifacts
go there too (``wandb_artifacts``).
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vagram_ray.sweep.results import SWEEP_FILE, SweepResults, TrialRecords, read_records
from vagram_ray.sweep.seed_statistics import interquartile_mean
from vagram_ray.sweep.wandb_runs import close
from vagram_ray.sweep.wandb_target import RunIdentity, Target, digest, jsonable, note_sweep_run, slug

SWEEP_JOB = "sweep"


def log_sweep_run(target: Target, identity: RunIdentity, summary: Mapping[str, Any]) -> None:
    """Open (or, after a restored sweep, continue) the sweep's own run, write its summary, close it and note its id."""
    live = target.open(identity)
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
    close(live, 0)


def sweep_identity(info: Mapping[str, Any], sweep_name: str, launch: str) -> RunIdentity:
    """Id, name and config of the sweep's own run.

    Args:
        info: The content of ``sweep.json``.
        sweep_name: Name under which the seeds' runs were logged.
        launch: What tells this launch from others of the same name.
    """
    run_id = f"sweep-{slug(sweep_name)[:48]}-{digest(sweep_name, 6)}-{digest(launch, 8)}"
    config = {"sweep_name": sweep_name, **jsonable(info)}
    return RunIdentity(run_id, sweep_name[:128], group=None, job_type=SWEEP_JOB, config=config)


def sweep_summary(results: SweepResults) -> dict[str, Any]:
    """``cells/<label>/...`` for every cell; what no seed has is left out.

    ``final_iqm`` with ``final_low`` and ``final_high`` (95 % bootstrap interval), ``final_mean``, ``num_seeds`` of
    ``num_planned``; ``best_iqm`` is the highest interquartile mean over the seeds at any one evaluation, at
    ``best_env_steps``.
    """
    from vagram_ray.sweep.summary import summarize_sweep  # imports PyTorch, which a look at W&B's mode does not need

    values: dict[str, Any] = {}
    summary = summarize_sweep(results)
    for index, cell in enumerate(summary.cells):
        final = cell.statistics
        best, where = best_iqm(results, index, summary.return_metric, tuple(cell.returns))
        entries: dict[str, float] = {
            "final_iqm": final.iqm,
            "final_low": final.low,
            "final_high": final.high,
            "final_mean": final.mean,
            "num_seeds": final.count,
            "num_planned": cell.num_seeds,
            "best_iqm": best,
            "best_env_steps": where,
        }
        values |= {f"cells/{cell.label}/{name}": value for name, value in entries.items() if not math.isnan(value)}
    return {**values, "complete": summary.complete}


def best_iqm(results: SweepResults, cell: int, metric: str, seeds: tuple[int, ...]) -> tuple[float, float]:
    """The highest interquartile mean over ``seeds`` at any step where all were measured, and that step; else NaN."""
    curves = results.curves(cell, metric)
    by_step: dict[int, list[float]] = {}
    for seed in seeds:
        for env_steps, value in zip(*curves[seed], strict=True):
            by_step.setdefault(int(env_steps), []).append(float(value))
    means = {step: interquartile_mean(values) for step, values in by_step.items() if len(values) == len(seeds)}
    if not means:
        return math.nan, math.nan
    best = max(means, key=means.__getitem__)
    return means[best], best


def final_return_summary(folder: Path, trial_name: str, seed: int) -> dict[str, float]:
    """``<return metric>_final`` of a seed, by the sweep's definition of a final return; empty where there is none."""
    from vagram_ray.sweep.summary import final_return

    if not (folder / SWEEP_FILE).is_file():
        return {}
    info = json.loads((folder / SWEEP_FILE).read_text())
    metric = info["return_metric"]
    records = TrialRecords(trial_name, 0, (seed,), read_records(folder, trial_name))
    value, problem = final_return(records, seed, metric, info["epochs"])
    return {} if problem else {f"{metric}_final": value}
