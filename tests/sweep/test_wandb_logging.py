"""One W&B run per seed, with the real wandb: offline files read back record by record."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, cast

import cloudpickle
import numpy as np

from tests.sweep.wandb_support import (
    HOOK,
    Trial,
    by_seed,
    callback,
    own_home,  # noqa: F401
    read,
    result,
    steps,
    wandb_service,  # noqa: F401
)
from vagram_ray.sweep.wandb.logging import default_cell_name
from vagram_ray.sweep.wandb.text import flatten, jsonable


def test_each_seed_of_a_trial_is_one_run(tmp_path: Path) -> None:
    runs = callback(tmp_path, tags=("paper", "distractors"))
    trial = Trial()
    runs.on_trial_start(**HOOK, trial=trial)
    runs.on_trial_result(**HOOK, trial=trial, result=result(1000))
    runs.on_trial_result(
        **HOOK, trial=trial, result=result(2000, episode_return=math.nan, episode_length=np.float64(9))
    )
    runs.on_trial_result(**HOOK, trial=trial, result=result(3000, episode_return=5.0))
    runs.on_trial_complete(**HOOK, trial=trial)
    runs.on_experiment_end(trials=[trial])

    found = by_seed(read(runs))
    assert [len(found[3]), len(found[7])] == [1, 1]
    run = found[3][0]
    assert (run.project, run.group) == ("p", "Hopper-v4, 10 distractors, vagram, 4 x 200")
    assert run.name == "Hopper-v4, 10 distractors, vagram, 4 x 200 seed 3"
    assert run.tags == ("distractors", "paper", "id-7edc8c")
    assert run.step_metrics == {"env_steps": "", "*": "env_steps"}
    assert (run.job_type, run.exit_code) == ("seed", 0)
    assert run.config == {
        "env": "Hopper-v4",
        "num_distractors": 10,
        "model_loss": "vagram",
        "num_layers": 4,
        "hidden_size": 200,
        "seeds": [3, 7],
        "gamma": 0.99,
        "nested": {"lr": 1e-3, "sizes": [64, 64]},
        "callbacks_class": "builtins.dict",
        "infinite": "inf",
        "seed": 3,
        "cell": "Hopper-v4, 10 distractors, vagram, 4 x 200",
        "sweep_name": "distractors",
        "sweep_id": "f00d",
        "trial": "a-trial",
    }
    shared = {"sac/alpha": 0.1, "failed": 0, "time/epoch_s": 1.5, "perf/env_steps_per_s": 2.0}
    rows = [{key: value for key, value in row.items() if key not in ("_runtime", "_timestamp")} for row in run.history]
    expected = [{"eval/episode_return": 1003.0}, {"eval/episode_length": 9.0}, {"eval/episode_return": 5.0}]
    for number, own in enumerate(expected, start=1):
        position = {"_step": 1000 * number, "env_steps": 1000 * number, "training_iteration": number}
        assert rows[number - 1] == {**shared, **position, **own}
    assert run.summary["eval/episode_return"] == 5.0
    assert run.summary["eval/episode_return_best"] == 1003.0
    assert run.summary["eval/episode_return_best_env_steps"] == 1000
    assert [row["eval/episode_return"] for row in found[7][0].history] == [1007.0, 2007.0, 3007.0]


def test_results_delivered_again_are_logged_once(tmp_path: Path) -> None:
    runs = callback(tmp_path)
    trial = Trial()
    for env_steps in (1000, 2000, 3000):
        runs.on_trial_result(**HOOK, trial=trial, result=result(env_steps))
    runs.on_trial_recover(**HOOK, trial=cast(Any, trial))
    runs.on_trial_start(**HOOK, trial=trial)
    for env_steps in (2000, 3000, 3000, 4000):
        runs.on_trial_result(**HOOK, trial=trial, result=result(env_steps, episode_return=-1.0))
    runs.on_trial_complete(**HOOK, trial=trial)
    runs.finish_all()
    found = by_seed(read(runs))
    assert [len(found[3]), len(found[7])] == [1, 1]
    assert [row["eval/episode_return"] for row in found[3][0].history] == [1003.0, 2003.0, 3003.0, -1.0]
    assert steps(found[7][0]) == [1000, 2000, 3000, 4000]


def test_a_new_launch_continues_the_same_runs(tmp_path: Path) -> None:
    first = callback(tmp_path, cell_of=lambda config: f"cell {config['env']}")
    for env_steps in (1000, 2000):
        first.on_trial_result(**HOOK, trial=Trial("ab123_00000"), result=result(env_steps))
    pickled = cloudpickle.dumps(first)  # as Tune does, with runs that are live
    first.finish_all()
    for second in (callback(tmp_path, cell_of=first.cell_of), cloudpickle.loads(pickled)):
        assert second.offline_runs() == first.offline_runs()
    second = callback(tmp_path, cell_of=first.cell_of)
    for env_steps in (1000, 2000, 3000):
        second.on_trial_result(**HOOK, trial=Trial("zz999_00007"), result=result(env_steps))
    second.on_trial_complete(**HOOK, trial=Trial("zz999_00007"))
    second.finish_all()

    before, after = by_seed(read(second))[3]
    assert before.run_id == after.run_id
    assert before.group == after.group == "cell Hopper-v4"
    assert before.config == after.config, "the configuration of a run changes with every launch"
    assert (steps(before), before.exit_code) == ([1000, 2000], 130)
    assert (steps(after), after.exit_code) == ([3000], 0)
    assert after.summary["eval/episode_return"] == 3003.0


def test_runs_of_two_sweeps_cells_or_seeds_are_apart(tmp_path: Path) -> None:
    runs, again, other_cell = callback(tmp_path), callback(tmp_path), callback(tmp_path, cell_of=lambda config: "other")
    other_sweep, unnamed = callback(tmp_path, sweep_id="beef"), callback(tmp_path, sweep_id=None)
    for each in (runs, again, other_cell, other_sweep, unnamed):
        each.on_trial_result(**HOOK, trial=Trial(), result=result(1000))
        each.on_trial_complete(**HOOK, trial=Trial())
        each.finish_all()
    of_the_sweep = [run.run_id for run in read(runs)]
    assert len(of_the_sweep) == 3 * 2  # two seeds: of two launches that are the same runs, and of another cell
    assert len(set(of_the_sweep)) == 2 * 2
    others = [{run.run_id for run in read(each)} for each in (other_sweep, unnamed)]
    assert [len(ids) for ids in others] == [2, 2]
    assert len(set(of_the_sweep) | others[0] | others[1]) == 8


def test_failed_trials_and_failed_seeds_end_as_failed_runs(tmp_path: Path) -> None:
    runs = callback(tmp_path)
    errored = Trial("ab123_00000", name="errored")
    nan_seed = Trial("ab123_00001", {**errored.config, "num_distractors": 0}, name="nan")
    runs.on_trial_result(**HOOK, trial=errored, result=result(1000))
    runs.on_trial_error(**HOOK, trial=errored)
    with_failure = result(1000)
    with_failure["seeds"]["seed_3"]["failed"] = 1
    runs.on_trial_result(**HOOK, trial=nan_seed, result=with_failure)
    runs.on_trial_complete(**HOOK, trial=nan_seed)
    runs.finish_all()
    codes = {(run.config["trial"], run.config["seed"]): run.exit_code for run in read(runs)}
    assert codes == {("errored", 3): 1, ("errored", 7): 1, ("nan", 3): 1, ("nan", 7): 0}


def test_values_as_wandb_takes_them() -> None:
    nested = {"a": {"b": 1, "c": {"d": np.float32(0.5)}}, "nan": math.nan, "text": "x", "none": None, "yes": True}
    assert flatten(nested) == {"a/b": 1, "a/c/d": 0.5, "yes": 1}
    assert jsonable({1: (np.int64(2), Path("x")), "f": default_cell_name}) == {
        "1": [2, "x"],
        "f": "vagram_ray.sweep.wandb.identity.default_cell_name",
    }
