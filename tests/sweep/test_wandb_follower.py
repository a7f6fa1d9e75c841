"""One W&B run per seed and one of the sweep, from a sweep's records; offline, with the real wandb."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from tests.sweep.conftest import result_of
from tests.sweep.wandb_support import own_home, warnings_in  # noqa: F401
from tests.sweep.wandb_sweep import LOSSES, SEEDS, PlayedSweep, all_steps, offline, own_run, wait_for
from vagram_ray.records.folder import EARLIER_RESULTS, STOPPED_BY, SweepFolder
from vagram_ray.sweep.wandb.commandline import main
from vagram_ray.sweep.wandb.cursor import CURSOR_FILE, Cursor, Logged
from vagram_ray.sweep.wandb.offline import offline_runs

pytestmark = pytest.mark.ci

EVERY_RUN = {(f"model_loss={loss}", seed) for loss in LOSSES for seed in SEEDS}


def check_whole(sweep: PlayedSweep) -> dict[tuple[str, int], Any]:
    """Every run has every step once, and ended well; returns the newest piece of each."""
    found = offline(sweep.directory)
    assert set(found) == EVERY_RUN
    for runs in found.values():
        assert all_steps(runs) == sweep.steps
        assert runs[-1].exit_code == 0
    return {key: runs[-1] for key, runs in found.items()}


def append(sweep: PlayedSweep, trial: str, result: dict[str, Any]) -> None:
    SweepFolder(sweep.directory).append(trial, result)


def test_runs_are_written_when_their_trials_end_and_all_is_whole_in_the_end(tmp_path: Path) -> None:
    settings = {"env": "Hopper-v4", "gamma": 0.99, "nested": {"sizes": [64, 64]}}
    sweep = PlayedSweep(tmp_path, settings=settings, scale="smoke")
    first, second = sweep.trials
    follower = sweep.follow()
    sweep.play(first, 1, 3)
    sweep.play(first, 2, 4)  # a trial that was started again computes epochs again
    nan = sweep.result(first, 5)
    del nan["seeds"]["seed_1"]["eval"]
    append(sweep, first, nan)
    wait_for(lambda: len(offline(tmp_path)) == 2)
    sweep.play(second, 1, 5)
    assert follower.finish() == 0
    assert not (tmp_path / "wandb" / ".writing").exists()

    run = check_whole(sweep)["model_loss=nll", 1]
    assert (run.name, run.project, run.job_type) == ("model_loss=nll seed 1", "p", "seed")
    assert run.tags == ("distractors", "a-sweep", "smoke", "id-7edc8c")
    assert run.step_metrics == {"env_steps": "", "*": "env_steps"}
    assert run.config == settings | {
        "model_loss": "nll", "seeds": [0, 1], "seed": 1, "cell": "model_loss=nll", "sweep_name": "distractors",
        "sweep_id": "f00d", "trial": second,
    }  # fmt: skip
    rows = [{key: value for key, value in row.items() if key not in ("_runtime", "_timestamp")} for row in run.history]
    shared = {"failed": 0, "time/sac_s": 1, "perf/env_steps_per_s": 50}
    assert rows == [
        {
            "_step": steps,
            "env_steps": steps,
            "training_iteration": epoch,
            "eval/episode_return": 110.0 + epoch,
            **shared,
        }
        for epoch, steps in enumerate(sweep.steps, start=1)
    ]
    last = offline(tmp_path)["model_loss=vagram", 1][0]
    assert "eval/episode_return" not in last.history[-1]  # what is not finite was not measured
    assert last.summary["eval/episode_return"] == 14.0


def test_a_run_ends_with_its_last_best_and_final_return(tmp_path: Path) -> None:
    sweep = PlayedSweep(tmp_path, epochs=20)
    trial = sweep.trials[0]
    for epoch in range(1, 21):
        append(sweep, trial, result_of(epoch, {seed: seed + (50.0 if epoch == 4 else epoch) for seed in SEEDS}))
    assert sweep.catch_up() == 0
    (run,) = offline(tmp_path)["model_loss=vagram", 1]
    summary = {key: value for key, value in run.summary.items() if key.startswith("eval/")}
    assert summary == {
        "eval/episode_return": 21.0,
        "eval/episode_return_best": 51.0,
        "eval/episode_return_best_env_steps": 450,
        "eval/episode_return_final": 20.5,  # the mean of epochs 19 and 20
    }


def test_the_sweeps_run_has_every_cell(tmp_path: Path) -> None:
    sweep = PlayedSweep(tmp_path)
    sweep.play_all()
    nan = sweep.result(sweep.trials[0], 5)
    nan["seeds"]["seed_1"] = {"failed": 1}
    append(sweep, sweep.trials[0], nan)  # the fifth epoch once more: seed 1 is lost
    assert sweep.catch_up(project="team/p") == 0
    (own,) = own_run(tmp_path)
    assert (own.name, own.project, own.group, own.exit_code) == ("distractors", "p", "", 0)
    assert own.tags == ("distractors", "a-sweep", "smoke", "id-7edc8c")
    assert own.config["command"] == "python -m vagram_ray.sweep x.py"
    assert (own.config["sweep_name"], own.config["epochs"]) == ("distractors", 5)
    cells = {
        loss: {key.rpartition("/")[2]: value for key, value in own.summary.items() if f"model_loss={loss}" in key}
        for loss in LOSSES
    }
    assert (cells["nll"]["final_iqm"], cells["nll"]["final_mean"]) == (110.0, 110.0)
    assert cells["nll"]["final_low"] < 110.0 < cells["nll"]["final_high"]
    assert (cells["nll"]["num_seeds"], cells["nll"]["num_planned"]) == (2, 2)
    assert (cells["nll"]["best_iqm"], cells["nll"]["best_env_steps"]) == (110.0, 550)
    assert (cells["vagram"]["num_seeds"], cells["vagram"]["counted_as_worst"]) == (1, "1")
    assert cells["vagram"]["final_iqm"] == 5.0  # the lost seed counts as the other
    assert own.summary["complete"] is False
    assert [run.exit_code for run in offline(tmp_path)["model_loss=vagram", 1]] == [1]
    assert [run.exit_code for run in offline(tmp_path)["model_loss=vagram", 0]] == [0]


def test_a_new_launch_continues_the_same_runs(tmp_path: Path) -> None:
    sweep = PlayedSweep(tmp_path)
    first, second = sweep.trials
    best = sweep.result(first, 1)
    best["seeds"]["seed_0"]["eval"]["episode_return"] = 99.0
    append(sweep, first, best)
    sweep.play(first, 2, 2)
    sweep.play(second, 1, 2)
    SweepFolder(tmp_path).update(lambda info: {"failed_trials": {second: "error.txt"}})
    assert sweep.catch_up() == 0
    sweep.play(first, 2, 5)
    assert sweep.catch_up() == 0
    before, after = offline(tmp_path)["model_loss=vagram", 0]
    assert before.run_id == after.run_id
    assert before.config == after.config, "the configuration of a run changes with every launch"
    assert [all_steps([before]), all_steps([after])] == [sweep.steps[:2], sweep.steps[2:]]
    assert [before.exit_code, after.exit_code] == [130, 0]
    assert "eval/episode_return_final" not in before.summary
    assert after.summary["eval/episode_return_best"] == 99.0  # of all launches
    assert [run.exit_code for run in offline(tmp_path)["model_loss=nll", 0]] == [1]  # has failed for good
    assert len({run.run_id for run in own_run(tmp_path)}) == 1

    longer = PlayedSweep(tmp_path, epochs=8)
    longer.play(first, 6, 8)
    assert longer.catch_up() == 0
    assert offline(tmp_path)["model_loss=vagram", 0][-1].summary["eval/episode_return_final"] == 8.0
    assert all_steps(offline(tmp_path)["model_loss=vagram", 0]) == longer.steps


def test_nothing_is_written_when_nothing_is_lacking(tmp_path: Path) -> None:
    sweep = PlayedSweep(tmp_path)
    sweep.play_all()
    told: list[str] = []
    assert sweep.catch_up(say=told.append) == 0
    assert told == ["W&B: handing over 4 runs from the records ..."]
    pieces = sorted(path.name for path in tmp_path.glob("wandb/*"))
    assert len(offline_runs(tmp_path, "f00d")) == 4 + 1
    assert sweep.catch_up(say=told.append) == 0
    assert sorted(path.name for path in tmp_path.glob("wandb/*")) == pieces
    assert len(told) == 1
    shutil.rmtree(tmp_path / "wandb")  # after an upload
    longer = PlayedSweep(tmp_path, epochs=6)
    longer.play(longer.trials[0], 6, 6)
    assert longer.catch_up() == 0
    assert {key: all_steps(runs) for key, runs in offline(tmp_path).items()} == {
        ("model_loss=vagram", seed): [650] for seed in SEEDS
    }


def test_another_project_gets_everything_once(tmp_path: Path) -> None:
    sweep = PlayedSweep(tmp_path)
    sweep.play(sweep.trials[0], 1, 5)
    for project in ("p", "q", "p"):
        assert sweep.catch_up(project=project) == 0
    runs = offline(tmp_path)["model_loss=vagram", 1]
    assert [run.project for run in runs] == ["p", "q"]
    assert [all_steps([run]) for run in runs] == [sweep.steps] * 2


def test_two_sweeps_are_apart(tmp_path: Path) -> None:
    for sweep_id in ("f00d", "beef"):
        sweep = PlayedSweep(tmp_path, sweep_id=sweep_id)
        sweep.play_all()
        assert sweep.catch_up() == 0
        assert len(offline_runs(tmp_path, sweep_id)) == 4 + 1
    runs = [run.run_id for pieces in offline(tmp_path).values() for run in pieces]
    assert len(set(runs)) == len(runs) == 8


def test_a_trial_that_is_divided_goes_on_in_the_same_runs(tmp_path: Path) -> None:
    sweep = PlayedSweep(tmp_path)
    follower = sweep.follow()
    sweep.play(sweep.trials[0], 1, 2)
    info = SweepFolder(tmp_path).read()
    halves = [{"name": f"half-{seed}", "cell": 0, "seeds": [seed]} for seed in SEEDS]
    SweepFolder(tmp_path).write(info | {"trials": [*halves, info["trials"][1]]})
    sweep.play(sweep.trials[1], 1, 5)
    for seed in SEEDS:
        for epoch in range(1, 6):
            append(sweep, f"half-{seed}", result_of(epoch, {seed: 10.0 * seed + epoch}))
    assert follower.finish() == 0
    check_whole(sweep)


def test_results_that_a_trial_brings_along_are_logged_before_it(tmp_path: Path) -> None:
    sweep = PlayedSweep(tmp_path)
    trial = sweep.trials[0]
    sweep.play(trial, 1, 2)
    append(sweep, trial, sweep.result(trial, 5) | {EARLIER_RESULTS: [sweep.result(trial, n) for n in (1, 2, 3, 4)]})
    assert sweep.catch_up() == 0
    assert [all_steps(offline(tmp_path)["model_loss=vagram", seed]) for seed in SEEDS] == [sweep.steps] * 2


def test_a_trial_that_a_scheduler_has_stopped_has_ended_well(tmp_path: Path) -> None:
    sweep = PlayedSweep(tmp_path)
    sweep.play(sweep.trials[0], 1, 2)
    append(sweep, sweep.trials[0], sweep.result(sweep.trials[0], 3) | {STOPPED_BY: "ASHA"})
    assert sweep.catch_up() == 0
    (run,) = offline(tmp_path)["model_loss=vagram", 0]
    assert (all_steps([run]), run.exit_code) == (sweep.steps[:3], 0)


def test_damage_is_told_and_stops_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    sweep = PlayedSweep(tmp_path)
    sweep.play(sweep.trials[0], 1, 5)
    (tmp_path / "records" / f"{sweep.trials[1]}.jsonl").write_text('{"training_iteration": 1}\nnot json\n[]\n')
    (tmp_path / CURSOR_FILE).write_text("{half")
    assert sweep.catch_up() == 0
    (warning,) = warnings_in(caplog)
    assert f"W&B gets the sound records of {sweep.trials[1]} alone" in warning
    assert set(offline(tmp_path)) == {("model_loss=vagram", seed) for seed in SEEDS}
    (tmp_path / "sweep.json").write_text("{half")
    assert sweep.catch_up() == 1
    assert "sweep.json is damaged" in warnings_in(caplog)[1]


def test_the_command_brings_wandb_up_to_date(tmp_path: Path) -> None:
    folder = tmp_path / "a-name"
    sweep = PlayedSweep(folder, wandb={"mode": "offline", "project": "team/q"})  # as it was before the name was noted
    sweep.play_all()
    done = CliRunner().invoke(main, [str(folder)])
    assert done.exit_code == 0, done.output
    assert "W&B: handing over 4 runs from the records ..." in done.output
    assert "W&B has everything that " in done.output
    assert {run.project for run in check_whole(sweep).values()} == {"q"}
    assert own_run(folder)[0].name == "a-name"
    for arguments, problem in (
        ([str(tmp_path)], "there is no sweep.json in it"),
        ([str(folder), "--wandb-project", "a/b/c"], "is not usable"),
        ([str(folder), "--wandb", "online"], "W&B cannot log online"),
    ):
        refused = CliRunner().invoke(main, arguments)
        assert refused.exit_code == 2
        assert problem in " ".join(refused.output.split())


def test_a_damaged_cursor_is_named_and_not_used_and_one_of_an_earlier_version_is(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    entry = {"env_steps": 3000, "exit_code": None, "online": False, "pieces": ["a"], "writing": [], "content": ""}
    (tmp_path / CURSOR_FILE).write_text(json.dumps({"sweep_name": "mine", "places": {"here": {"run": entry}}}))
    assert Cursor(tmp_path, "here").get("run") == Logged(env_steps=3000, pieces=("a",))
    for damage in ({"run": entry | {"env_steps": "x"}}, {"run": []}, {"run": {}}, []):
        (tmp_path / CURSOR_FILE).write_text(json.dumps({"places": {"here": damage}}))
        assert Cursor(tmp_path, "here").get("run") == Logged()
        assert "is damaged and not used" in caplog.text
        caplog.clear()


def test_wandbs_setting_of_a_hidden_folder_loses_no_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_USE_DOT_WANDB", "true")
    sweep = PlayedSweep(tmp_path)
    sweep.play_all()
    assert sweep.catch_up() == 0
    check_whole(sweep)
