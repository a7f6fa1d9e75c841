"""W&B is brought up to date from a sweep's records, over all its launches; offline, with the real wandb."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import wandb

from tests.sweep.wandb_support import (  # noqa: F401
    HOOK,
    callback,
    in_a_process,
    own_home,
    service_pid,
    wandb_service,
    warnings_in,
)
from tests.sweep.wandb_sweep import LOSSES, SEEDS, PlayedSweep, all_steps, offline
from vagram_ray.records.folder import EARLIER_RESULTS, SweepFolder
from vagram_ray.sweep.wandb import logging as wandb_logging
from vagram_ray.sweep.wandb.ledger import LEDGER_FILE, Ledger, Logged
from vagram_ray.sweep.wandb.service import WandbWorker

EVERY_RUN = {(f"model_loss={loss}", seed) for loss in LOSSES for seed in SEEDS}


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Ids of the runs that wandb was asked to open."""
    ids: list[str] = []
    init = wandb.init

    def counting(**options: Any) -> Any:
        ids.append(options["id"])
        return init(**options)

    monkeypatch.setattr(wandb, "init", counting)
    return ids


def check_whole(sweep: PlayedSweep) -> dict[tuple[str, int], Any]:
    """Every run has every step once, and ended well; returns the newest piece of each."""
    found = offline(sweep.directory)
    assert set(found) == EVERY_RUN
    for runs in found.values():
        assert all_steps(runs) == sweep.steps
        assert runs[-1].exit_code == 0
    return {key: runs[-1] for key, runs in found.items()}


def test_trials_that_ended_without_wandb_are_handed_over(tmp_path: Path, opened: list[str]) -> None:
    sweep = PlayedSweep(tmp_path)
    for trial in sweep.trials:
        sweep.play(None, trial, 1, 5)
    told: list[str] = []
    assert sweep.callback().refill(say=told.append) == 0
    assert told == ["W&B: handing over 5 runs from the records ..."]
    run = check_whole(sweep)["model_loss=nll", 1]
    assert run.summary["eval/episode_return"] == run.summary["eval/episode_return_final"] == 115.0
    assert (run.name, run.config["seeds"], run.config["trial"]) == (
        "model_loss=nll seed 1", [0, 1], sweep.trials[1].name
    )  # fmt: skip
    assert len(opened) == 4 + 1  # the sweep's own
    for damage in (None, "{half", '{"place": 3}', '{"runs": {}}'):  # nothing is lacking, whatever the ledger says
        if damage is not None:
            (tmp_path / LEDGER_FILE).write_text(damage)
        again = sweep.callback()
        assert again.refill() == 0
    seeds = [run_id for run_id in opened if "seed" in run_id]
    assert len(seeds) == 4, "complete runs were opened again"
    check_whole(sweep)


def test_another_project_gets_everything(tmp_path: Path) -> None:
    sweep = PlayedSweep(tmp_path)
    for trial in sweep.trials:
        sweep.play(None, trial, 1, 5)
    for project in ("p", "q", "team/q"):
        assert sweep.callback(project=project).refill() == 0
    runs = offline(tmp_path)["model_loss=nll", 1]
    assert [run.project for run in runs] == ["p", "q", "q"]
    assert [all_steps([run]) for run in runs] == [sweep.steps] * 3


def test_uploaded_files_that_were_deleted_are_not_written_again(tmp_path: Path) -> None:
    sweep = PlayedSweep(tmp_path)
    runs = sweep.callback()
    for trial in sweep.trials:
        sweep.play(runs, trial, 1, 5, complete=True)
    runs.finish_all()
    shutil.rmtree(tmp_path / "wandb")
    longer = PlayedSweep(tmp_path, epochs=6, launch="cd456")
    runs = longer.callback()
    longer.play(runs, longer.trials[0], 5, 6, complete=True)
    assert runs.refill() == 0  # the other trial waits for its sixth epoch
    assert {key: all_steps(pieces) for key, pieces in offline(tmp_path).items()} == {
        ("model_loss=vagram", 0): [650],
        ("model_loss=vagram", 1): [650],
    }


def test_a_run_that_is_behind_is_closed_as_its_trial_ended(tmp_path: Path) -> None:
    sweep = PlayedSweep(tmp_path)
    first, second = sweep.trials
    runs = sweep.callback()
    sweep.play(runs, first, 1, 5)  # its end is never told
    sweep.play(runs, second, 1, 3)
    runs.finish_all()
    codes = {key: [run.exit_code for run in pieces] for key, pieces in offline(tmp_path).items()}
    assert set(map(tuple, codes.values())) == {(130,)}
    assert runs.refill(failed=[second.name]) == 0
    codes = {key: [run.exit_code for run in pieces] for key, pieces in offline(tmp_path).items()}
    assert codes["model_loss=vagram", 0] == [130, 0]
    assert codes["model_loss=nll", 0] == [130]  # no success then, and none now
    nan = sweep.result(second, 4)
    nan["seeds"]["seed_1"]["failed"] = 1
    SweepFolder(tmp_path).append(second.name, nan)
    SweepFolder(tmp_path).append(second.name, sweep.result(second, 5) | {"seeds": nan["seeds"]})
    assert sweep.callback().refill() == 0
    pieces = offline(tmp_path)
    assert [run.exit_code for run in pieces["model_loss=nll", 0]] == [130, 0]
    assert [run.exit_code for run in pieces["model_loss=nll", 1]] == [130, 1]
    assert all_steps(pieces["model_loss=nll", 1]) == sweep.steps


def test_results_that_a_trial_brings_along_are_logged_before_it(tmp_path: Path) -> None:
    sweep = PlayedSweep(tmp_path)
    trial = sweep.trials[0]
    runs = sweep.callback()
    sweep.play(runs, trial, 1, 2)
    late = sweep.result(trial, 5) | {EARLIER_RESULTS: [sweep.result(trial, epoch) for epoch in (1, 2, 3, 4)]}
    SweepFolder(tmp_path).append(trial.name, late)
    runs.on_trial_result(**HOOK, trial=trial, result=late)
    runs.finish_all()
    found = offline(tmp_path)
    assert [all_steps(found["model_loss=vagram", seed]) for seed in SEEDS] == [sweep.steps] * 2


def test_more_epochs_replace_the_final_return(tmp_path: Path) -> None:
    sweep = PlayedSweep(tmp_path)
    runs = sweep.callback()
    sweep.play(runs, sweep.trials[0], 1, 5, complete=True)
    runs.finish_all()
    longer = PlayedSweep(tmp_path, epochs=8, launch="cd456")
    runs = longer.callback()
    longer.play(runs, longer.trials[0], 5, 8, complete=True)
    runs.finish_all()
    before, after = offline(tmp_path)["model_loss=vagram", 0]
    assert before.summary["eval/episode_return_final"] == 5.0
    assert after.summary["eval/episode_return_final"] == 8.0
    assert after.summary["eval/episode_return_best_env_steps"] == 850
    assert all_steps([before, after]) == longer.steps


def test_the_best_return_is_that_of_all_launches(tmp_path: Path) -> None:
    sweep = PlayedSweep(tmp_path)
    trial = sweep.trials[0]
    runs = sweep.callback()
    good = sweep.result(trial, 1)
    good["seeds"]["seed_0"]["eval"]["episode_return"] = 99.0
    SweepFolder(tmp_path).append(trial.name, good)
    runs.on_trial_result(**HOOK, trial=trial, result=good)
    runs.finish_all()
    runs = sweep.callback()
    sweep.play(runs, trial, 2, 5, complete=True)
    runs.finish_all()
    newest = offline(tmp_path)["model_loss=vagram", 0][-1]
    assert newest.summary["eval/episode_return_best"] == 99.0
    assert newest.summary["eval/episode_return_best_env_steps"] == 150


@pytest.mark.skipif(sys.platform != "linux", reason="finds the service process in /proc")
@pytest.mark.parametrize("signal_number", [signal.SIGKILL, signal.SIGSTOP])
def test_a_service_process_that_dies_or_hangs_costs_no_row(
    signal_number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("vagram_ray.sweep.wandb.service.TEARDOWN_S", 1.0)
    wandb.teardown()
    sweep = PlayedSweep(tmp_path)
    first, second = sweep.trials
    runs = sweep.callback()
    sweep.play(runs, first, 1, 3)
    assert runs._worker.drain(100)
    os.kill(service_pid(), signal_number)
    sweep.play(runs, first, 4, 5, complete=True)
    sweep.play(runs, second, 1, 5, complete=True)
    runs.finish_all(timeout_s=2)
    (warning,) = warnings_in(caplog)
    assert "W&B logging is off for 10 minutes" in warning or "W&B did not take everything" in warning
    assert runs.refill() == 0
    check_whole(sweep)
    assert len(warnings_in(caplog)) == 1


@pytest.mark.skipif(sys.platform != "linux", reason="finds the service process in /proc")
def test_logging_goes_on_with_a_fresh_service_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    wandb.teardown()
    sweep = PlayedSweep(tmp_path)
    first, second = sweep.trials
    runs = sweep.callback()
    sweep.play(runs, first, 1, 2)
    assert runs._worker.drain(100)
    os.kill(service_pid(), signal.SIGKILL)
    time.sleep(1.0)  # wandb notices by itself
    sweep.play(runs, first, 3, 3)
    assert runs._worker.drain(100)
    sweep.play(runs, first, 4, 4)
    assert runs._worker.off, "it was tried again at once"
    monkeypatch.setattr(wandb_logging, "RETRY_AFTER_S", 0.0)
    sweep.play(runs, first, 5, 5, complete=True)
    sweep.play(runs, second, 1, 5, complete=True)
    runs.finish_all()
    check_whole(sweep)
    (warning,) = warnings_in(caplog)
    assert "W&B logging is off for 10 minutes" in warning


def test_a_driver_that_is_killed_costs_no_row(tmp_path: Path) -> None:
    crash = """
sweep = PlayedSweep(directory)
runs = sweep.callback()
sweep.play(runs, sweep.trials[0], 1, 5, complete=True)
sweep.play(runs, sweep.trials[1], 1, 3)
os.kill(os.getpid(), signal.SIGKILL)  # at once: W&B has got none, some or all of it
"""
    assert in_a_process("from tests.sweep.wandb_sweep import PlayedSweep\n" + crash, tmp_path).returncode == -9
    sweep = PlayedSweep(tmp_path, launch="cd456")  # the first trial has ended and is not started again
    runs = sweep.callback()
    sweep.play(runs, sweep.trials[1], 3, 5, complete=True)
    runs.on_experiment_end(trials=[*sweep.trials[1:]])
    assert runs.refill() == 0
    check_whole(sweep)


@pytest.mark.skipif(sys.platform != "linux", reason="finds the service process in /proc")
def test_nothing_of_wandb_is_left_for_the_interpreters_exit(tmp_path: Path) -> None:
    script = """
sweep = PlayedSweep(directory)
runs = sweep.callback()
sweep.play(runs, sweep.trials[0], 1, 5, complete=True)
pid = service_pid() if runs._worker.drain(100) else 0
runs.refill()
assert not Path(f"/proc/{pid}").exists()
"""
    process = in_a_process("from tests.sweep.wandb_sweep import PlayedSweep\n" + script, tmp_path)
    assert process.returncode == 0, process.stderr


def test_records_that_cannot_be_read_stop_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    sweep = PlayedSweep(tmp_path)
    sweep.play(None, sweep.trials[0], 1, 5)
    (tmp_path / "records" / f"{sweep.trials[1].name}.jsonl").write_text('{"training_iteration": 1}\nnot json\n[]\n')
    assert sweep.callback().refill() == 0
    assert f"W&B gets the sound records of {sweep.trials[1].name} alone" in warnings_in(caplog)[0]
    (tmp_path / "sweep.json").write_text("{half")
    assert sweep.callback().refill() == 0
    assert "the sweep's records cannot be read" in warnings_in(caplog)[1]
    (tmp_path / "sweep.json").unlink()
    assert sweep.callback().refill() == 0
    assert sweep.callback(mode="disabled").refill() == 0
    assert len(warnings_in(caplog)) == 2


def test_what_cannot_be_handed_over_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    sweep = PlayedSweep(tmp_path)
    sweep.play(None, sweep.trials[0], 1, 5)

    def fail(**options: Any) -> None:
        raise OSError("No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(wandb, "init", fail)
        assert sweep.callback().refill() == 2
    (warning,) = warnings_in(caplog)
    assert warning == (
        "W&B lacks results of 2 runs (No space left on device), which the sweep's records have: run the sweep's "
        "command again to hand them over."
    )
    with monkeypatch.context() as patch:
        patch.setattr("vagram_ray.sweep.wandb.service.WandbWorker.drain", press_ctrl_c)
        patch.setattr("vagram_ray.sweep.wandb.target.Target.open", lambda *args: None)
        assert sweep.callback().refill() == 2
    assert "2 runs (interrupted)" in warnings_in(caplog)[1]
    assert sweep.callback().refill() == 0


def press_ctrl_c(worker: WandbWorker, timeout_s: float, limit_s: float) -> bool:
    if worker._thread is None:
        return True
    raise KeyboardInterrupt


def test_a_ledger_that_cannot_be_written_or_read_costs_nothing(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path, "here p")
    ledger.note("a", Logged(7, 0, True))
    assert Ledger(tmp_path, "here p").get("a") == Logged(7, 0, True)
    assert Ledger(tmp_path, "there p").get("a") is None
    content = json.loads((tmp_path / LEDGER_FILE).read_text())
    for wrong in ({"env_steps": "7"}, {"env_steps": 1e9}, {"exit_code": True}, {"online": 1}, {"unknown": 1}):
        content["runs"]["a"] = {"env_steps": 7, **wrong}
        (tmp_path / LEDGER_FILE).write_text(json.dumps(content))
        assert Ledger(tmp_path, "here p").get("a") is None
    (tmp_path / "file").write_text("in the way")
    nowhere = Ledger(tmp_path / "file" / "folder", "here p")
    nowhere.note("a", Logged(7))
    assert nowhere.get("a") == Logged(7)
