"""Where the W&B runs of a sweep go, and how one is opened: online, or offline when that does not work."""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from vagram_ray.files import write_atomically
from vagram_ray.sweep.wandb.ledger import NO_STEP, Ledger, Logged
from vagram_ray.sweep.wandb.mode import key_problem, server_address
from vagram_ray.sweep.wandb.reader import offline_files, online_files, run_end
from vagram_ray.sweep.wandb.service import abandon_service
from vagram_ray.sweep.wandb.text import first_line

logger = logging.getLogger(__name__)

INIT_TIMEOUT_S = 60.0
RETRY_AFTER_S = 600.0
"""After a run that could not be opened online, others are left to ``wandb_refill`` for so long."""
SEED_JOB, SWEEP_JOB = "seed", "sweep"
"""W&B's job types: of the runs with learning curves, and of the one with the sweep's results."""
SWEEP_RUN_FILE = "vagram_ray.json"
"""In the ``wandb`` folder of a sweep: the name under which it was logged, and its own run once there is one."""
_DELETED = "previously created and deleted"


@dataclass(frozen=True)
class RunIdentity:
    """What W&B shall know of a run before its first row."""

    run_id: str
    name: str
    group: str | None
    job_type: str
    config: Mapping[str, Any]


@dataclass
class Target:
    """Where the runs of a sweep go.

    A seed's run that was begun online goes on online only: its rows could not be uploaded a second time from files
    without being there twice. It waits while W&B cannot be reached; the sweep's records have its rows.
    """

    project: str
    entity: str | None
    directory: Path
    tags: tuple[str, ...]
    mode: str
    online: bool = field(init=False)
    """Turns False when the first run cannot be opened online: this launch of the sweep is logged offline."""

    def __post_init__(self) -> None:
        self.online = self.mode == "online"
        self._was_reached = self._is_told = False
        self._retry_at = 0.0

    @cached_property
    def ledger(self) -> Ledger:
        """What W&B is known to have."""
        return Ledger(self.directory, f"{server_address()} {self.entity or ''}/{self.project}")

    def open(self, run: RunIdentity, finish_timeout_s: float | None = None) -> Any:
        """Open or continue a run; returns wandb's run object, or None where it has to wait for W&B.

        Closing it online may take ``finish_timeout_s`` (``INIT_TIMEOUT_S``).

        Raises:
            OSError: The directory cannot be written.
            Exception: Whatever wandb raises offline.
        """
        self.directory.mkdir(parents=True, exist_ok=True)
        if not os.access(self.directory, os.W_OK):  # wandb would silently take the system's temporary folder
            raise OSError(f"{self.directory} is not writable")
        limit_s = INIT_TIMEOUT_S if finish_timeout_s is None else finish_timeout_s
        live = self._open_online(run, limit_s) if self.online else None
        if live is None and not self.online and self.may_go_offline(run):
            live = self._init(run, "offline", limit_s)
        return live

    def pause(self, reason: str) -> None:
        """Open no further run for ``RETRY_AFTER_S``: each would wait for W&B in vain."""
        self._retry_at = time.monotonic() + RETRY_AFTER_S
        if not self._is_told:
            self._is_told = True
            logger.warning(
                "W&B does not answer (%s): what it lacks waits in the sweep's records and is handed over later.", reason
            )

    def may_go_offline(self, run: RunIdentity) -> bool:
        """Whether a run can be written offline: always but for a seed's that was begun online, or deleted there."""
        if run.job_type != SEED_JOB:
            return True
        logged = self.ledger.get(run.run_id)
        if logged is not None and (logged.online or logged.deleted):
            return False
        ends = [run_end(file) for file in online_files(self.directory, run.run_id)]
        return all(end.env_steps == NO_STEP or end.project != self.project for end in ends)

    def logged_offline(self, run_id: str) -> Logged:
        """What the files of a run and the ledger say together; files may have been deleted after an upload."""
        known = self.ledger.get(run_id) or Logged()
        ends = [run_end(file) for file in offline_files(self.directory, run_id, self.project, self.entity)]
        if not ends or max(end.env_steps for end in ends) < known.env_steps:
            return known
        return Logged(max(end.env_steps for end in ends), ends[-1].exit_code)

    def _open_online(self, run: RunIdentity, finish_timeout_s: float) -> Any:
        """wandb's run; None after a switch to offline, or when this one has to wait."""
        logged = self.ledger.get(run.run_id)
        if (logged is not None and logged.deleted) or time.monotonic() < self._retry_at:
            return None
        problem = key_problem()  # without a key wandb.init would prompt
        if problem is None:
            try:
                live = self._init(run, "online", finish_timeout_s)
                self._was_reached, self._is_told = True, False
                return live
            except Exception as error:
                problem = first_line(error)
        if _DELETED in problem:
            self.ledger.note(run.run_id, replace(logged or Logged(), deleted=True))
            logger.warning("The W&B run %s (%s) was deleted there and is not logged any more.", run.name, run.run_id)
        elif self._was_reached:
            self.pause(problem)
        else:
            abandon_service()  # wandb keeps the id of a run that could not be opened in use; no other is open yet
            self.online = False
            where = self.directory / "wandb"
            logger.warning(
                "W&B cannot log online (%s): logging offline in %s; the sweep's command hands it over when it is run "
                "again, or `wandb sync`.", problem, where,
            )  # fmt: skip
        return None

    def _init(self, run: RunIdentity, mode: str, finish_timeout_s: float) -> Any:
        import wandb

        wanted: dict[str, Any] = {
            "console": "off",
            "silent": True,
            "init_timeout": INIT_TIMEOUT_S,
            "finish_timeout": finish_timeout_s,
            "finish_timeout_raises": True,
            "x_disable_stats": True,  # the driver's load, once per seed, says nothing about a trial
            "x_transaction_log_flush_interval": 1.0,  # seconds of rows that a killed driver loses (wandb's own: 15)
        }
        known = wandb.Settings.model_fields  # names that begin with x_ may be missing in another version
        return wandb.init(
            project=self.project,
            entity=self.entity,
            dir=str(self.directory),
            id=run.run_id,
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
    before = read_sweep_run_file(directory)
    if (after := {**before, **entries}) != before:
        write_atomically(directory / "wandb" / SWEEP_RUN_FILE, json.dumps(after, indent=2) + "\n")
