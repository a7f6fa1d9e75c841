"""What the work of a cell costs on a machine: measured times, kept on disk.

A cost is looked up by what it depends on: the machine, the versions, the code in ``core``, the environment and the
settings that decide sizes. How often work is done (epochs, updates per step, lengths of rollouts) is not among them.
"""

from __future__ import annotations

import functools
import hashlib
import json
import math
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from vagram_ray.core.execution import UPDATES_WORTH_COMPILING
from vagram_ray.core.private_folder import private_folder, user_cache_folder
from vagram_ray.core.settings import MODEL_SETTINGS
from vagram_ray.sweep.plan.workload import Workload

MOST_SEEDS = 4
"""Larger cohorts are measured with so many seeds. From there on each seed is taken to cost the same."""
BUSY = 1.0
"""Load per core above which a machine is called busy."""
WITHOUT_EFFECT = frozenset((
    "gamma", "actor_lr", "critic_lr", "alpha_lr", "initial_alpha", "target_entropy", "tau",
    "model_lr", "model_weight_decay", "model_patience", "model_max_epochs", "model_improvement_threshold",
    "epoch_length", "num_steps_sampled_before_learning_starts", "explore", "utd_ratio", "model_train_freq",
    "rollouts_per_step", "rollout_length", "real_ratio", "imagined_epochs_retained", "replay_capacity",
))  # fmt: skip
"""Settings that change no cost of one piece of work: constants, and how often or how long something is done."""


@dataclass(frozen=True)
class Costs:
    """Seconds of pieces of work, each for a whole cohort: of a core, or with a GPU of the clock."""

    num_seeds: int
    env_step_s: float
    """One environment step: act, step, store."""
    sac_update_s: float
    """One SAC update with its batch."""
    fit_s: float = 0.0
    """One model fit without its epochs and whatever the data: the metrics."""
    fit_row_s: float = 0.0
    """What a fit does once with each stored transition, per transition of a seed."""
    fit_epoch_row_s: float = 0.0
    """One fit epoch, training and validation, per stored transition of a seed."""
    imagined_s: float = 0.0
    """One imagined step of one rollout per seed."""

    def of(self, num_seeds: int) -> Costs:
        """For another number of seeds, each at the same cost."""
        share = num_seeds / self.num_seeds
        times = {name: share * value for name, value in asdict(self).items() if name.endswith("_s")}
        return replace(self, num_seeds=num_seeds, **times)

    @classmethod
    def from_content(cls, content: Mapping[str, Any]) -> Costs:
        """What a file holds.

        Raises:
            ValueError: It is something else.
        """
        names = {entry.name for entry in fields(cls)}
        if not isinstance(content, Mapping) or set(content) != names:
            raise ValueError(f"costs are the numbers {sorted(names)}")
        values = {name: float(value) for name, value in content.items()}
        if not all(math.isfinite(value) and value >= 0 for value in values.values()) or values["num_seeds"] < 1:
            raise ValueError("a cost is a finite number of at least 0")
        return cls(**values | {"num_seeds": int(content["num_seeds"])})  # type: ignore[arg-type]


def seeds_measured(num_seeds: int) -> int:
    """Seeds of the cohort that stands for one of ``num_seeds``."""
    return min(num_seeds, MOST_SEEDS)


def work_key(workload: Workload, num_seeds: int) -> str:
    """A digest of what costs depend on beside the machine and the code."""
    settings = asdict(workload.settings)
    unused = WITHOUT_EFFECT | (frozenset() if workload.settings.model_based else MODEL_SETTINGS - {"model_loss"})
    kept = {name: value for name, value in settings.items() if name not in unused}
    spec = workload.environment
    environment = asdict(replace(spec, creator=None)) if spec is not None else {}  # its name stands for it
    seeds = seeds_measured(num_seeds)
    updates = seeds * workload.settings.epoch_length * workload.settings.utd_ratio
    kept["compiled_for"] = updates >= UPDATES_WORTH_COMPILING  # what execution="auto" looks at
    return _digest([kept, environment, workload.obs_dim, workload.action_dim, seeds])


class CostFiles:
    """Costs of one machine in the user's cache folder, a file each. Nothing is kept where that is not possible.

    Other programs slow a core down even where the system does not count their time (caches, clock rate, threads that
    share the core). What was measured on a busy machine is therefore measured again when the machine is at rest.

    Args:
        machine: Name of the processor or GPU.
    """

    def __init__(self, machine: str) -> None:
        self._machine = machine

    def read(self, key: str) -> Costs | None:
        """What was kept under a key, if it can be read."""
        try:
            content = json.loads(self._file(key).read_text())
            costs, load = Costs.from_content(content["costs"]), float(content["load"])
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return None if load > BUSY and _load() < load / 2 else costs

    def write(self, key: str, costs: Costs) -> None:
        """Keep costs, if there is a place for them."""
        content = {"machine": self._machine, "load": round(_load(), 2), "costs": asdict(costs)}
        try:
            file = private_folder(self._folder) / self._file(key).name
            partial = file.with_suffix(f".{hashlib.sha256(str(costs).encode()).hexdigest()[:8]}")
            partial.write_text(json.dumps(content, indent=1) + "\n")
            partial.replace(file)
        except OSError:
            return

    @property
    def _folder(self) -> Path:
        return user_cache_folder() / "costs"

    def _file(self, key: str) -> Path:
        return self._folder / f"{_digest([self._machine, _code(), key])[:32]}.json"


def _load() -> float:
    """Programs that want to run, per core, or 0 where the system does not tell."""
    try:
        return os.getloadavg()[0] / (os.cpu_count() or 1)
    except (OSError, AttributeError):
        return 0.0


@functools.cache
def _code() -> str:
    """A digest of the versions and of the sources in ``core``: what a released version number alone does not tell."""
    import torch

    import vagram_ray.core

    digest = hashlib.sha256(torch.__version__.encode())
    folder = Path(vagram_ray.core.__file__).parent
    for file in sorted(path for path in folder.rglob("*") if path.suffix in (".py", ".cpp", ".hpp", ".h")):
        digest.update(file.read_bytes())
    return digest.hexdigest()


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=repr).encode()).hexdigest()
