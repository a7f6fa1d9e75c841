"""Shares of GPUs and simulated schedules: against sums by hand, bounds that hold for any schedule, and Ray itself."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from ray import tune

from vagram_ray.records.recorded import RecordedSweep
from vagram_ray.records.results import plan_content
from vagram_ray.rllib import MBPO, gpu_share
from vagram_ray.sweep import commandline
from vagram_ray.sweep.plan import placement
from vagram_ray.sweep.plan.cost_source import CostSource
from vagram_ray.sweep.plan.costs import Costs
from vagram_ray.sweep.plan.estimates import START_SECONDS
from vagram_ray.sweep.plan.gpu_memory import gpu_memory
from vagram_ray.sweep.plan.gpus import GIB, Fleet, GpuNode, cluster_gpus
from vagram_ray.sweep.plan.machine import Machine, assumed_machine
from vagram_ray.sweep.plan.packing import pack_seeds
from vagram_ray.sweep.plan.plan import SweepPlan, make_plan, split_pack
from vagram_ray.sweep.plan.schedule import Job, Schedule, simulate
from vagram_ray.sweep.plan.schedule_view import job_of
from vagram_ray.sweep.plan.shares import HEADROOM, GpuSharing, check_placement
from vagram_ray.sweep.resume.joining import join_plan
from vagram_ray.sweep.run.search import TrialNamer
from vagram_ray.sweep.spec import Sweep, SweepError
from vagram_ray.sweep.view.plan import Surroundings, plan_warnings

COSTS = Costs(4, env_step_s=1e-3, sac_update_s=1e-3, fit_s=1e-2, fit_row_s=1e-6, fit_epoch_row_s=1e-5, imagined_s=1e-6)
LARGE, SMALL = GpuNode(80 * GIB, 1, 8.0, "H100"), GpuNode(22 * GIB, 1, 8.0, "L4")


def machine(*nodes: GpuNode) -> Machine:
    return Machine(int(sum(node.cpus for node in nodes)), sum(node.gpus for node in nodes), None, "GPUs", False, nodes)


def plan_on(config: Any, *nodes: GpuNode, seeds: Any = 4, epochs: int = 10, **options: Any) -> SweepPlan:
    sweep = Sweep(name="s", config=config, epochs=epochs, seeds=seeds)
    return make_plan(sweep, config, machine(*nodes), scale="smoke", **options)


# -- shares ------------------------------------------------------------------------------------------------------


@st.composite
def clusters(draw: st.DrawFn) -> tuple[GpuNode, ...]:
    kinds = [("T4", 14), ("L4", 22), ("A100", 39), ("H100", 79)]
    nodes = draw(
        st.lists(st.tuples(st.sampled_from(kinds), st.integers(1, 4), st.integers(1, 64)), min_size=1, max_size=6)
    )
    return tuple(GpuNode(gib * GIB, gpus, float(cpus), kind) for (kind, gib), gpus, cpus in nodes)


@given(nodes=clusters(), needs=st.lists(st.floats(0.8, 120.0), min_size=1, max_size=40), data=st.data())
@settings(deadline=None)
def test_no_gpu_ever_holds_more_than_its_memory(
    nodes: tuple[GpuNode, ...], needs: list[float], data: st.DataObject
) -> None:
    sharing = GpuSharing(nodes, max_concurrent=data.draw(st.none() | st.integers(1, 10)))
    placements = sharing.place([int(need * GIB) for need in needs])
    for need, each in zip(needs, placements, strict=True):
        assert each.fits == (int(need * GIB) * HEADROOM <= sharing.largest_bytes)
        assert 0 < each.gpus <= 1 and 0.25 <= (each.cpus or 0) <= 1
    placed = [each for each in placements if each.fits]
    seconds = data.draw(st.lists(st.floats(0.1, 100), min_size=len(placed), max_size=len(placed)))
    computing = data.draw(st.floats(0, 1))
    jobs = [
        Job(str(index), alone, alone * computing, each.gpus, each.cpus or 1.0, each.memory_bytes, each.kind)
        for index, (each, alone) in enumerate(zip(placed, seconds, strict=True))
    ]
    schedule = simulate(jobs, nodes, sharing.max_concurrent)
    assert sorted(run.job.name for run in schedule.runs) == sorted(job.name for job in jobs)
    for (node, _), runs in schedule.by_gpu().items():
        for moment in [run.start for run in runs]:
            now = [run.job for run in runs if run.start <= moment < run.end]
            assert sum(job.memory_bytes for job in now) * HEADROOM <= nodes[node].memory_bytes * (1 + 1e-9)
            assert sum(job.gpus for job in now) <= 1 + 1e-9
            assert all(job.kind in (None, nodes[node].kind) for job in now)
    assert_bounds(schedule)


def assert_bounds(schedule: Schedule) -> None:
    """What no schedule can be better than."""
    jobs = [run.job for run in schedule.runs]
    gpus, slack = schedule.num_gpus, 1 + 1e-6
    assert schedule.makespan * slack >= max((job.seconds for job in jobs), default=0.0)
    assert schedule.makespan * slack >= sum(job.gpu_seconds for job in jobs) / gpus
    assert schedule.makespan * slack >= sum(job.gpus * job.seconds for job in jobs) / gpus
    cores = sum(node.cpus for node in schedule.nodes)
    assert schedule.makespan * slack >= sum(job.seconds - job.gpu_seconds for job in jobs) / cores
    for share in (schedule.busy, schedule.occupied, schedule.memory):
        assert 0 <= share <= slack
    assert schedule.busy <= schedule.occupied * slack


@given(
    trials=st.integers(1, 60),
    gpus=st.integers(1, 70),
    need=st.floats(0.8, 60.0),
)
def test_no_gpu_waits_while_another_has_several_trials(trials: int, gpus: int, need: float) -> None:
    nodes = (GpuNode(80 * GIB, gpus, 8.0 * gpus),)  # on one machine Ray fills one GPU after another
    placements = GpuSharing(nodes).place([int(need * GIB)] * trials)
    jobs = [Job(str(index), 1.0, 0.0, each.gpus, each.cpus or 1.0) for index, each in enumerate(placements)]
    schedule = simulate(jobs, nodes)
    first = [run for run in schedule.runs if run.start == 0]
    if trials <= gpus:
        assert {each.gpus for each in placements} == {1.0} and len(first) == trials
    else:
        assert len({run.place for run in first}) == gpus or len(first) == trials


@pytest.mark.parametrize(
    ("gib", "share"), [(1.0, 0.1), (4.5, 0.25), (9.0, 0.5), (10.0, 0.55), (18.0, 1.0), (19.0, 1.0)]
)
def test_a_share_is_the_need_with_headroom(gib: float, share: float) -> None:
    (*_, first) = GpuSharing((GpuNode(20 * GIB, 1, 8.0),)).place([int(gib * GIB)] * 20)
    assert first.gpus == share
    assert first.fits == (gib < 19)
    assert first.parameters == {"num_gpus_per_learner": share, "num_cpus_for_main_process": min(1.0, 8 * share)}


def test_large_trials_go_where_they_fit() -> None:
    sharing = GpuSharing((SMALL, LARGE, SMALL), custom=(("team", 1.0),))
    little, much, too_much = sharing.place([10 * GIB, 30 * GIB, 90 * GIB])
    assert (little.gpus, little.kind) == (0.5, None)  # of the smaller GPU, as it may come to that
    assert little.parameters["custom_resources_for_main_process"] == {"team": 1.0}
    assert (much.kind, much.fits) == ("H100", True)
    assert much.parameters["custom_resources_for_main_process"] == {"team": 1.0, "accelerator_type:H100": 0.001}
    assert too_much.kind == "H100" and not too_much.fits
    jobs = [Job(str(index), 1.0, 0.0, 1.0, 1.0, 0, "H100") for index in range(3)]
    assert {run.place for run in simulate(jobs, sharing.nodes).runs} == {(1, 0)}


# -- plans -------------------------------------------------------------------------------------------------------


def test_trials_carry_their_shares_and_keep_their_names(make_config: Callable[..., Any]) -> None:
    config = make_config(hidden_size=tune.grid_search([8, 1600]), replay_capacity=200_000)
    plan = plan_on(config, GpuNode(6 * GIB, 1, 16.0), seeds=10, epochs=300, seeds_per_trial=1)
    shares = [trial.parameters["num_gpus_per_learner"] for trial in plan.trials]
    for trial, share in zip(plan.trials, shares, strict=True):
        need = gpu_memory(plan.workloads[trial.cell.index], 1, 300).total
        assert need * HEADROOM <= share * 6 * GIB < need * HEADROOM + 0.05 * 6 * GIB
    small, large = shares[0], shares[-1]
    assert shares == [small] * 10 + [large] * 10 and small < large
    assert not {"num_gpus_per_learner", "num_cpus_for_main_process"} & set(plan.base_parameters())
    assert dict(plan.resources) == {"CPU": 1.0, "GPU": large}
    assert plan.slots == int(1 / small + 1e-9)  # the small ones come first, and then there is no room

    class Trial:
        def __init__(self, config: dict[str, Any]) -> None:
            self.config = config

    for trial in plan.trials:
        as_tune_has_it = json.loads(json.dumps(trial.parameters))
        assert TrialNamer(plan)(Trial({**plan.base_parameters(), **as_tune_has_it})) == trial.name


def test_one_trial_is_one_bundle_on_one_node(make_config: Callable[..., Any]) -> None:
    config = make_config(replay_capacity=3_000_000).environment("Pendulum-v1", num_distractors=120)
    plan = plan_on(config, SMALL, LARGE, epochs=40_000)
    (trial,) = plan.trials
    assert trial.placement is not None and trial.placement.kind == "H100"
    request = MBPO.default_resource_request({**plan.base_parameters(), **trial.parameters})
    assert request.bundles == [
        {"CPU": trial.placement.cpus, "GPU": trial.placement.gpus, "accelerator_type:H100": 0.001}
    ]


def test_the_user_has_the_last_word(make_config: Callable[..., Any]) -> None:
    for config, options in [
        (make_config().learners(num_gpus_per_learner=0.5), {}),
        (make_config().learners(num_gpus_per_learner=0.5), {"overrides": {"num_gpus_per_learner": 0.5}}),
        (make_config().learners(num_gpus_per_learner=tune.grid_search([0.25, 0.5])), {}),
    ]:
        plan = plan_on(config, LARGE, **options)
        assert plan.sharing is None and plan.resources["GPU"] == 0.5
        assert plan.trials[0].placement is None
    cpu = plan_on(make_config(), LARGE, overrides={"num_gpus_per_learner": 0})
    assert cpu.resources["GPU"] == 0
    cpus = plan_on(make_config().resources(num_cpus_for_main_process=2), LARGE)
    assert "num_cpus_for_main_process" not in cpus.trials[0].parameters
    unknown = make_plan(
        Sweep(name="s", config=make_config(), epochs=2), make_config(), Machine(8, 2, None, "m"), scale=""
    )
    assert unknown.sharing is None and unknown.resources["GPU"] == 1.0
    tight = plan_on(make_config().learners(num_gpus_per_learner=0.005), LARGE)
    (warning,) = plan_warnings(tight, Surroundings("r", "w"))
    assert "num_gpus_per_learner=0.005 gives it 410 MiB" in warning


def test_cohorts_are_divided_until_they_fit(make_config: Callable[..., Any]) -> None:
    config = make_config(replay_capacity=400_000)
    whole = plan_on(config, GpuNode(200 * GIB), seeds=16, epochs=10_000)
    assert [len(trial.seeds) for trial in whole.trials] == [16]
    need = [gpu_memory(whole.workloads[0], seeds, 10_000).total for seeds in range(1, 17)]
    node = GpuNode(int(need[5] * HEADROOM) + 1)  # six seeds fit
    divided = plan_on(config, node, seeds=16, epochs=10_000)
    assert [len(trial.seeds) for trial in divided.trials] == [5, 6, 5]
    check_placement(divided.trials, divided.sharing)
    halves = split_pack(divided, divided.trials[0].name)
    assert all(trial.placement is not None for trial in halves.trials)
    joined = join_plan(divided, RecordedSweep.of(_recorded(halves)))
    assert [(trial.name, trial.placement) for trial in joined.trials] == [
        (trial.name, trial.placement) for trial in halves.trials
    ]
    large = plan_on(config, node, seeds=16, epochs=10_000, seeds_per_trial=8)
    with pytest.raises(
        SweepError, match=r"\(8 seeds\) needs about .* GiB of GPU memory, and the largest GPU has .*: give"
    ):
        check_placement(large.trials, large.sharing)
    single = plan_on(config, GpuNode(int(need[0])), seeds=2, epochs=10_000)
    with pytest.raises(SweepError, match=r"\(1 seed\).*: lower replay_capacity.*num_gpus_per_learner=0"):
        check_placement(single.trials, single.sharing)


def _recorded(plan: SweepPlan) -> Any:
    return json.loads(json.dumps({**plan_content(plan), "sweep_id": "abc", "launches": [{"command": "python"}]}))


@given(count=st.integers(1, 100), most=st.integers(1, 100))
def test_packs_are_the_fewest_that_fit(count: int, most: int) -> None:
    packs = pack_seeds(range(count), 1, 1, on_gpu=True, most=most)
    assert [seed for pack in packs for seed in pack] == list(range(count))
    assert max(map(len, packs)) <= most
    assert len(packs) == -(-count // most)


# -- the schedule ------------------------------------------------------------------------------------------------


def test_jobs_start_in_order_and_smaller_ones_overtake() -> None:
    jobs = [Job("a", 4, 0, 0.5, 1), Job("b", 2, 0, 0.4, 1), Job("c", 1, 0, 1.0, 1), Job("d", 1, 0, 0.1, 1)]
    runs = simulate(jobs, [GpuNode(GIB)]).runs
    assert [(run.job.name, run.start, run.end) for run in runs] == [("a", 0, 4), ("b", 0, 2), ("d", 0, 1), ("c", 4, 5)]


def test_trials_on_one_gpu_share_its_arithmetic_and_its_cores() -> None:
    alone = simulate([Job("a", 10, 6, 0.5, 1)], [GpuNode(GIB)])
    assert (alone.makespan, alone.busy, alone.most_together) == (10, 0.6, 1)
    both = simulate([Job("a", 10, 6, 0.5, 1), Job("b", 10, 6, 0.5, 1)], [GpuNode(GIB)])
    assert both.makespan == pytest.approx(12)  # 12 seconds of arithmetic on one GPU
    assert both.busy == pytest.approx(1.0)
    light = simulate([Job("a", 10, 3, 0.5, 1), Job("b", 10, 3, 0.5, 1)], [GpuNode(GIB)])
    assert light.makespan == pytest.approx(10)
    one_core = simulate([Job("a", 10, 3, 0.5, 0.5), Job("b", 10, 3, 0.5, 0.5)], [GpuNode(GIB, 1, 1.0)])
    assert one_core.makespan == pytest.approx(14)  # 14 seconds of work for one core
    shorter = simulate([Job("a", 10, 10, 0.5, 1), Job("b", 4, 4, 0.5, 1)], [GpuNode(GIB)])
    assert [run.end for run in shorter.runs] == pytest.approx([14, 8])


def test_memory_and_occupancy_are_shares_over_time() -> None:
    jobs = [Job("a", 4, 0, 1.0, 1, GIB), Job("b", 2, 0, 1.0, 1, 2 * GIB)]
    schedule = simulate(jobs, [GpuNode(4 * GIB), GpuNode(4 * GIB)])
    assert (schedule.makespan, schedule.occupied) == (4, 6 / 8)
    assert schedule.memory == (4 * 1 + 2 * 2) / (4 * 8)
    assert simulate([], [GpuNode(GIB)]).makespan == 0


def test_what_has_no_room_anywhere_is_an_error() -> None:
    with pytest.raises(ValueError, match="has no room"):
        simulate([Job("a", 1, 0, 0.5, 9.0)], [GpuNode(GIB, 1, 8.0)])


def test_nodes_are_filled_evenly_and_gpus_one_by_one() -> None:
    """What Ray 2.60 did with the same requests."""
    one = Fleet([GpuNode(GIB, 2, 8.0)])
    assert [one.take(share, 0.5) for share in (0.5, 0.3, 0.4, 0.2, 0.3, 0.3)] == [
        (0, 0), (0, 0), (0, 1), (0, 0), (0, 1), (0, 1),
    ]  # fmt: skip
    two = Fleet([GpuNode(GIB, 1, 4.0), GpuNode(GIB, 1, 4.0, "A100")])
    requests = [(0.5, None), (0.3, None), (0.2, "A100"), (0.2, None), (0.2, "A100"), (0.2, None)]
    places = [two.take(share, 0.5, kind) for share, kind in requests]
    assert [place[0] for place in places if place] in ([0, 1, 1, 0, 1, 0], [1, 0, 1, 0, 1, 0])
    assert two.take(0.6, 0.5) is None


def test_gpus_of_a_cluster() -> None:
    def node(alive: bool = True, **resources: float) -> dict[str, Any]:
        return {"Alive": alive, "Resources": {key.replace("__", ":"): value for key, value in resources.items()}}

    head = node(CPU=4.0)
    l4 = node(CPU=8.0, GPU=1.0, accelerator_type__L4=1.0)
    a100 = node(CPU=96.0, GPU=8.0, accelerator_type__A100=1.0)
    gone = node(False, CPU=8.0, GPU=1.0, accelerator_type__T4=1.0)
    assert [(each.kind, each.gpus, each.cpus) for each in cluster_gpus([head, l4, a100, gone])] == [
        ("L4", 1, 8.0),
        ("A100", 8, 96.0),
    ]
    large = {"Alive": True, "Resources": {**a100["Resources"], "accelerator_type:A100-80G": 1.0}}
    assert cluster_gpus([large])[0].memory_bytes == 79 * GIB
    assert cluster_gpus([l4, node(CPU=8.0, GPU=1.0, accelerator_type__X1=1.0)]) == ()
    assert cluster_gpus([head]) == ()


def test_a_gpu_is_needed_for_all_but_environment_steps(make_config: Callable[..., Any]) -> None:
    plan = plan_on(make_config(model_loss="none"), LARGE, epochs=2, measure=lambda work, on_gpu: [COSTS] * len(work))
    job = job_of(plan, plan.trials[0])
    # 60 steps of warm-up, two epochs of 60 with one update each and an evaluation of 200 steps.
    steps = 60 + 2 * 60 + 2 * 200
    assert job.seconds == pytest.approx(START_SECONDS + steps * 1e-3 + 2 * 60 * 1e-3)
    assert job.gpu_seconds == pytest.approx(2 * 60 * 1e-3)


def test_jobs_of_unknown_time_are_placed_without_times(make_config: Callable[..., Any]) -> None:
    plan = plan_on(make_config(), LARGE, seeds_per_trial=1)
    schedule = simulate([job_of(plan, trial) for trial in plan.trials], [LARGE])
    assert not schedule.timed and schedule.most_together == 4


# -- a process and its share -------------------------------------------------------------------------------------


def test_a_process_is_held_to_its_share(monkeypatch: pytest.MonkeyPatch) -> None:
    limits: list[float] = []
    properties = type("Properties", (), {"total_memory": 60 * gpu_share.CONTEXT_BYTES})
    monkeypatch.setattr(gpu_share.torch.cuda, "get_device_properties", lambda index: properties)
    monkeypatch.setattr(gpu_share.torch.cuda, "set_per_process_memory_fraction", limits.append)
    for share in (0, 1, 0.5, 0.02):
        gpu_share.hold_to_gpu_share(share)
    assert limits == pytest.approx([0.5 - 1 / 60, 0.01])


# -- commands ----------------------------------------------------------------------------------------------------

SWEEP_FILE = """
from ray import tune
from vagram_ray.rllib import MBPOConfig
from vagram_ray.sweep import Sweep

config = MBPOConfig().environment("Pendulum-v1").training(model_loss=tune.grid_search(["vagram", "nll", "none"]))
SWEEP = Sweep(name="NAME", config=config, seeds=4, epochs=3)
"""


@pytest.fixture
def sweep_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.chdir(tmp_path)
    files = [tmp_path / f"{name}.py" for name in ("one", "two")]
    for file in files:
        file.write_text(SWEEP_FILE.replace("NAME", file.stem))
    return [str(file) for file in files]


def test_several_sweeps_are_simulated_in_one_queue(sweep_files: list[str]) -> None:
    result = CliRunner().invoke(
        placement.main, [*sweep_files, "--gpus", "1,6", "--gpu-memory", "24"]
    )
    assert result.exit_code == 0, result.output
    assert "one" in result.output and "two" in result.output
    assert "on GPUs of 24 GiB with 8 CPUs each" in result.output
    one, six = [line.split() for line in result.output.splitlines() if line.split()[1:2] == ["6"]]
    assert (one[0], six[0]) == ("1", "6")
    assert (one[-1], six[-1]) == ("6", "1")  # all on one GPU, or one each
    text = " ".join(result.output.split())
    assert "times are unknown, as nothing was measured on such a GPU" in text
    again = CliRunner().invoke(
        placement.main, [*sweep_files, "--gpus", "1,6", "--gpu-memory", "24"]
    )
    assert again.output == result.output


def test_a_dry_run_shows_the_plan_on_gpus_that_are_not_there(sweep_files: list[str]) -> None:
    arguments = [sweep_files[0], "--wandb", "disabled", "--gpus", "3", "--gpu-memory", "40"]
    result = CliRunner().invoke(commandline.main, [*arguments, "--dry-run", "--address", "local"])
    assert result.exit_code == 0, result.output
    text = " ".join(result.output.split())
    assert "3 GPUs of 40 GiB with 8 CPUs each (assumed)" in text
    assert "3, 3 at a time, each with 1 CPU + 1 GPU" in text
    assert "GPU memory" in text and "makespan" in text and "nothing was measured on such a GPU" in text
    refused = CliRunner().invoke(commandline.main, [*arguments, "--address", "local"])
    assert refused.exit_code == 2
    assert "--gpus 3 plans for GPUs that are not there" in refused.output
    small = CliRunner().invoke(commandline.main, [*arguments, "--dry-run", "--address", "local", "--gpu-memory", "0.5"])
    assert small.exit_code == 2
    assert "of GPU memory, and the largest GPU has 512 MiB" in " ".join(small.output.split())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--gpus", "8"], "CONFIG.py is missing"),
        (["FILE", "--gpus", "0"], "--gpus '0' is not usable"),
        (["FILE", "--gpu-memory", "nan"], "nan is not a finite number"),
        (["FILE", "--cpus-per-gpu", "inf"], "inf is not a finite number"),
        (["FILE", "--gpus", "many"], "--gpus 'many' is not usable"),
        (["FILE", "--gpu-speed", "nowhere.json"], "--gpu-speed 'nowhere.json' is not usable (FileNotFoundError)"),
        (["FILE", "--gpu-speed", "FILE"], "is not usable (JSONDecodeError)"),
        (["FILE", "--scale", "paper", "--gpu-memory", "0.5"], "lower replay_capacity"),
        (["FILE", "--measure-speed", "out.json"], "--measure-speed needs a GPU"),
    ],
)
def test_bad_input_is_one_sentence(arguments: list[str], message: str, sweep_files: list[str]) -> None:
    given_files = [sweep_files[0] if argument == "FILE" else argument for argument in arguments]
    result = CliRunner().invoke(placement.main, given_files)
    assert result.exit_code == 2
    assert message in " ".join(result.output.split())
    assert "Traceback" not in result.output


def test_times_that_were_measured_elsewhere_are_read(
    tmp_path: Path, sweep_files: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: "a GPU of a test")
    monkeypatch.setattr("vagram_ray.sweep.plan.cost_source.Prober.__call__", lambda self, work: [COSTS] * len(work))
    file = tmp_path / "costs.json"
    written = CliRunner().invoke(placement.main, [sweep_files[0], "--measure-speed", str(file)])
    assert written.exit_code == 0, written.output
    assert "a GPU of a test: 3 sizes measured and written to" in " ".join(written.output.split())
    simulated = CliRunner().invoke(placement.main, [sweep_files[0], "--gpus", "2", "--gpu-speed", str(file)])
    assert simulated.exit_code == 0, simulated.output
    assert "times were measured on a GPU of a test." in " ".join(simulated.output.split())
    assert "unknown" not in simulated.output
    content = json.loads(file.read_text())
    content["costs"].popitem()
    file.write_text(json.dumps(content))
    again = CliRunner().invoke(placement.main, [sweep_files[0], "--gpus", "2", "--gpu-speed", str(file)])
    assert "but not those of 1 of 3 cells: measure this sweep file there" in " ".join(again.output.split())
    assert "unknown" in again.output
    content["costs"] = {"key": {**content["costs"].popitem()[1], "sac_update_s": -1.0}}
    file.write_text(json.dumps(content))
    with pytest.raises(SweepError, match=r"is not usable \(ValueError\)"):
        CostSource(assumed_machine(1, 24), file=file)
    assert assumed_machine(2, 24).gpu_nodes == (GpuNode(24 * GIB), GpuNode(24 * GIB))


# -- Ray ---------------------------------------------------------------------------------------------------------

WITH_RAY = """
import json, sys, time
import ray
from ray import tune

def work(config):
    start = time.time()
    time.sleep(config["job"][2])
    tune.report({"name": config["job"][0], "start": start, "end": time.time(), "gpu": int(ray.get_gpu_ids()[0])})

jobs = json.loads(sys.argv[1])
ray.init("local", num_cpus=8, num_gpus=2, include_dashboard=False, object_store_memory=10**8, log_to_driver=False)
def request(config):
    return tune.PlacementGroupFactory([{"CPU": 0.25, "GPU": config["job"][1]}])
run = tune.RunConfig(storage_path=sys.argv[2], verbose=0)
grid = tune.Tuner(tune.with_resources(work, request), param_space={"job": tune.grid_search(jobs)}, run_config=run).fit()
runs = [{key: one.metrics[key] for key in ("name", "start", "end", "gpu")} for one in grid]
print("RUNS " + json.dumps(runs))
"""


@pytest.mark.slow
def test_ray_places_trials_as_simulated(tmp_path: Path) -> None:
    shares = [0.5, 0.5, 0.3, 0.7, 0.3, 0.25, 0.25, 0.5, 1.0, 0.5, 0.2, 0.2]
    jobs = [(str(index), share, 15.0) for index, share in enumerate(shares)]
    done = subprocess.run(
        [sys.executable, "-c", WITH_RAY, json.dumps(jobs), str(tmp_path)], capture_output=True, text=True, timeout=500
    )
    assert done.returncode == 0, done.stderr[-2000:]
    line = next(line for line in done.stdout.splitlines() if line.startswith("RUNS "))
    real = json.loads(line.removeprefix("RUNS "))
    assert sorted(run["name"] for run in real) == sorted(name for name, *_ in jobs)
    schedule = simulate([Job(name, seconds, 0, share, 0.25) for name, share, seconds in jobs], [GpuNode(GIB, 2, 8.0)])
    first = {run.job.name: run.place[1] for run in schedule.runs if run.start == 0}
    assert {run["name"]: run["gpu"] for run in real if run["name"] in first} == first
    for gpu in (0, 1):
        for run in (own := [run for run in real if run["gpu"] == gpu]):
            now = [other for other in own if other["start"] <= run["start"] < other["end"]]
            assert sum(shares[int(other["name"])] for other in now) <= 1 + 1e-9
            assert len(now) <= 5
    whole = next(run for run in real if run["name"] == "8")  # the one that wants a whole GPU has it alone
    beside = [run for run in real if run["gpu"] == whole["gpu"] and run["name"] != "8"]
    assert all(run["end"] <= whole["start"] or run["start"] >= whole["end"] for run in beside)
