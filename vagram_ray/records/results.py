"""What came out of a sweep, read back: the records of its trials, as arrays and as one table (``results.csv``)."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from vagram_ray.files import write_atomically
from vagram_ray.records.folder import (
    RECORDS_FOLDER,
    RESULTS_FILE,
    STOPPED_BY,
    Record,
    SweepFolder,
    stopped_by,
    whole_epochs,
)
from vagram_ray.text import csv_value


@dataclass(frozen=True)
class TrialRecords:
    """The records of one trial, one per finished epoch, in order of epochs."""

    name: str
    cell: int
    seeds: tuple[int, ...]
    records: tuple[Record, ...]
    damage: str = ""
    """What of the records cannot be read, in a few words: then no seed of the trial counts."""

    @property
    def epochs_done(self) -> int:
        """Epochs that have been recorded, counted by the last one."""
        return self.records[-1]["training_iteration"] if self.records else 0

    @property
    def stopped_by(self) -> str:
        """The scheduler or stopper that ended the trial before its last epoch; empty if none did."""
        return stopped_by(self.records)

    def last_epoch(self, epochs: int) -> int:
        """The epoch at which the trial is at its end, of ``epochs`` epochs: an earlier one if it was stopped."""
        return min(epochs, self.epochs_done) if self.stopped_by else epochs

    def unfinished(self, epochs: int) -> bool:
        """Whether the records lack one of the epochs up to the trial's end, or are damaged."""
        return bool(self.damage) or whole_epochs(self.records) < self.last_epoch(epochs)

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
        """Read a sweep's folder, finished or not. A trial whose records are damaged says so (``damage``).

        Raises:
            FileNotFoundError: The folder holds no sweep.
            SweepError: Its ``sweep.json`` is damaged.
        """
        sweep = SweepFolder(folder)
        info = sweep.read()
        trials = []
        for trial in info["trials"]:
            records, damage = sweep.read_records(trial["name"], info["epochs"])
            damage = damage and f"{RECORDS_FOLDER}/{sweep.records_file(trial['name']).name}: {damage}"
            trials.append(TrialRecords(trial["name"], trial["cell"], tuple(trial["seeds"]), records, damage))
        return cls(sweep.path, info, tuple(trials))

    @property
    def ended(self) -> bool:
        """Whether the newest launch has come to its end. Else the sweep runs, or its process was killed."""
        return "wall_time_s" in self.info

    @property
    def ended_by(self) -> str:
        """The stopper that ended the newest launch before its trials had come to their end; empty where none did."""
        return str(self.info.get("stopped_by", "")) if self.ended else ""

    def at_the_end(self, trial: TrialRecords) -> TrialRecords:
        """The records of a trial, as one that was stopped if a stopper ended the whole sweep while it ran."""
        if not self.ended_by or not trial.unfinished(self.info["epochs"]) or trial.damage or not trial.records:
            return trial
        if trial.name in self.info.get("failed_trials", {}):
            return trial
        last = {**trial.records[-1], STOPPED_BY: self.ended_by}
        return replace(trial, records=(*trial.records[:-1], last))

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
        """``results.csv``: one row per seed and epoch, one column per axis and metric, empty = not measured."""
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
            axes = {key: value if _is_scalar(value) else json.dumps(value) for key, value in cell["axes"].items()}
            for record in trial.records:
                shared = {key: record[key] for key in ("training_iteration", "env_steps", "time_total_s")}
                for seed in trial.seeds:
                    own = record["seeds"].get(str(seed), {})
                    yield {**own, "cell": cell["label"], **axes, "seed": seed, **shared}


def _csv_text(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> str:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(map(csv_value, columns))
    writer.writerows([csv_value(row.get(column, "")) for column in columns] for row in rows)
    return buffer.getvalue()


def _is_scalar(value: Any) -> bool:
    return value is None or isinstance(value, (str, int, float, bool))
