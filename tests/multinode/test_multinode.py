"""Sweeps over several machines: nodes that are lost, nodes that join, and an autoscaler."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from ray.autoscaler._private.fake_multi_node.node_provider import FAKE_HEAD_NODE_ID

pytest.register_assert_rewrite("tests.faults.harness")
from tests.faults.harness import SweepRun, check_equal, until, write_sweep_file  # noqa: E402
from tests.multinode.machines import Machine, Network, network, why_not  # noqa: E402
from vagram_ray.sweep.run.faults import NO_ANSWER, NODE_LOST  # noqa: E402
from vagram_ray.sweep.run.ray_address import own_clusters  # noqa: E402

pytestmark = pytest.mark.slow
TRIAL = "ray::MBPO"
EPOCHS = 5
ONE_SEED_EACH = ("--seeds-per-trial", "1")


@pytest.fixture(scope="module", autouse=True)
def permitted() -> None:
    if reason := why_not():
        pytest.skip(reason)


@pytest.fixture(scope="module")
def sweep_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sweep_file(tmp_path_factory.mktemp("sweep"), epochs=EPOCHS)


@pytest.fixture(scope="module")
def undisturbed(sweep_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sweep on one machine."""
    place = tmp_path_factory.mktemp("undisturbed")
    run = SweepRun(sweep_file, place / "results", (*ONE_SEED_EACH, "--address", "local"))
    try:
        assert run.run(600) == 0, run.read_output()
    finally:
        run.clean_up()
    return run.folder


@pytest.fixture
def lan() -> Iterator[Network]:
    with network() as own:
        yield own


Sweep = Callable[..., SweepRun]


@pytest.fixture
def sweep_on(lan: Network, sweep_file: Path, tmp_path: Path) -> Iterator[Sweep]:
    """Makes sweeps whose command is given on the head."""
    runs: list[SweepRun] = []

    def make(*arguments: str) -> SweepRun:
        head = lan.head
        arguments = (*ONE_SEED_EACH, *arguments)
        runs.append(
            SweepRun(sweep_file, tmp_path / "results", arguments, head.environment, directory=tmp_path,
                     prefix=head.prefix)
        )  # fmt: skip
        return runs[-1]

    yield make
    for own in runs:
        own.clean_up()


def nodes(lan: Network) -> int:
    """Ray nodes of the head's cluster that run."""
    return own_clusters().count(f"{lan.head.address}:6379")


def start_head(lan: Network, *arguments: str, **environment: str) -> None:
    head = lan.add()
    head.start_ray("--head", "--port=6379", "--num-cpus=0", "--include-dashboard=false", *arguments, **environment)
    assert until(lambda: "ray stop" in head.read_log() and nodes(lan) == 1, 120), head.read_log()


def join(lan: Network) -> Machine:
    worker = lan.add()
    before = nodes(lan)
    worker.start_ray(f"--address={lan.head.address}:6379", "--num-cpus=2")
    assert until(lambda: "ray stop" in worker.read_log() and nodes(lan) == before + 1, 120), worker.read_log()
    return worker


def trials(machine: Machine) -> list[int]:
    """Trial processes on a machine."""
    names = {pid: Path(f"/proc/{pid}/cmdline") for pid in machine.pids()}
    return [pid for pid, path in names.items() if path.exists() and TRIAL.encode() in path.read_bytes()]


def monitor_log(lan: Network) -> str:
    """What the autoscaler has said."""
    (path,) = lan.head.folder.glob("ray/session_2*/logs/monitor.log")
    return path.read_text()


def check_faults(run: SweepRun) -> None:
    """No trial has failed but for its node."""
    for path in run.folder.glob("*/error.txt"):
        assert path.read_text().splitlines()[-1] in (NODE_LOST, NO_ANSWER)


@pytest.mark.parametrize("how", ["power off", "unplug"])
def test_a_node_is_lost_and_another_one_joins(how: str, lan: Network, sweep_on: Sweep, undisturbed: Path) -> None:
    start_head(lan)
    first, second = join(lan), join(lan)
    run = sweep_on()  # finds the cluster by itself
    run.start()
    run.wait_for_epoch(2, 300)
    assert trials(first) and trials(second)
    assert not trials(lan.head)
    third = join(lan)
    if how == "power off":
        first.power_off()
    else:
        lan.unplug(first)
    run.wait_until(lambda: trials(third), 300)
    assert run.wait(600) == 0, run.read_output()
    output = " ".join(run.read_output().split())
    assert f"the cluster at {lan.head.address}:6379 (this machine is a node of it" in output
    assert "Ray cluster of 3 nodes" in output
    assert NODE_LOST in output or NO_ANSWER in output
    check_faults(run)
    check_equal(run.folder, undisturbed)


def test_an_autoscaler_starts_nodes_for_the_trials_and_ends_them(
    lan: Network, sweep_on: Sweep, undisturbed: Path, tmp_path: Path
) -> None:
    config = tmp_path / "autoscaling.json"
    config.write_text(json.dumps(AUTOSCALING))
    environment = {"RAY_FAKE_CLUSTER": "1", "AUTOSCALER_UPDATE_INTERVAL_S": "1"}
    start_head(lan, f"--autoscaling-config={config}", RAY_OVERRIDE_NODE_ID_FOR_TESTING=FAKE_HEAD_NODE_ID, **environment)
    run = sweep_on()
    run.start()
    most = 1

    def ended() -> bool:
        nonlocal most
        most = max(most, nodes(lan))
        return run.driver.poll() is not None

    assert until(ended, 600), run.read_output()
    assert run.wait() == 0, run.read_output()
    assert most >= 3, monitor_log(lan)  # the head and two; Ray itself may start one too many and remove it at once
    assert until(lambda: nodes(lan) == 1, 180), monitor_log(lan)
    check_equal(run.folder, undisturbed)


AUTOSCALING = {
    "cluster_name": "fake",
    "max_workers": 2,
    "idle_timeout_minutes": 0.1,
    "provider": {
        "type": "fake_multinode",
        "gcs_address": "10.77.0.1:6379",
        "launch_multiple": True,
        "disable_node_updaters": True,
        "disable_launch_config_check": True,
        "use_node_id_as_ip": True,  # the nodes share one
    },
    "available_node_types": {
        "ray.head.default": {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0},
        "worker": {
            "resources": {"CPU": 2, "object_store_memory": 100_000_000},
            "node_config": {},
            "min_workers": 0,
            "max_workers": 2,
        },
    },
    "head_node_type": "ray.head.default",
    "upscaling_speed": 1.0,
    "auth": {},
    "head_setup_commands": [],
    "worker_setup_commands": [],
    "setup_commands": [],
    "initialization_commands": [],
    "head_start_ray_commands": [],
    "worker_start_ray_commands": [],
    "file_mounts": {},
    "cluster_synced_files": [],
    "file_mounts_sync_continuously": False,
    "rsync_exclude": [],
    "rsync_filter": [],
}
