"""The records of one trial: how far it came, its curves, and the final returns of its seeds."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from vagram_ray.records.cohort import ENVIRONMENT_FAULT
from vagram_ray.records.folder import Record, stopped_by, whole_epochs
from vagram_ray.text import plural

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
        """Epochs, environment steps and values, (T,) each, where this seed's metric was measured before it failed."""
        rows = [
            (record["training_iteration"], record["env_steps"], own[metric])
            for record in self.records
            if metric in (own := record["seeds"].get(str(seed), {})) and not own.get("failed")
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
