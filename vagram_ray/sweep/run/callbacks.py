"""The callback in the driver: records of every result, what becomes of trials that fail, progress on the terminal."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any

from ray.tune import Callback
from ray.tune.result import SHOULD_CHECKPOINT

from vagram_ray.ray_internals import error_of
from vagram_ray.records.folder import EARLIER_RESULTS, STOPPED_BY, RecordWriter
from vagram_ray.rllib.checkpointing import CHECKPOINT_ERROR, DAMAGED_CHECKPOINTS
from vagram_ray.rllib.results import ALL_SEEDS_FAILED, ENVIRONMENT_FAULTS
from vagram_ray.rllib.trial_output import OUTPUT_FILES
from vagram_ray.sweep.plan.tuning import Decisions
from vagram_ray.sweep.run.faults import Faults
from vagram_ray.sweep.run.local_ray import RayWatch
from vagram_ray.sweep.run.loggers import TrialLoggers
from vagram_ray.sweep.run.trials import TrialQueue
from vagram_ray.sweep.view.progress import ProgressView
from vagram_ray.text import format_seeds

_LAST_WORDS = 20_000
"""Bytes of a trial's stderr in which the reason of its end is looked for."""


class FollowTrials(Callback):
    """Hears of everything that happens to trials.

    Args:
        queue: Starts failed trials again.
        faults: Decides which.
        writer: Writes the records.
        view: Shows progress.
        ray_watch: Tells when Ray itself has died.
        decisions: Knows which trials a scheduler or a stopper has ended.
        loggers: Write further files of each trial.
    """

    def __init__(
        self,
        queue: TrialQueue,
        faults: Faults,
        writer: RecordWriter,
        view: ProgressView,
        ray_watch: RayWatch | None = None,
        decisions: Decisions | None = None,
        loggers: TrialLoggers | None = None,
    ) -> None:
        self._decisions, self._loggers = decisions or Decisions(), loggers
        self._queue, self._faults, self._writer, self._view = queue, faults, writer, view
        self._progress, self._ray_watch = view.progress, ray_watch
        self._dead: set[tuple[str, str]] = set()

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A trial's process starts."""
        self._progress.started(str(trial))

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        """A trial has finished an epoch."""
        name = str(trial)
        self._faults.progressed(name, int(result["training_iteration"]))
        by = self._decisions.stopped.get(name)
        self._writer.append(name, {**result, STOPPED_BY: by} if by else result)
        self._progress.reported(name, result)
        self._warn(name, result)
        self._view.reported(name)
        if self._loggers is not None:
            self._loggers.result(trial, result)
        for key in ("config", "seeds", EARLIER_RESULTS):  # Tune would keep statistics of every number
            result.pop(key, None)
        if by:  # Tune has the trial save before it ends it
            result[SHOULD_CHECKPOINT] = True

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A trial has come to its end."""
        name = str(trial)
        if by := self._decisions.stopped.get(name):
            self._progress.stopped(name, by)
        else:
            self._progress.finished(name)
        self._view.ended(name)
        if self._loggers is not None:
            self._loggers.end(name)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A trial has failed: it runs once more, in smaller packs, or has failed for good."""
        name = str(trial)
        again = self._faults.failed(name, error_of(trial), self._last_words(name))
        again = self._queue.retry(name, again)
        tell = self._progress.retrying if again else self._progress.failed
        tell(name, self._faults.error_path(name), reason=self._faults.reason(name))
        if self._loggers is not None:
            self._loggers.end(name, failed=not again)
        self._view.ended(name)
        if not again:
            self._queue.replace(name)

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """Tune looks for the next event."""
        if self._ray_watch is not None:
            self._ray_watch.check()

    def on_experiment_end(self, trials: list[Any], **info: Any) -> None:
        """Nothing runs any more."""
        if self._loggers is not None:
            self._loggers.close()

    def _warn(self, name: str, result: Mapping[str, Any]) -> None:
        """Tell of checkpoints that failed or were damaged, and of seeds that have died."""
        if CHECKPOINT_ERROR in result:
            self._view.warn(_checkpoint_warning(str(result[CHECKPOINT_ERROR])))
        for sentence in result.get(DAMAGED_CHECKPOINTS, ()):
            self._view.warn(f"{name}: {sentence}")
        for fault in result.get(ENVIRONMENT_FAULTS, ()):
            self._view.warn(f"{name}: a seed has died: {fault}.")
        if ALL_SEEDS_FAILED in result:
            self._view.warn(f"{name}: {result[ALL_SEEDS_FAILED]} The same command does not start it again.")
            return
        died = {seed for seed, metrics in result.get("seeds", {}).items() if metrics.get("failed")}
        new = [int(seed.removeprefix("seed_")) for seed in died if (name, seed) not in self._dead]
        self._dead |= {(name, seed) for seed in died}
        if new and ENVIRONMENT_FAULTS not in result:
            seeds = f"seeds {format_seeds(sorted(new))}" if len(new) > 1 else f"seed {new[0]}"
            whose = "their" if len(new) > 1 else "its"
            epoch = result["training_iteration"]
            self._view.warn(f"{name}: {seeds} died in epoch {epoch}: {whose} networks became NaN.")

    def _last_words(self, name: str) -> str:
        """The end of what a trial has written to its stderr, where its folder is on this machine."""
        try:
            with (self._faults.folder / name / OUTPUT_FILES[1]).open("rb") as file:
                file.seek(0, os.SEEK_END)
                file.seek(max(0, file.tell() - _LAST_WORDS))
                return file.read().decode(errors="replace")
        except OSError:
            return ""


def _checkpoint_warning(error: str) -> str:
    """The same sentence for every checkpoint that fails for one reason."""
    reason = re.sub(r"^\[errno \d+\] ", "", error.rpartition(": ")[2].rstrip("."), flags=re.IGNORECASE)
    return (
        f"Checkpoints cannot be written ({reason}); training goes on, and a trial that fails goes on from the last "
        "one that could."
    )
