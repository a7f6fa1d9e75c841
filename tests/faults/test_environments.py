"""Simulators that hang, raise, or give numbers that are none."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults.harness import SIMULATOR, SweepRun, Undisturbed, check_equal, recorded, write_sweep_file

pytestmark = pytest.mark.ci


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("hang", "an environment step exceeded its time limit"),
        ("raise", "RuntimeError: the simulator has lost its licence"),
    ],
)
def test_a_simulator_that_fails_once_costs_a_new_start(
    fault: str, reason: str, make_run: Callable[..., SweepRun], undisturbed: Undisturbed, tmp_path: Path
) -> None:
    file = write_sweep_file(tmp_path, extension=SIMULATOR, step_limit=5.0)
    run = make_run(file, FAULT=fault, FAULT_ONCE=str(tmp_path / "happened"))
    assert run.run() == 0, run.read_output()
    assert f"({reason}); trying again" in run.read_output()
    assert run.left_behind() == []
    check_equal(run.folder, undisturbed.folder)


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["hang", "raise"])
def test_a_simulator_that_always_fails_ends_its_trial_and_no_other(
    fault: str, make_run: Callable[..., SweepRun], undisturbed: Undisturbed, tmp_path: Path
) -> None:
    file = write_sweep_file(tmp_path, extension=SIMULATOR, step_limit=5.0)
    run = make_run(file, FAULT=fault, FAULT_TRIAL="model_loss=nll", FAULT_STEP="100")
    assert run.run() == 1
    output = run.read_output()
    reason = {"hang": "exceeded its time limit", "raise": "RuntimeError: the simulator has lost its licence"}[fault]
    assert f"{reason}), see " in output.replace("\n", " ")
    assert "NOT COMPLETE: 2 of 4 seeds came to their end" in output
    assert "model_loss=nll: seeds 0-1 never reported" in output
    assert "Failure 3" in (run.folder / "model_loss=nll,seeds=0-1" / "error.txt").read_text()
    assert run.left_behind() == []
    check_equal(run.folder, undisturbed.folder, only="model_loss=vagram")

    run.environment = {}  # mended: the same command runs what has failed
    assert run.run() == 0, run.read_output()
    check_equal(run.folder, undisturbed.folder)


@pytest.mark.slow
def test_a_seed_that_becomes_nan_is_named_and_touches_no_other(
    make_run: Callable[..., SweepRun], undisturbed: Undisturbed, tmp_path: Path
) -> None:
    file = write_sweep_file(tmp_path, extension=SIMULATOR)
    run = make_run(file, FAULT="nan", FAULT_TRIAL="model_loss=nll")
    assert run.run() == 1
    output = run.read_output()
    assert "NOT COMPLETE: 3 of 4 seeds came to their end" in output
    assert "model_loss=nll: seed 1 got no finite number from the environment in epoch " in output
    assert run.left_behind() == []
    check_equal(run.folder, undisturbed.folder, only="model_loss=vagram")
    expected, found = recorded(undisturbed.folder), recorded(run.folder)
    for label, seed, epoch in expected:
        if seed == 0:  # to float tolerance: a stack of one network rounds differently from one of two
            own, whole = found[label, seed, epoch], expected[label, seed, epoch]
            assert own.keys() == whole.keys()
            assert own["eval/episode_return"] == pytest.approx(whole["eval/episode_return"], rel=0.05)
    launches = json.loads((run.folder / "sweep.json").read_text())["launches"]
    assert len(launches) == 1
