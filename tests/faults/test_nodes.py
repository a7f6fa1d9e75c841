"""Machines of a cluster that go away while trials run on them."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.faults.harness import MARK, SweepRun, Undisturbed, check_equal, kill
from vagram_ray.sweep.run.faults import NO_ANSWER, NODE_LOST

pytestmark = pytest.mark.ci

CLUSTER = "cluster"
ENVIRONMENT = {"RAY_AUTH_MODE": "disabled"}  # or a driver cannot connect by address


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A head without CPUs, and one machine with one CPU, all on this machine."""
    from ray.cluster_utils import Cluster

    for name, value in {**ENVIRONMENT, MARK: CLUSTER, "RAY_ENABLE_AUTO_CONNECT": "0"}.items():
        monkeypatch.setenv(name, value)
    own = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    own.add_node(num_cpus=1)
    yield own
    own.shutdown()


@pytest.mark.slow
def test_trials_of_a_lost_machine_go_on_elsewhere(
    cluster: Any, make_run: Callable[..., SweepRun], undisturbed: Undisturbed, tmp_path: Path
) -> None:
    run = make_run(None, "--address", cluster.address, **ENVIRONMENT)
    run.start()
    (lost,) = [node for node in cluster.list_all_nodes() if node is not cluster.head_node]
    for epoch in (1, 3):  # twice
        run.wait_for_epoch(epoch)
        new = cluster.add_node(num_cpus=1)
        cluster.remove_node(lost, allow_graceful=False)
        lost = new
    assert run.wait() == 0, run.read_output()
    assert NODE_LOST in run.read_output() or NO_ANSWER in run.read_output()  # whichever Ray notices first
    assert run.left_behind() == []
    check_equal(run.folder, undisturbed.folder)


@pytest.mark.slow
def test_a_killed_driver_of_a_cluster_goes_on(
    cluster: Any, make_run: Callable[..., SweepRun], undisturbed: Undisturbed
) -> None:
    run = make_run(None, "--address", cluster.address, **ENVIRONMENT)
    run.start()
    run.wait_for_epoch(2)
    kill(run.driver.pid, signal.SIGKILL)
    run.wait()
    assert run.run() == 0, run.read_output()
    assert run.left_behind() == []
    check_equal(run.folder, undisturbed.folder)
