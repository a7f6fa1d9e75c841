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
from vagram_ray.rllib.checkpointing import CHECKPOINT_ERROR, EARLIER_RESULTS, TrialCheckpoints


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
    return sorted(int(path.name[-6:]) for path in (folder / "trial").glob("checkpoint_*"))


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
    (tmp_path / "trial" / "checkpoint_000003" / "agent.safetensors").write_bytes(b"garbage")
    second = trial(every=1)
    assert "passed over" in caplog.text
    results = [second.train() for _ in range(2)]
    assert [result["training_iteration"] for result in results] == [2, 3]
    np.testing.assert_equal([result["seeds"] for result in results], expected[1:])


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
    with pytest.raises(ValueError, match=r"other settings \(actor_lr=0.0003 there and 0.01 here\)"):
        trial(every=1, actor_lr=0.01)


def test_where_it_runs_and_how_often_it_saves_may_change(trial, make_config, build, tmp_path):
    trial(every=1).train()
    algo = build(make_config(seeds=(3, 5)).learners(num_cpus_per_learner=1).checkpointing(checkpoints_kept=5))
    algo._storage = Storage(tmp_path / "trial")
    algo._checkpoint_own_trial("auto")
    assert algo.train()["training_iteration"] == 1


def test_the_last_epoch_is_saved_whatever_the_interval(monkeypatch):
    own = TrialCheckpoints(LocalFileSystem(), "/nowhere", every=4, keep=2, last_epoch=10)
    assert [epoch for epoch in range(1, 11) if own._due(epoch)] == [4, 8, 10]


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


def test_steps_of_an_algorithm_outside_of_tune_have_no_limit(build, make_config):
    algo = build(make_config())
    assert algo.env_runner._watchdog is None
    limited = build(make_config().environment(env_step_time_limit_s=50))
    watchdog = limited.env_runner._watchdog
    assert watchdog.limit_s == 50
    assert limited.env_runner.env.guard == limited.env_runner.evaluation_env.guard == watchdog.guard
