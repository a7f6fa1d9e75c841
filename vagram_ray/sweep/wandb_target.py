"""Where the W&B runs of a sweep go, and how one is opened: online, or offline when that does not work."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from vagram_ray.sweep.wandb_mode import key_problem

logger = logging.getLogger(__name__)

INIT_TIMEOUT_S = 60.0
SWEEP_RUN_FILE = "vagram_ray.json"
"""In the ``wandb`` folder of a sweep: the name under which it was logged, and its own run once there is one."""


@dataclass(frozen=True)
class RunIdentity:
    """What W&B shall know of a run before its first row."""

    run_id: str
    name: str
    group: str | None
    job_type: str
    """``"seed"`` for the runs with learning curves, ``"sweep"`` for the one with the sweep's results."""
    config: Mapping[str, Any]


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

    def open(self, run: RunIdentity, finish_timeout_s: float = INIT_TIMEOUT_S) -> Any:
        """Open or continue a run; returns wandb's run object.

        Raises:
            OSError: The directory cannot be written.
            Exception: Whatever wandb raises offline.
        """
        self.directory.mkdir(parents=True, exist_ok=True)
        if not os.access(self.directory, os.W_OK):  # wandb would silently take the system's temporary folder
            raise OSError(f"{self.directory} is not writable")
        live = self._open_online(run, finish_timeout_s) if self.online else None
        if live is None:
            live = self._init(run, "offline", self.offline_id(run.run_id), finish_timeout_s)
        return live

    def offline_id(self, run_id: str) -> str:
        """Id of a run that is written offline; wandb keeps one that could not be opened online in use."""
        return f"{run_id}-offline" if self.mode == "online" else run_id

    def _open_online(self, run: RunIdentity, finish_timeout_s: float) -> Any:
        """wandb's run, or None after a switch to offline."""
        problem = key_problem()  # without a key wandb.init would prompt
        if problem is None:
            try:
                return self._init(run, "online", run.run_id, finish_timeout_s)
            except Exception as error:
                problem = first_line(error)
        self.online = False
        where = self.directory / "wandb"
        logger.warning("W&B cannot log online (%s): logging offline in %s, `wandb sync` uploads it.", problem, where)
        return None

    def _init(self, run: RunIdentity, mode: str, run_id: str, finish_timeout_s: float) -> Any:
        import wandb

        wanted: dict[str, Any] = {
            "console": "off",
            "silent": True,
            "init_timeout": INIT_TIMEOUT_S,
            "finish_timeout": finish_timeout_s,
            "x_disable_stats": True,  # the driver's load, once per seed, says nothing about a trial
            "x_transaction_log_flush_interval": 1.0,  # seconds of rows that a killed driver loses (wandb's own: 15)
        }
        known = wandb.Settings.model_fields  # names that begin with x_ may be missing in another version
        return wandb.init(
            project=self.project,
            entity=self.entity,
            dir=str(self.directory),
            id=run_id,
            name=run.name,
            group=run.group,
            job_type=run.job_type,
            tags=self.tags,
            config=dict(run.config),
            mode=mode,  # type: ignore[arg-type]
            reinit="create_new",
            resume="allow",  # offline it takes effect in `wandb sync`, which then appends to the run
            settings=wandb.Settings(**{key: value for key, value in wanted.items() if key in known}),
        )


def read_sweep_run_file(directory: Path) -> dict[str, Any]:
    """What ``note_sweep_run`` wrote below a sweep's folder; empty if there is nothing readable."""
    try:
        content = json.loads((directory / "wandb" / SWEEP_RUN_FILE).read_text())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def note_sweep_run(directory: Path, **entries: Any) -> None:
    """Add to what ``read_sweep_run_file`` reads."""
    path = directory / "wandb" / SWEEP_RUN_FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({**read_sweep_run_file(directory), **entries}, indent=2) + "\n")


def abandon_service(timeout_s: float) -> None:
    """Let go of wandb's service process, whose exit hook could otherwise hold the interpreter for ever."""

    def teardown() -> None:
        import wandb

        with contextlib.suppress(BaseException):  # it also raises SystemExit
            wandb.teardown(exit_code=1)

    thread = threading.Thread(target=teardown, name="wandb-teardown", daemon=True)
    thread.start()
    thread.join(timeout_s)


def jsonable(value: Any) -> Any:
    """``value`` as JSON can hold it: tuples become lists, and what JSON does not know becomes a string."""
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if np.isfinite(value) else str(value)
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


def slug(text: str) -> str:
    """``text`` with letters, digits, dots, underscores and single dashes only, as W&B's ids and artifacts want it."""
    return re.sub(r"[^A-Za-z0-9_.]+", "-", text).strip("-")


def digest(text: str, length: int) -> str:
    """``length`` hexadecimal digits that depend on all of ``text``."""
    return hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()[:length]
