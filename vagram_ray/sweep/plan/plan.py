"""The plan of a sweep: which trials train which seeds of which cell, on what, and what that will need."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from vagram_ray.records.recorded import CPU, GPU
from vagram_ray.records.task_line import describe_task
from vagram_ray.sweep.plan.cell_facts import checked_configs, describe_cells, fixed_settings, working_cell
from vagram_ray.sweep.plan.cells import Cell, expand_cells, trial_name
from vagram_ray.sweep.plan.estimates import TrialEstimate, estimate_trial
from vagram_ray.sweep.plan.machine import Machine
from vagram_ray.sweep.plan.memory import gpu_bytes
from vagram_ray.sweep.plan.packing import pack_seeds
from vagram_ray.sweep.plan.samples import Samples
from vagram_ray.sweep.plan.shares import HEADROOM, GpuSharing
from vagram_ray.sweep.plan.tuning import Tuning
from vagram_ray.sweep.plan.workload import Costs, Workload
from vagram_ray.sweep.spec import Sweep, SweepError, seed_tuple
from vagram_ray.text import format_bytes, plural

if TYPE_CHECKING:
    from vagram_ray.envs import EnvironmentSpec
    from vagram_ray.rllib import MBPOConfig

EVAL_RETURN, TRAIN_RETURN = "eval/episode_return", "train/episode_return"
_GPUS = "num_gpus_per_learner"
Measure = Callable[[Sequence[tuple[Workload, int]], bool], Sequence[Costs | None]]
"""Gives the costs of workloads with so many seeds, on a GPU or a core, or None for those that are not known."""


@dataclass(frozen=True)
class TrialPlan:
    """One trial: one cell and the pack of seeds it trains in one process."""

    cell: Cell
    seeds: tuple[int, ...]
    name: str
    estimate: TrialEstimate = field(default_factory=TrialEstimate)

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
    machine: Machine
    resources: Mapping[str, float]
    """CPUs and GPUs of one trial, the most demanding one where cells differ."""
    capacity: int
    """Trials that have room at the same time, however many there are."""
    checkpoint_every: int | Literal["auto"]
    return_metric: str
    """``eval/episode_return``, or ``train/episode_return`` when the sweep does not evaluate."""
    max_concurrent: int | None = None
    overrides: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[int, Mapping[str, Any]] = field(default_factory=dict)
    """``plain_settings`` by index of the cell: all that determines its numbers but the seeds."""
    workloads: Mapping[int, Workload] = field(default_factory=dict)
    """What each cell asks for, by its index."""
    assumption: str = ""
    """A sentence about times that are not known, or not measured on the machine that the sweep is for."""
    replaced: str = ""
    """A line on the task that this scale runs in place of the experiment's own (``plan.task``)."""
    sharing: GpuSharing | None = None
    """GPUs of which the plan chooses the trials' share, none where the user has chosen or their memory is unknown."""
    tuning: Tuning | None = None
    """Scheduler, searcher and stopper of Tune, where the sweep has any."""
    example: Workload | None = None
    """What one sample of a searcher asks for; None where all cells are known beforehand."""

    @property
    def slots(self) -> int:
        """Trials that run at the same time."""
        return max(1, min(self.capacity, len(self.trials)))

    @property
    def samples(self) -> Samples | None:
        """The searcher, if there is one."""
        return None if self.tuning is None else self.tuning.samples

    @property
    def to_come(self) -> int:
        """Samples that a searcher has not suggested yet: one trial each."""
        samples = self.samples
        return 0 if samples is None or samples.exhausted else max(0, samples.num_samples - len(self.cells))

    @property
    def task(self) -> str:
        """What is run, in one line."""
        axes = [cell.axes for cell in self.cells]
        cells = [self.settings.get(cell.index) or {**self.overrides, **cell.axes} for cell in self.cells]
        cells = cells or [fixed_settings(self.config)]  # a search whose first sample is still to come
        steps = [self.workloads[cell.index].env_steps(self.epochs) for cell in self.cells]
        return describe_task(cells, axes, len(self.seeds), steps)

    @property
    def memory_bytes(self) -> int:
        """Estimated memory of as many of the largest trials as run together."""
        return sum(sorted((trial.estimate.memory_bytes for trial in self.trials), reverse=True)[: self.slots])

    @property
    def disk_bytes(self) -> int:
        """Estimated size of all results and kept checkpoints. Samples to come count as those that are known."""
        known = sum(trial.estimate.disk_bytes for trial in self.trials)
        return known + round(known / max(1, len(self.trials)) * self.to_come)

    @property
    def environment_notes(self) -> tuple[str, ...]:
        """Sentences on state of environments that checkpoints lack, and on episodes without an end."""
        workloads = [*self.workloads.values(), *([self.example] if self.example else [])]
        specs: list[EnvironmentSpec] = []
        for workload in workloads:
            if workload.environment is not None and workload.environment not in specs:
                specs.append(workload.environment)
        return tuple(dict.fromkeys(note for spec in specs for note in spec.notes()))

    def cell_trials(self, cell: Cell) -> list[TrialPlan]:
        """The trials that train the seeds of a cell."""
        return [trial for trial in self.trials if trial.cell.index == cell.index]

    def estimate(self, cell: int, num_seeds: int) -> TrialEstimate:
        """Needs of a trial of the cell with this index."""
        key = cell, num_seeds
        if key not in self._estimates:
            every = None if self.checkpoint_every == "auto" else self.checkpoint_every
            self._estimates[key] = estimate_trial(self.workloads[cell], num_seeds, self.epochs, every)
        return self._estimates[key]

    @functools.cached_property
    def _estimates(self) -> dict[tuple[int, int], TrialEstimate]:
        """By cell and number of seeds: thousands of trials may be alike, and an estimate has a number per epoch."""
        return {}

    def with_trials(self, trials: Iterable[TrialPlan]) -> SweepPlan:
        """The plan with these trials in place of its own, in this order."""
        return replace(self, trials=tuple(trials))

    def sharing_gpus(self, trials: Sequence[TrialPlan]) -> SweepPlan:
        """The plan with a share of a GPU with which these of its trials run beside each other."""
        sharing = self.sharing
        if sharing is None or not trials:
            return self
        need = max(self.gpu_bytes(trial.cell.index, len(trial.seeds)) for trial in trials)
        beside = min([len(trials), *_limits(self.machine, self.resources["CPU"], self.max_concurrent)])
        resources = {**self.resources, "GPU": sharing.share(need, beside)}
        own = replace(self.machine, gpus=sharing.gpus)
        return replace(self, resources=resources, capacity=_capacity(own, resources, self.max_concurrent))

    def gpu_bytes(self, cell: int, num_seeds: int) -> int:
        """Estimated need of GPU memory of a trial of the cell with this index."""
        return gpu_bytes(self.workloads[cell], num_seeds, self.epochs)

    def packs(
        self, cell: Cell, seeds: Sequence[int], num_cells: int, seeds_per_trial: int | None = None
    ) -> list[tuple[int, ...]]:
        """How seeds of a cell are divided among trials, where ``num_cells`` cells have as many."""
        most = None
        if self.sharing is not None:
            most = self.sharing.most_seeds(self.workloads[cell.index], len(seeds), self.epochs)
        return pack_seeds(seeds, num_cells, self.capacity, seeds_per_trial, on_gpu=self.resources["GPU"] > 0, most=most)

    @property
    def share_parameters(self) -> dict[str, Any]:
        """The ``MBPOConfig`` keys that ask for the share of a GPU, none where the plan does not choose it."""
        return {} if self.sharing is None else {_GPUS: self.resources["GPU"]}

    def base_parameters(self) -> dict[str, Any]:
        """The configuration that all trials share, as Tune takes it: without axes and seeds."""
        own = set.intersection(*(set(trial.parameters) for trial in self.trials))
        checkpoints = {"checkpoint_every": self.checkpoint_every, "checkpoint_last_epoch": self.epochs}
        shared = {key: value for key, value in self.config.to_dict().items() if key not in own}
        return shared | self.share_parameters | checkpoints


def make_plan(
    sweep: Sweep,
    config: MBPOConfig,
    machine: Machine,
    *,
    scale: str,
    seeds_per_trial: int | None = None,
    max_concurrent: int | None = None,
    measure: Measure | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> SweepPlan:
    """Plan the trials of a sweep whose seeds, epochs and configuration are settled.

    Every cell is validated. ``measure`` gives what their work costs (``probe.Prober``). Without it no time is known.

    Raises:
        SweepError: A cell cannot work. The message names it.
    """
    overrides = dict(overrides or {})
    shares_gpus = bool(machine.gpus) and not config.num_gpus_per_learner and _GPUS not in overrides
    if shares_gpus:
        config = config.copy(copy_frozen=False).update_from_dict({_GPUS: 1})
    seeds = seed_tuple(sweep.seeds)
    tuning = Tuning.of(sweep, config)
    seeds_per_trial = _of_tuning(tuning, seeds, seeds_per_trial)
    cells = _cells_of(sweep, config, overrides, tuning)
    shares_gpus = shares_gpus and not any(_GPUS in cell.values for cell in cells)
    searched = tuning is not None and tuning.samples is not None  # its cells are those that the searcher will suggest
    configs = checked_configs(cells, config, seeds)
    workloads, settings = describe_cells(cells, configs)
    resources = largest_request([each.request for each in workloads.values()])
    plan = SweepPlan(
        name=sweep.name,
        description=sweep.description,
        scale=scale,
        config=config,
        cells=cells,
        trials=(),
        seeds=seeds,
        epochs=sweep.epochs,
        machine=machine,
        resources=resources,
        capacity=_capacity(machine, resources, max_concurrent),
        checkpoint_every=sweep.checkpoint_every or getattr(config, "checkpoint_every", None) or "auto",
        return_metric=EVAL_RETURN if all(cell_config.evaluation_interval for cell_config in configs) else TRAIN_RETURN,
        max_concurrent=max_concurrent,
        overrides=overrides,
        sharing=GpuSharing.of(machine.gpu_nodes, config) if shares_gpus and not searched else None,
        tuning=tuning,
        workloads=workloads,
        settings=settings,
    )
    packs = {cell.index: plan.packs(cell, seeds, len(cells), seeds_per_trial) for cell in cells}
    if measure is not None:
        plan = replace(plan, workloads=_measured(plan, packs, measure))
    if searched:
        return replace(plan, cells=(), example=plan.workloads[0], workloads={}, settings={})
    trials = [make_trial(plan, cell, pack) for cell in cells for pack in packs[cell.index]]
    return plan.with_trials(trials).sharing_gpus(trials)


def _cells_of(
    sweep: Sweep, config: MBPOConfig, overrides: Mapping[str, Any], tuning: Tuning | None
) -> tuple[Cell, ...]:
    """All cells of a sweep, or one example where a searcher will suggest them."""
    if tuning is not None and tuning.samples is not None:
        return (working_cell(tuning.samples.examples(), config, seed_tuple(sweep.seeds)),)
    return expand_cells(
        config,
        variants=sweep.variants,
        overrides={key: value for key, value in overrides.items() if key != "extensions"},  # resolved already
        num_samples=sweep.num_samples,
        search_seed=sweep.search_seed,
    )


def _measured(plan: SweepPlan, packs: Mapping[int, list[tuple[int, ...]]], measure: Measure) -> dict[int, Workload]:
    """The cells' workloads with what their work costs in the largest pack of seeds."""
    work = [(workload, max(map(len, packs[index]))) for index, workload in plan.workloads.items()]
    found = zip(plan.workloads, measure(work, plan.resources["GPU"] > 0), strict=True)
    return {index: replace(plan.workloads[index], costs=costs) for index, costs in found}


def largest_request(requests: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """CPUs and GPUs of the most demanding trial."""
    return {kind: max((request.get(kind, 0.0) for request in requests), default=0.0) for kind in (CPU, GPU)}


def make_trial(plan: SweepPlan, cell: Cell, seeds: Sequence[int]) -> TrialPlan:
    """A trial of one of the plan's cells. Its name follows from the cells and the seeds alone."""
    pack = tuple(seeds)
    return TrialPlan(cell, pack, trial_name(plan.cells, cell, pack), plan.estimate(cell.index, len(pack)))


def check_gpu_memory(plan: SweepPlan, trials: Sequence[TrialPlan]) -> None:
    """Refuse trials that need more memory than a GPU has.

    Raises:
        SweepError: The first of them, what it needs, what there is, and the way out.
    """
    for trial in trials if plan.sharing is not None else ():
        assert plan.sharing is not None
        need = plan.gpu_bytes(trial.cell.index, len(trial.seeds))
        if plan.sharing.fits(need):
            continue
        fewer = "give fewer --seeds-per-trial, " if len(trial.seeds) > 1 else ""
        raise SweepError(
            f"The trial {trial.name} ({plural(len(trial.seeds), 'seed')}) needs about "
            f"{format_bytes(need * HEADROOM)} of GPU memory, and the smallest GPU has "
            f"{format_bytes(plan.sharing.memory_bytes)}: {fewer}lower replay_capacity, rollouts_per_step or "
            "hidden_size with --set, keep to larger GPUs (docs/cluster.md), or train on CPUs with --set "
            "num_gpus_per_learner=0."
        )


def split_pack(plan: SweepPlan, trial_name: str) -> SweepPlan:
    """The plan with one trial divided into two with half its seeds each, in its place.

    The two are new trials with names of their own, which begin from nothing: a checkpoint holds its whole pack.

    Raises:
        KeyError: There is no trial of that name.
        ValueError: The trial has one seed only.
    """
    trials = []
    for trial in plan.trials:
        if trial.name != trial_name:
            trials.append(trial)
            continue
        if len(trial.seeds) < 2:
            raise ValueError(f"The trial {trial_name!r} has one seed only and cannot be divided.")
        middle = (len(trial.seeds) + 1) // 2
        trials += [make_trial(plan, trial.cell, half) for half in (trial.seeds[:middle], trial.seeds[middle:])]
    if len(trials) == len(plan.trials):
        raise KeyError(trial_name)
    return plan.with_trials(trials)


def resolve_extensions(config: MBPOConfig, directory: Path) -> MBPOConfig:
    """A copy of the configuration whose relative extension files are looked for in ``directory``."""
    extensions: Any = config.extensions
    extensions = (extensions,) if isinstance(extensions, str) else extensions
    if not isinstance(extensions, (list, tuple)) or not extensions:
        return config
    resolved = tuple(str(directory.resolve() / name) if str(name).endswith(".py") else name for name in extensions)
    return config.copy(copy_frozen=False).update_from_dict({"extensions": resolved})


def _of_tuning(tuning: Tuning | None, seeds: Sequence[int], seeds_per_trial: int | None) -> int | None:
    """Size of packs: a scheduler, searcher or stopper judges a cell by all its seeds."""
    if tuning is None:
        return seeds_per_trial
    if seeds_per_trial is not None and seeds_per_trial < len(seeds):
        raise SweepError(
            f"--seeds-per-trial {seeds_per_trial} is not usable with a scheduler, searcher or stop: they judge a cell "
            f"by the {len(seeds)} seeds of one trial; leave it away."
        )
    return len(seeds)


def _capacity(machine: Machine, resources: Mapping[str, float], max_concurrent: int | None) -> int:
    """Trials with these resources that have room at the same time. Each is on one GPU or on several whole ones."""
    cpus, gpus = resources["CPU"], resources["GPU"]
    if gpus and machine.gpus < gpus:
        raise SweepError(
            f"num_gpus_per_learner={gpus:g} is not usable: {machine.description} has "
            f"{machine.gpus} GPUs; use --set num_gpus_per_learner=0 to train on CPUs."
        )
    if cpus > machine.cpus:
        raise SweepError(f"A trial asks for {cpus:g} CPUs, but {machine.description} has {machine.cpus}.")
    of_gpus = [machine.gpus * int(1 / gpus + 1e-9) if gpus < 1 else int(machine.gpus / gpus)] if gpus else []
    return min([*_limits(machine, cpus, max_concurrent), *of_gpus], default=1)


def _limits(machine: Machine, cpus: float, max_concurrent: int | None) -> list[int]:
    """What of CPUs and the user's wish limits the trials that run at the same time."""
    return [*([int(machine.cpus / cpus + 1e-9)] if cpus else []), *([max_concurrent] if max_concurrent else [])]
