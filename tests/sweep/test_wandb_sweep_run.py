"""What a sweep's own records add to W&B: lost rows, final returns, and a run of the sweep's with every cell's IQM."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.sweep.wandb_support import HOOK, Trial, callback, own_home, read, wandb_service, warnings_in  # noqa: F401
from vagram_ray.records.folder import SweepFolder
from vagram_ray.sweep.plan.content import plan_content
from vagram_ray.sweep.plan.plan import SweepPlan
from vagram_ray.sweep.wandb.reader import OfflineRun
from vagram_ray.sweep.wandb.target import SWEEP_RUN_FILE, read_sweep_run_file

SEEDS = (0, 1, 2, 3)
BEST_EPOCH = 4


@pytest.fixture
def make_sweep(
    tmp_path: Path, make_plan_of: Callable[..., SweepPlan], make_result: Callable[..., dict[str, Any]]
) -> Callable[..., list[tuple[Trial, list[dict[str, Any]]]]]:
    """Writes a sweep of two cells, 20 epochs, four seeds; returns its trials with their results."""

    def make(epochs_done: int = 20) -> list[tuple[Trial, list[dict[str, Any]]]]:
        plan = make_plan_of({"model_loss=vagram": [SEEDS], "model_loss=nll": [SEEDS]}, epochs=20)
        SweepFolder(tmp_path).write(
            plan_content(plan) | {"command": "python -m vagram_ray.sweep x.py", "git_commit": "abc"}
        )
        trials = []
        for planned in plan.trials:
            offset = 100.0 * planned.cell.index
            results = [
                make_result(epoch, {seed: offset + seed + (50 if epoch == BEST_EPOCH else epoch) for seed in SEEDS})
                for epoch in range(1, epochs_done + 1)
            ]
            for result in results:
                SweepFolder(tmp_path).append(planned.name, result)
            config = {"seeds": SEEDS, **planned.cell.axes}
            trials.append((Trial(f"ab123_0000{planned.cell.index}", config, planned.name), results))
        return trials

    return make


def log(directory: Path, trials: list[tuple[Trial, list[dict[str, Any]]]], **changes: Any) -> list[OfflineRun]:
    runs = callback(directory, cell_of=lambda config: f"model_loss={config['model_loss']}", **changes)
    for trial, results in trials:
        runs.on_trial_start(**HOOK, trial=trial)
        for result in results:
            runs.on_trial_result(**HOOK, trial=trial, result=result)
        runs.on_trial_complete(**HOOK, trial=trial)
    runs.on_experiment_end(trials=[trial for trial, _ in trials])
    return read(runs)


def test_the_sweeps_run_has_final_and_best_iqm_of_every_cell(tmp_path: Path, make_sweep: Any) -> None:
    found = log(tmp_path, make_sweep(), tags=("smoke",), project="team/p")
    (own,) = (run for run in found if run.job_type == "sweep")
    assert (own.name, own.project, own.group, own.exit_code) == ("distractors", "p", "", 0)
    assert own.tags == ("distractors", "smoke", "id-7edc8c")
    assert own.config["sweep_name"] == "distractors"
    assert own.config["command"] == "python -m vagram_ray.sweep x.py"
    assert own.config["epochs"] == 20
    # Final: the mean of epochs 19 and 20, of seeds 0 to 3; the middle half is seeds 1 and 2.
    for index, loss in enumerate(("vagram", "nll")):
        cell = {key.rpartition("/")[2]: value for key, value in own.summary.items() if f"model_loss={loss}" in key}
        assert cell["final_iqm"] == cell["final_mean"] == 100 * index + 1.5 + 19.5
        assert cell["final_low"] < cell["final_iqm"] < cell["final_high"]
        assert (cell["num_seeds"], cell["num_planned"]) == (4, 4)
        assert (cell["best_iqm"], cell["best_env_steps"]) == (100 * index + 1.5 + 50, 50 + 100 * BEST_EPOCH)
    assert own.summary["complete"] is True
    noted = read_sweep_run_file(tmp_path)
    assert noted["run_id"] == own.run_id
    assert (noted["mode"], noted["project"], noted["entity"]) == ("offline", "p", "team")


def test_a_seeds_run_ends_with_its_last_best_and_final_return(tmp_path: Path, make_sweep: Any) -> None:
    found = log(tmp_path, make_sweep())
    (run,) = (run for run in found if run.config.get("seed") == 2 and run.group == "model_loss=nll")
    assert run.summary["eval/episode_return"] == 100 + 2 + 20
    assert run.summary["eval/episode_return_final"] == 100 + 2 + 19.5
    assert run.summary["eval/episode_return_best"] == 100 + 2 + 50
    assert run.summary["eval/episode_return_best_env_steps"] == 50 + 100 * BEST_EPOCH


def test_an_incomplete_sweep_says_so_and_has_what_there_is(tmp_path: Path, make_sweep: Any) -> None:
    complete, stopped = make_sweep(epochs_done=20)[0], make_sweep(epochs_done=20)[1]
    path = tmp_path / "records" / f"{stopped[0].name}.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:3]))
    found = log(tmp_path, [complete, (stopped[0], stopped[1][:3])])
    (own,) = (run for run in found if run.job_type == "sweep")
    assert own.summary["complete"] is False
    assert own.summary["cells/model_loss=nll/num_seeds"] == 0
    assert not any(key.startswith("cells/model_loss=nll/final") for key in own.summary)
    seeds = [run for run in found if run.group == "model_loss=nll"]
    assert len(seeds) == len(SEEDS)
    assert not any("eval/episode_return_final" in run.summary for run in seeds)


def test_missing_seeds_count_as_the_worst_and_are_named(tmp_path: Path, make_sweep: Any) -> None:
    trials = make_sweep()
    path = tmp_path / "records" / f"{trials[0][0].name}.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    for line in lines[BEST_EPOCH - 1 :]:  # seed 3 becomes NaN in the epoch in which the others are at their best
        line["seeds"]["3"] = {"failed": 1}
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    (own,) = (run for run in log(tmp_path, trials) if run.job_type == "sweep")
    cell = {key.rpartition("/")[2]: value for key, value in own.summary.items() if "model_loss=vagram" in key}
    # Seeds 0, 1, 2 end at 19.5, 20.5, 21.5 and seed 3 counts with 19.5: the middle half is 19.5 and 20.5.
    assert cell["final_iqm"] == 20.0
    assert cell["final_mean"] == (19.5 + 20.5 + 21.5 + 19.5) / 4
    assert cell["best_iqm"] == (50 + 51) / 2
    assert (cell["num_seeds"], cell["num_planned"], cell["counted_as_worst"]) == (3, 4, "3")


def test_a_new_launch_continues_the_sweeps_own_run(tmp_path: Path, make_sweep: Any) -> None:
    trials = make_sweep()
    log(tmp_path, trials)
    another_launch = [(Trial("zz999_00000", trial.config, trial.name), results) for trial, results in trials]
    twice = [run for run in log(tmp_path, another_launch) if run.job_type == "sweep"]
    assert len(twice) == 2
    assert twice[0].run_id == twice[1].run_id
    (other,) = (run for run in log(tmp_path, trials, sweep_id="beef") if run.job_type == "sweep")
    assert other.run_id != twice[0].run_id


def test_rows_that_died_with_a_driver_come_from_the_records(tmp_path: Path, make_sweep: Any) -> None:
    (trial, results), _ = make_sweep()
    first = callback(tmp_path)
    for result in results[:5]:
        first.on_trial_result(**HOOK, trial=trial, result=result)
    first.finish_all()
    # By now the records hold 20 epochs; the trial goes on from a checkpoint of epoch 10 and computes another value.
    second = callback(tmp_path)
    second.on_trial_start(**HOOK, trial=trial)
    for result in results[10:]:
        changed = json.loads(json.dumps(result))
        changed["seeds"]["seed_0"]["eval"]["episode_return"] = -1.0
        second.on_trial_result(**HOOK, trial=trial, result=changed)
    second.on_trial_complete(**HOOK, trial=trial)
    second.finish_all()
    before, after = (run for run in read(second) if run.config["seed"] == 0)
    assert [row["env_steps"] for row in before.history + after.history] == [result["env_steps"] for result in results]
    expected = [result["seeds"]["seed_0"]["eval"]["episode_return"] for result in results]
    assert [row["eval/episode_return"] for row in before.history + after.history] == expected
    keys = [set(row) - {"_runtime", "_timestamp", "_step"} for row in before.history + after.history]
    assert all(each == keys[0] for each in keys), "a row from the records has other keys than one that was reported"


def test_damaged_records_and_notes_stop_nothing(
    tmp_path: Path, make_sweep: Any, caplog: pytest.LogCaptureFixture
) -> None:
    (trial, results), _ = make_sweep()
    (tmp_path / "records" / f"{trial.name}.jsonl").write_text('{"training_iteration": 1}\nnot json\n[]\n')
    (tmp_path / "wandb").mkdir()
    (tmp_path / "wandb" / SWEEP_RUN_FILE).write_text("{half")
    (tmp_path / "sweep.json").write_text("{half")
    found = log(tmp_path, [(trial, results[:2])])
    seeds = [run for run in found if run.job_type == "seed"]
    assert [len(run.history) for run in seeds] == [2, 2, 2, 2]
    (warning,) = warnings_in(caplog)
    assert "sweep's own W&B run is not written, its records cannot be read" in warning


def test_the_entity_comes_from_the_project_or_by_name(tmp_path: Path) -> None:
    assert callback(tmp_path, project="team/p").entity == "team"
    assert callback(tmp_path, project="p", entity="team").entity == "team"
    assert callback(tmp_path, project="p").entity is None
