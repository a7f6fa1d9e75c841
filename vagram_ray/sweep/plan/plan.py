"""The plan of a sweep: which trials train which seeds of which cell, on what, and what that will need."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from vagram_ray.records.recorded import CPU, GPU
from vagram_ray.records.task_line import describe_task
from vagram_ray.sweep.plan.cells import Cell, expand_cells, trial_name
from vagram_ray.sweep.plan.estimates import TrialEstimate, estimate_trial
from vagram_ray.sweep.plan.machine import Machine
from vagram_ray.sweep.plan.memory import gpu_bytes
from vagram_ray.sweep.plan.packing import pack_seeds
from vagram_ray.sweep.plan.planned_cells import PlannedCell, first_planned_cell, planned_cells
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
Measure = Callable[[Sequence[tuple[Workload, int]], bool], tuple[Sequence[Costs | None], str]]
"""Gives the costs of workloads with so many seeds, on a GPU or a core, None where they are not known, and says why."""


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
    cells: tuple[PlannedCell, ...]
    trials: tuple[TrialPlan, ...]
    seeds: tuple[int, ...]
    epochs: int
    machine: Machine
    checkpoint_every: int | Literal["auto"]
    return_metric: str
    """``eval/episode_return``, or ``train/episode_return`` when the sweep does not evaluate."""
    max_concurrent: int | None = None
    overrides: Mapping[str, Any] = field(default_factory=dict)
    assumption: str = ""
    """A sentence about times that are not known, or not measured on the machine that the sweep is for."""
    replaced: str = ""
    """A line on the task that this scale runs in place of the experiment's own (``plan.task``)."""
    sharing: GpuSharing | None = None
    """GPUs and the trials' share of one, None where the user has chosen it or the GPUs' memory is unknown."""
    tuning: Tuning | None = None
    """Scheduler, searcher and stopper of Tune, where the sweep has any."""
    example: PlannedCell | None = None
    """What one sample of a searcher may be; None where all cells are known beforehand."""

    @functools.cached_property
    def resources(self) -> Mapping[str, float]:
        """CPUs and GPUs of one trial, the most demanding one where cells differ."""
        requests = [cell.workload.request for cell in (*self.cells, *([self.example] if self.example else []))]
        amounts = {kind: max((request.get(kind, 0.0) for request in requests), default=0.0) for kind in (CPU, GPU)}
        return amounts if self.sharing is None else {**amounts, GPU: self.sharing.share}

    @property
    def capacity(self) -> int:
        """Trials that have room at the same time, however many there are. None is on parts of two GPUs."""
        limits, share = self._limits, self.resources[GPU]
        if share:
            gpus = self.machine.gpus if self.sharing is None else self.sharing.gpus
            limits.append(gpus * int(1 / share + 1e-9) if share < 1 else int(gpus / share))
        return min(limits, default=1)

    @property
    def _limits(self) -> list[int]:
        """What of CPUs and the user's wish limits the trials that run at the same time."""
        cpus, wish = self.resources[CPU], self.max_concurrent
        return [*([int(self.machine.cpus / cpus + 1e-9)] if cpus else []), *([wish] if wish else [])]

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
        settings = [cell.settings for cell in self.cells]
        if not settings and (example := self.example):  # the first sample is still to come
            settings = [{key: value for key, value in example.settings.items() if key not in example.values}]
        steps = [cell.workload.env_steps(self.epochs) for cell in self.cells]
        return describe_task(settings, [cell.axes for cell in self.cells], len(self.seeds), steps)

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
        specs: list[EnvironmentSpec] = []
        for cell in (*self.cells, *([self.example] if self.example else [])):
            spec = cell.workload.environment
            if spec is not None and spec not in specs:
                specs.append(spec)
        return tuple(dict.fromkeys(note for spec in specs for note in spec.notes()))

    def cell_trials(self, cell: Cell) -> list[TrialPlan]:
        """The trials that train the seeds of a cell."""
        return [trial for trial in self.trials if trial.cell.index == cell.index]

    def estimate(self, cell: int, num_seeds: int) -> TrialEstimate:
        """Needs of a trial of the cell with this index."""
        key = cell, num_seeds
        if key not in self._estimates:
            every = None if self.checkpoint_every == "auto" else self.checkpoint_every
            self._estimates[key] = estimate_trial(self.cells[cell].workload, num_seeds, self.epochs, every)
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
        if self.sharing is None or not trials:
            return self
        need = max(self.gpu_bytes(trial.cell.index, len(trial.seeds)) for trial in trials)
        return replace(self, sharing=self.sharing.for_trials(need, min([len(trials), *self._limits])))

    def check_room(self) -> None:
        """Refuse a trial that asks for more than the machine has.

        Raises:
            SweepError: What it asks for and what there is.
        """
        machine, cpus, gpus = self.machine, self.resources[CPU], self.resources[GPU]
        if gpus and machine.gpus < gpus:
            raise SweepError(
                f"num_gpus_per_learner={gpus:g} is not usable: {machine.description} has "
                f"{machine.gpus} GPUs; use --set num_gpus_per_learner=0 to train on CPUs."
            )
        if cpus > machine.cpus:
            raise SweepError(f"A trial asks for {cpus:g} CPUs, but {machine.description} has {machine.cpus}.")

    def gpu_bytes(self, cell: int, num_seeds: int) -> int:
        """Estimated need of GPU memory of a trial of the cell with this index."""
        return gpu_bytes(self.cells[cell].workload, num_seeds, self.epochs)

    def packs(
        self, cell: PlannedCell, seeds: Sequence[int], num_cells: int, seeds_per_trial: int | None = None
    ) -> list[tuple[int, ...]]:
        """How seeds of a cell are divided among trials, where ``num_cells`` cells have as many."""
        most = None
        if self.sharing is not None:
            most = self.sharing.most_seeds(cell.workload, len(seeds), self.epochs)
        return pack_seeds(seeds, num_cells, self.capacity, seeds_per_trial, on_gpu=self.resources[GPU] > 0, most=most)

    @property
    def share_parameters(self) -> dict[str, Any]:
        """The ``MBPOConfig`` keys that ask for the share of a GPU, none where the plan does not choose it."""
        return {} if self.sharing is None else {_GPUS: self.sharing.share}

    def base_parameters(self) -> dict[str, Any]:
        """The configuration that all trials share, as Tune takes it: without axes and seeds."""
        own = self.trials[0].parameters  # all trials have the same keys
        checkpoints = {"checkpoint_every": self.checkpoint_every, "checkpoint_last_epoch": self.epochs}
        shared = {key: value for key, value in self.config.to_dict().items() if key not in own}
        return shared | self.share_parameters | checkpoints


def make_plan(
    sweep: Sweep,
    machine: Machine,
    *,
    scale: str,
    seeds_per_trial: int | None = None,
    max_concurrent: int | None = None,
    measure: Measure | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> SweepPlan:
    """Plan the trials of a sweep whose seeds, epochs and configuration are settled.

    Every cell is validated. ``measure`` gives what their work costs (``probe.measure_costs``). Without it no time is
    known.

    Raises:
        SweepError: A cell cannot work. The message names it.
    """
    overrides, config = dict(overrides or {}), sweep.config
    shares_gpus = bool(machine.gpus) and not config.num_gpus_per_learner and _GPUS not in overrides
    if shares_gpus:
        config = config.copy(copy_frozen=False).update_from_dict({_GPUS: 1})
    seeds = seed_tuple(sweep.seeds)
    tuning = Tuning.of(sweep)
    seeds_per_trial = _of_tuning(tuning, seeds, seeds_per_trial)
    cells = _cells_of(replace(sweep, config=config), tuning)
    shares_gpus = shares_gpus and not any(_GPUS in cell.values for cell in cells)
    searched = tuning is not None and tuning.samples is not None  # its cells are those that the searcher will suggest
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
        checkpoint_every=sweep.checkpoint_every or getattr(config, "checkpoint_every", None) or "auto",
        return_metric=EVAL_RETURN if all(cell.workload.evaluation_interval for cell in cells) else TRAIN_RETURN,
        max_concurrent=max_concurrent,
        overrides=overrides,
        sharing=GpuSharing.of(machine.gpu_nodes, config) if shares_gpus and not searched else None,
        tuning=tuning,
    )
    plan.check_room()
    packs = [plan.packs(cell, seeds, len(cells), seeds_per_trial) for cell in cells]
    if measure is not None:
        plan = _measured(plan, [max(map(len, own)) for own in packs], measure)
    if searched:
        return replace(plan, cells=(), example=plan.cells[0])
    trials = [make_trial(plan, cell, pack) for cell, own in zip(plan.cells, packs, strict=True) for pack in own]
    return plan.with_trials(trials).sharing_gpus(trials)


def _cells_of(sweep: Sweep, tuning: Tuning | None) -> tuple[PlannedCell, ...]:
    """All cells of a sweep, or one example where a searcher will suggest them."""
    seeds = seed_tuple(sweep.seeds)
    if tuning is not None and tuning.samples is not None:
        return (first_planned_cell(tuning.samples.examples(), sweep.config, seeds),)
    return planned_cells(expand_cells(sweep), sweep.config, seeds)


def _measured(plan: SweepPlan, most_seeds: Sequence[int], measure: Measure) -> SweepPlan:
    """The plan with what the work of each cell costs with so many seeds."""
    work = [(cell.workload, number) for cell, number in zip(plan.cells, most_seeds, strict=True)]
    costs, assumption = measure(work, plan.resources[GPU] > 0)
    cells = (
        replace(cell, workload=replace(cell.workload, costs=own)) for cell, own in zip(plan.cells, costs, strict=True)
    )
    return replace(plan, cells=tuple(cells), assumption=assumption)


def make_trial(plan: SweepPlan, cell: Cell, seeds: Sequence[int], name: str = "") -> TrialPlan:
    """A trial of one of the plan's cells. The name of a new one follows from the cells and the seeds alone."""
    name = name or trial_name(plan.cells, cell, seeds)
    return TrialPlan(cell, tuple(seeds), name, plan.estimate(cell.index, len(seeds)))


def check_gpu_memory(plan: SweepPlan, trials: Sequence[TrialPlan]) -> None:
    """Refuse trials that need more memory than a GPU has.

    Raises:
        SweepError: The first of them, what it needs, what there is, and the way out.
    """
    if (sharing := plan.sharing) is None:
        return
    for trial in trials:
        need = plan.gpu_bytes(trial.cell.index, len(trial.seeds))
        if sharing.fits(need):
            continue
        fewer = "give fewer --seeds-per-trial, " if len(trial.seeds) > 1 else ""
        raise SweepError(
            f"The trial {trial.name} ({plural(len(trial.seeds), 'seed')}) needs about "
            f"{format_bytes(need * HEADROOM)} of GPU memory, and the smallest GPU has "
            f"{format_bytes(sharing.memory_bytes)}: {fewer}lower replay_capacity, rollouts_per_step or "
            "hidden_size with --set, keep to larger GPUs (docs/cluster.md), or train on CPUs with --set "
            "num_gpus_per_learner=0."
        )


def split_pack(plan: SweepPlan, trial_name: str) -> SweepPlan:
    """The plan with one trial of several seeds divided into two with half its seeds each, in its place.

    The two are new trials with names of their own, which begin from nothing: a checkpoint holds its whole pack.
    """
    trials: list[TrialPlan] = []
    for trial in plan.trials:
        if trial.name == trial_name:
            middle = (len(trial.seeds) + 1) // 2
            trials += [make_trial(plan, trial.cell, half) for half in (trial.seeds[:middle], trial.seeds[middle:])]
        else:
            trials.append(trial)
    return plan.with_trials(trials)


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
