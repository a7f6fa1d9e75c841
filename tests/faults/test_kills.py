"""kill -9 of what a sweep consists of, at chosen and at random moments."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.faults.harness import SweepRun, Undisturbed, check_equal, kill, write_sweep_file

TRIAL, RAYLET, GCS = "ray::MBPO", "raylet/raylet ", "gcs_server "


@pytest.mark.slow
@pytest.mark.parametrize("part", ["driver", GCS])
def test_a_killed_driver_leaves_nothing_and_the_same_command_goes_on(
    part: str, make_run: Callable[..., SweepRun], undisturbed: Undisturbed
) -> None:
    run = make_run()
    run.start()
    run.wait_for_epoch(2)
    pids = [run.driver.pid] if part == "driver" else run.pids(part)
    for pid in pids:
        kill(pid, signal.SIGKILL)
    assert run.wait() != 0
    assert run.left_behind() == []
    assert 2 <= max(run.epochs().values()) < 5
    assert run.run() == 0, run.read_output()
    assert run.left_behind() == []
    check_equal(run.folder, undisturbed.folder)


@pytest.mark.slow
def test_without_rays_own_process_the_sweep_ends_when_nothing_can_run_any_more(
    make_run: Callable[..., SweepRun], undisturbed: Undisturbed
) -> None:
    run = make_run(None, "--max-concurrent", "1")
    run.start()
    run.wait_for_epoch(2)
    (pid,) = run.pids(RAYLET)
    kill(pid, signal.SIGKILL)
    assert run.wait() == 1, run.read_output()
    output = run.read_output()
    assert "Ray has no machine left to run trials on" in output
    assert "Traceback" not in output
    assert "Raylet is terminated" not in output  # Ray's own paragraph
    assert run.left_behind() == []
    assert run.run() == 0, run.read_output()
    check_equal(run.folder, undisturbed.folder)


@pytest.mark.slow
def test_a_killed_trial_starts_again_by_itself(make_run: Callable[..., SweepRun], undisturbed: Undisturbed) -> None:
    run = make_run()
    run.start()
    run.wait_for_epoch(2)
    pid = run.pids(TRIAL)[0]
    assert kill(pid, signal.SIGKILL)
    assert run.wait() == 0, run.read_output()
    assert "its process died" in run.read_output()
    assert "A worker died" not in run.read_output()  # Ray's own paragraph
    assert run.left_behind() == []
    check_equal(run.folder, undisturbed.folder)


@pytest.mark.slow
def test_a_trial_that_is_killed_again_and_again_fails_only_without_progress(
    make_run: Callable[..., SweepRun], undisturbed: Undisturbed
) -> None:
    run = make_run()
    run.start()
    killed = []
    for epoch in (1, 2, 3, 4):  # more often than a trial may fail in a row
        run.wait_for_epoch(epoch)
        run.wait_until(lambda: set(run.pids(TRIAL)) - set(killed))
        killed.append(max(set(run.pids(TRIAL)) - set(killed)))
        kill(killed[-1], signal.SIGKILL)
    assert run.wait() == 0, run.read_output()
    check_equal(run.folder, undisturbed.folder)


# -- random moments --------------------------------------------------------------------------------------------


@dataclass
class Moment:
    """When something is killed: a share of an undisturbed sweep's duration after the last start or kill."""

    target: str
    share: float
    done: str = ""
    outcome: str = ""


def moments(count: int, seed: int) -> list[Moment]:
    """Targets in turn, at seeded random moments."""
    generator = random.Random(seed)
    targets = ["driver", "trial", "driver", "trial", "raylet"]
    return [Moment(targets[index % len(targets)], generator.uniform(0.05, 1.0)) for index in range(count)]


def survive(todo: list[Moment], make_run: Callable[..., SweepRun], place: Path, undisturbed: Undisturbed) -> list[str]:
    """Run sweeps until every moment has come, each to its end; returns what went wrong."""
    problems: list[str] = []
    waiting = list(todo)
    sweeps = 0
    while waiting:
        sweeps += 1
        own: list[Moment] = []
        run = make_run(write_sweep_file(place / str(sweeps)), storage=place / str(sweeps) / "results")
        status = None
        while status is None:
            run.start()
            status = _disturb(run, waiting, own, undisturbed.seconds)
        if left := run.left_behind(helpers=len(todo) > 3):
            problems.append(f"sweep {sweeps}: left behind {left}")
        outcome = f"sweep {sweeps}: exit status {status}"
        try:
            assert status == 0, run.read_output()
            check_equal(run.folder, undisturbed.folder)
            outcome += ", equal"
        except AssertionError as error:
            problems.append(f"sweep {sweeps}: {error}")
            outcome += ", NOT EQUAL"
        for moment in own:
            moment.outcome = outcome
    return problems


def _disturb(run: SweepRun, waiting: list[Moment], own: list[Moment], whole_s: float) -> int | None:
    """Kill at the next moments until the driver has ended; its exit status, or None where it was killed."""
    while waiting:
        begin, moment = time.monotonic(), waiting[0]
        while time.monotonic() - begin < moment.share * whole_s and run.driver.poll() is None:
            time.sleep(0.02)
        if run.driver.poll() is not None:  # it was faster: the moment is for the next sweep
            return run.driver.returncode
        pids = {"driver": [run.driver.pid], "trial": run.pids(TRIAL), "raylet": run.pids(RAYLET)}[moment.target]
        done = moment.target if pids else "driver"  # there is no such process yet, or no more
        waiting.pop(0)
        own.append(moment)
        progress = "/".join(str(epoch) for _, epoch in sorted(run.epochs().items())) or "nothing"
        moment.done = f"{done} at {time.monotonic() - begin:5.1f} s, recorded {progress}"
        kill(pids[len(own) % len(pids)] if pids else run.driver.pid, signal.SIGKILL)
        if done != "trial":
            run.wait()
            return None
    return run.wait()


def report(todo: list[Moment]) -> str:
    """A table of what was killed when."""
    survived = sum(moment.outcome.endswith("equal") and "NOT" not in moment.outcome for moment in todo)
    lines = [f"{index + 1:3d}  {moment.done:45s} {moment.outcome}" for index, moment in enumerate(todo)]
    return "\n".join([f"{survived} of {len(todo)} kills survived:", *lines])


# 2731: all three while trials train, so that little time goes into starting again.
@pytest.mark.parametrize(("count", "seed"), [(3, 2731), pytest.param(25, 25, marks=pytest.mark.slow)])
def test_kills_at_random_moments_change_nothing(
    count: int,
    seed: int,
    make_run: Callable[..., SweepRun],
    tmp_path: Path,
    undisturbed: Undisturbed,
    capsys: pytest.CaptureFixture[str],
) -> None:
    todo = moments(count, seed)
    problems = survive(todo, make_run, tmp_path, undisturbed)
    with capsys.disabled():
        print(f"\n{report(todo)}")
    assert problems == []
