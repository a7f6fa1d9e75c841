"""Ctrl-C, SIGTERM and a closed terminal: a clean stop that says how to go on."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults.harness import SweepRun, Undisturbed, check_equal, write_sweep_file
from tests.faults.signal_moments import moments, send, table

pytestmark = pytest.mark.ci

THROUGHOUT = ("plan", "plan", "plan", "trials")


def test_stopping_is_clean_and_the_same_command_goes_on(
    make_run: Callable[..., SweepRun], short_undisturbed: Undisturbed, tmp_path: Path
) -> None:
    run = make_run(write_sweep_file(tmp_path, epoch_length=short_undisturbed.epoch_length))
    for epoch, number in ((1, signal.SIGTERM), (3, signal.SIGINT)):
        run.start()
        run.wait_for_epoch(epoch)
        run.driver.send_signal(number)
        assert run.wait() == 128 + number, run.read_output()
        assert run.left_behind() == []
    output = run.read_output()
    assert "Traceback" not in output
    assert "SIGTERM received: stopping the trials" in output
    assert "Ctrl-C received: stopping the trials" in output
    assert output.count("NOT COMPLETE") == 2
    assert output.count(f"python -m vagram_ray.sweep {run.file}") == 2  # the way to go on
    assert run.run() == 0, run.read_output()
    check_equal(run.folder, short_undisturbed.folder)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGINT])
def test_a_signal_to_all_processes_of_the_terminal_is_as_clean(
    number: signal.Signals, make_run: Callable[..., SweepRun], undisturbed: Undisturbed
) -> None:
    run = make_run()
    run.start()
    run.wait_for_epoch(1)
    os.killpg(run.driver.pid, number)  # as terminals do
    assert run.wait() == 128 + number, run.read_output()
    assert run.left_behind() == []
    assert run.run() == 0, run.read_output()
    check_equal(run.folder, undisturbed.folder)


@pytest.mark.slow
def test_a_second_signal_leaves_at_once_and_nothing_is_lost(
    make_run: Callable[..., SweepRun], undisturbed: Undisturbed
) -> None:
    run = make_run()
    run.start()
    run.wait_for_epoch(1)
    run.driver.send_signal(signal.SIGTERM)
    run.wait_until(lambda: "SIGTERM received" in run.read_output())
    run.driver.send_signal(signal.SIGTERM)
    assert run.wait(timeout_s=5.0) == 128 + signal.SIGTERM
    assert run.left_behind() == []
    assert run.run() == 0, run.read_output()
    check_equal(run.folder, undisturbed.folder)


@pytest.mark.parametrize(
    ("count", "seed", "places"),
    [
        pytest.param(6, 6, THROUGHOUT, id="6"),
        pytest.param(54, 54, THROUGHOUT, id="54", marks=pytest.mark.slow),
        pytest.param(12, 30, ("trials",), id="12-end", marks=pytest.mark.slow),
    ],
)
def test_signals_at_the_start_and_at_the_end_are_all_heard(
    count: int,
    seed: int,
    places: tuple[str, ...],
    make_run: Callable[..., SweepRun],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    sent = moments(count, seed, places)
    for index, moment in enumerate(sent):
        place = tmp_path / str(index)
        file = write_sweep_file(place, epoch_length=60, epochs=1, seeds=(0,))
        run = make_run(file, "--wandb", "disabled", storage=place / "results")
        send(moment, run)
        assert run.left_behind(helpers=False) == []
    with capsys.disabled():
        print(f"\n{table(sent)}")
    assert [moment.problem for moment in sent if moment.problem] == []
