import io
import subprocess
import sys

import numpy as np
import pytest
import torch

from tests.core.toy import PointEnvs, cliff_termination, small_agent, small_settings
from vagram_ray.core.evaluation import evaluate
from vagram_ray.core.mbpo import MBPOAgent

NORMALIZED = dict(prediction_target="next_obs", normalize_dynamics_targets=True, normalize_reward_targets=True)


def flatten(state, prefix=""):
    if isinstance(state, dict):
        return {k: v for key, value in state.items() for k, v in flatten(value, f"{prefix}{key}/").items()}
    if isinstance(state, list):
        return {k: v for i, value in enumerate(state) for k, v in flatten(value, f"{prefix}{i}/").items()}
    return {prefix: state}


def assert_same_state(first, second):
    first, second = flatten(first), flatten(second)
    assert first.keys() == second.keys()
    for key, value in first.items():
        same = torch.equal(value, second[key]) if isinstance(value, torch.Tensor) else value == second[key]
        assert same, key


def saved(agent):
    """The state as a checkpoint holds it: through torch.save and a loader that executes nothing."""
    buffer = io.BytesIO()
    torch.save(agent.state_dict(), buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=True)


def test_one_transition_is_no_scale():
    agent = small_agent(model_loss="none", normalize_observations=True, num_steps_sampled_before_learning_starts=0)
    scale, seen = agent.actor.scale, []
    improve = agent._improve_policy
    agent._improve_policy = lambda metrics: (
        seen.append((scale.obs_mean.clone(), scale.obs_std.clone())),
        improve(metrics),
    )
    agent.train_epoch(PointEnvs([0, 1]))
    mean, std = seen[0]
    assert not mean.any() and (std == 1).all()
    mean, std = seen[-1]
    assert mean.any() and (std[..., 0] != 1).all()


@pytest.mark.parametrize("loss", ["vagram", "nll", "none"])
def test_same_seeds_twice_give_the_same_numbers(loss):
    agents = []
    for _ in range(2):
        agent, envs = small_agent(model_loss=loss), PointEnvs([0, 1])
        for _ in range(2):
            agent.train_epoch(envs)
        agents.append(agent)
    assert_same_state(agents[0].state_dict(), agents[1].state_dict())


@pytest.mark.parametrize("loss", ["vagram", "nll", "none"])
def test_a_seed_in_a_cohort_equals_the_same_seed_alone(loss):
    overrides = dict(model_loss=loss, epoch_length=30, model_max_epochs=3)
    cohort, alone = small_agent((5, 2), **overrides), small_agent((2,), **overrides)
    cohort_metrics = cohort.train_epoch(PointEnvs([5, 2]))
    own_metrics = alone.train_epoch(PointEnvs([2]))
    np.testing.assert_allclose(cohort.actor.flat[1].detach(), alone.actor.flat[0].detach(), atol=1e-4, rtol=1e-3)
    np.testing.assert_allclose(cohort.replay.rows[1], alone.replay.rows[0], atol=1e-4, rtol=1e-3)
    for key, value in own_metrics.items():
        if not key.startswith("time/"):
            np.testing.assert_allclose(cohort_metrics[key][1], value[0], rtol=2e-2, atol=1e-3, err_msg=key)


@pytest.mark.parametrize("targets", [{}, NORMALIZED], ids=["plain", "normalised"])
@pytest.mark.parametrize("loss", ["vagram", "mse", "nll", "none"])
def test_epochs_saved_and_restored_equal_epochs_run_through(loss, targets):
    through, envs = small_agent(model_loss=loss, **targets), PointEnvs([0, 1])
    through.train_epoch(envs)
    state = saved(through)
    generators = [generator.bit_generator.state for generator in envs.generators]
    resumed, resumed_envs = small_agent(model_loss=loss, **targets), PointEnvs([0, 1])
    resumed.load_state_dict(state)
    for generator, saved_state in zip(resumed_envs.generators, generators, strict=True):
        generator.bit_generator.state = saved_state
    for _ in range(2):
        expected, metrics = through.train_epoch(envs), resumed.train_epoch(resumed_envs)
    assert_same_state(through.state_dict(), resumed.state_dict())
    for key, value in expected.items():
        if not key.startswith("time/"):
            np.testing.assert_array_equal(metrics[key], value, err_msg=key)


def test_evaluation_changes_nothing_in_training():
    plain, evaluated = small_agent(), small_agent()
    plain_envs, envs = PointEnvs([0, 1]), PointEnvs([0, 1])
    for _ in range(2):
        plain.train_epoch(plain_envs)
        evaluated.train_epoch(envs)
        evaluate(lambda obs: evaluated.act(obs, deterministic=True), PointEnvs([7, 8]), 2)
    assert_same_state(plain.state_dict(), evaluated.state_dict())


def test_other_cohorts_and_models_are_refused_on_restore():
    state = small_agent((0, 1)).state_dict()
    with pytest.raises(ValueError, match=r"seeds \(0, 1\), this cohort has \(0, 2\)"):
        small_agent((0, 2)).load_state_dict(state)
    with pytest.raises(ValueError, match="with a dynamics model, but model_loss='none'"):
        small_agent((0, 1), model_loss="none").load_state_dict(state)


def test_a_model_of_other_targets_is_refused_on_restore_and_nothing_has_changed_then():
    trained, other = small_agent(**NORMALIZED, epoch_length=2, model_max_epochs=1), small_agent()
    trained.train_epoch(PointEnvs([0, 1]))
    before = saved(other)
    with pytest.raises(ValueError, match="fitted with prediction_target='next_obs'"):
        other.load_state_dict(saved(trained))
    assert_same_state(before, saved(other))


def test_environment_steps_and_updates_are_counted():
    agent = small_agent(model_loss="none")
    metrics = agent.train_epoch(PointEnvs([0, 1]))
    assert agent.env_steps == 100 + 60  # warm-up and one epoch
    assert len(agent.replay) == 160
    assert metrics["sac/num_updates"].tolist() == [120, 120]
    assert metrics["train/num_episodes"].tolist() == [3, 3]  # 60 steps in episodes of 20
    assert metrics["train/episode_length"].tolist() == [20, 20]


def test_schedules_in_use_are_reported():
    agent, envs = small_agent(rollout_length=(0, 2, 1, 3), real_ratio=(0, 2, 1.0, 0.25)), PointEnvs([0, 1])
    seen = [agent.train_epoch(envs) for _ in range(4)]
    assert [m["model/rollout_length"][0] for m in seen] == [1, 2, 3, 3]
    assert [m["sac/real_ratio"][0] for m in seen] == [1.0, 0.625, 0.25, 0.25]  # of batches of 64
    # All rollouts of one epoch are retained: 3 fits with 5 * 20 rollouts of length 3.
    assert seen[-1]["model/imagined_transitions"].tolist() == [900, 900]


def test_truncation_is_not_stored_as_termination():
    agent = small_agent(model_loss="none", epoch_length=40)
    agent.train_epoch(PointEnvs([0, 1]))
    assert (agent.replay.layout.split(agent.replay.rows).terminated == 0).all()


def test_termination_is_stored():
    agent = small_agent(model_loss="none", num_steps_sampled_before_learning_starts=400)
    agent.train_epoch(PointEnvs([0, 1], cliff=True))
    stored = agent.replay.layout.split(agent.replay.rows)
    assert torch.equal(stored.terminated > 0, cliff_termination(stored.obs, stored.action, stored.next_obs))
    assert (stored.terminated > 0).any()


def test_a_nan_seed_is_reported_frozen_and_alone_in_its_trouble():
    sick, healthy = small_agent(), small_agent()
    sick_envs, healthy_envs = PointEnvs([0, 1]), PointEnvs([0, 1])
    sick.train_epoch(sick_envs)
    healthy.train_epoch(healthy_envs)
    with torch.no_grad():
        sick.sac.critic.network.flat[0] = float("nan")  # the first critic of seed 0
    sick.train_epoch(sick_envs)
    healthy.train_epoch(healthy_envs)
    assert sick.failed.tolist() == [True, False]
    torch.testing.assert_close(sick.actor.flat[1], healthy.actor.flat[1], atol=1e-5, rtol=1e-4)
    frozen = sick.actor.flat[0].detach().clone()
    sick.train_epoch(sick_envs)
    assert torch.equal(sick.actor.flat[0].nan_to_num(), frozen.nan_to_num())
    assert saved(sick)["failed"] == [True, False]


def test_the_published_codes_exploration_is_the_mean_action():
    agent = small_agent(explore="mean", model_loss="none", num_steps_sampled_before_learning_starts=0, epoch_length=1)
    obs = np.array([[0.3, 1.0], [0.5, 1.0]], dtype=np.float32)
    expected = agent.act(obs, deterministic=True)
    np.testing.assert_array_equal(agent.act(obs, deterministic=True), expected)
    envs = PointEnvs([0, 1])
    start = PointEnvs([0, 1]).reset()
    mean = agent.act(start, deterministic=True)
    agent.train_epoch(envs)
    np.testing.assert_array_equal(agent.replay.layout.split(agent.replay.rows).action[:, 0].numpy(), mean)


def test_a_model_without_a_termination_function_is_refused():
    with pytest.raises(ValueError, match="termination function"):
        MBPOAgent(small_settings(), seeds=[0], obs_dim=2, action_dim=1, termination=None)


@pytest.mark.parametrize(
    ("loss", "targets"), [*((loss, {}) for loss in ("vagram", "nll", "mse", "none")), ("vagram", NORMALIZED)]
)
def test_the_toy_task_is_learned(loss, targets):
    """From anywhere in [-0.8, 0.8] the best policy reaches 0 in at most 4 steps; doing nothing costs 4.3 on average."""
    agent, envs = small_agent(seeds=(0, 1, 2), model_loss=loss, utd_ratio=4, **targets), PointEnvs([0, 1, 2])
    for _ in range(6):
        agent.train_epoch(envs)
    statistics = evaluate(lambda obs: agent.act(obs, deterministic=True), PointEnvs([10, 11, 12]), 10)
    assert (statistics.returns.mean(axis=1) > -1.5).all(), statistics.returns.mean(axis=1)


def test_core_imports_neither_ray_nor_wandb_nor_gymnasium():
    code = (
        "import sys, vagram_ray.core.mbpo, vagram_ray.core.evaluation;"
        "print([name for name in ('ray', 'wandb', 'gymnasium', 'vagram_ray.envs') if name in sys.modules])"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.strip() == "[]"
