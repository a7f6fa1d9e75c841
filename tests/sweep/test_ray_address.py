"""Which Ray a sweep uses: clusters of one's own are found, leftovers and other people's are not taken."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from vagram_ray.sweep.run.ray_address import find_ray, own_clusters
from vagram_ray.sweep.spec import SweepError

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="stand-ins for Ray's processes are shell scripts")
Start = Callable[..., None]


@pytest.fixture(autouse=True)
def ray_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Ray's temporary folder, where ``ray start`` leaves an address."""
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    (tmp_path / "ray").mkdir()
    return tmp_path / "ray"


@pytest.fixture
def address() -> Iterator[str]:
    """Of something that listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


@pytest.fixture
def start(ray_folder: Path) -> Iterator[Start]:
    """Starts what looks like a node of Ray, and leaves its cluster's address as ``ray start`` does."""
    processes: list[subprocess.Popen[bytes]] = []

    def begin(address: str, *, session_of: int = 1) -> None:
        (ray_folder / "ray_current_cluster").write_text(address)
        name = f"session_2026-11-22_19-48-15_780872_{session_of}"
        arguments = [f"--session-name={name}", "--head", f"--gcs-address={address}", "--labels="]
        command = ["/somewhere/raylet/raylet", "-c", "read line", *arguments]
        processes.append(subprocess.Popen(command, executable="/bin/sh", stdin=subprocess.PIPE))

    yield begin
    for process in processes:
        process.communicate()


def test_what_is_asked_for_is_taken(start: Start, address: str) -> None:
    start(address)
    assert find_ray("auto").address == "auto"
    assert find_ray("10.0.0.1:6379").address == "10.0.0.1:6379" and "10.0.0.1:6379" in find_ray("10.0.0.1:6379").shown
    assert find_ray("local").address is None and "--address local" in find_ray("local").shown


def test_without_a_cluster_there_is_one_of_its_own() -> None:
    assert (find_ray(None).address, find_ray(None).shown) == (None, "one of its own on this machine")
    assert find_ray("").address is None


def test_the_cluster_that_this_machine_is_a_node_of_is_found(start: Start, address: str) -> None:
    start(address)
    place = find_ray(None)
    assert place.address == address
    assert address in place.shown and "--address local" in place.shown


def test_what_a_dead_cluster_has_left_is_not_taken(ray_folder: Path, address: str) -> None:
    (ray_folder / "ray_current_cluster").write_text(address)  # something listens there, but it is no node of it
    place = find_ray(None)
    assert place.address is None and f"the cluster at {address} has ended, or is not yours" in place.shown


def test_a_ray_inside_another_program_is_not_taken(start: Start, address: str) -> None:
    start(address, session_of=os.getpid())  # which is the parent, as that of `ray.init`
    assert address not in own_clusters()
    assert find_ray(None).address is None


def test_a_ray_that_stays_in_the_foreground_is_no_other_program(
    start: Start, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import psutil

    start(address, session_of=os.getpid())
    own = psutil.Process.cmdline
    block = ["python", "/bin/ray", "start", "--head", "--block"]
    monkeypatch.setattr(psutil.Process, "cmdline", lambda self: block if self.pid == os.getpid() else own(self))
    assert find_ray(None).address == address


def test_somebody_elses_is_not_taken(start: Start, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import psutil

    start(address)
    monkeypatch.setattr(psutil.Process, "username", lambda self: "ada" if self.pid == os.getpid() else "me")
    place = find_ray(None)
    assert place.address is None and f"--address {address}" in place.shown


def test_a_cluster_whose_head_is_gone_is_told_of(start: Start, address: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        gone = f"127.0.0.1:{server.getsockname()[1]}"
    start(gone)
    with pytest.raises(SweepError, match=rf"{gone}, which does not answer.*ray stop.*--address local"):
        find_ray(None)
    assert find_ray("local").address is None


def test_an_unreadable_file_is_nobodys(ray_folder: Path) -> None:
    (ray_folder / "ray_current_cluster").write_bytes(b"\xff\xfe")
    assert find_ray(None).address is None
    (ray_folder / "ray_current_cluster").unlink()
    (ray_folder / "ray_current_cluster").mkdir()
    assert find_ray(None).address is None


def test_nodes_that_run_are_seen(start: Start, address: str) -> None:
    start(address)
    assert own_clusters().count(address) == 1
