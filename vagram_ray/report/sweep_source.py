"""A sweep's folder as a source of curves: finished, running, interrupted or damaged in part."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from vagram_ray.commands import InputError
from vagram_ray.records import SweepError
from vagram_ray.records.origin import origin
from vagram_ray.records.recorded import cell_settings, planned_env_steps
from vagram_ray.records.results import SweepResults
from vagram_ray.records.task_line import task_line
from vagram_ray.records.trials import TrialRecords
from vagram_ray.report.curves import (
    NOT_APPLICABLE,
    CellCurves,
    Comparison,
    ExperimentFacts,
    SeedCurve,
    varying_axes,
)
from vagram_ray.report.search import is_search
from vagram_ray.text import canonical

_Columns = dict[str, dict[int, tuple[list[int], list[float]]]]


def read_sweep(folder: Path) -> Comparison:
    """Read a sweep's folder.

    The seeds of a trial whose records are damaged are missing, each with the reason.

    Raises:
        InputError: ``sweep.json`` is damaged.
    """
    try:
        results = SweepResults.load(folder)
    except SweepError as error:
        raise InputError(error.message) from error
    info = results.info
    cells = tuple(_read_cell(results, index) for index in range(len(results.cells)))
    facts = ExperimentFacts(
        folder.resolve().name,
        folder,
        "sweep",
        origin(results),
        task_line(info),
        info.get("replaced_task", ""),
        search=is_search(info),
        running=not results.ended,
    )
    return Comparison(cells, (facts,), info["return_metric"], varying_axes(cells))


def _read_cell(results: SweepResults, index: int) -> CellCurves:
    info, cell = results.info, results.cells[index]
    columns: _Columns = {}
    for trial in results.cell_trials(index):
        _collect(trial, columns)
    curves = {
        name: {seed: SeedCurve.of(steps, values) for seed, (steps, values) in sorted(by_seed.items())}
        for name, by_seed in sorted(columns.items())
    }
    planned = planned_env_steps(info, index)
    settings = cell_settings(info, index)
    run = {key: value for key, value in settings.items() if key not in ("seed", "seeds")}
    described = {"epochs": info["epochs"], "metric": info["return_metric"], "steps": planned, "settings": run}
    return CellCurves(
        **{field.name: getattr(cell, field.name) for field in fields(cell)},
        experiment=results.folder.resolve().name,
        returns=curves.pop(info["return_metric"], {}),
        metrics=curves,
        planned_env_steps=planned,
        settings=_known(settings, cell.axes),
        alike=canonical(described) if run else None,
    )


def _known(settings: Mapping[str, Any], axes: Mapping[str, Any]) -> Mapping[str, Any]:
    """The settings of a cell, in which those of the model mean nothing for plain SAC."""
    if axes.get("model_loss", settings.get("model_loss")) != "none":
        return settings
    from vagram_ray.core.settings import MODEL_SETTINGS

    return {**settings, **dict.fromkeys(set(MODEL_SETTINGS) - {"model_loss"}, NOT_APPLICABLE)}


def _collect(trial: TrialRecords, columns: _Columns) -> None:
    """Add all metrics of a trial to ``columns[metric][seed]`` in one pass over its records.

    What is measured of the whole trial counts once: it is its first seed's. A seed that has failed is measured no more.
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
            if (seed := seeds.get(name)) is None or values.get("failed"):
                continue
            for metric, value in values.items():
                if metric != "failed":
                    add(metric, seed, step, value)
