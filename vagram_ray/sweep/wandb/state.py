"""What the follower keeps in memory: its trials, the runs of their seeds with their rows, and whom it speaks with."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from vagram_ray.records.folder import STOPPED_BY, Record, RecordsFollower
from vagram_ray.sweep.wandb.cursor import NO_STEP
from vagram_ray.sweep.wandb.identity import RunIdentity


class Orders(Protocol):
    """What the driver wants."""

    online: bool
    """Whether runs shall go to W&B's server."""
    offline_now: bool
    """Whether this launch is logged offline all the same, because the server could not be reached at its start."""
    reached: bool
    """Whether the server has taken a run since the launch began."""
    failed: set[str]
    """Names of the trials that have failed for good."""
    ended: bool
    """No trial runs any more: finish, and end."""
    interrupted: bool
    """The sweep was stopped by hand: finish what is open, and leave the rest to the next launch."""

    def wait(self, seconds: float) -> None:
        """Wait so long, or until there is something new."""


class Reporter(Protocol):
    """Hears how far the follower is."""

    def beat(self) -> None:
        """The process is alive."""

    def tell(self, **message: Any) -> None:
        """``say`` and ``warn`` are for the user. The others are read by the supervisor."""


@dataclass
class FollowedTrial:
    """A trial and how far its records go."""

    name: str
    seeds: tuple[int, ...]
    reader: RecordsFollower
    epochs_done: int = 0
    stopped: bool = False
    """Whether a scheduler or a stopper has ended it early."""
    steps: dict[int, int] = field(default_factory=dict)
    """The last step by seed."""
    failed: set[int] = field(default_factory=set)
    """Seeds whose numbers were no longer finite."""

    def is_over(self, epochs: int) -> bool:
        """Whether it has come to its end, of ``epochs`` epochs."""
        return self.epochs_done >= epochs or self.stopped

    def read(self) -> list[Record]:
        """The records that are new."""
        new = self.reader.new_records()
        for record in new:
            self.epochs_done, self.stopped = record["training_iteration"], STOPPED_BY in record
            for name, metrics in record["seeds"].items():
                seed = int(name)
                self.steps[seed] = max(self.steps.get(seed, NO_STEP), int(record["env_steps"]))
                if metrics.get("failed"):
                    self.failed.add(seed)
        return new


def recorded_rows(records: Iterable[Record], seed: int) -> Iterator[tuple[int, dict[str, float]]]:
    """Step and row of a seed for each of its trial's records."""
    for record in records:
        if (own := record["seeds"].get(str(seed))) is not None:
            kinds = ("time", "perf")
            shared = {f"{kind}/{key}": value for kind in kinds for key, value in record.get(kind, {}).items()}
            position = {key: record[key] for key in ("env_steps", "training_iteration")}
            yield int(record["env_steps"]), {**own, **shared, **position}


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

    def log(self, records: Sequence[Record]) -> None:
        """Log the rows beyond the last step."""
        for env_steps, row in recorded_rows(records, self.seed):
            if env_steps > self.step:
                self.live.log(row, step=env_steps, commit=True)  # commit: not held back until the next one
                self.step = env_steps
                self.num_bytes += sum(len(key) + len(repr(value)) for key, value in row.items())
