"""What killed drivers leave of the Rays inside them: removed by the next one, and nothing else is."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from vagram_ray.sweep.run import local_ray
from vagram_ray.sweep.run.local_ray import OWNER_FILE, remove_leftovers

pytestmark = pytest.mark.ci

Started = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def start() -> Iterator[Started]:
    """Starts processes that do nothing, with these arguments in their command lines."""
    started = []

    def make(*arguments: str) -> subprocess.Popen[bytes]:
        program = "print(flush=True); import time; time.sleep(600)"
        process = subprocess.Popen([sys.executable, "-c", program, *arguments], stdout=subprocess.PIPE)
        assert process.stdout is not None
        process.stdout.readline()
        started.append(process)
        return process

    yield make
    for process in started:
        process.kill()
        process.wait()


def session(folder: Path, name: str, **owner: Any) -> Path:
    own = folder / f"session_2026-11-30_{name}"
    own.mkdir()
    (own / "log").touch()
    if owner:
        (own / OWNER_FILE).write_text(json.dumps(local_ray._this_process() | owner))
    return own


def test_what_a_dead_driver_left_is_ended_and_removed(tmp_path: Path, start: Started) -> None:
    driver = start()
    dead = session(tmp_path, "dead", pid=driver.pid, started=driver_started(driver))
    agent = start(f"--session-dir={dead}")
    remove_leftovers(tmp_path)
    assert dead.exists() and agent.poll() is None  # its driver lives
    driver.kill()
    driver.wait()
    remove_leftovers(tmp_path)
    assert not dead.exists()
    assert agent.wait(60) != 0


def test_a_pid_that_another_process_has_by_now_is_not_the_driver(tmp_path: Path) -> None:
    own = local_ray._this_process()
    dead = session(tmp_path, "dead", started=own["started"] - 1000.0)
    remove_leftovers(tmp_path)
    assert not dead.exists()


@pytest.mark.parametrize("how", ["not a sweep's", "damaged", "another machine", "another container", "another user"])
def test_what_belongs_to_others_stays(how: str, tmp_path: Path, start: Started) -> None:
    owner: dict[str, Any] = {
        "not a sweep's": {},
        "another machine": {"boot": "another"},
        "another container": {"pid_namespace": "pid:[1]"},
        "another user": {"user": -1},
    }.get(how, {"x": 0})
    other = session(tmp_path, "other", **(owner | {"pid": 2**22 + 1} if owner else {}))
    if how == "damaged":
        (other / OWNER_FILE).write_text("[")
    process = start(f"--session-dir={other}")
    remove_leftovers(tmp_path)
    assert (other / "log").exists() and process.poll() is None


def driver_started(process: subprocess.Popen[bytes]) -> float:
    return float(local_ray.load_psutil().Process(process.pid).create_time())
