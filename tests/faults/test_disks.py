"""Disks that are full or read-only: they stop nothing but what cannot be written, and nothing is damaged."""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.faults.harness import SweepRun, Undisturbed, check_equal, remnants

pytestmark = pytest.mark.ci

CHECKPOINTS, RECORDS = "Checkpoints cannot be written", "Records cannot be written"


def mount(*arguments: str) -> bool:
    """Whether ``mount`` could do this."""
    return subprocess.run(["mount", *arguments], capture_output=True, check=False).returncode == 0


@pytest.fixture
def disk() -> Iterator[Path]:
    """A disk of 96 MiB in memory: Ray is not started with less than 64."""
    place = Path(tempfile.mkdtemp(prefix="disk", dir="/tmp"))  # short: Ray's sockets may lie there
    if not mount("-t", "tmpfs", "-o", "size=96m", "tmpfs", str(place)):
        place.rmdir()
        pytest.skip("mounting a file system is not permitted here")
    yield place
    while place.is_mount():
        subprocess.run(["umount", "-l", str(place)], check=True)
    place.rmdir()


def fill(disk: Path) -> Path:
    """Fill a disk to its last byte."""
    filler = disk / "filler"
    with filler.open("ab", buffering=0) as file:
        for size in (2**20, 2**12, 1):
            try:
                while True:
                    file.write(bytes(size))
            except OSError:
                continue
    return filler


@contextlib.contextmanager
def kept_full(disk: Path) -> Iterator[None]:
    """Within the block whatever becomes free is filled, such as what a checkpoint that failed has given back."""
    ended = threading.Event()

    def keep() -> None:
        while not ended.wait(0.02):
            fill(disk)

    filler = fill(disk)
    thread = threading.Thread(target=keep)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        filler.unlink()


def seen(run: SweepRun, *sentences: str) -> Callable[[], bool]:
    return lambda: all(sentence in run.read_output() for sentence in sentences)


@pytest.mark.slow
def test_a_disk_that_is_full_for_a_while_costs_nothing(
    disk: Path, make_run: Callable[..., SweepRun], undisturbed: Undisturbed
) -> None:
    run = make_run(storage=disk / "results")
    run.start()
    run.wait_for_epoch(1)
    filler = fill(disk)
    run.wait_until(seen(run, CHECKPOINTS, RECORDS))
    filler.unlink()
    assert run.wait() == 0, run.read_output()
    output = run.read_output()
    assert output.count(CHECKPOINTS) == output.count(RECORDS) == 1
    assert "No space left on device" in output
    assert run.left_behind() == []
    check_equal(run.folder, undisturbed.folder)


@pytest.mark.slow
@pytest.mark.parametrize("temporary_too", [False, True])
def test_a_disk_that_stays_full_is_told_and_made_good_by_the_same_command(
    temporary_too: bool, disk: Path, make_run: Callable[..., SweepRun], undisturbed: Undisturbed
) -> None:
    temporary = {"RAY_TMPDIR": str(disk), "TMPDIR": str(disk)} if temporary_too else {}
    run = make_run(None, storage=disk / "results", **temporary)
    run.start()
    run.wait_until(lambda: len(run.epochs()) == 2 and min(run.epochs().values()) >= 1)  # no process can start later
    with kept_full(disk):
        status = run.wait()
    output = run.read_output()
    assert "Traceback" not in output
    assert status == 1, output
    assert output.count(CHECKPOINTS) == output.count(RECORDS) == 1
    assert "NOT COMPLETE" in output
    assert "Not written, because" in output
    assert "Complete: every seed" not in output
    assert run.left_behind() == []
    assert remnants(run.folder) == []

    assert run.run() == 0, run.read_output()
    check_equal(run.folder, undisturbed.folder)


@pytest.mark.slow
def test_a_disk_that_becomes_read_only_stops_nothing_and_goes_on_later(
    disk: Path, make_run: Callable[..., SweepRun], undisturbed: Undisturbed
) -> None:
    run = make_run(storage=disk / "results")
    run.start()
    run.wait_for_epoch(1)
    # Over itself: the files that are open would not let the disk itself become read-only.
    assert mount("--bind", str(disk), str(disk))
    assert mount("-o", "remount,ro,bind", str(disk))
    assert run.wait() == 1, run.read_output()
    output = run.read_output()
    assert "Traceback" not in output
    assert output.count(CHECKPOINTS) == output.count(RECORDS) == 1
    assert "Read-only file system" in output
    assert "Not written, because" in output
    assert run.left_behind() == []

    subprocess.run(["umount", str(disk)], check=True)
    assert run.run() == 0, run.read_output()
    check_equal(run.folder, undisturbed.folder)


def test_a_storage_that_is_read_only_or_full_at_the_start_is_refused(
    disk: Path, make_run: Callable[..., SweepRun]
) -> None:
    fill(disk)
    full = make_run(storage=disk / "results")
    assert full.run() == 2
    assert mount("-o", "remount,ro", str(disk))
    read_only = make_run(storage=disk / "results")
    assert read_only.run() == 2
    for run, reason in ((full, "No space left on device"), (read_only, "Read-only file system")):
        output = run.read_output()
        assert f"cannot be written ({reason})" in " ".join(output.split())
        assert "Traceback" not in output
        assert run.left_behind() == []
    assert os.listdir(disk) == ["filler"]
