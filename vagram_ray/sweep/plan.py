"""The plan of a sweep: which trials train which seeds of which cell, on what, and what that will need."""

from __future__ import annotations

import contextlib
import heapq
import logging
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vagram_ray.sweep.cells import Cell, canonical, expand_cells
from vagram_ray.sweep.estimates import Speed, TrialEstimate, Workload, estimate_trial
from vagram_ray.sweep.machine import Machine
from vagram_ray.sweep.spec import Sweep, SweepError, describe, seed_tuple
from vagram_ray.sweep.text import format_seeds

if TYPE_CHECKING:
    from vagram_ray.rllib import MBPOConfig

EVAL_RETURN, TRAIN_RETURN = "eval/episode_return", "train/episode_return"
_WORTH_A_PACK = 0.95
"""More and smaller packs have to bring the expected duration below this share to be worth their processes."""


@dataclass(frozen=True)
class TrialPlan:
    """One trial: one cell and the pack of seeds it trains in one process."""

    index: int
    cell: Cell
    seeds: tuple[int, ...]
    name: str
    estimate: TrialEstimate

    @property
    def parameters(self) -> dict[str, Any]:
        """The ``MBPOConfig`` keys in which this trial differs from the sweep's other trials."""
        return {**self.cell.values, "seeds": self.seeds}


@dataclass(frozen=True)
class SweepPlan:
    """All that is decided before a sweep starts."""

    name: str
    description: str
    scale: str
    config: MBPOConfig
    cells: tuple[Cell, ...]
    trials: tuple[TrialPlan, ...]
    seeds: tuple[int, ...]
    epochs: int
    epoch_steps: Mapping[int, int]
    """Environment steps per seed in one epoch, by index of the cell."""
    warmup_steps: Mapping[int, int]
    machine: Machine
    resources: Mapping[str, float]
    """CPUs and GPUs of one trial, the most demanding one where cells differ."""
    slots: int
    """Trials that run at the same time."""
    checkpoint_every: int
    return_metric: str
    """``eval/episode_return``, or ``train/episode_return`` when the sweep does not evaluate."""
    max_concurrent: int | None = None
    overrides: Mapping[str, Any] = field(default_factory=dict)

    @property
    def seconds(self) -> float:
        """Estimated wall time: trials start in order, each as soon as a slot is free."""
        return makespan([trial.estimate.seconds for trial in self.trials], self.slots)

    @property
    def memory_bytes(self) -> int:
        """Estimated memory of as many of the largest trials as run together."""
        return sum(sorted((trial.estimate.memory_bytes for trial in self.trials), reverse=True)[: self.slots])

    @property
    def disk_bytes(self) -> int:
        """Estimated size of all results and kept checkpoints."""
        return sum(trial.estimate.disk_bytes for trial in self.trials)

    def cell_trials(self, cell: Cell) -> list[TrialPlan]:
        """The trials that train the seeds of a cell."""
        return [trial for trial in self.trials if trial.cell.index == cell.index]

    def base_parameters(self) -> dict[str, Any]:
        """The configuration that all trials share, as Tune takes it: without axes and seeds."""
        own = set(self.trials[0].parameters)
        return {key: value for key, value in self.config.to_dict().items() if key not in own}


@dataclass(frozen=True)
class CellNamer:
    """Finds the name of the cell that a trial's configuration belongs to; Tune's callbacks can carry it along."""

    labels: Mapping[str, str]
    keys: tuple[str, ...]

    @classmethod
    def of(cls, cells: Sequence[Cell]) -> CellNamer:
        """A namer for these cells."""
        return cls({canonical(cell.values): cell.label for cell in cells}, tuple(cells[0].values))

    def __call__(self, config: Mapping[str, Any]) -> str:
        """The label of the cell with these settings."""
        return self.labels.get(canonical({key: config.get(key) for key in self.keys}), "unknown cell")


def make_plan(
    sweep: Sweep,
    config: MBPOConfig,
    machine: Machine,
    speed: Speed,
    *,
    scale: str,
    seeds_per_trial: int | None = None,
    max_concurrent: int | None = None,
    env_step_s: Callable[[MBPOConfig], float] | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> SweepPlan:
    """Plan the trials of a sweep whose seeds, epochs and configuration are settled.

    Every cell is validated. ``env_step_s`` measures the seconds of an environment step, once per environment.

    Raises:
        SweepError: A cell cannot work; the message names it.
    """
    if machine.gpus and not config.num_gpus_per_learner and "num_gpus_per_learner" not in (overrides or {}):
        config = config.copy(copy_frozen=False).update_from_dict({"num_gpus_per_learner": 1})
    fixed = {key: value for key, value in (overrides or {}).items() if key != "extensions"}  # resolved already
    cells = expand_cells(
        config,
        variants=sweep.variants,
        overrides=fixed,
        num_samples=sweep.num_samples,
        search_seed=sweep.search_seed,
    )
    seeds = seed_tuple(sweep.seeds)
    configs = _checked_configs(cells, config, seeds)
    resources = _largest_request(configs)
    slots = _slots(machine, resources, max_concurrent)
    packs = pack_seeds(seeds, len(cells), slots, seeds_per_trial, on_gpu=resources["GPU"] > 0)
    workloads = [Workload.of(cell_config) for cell_config in configs]
    env_speeds: dict[str, Speed] = {}
    for cell_config, workload in zip(configs, workloads, strict=True):
        if workload.env_id not in env_speeds:
            measured = env_step_s(cell_config) if env_step_s else speed.env_step_s
            env_speeds[workload.env_id] = replace(speed, env_step_s=measured)
    trials = _plan_trials(cells, packs, workloads, sweep.epochs, env_speeds)
    return SweepPlan(
        name=sweep.name,
        description=sweep.description,
        scale=scale,
        config=config,
        cells=cells,
        trials=trials,
        seeds=seeds,
        epochs=sweep.epochs,
        epoch_steps={cell.index: workloads[cell.index].settings.epoch_length for cell in cells},
        warmup_steps={
            cell.index: workloads[cell.index].settings.num_steps_sampled_before_learning_starts for cell in cells
        },
        machine=machine,
        resources=resources,
        slots=min(slots, len(trials)),
        checkpoint_every=sweep.checkpoint_every or max(1, math.ceil(sweep.epochs / 10)),
        return_metric=EVAL_RETURN if all(cell_config.evaluation_interval for cell_config in configs) else TRAIN_RETURN,
        max_concurrent=max_concurrent,
        overrides=dict(overrides or {}),
    )


def _plan_trials(
    cells: Sequence[Cell],
    packs: Sequence[tuple[int, ...]],
    workloads: Sequence[Workload],
    epochs: int,
    speeds: Mapping[str, Speed],
) -> tuple[TrialPlan, ...]:
    """Every pack of every cell, with estimates from the speed of the cell's environment."""
    trials: list[TrialPlan] = []
    for cell, workload in zip(cells, workloads, strict=True):
        for pack in packs:
            estimate = estimate_trial(workload, len(pack), epochs, speeds[workload.env_id])
            trials.append(TrialPlan(len(trials), cell, pack, _trial_name(cell, pack, trials), estimate))
    return tuple(trials)


def resolve_extensions(config: MBPOConfig, directory: Path) -> MBPOConfig:
    """A copy of the configuration whose relative extension files are looked for in ``directory``."""
    extensions: Any = config.extensions
    extensions = (extensions,) if isinstance(extensions, str) else extensions
    if not isinstance(extensions, (list, tuple)) or not extensions:
        return config
    resolved = tuple(str(directory.resolve() / name) if str(name).endswith(".py") else name for name in extensions)
    return config.copy(copy_frozen=False).update_from_dict({"extensions": resolved})


def _checked_configs(cells: Sequence[Cell], config: MBPOConfig, seeds: Sequence[int]) -> list[MBPOConfig]:
    """Every cell's configuration, validated; what is wrong in all cells alike is said without naming one."""
    configs = [cell.config(config).update_from_dict({"seeds": tuple(seeds)}) for cell in cells]
    problems: dict[str, str] = {}
    for cell, resolved in zip(cells, configs, strict=True):
        try:
            with _quiet_ray():
                resolved.copy(copy_frozen=False).validate()
        except (ValueError, TypeError, AttributeError) as error:
            problems[cell.label] = describe(error)
    if problems:
        label, problem = next(iter(problems.items()))
        everywhere = len(problems) == len(cells) and len(set(problems.values())) == 1
        raise SweepError(problem if everywhere else f"In the cell {label}: {problem}")
    return configs


def _largest_request(configs: Sequence[MBPOConfig]) -> dict[str, float]:
    """CPUs and GPUs of the most demanding trial, as RLlib requests them."""
    largest = {"CPU": 0.0, "GPU": 0.0}
    for config in configs:
        algorithm: Any = config.algo_class
        with _quiet_ray():
            request = algorithm.default_resource_request(config.to_dict()).required_resources
        for kind in largest:
            largest[kind] = max(largest[kind], float(request.get(kind, 0.0)))
    return largest


def _slots(machine: Machine, resources: Mapping[str, float], max_concurrent: int | None) -> int:
    limits = [float(machine.cpus) / resources["CPU"]] if resources["CPU"] else []
    if resources["GPU"]:
        if machine.gpus < resources["GPU"]:
            raise SweepError(
                f"num_gpus_per_learner={resources['GPU']:g} is not usable: {machine.description} has "
                f"{machine.gpus} GPUs; use --set num_gpus_per_learner=0 to train on CPUs."
            )
        limits.append(machine.gpus / resources["GPU"])
    if limits and min(limits) < 1:
        raise SweepError(f"A trial asks for {resources['CPU']:g} CPUs, but {machine.description} has {machine.cpus}.")
    return min([int(limit + 1e-9) for limit in limits] + ([max_concurrent] if max_concurrent else [])) or 1


def pack_seeds(
    seeds: Sequence[int], num_cells: int, slots: int, seeds_per_trial: int | None = None, *, on_gpu: bool = False
) -> list[tuple[int, ...]]:
    """How the seeds of every cell are divided among its trials.

    With ``seeds_per_trial`` every pack has that many, the last one the rest. Otherwise a GPU gets all seeds of a
    cell, and on CPUs a cell is divided into the fewest packs with which the sweep fills its ``slots`` to the end:
    a pack takes about as long as it has seeds, so the sweep takes (rounds of trials) x (largest pack).
    """
    count = len(seeds)
    if seeds_per_trial is not None:
        return [tuple(seeds[start : start + seeds_per_trial]) for start in range(0, count, seeds_per_trial)]
    packs = 1
    if not on_gpu:
        durations = {
            number: math.ceil(num_cells * number / slots) * math.ceil(count / number) for number in range(1, count + 1)
        }
        for number, duration in durations.items():
            if duration < _WORTH_A_PACK * durations[packs]:
                packs = number
    bounds = [round(number * count / packs) for number in range(packs + 1)]
    return [tuple(seeds[first:last]) for first, last in zip(bounds[:-1], bounds[1:], strict=True)]


def makespan(seconds: Sequence[float], slots: int) -> float:
    """Time until all jobs are done when each starts, in order, as soon as one of the slots is free."""
    free = [0.0] * max(1, slots)
    for duration in seconds:
        heapq.heappush(free, heapq.heappop(free) + duration)
    return max(free)


def _trial_name(cell: Cell, seeds: Sequence[int], others: Sequence[TrialPlan]) -> str:
    """A name that is a sound folder name everywhere and tells cell and seeds."""
    label = re.sub(r"[^A-Za-z0-9=._-]+", ",", cell.label.replace(", ", ",")).strip(",")
    name = f"{label[:100]},seeds={format_seeds(seeds)[:40]}"
    return name if all(name != other.name for other in others) else f"{name},trial={len(others)}"


@contextlib.contextmanager
def _quiet_ray() -> Iterator[None]:
    """Without RLlib's hints while it validates: they would stand between the lines of the plan."""
    logger = logging.getLogger("ray")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
