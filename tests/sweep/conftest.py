"""Small configurations and a plan that needs no Ray."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from vagram_ray.core.settings import MBPOSettings
from vagram_ray.sweep.plan.estimates import TrialEstimate
from vagram_ray.sweep.plan.machine import Machine
from vagram_ray.sweep.plan.plan import SweepPlan, TrialPlan
from vagram_ray.sweep.plan.planned_cells import PlannedCell
from vagram_ray.sweep.plan.workload import Workload

MACHINE = Machine(cpus=2, gpus=0, memory_bytes=8 * 1024**3, description="a machine")

WORKLOAD = Workload(
    MBPOSettings(epoch_length=100, num_steps_sampled_before_learning_starts=50), None, 3, 1, None, 1, 200,
    request={"CPU": 1.0},
)  # fmt: skip


def small_config(env: str = "Pendulum-v1", **training: Any) -> Any:
    from vagram_ray.rllib import MBPOConfig

    small = {
        "actor_hidden_sizes": (16, 16),
        "critic_hidden_sizes": (16, 16),
        "num_layers": 1,
        "hidden_size": 8,
        "ensemble_size": 3,
        "num_elites": 2,
        "model_max_epochs": 2,
        "epoch_length": 60,
        "num_steps_sampled_before_learning_starts": 60,
        "model_train_freq": 30,
        "rollouts_per_step": 4,
        "utd_ratio": 1,
        "train_batch_size_per_learner": 32,
    }
    return MBPOConfig().environment(env).training(**{**small, **training}).evaluation(evaluation_duration=1)


@pytest.fixture
def make_config() -> Callable[..., Any]:
    return small_config


def plan_of(
    packs: dict[str, list[tuple[int, ...]]], *, epochs: int = 10, slots: int = 2, seconds: float | None = 100.0
) -> SweepPlan:
    """A plan with one cell per entry, divided into the given packs of seeds."""
    cells, trials = [], []
    ends = () if seconds is None else tuple(seconds * (epoch + 1) / epochs for epoch in range(epochs))
    for index, (label, cell_packs) in enumerate(packs.items()):
        axis, value = label.split("=")
        cells.append(PlannedCell(index, label, {axis: value}, {axis: value}, {axis: value}, WORKLOAD))
        for pack in cell_packs:
            name = f"{label},seeds={'-'.join(map(str, pack))}"
            trials.append(TrialPlan(cells[-1], pack, name, TrialEstimate(2**30, 2**20, ends)))
    return SweepPlan(
        name="a-sweep",
        description="",
        scale="smoke",
        config=None,  # type: ignore[arg-type]  # only running a plan needs it
        cells=tuple(cells),
        trials=tuple(trials),
        seeds=tuple(sorted({seed for pack in next(iter(packs.values())) for seed in pack})),
        epochs=epochs,
        machine=replace(MACHINE, cpus=slots),
        checkpoint_every=1,
        return_metric="eval/episode_return",
    )


def with_settings(plan: SweepPlan, *settings: dict[str, Any]) -> SweepPlan:
    """The plan with these settings of its cells, in their order."""
    cells = tuple(replace(cell, settings=own) for cell, own in zip(plan.cells, settings, strict=True))
    trials = tuple(replace(trial, cell=cells[trial.cell.index]) for trial in plan.trials)
    return replace(plan, cells=cells, trials=trials)


@pytest.fixture
def make_plan_of() -> Callable[..., SweepPlan]:
    return plan_of


def result_of(epoch: int, returns: dict[int, float], *, failed: tuple[int, ...] = (), **extra: Any) -> dict[str, Any]:
    """A result as ``MBPO`` reports it, with the nesting of RLlib."""
    return {
        "training_iteration": epoch,
        "env_steps": 50 + 100 * epoch,
        "time_total_s": 2.0 * epoch,
        "time_this_iter_s": 2.0,
        "perf": {"env_steps_per_s": 50.0},
        "time": {"sac_s": 1.0},
        "seeds": {
            f"seed_{seed}": {"eval": {"episode_return": value}, "failed": int(seed in failed)}
            for seed, value in returns.items()
        },
        **extra,
    }


@pytest.fixture
def make_result() -> Callable[..., dict[str, Any]]:
    return result_of
