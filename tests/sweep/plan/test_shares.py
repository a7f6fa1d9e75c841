"""Shares of GPUs: against sums by hand, bounds that hold for any cluster, and the trials that Ray makes of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from ray import tune

from vagram_ray.records.recorded import RecordedSweep
from vagram_ray.rllib import MBPO, gpu_share
from vagram_ray.sweep import commandline
from vagram_ray.sweep.plan.content import plan_content
from vagram_ray.sweep.plan.machine import Machine
from vagram_ray.sweep.plan.memory import gpu_bytes
from vagram_ray.sweep.plan.packing import pack_seeds
from vagram_ray.sweep.plan.plan import SweepPlan, check_gpu_memory, make_plan, split_pack
from vagram_ray.sweep.plan.shares import GIB, HEADROOM, GpuNode, GpuSharing, cluster_gpus
from vagram_ray.sweep.resume.joining import join_plan
from vagram_ray.sweep.spec import Sweep, SweepError

LARGE, SMALL = GpuNode(80 * GIB, 1, "H100"), GpuNode(22 * GIB, 1, "L4")
KEEP_TO_H100 = "accelerator_type:H100"


def machine(*nodes: GpuNode) -> Machine:
    return Machine(8 * sum(node.gpus for node in nodes), sum(node.gpus for node in nodes), None, "GPUs", False, nodes)


def plan_on(config: Any, *nodes: GpuNode, seeds: Any = 4, epochs: int = 10, **options: Any) -> SweepPlan:
    sweep = Sweep(name="s", config=config, epochs=epochs, seeds=seeds)
    return make_plan(sweep, machine(*nodes), scale="smoke", **options)


# -- shares ------------------------------------------------------------------------------------------------------


@st.composite
def clusters(draw: st.DrawFn) -> tuple[GpuNode, ...]:
    kinds = [("T4", 14), ("L4", 22), ("A100", 39), ("H100", 79)]
    nodes = draw(st.lists(st.tuples(st.sampled_from(kinds), st.integers(1, 4)), min_size=1, max_size=6))
    return tuple(GpuNode(gib * GIB, gpus, kind) for (kind, gib), gpus in nodes)


@given(nodes=clusters(), need=st.floats(0.8, 120.0), trials=st.integers(1, 60))
def test_no_gpu_ever_holds_more_than_its_memory(nodes: tuple[GpuNode, ...], need: float, trials: int) -> None:
    sharing = GpuSharing(nodes)
    bytes_needed = int(need * GIB)
    share = sharing.for_trials(bytes_needed, trials).share
    assert 0 < share <= 1
    assert sharing.fits(bytes_needed) == (bytes_needed * HEADROOM <= min(node.memory_bytes for node in nodes))
    # Shares, and not bytes, are what Ray adds up: as many as have room on a GPU have memory there, wherever they go.
    if sharing.fits(bytes_needed):
        assert all(bytes_needed * HEADROOM <= share * node.memory_bytes * (1 + 1e-9) for node in nodes)


@given(trials=st.integers(1, 60), gpus=st.integers(1, 70), need=st.floats(0.8, 60.0))
def test_no_gpu_waits_while_another_has_several_trials(trials: int, gpus: int, need: float) -> None:
    nodes = (GpuNode(80 * GIB, gpus),)  # on one machine Ray fills one GPU after another
    share = GpuSharing(nodes).for_trials(int(need * GIB), trials).share
    assert share == 1.0 if trials <= gpus else share >= 1 / -(-trials // gpus) - 0.01


@pytest.mark.parametrize(
    ("gib", "share"), [(1.0, 0.1), (4.5, 0.25), (9.0, 0.5), (10.0, 0.55), (18.0, 1.0), (19.0, 1.0)]
)
def test_a_share_is_the_need_with_headroom(gib: float, share: float) -> None:
    sharing = GpuSharing((GpuNode(20 * GIB),))
    assert sharing.for_trials(int(gib * GIB), 20).share == share
    assert sharing.fits(int(gib * GIB)) == (gib < 19)


def test_where_gpus_differ_the_smallest_counts_unless_a_kind_is_asked_for(make_config: Callable[..., Any]) -> None:
    config = make_config()
    both = GpuSharing.of((SMALL, LARGE), config)
    assert both is not None and (both.memory_bytes, both.gpus) == (22 * GIB, 2)
    assert not both.fits(30 * GIB)
    large = GpuSharing.of((SMALL, LARGE), config.resources(custom_resources_for_main_process={KEEP_TO_H100: 0.001}))
    assert large is not None and (large.memory_bytes, large.gpus) == (80 * GIB, 1)
    assert GpuSharing.of((SMALL,), config.resources(custom_resources_for_main_process={KEEP_TO_H100: 1})) is None


# -- plans -------------------------------------------------------------------------------------------------------


def test_all_trials_have_the_share_of_the_largest(make_config: Callable[..., Any]) -> None:
    config = make_config(hidden_size=tune.grid_search([8, 800]), replay_capacity=200_000)
    plan = plan_on(config, GpuNode(6 * GIB), seeds=10, epochs=300, seeds_per_trial=1)
    share = plan.base_parameters()["num_gpus_per_learner"]
    need = max(gpu_bytes(cell.workload, 1, 300) for cell in plan.cells)
    assert need * HEADROOM <= share * 6 * GIB < need * HEADROOM + 0.05 * 6 * GIB
    assert dict(plan.resources) == {"CPU": 1.0, "GPU": share}
    assert plan.slots == min(8, int(1 / share + 1e-9))
    request = MBPO.default_resource_request({**plan.base_parameters(), **plan.trials[0].parameters})
    assert request.bundles == [{"CPU": 1.0, "GPU": share}]  # one bundle: on one node
    last = plan.sharing_gpus(plan.trials[-1:])
    assert (last.resources["GPU"], len(last.trials)) == (1.0, 20)  # it has the GPU to itself


def test_a_share_is_for_as_many_trials_as_cpus_let_run(make_config: Callable[..., Any]) -> None:
    plan = plan_on(make_config(), GpuNode(80 * GIB), seeds=40, seeds_per_trial=1)
    assert (plan.resources["GPU"], plan.slots) == (0.12, 8)  # 1 / 8, in hundredths


def test_trials_of_a_kind_of_gpu_have_room_on_that_kind(make_config: Callable[..., Any]) -> None:
    config = make_config().resources(custom_resources_for_main_process={KEEP_TO_H100: 0.001})
    plan = plan_on(config, LARGE, *[SMALL] * 8, seeds=40, seeds_per_trial=1)
    assert plan.slots == int(1 / plan.resources["GPU"] + 1e-9)


def test_each_cell_records_its_own_cpus_beside_the_share(make_config: Callable[..., Any]) -> None:
    config = make_config().resources(num_cpus_for_main_process=tune.grid_search([1, 4]))
    content = plan_content(plan_on(config, LARGE, seeds=1))
    assert [trial["resources"]["CPU"] for trial in content["trials"]] == [1.0, 4.0]


def test_trials_that_run_together_have_room_on_gpus_one_by_one(make_config: Callable[..., Any]) -> None:
    config = make_config().learners(num_gpus_per_learner=0.4)
    assert plan_on(config, GpuNode(80 * GIB, 2), seeds=8, seeds_per_trial=1).slots == 4  # two on each


def test_the_user_has_the_last_word(make_config: Callable[..., Any]) -> None:
    for config, options in [
        (make_config().learners(num_gpus_per_learner=0.5), {}),
        (make_config().learners(num_gpus_per_learner=0.5), {"overrides": {"num_gpus_per_learner": 0.5}}),
        (make_config().learners(num_gpus_per_learner=tune.grid_search([0.25, 0.5])), {}),
    ]:
        plan = plan_on(config, LARGE, **options)
        assert plan.sharing is None and plan.resources["GPU"] == 0.5
        assert not plan.share_parameters
    cpu = plan_on(make_config(), LARGE, overrides={"num_gpus_per_learner": 0})
    assert cpu.resources["GPU"] == 0
    cpus = plan_on(make_config().resources(num_cpus_for_main_process=2), LARGE)
    assert cpus.resources["CPU"] == 2
    unknown = make_plan(Sweep(name="s", config=make_config(), epochs=2), Machine(8, 2, None, "m"), scale="")
    assert unknown.sharing is None and unknown.resources["GPU"] == 1.0


def test_cohorts_are_divided_until_they_fit(make_config: Callable[..., Any]) -> None:
    config = make_config(replay_capacity=400_000)
    whole = plan_on(config, GpuNode(200 * GIB), seeds=16, epochs=10_000)
    assert [len(trial.seeds) for trial in whole.trials] == [16]
    need = [gpu_bytes(whole.cells[0].workload, seeds, 10_000) for seeds in range(1, 17)]
    node = GpuNode(int(need[5] * HEADROOM) + 1)  # six seeds fit
    divided = plan_on(config, node, seeds=16, epochs=10_000)
    assert [len(trial.seeds) for trial in divided.trials] == [5, 6, 5]
    check_gpu_memory(divided, divided.trials)
    halves = split_pack(divided, divided.trials[0].name)
    joined = join_plan(divided, RecordedSweep.of(_recorded(halves)))
    assert [trial.name for trial in joined.trials] == [trial.name for trial in halves.trials]
    large = plan_on(config, node, seeds=16, epochs=10_000, seeds_per_trial=8)
    with pytest.raises(
        SweepError, match=r"\(8 seeds\) needs about .* GiB of GPU memory, and the smallest GPU has .*: give"
    ):
        check_gpu_memory(large, large.trials)
    single = plan_on(config, GpuNode(int(need[0])), seeds=2, epochs=10_000)
    with pytest.raises(SweepError, match=r"\(1 seed\).*: lower replay_capacity.*num_gpus_per_learner=0"):
        check_gpu_memory(single, single.trials)


def _recorded(plan: SweepPlan) -> Any:
    return json.loads(json.dumps({**plan_content(plan), "sweep_id": "abc", "launches": [{"command": "python"}]}))


@given(count=st.integers(1, 100), most=st.integers(1, 100))
def test_packs_are_the_fewest_that_fit(count: int, most: int) -> None:
    packs = pack_seeds(range(count), 1, 1, on_gpu=True, most=most)
    assert [seed for pack in packs for seed in pack] == list(range(count))
    assert max(map(len, packs)) <= most
    assert len(packs) == -(-count // most)


def test_gpus_of_a_cluster() -> None:
    def node(alive: bool = True, **resources: float) -> dict[str, Any]:
        return {"Alive": alive, "Resources": {key.replace("__", ":"): value for key, value in resources.items()}}

    head = node(CPU=4.0)
    l4 = node(CPU=8.0, GPU=1.0, accelerator_type__L4=1.0)
    a100 = node(CPU=96.0, GPU=8.0, accelerator_type__A100=1.0)
    gone = node(False, CPU=8.0, GPU=1.0, accelerator_type__T4=1.0)
    assert [(each.kind, each.gpus) for each in cluster_gpus([head, l4, a100, gone])] == [
        ("L4", 1),
        ("A100", 8),
    ]
    large = {"Alive": True, "Resources": {**a100["Resources"], "accelerator_type:A100-80G": 1.0}}
    assert cluster_gpus([large])[0].memory_bytes == 79 * GIB
    assert cluster_gpus([l4, node(CPU=8.0, GPU=1.0, accelerator_type__X1=1.0)]) == ()
    assert cluster_gpus([head]) == ()


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


def test_a_dry_run_shows_the_plan_on_gpus_that_are_not_there(sweep_files: list[str]) -> None:
    arguments = [sweep_files[0], "--wandb", "disabled", "--gpus", "3", "--gpu-memory", "40"]
    result = CliRunner().invoke(commandline.main, [*arguments, "--dry-run", "--address", "local"])
    assert result.exit_code == 0, result.output
    text = " ".join(result.output.split())
    assert "3 GPUs of 40 GiB with 8 CPUs each (assumed)" in text
    assert "3, 3 at a time, each with 1 CPU + 1 GPU" in text
    assert "GPU memory" in text and "times on GPUs are unknown beforehand" in text
    refused = CliRunner().invoke(commandline.main, [*arguments, "--address", "local"])
    assert refused.exit_code == 2
    assert "--gpus 3 plans for GPUs that are not there" in refused.output
    small = CliRunner().invoke(commandline.main, [*arguments, "--dry-run", "--address", "local", "--gpu-memory", "0.5"])
    assert small.exit_code == 2
    assert "of GPU memory, and the smallest GPU has 512 MiB" in " ".join(small.output.split())
