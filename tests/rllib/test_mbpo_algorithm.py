"""The algorithm as an RLlib user meets it: train, evaluate, get_module, results."""

from __future__ import annotations

import math

import gymnasium as gym
import numpy as np
import pytest
import torch
from ray.rllib.callbacks.callbacks import RLlibCallback
from ray.rllib.core.columns import Columns

from vagram_ray.rllib import MBPO, MBPORLModule
from vagram_ray.rllib.results import cohort_results


def parameters_of(algo) -> torch.Tensor:
    return algo.learner.agent.actor.flat.detach().clone()


def flat(results: dict, prefix: str = "") -> dict:
    leaves = {}
    for key, value in results.items():
        leaves |= flat(value, f"{prefix}{key}/") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return leaves


def test_result_keys_are_present_and_finite(make_config, build):
    algo = build(make_config("ContinuousCartPole-v0", seeds=(3, 8), num_steps_sampled_before_learning_starts=20))
    algo.train()
    result = flat(algo.train())
    assert result["training_iteration"] == 2
    assert result["env_steps"] == 20 + 2 * 60
    assert result["num_env_steps_sampled_lifetime"] == 2 * (20 + 2 * 60)
    assert result["env_runners/num_env_steps_sampled"] == 2 * 60
    expected = [
        *(f"{section}/episode_{what}" for section in ("eval", "train") for what in ("return", "return_iqm", "length")),
        *("env_runners/episode_return_mean", "env_runners/episode_len_mean"),
        *("evaluation/env_runners/episode_return_mean", "evaluation/env_runners/episode_len_mean"),
        *("model/validation_loss", "model/rollout_length", "sac/critic_loss", "sac/alpha", "sac/real_ratio"),
        *(f"time/{part}_s" for part in ("epoch", "env", "sac", "model_fit", "rollout", "evaluation")),
        *("perf/env_steps_per_s", "perf/updates_per_s"),
    ]
    for seed in (3, 8):
        expected += [f"seeds/seed_{seed}/eval/episode_return", f"seeds/seed_{seed}/train/episode_return"]
        expected += [f"seeds/seed_{seed}/model/validation_loss", f"seeds/seed_{seed}/sac/critic_loss"]
        assert result[f"seeds/seed_{seed}/failed"] == 0
    for key in expected:
        assert math.isfinite(result[key]), key
    for section in ("eval", "train"):
        per_seed = [result[f"seeds/seed_{seed}/{section}/episode_return"] for seed in (3, 8)]
        assert result[f"{section}/episode_return"] == pytest.approx(np.mean(per_seed))
    assert result["evaluation/env_runners/episode_return_mean"] == pytest.approx(result["eval/episode_return"])


def test_evaluation_results_appear_only_where_evaluation_ran(make_config, build):
    algo = build(make_config().evaluation(evaluation_interval=2))
    for iteration in range(1, 5):
        result = flat(algo.train())
        assert any("eval/" in key for key in result) == (iteration % 2 == 0)
        assert any(key.startswith("evaluation/") for key in result) == (iteration % 2 == 0)
        assert ("time/evaluation_s" in result) == (iteration % 2 == 0)


def test_without_an_interval_evaluate_still_works(make_config, build):
    algo = build(make_config().evaluation(evaluation_interval=None))
    assert "eval" not in algo.train()
    assert math.isfinite(algo.evaluate()["eval"]["episode_return"])


def test_evaluation_plays_exactly_the_same_number_of_whole_episodes_for_every_seed(make_config, build):
    config = make_config("ContinuousCartPole-v0", seeds=(0, 1, 2)).evaluation(evaluation_duration=4)
    algo = build(config)
    algo.train()
    statistics = algo.env_runner.sample(num_episodes=4)
    assert statistics.returns.shape == statistics.lengths.shape == (3, 4)
    assert len(np.unique(statistics.lengths)) > 1  # the episodes end early, at different times
    # Cartpole pays 1 for each step: the return of a whole episode is its length.
    np.testing.assert_allclose(statistics.returns, statistics.lengths)
    result = algo.evaluate()
    assert result["env_runners"]["num_episodes"] == 12
    assert set(result["seeds"]) == {"seed_0", "seed_1", "seed_2"}


def test_evaluation_changes_nothing_in_training(make_config, build):
    with_evaluation = build(make_config(seeds=(0, 1)))
    without = build(make_config(seeds=(0, 1)).evaluation(evaluation_interval=None))
    for _ in range(2):
        with_evaluation.train()
        with_evaluation.evaluate()
        without.train()
    assert torch.equal(parameters_of(with_evaluation), parameters_of(without))


def test_evaluation_is_the_deterministic_policy_of_each_seed(make_config, build):
    algo = build(make_config("ContinuousCartPole-v0", seeds=(4, 7)))
    algo.train()
    generators = algo.env_runner.evaluation_env.get_state()
    cohort = algo.env_runner.sample(num_episodes=2)
    algo.env_runner.evaluation_env.set_state(generators)
    envs, agent = algo.env_runner.evaluation_env, algo.learner.agent
    obs, total, counts = envs.reset(), np.zeros(2), np.zeros(2, dtype=int)
    while (counts < 1).any():  # the first episode of each seed, by hand and with the agent's own act()
        step = envs.step(agent.act(obs, deterministic=True), counts < 1)
        total += step.reward
        counts += step.terminated | step.truncated
        obs = step.obs
    np.testing.assert_allclose(cohort.returns[:, 0], total)


def test_evaluation_may_have_its_own_environment_arguments(make_config, build):
    config = make_config("Hopper-v4").environment(env_config={"reset_noise_scale": 0.01})
    runner = build(config.evaluation(evaluation_config={"env_config": {"reset_noise_scale": 0.0}})).env_runner
    assert runner.env.spec.env_kwargs == {"reset_noise_scale": 0.01}
    np.testing.assert_array_equal(runner.evaluation_env.reset(), runner.evaluation_env.reset())
    assert not np.array_equal(runner.env.reset(), runner.env.reset())


def test_evaluation_with_other_observations_is_refused(make_config, build):
    overrides = {"env_config": {"exclude_current_positions_from_observation": False}}
    with pytest.raises(ValueError, match=r"evaluation_config: .*\(12,\), training has \(11,\)"):
        build(make_config("Hopper-v4").evaluation(evaluation_config=overrides))


def test_a_trial_computes_with_one_thread_per_cpu(make_config, build):
    threads = torch.get_num_threads()
    try:
        build(make_config().resources(num_cpus_for_main_process=2))
        assert torch.get_num_threads() == 2
        build(make_config())
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(threads)


def test_an_algorithm_whose_configuration_was_refused_still_has_a_name():
    assert repr(MBPO.__new__(MBPO)) == "MBPO"


def test_rllib_callbacks_are_called(make_config, build):
    calls = []

    class Recorder(RLlibCallback):
        def on_evaluate_start(self, *, algorithm, **kwargs):
            calls.append("start")

        def on_evaluate_end(self, *, algorithm, evaluation_metrics, **kwargs):
            calls.append(evaluation_metrics["env_runners"]["num_episodes"])

        def on_train_result(self, *, algorithm, result, **kwargs):
            calls.append(result["env_steps"])

    algo = build(make_config().callbacks(Recorder))
    algo.train()
    assert calls == ["start", 2, 110]


def test_a_seed_that_becomes_nan_is_reported_and_its_neighbour_goes_on(make_config, build):
    algo = build(make_config("ContinuousCartPole-v0", seeds=(0, 1)))
    alone = build(make_config("ContinuousCartPole-v0", seeds=(0,)))
    algo.train()
    alone.train()
    algo.learner.agent.actor.flat.data[1] = math.nan
    algo.train()
    result, expected = flat(algo.train()), [flat(alone.train()) for _ in range(2)][-1]
    assert result["seeds/seed_0/failed"] == 0
    assert result["seeds/seed_1/failed"] == 1
    for section in ("eval", "train"):
        assert math.isnan(result[f"seeds/seed_1/{section}/episode_return"])
        assert result[f"{section}/episode_return"] == result[f"seeds/seed_0/{section}/episode_return"]
    assert result["seeds/seed_1/train/num_episodes"] > 0  # of zero actions
    for key in ("eval/episode_return", "eval/episode_return_iqm", "sac/critic_loss"):
        assert math.isfinite(result[key])
    assert result["evaluation/env_runners/num_episodes"] == 2
    assert result["seeds/seed_0/sac/critic_loss"] == pytest.approx(expected["sac/critic_loss"], rel=1e-3)


def test_a_cohort_whose_seeds_have_all_failed_reports_nothing_but_that(make_config, build):
    algo = build(make_config())
    algo.train()
    algo.learner.agent.actor.flat.data[:] = math.nan
    result = flat(algo.train())
    assert result["seeds/seed_0/failed"] == 1
    assert math.isnan(result["eval/episode_return"])
    assert result["evaluation/env_runners/num_episodes"] == 0


def test_aggregates_by_hand():
    values = np.array([1.0, 2.0, 4.0, 100.0, math.nan])
    failed = np.array([False, False, False, False, True])
    results = cohort_results({"eval/episode_return": values, "time/sac_s": np.full(5, 3.0)}, range(5), failed)
    # The failed seed counts as the worst, 1: of 1, 1, 2, 4, 100 the middle half is 1, 2, 4.
    assert results["eval"]["episode_return"] == (1 + 1 + 2 + 4 + 100) / 5
    assert results["eval"]["episode_return_iqm"] == pytest.approx((1 + 2 + 4) / 3)
    assert results["time"] == {"sac_s": 3.0}
    assert results["seeds"]["seed_3"] == {"failed": 0, "eval": {"episode_return": 100.0}}
    assert results["seeds"]["seed_4"]["failed"] == 1
    other = cohort_results({"sac/value": values, "eval/episode_return": np.full(5, math.nan)}, range(5), failed)
    assert other["sac"]["value"] == (1 + 2 + 4 + 100) / 4  # which value is the worst, nobody knows
    assert math.isnan(other["eval"]["episode_return"])  # not evaluated


# -- the RLModule ---------------------------------------------------------------------------------------------


def test_get_module_acts_like_the_policy_in_training(make_config, build):
    algo = build(make_config())
    module = algo.get_module()
    before = module.forward_inference({Columns.OBS: torch.ones(5, 3)})[Columns.ACTIONS]
    algo.train()
    outputs = algo.get_module().forward_inference({Columns.OBS: torch.ones(5, 3)})
    actions = outputs[Columns.ACTIONS]
    assert actions.shape == (5, 1) and outputs[Columns.ACTION_DIST_INPUTS].shape == (5, 2)
    assert not torch.equal(actions, before)
    agent_action = algo.learner.agent.act(np.ones((1, 3), dtype=np.float32), deterministic=True)
    np.testing.assert_allclose(actions[0].numpy(), agent_action[0], rtol=1e-6)
    # as RLlib's connectors do it
    distribution = module.get_inference_action_dist_cls().from_logits(outputs[Columns.ACTION_DIST_INPUTS])
    torch.testing.assert_close(distribution.to_deterministic().sample(), actions)


def test_exploration_samples_the_squashed_gaussian(make_config, build):
    module = build(make_config()).get_module()
    outputs = module.forward_exploration({Columns.OBS: torch.zeros(2000, 3)})
    assert Columns.ACTIONS not in outputs
    torch.manual_seed(0)
    distribution = module.get_exploration_action_dist_cls().from_logits(outputs[Columns.ACTION_DIST_INPUTS])
    samples = distribution.sample()
    assert samples.abs().max() <= 1
    mean, log_std = outputs[Columns.ACTION_DIST_INPUTS][0]
    assert torch.atanh(samples.clamp(-0.999999, 0.999999)).mean().item() == pytest.approx(
        mean.item(), abs=5 * log_std.exp().item() / math.sqrt(2000)
    )


def test_actions_step_a_rescaled_environment(make_config, build):
    module = build(make_config()).get_module()
    env = gym.wrappers.RescaleAction(gym.make("Pendulum-v1"), np.float32(-1.0), np.float32(1.0))
    obs, _ = env.reset(seed=0)
    action = module.forward_inference({Columns.OBS: torch.from_numpy(obs)[None]})[Columns.ACTIONS][0].numpy()
    assert env.action_space.contains(action)
    env.step(action)


def test_a_cohorts_module_takes_one_batch_per_seed_and_exports_one_seed(make_config, build):
    algo = build(make_config(seeds=(5, 9), normalize_observations=True))
    algo.train()
    module = algo.get_module()
    obs = torch.randn(2, 4, 3)
    actions = module.forward_inference({Columns.OBS: obs})[Columns.ACTIONS]
    assert actions.shape == (2, 4, 1)
    for index in range(2):
        single = module.select_seed(index)
        assert single.seeds == ((5, 9)[index],)
        torch.testing.assert_close(single.forward_inference({Columns.OBS: obs[index]})[Columns.ACTIONS], actions[index])
    exported = module.select_seed(1)
    algo.train()
    kept = exported.forward_inference({Columns.OBS: obs[1]})[Columns.ACTIONS]
    torch.testing.assert_close(kept, actions[1])  # a copy: training goes on without it
    with pytest.raises(ValueError, match=r"pass \(2, B, D\), or take one seed's module with select_seed"):
        module.forward_inference({Columns.OBS: obs[0]})
    with pytest.raises(IndexError, match="seed_index=2: this module holds 2 seeds"):
        module.select_seed(2)


def test_a_module_checkpoint_can_be_loaded_alone(make_config, build, tmp_path):
    algo = build(make_config(seeds=(5, 9)))
    algo.train()
    module = algo.get_module()
    obs = torch.randn(2, 4, 3)
    expected = module.forward_inference({Columns.OBS: obs})[Columns.ACTIONS]
    module.save_to_path(tmp_path / "cohort")
    module.select_seed(1).save_to_path(tmp_path / "single")
    cohort = MBPORLModule.from_checkpoint(tmp_path / "cohort")
    single = MBPORLModule.from_checkpoint(tmp_path / "single")
    torch.testing.assert_close(cohort.forward_inference({Columns.OBS: obs})[Columns.ACTIONS], expected)
    torch.testing.assert_close(single.forward_inference({Columns.OBS: obs[1]})[Columns.ACTIONS], expected[1])
