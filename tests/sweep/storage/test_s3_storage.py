"""Sweeps whose storage is a bucket: what lies there, and that any machine goes on with it after a kill."""

from __future__ import annotations

import re
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from pyarrow.fs import FileSystem

pytestmark = pytest.mark.ci

pytest.register_assert_rewrite("tests.faults.harness")
from tests.faults.harness import (  # noqa: E402
    EPOCHS,
    SHORT_EPOCH_LENGTH,
    Rows,
    SweepRun,
    Undisturbed,
    check_equal,
    kill,
    recorded,
    until,
    write_sweep_file,
)
from tests.sweep.s3_server import S3Server, download, listed, s3_server  # noqa: E402
from vagram_ray.records.folder import SweepFolder  # noqa: E402

if sys.platform != "linux":
    pytest.skip("processes are found in /proc", allow_module_level=True)

ONE_CELL = ("--set", "model_loss=grid(vagram)")


@dataclass
class MachineRun(SweepRun):
    """The command on a machine, which is a working directory of its own; ``uri`` is the storage that all share."""

    uri: str = ""

    def __post_init__(self) -> None:
        """The driver's folder lies in the working directory."""
        super().__post_init__()
        self.directory = self.storage.parent
        self.directory.mkdir(parents=True, exist_ok=True)
        if self.uri:
            self.arguments += ("--storage", self.uri)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with s3_server(tmp_path_factory.mktemp("s3") / "server.txt") as running:
        yield running


@pytest.fixture(scope="module")
def sweep_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sweep_file(tmp_path_factory.mktemp("sweep"), epoch_length=SHORT_EPOCH_LENGTH)


@pytest.fixture(scope="module")
def undisturbed(short_undisturbed: Undisturbed) -> Path:
    """The sweep on a disk, to which nothing happens; of its cells the one that is run here counts."""
    return short_undisturbed.folder


def expected_rows(undisturbed: Path) -> Rows:
    return {key: row for key, row in recorded(undisturbed).items() if "vagram" in key[0]}


Make = Callable[[str], MachineRun]


@pytest.fixture
def machine(sweep_file: Path, server: S3Server, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Make]:
    """Machines, by name, that run the sweep with the same bucket."""
    runs: list[MachineRun] = []

    def make(name: str) -> MachineRun:
        uri = server.uri(f"{request.node.name}/below")
        runs.append(MachineRun(sweep_file, tmp_path / name / "results", ONE_CELL, server.environment, uri=uri))
        return runs[-1]

    yield make
    for own in runs:
        own.clean_up()


def bucket(run: MachineRun) -> set[str]:
    return listed(*FileSystem.from_uri(f"{run.uri}/faults"))


def kill_driver(run: MachineRun) -> None:
    """As when the driver's machine is lost: its trials end too."""
    kill(run.driver.pid, signal.SIGKILL)
    assert run.wait() == -signal.SIGKILL
    assert until(lambda: not run.pids("ray::MBPO"), 60)


def test_another_machine_goes_on_after_a_kill(machine: Make, undisturbed: Path, tmp_path: Path) -> None:
    first, second = machine("first"), machine("second")
    first.start()
    first.wait_for_epoch(2)
    kill_driver(first)
    trial = next(iter(first.epochs()))
    assert {"sweep.json", "sweep_file.py"} <= bucket(first)
    assert any(name.startswith(f"{trial}/checkpoint_00000") for name in bucket(first))

    assert second.run() == 0, second.read_output()
    shown = re.search(rf"epoch (\d+)/{EPOCHS},", second.read_output())
    assert shown and int(shown[1]) >= 2, "it began anew"
    check_equal(second.folder, undisturbed, only="vagram")
    launches = SweepFolder(second.folder).read()["launches"]
    assert [launch["ended"] for launch in launches] == ["killed", "complete"]
    there = bucket(second)
    folders = {name.split("/")[1] for name in there if name.startswith(f"{trial}/")}
    assert {folder for folder in folders if folder.startswith("checkpoint")} == {
        f"checkpoint_{EPOCHS - 1:06d}", f"checkpoint_{EPOCHS:06d}",
    }  # fmt: skip
    assert {"stdout", "stderr"} <= folders
    assert {"results.csv", "summary.csv", "summary.md"} <= there
    copy = download(f"{second.uri}/faults", tmp_path / "copy")
    assert recorded(copy) == expected_rows(undisturbed)
    assert (copy / "results.csv").read_bytes() == (second.folder / "results.csv").read_bytes()


@pytest.mark.slow
def test_the_same_command_goes_on_and_then_has_nothing_to_do(machine: Make, undisturbed: Path) -> None:
    run = machine("only")
    for epoch in (1, 3):
        run.start()
        run.wait_for_epoch(epoch)
        kill_driver(run)
    checkpoints = sorted(name for name in bucket(run) if name.endswith("agent.safetensors"))
    filesystem, path = FileSystem.from_uri(f"{run.uri}/faults")
    with filesystem.open_output_stream(f"{path}/{checkpoints[-1]}") as stream:
        stream.write(b"not what was written")
    assert run.run() == 0, run.read_output()
    check_equal(run.folder, undisturbed, only="vagram")
    assert run.run() == 0
    assert "nothing is left to run" in run.read_output()


@pytest.mark.slow
def test_a_server_that_does_not_answer_for_a_while_stops_nothing(
    machine: Make, undisturbed: Path, server: S3Server
) -> None:
    run = machine("only")
    run.start()
    run.wait_for_epoch(1)
    kill(server.pid, signal.SIGSTOP)
    time.sleep(20)
    kill(server.pid, signal.SIGCONT)
    assert run.wait() == 0, run.read_output()
    check_equal(run.folder, undisturbed, only="vagram")
    assert recorded(download(f"{run.uri}/faults", run.directory / "copy")) == expected_rows(undisturbed)


def test_a_bucket_that_is_not_there_is_refused(machine: Make) -> None:
    run = machine("only")
    run.arguments += ("--storage", "s3://no-bucket-of-ours/results")
    assert run.run() == 2
    output = " ".join(run.read_output().split())
    assert "s3://no-bucket-of-ours/results" in output and "Traceback" not in output
    assert "Bucket 'no-bucket-of-ours' not found" in output
