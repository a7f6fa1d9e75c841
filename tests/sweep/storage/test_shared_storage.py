"""A directory for results on a cluster: all nodes see it, some do not, some do not answer."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
import ray

from vagram_ray.records.recorded import CPU, GPU
from vagram_ray.sweep.spec import SweepError
from vagram_ray.sweep.storage.folder import SweepStorage
from vagram_ray.sweep.storage.shared_storage import all_see_folder, ask_nodes, is_file_soon, other_nodes

ROOT = Path(__file__).resolve().parents[3]
NODES = {f"id{index}": f"192.0.2.{index}" for index in range(1, 7)}


def test_a_file_is_seen_or_not(tmp_path: Path) -> None:
    assert not is_file_soon(str(tmp_path / "token"), patience_s=0.0)
    (tmp_path / "token").touch()
    assert is_file_soon(str(tmp_path / "token"), patience_s=0.0)


def test_who_did_not_answer_is_not_counted_as_seeing(tmp_path: Path) -> None:
    storage = SweepStorage(str(tmp_path), "s")
    assert all_see_folder(NODES, dict.fromkeys(NODES, True), storage)
    assert not all_see_folder(NODES, dict.fromkeys(list(NODES)[1:], True), storage)
    assert not all_see_folder(NODES, {}, storage)


def test_who_does_not_see_the_folder_is_named_with_the_way_out(tmp_path: Path) -> None:
    storage = SweepStorage(str(tmp_path), "s")
    with pytest.raises(SweepError) as one:
        all_see_folder(NODES, {"id1": True, "id2": False}, storage)
    assert f"{tmp_path / 's'}, which the node 192.0.2.2 does not see" in str(one.value)
    assert "--storage s3://BUCKET/PATH or a directory that all nodes share." in str(one.value)
    with pytest.raises(SweepError, match=r"the nodes 192\.0\.2\.1, 192\.0\.2\.2, 192\.0\.2\.3 and 3 more do not see"):
        all_see_folder(NODES, dict.fromkeys(NODES, False), storage)


def test_nodes_are_asked_and_who_is_gone_or_slow_says_nothing(ray_session: None, tmp_path: Path) -> None:
    (node,) = [each["NodeID"] for each in ray.nodes()]
    token, gone = tmp_path / "token", "1" * len(node)
    assert ask_nodes([node], token, 0.5) == {}  # it goes on looking for longer
    assert ask_nodes([node, gone], token, 60.0) == {node: False}
    token.touch()
    assert ask_nodes([node, gone], token, 60.0) == {node: True}


def test_only_nodes_that_can_run_trials_are_asked(ray_session: None, monkeypatch: pytest.MonkeyPatch) -> None:
    here = ray.get_runtime_context().get_node_id()
    resources = {
        here: {"CPU": 4.0, "GPU": 1.0}, "gpus": {"CPU": 4.0, "GPU": 1.0}, "cpus": {"CPU": 4.0}, "head": {"memory": 1.0},
        "dead": {"CPU": 4.0, "GPU": 1.0},
    }  # fmt: skip
    nodes = [
        {"NodeID": node, "NodeManagerAddress": f"{node}.test", "Alive": node != "dead", "Resources": has}
        for node, has in resources.items()
    ]
    monkeypatch.setattr(ray, "nodes", lambda: nodes)
    assert other_nodes([CPU]) == {"gpus": "gpus.test", "cpus": "cpus.test"}
    assert other_nodes([CPU, GPU]) == {"gpus": "gpus.test"}


def why_no_mounts() -> str:
    """Why a process cannot have mounts of its own here; empty if it can."""
    if sys.platform != "linux" or shutil.which("unshare") is None:
        return "there is no `unshare` (util-linux)"
    tried = subprocess.run(["unshare", "-m", "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True, text=True)
    return f"mount namespaces are not permitted: {tried.stderr.strip()}" if tried.returncode else ""


class Nodes:
    """Ray nodes on this machine, each a process tree of its own."""

    def __init__(self, folder: Path, sweep_file: Path, stack: ExitStack) -> None:
        self._folder, self.sweep_file, self._stack = folder, sweep_file, stack
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.address = f"127.0.0.1:{free.getsockname()[1]}"
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("WANDB_", "RAY_"))}
        own = {"RAY_TMPDIR": str(folder), "RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"}
        self.environment = {**kept, **own, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}

    def start(self, cpus: int, *, head: bool = False, without: Path | None = None) -> None:
        """A node; ``without`` is an empty directory of its own on it."""
        port = self.address.rpartition(":")[2]
        where = ["--head", f"--port={port}", "--include-dashboard=false"] if head else [f"--address={self.address}"]
        command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", f"--num-cpus={cpus}", *where]
        command += ["--node-ip-address=127.0.0.1", "--object-store-memory=100000000"]
        if without is not None:
            hidden = 'mount -t tmpfs none "$0" && exec "$@"'
            command = ["unshare", "-m", "sh", "-c", hidden, str(without), *command]
        log = self._folder / f"log{len(list(self._folder.glob('log*')))}.txt"
        with log.open("wb") as output:
            process = subprocess.Popen(
                command, env=self.environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                start_new_session=True,
            )  # fmt: skip
        self._stack.callback(self._end, process)
        until = time.monotonic() + 120
        while "Ray runtime started" not in log.read_text():
            assert time.monotonic() < until and process.poll() is None, log.read_text()
            time.sleep(0.2)

    @staticmethod
    def _end(process: subprocess.Popen[bytes]) -> None:
        process.terminate()
        process.wait(60)

    def sweep(self, storage: Path, *options: str) -> subprocess.CompletedProcess[str]:
        """The command, on the head."""
        command = [sys.executable, "-m", "vagram_ray.sweep", str(self.sweep_file), "--wandb", "disabled"]
        command += ["--storage", str(storage), "--address", self.address, *options]
        return subprocess.run(
            command, env={**self.environment, "COLUMNS": "1000"}, cwd=self.sweep_file.parent, capture_output=True,
            text=True, timeout=300,
        )  # fmt: skip


SWEEP = """
from vagram_ray.rllib import MBPOConfig
from vagram_ray.sweep import Sweep

config = MBPOConfig().environment("Pendulum-v1").training(
    model_loss="none", actor_hidden_sizes=(16, 16), critic_hidden_sizes=(16, 16), epoch_length=50, utd_ratio=1,
    num_steps_sampled_before_learning_starts=50, train_batch_size_per_learner=32,
).evaluation(evaluation_duration=1)
SWEEP = Sweep(name="tiny", config=config, seeds=1, epochs=1)
"""


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Nodes]:
    """A head without CPUs."""
    sweep_file = tmp_path / "tiny.py"
    sweep_file.write_text(SWEEP)
    with _short_folder() as folder, ExitStack() as stack:
        nodes = Nodes(folder, sweep_file, stack)
        nodes.start(0, head=True)
        yield nodes


@contextmanager
def _short_folder() -> Iterator[Path]:
    """Paths of sockets have 107 letters."""
    with tempfile.TemporaryDirectory(prefix="vr", dir="/tmp", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


@pytest.mark.slow
def test_a_sweep_asks_the_nodes_that_are_there(cluster: Nodes, tmp_path: Path) -> None:
    here, elsewhere = tmp_path / "disk" / "here", tmp_path / "disk" / "elsewhere"
    cluster.start(1)
    planned = cluster.sweep(here, "--dry-run")
    assert planned.returncode == 0, planned.stderr
    assert "unless all of them share that directory" in planned.stdout  # it makes no folder that could be looked for
    assert not here.exists()
    ran = cluster.sweep(here)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "unless all of them share" not in ran.stdout
    assert list((here / "tiny").glob(".shared-*")) == []

    if reason := why_no_mounts():
        pytest.skip(reason)
    recorded = (here / "tiny" / "sweep.json").read_bytes()
    cluster.start(1, without=here.parent)
    for storage, options in ((elsewhere, ()), (here, ("--restart",))):
        refused = cluster.sweep(storage, *options)
        assert refused.returncode == 2, refused.stdout + refused.stderr
        told = rf"{re.escape(str(storage / 'tiny'))}, which the node [\d.]+ does not see, .* --storage s3://BUCKET/PATH"
        assert re.search(told, refused.stderr), refused.stderr
        assert "Traceback" not in refused.stderr
    assert not elsewhere.exists()
    assert [each.name for each in here.iterdir()] == ["tiny"]  # not set aside for a sweep that cannot run
    assert (here / "tiny" / "sweep.json").read_bytes() == recorded
    again = cluster.sweep(here)
    assert (again.returncode, "nothing is left to run" in again.stdout) == (0, True), again.stdout + again.stderr
