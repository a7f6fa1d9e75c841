"""What an autoscaler may still start, from configurations as Ray leaves them on the head, and the plan's machine."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vagram_ray.sweep.plan import autoscaling
from vagram_ray.sweep.plan.autoscaling import MOST_PLANNED, Autoscaling, NodeType, read_config
from vagram_ray.sweep.plan.machine import machine_of
from vagram_ray.sweep.plan.plan import make_plan
from vagram_ray.sweep.plan.shares import GIB
from vagram_ray.sweep.spec import Sweep

HEAD = {"Alive": True, "Resources": {"node:__internal_head__": 1.0, "memory": 8.0 * GIB}}


def gpu_type(kind: str, gpus: int, cpus: int, most: int) -> dict[str, Any]:
    resources = {"CPU": cpus, "GPU": gpus, f"accelerator_type:{kind}": 1, "memory": 16 * GIB}
    return {"min_workers": 0, "max_workers": most, "resources": resources, "node_config": {}}


CONFIG = {
    "max_workers": 8,
    "head_node_type": "head",
    "available_node_types": {
        "head": {"resources": {"CPU": 0}, "max_workers": 0, "node_config": {}},
        "gpu_l4": gpu_type("L4", 1, 8, 8),
        "gpu_l40s": gpu_type("L40S", 1, 8, 8),
        "gpu_4_l4": gpu_type("L4", 4, 48, 2),
        "gpu_8_a100": gpu_type("A100", 8, 96, 0),
        "cores": {"resources": {"CPU": 64}, "node_config": {}},
    },
}


def worker(name: str, *, alive: bool = True) -> dict[str, Any]:
    return {"Alive": alive, "Resources": CONFIG["available_node_types"][name]["resources"]}  # type: ignore[index]


def of_config(config: dict[str, Any]) -> Autoscaling:
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        json.dump(config, file)  # as `ray up` writes it: YAML that is JSON
        file.flush()
        found = read_config(Path(file.name))
    assert found is not None
    return found


def names(coming: list[NodeType]) -> list[str]:
    return [each.name for each in coming]


def test_a_fresh_cluster_is_planned_with_what_may_come() -> None:
    coming = of_config(CONFIG).still_to_come([HEAD])
    assert sorted(names(coming)) == ["gpu_4_l4"] * 2 + ["gpu_l4"] * 3 + ["gpu_l40s"] * 3
    machine = machine_of([HEAD], of_config(CONFIG))
    assert (machine.gpus, machine.cpus, machine.local) == (14, 3 * 8 + 3 * 8 + 2 * 48, False)
    assert machine.description == (
        "Ray cluster of 1 node; its autoscaler may start up to 8 more (planned as 3 gpu_l4, 3 gpu_l40s, 2 gpu_4_l4)"
    )
    assert sorted({node.kind for node in machine.gpu_nodes if node.kind}) == ["L4", "L40S"]
    assert machine.memory_bytes == 8 * GIB + 8 * 16 * GIB
    assert (machine.nodes, machine_of([HEAD]).nodes) == (9, 1)


def test_machines_that_are_there_count_once() -> None:
    nodes = [HEAD, worker("gpu_4_l4"), worker("gpu_4_l4"), worker("gpu_l4", alive=False)]
    coming = names(of_config(CONFIG).still_to_come(nodes))
    assert len(coming) == 6  # eight less the two that are there
    machine = machine_of(nodes, of_config(CONFIG))
    assert machine.description.startswith("Ray cluster of 3 nodes; its autoscaler may")
    full = [HEAD, *[worker("gpu_l4")] * 8]
    assert of_config(CONFIG).still_to_come(full) == []
    assert machine_of(full, of_config(CONFIG)).description == "Ray cluster of 9 nodes"
    assert machine_of(full).gpus == 8


def test_types_without_gpus_come_last() -> None:
    assert names(of_config({**CONFIG, "max_workers": 20}).still_to_come([HEAD]))[-2:] == ["cores", "cores"]


@given(
    most=st.integers(0, 30),
    limits=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 12)), max_size=5),
    running=st.integers(0, 30),
)
def test_no_limit_is_ever_passed(most: int, limits: list[tuple[int, int]], running: int) -> None:
    types = tuple(
        NodeType(str(index), {"CPU": 1.0 + index, "GPU": gpus}, own) for index, (gpus, own) in enumerate(limits)
    )
    nodes = [HEAD, *[{"Alive": True, "Resources": types[0].resources if types else {}}] * running]
    coming = Autoscaling(types, most).still_to_come(nodes)
    assert len(coming) <= max(0, most - running)
    assert all(coming.count(each) <= each.most for each in types)


def test_a_plan_on_a_fresh_cluster_puts_trials_on_gpus(make_config: Callable[..., Any]) -> None:
    machine = machine_of([HEAD], of_config(CONFIG))
    sweep = Sweep(name="s", config=make_config(), epochs=2, seeds=4)
    plan = make_plan(sweep, machine, scale="")
    assert plan.sharing is not None and plan.resources["GPU"] == 1.0
    alone = make_plan(sweep, machine_of([HEAD]), scale="")
    assert alone.resources["GPU"] == 0  # what a plan without the autoscaler's limits would have been


def test_limits_that_are_not_given_are_rays_own() -> None:
    content = {"resources": {"CPU": 2, "GPU": 1}}
    config = {"head_node_type": "h", "max_workers": 3, "available_node_types": {"h": content, "w": content}}
    assert [(each.name, each.most) for each in of_config(config).types] == [("w", 3)]
    assert len(of_config({**config, "max_workers": 10**9}).still_to_come([HEAD])) == MOST_PLANNED


@pytest.mark.parametrize("content", ["", "[]", "{", '{"head_node_type": "h"}', '{"max_workers": "many"}', "\x00"])
def test_a_file_that_is_none_is_passed_over(tmp_path: Path, content: str) -> None:
    path = tmp_path / "config.yaml"
    assert autoscaling.read_config(path) is None
    path.write_text(content)
    assert autoscaling.read_config(path) is None


def test_the_autoscaler_of_a_cluster_is_found_by_its_process(tmp_path: Path) -> None:
    config = tmp_path / "ray_bootstrap_config.yaml"
    config.write_text(json.dumps(CONFIG))  # as `ray up` writes it: YAML that is JSON
    script = tmp_path / "monitor.py"
    script.write_text("print(flush=True); input()")
    arguments = ["--gcs-address=192.0.2.1:6379", f"--autoscaling-config={config}"]
    command = [sys.executable, "-u", str(script), "--logs-dir=x", *arguments]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        found = dict(autoscaling._autoscalers())
        process.communicate(b"\n")
    assert autoscaling.read_config(found["192.0.2.1:6379"]) == of_config(CONFIG)


LOOK = """
import ray
from vagram_ray.sweep.plan.machine import cluster_machine
ray.init({address!r}, log_to_driver=False)
print("MACHINE", cluster_machine().description)
"""


@pytest.fixture
def head() -> Iterator[tuple[str, dict[str, str]]]:
    """Address and environment of a head whose autoscaler has started nothing yet."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory(prefix="vr", dir="/tmp") as folder:  # short: paths of sockets have 107 letters
        provider = {"type": "fake_multinode", "gcs_address": f"127.0.0.1:{port}", "launch_multiple": True}
        provider |= {"disable_node_updaters": True, "disable_launch_config_check": True}
        lists = ["head_setup_commands", "worker_setup_commands", "setup_commands", "initialization_commands"]
        lists += ["head_start_ray_commands", "worker_start_ray_commands", "cluster_synced_files"]
        lists += ["rsync_exclude", "rsync_filter"]
        config = {**CONFIG, "cluster_name": "fake", "provider": provider, "auth": {}, "file_mounts": {}}
        config |= {"upscaling_speed": 1.0, "idle_timeout_minutes": 5, "file_mounts_sync_continuously": False}
        path = Path(folder, "config.yaml")
        path.write_text(json.dumps({**config, **{name: [] for name in lists}}))
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("WANDB_", "RAY_"))}
        environment = {**kept, "RAY_TMPDIR": folder, "RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"}
        command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", "--head", f"--port={port}"]
        command += ["--num-cpus=0", "--node-ip-address=127.0.0.1", "--include-dashboard=false"]
        command += ["--object-store-memory=100000000", f"--autoscaling-config={path}"]
        with (
            Path(folder, "log.txt").open("wb") as log,
            subprocess.Popen(
                command,
                env={**environment, "RAY_FAKE_CLUSTER": "1"},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            ) as process,
        ):
            try:
                until = time.monotonic() + 120
                while "ray stop" not in Path(folder, "log.txt").read_text():
                    assert time.monotonic() < until and process.poll() is None, Path(folder, "log.txt").read_text()
                    time.sleep(0.5)
                yield f"127.0.0.1:{port}", environment
            finally:
                os.killpg(process.pid, signal.SIGTERM)
                try:
                    process.wait(30)
                except subprocess.TimeoutExpired:
                    os.killpg(process.pid, signal.SIGKILL)


@pytest.mark.slow
def test_ray_itself_tells_what_its_autoscaler_may_start(head: tuple[str, dict[str, str]]) -> None:
    address, environment = head
    command = [sys.executable, "-c", LOOK.format(address=address)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert (
        "MACHINE Ray cluster of 1 node; its autoscaler may start up to 8 more "
        "(planned as 3 gpu_l4, 3 gpu_l40s, 2 gpu_4_l4)"
    ) in done.stdout
