"""A sweep's folder as a source of curves: finished, running, interrupted or damaged in part."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vagram_ray.commands import InputError
from vagram_ray.records import SweepError
from vagram_ray.records.cohort import ENVIRONMENT_FAULT
from vagram_ray.records.recorded import cell_axes, cell_settings
from vagram_ray.records.results import SweepResults, TrialRecords
from vagram_ray.records.summary import is_pending
from vagram_ray.records.task_line import task_line
from vagram_ray.report.curves import CellCurves, ExperimentFacts, SeedCurve
from vagram_ray.report.sources import NOT_APPLICABLE, UNKNOWN, Source
from vagram_ray.report.sweep_facts import sweep_details
from vagram_ray.text import canonical

_Columns = dict[str, dict[int, tuple[list[int], list[float]]]]


def read_sweep(folder: Path) -> Source:
    """Read a sweep's folder.

    The seeds of a trial whose records are damaged are missing, each with the reason.

    Raises:
        InputError: ``sweep.json`` is damaged.
    """
    try:
        results = SweepResults.load(folder)
    except SweepError as error:
        raise InputError(error.message) from error
    name, metric = folder.resolve().name, results.info["return_metric"]
    cells = tuple(_read_cell(results, index, name, metric) for index in range(len(results.info["cells"])))
    facts = ExperimentFacts(
        name,
        folder,
        "sweep",
        sweep_details(results, cells),
        task_line(results.info),
        results.info.get("replaced_task", ""),
    )
    settings = {label: cell_settings(results.info, index) for index, label in enumerate(results.labels)}

    def alike(cell: CellCurves) -> str | None:
        """Everything about how a cell was run but its seeds, or None where its settings are not there."""
        own = {key: value for key, value in settings[cell.label].items() if key not in ("seed", "seeds")}
        described = {"epochs": results.info["epochs"], "metric": metric, "steps": cell.planned_env_steps}
        return canonical({**described, "settings": own}) if own else None

    def lookup(cell: CellCurves, axis: str) -> Any:
        """A setting by the name of its axis."""

        def find(name: str) -> Any:
            return cell.axes[name] if name in cell.axes else _nested(settings[cell.label], name)

        if axis != "model_loss" and find("model_loss") == "none":
            from vagram_ray.core.settings import MODEL_SETTINGS

            return NOT_APPLICABLE if axis.partition(".")[0] in MODEL_SETTINGS else find(axis)
        return find(axis)

    return Source(facts, cells, metric, alike, lookup)


def _read_cell(results: SweepResults, index: int, experiment: str, metric: str) -> CellCurves:
    info = results.info["cells"][index]
    trials = results.cell_trials(index)
    columns: _Columns = {}
    for trial in trials:
        _collect(trial, columns)
    curves = {
        name: {seed: SeedCurve.of(steps, values) for seed, (steps, values) in sorted(by_seed.items())}
        for name, by_seed in sorted(columns.items())
    }
    returns = curves.pop(metric, {})
    final: dict[int, float] = {}
    missing: dict[int, str] = {}
    pending: set[int] = set()
    for trial in trials:
        for seed in trial.seeds:
            value, problem = trial.final_return(seed, metric, results.info["epochs"])
            if problem:
                missing[seed] = _reason(results, trial, seed, problem)
            else:
                final[seed] = value
        pending |= {seed for seed in trial.seeds if is_pending(trial, seed, results.info["epochs"], results.ended)}
    return CellCurves(
        experiment=experiment,
        label=info["label"],
        axes=cell_axes(results.info, index),
        seeds=tuple(sorted(seed for trial in trials for seed in trial.seeds)),
        returns=returns,
        metrics=curves,
        final_returns=dict(sorted(final.items())),
        missing=dict(sorted(missing.items())),
        pending=frozenset(pending),
        planned_env_steps=_planned_env_steps(info, results.info["epochs"]),
    )


def _collect(trial: TrialRecords, columns: _Columns) -> None:
    """Add all metrics of a trial to ``columns[metric][seed]`` in one pass over its records.

    What is measured of the whole trial counts once: it is its first seed's.
    """
    seeds = {str(seed): seed for seed in trial.seeds}

    def add(metric: str, seed: int, step: int, value: float) -> None:
        steps, series = columns.setdefault(metric, {}).setdefault(seed, ([], []))
        steps.append(step)
        series.append(value)

    for record in trial.records:
        step = record["env_steps"]
        for section in ("time", "perf"):
            for name, value in record.get(section, {}).items():
                add(f"{section}/{name}", trial.seeds[0], step, value)
        for name, values in record["seeds"].items():
            if (seed := seeds.get(name)) is None:
                continue
            for metric, value in values.items():
                if metric not in ("failed", ENVIRONMENT_FAULT):
                    add(metric, seed, step, value)


def _reason(results: SweepResults, trial: TrialRecords, seed: int, problem: str) -> str:
    """The summary's words, with what else is known of the trial: whether it failed, or may still be running."""
    epochs = results.info["epochs"]
    if trial.damage or trial.failed_at(seed) is not None or trial.epochs_done >= trial.last_epoch(epochs):
        return problem
    if trial.name in results.info.get("failed_trials", {}):
        return f"{problem} (its trial failed)"
    if not results.ended:
        return f"has done {trial.epochs_done} of {epochs} epochs" if trial.records else "has not reported yet"
    return problem


def _planned_env_steps(cell: Mapping[str, Any], epochs: int) -> int | None:
    if "epoch_length" not in cell:
        return None
    return int(cell.get("warmup_steps", 0)) + epochs * int(cell["epoch_length"])


def _nested(values: Any, path: str) -> Any:
    """``values["env_config"]["gravity"]`` for ``"env_config.gravity"``."""
    for part in path.split("."):
        if not isinstance(values, Mapping) or part not in values:
            return UNKNOWN
        values = values[part]
    return values
