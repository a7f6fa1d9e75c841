"""What came out of a sweep, read back: its cells, and the records of its trials as arrays and one table."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vagram_ray.files import below, write_atomically
from vagram_ray.records.cells import CellResult
from vagram_ray.records.folder import RECORDS_FOLDER, RESULTS_FILE, STOPPED_BY, SweepFolder, epoch_of_death
from vagram_ray.records.recorded import cell_axes
from vagram_ray.records.trials import TrialRecords, final_window
from vagram_ray.text import csv_value, plural

if TYPE_CHECKING:
    import pandas as pd


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

    @cached_property
    def cells(self) -> tuple[CellResult, ...]:
        """What came out of each cell."""
        return tuple(map(self._cell, range(len(self.labels))))

    @property
    def complete(self) -> bool:
        """Whether every planned seed counts; those of a search's stopped trials do."""
        return not any(cell.missing.keys() - (cell.pending if self.ended_by else ()) for cell in self.cells)

    @property
    def unfinished(self) -> int:
        """Trials that lack epochs and have a seed left: running the sweep's command again goes on with them."""
        epochs = self.info["epochs"]
        return sum(trial.unfinished(epochs) and not epoch_of_death(trial.records) for trial in self.trials)

    @property
    def name(self) -> str:
        """The sweep's own name, else that of its folder."""
        return str(self.info.get("name") or self.folder.resolve().name)

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
        for trial in self.trials:
            cell, axes = self.cells[trial.cell], self.info["cells"][trial.cell]["axes"]
            for seed in trial.seeds:
                value, problem = cell.final_returns.get(seed, float("nan")), cell.missing.get(seed, "")
                own = {"final_return": value, "epochs": trial.epochs_done, "problem": problem}
                stopped_by = self._at_its_end(trial).stopped_by
                rows.append({"cell": cell.label, **_scalars(axes), "seed": seed, **own, "stopped_by": stopped_by})
        axes = self._axes()
        return pd.DataFrame(
            rows, columns=["cell", *axes, "seed", "final_return", "epochs", "problem", "stopped_by"]
        ).sort_values(["cell", "seed"], key=self._order, ignore_index=True)

    def ranking(self) -> list[CellResult]:
        """The cells by the interquartile mean of their final returns, the best one first.

        Those of which a trial was stopped early come after those that came to the last epoch, and cells without a
        return last.
        """
        return sorted(self.cells, key=lambda cell: cell.order)

    def best(self) -> CellResult:
        """The first of the ranking.

        Raises:
            ValueError: No cell has a return yet.
        """
        best = self.ranking()[0]
        if not best.final_returns:
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
        place = below(str(self.info.get("storage") or self.folder), trial.name)
        found = newest_whole(*resolve(place))
        if found is None:
            raise FileNotFoundError(f"The trial {trial.name} has no checkpoint in {place}.")
        return below(place, found.path.rpartition("/")[2])

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

    def _cell(self, index: int) -> CellResult:
        metric, epochs = self.info["return_metric"], self.info["epochs"]
        trials = list(map(self._at_its_end, self.cell_trials(index)))
        returns: dict[int, float] = {}
        missing: dict[int, str] = {}
        early: dict[int, int] = {}
        for trial in trials:
            end = trial.last_epoch(epochs)
            for seed in trial.seeds:
                value, problem = trial.final_return(seed, metric, epochs)
                if problem:
                    missing[seed] = self._reason(trial, seed, problem)
                    continue
                returns[seed] = value
                if (last := int(trial.series(seed, metric)[0][-1])) <= end - final_window(end):
                    early[seed] = last
        stopped = [trial for trial in trials if trial.last_epoch(epochs) < epochs]
        return CellResult(
            label=self.labels[index],
            axes=cell_axes(self.info, index),
            seeds=tuple(sorted(seed for trial in trials for seed in trial.seeds)),
            final_returns=dict(sorted(returns.items())),
            missing=dict(sorted(missing.items())),
            pending=frozenset(seed for trial in trials for seed in trial.seeds if self._is_pending(trial, seed)),
            epochs=min(trial.last_epoch(epochs) for trial in trials),
            early=early,
            stopped={seed: trial.last_epoch(epochs) for trial in stopped for seed in trial.seeds},
            stopped_by=" and ".join(dict.fromkeys(trial.stopped_by for trial in stopped)),
        )

    def _at_its_end(self, trial: TrialRecords) -> TrialRecords:
        """The records of a trial, as one that was stopped if a stopper ended the whole sweep while it ran."""
        if not self.ended_by or not trial.unfinished(self.info["epochs"]) or trial.damage or not trial.records:
            return trial
        if trial.name in self.info.get("failed_trials", {}):
            return trial
        last = {**trial.records[-1], STOPPED_BY: self.ended_by}
        return replace(trial, records=(*trial.records[:-1], last))

    def _is_pending(self, trial: TrialRecords, seed: int) -> bool:
        """Whether a seed without a final return is no failure: its trial lacks epochs, and has not failed."""
        if trial.damage or trial.name in self.info.get("failed_trials", {}) or trial.failed_at(seed) is not None:
            return False
        return trial.epochs_done < trial.last_epoch(self.info["epochs"])

    def _reason(self, trial: TrialRecords, seed: int, problem: str) -> str:
        """Why a seed has no final return, with what is known of its trial: that it failed, or may still be running."""
        epochs = self.info["epochs"]
        if trial.damage or trial.failed_at(seed) is not None or trial.epochs_done >= trial.last_epoch(epochs):
            return problem
        if trial.name in self.info.get("failed_trials", {}):
            return f"{problem} (its trial failed)"
        if self.ended:
            return problem
        return f"at epoch {trial.epochs_done} of {epochs}" if trial.records else "not reported yet"

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
