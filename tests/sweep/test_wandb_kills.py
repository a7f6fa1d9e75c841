"""Drivers and W&B service processes killed at random moments: in the end W&B has every step of every seed once."""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from pathlib import Path

import pytest

from tests.sweep.wandb_server import running_server
from tests.sweep.wandb_support import KEY, own_home, service_pid, start_process  # noqa: F401
from tests.sweep.wandb_sweep import PlayedSweep, all_steps, offline

EPOCHS, MOMENTS = 30, 12
LAUNCH = """
from tests.sweep.wandb_sweep import PlayedSweep
sweep = PlayedSweep(directory, epochs={epochs})
runs = sweep.callback({mode!r})
print("go", flush=True)
for trial in sweep.trials:
    done = sweep.epochs_done(trial)
    if done == sweep.epochs:
        continue  # a trial that has ended is not started again
    runs.on_trial_start(**HOOK, trial=trial)
    for epoch in range(max(1, done - done % 4), sweep.epochs + 1):  # there is a checkpoint every four epochs
        sweep.play(runs, trial, epoch, epoch)
        time.sleep(0.03)
    runs.on_trial_complete(**HOOK, trial=trial)
runs.on_experiment_end(trials=list(sweep.trials))
print(runs.refill(), flush=True)
"""


def launch(directory: Path, mode: str, env: dict[str, str], kill: tuple[str, float] | None) -> str:
    """One launch, in which after so many seconds ``"driver"`` or ``"service"`` is killed; returns what it printed."""
    process = start_process(LAUNCH.format(epochs=EPOCHS, mode=mode), directory, **env)
    deadline = time.monotonic() + 240
    while (directory / "out").read_text() == "" and process.poll() is None:
        time.sleep(0.01)
    if kill is not None:
        victim, seconds = kill
        time.sleep(seconds)
        try:
            os.kill(process.pid if victim == "driver" else service_pid(process.pid), signal.SIGKILL)
        except LookupError:  # the service has not begun, or has ended
            process.kill()
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
            victim = "driver" if moments.random() < 0.7 else "service"
            launch(tmp_path, mode, env, (victim, moments.uniform(0.0, 1.5)))
            found = offline(tmp_path) if mode == "offline" else {}
            for steps in server.steps() + [all_steps(runs) for runs in found.values()]:
                assert steps == sweep.steps[: len(steps)], "a gap, or a step twice"
        assert launch(tmp_path, mode, env, None) == "go\n0\n", (tmp_path / "err").read_text()
        if mode == "online":
            assert server.steps() == [sweep.steps] * 4
            assert server.exits() == [0] * 4
        else:
            found = offline(tmp_path)
            assert [all_steps(runs) for runs in found.values()] == [sweep.steps] * 4
            assert [runs[-1].exit_code for runs in found.values()] == [0] * 4
