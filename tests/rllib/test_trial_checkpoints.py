"""A Tune trial that checkpoints itself goes on by itself, wherever and however its process starts again."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyarrow.fs import LocalFileSystem
from ray import tune

from vagram_ray.checkpoint import history as history_module
from vagram_ray.rllib import MBPO, checkpointing
from vagram_ray.rllib.checkpointing import CHECKPOINT_ERROR, EARLIER_RESULTS, OWN_FOLDER, TrialCheckpoints


class Storage:
    """What Tune gives a trial: where its folder is."""

    def __init__(self, path: Path) -> None:
        path.mkdir(exist_ok=True)
        self.storage_filesystem, self.trial_fs_path = LocalFileSystem(), str(path)

    def persist_artifacts(self) -> None:
        """Nothing."""


@pytest.fixture
def trial(make_config, build, tmp_path):
    """Starts the process of a trial whose folder is ``tmp_path / "trial"``, as far as the algorithm can tell."""

    def start(every: Any = 2, **settings: Any) -> MBPO:
        algo = build(make_config(seeds=(3, 5), **settings))
        algo._storage = Storage(tmp_path / "trial")
        algo._checkpoint_own_trial(every)
        return algo

    return start


def saved_epochs(folder: Path) -> list[int]:
    return sorted(int(path.name[-6:]) for path in (folder / "trial" / OWN_FOLDER).glob("checkpoint_*"))


def test_a_new_process_repeats_the_last_result_and_goes_on(trial, tmp_path):
    straight = trial(every=100)
    expected = [straight.train() for _ in range(5)]
    first = trial()
    for _ in range(3):
        first.train()
    assert saved_epochs(tmp_path) == [2]
    second = trial()  # the process died in epoch 4; epoch 3 is done again
    results = [second.train() for _ in range(4)]
    assert [result["training_iteration"] for result in results] == [2, 3, 4, 5]
    for result, wanted in zip(results, expected[1:], strict=True):
        for key in ("seeds", "env_steps", "train", "eval", "model", "sac"):
            np.testing.assert_equal(result[key], wanted[key])
    assert results[0]["time_total_s"] == pytest.approx(sum(r["time_this_iter_s"] for r in results[:1]), abs=60)
    assert saved_epochs(tmp_path) == [2, 4]


def test_the_repeated_result_brings_all_before_it(trial):
    first = trial(every=3)
    expected = [first.train() for _ in range(3)]
    repeated, after = (second := trial(every=3)).train(), second.train()
    assert [earlier["training_iteration"] for earlier in repeated[EARLIER_RESULTS]] == [1, 2]
    for earlier, wanted in zip(repeated[EARLIER_RESULTS], expected, strict=False):
        np.testing.assert_equal(earlier["seeds"], wanted["seeds"])
        assert earlier["env_steps"] == wanted["env_steps"]
    assert EARLIER_RESULTS not in after


def test_the_time_of_a_run_goes_on(trial):
    first = trial(every=1)
    total = [first.train() for _ in range(2)][-1]["time_total_s"]
    second = trial(every=1)
    repeated, after = second.train(), second.train()
    assert repeated["time_total_s"] == pytest.approx(total, abs=0.5)
    assert after["time_total_s"] == pytest.approx(repeated["time_total_s"] + after["time_this_iter_s"])


def test_a_damaged_checkpoint_costs_its_epochs_alone(trial, tmp_path, caplog):
    first = trial(every=1)
    expected = [first.train()["seeds"] for _ in range(3)]
    (tmp_path / "trial" / OWN_FOLDER / "checkpoint_000003" / "agent.safetensors").write_bytes(b"garbage")
    second = trial(every=1)
    assert "passed over" in caplog.text
    results = [second.train() for _ in range(2)]
    assert [result["training_iteration"] for result in results] == [2, 3]
    np.testing.assert_equal([result["seeds"] for result in results], expected[1:])


def test_a_trial_that_is_stopped_early_is_told_to_save_its_newest_epoch(make_config, build, tmp_path):
    algo = build(make_config(seeds=(3, 5)).checkpointing(checkpoint_folder=str(tmp_path / "own")))
    algo._storage = Storage(tmp_path / "tunes")
    algo._checkpoint_own_trial(2)
    straight = [algo.train() for _ in range(3)][-1]
    for _ in range(2):  # the second has nothing to do
        assert algo.save().checkpoint is None
    assert sorted(path.name for path in (tmp_path / "own").glob("checkpoint_*"))[-1] == "checkpoint_000003"
    assert not any((tmp_path / "tunes").iterdir())
    again = build(make_config(seeds=(3, 5)).checkpointing(checkpoint_folder=str(tmp_path / "own")))
    again._storage = Storage(tmp_path / "tunes")
    again._checkpoint_own_trial(2)
    repeated = again.train()
    np.testing.assert_equal(repeated["seeds"], straight["seeds"])
    for key in ("training_iteration", "time_total_s"):
        assert repeated[key] == pytest.approx(straight[key], abs=0.5)
    np.testing.assert_equal(again.train()["seeds"], algo.train()["seeds"])


def test_a_full_disk_stops_nothing_but_checkpoints(trial, tmp_path, monkeypatch):
    algo = trial(every=1)
    algo.train()

    def full(*args: Any, **kwargs: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(history_module, "write_checkpoint", full)
    result = algo.train()
    assert result[CHECKPOINT_ERROR] == "The checkpoint after epoch 2 could not be written: No space left on device."
    monkeypatch.undo()
    assert CHECKPOINT_ERROR not in algo.train()
    assert saved_epochs(tmp_path) == [1, 3]


def test_other_settings_are_refused_with_the_difference(trial):
    trial(every=1).train()
    other = trial(every=1, actor_lr=0.01)
    with pytest.raises(ValueError, match=r"other settings \(actor_lr=0.0003 there and 0.01 here\)"):
        other.train()


def test_another_trials_checkpoint_is_gone_on_from_with_other_settings(trial, make_config, build, tmp_path):
    """As PBT does it: a process with new settings in the trial's own folder, then the better trial's checkpoint."""
    own = trial(every=1)
    for _ in range(3):
        own.train()
    better = build(make_config(seeds=(3, 5), critic_lr=1e-2))
    for _ in range(2):
        better.train()
    path = better.save_to_path(tmp_path / "better")
    exploiting, straight = trial(every=1, actor_lr=0.01), build(make_config(seeds=(3, 5), actor_lr=0.01))
    for algo in (exploiting, straight):
        algo.restore_from_path(path)
    result, expected = exploiting.train(), straight.train()
    assert result["training_iteration"] == 3
    np.testing.assert_equal(result["seeds"], expected["seeds"])
    assert saved_epochs(tmp_path) == [2, 3]
    resumed = trial(every=1, actor_lr=0.01)
    repeated = resumed.train()
    np.testing.assert_equal(repeated["seeds"], expected["seeds"])
    assert [earlier["training_iteration"] for earlier in repeated[EARLIER_RESULTS]] == [1, 2]
    np.testing.assert_equal(resumed.train()["seeds"], straight.train()["seeds"])


def test_later_checkpoints_of_a_run_that_was_set_back_are_gone(trial, tmp_path):
    algo = trial(every=1)
    algo.train()
    path = algo.save_to_path(tmp_path / "first")
    algo.train()
    algo.train()
    algo.restore_from_path(path)
    algo.train()
    assert saved_epochs(tmp_path) == [2]
    assert trial(every=1).train()["training_iteration"] == 2


@pytest.mark.parametrize(
    ("settings", "difference"),
    [
        ({"hidden_size": 8}, "hidden_size=16 there and 8 here"),
        ({"actor_hidden_sizes": (8, 8)}, r"actor_hidden_sizes=\[32, 32\] there and \[8, 8\] here"),
        ({"ensemble_size": 4, "num_elites": 3}, "ensemble_size=3 there and 4 here, num_elites=2 there and 3 here"),
        ({"model_loss": "nll"}, "model_loss='vagram' there and 'nll' here"),
        ({"normalize_observations": True}, "normalize_observations=False there and True here"),
    ],
)
def test_networks_of_other_settings_are_refused_by_the_setting(make_config, build, tmp_path, settings, difference):
    path = build(make_config()).save_to_path(tmp_path / "checkpoint")
    with pytest.raises(ValueError, match=rf"does not fit, because its networks are others \({difference}\)"):
        build(make_config(**settings)).restore_from_path(path)


def test_settings_that_networks_do_not_keep_may_change(make_config, build, tmp_path):
    """All but those marked in ``MBPOSettings``: with each of them the next epoch runs."""
    algo = build(make_config(rollout_length=(0, 0, 2, 2)))
    algo.train()
    path = algo.save_to_path(tmp_path / "checkpoint")
    others = {
        "gamma": 0.5, "actor_lr": 1e-2, "critic_lr": 1e-2, "alpha_lr": 1e-2, "model_lr": 1e-2, "tau": 0.5,
        "utd_ratio": 2, "train_batch_size_per_learner": 16, "target_entropy": -2.0, "actor_update_period": 2,
        "target_update_period": 2, "model_loss": "mse", "model_batch_size": 16, "model_max_epochs": 1,
        "rollouts_per_step": 2, "rollout_length": (0, 0, 1, 1), "real_ratio": (0, 0, 0.2, 0.2), "epoch_length": 30,
        "model_train_freq": 10, "imagined_epochs_retained": 2, "replay_capacity": 200, "explore": "mean",
        "validation_fraction": 0.5, "value_gradient_clip_percentile": 50.0, "model_weight_decay": 0.0,
        "early_stopping_metric": "squared_error", "rollout_truncation": "disagreement",
    }  # fmt: skip
    changed = build(make_config(**others))
    changed.restore_from_path(path)
    result = changed.train()
    assert result["training_iteration"] == 2 and result["env_steps"] == 140
    assert result["seeds"]["seed_0"]["failed"] == 0
    assert {name: getattr(changed.learner.agent.settings, name) for name in others} == others


def test_where_it_runs_and_how_often_it_saves_may_change(trial, make_config, build, tmp_path):
    trial(every=1).train()
    algo = build(make_config(seeds=(3, 5)).learners(num_cpus_per_learner=1).checkpointing(checkpoints_kept=5))
    algo._storage = Storage(tmp_path / "trial")
    algo._checkpoint_own_trial("auto")
    assert algo.train()["training_iteration"] == 1


def test_the_last_epoch_is_saved_whatever_the_interval(monkeypatch):
    own = TrialCheckpoints(LocalFileSystem(), "/nowhere", every=4, keep=2, last_epoch=10)
    assert [epoch for epoch in range(1, 11) if own._due(epoch)] == [4, 8, 10]


def test_the_epochs_that_are_kept_are_saved_whatever_the_interval(make_config):
    own = TrialCheckpoints(LocalFileSystem(), "/nowhere", every=4, keep="every 5 epochs", last_epoch=None)
    assert [epoch for epoch in range(1, 11) if own._due(epoch)] == [4, 5, 8, 10]
    config = make_config().checkpointing(checkpoints_kept="every five")
    with pytest.raises(ValueError, match=r"checkpoints_kept='every five' is not usable: give how many"):
        config.validate()


def test_auto_spends_at_most_its_share_of_the_time(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(checkpointing.time, "monotonic", lambda: now[0])
    own = TrialCheckpoints(LocalFileSystem(), "/nowhere", every="auto", keep=2, last_epoch=None)

    def due_after() -> float:
        own._last_saved = now[0]
        while not own._due(1):
            now[0] += 1.0
        return now[0] - own._last_saved

    assert due_after() == 60.0  # a cheap one: every minute
    own._last_cost = 6.0
    assert due_after() == 300.0  # 6 s are 2 % of 300 s


def test_a_new_sweep_of_the_same_trial_goes_on(make_config, build, tmp_path):
    """With real Tune: a second experiment over the same folder takes the trial up where the first ended."""

    def fit(epochs: int, storage: Path) -> Any:
        config = make_config(seeds=(1,)).checkpointing(checkpoint_every=2, checkpoint_last_epoch=epochs)
        tuner = tune.Tuner(
            MBPO,
            param_space=config,
            run_config=tune.RunConfig(
                name="sweep",
                storage_path=str(storage),
                stop={"training_iteration": epochs},
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
                verbose=0,
            ),
            tune_config=tune.TuneConfig(trial_dirname_creator=lambda trial: "trial"),
        )
        [result] = tuner.fit()
        return result.metrics

    assert fit(3, tmp_path / "a")["training_iteration"] == 3
    assert saved_epochs(tmp_path / "a" / "sweep") == [2, 3]
    straight = build(make_config(seeds=(1,)))  # without Tune, in this process
    continued, expected = fit(5, tmp_path / "a"), [straight.train() for _ in range(5)][-1]
    np.testing.assert_equal(continued["seeds"], expected["seeds"])
    assert continued["training_iteration"] == 5 and continued["iterations_since_restore"] == 3


def test_a_trial_of_an_earlier_version_goes_on_where_its_checkpoints_lie(trial, tmp_path):
    """They lay beside Tune's own, which have other numbers."""
    trial(every=1).train()
    for path in (tmp_path / "trial" / OWN_FOLDER).iterdir():
        path.rename(tmp_path / "trial" / path.name)
    (tmp_path / "trial" / OWN_FOLDER).rmdir()
    algo = trial(every=1)
    assert [algo.train()["training_iteration"] for _ in range(2)] == [1, 2]
    assert {path.name for path in (tmp_path / "trial").glob("checkpoint_*")} == {
        "checkpoint_000001",
        "checkpoint_000002",
    }


def test_steps_of_an_algorithm_outside_of_tune_have_no_limit(build, make_config):
    algo = build(make_config())
    assert algo.env_runner._watchdog is None
    limited = build(make_config().environment(env_step_time_limit_s=50))
    watchdog = limited.env_runner._watchdog
    assert watchdog.limit_s == 50
    assert limited.env_runner.env.guard == limited.env_runner.evaluation_env.guard == watchdog.guard
