"""A sweep's trials as their records have them, and the runs of their seeds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from vagram_ray.records.folder import Record, SweepFolder
from vagram_ray.records.trials import TrialRecords
from vagram_ray.sweep.wandb.cursor import NO_STEP
from vagram_ray.sweep.wandb.runs import RunIdentity

Row = tuple[int, dict[str, float]]
"""Step and metrics."""


class FollowedTrial:
    """A trial and how far its records go.

    Args:
        folder: The sweep's.
        entry: The trial in ``sweep.json``.
        epochs: Epochs of the sweep.
    """

    def __init__(self, folder: SweepFolder, entry: dict[str, Any], epochs: int) -> None:
        self.name, self.seeds = entry["name"], tuple(entry["seeds"])
        self._folder, self._epochs = folder, epochs
        self._state: tuple[int, int] | None = None
        self.over = False
        """Whether it has come to its end, by its last epoch or because all its seeds have failed."""
        self.steps: dict[int, int] = {}
        """The last step by seed."""
        self.failed: set[int] = set()
        """Seeds whose numbers were no longer finite."""
        self.damage = ""

    def update(self) -> None:
        """Look how far the records go, where their file has changed."""
        try:
            status = self._folder.records_file(self.name).lstat()
        except FileNotFoundError:
            return
        if (state := (status.st_mtime_ns, status.st_size)) == self._state:
            return
        self._state, trial = state, self.read()
        self.steps = {int(seed): int(record["env_steps"]) for record in trial.records for seed in record["seeds"]}
        self.failed = {seed for seed in self.seeds if trial.failed_at(seed) is not None}
        self.over = trial.epochs_done >= trial.last_epoch(self._epochs) or len(self.failed) == len(self.seeds)
        self.damage = trial.damage

    def read(self) -> TrialRecords:
        """All records. They are not kept: those of all trials together may be large."""
        records, damage = self._folder.read_records(self.name, self._epochs)
        return TrialRecords(self.name, 0, self.seeds, records, damage)


@dataclass
class SeedRun:
    """The run of one seed."""

    identity: RunIdentity
    trial: FollowedTrial
    seed: int
    live: Any = None
    """wandb's run object while it is open online."""
    step: int = NO_STEP
    """The last step that this object was given."""

    @property
    def last(self) -> int:
        """The last step that the records have."""
        return self.trial.steps.get(self.seed, NO_STEP)

    def rows(self, records: TrialRecords, after: int) -> Iterator[Row]:
        """The rows beyond a step."""
        for record in records.records:
            own, env_steps = record["seeds"].get(str(self.seed)), int(record["env_steps"])
            if own is not None and env_steps > after:
                position = {key: record[key] for key in ("env_steps", "training_iteration")}
                yield env_steps, {**own, **_shared(record), **position}


def _shared(record: Record) -> dict[str, float]:
    """What all seeds of a trial share."""
    return {f"{kind}/{key}": value for kind in ("time", "perf") for key, value in record.get(kind, {}).items()}
