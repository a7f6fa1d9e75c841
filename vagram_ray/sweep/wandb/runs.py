"""The runs of a sweep's seeds, and how far the records of their trials go."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from vagram_ray.records.folder import Record, SweepFolder
from vagram_ray.records.trials import TrialRecords
from vagram_ray.sweep.wandb.cursor import NO_STEP
from vagram_ray.sweep.wandb.identity import RunIdentity


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
        self._records: TrialRecords | None = None
        self.over = False
        """Whether it has come to its end."""
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
        self.over, self.damage = trial.epochs_done >= trial.last_epoch(self._epochs), trial.damage
        self.steps = {int(seed): int(record["env_steps"]) for record in trial.records for seed in record["seeds"]}
        self.failed = {seed for seed in self.seeds if trial.failed_at(seed) is not None}

    def read(self) -> TrialRecords:
        """All records, kept until ``forget``."""
        if self._records is None:
            records, damage = self._folder.read_records(self.name, self._epochs)
            self._records = TrialRecords(self.name, 0, self.seeds, records, damage)
        return self._records

    def forget(self) -> None:
        """Keep the records no longer: those of all trials together may be large."""
        self._records = None


@dataclass
class SeedRun:
    """The run of one seed."""

    identity: RunIdentity
    trial: FollowedTrial
    seed: int
    live: Any = None
    """wandb's run object while it is open."""
    step: int = NO_STEP
    """The last step that W&B has or was given."""
    first: int = NO_STEP
    """``step`` when the run was opened."""
    num_bytes: int = 0
    """At least so much was given."""
    blocked: str = ""
    """Why this process does not try it again."""

    @property
    def last(self) -> int:
        """The last step that the records have."""
        return self.trial.steps.get(self.seed, NO_STEP)

    def log(self) -> None:
        """Log the rows beyond the last step."""
        if self.last <= self.step:
            return
        for env_steps, row in self._rows():
            if env_steps > self.step:
                self.live.log(row, step=env_steps, commit=True)  # commit: not held back until the next one
                self.step = env_steps
                self.num_bytes += sum(len(key) + len(repr(value)) for key, value in row.items())

    def _rows(self) -> Iterator[tuple[int, dict[str, float]]]:
        """Step and row of each of the trial's records."""
        for record in self.trial.read().records:
            if (own := record["seeds"].get(str(self.seed))) is not None:
                position = {key: record[key] for key in ("env_steps", "training_iteration")}
                yield int(record["env_steps"]), {**own, **_shared(record), **position}


def _shared(record: Record) -> dict[str, float]:
    """What all seeds of a trial share."""
    return {f"{kind}/{key}": value for kind in ("time", "perf") for key, value in record.get(kind, {}).items()}
