"""Drivers and W&B service processes killed at random moments: in the end W&B has every step of every seed once."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import sys
import time
from pathlib import Path

import pytest

from tests.sweep.wandb_server import running_server
from tests.sweep.wandb_support import KEY, own_home, start_process  # noqa: F401
from tests.sweep.wandb_sweep import PlayedSweep, all_steps, offline, processes

pytestmark = pytest.mark.ci

EPOCHS, MOMENTS = 30, 12
VICTIMS = ("driver", "vagram_ray.sweep.wandb.child", "wandb-core")
LAUNCH = """
sweep = PlayedSweep(directory, epochs={epochs})
follower = sweep.follow({mode!r})
print("go", flush=True)
for trial in sweep.trials:
    done = sweep.epochs_done(trial)
    if done == sweep.epochs:
        continue  # a trial that has ended is not started again
    for epoch in range(max(1, done - done % 4), sweep.epochs + 1):  # there is a checkpoint every four epochs
        sweep.play(trial, epoch, epoch)
        time.sleep(0.1)
print(follower.finish(), flush=True)
"""


def launch(directory: Path, mode: str, env: dict[str, str], kill: tuple[str, float] | None) -> str:
    """One launch, in which after so many seconds one of ``VICTIMS`` is killed; returns what it printed."""
    process = start_process(LAUNCH.format(epochs=EPOCHS, mode=mode), directory, **env)
    deadline = time.monotonic() + 240
    while (directory / "out").read_text() == "" and process.poll() is None:
        time.sleep(0.01)
    if kill is not None:
        victim, seconds = kill
        time.sleep(seconds)
        for pid in [process.pid] if victim == "driver" else processes(process.pid, victim):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if victim != "driver" and (seconds < 6.0 or not processes(process.pid, "wandb")):
            process.kill()  # what is left of them goes on alone for a moment
    try:
        process.wait(deadline - time.monotonic())
    finally:
        process.kill()
    return (directory / "out").read_text()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="finds the service process in /proc")
@pytest.mark.parametrize("mode", ["offline", "online"])
def test_kills_at_random_moments_cost_no_row_and_double_none(mode: str, tmp_path: Path) -> None:
    moments = random.Random(mode)
    sweep = PlayedSweep(tmp_path, epochs=EPOCHS)
    with running_server() as server:
        env = {"WANDB_API_KEY": KEY, "WANDB_BASE_URL": server.url} if mode == "online" else {}
        for _ in range(MOMENTS):
            launch(tmp_path, mode, env, (moments.choice(VICTIMS), moments.uniform(0.0, 8.0)))
            for steps in server.steps():
                assert steps == sweep.steps[: len(steps)], "a gap, or a step twice"
        assert launch(tmp_path, mode, env, None) == "go\n0\n", (tmp_path / "err").read_text()
        if mode == "online":
            assert server.steps() == [sweep.steps] * 4
            assert server.exits() == [0] * 4
        else:
            found = offline(tmp_path)
            assert [all_steps(runs) for runs in found.values()] == [sweep.steps] * 4
            assert [runs[-1].exit_code for runs in found.values()] == [0] * 4
