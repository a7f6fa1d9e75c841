"""What arrives at a W&B server, a local one of our own: every step once, whatever happened to the driver."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.sweep.wandb_server import Server, running_server
from tests.sweep.wandb_support import KEY, callback, in_a_process, own_home, read  # noqa: F401

RECORDS = """
import json
def record(*epochs):
    (directory / "records").mkdir(exist_ok=True)
    with open(directory / "records" / "a-trial.jsonl", "a") as file:
        for epoch in epochs:
            seeds = {str(seed): {"eval/episode_return": 1000.0 * epoch + seed, "failed": 0} for seed in (3, 7)}
            position = {"training_iteration": epoch, "env_steps": 1000 * epoch, "time_total_s": 1.0}
            file.write(json.dumps({**position, "time": {}, "perf": {}, "seeds": seeds}) + "\\n")
"""
"""Defines ``record``: what the sweep's own callback writes before W&B's gets the result."""


@pytest.fixture
def server() -> Iterator[Server]:
    with running_server() as server:
        yield server


def online(script: str, directory: Path, server: Server) -> int:
    """Run a script whose W&B is the local server; returns the exit status."""
    process = in_a_process(RECORDS + script, directory, WANDB_API_KEY=KEY, WANDB_BASE_URL=server.url)
    assert "Traceback" not in process.stderr, process.stderr
    assert "W&B" not in process.stderr
    return process.returncode


def test_online_runs_are_resumed_and_sent_once(tmp_path: Path, server: Server) -> None:
    script = """
for launch, all_steps in enumerate(((1000, 2000), (1000, 2000, 3000))):
    trial = Trial(f"launch{launch}_00000")
    trial.config |= {"gamma": 0.5, "of_the_first": 1} if launch == 0 else {"of_the_second": 2}
    runs = callback(directory, mode="online")
    for env_steps in all_steps:
        runs.on_trial_result(**HOOK, trial=trial, result=result(env_steps))
    runs.on_trial_complete(**HOOK, trial=trial)
    runs.finish_all()
"""
    assert online(script, tmp_path, server) == 0
    assert len(server.runs) == 2
    for run in server.runs.values():
        assert [row["env_steps"] for row in run["rows"]] == [1000, 2000, 3000]
        assert run["exit"] == 0
        config = {key: entry["value"] for key, entry in run["config"].items() if key != "_wandb"}
        assert (config["gamma"], config["of_the_first"], config["of_the_second"]) == (0.99, 1, 2)
        assert run["summary"]["eval/episode_return"] >= 3003.0


def test_a_crash_between_two_drivers_leaves_every_step_once(tmp_path: Path, server: Server) -> None:
    crashing = """
runs, trial = callback(directory, mode="online"), Trial()
for epoch in (1, 2):
    record(epoch)
    runs.on_trial_result(**HOOK, trial=trial, result=result(1000 * epoch))
runs.finish_all()  # the server has the first two epochs,
runs = callback(directory, mode="online")
for epoch in (3, 4, 5):
    record(epoch)
    runs.on_trial_result(**HOOK, trial=trial, result=result(1000 * epoch))
assert runs._worker.drain(100)  # wandb has the other three and sends rows every 15 seconds only
os.kill(os.getpid(), signal.SIGKILL)
"""
    assert online(crashing, tmp_path, server) == -9
    assert {len(run["rows"]) for run in server.runs.values()} == {2}, "the crash lost nothing: the test shows nothing"
    # The trial goes on from a checkpoint of epoch 4: it computes 5 again, and never reports 3 and 4 again.
    resuming = """
runs, trial = callback(directory, mode="online"), Trial()
runs.on_trial_start(**HOOK, trial=trial)
for epoch in (5, 6):
    record(epoch)
    runs.on_trial_result(**HOOK, trial=trial, result=result(1000 * epoch, episode_return=-1.0))
runs.on_trial_complete(**HOOK, trial=trial)
runs.finish_all()
"""
    assert online(resuming, tmp_path, server) == 0
    assert len(server.runs) == 2
    for run in server.runs.values():
        assert [row["env_steps"] for row in run["rows"]] == [1000, 2000, 3000, 4000, 5000, 6000]
        assert run["exit"] == 0


def test_wandb_sync_uploads_a_crashed_and_continued_offline_run_once(tmp_path: Path, server: Server) -> None:
    script = """
runs, trial = callback(directory), Trial()
for env_steps in {steps}:
    runs.on_trial_result(**HOOK, trial=trial, result=result(env_steps))
{end}
"""
    crash = "runs._worker.drain(100)\ntime.sleep(2)\nos.kill(os.getpid(), signal.SIGKILL)"
    finish = "runs.on_trial_complete(**HOOK, trial=trial)\nruns.finish_all()"
    assert in_a_process(script.format(steps=(1000, 2000, 3000), end=crash), tmp_path).returncode == -9
    assert in_a_process(script.format(steps=(2000, 3000, 4000), end=finish), tmp_path).returncode == 0
    folders = callback(tmp_path).offline_runs()
    assert len(folders) == 4  # two seeds, two drivers
    assert [run.exit_code for run in read(callback(tmp_path))].count(None) == 2
    for _ in range(2):  # what is synced already is left alone
        synced = subprocess.run(
            [sys.executable, "-m", "wandb", "sync", *map(str, folders)],
            cwd=tmp_path, env={**os.environ, "WANDB_API_KEY": KEY, "WANDB_BASE_URL": server.url},
            capture_output=True, text=True, timeout=240,
        )  # fmt: skip
        assert synced.returncode == 0, synced.stdout + synced.stderr
        assert len(server.runs) == 2
        for run in server.runs.values():
            assert [row["env_steps"] for row in run["rows"]] == [1000, 2000, 3000, 4000]
