"""The checkpoints of a run in a bucket, through PyArrow's own S3 file system."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from pyarrow.fs import FileSystem, S3FileSystem

from tests.checkpoint.conftest import CONFIG, NumberedRing, state_with
from tests.sweep.s3_server import S3Server, listed, s3_server
from vagram_ray.checkpoint import CheckpointHistory, newest_whole
from vagram_ray.checkpoint import folder as folder_module
from vagram_ray.checkpoint.files import STORAGE_ERRORS

FILES = {"agent.safetensors", "imagined.safetensors", "state.json", "config.json", "manifest.json"}
TRIAL = "model_loss=vagram,env=a b+c,seeds=0-1"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with s3_server(tmp_path_factory.mktemp("s3") / "server.txt") as running:
        yield running


@dataclass
class Run:
    """A run's folder in the bucket, named as trials are, with a buffer that grows."""

    uri: str

    def __post_init__(self) -> None:
        self.filesystem, place = FileSystem.from_uri(self.uri)
        self.path = f"{place}/{TRIAL}"
        self.ring = NumberedRing(2, 1000)

    def history(self, keep: int = 2) -> CheckpointHistory:
        return CheckpointHistory(self.filesystem, self.path, keep)

    def write(self, history: CheckpointHistory, *numbers: int) -> None:
        for number in numbers:
            self.ring.num_added += 10
            history.write(number, CONFIG, state_with(self.ring, number=number), self.ring)

    def files(self, folder: str) -> set[str]:
        return listed(self.filesystem, f"{self.path}/{folder}".rstrip("/"))

    def put(self, name: str, content: bytes) -> None:
        with self.filesystem.open_output_stream(f"{self.path}/{name}") as stream:
            stream.write(content)


@pytest.fixture
def run(server: S3Server, request: pytest.FixtureRequest) -> Run:
    return Run(server.uri(request.node.name))


def test_the_newest_are_kept_and_read(run: Run) -> None:
    assert isinstance(run.filesystem, S3FileSystem)
    assert run.history().read_newest() is None and newest_whole(run.filesystem, run.path) is None
    history = run.history()
    run.write(history, 1, 2, 3, 4, 5)
    assert {name.partition("/")[0] for name in run.files("")} == {"checkpoint_000004", "checkpoint_000005", "replay"}
    assert run.files("checkpoint_000005") == FILES
    other = run.history()
    number, config, state = other.read_newest()
    assert (number, config, state["agent"]["number"]) == (5, CONFIG, 5)
    assert state["agent"]["replay"]["rows"][1, :, 1].tolist() == run.ring.ring()
    before = run.files("")
    other.clean()
    assert run.files("") == before
    run.put("replay/000000000020-000000000030-00000000.safetensors", b"of no checkpoint")
    other.clean()
    assert run.files("") == before


def test_a_changed_object_is_passed_over(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    run.write(run.history(), 1, 2, 3)
    run.put("checkpoint_000003/agent.safetensors", b"\0" * 312)
    history = run.history()
    assert history.read_newest()[0] == 2
    assert "checkpoint_000003" in caplog.text and "passed over" in caplog.text
    run.ring.num_added = 20
    run.write(history, 4)  # the damaged one goes, the one before stays
    assert {name.partition("/")[0] for name in run.files("")} == {"checkpoint_000002", "checkpoint_000004", "replay"}


def test_a_lost_object_is_noticed_without_reading(run: Run) -> None:
    run.write(run.history(), 1, 2, 3)
    run.filesystem.delete_file(f"{run.path}/checkpoint_000003/imagined.safetensors")
    assert newest_whole(run.filesystem, run.path).path == f"{run.path}/checkpoint_000002"
    assert run.history().read_newest()[0] == 2


def test_a_writer_that_dies_leaves_no_manifest(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    run.write(run.history(), 1, 2)
    own_write = folder_module.write_file

    class Died(BaseException):
        """Nothing that could be handled."""

    def die_before_the_manifest(filesystem, path, content):
        if path.endswith("manifest.json"):
            raise Died
        own_write(filesystem, path, content)

    monkeypatch.setattr(folder_module, "write_file", die_before_the_manifest)
    with pytest.raises(Died):
        run.write(run.history(), 3)
    monkeypatch.undo()
    assert run.files("checkpoint_000003") == FILES - {"manifest.json"}
    history = run.history()
    assert history.read_newest()[0] == 2
    history.clean()
    run.ring.num_added = 20
    run.write(history, 3)
    assert run.files("checkpoint_000003") == FILES
    assert run.history().read_newest()[0] == 3


def test_a_bucket_that_is_not_there_is_an_error_of_the_storage(run: Run) -> None:
    history = CheckpointHistory(run.filesystem, "no-bucket-of-ours/run")
    assert history.read_newest() is None
    with pytest.raises(STORAGE_ERRORS, match="'no-bucket-of-ours' not found"):
        run.write(history, 1)


@pytest.mark.slow
def test_a_server_that_is_gone_is_an_error_of_the_storage(tmp_path: Path) -> None:
    with s3_server(tmp_path / "server.txt") as server:
        run = Run(server.uri("gone"))
        history = run.history()
        run.write(history, 1)
        os.kill(server.pid, signal.SIGKILL)
        with pytest.raises(STORAGE_ERRORS):
            run.write(history, 2)
        with pytest.raises(STORAGE_ERRORS):
            run.history().read_newest()
