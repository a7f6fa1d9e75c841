"""Tune callbacks in the driver: records of every result, and progress on the terminal."""

from __future__ import annotations

import re
from typing import Any

from ray.tune import Callback

from vagram_ray.records.writer import RecordWriter
from vagram_ray.rllib.checkpointing import CHECKPOINT_ERROR
from vagram_ray.sweep.run.faults import Faults
from vagram_ray.sweep.view.progress import ProgressView, SweepProgress


class RecordResults(Callback):
    """Appends every result to the sweep's records as it arrives."""

    def __init__(self, writer: RecordWriter) -> None:
        self._writer = writer

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        """Write one line."""
        self._writer.append(str(trial), result)


class ShowProgress(Callback):
    """Keeps ``SweepProgress`` up to date and shows it."""

    def __init__(self, progress: SweepProgress, view: ProgressView, faults: Faults) -> None:
        self._progress, self._view, self._faults = progress, view, faults

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A trial's process starts."""
        self._progress.started(str(trial))

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        """A trial has finished an epoch."""
        self._progress.reported(str(trial), result)
        if CHECKPOINT_ERROR in result:
            self._view.warn(_checkpoint_warning(str(result[CHECKPOINT_ERROR])))
        self._view.reported(str(trial))

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A trial has come to its end."""
        self._progress.finished(str(trial))
        self._view.ended(str(trial))

    def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A trial has failed and starts again from its last checkpoint."""
        name = str(trial)
        self._progress.retrying(name, self._faults.error_path(name), reason=self._faults.reason(name))
        self._view.ended(name)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A trial has failed for good, or as it was."""
        name = str(trial)
        self._progress.failed(name, self._faults.error_path(name), reason=self._faults.reason(name))
        self._view.ended(name)


def _checkpoint_warning(error: str) -> str:
    """The same sentence for every checkpoint that fails for one reason."""
    reason = re.sub(r"^\[errno \d+\] ", "", error.rpartition(": ")[2].rstrip("."), flags=re.IGNORECASE)
    return (
        f"Checkpoints cannot be written ({reason}); training goes on, and a trial that fails goes on from the last "
        "one that could."
    )
