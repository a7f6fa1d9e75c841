"""The W&B runs of a sweep: ids that every launch of the sweep finds again, and how a run is opened."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vagram_ray.records.recorded import cell_settings
from vagram_ray.sweep.wandb.cursor import NO_STEP
from vagram_ray.sweep.wandb.mode import server_address

SEED_JOB, SWEEP_JOB = "seed", "sweep"
"""W&B's job types: of the runs with learning curves, and of the one with the sweep's results."""
CALL_LIMIT_S = 60.0
"""How long opening a run, or handing over its rows at its end, may take online."""


@dataclass(frozen=True)
class RunIdentity:
    """What W&B shall know of a run before its first row."""

    run_id: str
    name: str
    group: str | None
    job_type: str
    config: Mapping[str, Any]


def logged_name(info: Mapping[str, Any], folder: Path) -> str:
    """The name under which a sweep is logged, which its folder need not have any more.

    Args:
        info: The content of ``sweep.json``.
        folder: The sweep's folder.
    """
    return str((info.get("wandb") or {}).get("name") or folder.name)


def seed_identity(info: Mapping[str, Any], trial: Mapping[str, Any], seed: int, sweep_name: str) -> RunIdentity:
    """Id, name and configuration of the run of one seed.

    Args:
        info: The content of ``sweep.json``. Its ``sweep_id``, which all launches share, is part of the run's id.
        trial: The entry of the seed's trial there.
        seed: The seed.
        sweep_name: Name of the sweep, as W&B shows it.
    """
    cell, sweep_id = info["cells"][trial["cell"]]["label"], info.get("sweep_id", "")
    group = cell[:128]
    # Readable in a folder's listing. The digest tells apart two sweeps, and two cells whose names are cut.
    run_id = f"{slug(group)[:48]}-seed{seed}-{sweep_digest(sweep_id)}-{digest(f'{cell}|{seed}|{sweep_id}', 8)}"
    settings = {**cell_settings(info, trial["cell"]), "seeds": list(trial["seeds"])}
    # Not "sweep": wandb-workspaces takes a config entry of that name for W&B's own kind of sweep.
    origin = {"seed": seed, "cell": group, "sweep_name": sweep_name, "sweep_id": sweep_id, "trial": trial["name"]}
    return RunIdentity(run_id, f"{cell[:112]} seed {seed}", group, SEED_JOB, {**settings, **origin})


def sweep_identity(info: Mapping[str, Any], sweep_name: str) -> RunIdentity:
    """Id, name and configuration of the sweep's own run. Arguments as those of ``seed_identity``."""
    sweep_id = info.get("sweep_id", "")
    run_id = f"sweep-{sweep_digest(sweep_id)}-{digest(sweep_id, 8)}"
    config = {**info, "sweep_name": sweep_name, "sweep_id": sweep_id}
    return RunIdentity(run_id, sweep_name[:128], group=None, job_type=SWEEP_JOB, config=config)


def run_tags(info: Mapping[str, Any], sweep_name: str) -> tuple[str, ...]:
    """The tags of all runs of a sweep: its folder's name, its own, the scale, and one that no other sweep has."""
    named = [str(tag)[:64] for tag in (sweep_name, info.get("name"), info.get("scale")) if tag]  # W&B refuses longer
    return tuple(dict.fromkeys([*named, sweep_tag(info.get("sweep_id", ""))]))


def slug(text: str) -> str:
    """``text`` with letters, digits, dots, underscores and single dashes only, as W&B's ids and artifacts want it."""
    return re.sub(r"[^A-Za-z0-9_.]+", "-", text).strip("-")


def digest(text: str, length: int) -> str:
    """``length`` hexadecimal digits that depend on all of ``text``."""
    return hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()[:length]


def sweep_digest(sweep_id: str) -> str:
    """What the ids of all runs of a sweep have in common."""
    return digest(f"sweep {sweep_id}", 6)


def sweep_tag(sweep_id: str) -> str:
    """The tag of all runs of a sweep, and of no other sweep's."""
    return f"id-{sweep_digest(sweep_id)}"


def open_run(
    identity: RunIdentity,
    folder: Path,
    project: str,
    tags: tuple[str, ...],
    *,
    online: bool,
    finish_limit_s: float | None = None,
) -> Any:
    """Open or continue a run. Returns wandb's run object.

    Args:
        identity: Which run.
        folder: Where wandb keeps its files, in ``wandb/``.
        project: ``PROJECT`` or ``ENTITY/PROJECT``.
        tags: Of all runs of the sweep.
        online: Whether it goes to W&B's server.
        finish_limit_s: How long closing it may take.

    Raises:
        OSError: The folder cannot be written.
        Exception: Whatever wandb raises.
    """
    import wandb

    if not os.access(folder, os.W_OK):  # wandb would silently take the system's temporary folder
        raise OSError(f"{folder} is not writable")
    entity, _, name = project.rpartition("/")
    run = wandb.init(
        project=name,
        entity=entity or None,
        dir=str(folder),
        id=identity.run_id,
        name=identity.name,
        group=identity.group,
        job_type=identity.job_type,
        tags=tags,
        config=dict(identity.config),
        mode="online" if online else "offline",
        reinit="create_new",
        resume="allow",  # offline it takes effect in `wandb sync`, which then appends to the run
        settings=wandb.Settings(
            console="off",
            silent=True,
            init_timeout=CALL_LIMIT_S,
            finish_timeout=CALL_LIMIT_S if finish_limit_s is None else finish_limit_s,
            finish_timeout_raises=True,
            x_disable_stats=True,  # this process's load says nothing about a trial
            use_dot_wandb=False,  # in `wandb/`, whatever the user's settings are
            sagemaker_disable=True,  # it would give all runs of a job one id
        ),
    )
    if identity.job_type == SEED_JOB:
        run.define_metric("env_steps")
        run.define_metric("*", step_metric="env_steps")
    return run


def place_of(project: str) -> str:
    """Names server and project."""
    entity, _, name = project.rpartition("/")
    return f"{server_address()} {entity}/{name}"


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
