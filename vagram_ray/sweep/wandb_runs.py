"""One Weights & Biases run for one seed: opening, logging, finishing, and what survives a restart of the driver."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import threading
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np

from vagram_ray.sweep.wandb_mode import key_problem
from vagram_ray.sweep.wandb_reader import is_finished, last_logged_step

logger = logging.getLogger(__name__)

INIT_TIMEOUT_S = 60.0
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
        """Final and best evaluation return, and where the best was; empty before the first evaluation."""
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
class Target:
    """Where the runs of a sweep go."""

    project: str
    entity: str | None
    directory: Path
    tags: tuple[str, ...]
    mode: str
    online: bool = field(init=False)
    """Turns False when a run cannot be opened online: the rest of the sweep is logged offline."""

    def __post_init__(self) -> None:
        self.online = self.mode == "online"


@dataclass
class SeedRun:
    """One W&B run. Every method here may block, and raises whatever wandb raises."""

    run_id: str
    name: str
    group: str
    seed: int
    config: dict[str, Any]
    live: Any = None
    """wandb's run object while it is open."""

    def open(self, target: Target, progress: Progress) -> None:
        """Open or continue the run; afterwards ``progress.env_steps`` is the last step that W&B really has."""
        target.directory.mkdir(parents=True, exist_ok=True)
        if not os.access(target.directory, os.W_OK):  # wandb would silently take the system's temporary folder
            raise OSError(f"{target.directory} is not writable")
        self.live = self._open_online(target) if target.online else None
        if self.live is None:
            # wandb keeps the id of a run that could not be opened online in use: such a sweep takes other ids.
            run_id = f"{self.run_id}-offline" if target.mode == "online" else self.run_id
            self.live = self._init(target, "offline", run_id)
            # A driver that was killed may have counted rows that never reached the file.
            on_disk = last_logged_step(target.directory, run_id)
            progress.env_steps = progress.env_steps if on_disk is None else on_disk
        elif self.live.resumed:
            progress.env_steps = self.live.starting_step - 1
        self.live.define_metric("env_steps")
        self.live.define_metric("*", step_metric="env_steps")

    def log(self, progress: Progress, env_steps: int, row: dict[str, float]) -> None:
        """Log one row at step ``env_steps``, unless that step or a later one is logged already."""
        if env_steps <= progress.env_steps:
            return
        self.live.log(row, step=env_steps, commit=True)  # commit: do not hold the row back until the next one
        progress.add(env_steps, row)

    def finish(self, progress: Progress, exit_code: int) -> None:
        """Write the summary and close the run; a seed whose training failed closes as a failed run."""
        live, self.live = self.live, None
        live.summary.update(progress.summary())
        live.finish(exit_code=exit_code or int(progress.failed))
        if live.offline:  # wandb returns a moment before its service process has written the file's end
            deadline = time.monotonic() + _WRITTEN_WITHIN_S
            while not is_finished(live.settings.sync_file) and time.monotonic() < deadline:
                time.sleep(0.01)

    def _open_online(self, target: Target) -> Any:
        """wandb's run, or None after a switch to offline."""
        problem = key_problem()  # without a key wandb.init would prompt
        if problem is None:
            try:
                return self._init(target, "online", self.run_id)
            except Exception as error:
                problem = first_line(error)
        target.online = False
        where = target.directory / "wandb"
        logger.warning("W&B cannot log online (%s): logging offline in %s, `wandb sync` uploads it.", problem, where)
        return None

    def _init(self, target: Target, mode: str, run_id: str) -> Any:
        import wandb

        wanted: dict[str, Any] = {
            "console": "off",
            "silent": True,
            "init_timeout": INIT_TIMEOUT_S,
            "finish_timeout": INIT_TIMEOUT_S,
            "x_disable_stats": True,  # the driver's load, once per seed, says nothing about a trial
            "x_transaction_log_flush_interval": 1.0,  # seconds of rows that a killed driver loses (wandb's own: 15)
        }
        known = wandb.Settings.model_fields  # names that begin with x_ may be missing in another version
        return wandb.init(
            project=target.project,
            entity=target.entity,
            dir=str(target.directory),
            id=run_id,
            name=self.name,
            group=self.group,
            tags=target.tags,
            config=self.config,
            mode=mode,  # type: ignore[arg-type]
            reinit="create_new",
            resume="allow",  # offline it takes effect in `wandb sync`, which then appends to the run
            settings=wandb.Settings(**{key: value for key, value in wanted.items() if key in known}),
        )


def abandon_service(timeout_s: float) -> None:
    """Let go of wandb's service process, whose exit hook could otherwise hold the interpreter for ever."""

    def teardown() -> None:
        import wandb

        with contextlib.suppress(BaseException):  # it also raises SystemExit
            wandb.teardown(exit_code=1)

    thread = threading.Thread(target=teardown, name="wandb-teardown", daemon=True)
    thread.start()
    thread.join(timeout_s)


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


def jsonable(value: Any) -> Any:
    """``value`` as JSON can hold it: tuples become lists, and what JSON does not know becomes a string."""
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, Mapping):
        return {str(key): jsonable(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [jsonable(entry) for entry in value]
    if callable(value) and hasattr(value, "__qualname__"):  # str() of a function holds an address
        return f"{value.__module__}.{value.__qualname__}"
    return str(value)


def first_line(error: BaseException) -> str:
    """The first line of an error's message, or its type where it has none."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
