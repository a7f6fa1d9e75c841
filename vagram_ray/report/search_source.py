"""Searches on disk: a sweep's folder, and the folder of a plain Tune experiment (``tune.Tuner("MBPO")``)."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vagram_ray.commands import InputError
from vagram_ray.files import read_file
from vagram_ray.records.ranking import RankedCell
from vagram_ray.records.results import SweepResults, final_window
from vagram_ray.records.schema import MAX_RECORDS_BYTES, MAX_SWEEP_FILE_BYTES, parse_json
from vagram_ray.records.seed_statistics import interquartile_mean, summarize
from vagram_ray.report.search import Sample, Search
from vagram_ray.report.statistics import on_common_steps
from vagram_ray.report.sweep_source import read_sweep
from vagram_ray.text import format_value, reason

PARAMETERS, RESULTS, PROGRESS = "params.json", "result.json", "progress.csv"
"""Files of a trial of Tune's."""
_METRICS = (
    "eval/episode_return_iqm",
    "eval/episode_return",
    "train/episode_return_iqm",
    "env_runners/episode_return_mean",
    "episode_reward_mean",
)
_NO_SETTINGS = ("checkpoint_folder", "seed", "seeds")
"""Keys of a configuration that differ between trials and are no hyperparameters."""


def search_of_sweep(results: SweepResults) -> Search:
    """The search in a sweep's folder, finished or not.

    Raises:
        InputError: It cannot be read.
    """
    source = read_sweep(results.folder)
    stopped = {trial.cell: trial.stopped_by for trial in map(results.at_the_end, results.trials) if trial.stopped_by}
    samples = []
    for cell in results.ranking():
        steps, returns = on_common_steps(source.cells[cell.index])
        values = interquartile_mean(returns.T) if len(steps) else np.zeros(0)
        samples.append(Sample(cell, steps, values, stopped.get(cell.index, "")))
    return Search(
        name=source.facts.name,
        kind="sweep",
        source=results.folder,
        metric=results.info["return_metric"],
        task=source.facts.task,
        samples=tuple(samples),
        epochs=results.info["epochs"],
        command=results.info.get("command") or "",
        details=source.facts.details,
        running=not results.ended,
    )


def is_tune_experiment(folder: Path) -> bool:
    """Whether a folder holds trials of Tune's."""
    return folder.is_dir() and any(_trial_folders(folder))


def search_of_tune(folder: Path) -> Search:
    """The trials of a Tune experiment: ``params.json`` and ``result.json`` or ``progress.csv`` of each.

    Its final return is as a sweep's: over the last tenth of a trial's iterations, each seed's own where results have
    them. A trial with fewer iterations than the longest counts as stopped early.

    Raises:
        InputError: A file cannot be read, or no trial reports an episode return.
    """
    folders = list(_trial_folders(folder))
    rows = {trial.name: _rows(trial) for trial in folders}
    reported = {key for own in rows.values() for row in own for key in row}
    metric = next((name for name in _METRICS if name in reported), None)
    if metric is None:
        raise InputError(f"No trial in {str(folder)!r} reports a return: none of {', '.join(_METRICS)}.")
    parameters = _varied([_parameters(trial) for trial in folders])
    longest = max((len(own) for own in rows.values()), default=0)
    x = "env_steps" if "env_steps" in reported else "training_iteration"
    samples = []
    for index, (trial, axes) in enumerate(zip(folders, parameters, strict=True)):
        own = [row for row in rows[trial.name] if metric in row]
        returns = _final_returns(own, metric)
        label = ", ".join(f"{name}={format_value(value)}" for name, value in axes.items()) or trial.name
        cell = RankedCell(index, label, axes, returns, summarize(list(returns.values())), len(rows[trial.name]))
        points = np.array([[row[x], row[metric]] for row in own]).reshape(-1, 2)
        samples.append(Sample(cell, points[:, 0], points[:, 1], "Tune" if len(rows[trial.name]) < longest else ""))
    samples.sort(key=lambda sample: (bool(sample.stopped_by), -sample.cell.order))
    details = {"Trials": str(len(samples)), "Iterations": f"at most {longest}", "Metric": metric}
    x_name = "environment steps" if x == "env_steps" else "training iterations"
    return Search(
        name=folder.resolve().name,
        kind="Tune experiment",
        source=folder,
        metric=metric,
        task="",
        samples=tuple(samples),
        epochs=longest,
        details=details,
        x_name=x_name,
    )


def _trial_folders(folder: Path) -> Iterator[Path]:
    for trial in sorted(folder.iterdir()):
        if (trial / PARAMETERS).is_file() and any((trial / name).is_file() for name in (RESULTS, PROGRESS)):
            yield trial


def _parameters(trial: Path) -> dict[str, Any]:
    try:
        content = parse_json(read_file(trial / PARAMETERS, MAX_SWEEP_FILE_BYTES))
    except (OSError, ValueError) as error:
        raise InputError(f"{str(trial / PARAMETERS)!r} cannot be read ({reason(error)}).") from error
    flat = _flat(content if isinstance(content, dict) else {}, ".")
    return {name.lstrip("_"): value for name, value in flat.items() if name not in _NO_SETTINGS}


def _varied(parameters: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Of each trial what differs between trials."""
    texts: dict[str, set[str]] = {}
    for own in parameters:
        for name, value in own.items():
            texts.setdefault(name, set()).add(json.dumps(value, sort_keys=True))
    varied = [name for name, found in texts.items() if len(found) > 1]
    return [{name: own[name] for name in varied if name in own} for own in parameters]


def _rows(trial: Path) -> list[dict[str, float]]:
    """Numbers of every reported iteration, flat."""
    name = RESULTS if (trial / RESULTS).is_file() else PROGRESS
    try:
        text = read_file(trial / name, MAX_RECORDS_BYTES).decode()
    except (OSError, ValueError) as error:
        raise InputError(f"{str(trial / name)!r} cannot be read ({reason(error)}).") from error
    if name == PROGRESS:
        return [dict(_numbers(row)) for row in csv.DictReader(io.StringIO(text, newline=""))]
    rows = []
    for line in text.splitlines():
        try:
            content = json.loads(line)
        except ValueError:  # the half line of a killed process
            continue
        if isinstance(content, dict):
            rows.append(dict(_numbers(_flat(content, "/"))))
    return rows


def _final_returns(rows: Sequence[Mapping[str, float]], metric: str) -> dict[int, float]:
    """By seed where the results tell each seed's, else of the trial as a whole."""
    if not rows:
        return {}
    last = rows[-final_window(len(rows)) :]
    base = metric.removesuffix("_iqm")
    seeds = [name for name in last[-1] if name.startswith("seeds/seed_") and name.endswith(f"/{base}")]
    names = {int(name.split("/")[1].removeprefix("seed_")): name for name in seeds} or {0: metric}
    values = {seed: [row[name] for row in last if name in row] for seed, name in names.items()}
    return {seed: float(np.mean(own)) for seed, own in values.items() if own}


def _numbers(values: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    for name, value in values.items():
        try:
            number = float(value)
        except (TypeError, ValueError):
            continue
        if math.isfinite(number):
            yield name, number


def _flat(values: Mapping[str, Any], separator: str, prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            flat |= _flat(value, separator, f"{prefix}{key}{separator}")
        else:
            flat[f"{prefix}{key}"] = value
    return flat
