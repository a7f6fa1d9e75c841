"""One driver per sweep at a URI: other machines are objects that others have written, or processes."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from vagram_ray.sweep import lease
from vagram_ray.sweep.driver_lock import DriverLock
from vagram_ray.sweep.lease import DriverLease
from vagram_ray.sweep.spec import SweepError
from vagram_ray.sweep.storage import SweepStorage

HOLD = """
import sys, time
from vagram_ray.sweep.lease import DriverLease
from vagram_ray.sweep.storage import SweepStorage
DriverLease(SweepStorage(sys.argv[1], "run")).take()
print("held", flush=True)
time.sleep(600)
"""


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("SETTLE_S", 0.05), ("RENEW_EVERY_S", 0.1), ("STALE_AFTER_S", 1.5)):
        monkeypatch.setattr(lease, name, value)


@pytest.fixture
def storage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SweepStorage:
    (tmp_path / "head").mkdir()
    monkeypatch.chdir(tmp_path / "head")
    return SweepStorage(f"file://{tmp_path}/bucket", "run")


@pytest.fixture
def object_path(tmp_path: Path) -> Path:
    (tmp_path / "bucket").mkdir()
    return tmp_path / "bucket" / ".run.driver.json"


def write(path: Path, **changes: Any) -> None:
    """What a driver on another machine writes."""
    holder = {"token": "other", "host": "other-machine", "pid": 7, "started_s": 1.0}
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(holder | changes))
    temporary.replace(path)


def test_the_object_is_renewed_and_gone_at_the_end(storage: SweepStorage, object_path: Path) -> None:
    own = DriverLease(storage)
    own.take()
    found = json.loads(object_path.read_text())
    assert (found["host"], found["pid"]) == (socket.gethostname(), os.getpid())
    before = object_path.stat().st_mtime_ns
    deadline = time.monotonic() + 30
    while object_path.stat().st_mtime_ns == before:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    own.release()
    assert list(object_path.parent.iterdir()) == []
    own.release()


def test_a_driver_of_another_machine_that_renews_is_not_disturbed(storage: SweepStorage, object_path: Path) -> None:
    write(object_path)
    ended = threading.Event()

    def renew() -> None:
        while not ended.wait(0.3):
            write(object_path)

    thread = threading.Thread(target=renew)
    thread.start()
    said: list[str] = []
    try:
        with pytest.raises(SweepError) as error:
            DriverLease(storage, said.append).take()
    finally:
        ended.set()
        thread.join()
    assert error.value.format_message() == (
        f"Another process (pid 7 on other-machine) is running the sweep in {storage.uri}: wait for its end, or give "
        "another --name."
    )
    assert len(said) == 1
    assert said[0].startswith("pid 7 on other-machine was running this sweep 0 s ago; waiting")
    assert json.loads(object_path.read_text())["token"] == "other"
    assert os.listdir(object_path.parent) == [object_path.name]


@pytest.mark.parametrize("age_s", [0.0, 3600.0])
def test_a_driver_of_another_machine_that_has_ended_is_waited_for_and_followed(
    age_s: float, storage: SweepStorage, object_path: Path
) -> None:
    write(object_path)
    os.utime(object_path, (time.time() - age_s,) * 2)
    said: list[str] = []
    own = DriverLease(storage, said.append)
    own.take()
    assert json.loads(object_path.read_text())["host"] == socket.gethostname()
    assert len(said) == (age_s == 0.0)  # an old one needs no waiting
    own.release()


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"token": 1, "host": 2, "pid": "x", "started_s": 3}'])
def test_a_damaged_object_keeps_nobody_away(content: str, storage: SweepStorage, object_path: Path) -> None:
    object_path.write_text(content)
    own = DriverLease(storage)
    own.take()
    own.release()


def test_a_process_of_this_machine_counts_as_long_as_it_lives(storage: SweepStorage, object_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, storage.location],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])},
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        with (
            pytest.raises(SweepError, match=f"pid {process.pid} on {socket.gethostname()}"),
            DriverLock(storage) as lock,
        ):
            lock.hold()  # from another directory: its own lock is free
        assert not storage.folder.exists()
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    with DriverLock(storage) as lock:
        lock.hold()  # at once
    assert not object_path.exists()


def test_who_loses_the_sweep_is_told_and_leaves_the_object_alone(storage: SweepStorage, object_path: Path) -> None:
    lost = threading.Event()
    own = DriverLease(storage, lost=lost.set)
    own.take()
    write(object_path)
    assert lost.wait(30)
    own.release()
    assert json.loads(object_path.read_text())["token"] == "other"


def test_of_two_that_start_at_once_the_last_to_write_goes_on(
    storage: SweepStorage, object_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def other_writes(seconds: float) -> None:
        write(object_path)

    monkeypatch.setattr(lease.time, "sleep", other_writes)
    with pytest.raises(SweepError, match="pid 7 on other-machine"):
        DriverLease(storage).take()


def test_a_storage_that_does_not_answer_is_refused(storage: SweepStorage, object_path: Path) -> None:
    (object_path).mkdir()
    with pytest.raises(SweepError, match="cannot be used"):
        DriverLease(storage).take()
