"""Cells, comparisons and folders of results that are made by hand."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vagram_ray.report.curves import CellCurves, Comparison, ExperimentFacts, SeedCurve, varying_axes

RETURN = "eval/episode_return"


def cell_of(
    finals: Sequence[float] | Mapping[int, float],
    *,
    curves: Mapping[int, tuple[Sequence[int], Sequence[float]]] | None = None,
    missing: Mapping[int, str] | None = None,
    experiment: str = "exp",
    **axes: Any,
) -> CellCurves:
    """A cell with these final returns, by seed or for seeds 0, 1, ..., and these curves."""
    by_seed = dict(finals) if isinstance(finals, Mapping) else dict(enumerate(finals))
    if curves is None:
        curves = {seed: ([100, 200], [value - 10.0, value]) for seed, value in by_seed.items()}
    missing = dict(missing or {})
    return CellCurves(
        experiment=experiment,
        label=", ".join(f"{axis}={value}" for axis, value in axes.items()) or experiment,
        axes=axes,
        seeds=tuple(sorted({*by_seed, *missing})),
        returns={seed: SeedCurve.of(*curve) for seed, curve in curves.items()},
        metrics={},
        final_returns=by_seed,
        missing=missing,
        planned_env_steps=200,
    )


def comparison_of(*cells: CellCurves) -> Comparison:
    names = dict.fromkeys(cell.experiment for cell in cells)
    facts = tuple(ExperimentFacts(name, Path(name), "sweep", {"Final return": "as planned"}) for name in names)
    return Comparison(tuple(cells), facts, RETURN, varying_axes(cells))


def write_sweep(
    folder: Path,
    returns: Mapping[Any, Mapping[int, Sequence[float | None]]],
    *,
    axis: str = "model_loss",
    epochs: int | None = None,
    failed: Mapping[tuple[str, int], int] | None = None,
    ended: bool = True,
    **info: Any,
) -> Path:
    """A sweep's folder: ``returns[value][seed]`` is the return after each epoch, or None where it was not evaluated.

    One trial per cell; an epoch is 100 steps after 50 of warm-up. Written as plain JSON, as a sweep would have.
    """
    folder.mkdir(parents=True, exist_ok=True)
    longest = max(len(values) for by_seed in returns.values() for values in by_seed.values())
    cells, trials = [], []
    for index, (value, by_seed) in enumerate(returns.items()):
        name = f"{axis}={value},seeds={min(by_seed)}-{max(by_seed)}"
        label = f"{axis}={value}"
        cells.append(
            {"index": index, "label": label, "axes": {axis: value}, "trials": [name], "epoch_length": 100}
            | {"warmup_steps": 50}
        )
        trials.append({"name": name, "cell": index, "seeds": sorted(by_seed)})
        write_records(folder / "records" / f"{name}.jsonl", value, by_seed, failed or {})
    content = {
        "name": "a sweep",
        "scale": "laptop",
        "epochs": epochs or longest,
        "seeds": sorted({seed for by_seed in returns.values() for seed in by_seed}),
        "return_metric": RETURN,
        "overrides": {},
        "cells": cells,
        "trials": trials,
        **({"wall_time_s": 60.0, "interrupted": False, "failed_trials": {}} if ended else {}),
        **info,
    }
    (folder / "sweep.json").write_text(json.dumps(content))
    return folder


def write_records(
    path: Path, value: Any, by_seed: Mapping[int, Sequence[float | None]], failed: Mapping[tuple[str, int], int]
) -> None:
    path.parent.mkdir(exist_ok=True)
    lines = []
    for epoch in range(1, max(len(values) for values in by_seed.values()) + 1):
        seeds = {}
        for seed, values in by_seed.items():
            if epoch > len(values):
                continue
            own = {"failed": int(epoch >= failed.get((value, seed), 10**9)), "model/train_loss": 1.0 / epoch}
            if values[epoch - 1] is not None:
                own[RETURN] = values[epoch - 1]
            seeds[str(seed)] = own
        record = {"training_iteration": epoch, "env_steps": 50 + 100 * epoch, "time_total_s": 36.0 * epoch}
        lines.append(json.dumps({**record, "time": {}, "perf": {}, "seeds": seeds}))
    path.write_text("\n".join(lines) + "\n")


def write_mbrl_run(
    folder: Path,
    seed: Any,
    rewards: Sequence[float],
    *,
    env: str = "gym___Hopper-v2",
    overrides: Sequence[str] = (),
    exploration: int = 500,
    epoch_length: int = 1000,
    num_steps: int | None = None,
    more: str = "",
) -> Path:
    """A run of mbrl-lib's MBPO, in its own format: columns sorted by name, averages as floats, Hydra's records."""
    (folder / ".hydra").mkdir(parents=True)
    (folder / ".hydra" / "config.yaml").write_text(
        "algorithm:\n  name: mbpo\n"
        f"  initial_exploration_steps: {exploration}\n"
        "  freq_train_model: ${overrides.freq_train_model}\n"
        "dynamics_model:\n  _target_: mbrl.models.GaussianMLP\n"
        f"overrides:\n  env: {env}\n  num_steps: {num_steps or epoch_length * len(rewards)}\n"
        f"  epoch_length: {epoch_length}\n  freq_train_model: 250\n{more}"
        f"seed: {seed}\ndevice: cuda:0\nexperiment: default\n"
    )
    listed = ["algorithm=mbpo", "overrides=mbpo_hopper", f"seed={seed}", *overrides]
    (folder / ".hydra" / "overrides.yaml").write_text("".join(f"- {line}\n" for line in listed))
    lines = ["env_step,episode_reward,epoch,rollout_length,step"]
    for epoch, reward in enumerate(rewards):
        lines.append(f"{float((epoch + 1) * epoch_length - 1)},{reward},{float(epoch)},1.0,{epoch + 1}")
    (folder / "results.csv").write_text("\n".join(lines) + "\n")
    return folder


def long_csv(path: Path, rows: Sequence[Sequence[Any]], header: str) -> Path:
    path.write_text("\n".join([header, *(",".join(str(field) for field in row) for row in rows)]) + "\n")
    return path


def normal(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)
