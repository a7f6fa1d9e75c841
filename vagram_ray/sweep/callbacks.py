"""Tune callbacks in the driver: records of every result, and progress on the terminal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ray.tune import Callback

from vagram_ray.sweep.progress import ProgressView, SweepProgress
from vagram_ray.sweep.results import append_record


class RecordResults(Callback):
    """Appends every result to the sweep's records as it arrives."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        """Write one line."""
        append_record(self.folder, str(trial), result)


class ShowProgress(Callback):
    """Keeps ``SweepProgress`` up to date and shows it.

    Tune pickles its callbacks to restore a sweep elsewhere; a view belongs to one terminal and stays behind.
    """

    def __init__(self, progress: SweepProgress, view: ProgressView) -> None:
        self._live: tuple[SweepProgress, ProgressView] | None = (progress, view)

    def __getstate__(self) -> dict[str, Any]:
        return {"_live": None}

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A trial's process starts."""
        if self._live:
            self._live[0].started(str(trial))

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        """A trial has finished an epoch."""
        if self._live:
            self._live[0].reported(str(trial), result)
            self._live[1].reported(str(trial))

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A trial has come to its end."""
        if self._live:
            self._live[0].finished(str(trial))
            self._live[1].ended(str(trial))

    def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A trial has failed and starts again from its last checkpoint."""
        if self._live:
            self._live[0].retrying(str(trial), f"{trial.path}/error.txt")
            self._live[1].ended(str(trial))

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A trial has failed for good."""
        if self._live:
            self._live[0].failed(str(trial), f"{trial.path}/error.txt")
            self._live[1].ended(str(trial))
