"""Which W&B run belongs to which seed of a sweep: ids that every launch of the sweep finds again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vagram_ray.sweep.wandb.target import SEED_JOB, SWEEP_JOB, RunIdentity
from vagram_ray.sweep.wandb.text import digest, jsonable, slug, sweep_digest


def seed_identity(
    config: Mapping[str, Any], cell: str, seed: int, *, sweep_id: str, sweep_name: str, trial: str
) -> RunIdentity:
    """Id, name and config of the run of one seed.

    Args:
        config: The trial's configuration.
        cell: Name of the cell; W&B's group.
        seed: The seed.
        sweep_id: The sweep's id, which all launches of it share; with cell and seed it makes the run's id.
        sweep_name: Name of the sweep, as W&B shows it.
        trial: Name of the trial: of its folder and its records.
    """
    group = cell[:128]
    # Readable in a folder's listing; the digest tells apart two sweeps, and two cells whose names are cut.
    run_id = f"{slug(group)[:48]}-seed{seed}-{sweep_digest(sweep_id)}-{digest(f'{cell}|{seed}|{sweep_id}', 8)}"
    # Not "sweep": wandb-workspaces takes a config entry of that name for W&B's own kind of sweep.
    origin = {"seed": seed, "cell": group, "sweep_name": sweep_name, "sweep_id": sweep_id, "trial": trial}
    return RunIdentity(run_id, f"{cell[:112]} seed {seed}", group, SEED_JOB, {**jsonable(config), **origin})


def sweep_identity(info: Mapping[str, Any], sweep_name: str, sweep_id: str) -> RunIdentity:
    """Id, name and config of the sweep's own run.

    Args:
        info: The content of ``sweep.json``.
        sweep_name: Name of the sweep, as W&B shows it.
        sweep_id: The sweep's id.
    """
    run_id = f"sweep-{sweep_digest(sweep_id)}-{digest(sweep_id, 8)}"
    config = {**jsonable(info), "sweep_name": sweep_name, "sweep_id": sweep_id}
    return RunIdentity(run_id, sweep_name[:128], group=None, job_type=SWEEP_JOB, config=config)


def default_cell_name(config: Mapping[str, Any]) -> str:
    """``"Hopper-v4, 10 distractors, vagram, 4 x 200"`` from environment, distractors, model loss and model size."""
    size = f"{config.get('num_layers', '?')} x {config.get('hidden_size', '?')}"
    env, distractors = jsonable(config.get("env")), config.get("num_distractors", 0)
    return f"{env}, {distractors} distractors, {config.get('model_loss', '?')}, {size}"


def seeds_of(config: Mapping[str, Any]) -> list[int]:
    """The seeds that a trial of this configuration trains."""
    seeds = config.get("seeds", (0,))
    return [int(seed) for seed in (seeds if isinstance(seeds, list | tuple) else [seeds])]
