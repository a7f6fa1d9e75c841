"""One Weights & Biases run for one seed: opening, logging, finishing, and what survives a restart of the driver."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from vagram_ray.sweep.wandb_reader import is_finished, last_logged_step
from vagram_ray.sweep.wandb_target import RunIdentity, Target

RETURN_KEY = "eval/episode_return"
_NO_STEP = -1
_WRITTEN_WITHIN_S = 5.0


@dataclass
class Progress:
    """What of one seed's run W&B has."""

    env_steps: int = _NO_STEP
    final: float | None = None
    best: float | None = None
    best_env_steps: int = _NO_STEP
    failed: bool = False

    def add(self, env_steps: int, row: Mapping[str, float]) -> None:
        """Count a row that has been handed to W&B."""
        self.env_steps = env_steps
        self.failed = bool(row.get("failed", self.failed))
        value = row.get(RETURN_KEY)
        if value is not None:
            self.final = value
            if self.best is None or value > self.best:
                self.best, self.best_env_steps = value, env_steps

    def summary(self) -> dict[str, float]:
        """Last and best evaluation return, and where the best was; empty before the first evaluation."""
        if self.final is None or self.best is None:
            return {}
        best = {f"{RETURN_KEY}_best": self.best, f"{RETURN_KEY}_best_env_steps": self.best_env_steps}
        return {RETURN_KEY: self.final, **best}

    def to_dict(self) -> dict[str, Any]:
        """Plain values for a snapshot."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Progress:
        """From ``to_dict``; keys of another version are left out."""
        known = {entry.name for entry in fields(cls)}
        return cls(**{key: value for key, value in values.items() if key in known})


@dataclass
class SeedRun:
    """One W&B run. Every method here may block, and raises whatever wandb raises."""

    identity: RunIdentity
    seed: int
    live: Any = None
    """wandb's run object while it is open."""

    @property
    def run_id(self) -> str:
        """The id that the run has online."""
        return self.identity.run_id

    def open(self, target: Target, progress: Progress) -> None:
        """Open or continue the run; afterwards ``progress.env_steps`` is the last step that W&B really has."""
        self.live = target.open(self.identity)
        if self.live.offline:
            # A driver that was killed may have counted rows that never reached the file.
            on_disk = last_logged_step(target.directory, target.offline_id(self.run_id))
            progress.env_steps = progress.env_steps if on_disk is None else on_disk
        elif self.live.resumed:
            progress.env_steps = self.live.starting_step - 1
        self.live.define_metric("env_steps")
        self.live.define_metric("*", step_metric="env_steps")

    def log(self, progress: Progress, env_steps: int, row: Mapping[str, float]) -> None:
        """Log one row at step ``env_steps``, unless that step or a later one is logged already."""
        if env_steps <= progress.env_steps:
            return
        self.live.log(dict(row), step=env_steps, commit=True)  # commit: do not hold the row back until the next one
        progress.add(env_steps, row)

    def catch_up(self, progress: Progress, records: Iterable[Mapping[str, Any]]) -> None:
        """Log what the sweep has recorded and W&B has not: rows that died with an earlier driver before being sent.

        Args:
            progress: What W&B has.
            records: The trial's records, in order (``vagram_ray.sweep.results``).
        """
        for record in records:
            if str(self.seed) in record["seeds"]:
                shared = {"time": record["time"], "perf": record["perf"]}
                position = {key: record[key] for key in ("env_steps", "training_iteration")}
                row = {**record["seeds"][str(self.seed)], **flatten(shared), **position}
                self.log(progress, record["env_steps"], row)

    def finish(self, progress: Progress, exit_code: int, summary: Mapping[str, float] | None = None) -> None:
        """Write the summary and close the run; a seed whose training failed closes as a failed run."""
        live, self.live = self.live, None
        live.summary.update({**progress.summary(), **(summary or {})})
        close(live, exit_code or int(progress.failed))


def close(live: Any, exit_code: int) -> None:
    """Finish wandb's run object and wait until its file is whole."""
    live.finish(exit_code=exit_code)
    if live.offline:  # wandb returns a moment before its service process has written the file's end
        deadline = time.monotonic() + _WRITTEN_WITHIN_S
        while not is_finished(live.settings.sync_file) and time.monotonic() < deadline:
            time.sleep(0.01)


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, float]:
    """Nested dicts of numbers as one dict with ``/`` in its keys; NaN and whatever is no number is left out."""
    flat: dict[str, float] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}/")
            continue
        if getattr(value, "shape", None) == ():  # NumPy scalar, array or tensor of no dimension
            value = value.item()
        if isinstance(value, bool):
            value = int(value)
        if isinstance(value, int | float) and not math.isnan(value):
            flat[f"{prefix}{key}"] = value
    return flat
