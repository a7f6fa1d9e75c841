"""``tune.Tuner("MBPO")``: trials are processes of their own."""

from __future__ import annotations

import math
import sys

import pytest
from pyarrow.fs import LocalFileSystem
from ray import tune
from ray.rllib.callbacks.callbacks import RLlibCallback
from ray.tune.schedulers import PopulationBasedTraining

from vagram_ray.checkpoint import newest_whole
from vagram_ray.rllib.checkpointing import OWN_FOLDER


def test_tuner_runs_a_grid_and_its_checkpoints_can_be_trained_on(make_config, ray_session, tmp_path):
    from vagram_ray.rllib import MBPO

    (tmp_path / "my_losses.py").write_text(
        "from vagram_ray.core.model_losses import register_model_loss\n"
        "@register_model_loss('reward_only')\n"
        "def reward_only(prediction, target):\n"
        "    return (prediction.reward - target.reward).square()\n"
    )
    config = make_config(
        seeds=(0, 1),
        model_loss=tune.grid_search(["reward_only", "none"]),
        extensions=str(tmp_path / "my_losses.py"),
    ).environment(num_distractors=1)
    results = tune.Tuner(
        "MBPO",
        param_space=config,
        tune_config=tune.TuneConfig(metric="eval/episode_return", mode="max"),
        run_config=tune.RunConfig(
            name="grid",
            storage_path=str(tmp_path / "results"),
            stop={"training_iteration": 2},
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=True),
            log_to_file=True,
            verbose=0,
        ),
    ).fit()
    assert not results.errors
    assert {result.config["model_loss"] for result in results} == {"reward_only", "none"}
    for result in results:
        assert result.metrics["env_steps"] == 170
        assert math.isfinite(result.metrics["seeds"]["seed_1"]["eval"]["episode_return"])
        assert ("model" in result.metrics) == (result.config["model_loss"] != "none")
    stdout = sys.stdout
    algo = MBPO.from_checkpoint(results.get_best_result().checkpoint)
    try:
        assert sys.stdout is stdout, "the loaded algorithm writes into the trial's log"
        assert algo.train()["training_iteration"] == 3
    finally:
        algo.stop()


def test_pbt_goes_on_with_other_step_sizes_beside_a_trials_own_checkpoints(make_config, ray_session, tmp_path):
    """The trial that is worse takes over the better one's state and goes on with a changed step size."""
    scheduler = PopulationBasedTraining(
        time_attr="training_iteration", metric="score", mode="max", perturbation_interval=2, quantile_fraction=0.5,
        synch=True,  # else the worse one may be at its end before the better one has reported
        resample_probability=0.0, custom_explore_fn=lambda config: config | {"actor_lr": 0.5},
        hyperparam_mutations={"actor_lr": [1e-4, 1e-3]},
    )  # fmt: skip

    class Scored(RLlibCallback):
        def on_train_result(self, *, algorithm, result, **given):
            result["score"] = -algorithm.config.actor_lr if algorithm.config.actor_lr < 0.1 else -1.0
            result["actor_lr"] = algorithm.learner.agent.sac.actor_optimizer.lr

    config = make_config(seeds=(0,), actor_lr=tune.grid_search([1e-4, 1e-3])).callbacks(Scored)
    results = tune.Tuner(
        "MBPO",
        param_space=config.checkpointing(checkpoint_every=1, checkpoint_last_epoch=5),
        tune_config=tune.TuneConfig(scheduler=scheduler),
        run_config=tune.RunConfig(
            name="pbt", storage_path=str(tmp_path / "results"), stop={"training_iteration": 5}, verbose=0
        ),
    ).fit()
    assert not results.errors
    assert [result.metrics["training_iteration"] for result in results] == [5, 5]
    kept, mutated = sorted(results, key=lambda result: result.metrics["actor_lr"])
    assert (kept.metrics["actor_lr"], mutated.metrics["actor_lr"]) == (1e-4, 0.5)
    newest = newest_whole(LocalFileSystem(), f"{mutated.path}/{OWN_FOLDER}")
    assert newest is not None and newest.read_config()["settings"]["actor_lr"] == 0.5


def test_unknown_keys_stop_the_tuner_before_any_trial(make_config, ray_session, tmp_path):
    space = make_config().to_dict() | {"hiden_size": 8}
    tuner = tune.Tuner("MBPO", param_space=space, run_config=tune.RunConfig(storage_path=str(tmp_path), verbose=0))
    with pytest.raises(Exception, match=r"'hiden_size' .did you mean 'hidden_size'"):
        tuner.fit()
