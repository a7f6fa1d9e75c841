"""One driver per sweep at a URI: other machines are objects that others have written, or processes."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from vagram_ray.sweep.spec import SweepError
from vagram_ray.sweep.storage import lease
from vagram_ray.sweep.storage.folder import SweepStorage
from vagram_ray.sweep.storage.lease import DriverLease, LostSweepError
from vagram_ray.sweep.storage.lock import DriverLock
from vagram_ray.sweep.storage.remote import DriverFiles, upload_all

HOLD = """
import sys, time
from vagram_ray.sweep.storage import lease
from vagram_ray.sweep.storage.folder import SweepStorage
lease.RENEW_EVERY_S = 0.1
lease.DriverLease(SweepStorage(sys.argv[1], "run")).take()
print("held", flush=True)
time.sleep(600)
"""


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("SETTLE_S", 0.05), ("RENEW_EVERY_S", 0.1), ("STALE_AFTER_S", 60.0)):
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
    holder = {"token": "other", "host": "other-machine", "pid": 7, "renewal": 1}
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
    said: list[str] = []

    def renew(sentence: str) -> None:
        said.append(sentence)
        write(object_path, renewal=2)

    with pytest.raises(SweepError) as error:
        DriverLease(storage, renew).take()
    assert error.value.format_message() == (
        f"Another process (pid 7 on other-machine) is running the sweep in {storage.uri}: wait for its end, or give "
        "another --name."
    )
    (sentence,) = said
    assert re.fullmatch(r"pid 7 on other-machine has run this sweep; waiting 60 s .*", sentence)
    assert json.loads(object_path.read_text())["token"] == "other"
    assert os.listdir(object_path.parent) == [object_path.name]


def test_a_driver_that_does_not_renew_is_waited_for(
    storage: SweepStorage, object_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "STALE_AFTER_S", 1.0)
    write(object_path)
    said: list[str] = []
    begin = time.monotonic()
    own = DriverLease(storage, said.append)
    own.take()
    assert time.monotonic() - begin >= 1.0
    assert len(said) == 1
    assert json.loads(object_path.read_text())["host"] == socket.gethostname()
    own.release()
    assert os.listdir(object_path.parent) == []


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"token": 1, "host": 2, "pid": "x", "renewal": 3}'])
def test_a_damaged_object_keeps_nobody_away(content: str, storage: SweepStorage, object_path: Path) -> None:
    object_path.write_text(content)
    own = DriverLease(storage)
    own.take()
    own.release()


def test_a_process_of_this_machine_counts_as_long_as_it_lives(
    storage: SweepStorage, object_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, storage.location],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[3])},
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
    monkeypatch.setattr(lease, "STALE_AFTER_S", 1.0)
    with DriverLock(storage) as lock:
        lock.hold()
    assert not object_path.exists()


@pytest.mark.parametrize("how", ["taken over", "taken over and finished"])
def test_who_loses_the_sweep_is_told_and_copies_nothing_more(
    how: str, storage: SweepStorage, object_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    lost = threading.Event()
    own = DriverLease(storage, lost=lost.set)
    own.take()
    storage.create()
    (storage.folder / "sweep.json").write_text("{}")
    DriverFiles(storage).upload()
    there = object_path.parent / "run" / "sweep.json"
    there.write_text("the other driver's")
    if how == "taken over":
        write(object_path)
    else:  # while this process was suspended
        object_path.unlink()
    assert lost.wait(30)
    with pytest.raises(LostSweepError):
        DriverFiles(storage).upload(everything=True)
    upload_all(storage)
    assert "has taken over the sweep" in caplog.text
    own.release()
    assert there.read_text() == "the other driver's"
    assert object_path.exists() == (how == "taken over")


def test_ctrl_c_while_taking_leaves_nothing(
    storage: SweepStorage, object_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(seconds: float) -> None:
        assert object_path.exists()
        raise KeyboardInterrupt

    monkeypatch.setattr(lease.time, "sleep", interrupt)
    with pytest.raises(KeyboardInterrupt):
        DriverLease(storage).take()
    assert os.listdir(object_path.parent) == []


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
