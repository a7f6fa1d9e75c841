"""The folder of a plain Tune experiment (``tune.Tuner("MBPO")``) as a source of curves: each trial is a cell."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from vagram_ray.commands import InputError
from vagram_ray.files import read_file
from vagram_ray.records.schema import MAX_RECORDS_BYTES, MAX_SWEEP_FILE_BYTES, parse_json
from vagram_ray.records.trials import final_window
from vagram_ray.report.curves import CellCurves, Comparison, ExperimentFacts, SeedCurve, varying_axes
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
_STEPS = ("env_steps", "num_env_steps_sampled_lifetime", "timesteps_total")
"""What a curve is over: the first that a result has."""
_NO_SETTINGS = ("checkpoint_folder", "seed", "seeds")
"""Keys of a configuration that differ between trials and are no hyperparameters."""


def is_tune_experiment(folder: Path) -> bool:
    """Whether a folder holds trials of Tune's."""
    return folder.is_dir() and any(_trial_folders(folder))


def read_tune(folder: Path) -> Comparison:
    """The trials of a Tune experiment: ``params.json`` and ``result.json`` or ``progress.csv`` of each.

    A final return is as a sweep's: over the last tenth of a trial's iterations, each seed's own where results have
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
    steps = next((name for name in _STEPS if name in reported), None)
    if steps is None:
        raise InputError(f"No trial in {str(folder)!r} reports environment steps: none of {', '.join(_STEPS)}.")
    name, longest = folder.resolve().name, max(map(len, rows.values()))
    parameters = _varied([_parameters(trial) for trial in folders])
    cells = tuple(
        _cell(name, trial.name, axes, rows[trial.name], (metric, steps), longest)
        for trial, axes in zip(folders, parameters, strict=True)
    )
    details = {"Trials": str(len(cells)), "Iterations": f"at most {longest}", "Metric": metric}
    facts = ExperimentFacts(name, folder, "Tune experiment", details, search=True)
    return Comparison(cells, (facts,), metric, varying_axes(cells))


def _cell(
    experiment: str,
    trial: str,
    axes: Mapping[str, Any],
    rows: Sequence[Mapping[str, float]],
    names: tuple[str, str],
    longest: int,
) -> CellCurves:
    """A trial with ``rows`` of results, by the names of its metric and its steps."""
    measured = [row for row in rows if all(name in row for name in names)]
    curves, last = _curves(measured, *names), _curves(measured[-final_window(len(measured)) :], *names)
    stopped = len(rows) < longest
    return CellCurves(
        label=", ".join(f"{name}={format_value(value)}" for name, value in axes.items()) or trial,
        axes=axes,
        seeds=tuple(curves),
        final_returns={seed: float(curve.values.mean()) for seed, curve in last.items()},
        missing={},
        epochs=len(rows),
        stopped=dict.fromkeys(curves, len(rows)) if stopped else {},
        stopped_by="Tune" if stopped else "",
        experiment=experiment,
        returns=curves,
        metrics={},
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


def _curves(rows: Sequence[Mapping[str, float]], metric: str, steps: str) -> dict[int, SeedCurve]:
    """The metric by seed where the results tell each seed's, else of the trial as a whole, as of seed 0."""
    pattern = rf"seeds/seed_(\d+)/{metric.removesuffix('_iqm')}"
    names = {int(match[1]): name for name in (rows[-1] if rows else ()) if (match := re.fullmatch(pattern, name))}
    curves = {}
    for seed, name in sorted((names or {0: metric}).items()):
        own = [row for row in rows if name in row]
        if own:
            curves[seed] = SeedCurve.of([row[steps] for row in own], [row[name] for row in own])
    return curves


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
