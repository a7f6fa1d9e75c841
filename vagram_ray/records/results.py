"""What came out of a sweep, read back: the records of its trials, as arrays and as one table (``results.csv``)."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vagram_ray.files import write_atomically
from vagram_ray.records.cohort import ENVIRONMENT_FAULT
from vagram_ray.records.folder import (
    RECORDS_FOLDER,
    RESULTS_FILE,
    STOPPED_BY,
    Record,
    SweepFolder,
    stopped_by,
    whole_epochs,
)
from vagram_ray.records.ranking import RankedCell
from vagram_ray.records.seed_statistics import counted_returns, summarize
from vagram_ray.text import csv_value, plural

if TYPE_CHECKING:
    import pandas as pd


FINAL_SHARE = 0.1
"""Share of the epochs, at the end, over whose evaluations a seed's final return is the mean."""


def final_window(epochs: int) -> int:
    """Number of epochs, at the end, that a final return is taken from."""
    return max(1, math.ceil(round(FINAL_SHARE * epochs, 6)))  # 0.1 * 70 is a little more than 7


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

    def final_return(self, seed: int, metric: str, epochs: int) -> tuple[float, str]:
        """A seed's final return and an empty text, or NaN and why it does not count.

        ``epochs`` are those of the sweep; of a trial that was stopped, those that it did count.
        """
        epochs = self.last_epoch(epochs)
        failed_at = self.failed_at(seed)
        if failed_at is not None:
            return math.nan, f"{self._how_failed(seed)} in epoch {failed_at}"
        if self.damage:
            return math.nan, f"has records that cannot be read ({self.damage})"
        if not self.records:
            return math.nan, "never reported"
        if self.epochs_done < epochs:
            return math.nan, f"stopped after epoch {self.epochs_done} of {epochs}"
        if (whole := whole_epochs(self.records)) < epochs:
            lacking = epochs - sum(record["training_iteration"] <= epochs for record in self.records)
            return math.nan, f"lost the records of {plural(lacking, 'epoch')} from epoch {whole + 1} on"
        measured, _, values = self.series(seed, metric)
        if not len(values):
            return math.nan, f"has no {metric}"
        last = values[measured > epochs - final_window(epochs)]
        return float(last.mean() if len(last) else values[-1]), ""

    def _how_failed(self, seed: int) -> str:
        faulty = any(record["seeds"].get(str(seed), {}).get(ENVIRONMENT_FAULT) for record in self.records)
        return "got no finite number from the environment" if faulty else "became NaN"

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

    def to_dataframe(self) -> pd.DataFrame:
        """A row per cell, seed and epoch, as in ``results.csv``: a column per axis and metric; NaN: not measured."""
        import pandas as pd  # the package is read without it

        rows = list(self._rows())
        return pd.DataFrame(rows, columns=self._columns(rows))

    def final(self) -> pd.DataFrame:
        """A row per cell and seed: axes, ``final_return``, ``epochs``, and in ``problem`` why there is none.

        ``stopped_by`` names the scheduler or stopper that has ended the seed's trial early.
        """
        import pandas as pd

        rows = []
        for trial in map(self.at_the_end, self.trials):
            cell = self.info["cells"][trial.cell]
            for seed in trial.seeds:
                value, problem = trial.final_return(seed, self.info["return_metric"], self.info["epochs"])
                own = {"final_return": value, "epochs": trial.epochs_done, "problem": problem}
                row = {"cell": cell["label"], **_scalars(cell["axes"]), "seed": seed, **own}
                rows.append({**row, "stopped_by": trial.stopped_by})
        axes = self._axes()
        return pd.DataFrame(
            rows, columns=["cell", *axes, "seed", "final_return", "epochs", "problem", "stopped_by"]
        ).sort_values(["cell", "seed"], key=self._order, ignore_index=True)

    def ranking(self) -> list[RankedCell]:
        """The cells by the interquartile mean of their final returns, the best one first.

        Those of which a trial was stopped early come after those that came to the last epoch, and cells without a
        return last. A seed without a return counts as the worst of its cell once the sweep has ended.
        """
        ranked = [self._ranked(index) for index in range(len(self.labels))]
        return sorted(ranked, key=lambda own: (own.epochs < self.info["epochs"], -own.order))

    def best(self) -> RankedCell:
        """The first of the ranking.

        Raises:
            ValueError: No cell has a return yet.
        """
        best = self.ranking()[0]
        if not best.returns:
            raise ValueError(f"The sweep in {str(self.folder)!r} has no final returns yet.")
        return best

    def checkpoint(self, cell: int | str, seed: int) -> str:
        """Path or URI of the newest whole checkpoint with a seed of a cell, as ``MBPO.from_checkpoint`` takes it.

        Args:
            cell: The cell's place, its name, or a part of the name that no other has.
            seed: The seed; the checkpoint holds all seeds of its trial.

        Raises:
            KeyError: There is no such cell or seed.
            FileNotFoundError: The trial has no checkpoint.
        """
        from vagram_ray.checkpoint.files import resolve
        from vagram_ray.checkpoint.history import newest_whole

        index = self._find_cell(cell)
        trial = next((trial for trial in self.cell_trials(index) if seed in trial.seeds), None)
        if trial is None:
            raise KeyError(f"There is no seed {seed} in the cell {self.labels[index]!r}.")
        path, mark, query = str(self.info.get("storage") or self.folder).partition("?")
        place = f"{path.rstrip('/')}/{trial.name}"
        found = newest_whole(*resolve(f"{place}{mark}{query}"))
        if found is None:
            raise FileNotFoundError(f"The trial {trial.name} has no checkpoint in {place}.")
        return f"{place}/{found.path.rpartition('/')[2]}{mark}{query}"

    def _find_cell(self, cell: int | str) -> int:
        if isinstance(cell, int):
            if not 0 <= cell < len(self.labels):
                raise KeyError(f"There is no cell {cell}: the sweep has {plural(len(self.labels), 'cell')}.")
            return cell
        found = [i for i, label in enumerate(self.labels) if label == cell]
        found = found or [i for i, label in enumerate(self.labels) if cell in label]
        if len(found) != 1:
            number = f"{len(found)} cells have" if found else "no cell has"
            raise KeyError(f"{number} {cell!r} in their names; there are {', '.join(map(repr, self.labels[:10]))}.")
        return found[0]

    def _ranked(self, index: int) -> RankedCell:
        info, trials = self.info["cells"][index], list(map(self.at_the_end, self.cell_trials(index)))
        metric, epochs = self.info["return_metric"], self.info["epochs"]
        found = {seed: trial.final_return(seed, metric, epochs) for trial in trials for seed in trial.seeds}
        returns = {seed: value for seed, (value, problem) in found.items() if not problem}
        lost = [seed for seed in found if seed not in returns] if self.ended else []
        statistics = summarize(list(counted_returns(returns, lost).values()))
        last = min(trial.last_epoch(epochs) for trial in trials)
        return RankedCell(index, info["label"], info["axes"], returns, statistics, last)

    def _order(self, column: Any) -> Any:
        places = {label: place for place, label in enumerate(self.labels)}
        return column.map(places) if column.name == "cell" else column

    def write_csv(self) -> Path:
        """``results.csv``: one row per seed and epoch, one column per axis and metric, empty = not measured."""
        rows = list(self._rows())
        path = self.folder / RESULTS_FILE
        write_atomically(path, _csv_text(self._columns(rows), rows))
        return path

    def _axes(self) -> list[str]:
        return list(dict.fromkeys(axis for cell in self.info["cells"] for axis in cell["axes"]))

    def _columns(self, rows: Iterable[Mapping[str, Any]]) -> list[str]:
        fixed = ["cell", *self._axes(), "seed", "training_iteration", "env_steps", "time_total_s"]
        return [*fixed, *sorted({key for row in rows for key in row} - set(fixed))]

    def _rows(self) -> Iterator[dict[str, Any]]:
        for trial in self.trials:
            cell = self.info["cells"][trial.cell]
            axes = _scalars(cell["axes"])
            for record in trial.records:
                shared = {key: record[key] for key in ("training_iteration", "env_steps", "time_total_s")}
                for seed in trial.seeds:
                    own = record["seeds"].get(str(seed), {})
                    yield {**own, "cell": cell["label"], **axes, "seed": seed, **shared}


def _scalars(axes: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value if _is_scalar(value) else json.dumps(value) for key, value in axes.items()}


def _csv_text(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> str:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(map(csv_value, columns))
    writer.writerows([csv_value(row.get(column, "")) for column in columns] for row in rows)
    return buffer.getvalue()


def _is_scalar(value: Any) -> bool:
    return value is None or isinstance(value, (str, int, float, bool))
