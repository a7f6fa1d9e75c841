"""Which W&B run belongs to which seed of a sweep: ids that every launch of the sweep finds again."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vagram_ray.records.recorded import cell_settings

SEED_JOB, SWEEP_JOB = "seed", "sweep"
"""W&B's job types: of the runs with learning curves, and of the one with the sweep's results."""


@dataclass(frozen=True)
class RunIdentity:
    """What W&B shall know of a run before its first row."""

    run_id: str
    name: str
    group: str | None
    job_type: str
    config: Mapping[str, Any]


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
