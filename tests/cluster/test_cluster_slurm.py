"""cluster/slurm.sh: Ray on the nodes of an allocation, the sweep's own command, and the queue.

``srun`` and ``scontrol`` are stand-ins. The slow test gives it two machines, which are network namespaces, and a sweep.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.ci

pytest.register_assert_rewrite("tests.faults.harness")
from tests.faults.harness import until, write_sweep_file  # noqa: E402
from tests.multinode.machines import Network, network, why_not  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "cluster" / "slurm.sh"

RECORD = """#!{python}
import json, os, sys
cpus = ["CPUS=" + os.environ.get("SRUN_CPUS_PER_TASK", "")] if {name!r} == "srun" else []
with open({log!r}, "a") as file:
    file.write(json.dumps([{name!r}, *sys.argv[1:], *cpus]) + "\\n")
"""
PYTHON = """#!/bin/bash
# Plays Python on a node: `-c` asks for the address, `-` waits until Ray is called on the nodes, `-m` is the sweep.
echo "[\\"python\\", \\"$1\\", \\"$2\\", \\"${{*: -1}}\\"]" >> {log}
case $1 in
-c) echo 10.0.0.1 ;;
-) cat > /dev/null; until [ "$(grep -c srun {log})" -ge {steps} ]; do sleep 0.05; done ;;
-m) trap 'exit 143' TERM; touch {log}.running; for _ in $(seq {seconds}0); do sleep 0.1; done; exit {status} ;;
esac
"""


class Allocation:
    """A folder with stand-ins on its path, and the environment of a batch script."""

    def __init__(self, folder: Path, nodes: int, seconds: int = 0, status: int = 0) -> None:
        self.folder, self.log = folder, folder / "calls.jsonl"
        self.bin = folder / "bin"
        self.bin.mkdir()
        for name in ("srun", "scontrol", "ray"):
            self.add(name, RECORD.format(python=sys.executable, log=str(self.log), name=name))
        self.add("python", PYTHON.format(log=self.log, steps=min(nodes, 2), seconds=seconds, status=status))
        self.environment = {
            "PATH": f"{self.bin}:/usr/bin:/bin", "HOME": str(folder), "SLURM_JOB_ID": "4711",
            "SLURM_CPUS_PER_TASK": "6", "SLURM_JOB_NUM_NODES": str(nodes), "SLURMD_NODENAME": "node1",
            "SLURM_SUBMIT_DIR": str(folder),
        }  # fmt: skip

    def add(self, name: str, text: str) -> None:
        path = self.bin / name
        path.write_text(text)
        path.chmod(0o755)

    def start(self, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            ["bash", str(SCRIPT), *arguments], env=self.environment | environment, text=True, cwd=self.folder,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip

    def calls(self, name: str) -> list[list[str]]:
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        return [call[1:] for call in map(json.loads, lines) if call[0] == name]


def test_one_node_and_the_sweeps_own_command(tmp_path: Path) -> None:
    job = Allocation(tmp_path, nodes=1)
    process = job.start("sweep.py", "--scale", "paper", SLURM_GPUS_ON_NODE="4")
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0, output
    (head,) = job.calls("srun")
    assert head[:6] == ["--overlap", "--nodes=1", "--ntasks=1", "--nodelist=node1", "ray", "start"]
    assert {"--head", "--block", "--node-ip-address=10.0.0.1", "--port=24711"} < set(head)
    assert {"--num-cpus=6", "--num-gpus=4", "CPUS=6"} < set(head)
    sweep = job.calls("python")[-1]
    assert sweep == ["-m", "vagram_ray.sweep", "10.0.0.1:24711"]
    assert job.calls("ray") == [["get-auth-token", "--generate"]]
    assert not job.calls("scontrol")


def test_the_other_nodes_join_the_first(tmp_path: Path) -> None:
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").write_text("secret")
    job = Allocation(tmp_path, nodes=3)
    job.start("sweep.py", HEAD_IP="10.1.0.7").communicate(timeout=60)
    head, others = sorted(job.calls("srun"), key=lambda call: "--head" not in call)
    assert {"--head", "--node-ip-address=10.1.0.7"} < set(head)
    assert others[:4] == ["--overlap", "--nodes=2", "--ntasks=2", "--exclude=node1"]
    assert {"--block", "--address=10.1.0.7:24711", "--num-cpus=6"} < set(others) and "--head" not in others
    assert not job.calls("ray")  # the token of the shared home stays


@pytest.mark.parametrize(("sent", "back"), [(signal.SIGUSR1, True), (signal.SIGTERM, False)])
def test_the_time_limit_stops_in_order_and_goes_back_into_the_queue(
    sent: signal.Signals, back: bool, tmp_path: Path
) -> None:
    job = Allocation(tmp_path, nodes=1, seconds=60)
    process = job.start("sweep.py")
    assert until(lambda: Path(f"{job.log}.running").exists(), 30)
    os.kill(process.pid, sent)
    process.communicate(timeout=30)
    assert process.returncode == 143
    assert job.calls("scontrol") == ([["requeue", "4711"]] if back else [])


@pytest.mark.parametrize("status", [1, 2])
def test_the_sweeps_status_is_the_jobs(status: int, tmp_path: Path) -> None:
    job = Allocation(tmp_path, nodes=1, status=status)
    process = job.start("sweep.py")
    process.communicate(timeout=60)
    assert process.returncode == status
    assert not job.calls("scontrol")


def test_what_is_missing_is_said(tmp_path: Path) -> None:
    job = Allocation(tmp_path, nodes=1)
    cases = (({}, (), "no sweep is named"), ({"SLURM_JOB_ID": ""}, ("a.py",), "batch script"))
    for environment, arguments, said in cases:
        process = job.start(*arguments, **environment)
        output, _ = process.communicate(timeout=60)
        assert process.returncode == 2
        assert said in output and len(output.splitlines()) == 1


SRUN = """#!{python}
import os, subprocess, sys
options = [word for word in sys.argv[1:] if word.startswith("--") and word.split("=")[0] in
           ("--overlap", "--nodes", "--ntasks", "--nodelist", "--exclude")]
command = sys.argv[1 + len(options):]
named = dict(word[2:].split("=") for word in options if "=" in word)
nodes = {nodes!r}
chosen = [named["nodelist"]] if "nodelist" in named else [node for node in nodes if node != named["exclude"]]
assert len(chosen) == int(named["nodes"]) == int(named["ntasks"])
running = [subprocess.Popen(["ip", "netns", "exec", node, *command]) for node in chosen]
sys.exit(max(process.wait() for process in running))
"""


@pytest.fixture
def lan() -> Iterator[Network]:
    if reason := why_not():
        pytest.skip(reason)
    with network() as own:
        yield own


@pytest.mark.slow
def test_a_sweep_on_two_nodes(lan: Network, tmp_path: Path) -> None:
    first, second = lan.add(), lan.add()
    sweep = write_sweep_file(tmp_path, epochs=2)
    job = Allocation(tmp_path, nodes=2)
    job.add("srun", SRUN.format(python=sys.executable, nodes=[first.namespace, second.namespace]))
    for name in ("python", "ray"):
        (job.bin / name).unlink()
    scratch = Path(f"/tmp/vr-{os.getpid()}")
    environment = {
        **job.environment, "SLURMD_NODENAME": first.namespace, "HEAD_IP": first.address, "SLURM_CPUS_PER_TASK": "1",
        "PATH": f"{job.bin}:{Path(sys.executable).parent}:/usr/sbin:/usr/bin:/sbin:/bin",
        "SLURM_JOB_ID": str(os.getpid()), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1",
        "RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0",
    }  # fmt: skip
    command = [*first.prefix, "bash", str(SCRIPT), str(sweep), "--seeds-per-trial", "1", "--wandb", "disabled"]
    try:
        with (tmp_path / "output.txt").open("wb") as output:  # a file, which Ray's processes may keep open
            done = subprocess.run(
                [*command, "--storage", str(tmp_path / "results")],
                env=environment, cwd=tmp_path, stdout=output, stderr=output, timeout=420,
            )  # fmt: skip
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    said = (tmp_path / "output.txt").read_text()
    assert done.returncode == 0, said
    assert "2 machines" in said or "2 nodes" in said, said
    (folder,) = (tmp_path / "results").iterdir()
    assert json.loads((folder / "sweep.json").read_text())["interrupted"] is False
    assert (folder / "summary.md").exists()
    assert (tmp_path / ".ray" / "auth_token").exists()
