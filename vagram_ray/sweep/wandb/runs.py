"""One Weights & Biases run for one seed: opening, logging, finishing, and what survives a restart of the driver."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from vagram_ray.sweep.wandb.ledger import NO_STEP, Logged
from vagram_ray.sweep.wandb.reader import mark_synced, offline_files, run_end, upload_failed
from vagram_ray.sweep.wandb.target import RunIdentity, Target
from vagram_ray.sweep.wandb.text import flatten

RETURN_KEY = "eval/episode_return"
_FINAL_KEYS = ("eval/episode_return_final", "train/episode_return_final")
_WRITTEN_WITHIN_S = 5.0


@dataclass
class Progress:
    """How far one seed's run is."""

    env_steps: int = NO_STEP
    """The last step that W&B has, or has been given."""
    seen: int = NO_STEP
    """The last step of the seed, whether W&B has it or not; what follows is about all steps up to it."""
    final: float | None = None
    best: float | None = None
    best_env_steps: int = NO_STEP
    failed: bool = False

    def see(self, env_steps: int, row: Mapping[str, float]) -> None:
        """Count a row, once."""
        if env_steps <= self.seen:
            return
        self.seen = env_steps
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


@dataclass
class SeedRun:
    """One W&B run. Every method here may block, and raises whatever wandb raises."""

    identity: RunIdentity
    seed: int
    live: Any = None
    """wandb's run object while it is open; None also for a run that waits for W&B."""
    last_given: int = NO_STEP
    """The last step that was given to this object."""

    @property
    def run_id(self) -> str:
        """The run's id, online and offline."""
        return self.identity.run_id

    def open(self, target: Target, progress: Progress, records: Iterable[Mapping[str, Any]] = ()) -> None:
        """Open or continue the run, and log what the sweep has recorded and W&B has not.

        What W&B really has comes from its server or its files: a driver or service process that was killed may have
        counted rows that never arrived.
        """
        self.live = target.open(self.identity)
        if self.live is None:
            return
        online = not self.live.offline
        before = self.live.starting_step - 1 if online else target.logged_offline(self.run_id).env_steps
        progress.env_steps = before
        target.ledger.note(self.run_id, Logged(before, None, online))
        self.live.define_metric("env_steps")
        self.live.define_metric("*", step_metric="env_steps")
        self.catch_up(progress, records)
        if online:  # or `wandb sync` would send once more what an earlier launch has logged offline
            for file in offline_files(target.directory, self.run_id, target.project, target.entity):
                if run_end(file).env_steps <= progress.env_steps:
                    mark_synced(file)

    def log(self, progress: Progress, env_steps: int, row: Mapping[str, float]) -> None:
        """Log one row at step ``env_steps``, unless that step or a later one is logged already."""
        progress.see(env_steps, row)
        if self.live is None or env_steps <= progress.env_steps:
            return
        self.live.log(dict(row), step=env_steps, commit=True)  # commit: do not hold the row back until the next one
        progress.env_steps = self.last_given = env_steps

    def catch_up(self, progress: Progress, records: Iterable[Mapping[str, Any]]) -> None:
        """Log what the sweep has recorded and W&B has not.

        Args:
            progress: What W&B has.
            records: The trial's records, in order (``vagram_ray.records.results``).
        """
        for env_steps, row in recorded_rows(records, self.seed):
            self.log(progress, env_steps, row)

    def finish(
        self, target: Target, progress: Progress, exit_code: int, summary: Mapping[str, float] | None = None
    ) -> None:
        """Write the summary and close the run; a seed whose training failed closes as a failed run.

        Raises:
            TimeoutError: The server did not take everything in time.
        """
        live, self.live = self.live, None
        if live is None:
            return
        values = {**progress.summary(), **(summary or {})}
        live.summary.update(values)
        for key in _FINAL_KEYS:
            if key in live.summary.keys() and key not in values:  # noqa: SIM118  # a summary is no dict
                del live.summary[key]  # of a sweep that has got more epochs since
        code = exit_code or int(progress.failed)
        if close(live, code, self.last_given):
            target.ledger.note(self.run_id, Logged(progress.env_steps, code, not live.offline))


def close(live: Any, exit_code: int, last_given: int = NO_STEP) -> bool:
    """Finish wandb's run object; returns whether W&B has, or offline its file, what it was given.

    Args:
        live: wandb's run object.
        exit_code: How the run ended.
        last_given: The last step that was logged with it.

    Raises:
        TimeoutError: The server did not take everything in time.
    """
    live.finish(exit_code=exit_code)
    if not live.offline:
        return not upload_failed(live.settings.log_internal)
    # wandb returns a moment before its service process has written the file's end.
    deadline = time.monotonic() + _WRITTEN_WITHIN_S
    while (end := run_end(live.settings.sync_file)).exit_code is None and time.monotonic() < deadline:
        time.sleep(0.01)
    return end.exit_code is not None and end.env_steps >= last_given  # a full disk: less than that


def recorded_rows(records: Iterable[Mapping[str, Any]], seed: int) -> Iterator[tuple[int, dict[str, float]]]:
    """Step and row of a seed for each of its trial's records, as they are logged."""
    for record in records:
        if str(seed) in record["seeds"]:
            shared = {"time": record.get("time", {}), "perf": record.get("perf", {})}
            position = {key: record[key] for key in ("env_steps", "training_iteration")}
            yield int(record["env_steps"]), {**record["seeds"][str(seed)], **flatten(shared), **position}
