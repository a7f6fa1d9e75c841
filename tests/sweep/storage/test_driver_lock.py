"""One driver per sweep, told by real processes."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from filelock import SoftFileLock

from vagram_ray.sweep.spec import SweepError
from vagram_ray.sweep.storage.folder import SweepStorage
from vagram_ray.sweep.storage.lock import DriverLock

HOLD = """
import sys, time
from vagram_ray.sweep.storage.lock import DriverLock
from vagram_ray.sweep.storage.folder import SweepStorage
with DriverLock(SweepStorage(sys.argv[1], "run")) as lock:
    lock.hold()
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def storage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SweepStorage:
    monkeypatch.chdir(tmp_path)
    return SweepStorage("new/results", "run")


def hold_elsewhere(storage: SweepStorage) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(storage.folder.parent)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[3])},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def refusal(storage: SweepStorage) -> str:
    with pytest.raises(SweepError) as error, DriverLock(storage):
        pass
    return error.value.format_message()


def test_a_second_driver_is_told_who_is_at_work_until_that_one_is_killed(storage: SweepStorage) -> None:
    process = hold_elsewhere(storage)
    try:
        (storage.folder / "sweep.json").write_text("{}")
        for _ in range(2):  # looking changes nothing
            assert refusal(storage) == (
                f"Another process (pid {process.pid} on {socket.gethostname()}) is running the sweep in "
                "new/results/run: wait for its end, or give another --name."
            )
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait(60)
        if process.stdout is not None:
            process.stdout.close()
    with DriverLock(storage) as lock:
        lock.hold()
        assert f'"pid": {os.getpid()}' in (storage.folder / ".driver.json").read_text()
    assert [file.name for file in storage.folder.iterdir() if file.name != ".driver.lock"] == ["sweep.json"]


def test_a_sweep_that_does_not_start_leaves_nothing(storage: SweepStorage, tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), DriverLock(storage) as lock:
        assert not storage.folder.exists()  # bad input is found before anything is made
        lock.hold()
        assert storage.folder.exists()
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_set_aside_is_free_and_an_empty_one_is_held(storage: SweepStorage) -> None:
    storage.create()
    (storage.folder / "sweep.json").write_text("{}")
    aside = storage.folder.with_name("aside")
    with DriverLock(storage) as lock:
        lock.move(aside)
        assert [file.name for file in aside.iterdir()] == ["sweep.json"]
        assert {file.name for file in storage.folder.iterdir()} == {".driver.lock", ".driver.json"}
        assert refusal(storage).startswith(f"Another process (pid {os.getpid()} on ")
        with DriverLock(SweepStorage(storage.location, "aside")):
            pass


def test_a_lock_that_outlives_its_driver_is_named(storage: SweepStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a file system without ``flock``, where filelock leaves a file with process and machine."""
    monkeypatch.setattr("vagram_ray.sweep.storage.lock.FileLock", SoftFileLock)
    storage.create()
    (storage.folder / ".driver.lock").write_text("7\nother-machine\n")
    lock = str(storage.folder / ".driver.lock")
    assert refusal(storage).endswith(f" If that process is gone, delete {lock!r}: its file system has no locks.")
    (storage.folder / ".driver.lock").unlink()
    with DriverLock(storage):
        pass
