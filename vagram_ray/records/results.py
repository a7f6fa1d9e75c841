"""A sweep's own results: what it was (``sweep.json``) and what came out (``records/*.jsonl``, ``results.csv``).

``records/TRIAL.jsonl`` gets one line for each epoch of a trial while it runs::

    {"training_iteration": 3, "env_steps": 8000, "time_total_s": 33.1, "time": {...}, "perf": {...},
     "seeds": {"0": {"eval/episode_return": -310.2, "failed": 0, ...}, "1": {...}}}

Numbers that are not finite are left out: a missing metric was not measured. A trial that went on from a checkpoint
writes the epochs from there on a second time: on reading, the line of an epoch takes the place of all earlier lines
from that epoch on. A process that was killed may leave half a line, which is passed over. Where a trial's checkpoints
reach further than its records, as after a loss of power, its first result brings along what they lack.
``results.csv`` is the same as one table with a row per seed and epoch.
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
import math
import numbers
import os
import tempfile
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vagram_ray.records.recorded import SWEEP_FILE, split_settings
from vagram_ray.sweep.plan.cells import format_value
from vagram_ray.sweep.plan.resources import recorded_resources, resources_of_launch, trial_resources
from vagram_ray.text import csv_value

if TYPE_CHECKING:
    from vagram_ray.sweep.plan.plan import SweepPlan, TrialPlan

RECORDS_FOLDER, RESULTS_FILE = "records", "results.csv"
EARLIER_RESULTS = "earlier_results"
"""Key of a trial's first result after a resume: the results of all epochs before it."""


# -- writing ---------------------------------------------------------------------------------------------------


def write_atomically(path: Path, content: str | bytes) -> None:
    """Replace a file in one step, so that no reader ever sees half of it; text is written as UTF-8."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as undo:
        with tempfile.NamedTemporaryFile("wb", dir=path.parent, suffix=".tmp", delete=False) as file:
            undo.callback(_delete, file.name)
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())  # or a power cut leaves an empty file under the name
        os.chmod(file.name, 0o644)  # a temporary file is its owner's alone
        os.replace(file.name, path)
        undo.pop_all()


def _delete(name: str) -> None:
    with contextlib.suppress(OSError):
        os.unlink(name)


def write_sweep_file(
    folder: Path,
    plan: SweepPlan,
    details: Mapping[str, Any],
    resources: Mapping[str, Mapping[str, Any]] | None = None,
) -> None:
    """``sweep.json``: the plan as plain data, and ``details`` such as command, versions and machine.

    ``resources`` by name of the trial are what each asks for, where that is not what the plan says.
    """
    _write_info(folder, {**plan_content(plan, resources), **details})


def complete_sweep_file(folder: Path, details: Mapping[str, Any]) -> None:
    """Add what has become known to ``sweep.json``."""
    _write_info(folder, {**read_info(folder), **details})


def rewrite_plan(folder: Path, plan: SweepPlan, running: Collection[str]) -> None:
    """Put a plan that has changed while the sweep runs into ``sweep.json``; what else stands there stays.

    So does what trials asked for, but for those that run from now on.
    """
    resources = resources_of_launch(plan, running, recorded_resources(read_info(folder)))
    complete_sweep_file(folder, plan_content(plan, resources))


def read_info(folder: Path, name: str = SWEEP_FILE) -> dict[str, Any]:
    """The content of ``sweep.json``."""
    info: dict[str, Any] = json.loads((folder / name).read_text())
    return info


def _write_info(folder: Path, content: Mapping[str, Any]) -> None:
    write_atomically(folder / SWEEP_FILE, json.dumps(content, indent=2, default=format_value) + "\n")


def plan_content(plan: SweepPlan, resources: Mapping[str, Mapping[str, Any]] | None = None) -> dict[str, Any]:
    """What ``sweep.json`` says of a plan; ``resources`` as ``write_sweep_file`` takes them."""
    shared, own = split_settings([plan.settings.get(cell.index, {}) for cell in plan.cells])
    return {
        "name": plan.name,
        "description": plan.description,
        "scale": plan.scale,
        "epochs": plan.epochs,
        "seeds": list(plan.seeds),
        "return_metric": plan.return_metric,
        "slots": plan.slots,
        "resources": dict(plan.resources),
        "overrides": _plain(plan.overrides),
        "settings": shared,
        "cells": [
            {
                "index": cell.index,
                "label": cell.label,
                "axes": _plain(cell.axes),
                "settings": settings,
                "trials": [trial.name for trial in plan.cell_trials(cell)],
                "epoch_length": plan.epoch_steps[cell.index],
                "warmup_steps": plan.warmup_steps[cell.index],
            }
            for cell, settings in zip(plan.cells, own, strict=True)
        ],
        "trials": [_trial_content(plan, trial, resources) for trial in plan.trials],
    }


def _trial_content(
    plan: SweepPlan, trial: TrialPlan, resources: Mapping[str, Mapping[str, Any]] | None
) -> dict[str, Any]:
    content = {"name": trial.name, "cell": trial.cell.index, "seeds": list(trial.seeds)}
    own = trial_resources(plan, trial) if resources is None else resources.get(trial.name)
    return content if own is None else {**content, "resources": dict(own)}


def append_record(folder: Path, trial_name: str, result: Mapping[str, Any]) -> None:
    """Add one result of a trial to its records, and before it what they lack of the results that it brings along."""
    path = folder / RECORDS_FOLDER / f"{trial_name}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    results = [*_lacking_results(folder, trial_name, result), result]
    text = "".join(json.dumps(make_record(each), allow_nan=False) + "\n" for each in results)
    with path.open("a+b") as file:
        if file.tell() > 0:
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":  # a killed process left half a line
                text = "\n" + text
        file.write(text.encode())


def _lacking_results(folder: Path, trial_name: str, result: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Of the earlier results that came with a result, those from the first epoch on that has no record."""
    earlier = [each for each in result.get(EARLIER_RESULTS) or () if "training_iteration" in each]
    if not earlier:
        return []
    whole = whole_epochs(read_records(folder, trial_name))
    return [each for each in earlier if whole < each["training_iteration"] < result["training_iteration"]]


def make_record(result: Mapping[str, Any]) -> dict[str, Any]:
    """What is kept of a result of RLlib: plain finite numbers, by seed."""
    seeds = {
        str(name).removeprefix("seed_"): dict(_finite_numbers(values))
        for name, values in result.get("seeds", {}).items()
        if isinstance(values, Mapping)
    }
    return {
        "training_iteration": int(result["training_iteration"]),
        "env_steps": int(result.get("env_steps", 0)),
        "time_total_s": float(result.get("time_total_s", 0.0)),
        "time": dict(_finite_numbers(result.get("time", {}))),
        "perf": dict(_finite_numbers(result.get("perf", {}))),
        "seeds": seeds,
    }


def _finite_numbers(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    """Nested numbers as flat ``section/name`` pairs, without those that are not finite."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _finite_numbers(value, f"{prefix}{key}/")
        elif isinstance(value, (numbers.Real, np.generic)) and math.isfinite(number := float(value)):
            yield f"{prefix}{key}", int(number) if isinstance(value, (bool, numbers.Integral)) else number


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    return json.loads(json.dumps(dict(values), default=format_value))


# -- reading ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class TrialRecords:
    """The records of one trial, one per finished epoch, in order of epochs."""

    name: str
    cell: int
    seeds: tuple[int, ...]
    records: tuple[Mapping[str, Any], ...]

    @property
    def epochs_done(self) -> int:
        """Epochs that have been recorded, counted by the last one."""
        return self.records[-1]["training_iteration"] if self.records else 0

    def lacking(self, epochs: int) -> list[int]:
        """Those of the first ``epochs`` epochs that have no record."""
        recorded = {record["training_iteration"] for record in self.records}
        return [epoch for epoch in range(1, epochs + 1) if epoch not in recorded]

    def series(self, seed: int, metric: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Epochs (T,), environment steps (T,) and values (T,) where this seed's metric was measured."""
        rows = [
            (record["training_iteration"], record["env_steps"], record["seeds"][str(seed)][metric])
            for record in self.records
            if metric in record["seeds"].get(str(seed), {})
        ]
        table = np.array(rows, dtype=np.float64).reshape(-1, 3)
        return table[:, 0].astype(int), table[:, 1].astype(int), table[:, 2]

    def failed_at(self, seed: int) -> int | None:
        """Epoch at whose end a seed's numbers were no longer finite, or None."""
        for record in self.records:
            if record["seeds"].get(str(seed), {}).get("failed"):
                return int(record["training_iteration"])
        return None


@dataclass(frozen=True)
class SweepResults:
    """A sweep's folder, read back.

    ``info`` is the content of ``sweep.json``: ``info["cells"]`` lists label and axes of each cell.
    """

    folder: Path
    info: Mapping[str, Any]
    trials: tuple[TrialRecords, ...]

    @classmethod
    def load(cls, folder: str | Path) -> SweepResults:
        """Read a sweep's folder, finished or not.

        Raises:
            FileNotFoundError: The folder holds no sweep.
        """
        path = Path(folder)
        if not (path / SWEEP_FILE).is_file():
            raise FileNotFoundError(f"{str(path)!r} is not the folder of a sweep: there is no {SWEEP_FILE} in it.")
        info = read_info(path)
        trials = tuple(
            TrialRecords(trial["name"], trial["cell"], tuple(trial["seeds"]), read_records(path, trial["name"]))
            for trial in info["trials"]
        )
        return cls(path, info, trials)

    @property
    def ended(self) -> bool:
        """Whether the newest launch has come to its end; see :func:`has_ended`."""
        return has_ended(self.info)

    @property
    def labels(self) -> list[str]:
        """Names of the cells, by index."""
        return [cell["label"] for cell in self.info["cells"]]

    def cell_trials(self, cell: int) -> list[TrialRecords]:
        """Records of the trials of one cell."""
        return [trial for trial in self.trials if trial.cell == cell]

    def curves(self, cell: int, metric: str) -> dict[int, tuple[np.ndarray, np.ndarray]]:
        """Environment steps (T,) and values (T,) of a metric for each seed of a cell that measured it."""
        curves = {}
        for trial in self.cell_trials(cell):
            for seed in trial.seeds:
                _, env_steps, values = trial.series(seed, metric)
                if len(values):
                    curves[seed] = (env_steps, values)
        return curves

    def write_csv(self) -> Path:
        """``results.csv``: one row per seed and epoch, one column per axis and metric; empty = not measured."""
        rows = list(self._rows())
        axes = list(dict.fromkeys(axis for cell in self.info["cells"] for axis in cell["axes"]))
        fixed = ["cell", *axes, "seed", "training_iteration", "env_steps", "time_total_s"]
        metrics = sorted({key for row in rows for key in row} - set(fixed))
        path = self.folder / RESULTS_FILE
        write_atomically(path, _csv_text([*fixed, *metrics], rows))
        return path

    def _rows(self) -> Iterator[dict[str, Any]]:
        for trial in self.trials:
            cell = self.info["cells"][trial.cell]
            for record in trial.records:
                shared = {key: record[key] for key in ("training_iteration", "env_steps", "time_total_s")}
                axes = {key: value if _is_scalar(value) else json.dumps(value) for key, value in cell["axes"].items()}
                for seed in trial.seeds:
                    own = record["seeds"].get(str(seed), {})
                    yield {"cell": cell["label"], **axes, "seed": seed, **shared, **own}


def has_ended(info: Mapping[str, Any]) -> bool:
    """Whether ``sweep.json`` records the end of the newest launch; else the sweep runs, or its process was killed."""
    return "wall_time_s" in info


def read_records(folder: Path, trial_name: str) -> tuple[Mapping[str, Any], ...]:
    """The records of a trial, one per epoch and in order; none if it has not reported yet."""
    path = folder / RECORDS_FOLDER / f"{trial_name}.jsonl"
    if not path.is_file():
        return ()
    records: list[Mapping[str, Any]] = []
    for line in path.read_text().splitlines():
        try:
            record = json.loads(line)
        except json.JSONDecodeError:
            continue
        while records and records[-1]["training_iteration"] >= record["training_iteration"]:
            records.pop()
        records.append(record)
    return tuple(records)


def check_records(records: Sequence[Mapping[str, Any]]) -> None:
    """Raise ``KeyError``, ``TypeError`` or ``AttributeError`` unless records are as ``make_record`` makes them."""
    for record in records:
        epoch = record["training_iteration"]
        values = [epoch, record["env_steps"], record.get("time_total_s", 0.0)]
        for own in record["seeds"].values():
            values += own.values()
        if not all(isinstance(value, (int, float)) and math.isfinite(value) for value in values):
            raise TypeError(f"a value of epoch {epoch} is no number")
        if not all(isinstance(value, int) for value in values[:2]):
            raise TypeError(f"epoch {epoch} at step {record['env_steps']} are no whole numbers")


def epoch_of_death(records: Sequence[Mapping[str, Any]]) -> int | None:
    """The epoch in which the last of a trial's seeds has failed; None while one is left."""
    if not records or not records[-1]["seeds"]:
        return None
    dead = all(metrics.get("failed") for metrics in records[-1]["seeds"].values())
    return int(records[-1]["training_iteration"]) if dead else None


def whole_epochs(records: Sequence[Mapping[str, Any]]) -> int:
    """Epochs that are recorded without a gap, counted from the first."""
    whole = 0
    for record in records:
        if record["training_iteration"] != whole + 1:
            break
        whole += 1
    return whole


def _csv_text(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> str:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(map(csv_value, columns))
    writer.writerows([csv_value(row.get(column, "")) for column in columns] for row in rows)
    return buffer.getvalue()


def _is_scalar(value: Any) -> bool:
    return value is None or isinstance(value, (str, int, float, bool))
