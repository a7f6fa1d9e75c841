"""Checkpoints of an ``MBPO``: what they hold, and a Tune trial that writes its own and goes on from them by itself.

Held is everything the numbers depend on: the agent (networks, optimizers, buffers, normalizer, elites, random streams,
schedules, counters), the random generators of its environments, and the iteration. Nothing is pickled.

A trial that checkpoints itself (``MBPOConfig.checkpointing(checkpoint_every=...)``) writes into its own folder in the
storage and looks there when its process starts. A retry after a failure, a new driver and another node are then one
thing: start the trial's process again. The first result after that is the one of the checkpoint's own epoch once
more, so that no result is lost that was under way when the process died.
"""

from __future__ import annotations

import contextlib
import logging
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Protocol

from pyarrow.fs import FileSystem
from ray.tune.result import TIME_THIS_ITER_S, TIME_TOTAL_S, TRAINING_ITERATION

from vagram_ray.checkpoint import (
    CheckpointError,
    CheckpointFolder,
    CheckpointHistory,
    Kept,
    read_checkpoint,
    write_checkpoint,
)
from vagram_ray.checkpoint.files import STORAGE_ERRORS, resolve
from vagram_ray.checkpoint.folder import SHARED_REPLAY
from vagram_ray.checkpoint.history import OWN_FOLDER, numbered_checkpoints
from vagram_ray.core.setting_checks import is_integer
from vagram_ray.records.folder import EARLIER_RESULTS
from vagram_ray.rllib.env_runner import ENVIRONMENTS
from vagram_ray.rllib.environments import missing_module
from vagram_ray.rllib.learner import MBPOLearner
from vagram_ray.rllib.plain_config import (
    Config,
    config_from_plain,
    differences,
    lasting_differences,
    listed_differences,
    plain_settings,
    to_plain_value,
)
from vagram_ray.rllib.rllib_files import rllib_files
from vagram_ray.rllib.values import MBPOValues

logger = logging.getLogger(__name__)

AUTO_INTERVAL_S, AUTO_SHARE = 60.0, 0.02
"""``checkpoint_every="auto"``: seconds between checkpoints, and the share of the wall time that they may take."""
CHECKPOINT_ERROR = "checkpoint_error"
"""Key of a result whose checkpoint could not be written: why."""
DAMAGED_CHECKPOINTS = "damaged_checkpoints"
"""Key of a process's first result: a sentence on each damaged checkpoint that was passed over."""
KEPT_SECTIONS = (TRAINING_ITERATION, "env_steps", TIME_TOTAL_S, "time", "perf", "seeds")
"""What a checkpoint keeps of every earlier result."""


class Trained(Protocol):
    """What checkpoints need of an ``MBPO``."""

    _iteration: int
    _time_total: float

    @property
    def config(self) -> MBPOValues:
        """The configuration."""

    @property
    def env_runner(self) -> Any:
        """The owner of the environments."""

    @property
    def learner(self) -> MBPOLearner:
        """The owner of the agent."""

    @property
    def training_iteration(self) -> int:
        """Epochs so far."""


def save_algorithm(algo: Trained, path: str | Path, filesystem: FileSystem | None = None) -> str:
    """Write a checkpoint that holds all it needs; returns its path."""
    filesystem, location = resolve(path, filesystem)
    filesystem.create_dir(location.rpartition("/")[0], recursive=True)
    folder = CheckpointFolder(filesystem, location)
    content = plain_content(algo.config)
    replay, beside = algo.learner.agent.replay, rllib_files(type(algo), content, algo.learner.rl_module)
    write_checkpoint(folder, content, algorithm_state(algo), replay, beside=beside)
    return location


def restore_algorithm(algo: Trained, path: str | Path, filesystem: FileSystem | None = None) -> None:
    """Go on from a checkpoint.

    Raises:
        CheckpointError: There is none, or it is damaged.
        ValueError: It does not fit this algorithm.
    """
    folder = CheckpointFolder(*resolve(path, filesystem))
    config, state = read_checkpoint(folder)
    if changed := lasting_differences(config["settings"], plain_settings(algo.config)):
        raise ValueError(
            f"The checkpoint {folder.path!r} does not fit, because its networks are others "
            f"({listed_differences(changed)}): ask for the same, or begin anew."
        )
    set_algorithm_state(algo, state)


def config_of_checkpoint(config: Config, path: str | Path, filesystem: FileSystem | None = None) -> Config:
    """``config`` with the settings and seeds of a checkpoint.

    Raises:
        CheckpointError: There is no checkpoint, or it is damaged.
        ValueError: It was trained with an extension that this process has not loaded, or cannot be rebuilt.
    """
    folder = CheckpointFolder(*resolve(path, filesystem))
    return config_of_content(config, folder.read_config(), f"The checkpoint {folder.path!r}")


def config_of_content(config: Config, content: Mapping[str, Any], whose: str) -> Config:
    """The same of what ``config.json`` holds; ``whose`` begins the sentences about it."""
    config = config_from_plain(config, content["settings"], tuple(content["seeds"]))
    if missing := missing_module(config.env):  # it would be imported
        way_out = f"import {missing}" if not missing.endswith(".py") else f"load_extensions([{missing!r}])"
        raise ValueError(
            f"{whose} was trained in {config.env!r}, whose module is not imported because a checkpoint names it: "
            f"{way_out} first, or give the class, config=MBPOConfig().environment(...)."
        )
    try:
        config.copy(copy_frozen=False).validate()
    except ValueError as error:
        if not (names := content["settings"].get("extensions")):
            raise
        raise ValueError(
            f"{error} {whose} was trained with {', '.join(map(repr, names))}, which is not executed because a "
            "checkpoint names it: call vagram_ray.rllib.load_extensions(...) with it first."
        ) from error
    return config


def plain_content(config: MBPOValues) -> dict[str, Any]:
    """``config.json`` of a checkpoint."""
    return {"algorithm": "MBPO", "seeds": list(config.seeds), "settings": plain_settings(config)}


def algorithm_state(algo: Trained) -> dict[str, Any]:
    """The state of a run without the real buffer's rows; tensors are the agent's own memory."""
    return {
        "agent": algo.learner.agent.state_dict(with_transitions=False),
        ENVIRONMENTS: algo.env_runner.get_state(components=ENVIRONMENTS)[ENVIRONMENTS],
        "training_iteration": algo.training_iteration,
        "time_total_s": algo._time_total,
    }


def set_algorithm_state(algo: Trained, state: Mapping[str, Any]) -> None:
    """Take over a state.

    Raises:
        ValueError: It does not fit this algorithm.
    """
    algo.learner.agent.load_state_dict(state["agent"])
    algo.env_runner.set_state({ENVIRONMENTS: state[ENVIRONMENTS]})
    algo._iteration = int(state["training_iteration"])
    algo._time_total = float(state["time_total_s"])


def place_in_tunes_folder(filesystem: FileSystem, path: str) -> str:
    """Where a trial whose folder is Tune's keeps its own checkpoints; where an earlier version began to, if it did."""
    for _, folder in numbered_checkpoints(filesystem, path):
        with contextlib.suppress(CheckpointError):
            if folder.manifest().replay == SHARED_REPLAY:
                return path
    return f"{path}/{OWN_FOLDER}"


class TrialCheckpoints:
    """Writes the checkpoints of one Tune trial and finds them again.

    Args:
        filesystem: Where ``path`` is.
        path: The trial's folder in the storage.
        every: Epochs between checkpoints, or ``"auto"``.
        keep: Which checkpoints are kept, as ``Kept.of`` takes it.
        last_epoch: The last epoch of the trial, which is always saved; None if there is none.
    """

    def __init__(
        self, filesystem: FileSystem, path: str, every: int | Literal["auto"], keep: int | str, last_epoch: int | None
    ) -> None:
        self._history = CheckpointHistory(filesystem, path, keep)
        self._every, self._last_epoch, self._kept = every, last_epoch, Kept.of(keep)
        self._last_saved, self._last_cost = time.monotonic(), 0.0
        self._results: list[dict[str, Any]] = []
        self._unsaved: tuple[int, dict[str, Any], float] | None = None
        self.damaged: list[str] = []
        """Sentences on the damaged checkpoints that ``resume`` has passed over."""
        self._refusal = ""

    def resume(self, algo: Trained) -> dict[str, Any] | None:
        """Go on from the newest whole checkpoint; returns the result of its epoch, or None without a checkpoint.

        A checkpoint of other settings is left alone, and ``check`` refuses to go on, until the algorithm is set back.
        """
        saved = self._history.read_newest(self.damaged.append)
        self._history.clean()
        if saved is None:
            return None
        _, config, state = saved
        self._results = state["results"]
        if changed := differences(config["settings"], plain_settings(algo.config)):
            self._refusal = (
                f"The checkpoints in {self._history.path!r} were written with other settings "
                f"({listed_differences(changed)}); give the sweep another name, or remove them."
            )
            return None
        set_algorithm_state(algo, state)
        result: dict[str, Any] = state["result"]
        return result | {EARLIER_RESULTS: self._results[:-1]}

    def check(self) -> None:
        """Refuse to train beside checkpoints of other settings.

        Raises:
            ValueError: There are some.
        """
        if self._refusal:
            raise ValueError(self._refusal)

    def set_back(self, epoch: int) -> None:
        """The algorithm has taken over a state of elsewhere, after ``epoch``: the trial goes on from there.

        That is what a scheduler such as PBT does, with new settings and another trial's checkpoint.
        """
        self._refusal = ""
        self._unsaved = None
        self._results = [result for result in self._results if result[TRAINING_ITERATION] <= epoch]
        self._history.set_back()

    def save_if_due(self, algo: Trained, epoch: int, result: dict[str, Any], seconds: float) -> None:
        """Save after ``epoch``, which took ``seconds``, if it is time to; notes cost or failure in ``result``.

        A checkpoint that cannot be written stops nothing: the one before stays, and the run goes on.
        """
        plain, total_s = plain_result(result), algo._time_total + seconds
        whole = plain | {TRAINING_ITERATION: epoch, TIME_TOTAL_S: total_s}
        self._results.append({key: whole[key] for key in KEPT_SECTIONS if key in whole})
        self._unsaved = epoch, plain | {TIME_THIS_ITER_S: seconds}, total_s
        if not self._due(epoch):
            return
        if failure := self.save_newest(algo):
            result[CHECKPOINT_ERROR] = failure
        result.setdefault("time", {})["checkpoint_s"] = self._last_cost

    def save_newest(self, algo: Trained) -> str:
        """Save after the newest epoch if that is not done. Returns a sentence on why it failed, empty if it did not."""
        if self._unsaved is None:
            return ""
        (epoch, result, total_s), failure = self._unsaved, ""
        started = time.perf_counter()
        own = {"training_iteration": epoch, "time_total_s": total_s, "results": self._results, "result": result}
        try:
            content = plain_content(algo.config)
            beside = rllib_files(type(algo), content, algo.learner.rl_module)
            self._history.write(epoch, content, algorithm_state(algo) | own, algo.learner.agent.replay, beside)
            self._unsaved = None
        except STORAGE_ERRORS as error:
            reason = getattr(error, "strerror", None) or str(error)
            failure = f"The checkpoint after epoch {epoch} could not be written: {reason}."
            logger.warning("%s Training goes on; the checkpoint before is kept.", failure)
        self._last_saved, self._last_cost = time.monotonic(), time.perf_counter() - started
        return failure

    def _due(self, epoch: int) -> bool:
        if epoch == self._last_epoch or (self._kept.every and self._kept.is_marked(epoch)):
            return True
        if self._every == "auto":
            return time.monotonic() - self._last_saved >= max(AUTO_INTERVAL_S, self._last_cost / AUTO_SHARE)
        return epoch % self._every == 0


def plain_result(result: Mapping[str, Any]) -> dict[str, Any]:
    """The numbers and texts of a result, to be reported once more; what is neither is left out."""
    plain: dict[str, Any] = {}
    for key, value in result.items():
        if isinstance(value, Mapping):
            plain[str(key)] = plain_result(value)
        elif hasattr(value, "item") and getattr(value, "shape", None) == ():
            plain[str(key)] = value.item()
        elif value is None or isinstance(value, bool | int | float | str):
            plain[str(key)] = value
        elif isinstance(value, list | tuple) and all(isinstance(item, bool | int | float | str) for item in value):
            plain[str(key)] = to_plain_value(value)
    return plain


def check_checkpointing(every: Any, keep: Any, last_epoch: Any) -> None:
    """Raise ``ValueError`` for a value that cannot work."""
    if every not in (None, "auto") and not _is_count(every):
        raise ValueError(
            f"checkpoint_every={every!r} is not usable: give the epochs between checkpoints, 'auto', or None."
        )
    Kept.of(keep)
    if last_epoch is not None and not _is_count(last_epoch):
        raise ValueError(f"checkpoint_last_epoch={last_epoch!r} is not usable: give the number of the last epoch.")


def check_time_limit(limit: Any) -> None:
    """Raise ``ValueError`` for a time limit that cannot work."""
    sound = limit in (None, "auto") or (isinstance(limit, int | float) and not isinstance(limit, bool) and limit > 0)
    if not sound or (isinstance(limit, float) and not math.isfinite(limit)):
        raise ValueError(f"env_step_time_limit_s={limit!r} is not usable: give seconds, 'auto', or None for no limit.")


def _is_count(value: Any) -> bool:
    return is_integer(value) and value >= 1
