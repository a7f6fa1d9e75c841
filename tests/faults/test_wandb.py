"""W&B that is not there, or whose process dies: the sweep goes on, and in the end W&B has every step once."""

from __future__ import annotations

import signal
from collections.abc import Callable

import pytest

from tests.faults.harness import SweepRun, Undisturbed, check_equal, kill

pytestmark = pytest.mark.ci


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_a_dead_or_hanging_follower_costs_no_row(
    number: signal.Signals, make_run: Callable[..., SweepRun], undisturbed: Undisturbed
) -> None:
    run = make_run()
    run.start()
    run.wait_for_epoch(2)
    stopped = run.pids("vagram_ray.sweep.wandb.child")
    assert stopped
    for pid in stopped:
        kill(pid, number)
    assert run.wait() == 0, run.read_output()
    assert "Traceback" not in run.read_output()
    if number == signal.SIGSTOP:
        for pid in stopped:
            kill(pid, signal.SIGKILL)
    assert run.left_behind() == []
    check_equal(run.folder, undisturbed.folder)


@pytest.mark.slow
def test_a_server_that_is_not_there_leaves_the_runs_offline(
    make_run: Callable[..., SweepRun], undisturbed: Undisturbed
) -> None:
    key = {"WANDB_API_KEY": "0123456789" * 4, "WANDB_BASE_URL": "http://127.0.0.1:9"}
    run = make_run(None, "--wandb", "online", **key)
    assert run.run() == 0, run.read_output()
    assert "the server does not answer" in " ".join(run.read_output().split())
    assert run.left_behind() == []
    check_equal(run.folder, undisturbed.folder)
