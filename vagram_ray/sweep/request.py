"""What is asked for, on the command line or of ``Sweep.run``, and the sweep that this makes of a definition."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from vagram_ray.sweep.plan.overrides import resolve_extensions, select_variants, with_overrides
from vagram_ray.sweep.spec import DEFAULT_SCALE, Sweep, SweepError
from vagram_ray.sweep.storage.folder import DEFAULT_STORAGE


@dataclass(frozen=True)
class Request:
    """What is asked for: on the command line, or of ``Sweep.run``."""

    sweep: Sweep | None = None
    """Given in Python; None where a file defines it."""
    config_file: Path | None = None
    """The sweep file; in Python the script that asks, if there is one."""
    scale: str | None = None
    seeds: int | Sequence[int] | None = None
    epochs: int | None = None
    seeds_per_trial: int | None = None
    checkpoint_every: int | None = None
    assignments: Mapping[str, Any] = field(default_factory=dict)
    """Settings by key, as ``--set`` gives them."""
    source: str | None = None
    """A checkpoint that all trials start from."""
    source_parts: str | None = None
    name: str | None = None
    restart: bool = False
    storage: str = DEFAULT_STORAGE
    address: str | None = None
    max_concurrent: int | None = None
    wandb: str = "auto"
    wandb_project: str = "vagram_ray"
    wandb_artifacts: tuple[str, ...] = ()
    log: tuple[str, ...] = ()
    """Kinds of further files (``vagram_ray.sweep.run.loggers``)."""
    dry_run: bool = False
    gpus: int | None = None
    gpu_memory: float = 80.0
    command: str = ""
    """What goes on with the sweep."""

    @property
    def directory(self) -> Path:
        """Where relative names of extensions in the sweep's own configuration are looked for."""
        return Path.cwd() if self.config_file is None else self.config_file.parent


def scale_of(sweep: Sweep, request: Request) -> str:
    """Name of the scale, empty for a sweep that runs as written."""
    return "" if request.scale is None and not sweep.scales else request.scale or DEFAULT_SCALE


def default_name(sweep_name: str, scale: str) -> str:
    """Name of a sweep's results that the command line does not name: the same command has the same."""
    return f"{sweep_name}-{scale}" if scale else sweep_name


def asked_sweep(sweep: Sweep, request: Request) -> tuple[Sweep, dict[str, Any]]:
    """The sweep at its scale, with the seeds, the length and the settings that are asked for.

    Returns:
        The sweep, and the settings of the scale and of the request that override its own.

    Raises:
        SweepError: The input cannot work.
    """
    sized, of_scale = sweep.at_scale(request.scale)
    asked = {key: getattr(request, key) for key in ("seeds", "epochs", "checkpoint_every")}
    try:
        sized = replace(sized, **{key: value for key, value in asked.items() if value is not None})
    except ValueError as error:
        raise SweepError(f"--{str(error).replace('checkpoint_every', 'checkpoint-every')}") from error
    variants, assignments = select_variants(sized.variants, request.assignments)
    assignments |= _started_from(request)
    sized = with_overrides(replace(sized, variants=variants), of_scale, source="The override of the scale")
    sized = replace(sized, config=resolve_extensions(sized.config, request.directory))  # of the file's surroundings
    sized = with_overrides(sized, assignments, source="--set" if request.sweep is None else "overrides:")
    if "extensions" in assignments:
        sized = replace(sized, config=resolve_extensions(sized.config, Path.cwd()))  # of the user's
    return sized, {**of_scale, **assignments}


def _started_from(request: Request) -> dict[str, Any]:
    """``--from`` and ``--from-parts`` as keys of the configuration, which a sweep's records hold."""
    if request.source is None:
        if request.source_parts is not None:
            raise SweepError(f"--from-parts {request.source_parts} needs --from CHECKPOINT.")
        return {}
    from vagram_ray.checkpoint import CheckpointError
    from vagram_ray.rllib.initialization import find_source

    try:
        found: dict[str, Any] = {"initial_checkpoint": find_source(request.source)}
    except CheckpointError as error:
        raise SweepError(f"--from: {str(error).removeprefix('initialize_from: ')}") from error
    if request.source_parts is not None:
        found["initial_parts"] = tuple(part.strip() for part in request.source_parts.split(","))
    return found
