"""Where the W&B runs of a sweep go, and how one is opened."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vagram_ray.sweep.wandb.cursor import NO_STEP
from vagram_ray.sweep.wandb.identity import RunIdentity
from vagram_ray.sweep.wandb.mode import server_address

CALL_LIMIT_S = 60.0
"""How long opening a run, or handing over its rows at its end, may take online."""


@dataclass(frozen=True)
class Target:
    """Where the runs of a sweep go."""

    folder: Path
    """The sweep's."""
    project: str
    """``PROJECT`` or ``ENTITY/PROJECT``."""
    sweep_name: str
    """As W&B shows it."""

    @property
    def place(self) -> str:
        """Names server and project."""
        entity, _, project = self.project.rpartition("/")
        return f"{server_address()} {entity}/{project}"

    def open(
        self, run: RunIdentity, tags: tuple[str, ...], *, online: bool, finish_limit_s: float | None = None
    ) -> Any:
        """Open or continue a run. Returns wandb's run object.

        Raises:
            OSError: The folder cannot be written.
            Exception: Whatever wandb raises.
        """
        import wandb

        if not os.access(self.folder, os.W_OK):  # wandb would silently take the system's temporary folder
            raise OSError(f"{self.folder} is not writable")
        entity, _, project = self.project.rpartition("/")
        wanted: dict[str, Any] = {
            "console": "off",
            "silent": True,
            "init_timeout": CALL_LIMIT_S,
            "finish_timeout": CALL_LIMIT_S if finish_limit_s is None else finish_limit_s,
            "finish_timeout_raises": True,
            "x_disable_stats": True,  # this process's load says nothing about a trial
            "x_transaction_log_flush_interval": 1.0,  # seconds until others see rows on the disk (wandb's own: 15)
        }
        known = wandb.Settings.model_fields  # names that begin with x_ may be missing in another version
        return wandb.init(
            project=project,
            entity=entity or None,
            dir=str(self.folder),
            id=run.run_id,
            name=run.name,
            group=run.group,
            job_type=run.job_type,
            tags=tags,
            config=dict(run.config),
            mode="online" if online else "offline",
            reinit="create_new",
            resume="allow",  # offline it takes effect in `wandb sync`, which then appends to the run
            settings=wandb.Settings(**{key: value for key, value in wanted.items() if key in known}),
        )


def step_at_server(path: str, timeout_s: int = 20) -> int:
    """The last step that W&B's server has of a run, or ``NO_STEP`` if it has none or does not say.

    Args:
        path: ``ENTITY/PROJECT/ID``.
        timeout_s: How long to wait for its answer.
    """
    import wandb

    with contextlib.suppress(Exception):
        return int(wandb.Api(timeout=timeout_s).run(path).lastHistoryStep)
    return NO_STEP
