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

pytestmark = pytest.mark.ci

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
    if part == GCS:
        output = run.read_output()
        said = "Ray's control process has died, and the sweep ends. The same command goes on: "
        assert said in output and str(run.file) in output.partition(said)[2].splitlines()[0]
        assert output.partition(said)[0].count("Traceback") == 0
    reached = max(run.epochs().values())
    # Without its GCS, Ray goes on until the driver finds out: trials may get to their last epoch.
    assert 2 <= reached < 5 if part == "driver" else reached >= 2
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

LATEST_S = {"launch": 6.0, "trial": 3.0, "epoch": 1.5}
"""So long after an event something is killed at the latest: the command's start, a new process of a trial, a new epoch.
Relative to events, the moments mean the same on a fast and on a slow machine."""


@dataclass
class Moment:
    """What is killed when."""

    target: str
    after: str
    """An event of ``LATEST_S``."""
    delay_s: float
    done: str = ""
    outcome: str = ""


def moments(count: int, seed: int, after: tuple[str, ...]) -> list[Moment]:
    """Targets in turn, at seeded random moments."""
    generator = random.Random(seed)
    targets = ["driver", "trial", "driver", "trial", "raylet"]
    found = []
    for index in range(count):
        event = generator.choice(after)
        found.append(Moment(targets[index % len(targets)], event, generator.uniform(0.0, LATEST_S[event])))
    return found


def survive(todo: list[Moment], make_run: Callable[..., SweepRun], place: Path, undisturbed: Undisturbed) -> list[str]:
    """Run sweeps until every moment has come, each to its end; returns what went wrong."""
    problems: list[str] = []
    waiting = list(todo)
    sweeps = 0
    while waiting:  # every sweep takes one at least, for each event happens in a sweep that is not disturbed
        sweeps += 1
        own: list[Moment] = []
        file = write_sweep_file(place / str(sweeps), epoch_length=undisturbed.epoch_length)
        run = make_run(file, storage=place / str(sweeps) / "results")
        status = None
        while status is None:
            run.start()
            status = _disturb(run, waiting, own)
        if left := run.left_behind(helpers=len(todo) > 2):
            problems.append(f"sweep {sweeps}: left behind {left}")
        outcome = f"sweep {sweeps}: exit status {status}"
        try:
            assert own, "nothing was killed"
            assert status == 0, run.read_output()
            check_equal(run.folder, undisturbed.folder)
            outcome += ", equal"
        except AssertionError as error:
            problems.append(f"sweep {sweeps}: {error}")
            outcome += ", NOT EQUAL"
        for moment in own:
            moment.outcome = outcome
        if not own:  # it would go on for ever
            break
    return problems


def _disturb(run: SweepRun, waiting: list[Moment], own: list[Moment]) -> int | None:
    """Kill at the next moments until the driver has ended; its exit status, or None where it was killed."""
    begin = time.monotonic()
    while waiting:
        moment = waiting[0]
        if not _await(run, moment):  # the driver was faster: the moment is for the next sweep
            return run.driver.returncode
        pids = {"driver": [run.driver.pid], "trial": run.pids(TRIAL), "raylet": run.pids(RAYLET)}[moment.target]
        done = moment.target if pids else "driver"  # there is no such process yet, or no more
        waiting.pop(0)
        own.append(moment)
        progress = "/".join(str(epoch) for _, epoch in sorted(run.epochs().items())) or "nothing"
        moment.done = (
            f"{done} {moment.delay_s:.1f} s after {moment.after}, {time.monotonic() - begin:.1f} s after the start, "
            f"recorded {progress}"
        )
        kill(pids[len(own) % len(pids)] if pids else run.driver.pid, signal.SIGKILL)
        if done != "trial":
            run.wait()
            return None
    return run.wait()


def _await(run: SweepRun, moment: Moment) -> bool:
    """Wait for a moment; False if the driver has ended before."""
    epochs, trials = sum(run.epochs().values()), set(run.pids(TRIAL))
    events: dict[str, Callable[[], bool]] = {
        "launch": lambda: True,
        "trial": lambda: bool(set(run.pids(TRIAL)) - trials),
        "epoch": lambda: sum(run.epochs().values()) > epochs,
    }
    while not events[moment.after]():
        if run.driver.poll() is not None:
            return False
        time.sleep(0.02)
    end = time.monotonic() + moment.delay_s
    while time.monotonic() < end and run.driver.poll() is None:
        time.sleep(0.02)
    return run.driver.poll() is None


def report(todo: list[Moment]) -> str:
    """A table of what was killed when."""
    survived = sum(moment.outcome.endswith(", equal") for moment in todo)
    lines = [f"{index + 1:3d}  {moment.done:75s} {moment.outcome}" for index, moment in enumerate(todo)]
    return "\n".join([f"{survived} of {len(todo)} kills survived:", *lines])


# The two of every test run come while trials train, so that little time goes into starting again.
@pytest.mark.parametrize(
    ("count", "seed", "after", "compared_with"),
    [
        (2, 3, ("epoch",), "short_undisturbed"),
        pytest.param(25, 25, tuple(LATEST_S), "undisturbed", marks=pytest.mark.slow),
    ],
)
def test_kills_at_random_moments_change_nothing(
    count: int,
    seed: int,
    after: tuple[str, ...],
    compared_with: str,
    make_run: Callable[..., SweepRun],
    tmp_path: Path,
    request: pytest.FixtureRequest,
    capsys: pytest.CaptureFixture[str],
) -> None:
    todo = moments(count, seed, after)
    problems = survive(todo, make_run, tmp_path, request.getfixturevalue(compared_with))
    with capsys.disabled():
        print(f"\n{report(todo)}")
    assert problems == []
