"""The folder of a plain Tune experiment (``tune.Tuner("MBPO")``) as a source of curves: each trial is a cell."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from vagram_ray.commands import InputError
from vagram_ray.files import read_file
from vagram_ray.records.schema import MAX_RECORDS_BYTES, MAX_SWEEP_FILE_BYTES, parse_json
from vagram_ray.records.trials import final_window
from vagram_ray.report.curves import CellCurves, Comparison, ExperimentFacts, SeedCurve, varying_axes
from vagram_ray.text import canonical, format_value, reason

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
ITERATION = "training_iteration"
_NO_SETTINGS = ("checkpoint_folder", "seed", "seeds")
"""Keys of a configuration that differ between trials and are no hyperparameters."""


def is_tune_experiment(folder: Path) -> bool:
    """Whether a folder holds trials of Tune's."""
    return folder.is_dir() and any(_trial_folders(folder))


def read_tune(folder: Path) -> Comparison:
    """The trials of a Tune experiment: ``params.json`` and ``result.json`` or ``progress.csv`` of each.

    A final return is as a sweep's: over the last tenth of a trial's iterations, each seed's own where results have
    them. A seed that has no value there, or has failed, is missing. A trial with fewer iterations than the longest
    counts as stopped early. Of an iteration that was done again after a restore the last result counts.

    Raises:
        InputError: A file cannot be read, or no trial reports an episode return.
    """
    folders = list(_trial_folders(folder))
    rows = {trial.name: _rows(trial) for trial in folders}
    reported = {key for own in rows.values() for row in own for key, value in row.items() if math.isfinite(value)}
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
    seeds = _seeds(measured, names[0])
    curves, last = (_curves(own, seeds, names[1]) for own in (measured, measured[-final_window(len(measured)) :]))
    final = {seed: float(curve.values.mean()) for seed, curve in last.items() if not _failed(measured[-1], seed)}
    stopped = len(rows) < longest
    return CellCurves(
        label=", ".join(f"{name}={format_value(value)}" for name, value in axes.items()) or trial,
        axes=axes,
        seeds=tuple(seeds),
        final_returns=final,
        missing={seed: "has no return at the end" for seed in seeds if seed not in final},
        epochs=len(rows),
        stopped=dict.fromkeys(seeds, len(rows)) if stopped else {},
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
            texts.setdefault(name, set()).add(canonical({name: value}))
    varied = [name for name, found in texts.items() if len(found) > 1]
    return [{name: own[name] for name in varied if name in own} for own in parameters]


def _rows(trial: Path) -> list[dict[str, float]]:
    """Numbers of every reported iteration, flat. Those that a trial did again after a restore count once."""
    name = RESULTS if (trial / RESULTS).is_file() else PROGRESS
    try:
        text = read_file(trial / name, MAX_RECORDS_BYTES).decode()
    except (OSError, ValueError) as error:
        raise InputError(f"{str(trial / name)!r} cannot be read ({reason(error)}).") from error
    if name == PROGRESS:
        return _once_each(csv.DictReader(io.StringIO(text, newline="")))
    return _once_each(_flat(content, "/") for content in _contents(text) if isinstance(content, dict))


def _contents(text: str) -> Iterator[Any]:
    for line in text.splitlines():
        try:
            yield json.loads(line)
        except ValueError:  # the half line of a killed process
            continue


def _once_each(results: Iterable[Mapping[str, Any]]) -> list[dict[str, float]]:
    rows: list[dict[str, float]] = []
    for result in results:
        row = dict(_numbers(result))
        while rows and rows[-1].get(ITERATION, -math.inf) >= row.get(ITERATION, math.inf):
            rows.pop()
        rows.append(row)
    return rows


def _seeds(rows: Sequence[Mapping[str, float]], metric: str) -> dict[int, str]:
    """Names of the metric by seed where results tell each seed's, else of the trial as a whole, as of seed 0."""
    pattern = rf"seeds/seed_(\d+)/{metric.removesuffix('_iqm')}"
    reported = dict.fromkeys(name for row in rows for name in row)
    names = {int(match[1]): name for name in reported if (match := re.fullmatch(pattern, name))}
    return dict(sorted(names.items())) or ({0: metric} if rows else {})


def _curves(rows: Sequence[Mapping[str, float]], seeds: Mapping[int, str], steps: str) -> dict[int, SeedCurve]:
    """The curves of the seeds that have a value, up to where they failed."""
    curves = {}
    for seed, name in seeds.items():
        own = [row for row in rows if math.isfinite(row.get(name, math.nan)) and not _failed(row, seed)]
        if own:
            curves[seed] = SeedCurve.of([row[steps] for row in own], [row[name] for row in own])
    return curves


def _failed(row: Mapping[str, float], seed: int) -> bool:
    return bool(row.get(f"seeds/seed_{seed}/failed"))


def _numbers(values: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """What is a number, NaN too: it was reported, and is no return."""
    for name, value in values.items():
        try:
            yield name, float(value)
        except (TypeError, ValueError, OverflowError):
            continue


def _flat(values: Mapping[str, Any], separator: str, prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            flat |= _flat(value, separator, f"{prefix}{key}{separator}")
        else:
            flat[f"{prefix}{key}"] = value
    return flat
