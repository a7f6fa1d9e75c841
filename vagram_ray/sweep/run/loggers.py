"""``--log``: TensorBoard, CSV or JSON files beside a sweep's records, written by Tune's own logger callbacks.

Tune's loggers write into a trial's folder of Tune, which is gone when a sweep has ended. So they are given each trial
with its folder in the sweep. An epoch that was logged before, in this launch or an earlier one, is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ray.tune.logger import CSVLoggerCallback, JsonLoggerCallback, LoggerCallback, TBXLoggerCallback

from vagram_ray.records.folder import EARLIER_RESULTS
from vagram_ray.sweep.spec import SweepError
from vagram_ray.text import reason

LOGGERS: Mapping[str, type[LoggerCallback]] = {
    "tensorboard": TBXLoggerCallback,
    "csv": CSVLoggerCallback,
    "json": JsonLoggerCallback,
}


def make_loggers(kinds: Sequence[str]) -> list[LoggerCallback]:
    """One logger of each kind.

    Raises:
        SweepError: One needs a package that is not installed, or there is none of that kind.
    """
    loggers = []
    for kind in dict.fromkeys(kinds):
        if kind not in LOGGERS:
            raise SweepError(f"--log={kind!r} is not usable: there are {', '.join(LOGGERS)}.")
        try:
            loggers.append(LOGGERS[kind]())
        except ImportError as error:
            raise SweepError(
                f"--log {kind} needs tensorboardX, which is not installed: pip install tensorboardX."
            ) from error
    return loggers


class _InSweep:
    """A trial as loggers see it: with its folder in the sweep."""

    checkpoint = None

    def __init__(self, trial: Any, folder: Path, axes: Mapping[str, Any]) -> None:
        self._trial, self.local_path, self.evaluated_params = trial, str(folder), dict(axes)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._trial, name)

    def init_local_path(self) -> None:
        Path(self.local_path).mkdir(parents=True, exist_ok=True)


class TrialLoggers:
    """Hands trials and their results to loggers; a full disk stops no sweep.

    Args:
        loggers: Of Tune.
        folder: The sweep's folder on this machine.
        axes: Gives the axes of a trial's cell, by the trial's name.
        done: Epochs that earlier launches recorded, by name.
        warn: Is told what could not be written.
    """

    def __init__(
        self,
        loggers: Sequence[LoggerCallback],
        folder: Path,
        axes: Callable[[str], Mapping[str, Any]],
        done: Mapping[str, int],
        warn: Callable[[str], None],
    ) -> None:
        self._loggers, self._folder, self._axes, self._warn = tuple(loggers), folder, axes, warn
        self._epochs = dict(done)
        self._trials: dict[str, _InSweep] = {}

    def result(self, trial: Any, result: Mapping[str, Any]) -> None:
        """A trial has finished an epoch."""
        name = str(trial)
        if result["training_iteration"] <= self._epochs.get(name, 0):
            return
        self._epochs[name] = result["training_iteration"]
        content = {key: value for key, value in result.items() if key not in ("config", EARLIER_RESULTS)}
        content["timesteps_total"] = result.get("env_steps")  # TensorBoard's x axis
        if name not in self._trials:
            self._trials[name] = _InSweep(trial, self._folder / name, self._axes(name))
            self._each(lambda logger: logger.log_trial_start(self._trials[name]))
        self._each(lambda logger: logger.log_trial_result(0, self._trials[name], dict(content)))

    def end(self, name: str, *, failed: bool = False) -> None:
        """A trial has come to its end, or has failed, for good or not."""
        if (trial := self._trials.pop(name, None)) is not None:
            self._each(lambda logger: logger.log_trial_end(trial, failed))

    def close(self) -> None:
        """Nothing runs any more."""
        for name in list(self._trials):
            self.end(name)

    def _each(self, call: Callable[[Any], None]) -> None:
        for logger in self._loggers:
            try:
                call(logger)
            except OSError as error:
                self._warn(f"{type(logger).__name__} cannot write ({reason(error)}); the sweep's records have all.")
