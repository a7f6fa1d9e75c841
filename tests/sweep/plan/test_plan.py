"""How seeds become trials, against plans worked out by hand."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ray import tune
from rich.console import Console

from vagram_ray.sweep.plan.machine import GIB, Machine
from vagram_ray.sweep.plan.overrides import resolve_extensions
from vagram_ray.sweep.plan.packing import makespan, pack_seeds
from vagram_ray.sweep.plan.plan import SweepPlan, make_plan, make_trial, split_pack
from vagram_ray.sweep.plan.workload import Costs
from vagram_ray.sweep.resume.continuation import Continuation, Reached
from vagram_ray.sweep.spec import Sweep, SweepError
from vagram_ray.sweep.view.plan import Surroundings, plan_warnings, render_plan
from vagram_ray.text import format_seeds


def machine(cpus: int = 2, gpus: int = 0) -> Machine:
    return Machine(cpus, gpus, 8 * GIB, "a machine")


def plan_for(config: Any, cpus: int = 2, gpus: int = 0, seeds: Any = 4, **options: Any) -> SweepPlan:
    sweep = Sweep(name="s", config=config, epochs=10, seeds=seeds)
    return make_plan(sweep, machine(cpus, gpus), scale="smoke", **options)


@pytest.mark.parametrize(
    ("seeds", "cells", "slots", "packs"),
    [
        (16, 6, 2, [16]),  # six cells keep two cores busy: 3 rounds of 16
        (8, 1, 2, [4, 4]),
        (5, 1, 2, [2, 3]),
        (8, 1, 1, [8]),
        (1, 1, 8, [1]),
        (8, 3, 2, [4, 4]),  # 3 rounds of 4 instead of 2 rounds of 8
        (16, 6, 64, [2] * 8),  # one round of 48 trials with 2 seeds
        (4, 1, 64, [1] * 4),
        (2, 5, 2, [1, 1]),  # 5 rounds of 1 instead of 3 rounds of 2
    ],
)
def test_seeds_fill_the_cores(seeds: int, cells: int, slots: int, packs: list[int]) -> None:
    divided = pack_seeds(range(seeds), cells, slots)
    assert [len(pack) for pack in divided] == packs
    assert [seed for pack in divided for seed in pack] == list(range(seeds))


def test_a_gpu_takes_all_seeds_of_a_cell_and_the_user_has_the_last_word() -> None:
    assert pack_seeds(range(16), 1, 4, on_gpu=True) == [tuple(range(16))]
    assert pack_seeds((3, 5, 9), 1, 4, 2, on_gpu=True) == [(3, 5), (9,)]
    assert pack_seeds(range(3), 1, 1, 1) == [(0,), (1,), (2,)]


def test_makespan_starts_each_trial_where_a_slot_is_free() -> None:
    assert makespan([3, 1, 1, 1], slots=2) == 3
    assert makespan([1, 1, 1], slots=2) == 2
    assert makespan([1, 1, 5], slots=2) == 6


@pytest.mark.parametrize(("seeds", "text"), [([0, 1, 2], "0-2"), ([4], "4"), ([3, 5], "3,5"), ([1, 0], "1,0")])
def test_seeds_in_names(seeds: Sequence[int], text: str) -> None:
    assert format_seeds(seeds) == text


def test_trials_are_cells_times_packs(make_config: Callable[..., Any]) -> None:
    config = make_config(model_loss=tune.grid_search(["vagram", "nll"])).environment(env_config={"g": 9.8})
    plan = plan_for(config, seeds_per_trial=3)
    assert [trial.name for trial in plan.trials] == [
        "model_loss=vagram,seeds=0-2",
        "model_loss=vagram,seeds=3",
        "model_loss=nll,seeds=0-2",
        "model_loss=nll,seeds=3",
    ]
    assert plan.trials[2].parameters == {"model_loss": "nll", "seeds": (0, 1, 2)}
    assert (plan.slots, dict(plan.resources)) == (2, {"CPU": 1.0, "GPU": 0.0})
    assert [cell.workload.env_steps(1) for cell in plan.cells] == [120, 120]
    assert not {"model_loss", "seeds"} & set(plan.base_parameters())
    assert plan.base_parameters()["hidden_size"] == 8


def test_a_pack_is_divided_in_its_place(make_config: Callable[..., Any]) -> None:
    costs = Costs(1e-3, 1e-3)
    config = make_config(model_loss=tune.grid_search(["vagram", "nll"]))
    plan = plan_for(config, cpus=2, seeds=5, measure=lambda work, on_gpu: ([costs] * len(work), ""))
    before = [trial.name for trial in plan.trials]
    assert before == ["model_loss=vagram,seeds=0-4", "model_loss=nll,seeds=0-4"]
    divided = split_pack(plan, "model_loss=vagram,seeds=0-4")
    assert [(trial.name, trial.seeds) for trial in divided.trials] == [
        ("model_loss=vagram,seeds=0-2", (0, 1, 2)),
        ("model_loss=vagram,seeds=3-4", (3, 4)),
        ("model_loss=nll,seeds=0-4", (0, 1, 2, 3, 4)),
    ]
    assert [trial.name for trial in plan.trials] == before  # the plan itself stays
    whole, half = plan.trials[0].estimate, divided.trials[0].estimate
    assert half.memory_bytes < whole.memory_bytes and half.seconds < whole.seconds
    assert divided.cells == plan.cells and divided.seeds == plan.seeds
    single = split_pack(split_pack(divided, "model_loss=vagram,seeds=3-4"), "model_loss=nll,seeds=0-4")
    assert single.slots == 2


@given(seeds=st.sets(st.integers(0, 10**6), min_size=2, max_size=24), labels=st.integers(1, 3), data=st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=40)
def test_no_two_packs_ever_share_a_folder(
    make_plan_of: Callable[..., SweepPlan], seeds: set[int], labels: int, data: st.DataObject
) -> None:
    """However often packs are divided: a trial's folder holds checkpoints of its own seeds and cell alone."""
    names = ["a/b", "a,b", "a b"][:labels]  # alike once they are names of folders
    plan = make_plan_of({f"x={name}": [tuple(sorted(seeds))] for name in names})
    plan = plan.with_trials([make_trial(plan, cell, sorted(seeds)) for cell in plan.cells])
    owners = {trial.name: (trial.cell.index, trial.seeds) for trial in plan.trials}
    while large := [trial.name for trial in plan.trials if len(trial.seeds) > 1]:
        plan = split_pack(plan, data.draw(st.sampled_from(large)))
        for trial in plan.trials:
            assert owners.setdefault(trial.name, (trial.cell.index, trial.seeds)) == (trial.cell.index, trial.seeds)
            assert len(trial.name) <= 160
    for cell in plan.cells:
        assert sorted(seed for trial in plan.cell_trials(cell) for seed in trial.seeds) == sorted(seeds)


def test_gpus_are_used_unless_the_user_says_otherwise(make_config: Callable[..., Any]) -> None:
    plan = plan_for(make_config(), gpus=2, seeds=16)
    assert dict(plan.resources) == {"CPU": 1.0, "GPU": 1.0}
    assert [len(trial.seeds) for trial in plan.trials] == [16]
    on_cpu = plan_for(make_config(), gpus=2, overrides={"num_gpus_per_learner": 0})
    assert on_cpu.resources["GPU"] == 0
    with pytest.raises(SweepError, match=r"num_gpus_per_learner=1.*has 0 GPUs"):
        plan_for(make_config().learners(num_gpus_per_learner=1), gpus=0)


def test_max_concurrent_limits_the_slots(make_config: Callable[..., Any]) -> None:
    assert plan_for(make_config(), cpus=8, seeds=8, max_concurrent=2).slots == 2
    assert len(plan_for(make_config(), cpus=8, seeds=8, max_concurrent=2).trials) == 2


def test_every_cell_is_validated_before_anything_starts(make_config: Callable[..., Any]) -> None:
    with pytest.raises(SweepError, match="In the cell model_loss=oops: model_loss='oops' is not registered"):
        plan_for(make_config(model_loss=tune.grid_search(["nll", "oops"])))
    with pytest.raises(SweepError, match=r"^num_elites=9"):  # wrong in all cells: none is singled out
        plan_for(make_config(model_loss=tune.grid_search(["nll", "mse"]), num_elites=9))
    with pytest.raises(SweepError, match="Hopper-v4"):
        plan_for(make_config("Hopper-v2"))


def test_the_return_without_evaluation_is_that_of_training(make_config: Callable[..., Any]) -> None:
    assert plan_for(make_config()).return_metric == "eval/episode_return"
    without = make_config().evaluation(evaluation_interval=None)
    assert plan_for(without).return_metric == "train/episode_return"


def test_checkpoints_come_by_time_unless_the_sweep_says_otherwise(make_config: Callable[..., Any]) -> None:
    own = make_config().checkpointing(checkpoint_every=4)
    for config, every, expected in [(make_config(), None, "auto"), (make_config(), 3, 3), (own, None, 4), (own, 3, 3)]:
        sweep = Sweep(name="s", config=config, epochs=5, checkpoint_every=every)
        parameters = make_plan(sweep, machine(), scale="").base_parameters()
        assert (parameters["checkpoint_every"], parameters["checkpoint_last_epoch"]) == (expected, 5)


def test_the_disk_follows_the_checkpoints_that_are_kept(make_config: Callable[..., Any]) -> None:
    def disk(kept: int | str, every: int | None = None) -> int:
        config = make_config().checkpointing(checkpoints_kept=kept)
        sweep = Sweep(name="s", config=config, epochs=40, checkpoint_every=every)
        return make_plan(sweep, machine(), scale="").disk_bytes

    one = disk(9) - disk(8)  # a checkpoint of each trial, without segments of the buffer
    assert one > 0
    assert disk("all") - disk(2) >= 38 * one
    assert disk("all") - disk("all", every=10) >= 36 * one
    assert disk("every 10 epochs") - disk(2) >= 4 * one


def test_extension_files_are_looked_for_beside_the_sweep_file(make_config: Callable[..., Any], tmp_path: Path) -> None:
    config = make_config(extensions=["losses.py", "package.module", "/elsewhere/x.py"])
    assert resolve_extensions(config, tmp_path).extensions == (
        str(tmp_path / "losses.py"),
        "package.module",
        "/elsewhere/x.py",
    )


def test_the_plan_says_which_times_it_does_not_know(make_config: Callable[..., Any]) -> None:
    def measure(work: Sequence[Any], on_gpu: bool) -> tuple[list[Costs | None], str]:
        assert not on_gpu
        costs = [Costs(0.01, 1.0) if workload.settings.model_loss == "none" else None for workload, _ in work]
        return costs, "why some are not known."

    config = make_config(model_loss=tune.grid_search(["vagram", "none"]), utd_ratio=10)
    plan = plan_for(config, seeds=2, seeds_per_trial=2, measure=measure)
    console = Console(file=io.StringIO(), width=150)
    console.print(render_plan(Continuation(plan, "id"), Surroundings("r", "w")))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    # Two seeds of 10 epochs of 60 steps with 10 updates of a second; the steps and the start take a minute.
    assert "Note: why some are not known." in text
    assert "about 3 h 21 min, and what 1 trial of unmeasured size will take" in text
    assert [line.split()[-1] for line in text.splitlines() if line.startswith("model_loss=vagram")] == ["unknown"]


def test_the_printed_plan_names_cells_needs_and_places(make_config: Callable[..., Any]) -> None:
    plan = plan_for(make_config(model_loss=tune.grid_search(["vagram", "nll"])))
    console = Console(file=io.StringIO(), width=120)
    console.print(render_plan(Continuation(plan, "id"), Surroundings("results/s", "offline, project p", 10 * GIB)))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    for part in (
        "s at scale smoke: 2 cells x 4 seeds x 10 epochs",
        "model_loss=vagram",
        "660",  # 60 warm-up steps and 10 epochs of 60
        "a machine, 2 CPU cores",
        "2, 2 at a time, each with 1 CPU",
        "every minute, or less often",
        "of 8.0 GiB with 2 at a time",
        "of 10 GiB free",
        "unknown until the first epochs have run",
        "results/s",
        "offline, project p",
    ):
        assert part in text


@pytest.mark.parametrize(
    ("seeds", "losses", "said"),
    [
        (5, ["vagram", "nll"], "too few to tell cells apart, no difference can be firm with fewer than 6"),
        (6, ["vagram", "nll"], ""),
        (2, ["vagram"], ""),
        (
            6,
            ["vagram", "nll", "mse"],
            "no difference can be firm among more than 1 comparison; 7 seeds are enough here",
        ),
        (7, ["vagram", "nll", "mse"], ""),
    ],
)
def test_the_plan_says_where_seeds_are_too_few_to_decide(
    make_config: Callable[..., Any], seeds: int, losses: list[str], said: str
) -> None:
    plan = plan_for(make_config(model_loss=tune.grid_search(losses)), seeds=seeds)
    console = Console(file=io.StringIO(), width=150)
    console.print(render_plan(Continuation(plan, "id"), Surroundings("r", "w")))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    (line,) = (line for line in text.splitlines() if line.startswith("seeds "))
    assert line.split(maxsplit=1)[1].strip() == f"0-{seeds - 1}" + (f": {said}" if said else "")


def test_state_of_environments_that_checkpoints_lack_is_named_once(make_config: Callable[..., Any]) -> None:
    class Counts(gym.Wrapper[Any, Any, Any, Any]):
        resets = 0

        def reset(self, **options: Any) -> Any:
            self.resets += 1
            return self.env.reset(**options)

    gym.register("Counts-v0", entry_point=lambda **_: Counts(gym.make("Pendulum-v1")))
    try:
        config = make_config(model_loss="none", hidden_size=tune.grid_search([8, 16])).environment("Counts-v0")
        (warning,) = plan_warnings(plan_for(config), Surroundings("r", "w"))
    finally:
        del gym.registry["Counts-v0"]
    assert "'Counts-v0' keeps state that checkpoints lack (Counts.resets)" in warning
    assert plan_warnings(plan_for(make_config()), Surroundings("r", "w")) == []


def test_the_plan_fits_80_columns_and_begins_with_the_task(make_config: Callable[..., Any]) -> None:
    axes = {"num_distractors": tune.grid_search([5, 10]), "model_loss": tune.grid_search(["value_weighted", "none"])}
    plan = plan_for(
        make_config().environment("Pendulum-v1", num_distractors=axes.pop("num_distractors")).training(**axes)
    )
    plan = replace(plan, replaced="laptop scale: Pendulum-v1 instead of the paper scale's Hopper-v4")
    rows = {}
    for width in (80, 140):
        console = Console(file=io.StringIO(), width=width)
        console.print(render_plan(Continuation(plan, "id"), Surroundings("results/s", "disabled")))
        lines = [line.rstrip() for line in console.file.getvalue().splitlines()]  # type: ignore[attr-defined]
        assert lines[1].startswith("Pendulum-v1 | distractors 5, 10 | value_weighted, SAC | 4 seeds x 660 steps")
        assert plan.replaced in lines
        assert max(map(len, lines)) <= width
        rows[width] = [line.split("  ")[0] for line in lines if " 660 " in line and "|" not in line]
    assert rows[80] == ["5, value_weighted", "5, none", "10, value_weighted", "10, none"]
    assert rows[140] == [cell.label for cell in plan.cells]


def test_a_sweep_that_goes_on_needs_what_is_left_of_it(make_plan_of: Callable[..., SweepPlan]) -> None:
    plan = make_plan_of({"a=1": [(0,), (1,), (2,)]})
    done = {trial.name: Reached(10) for trial in plan.trials[:2]}
    console = Console(file=io.StringIO(), width=140)
    console.print(render_plan(Continuation(plan, "id", trials=done), Surroundings("r", "w", 2**21)))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "about 1.0 GiB of 8.0 GiB with 1 at a time" in text
    assert "about 1 MiB of 2 MiB free" in text and "Note:" not in text


def test_needs_beyond_the_machine_are_pointed_out(make_plan_of: Callable[..., SweepPlan]) -> None:
    plan = make_plan_of({"a=1": [(0,), (1,)]})
    assert (plan.memory_bytes, plan.disk_bytes) == (2 * GIB, 2**21)
    assert plan_warnings(plan, Surroundings("r", "w", GIB)) == []
    small = replace(plan, machine=replace(plan.machine, memory_bytes=GIB))
    (warning,) = plan_warnings(small, Surroundings("r", "w", GIB))
    assert "2.0 GiB of memory" in warning
    several = replace(plan, machine=replace(plan.machine, nodes=3))
    (warning,) = plan_warnings(several, Surroundings("results/s", "w", GIB))
    assert "the directory results/s" in warning and "3 machines" in warning and "--storage s3://BUCKET/PATH" in warning
    assert plan_warnings(several, Surroundings("s3://bucket/s", "w")) == []
    assert plan_warnings(several, Surroundings("results/s", "w", GIB, shared=True)) == []
    (warning,) = plan_warnings(plan, Surroundings("r", "w", 2**20))
    assert "2 MiB of disk" in warning
