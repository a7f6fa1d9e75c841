"""Tasks of dm_control against dm_control itself; those of our own wrappers need no extra."""

from __future__ import annotations

import json
import sys
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

from vagram_ray.envs import EnvironmentSpec, EnvironmentSpecError, SeedVectorEnv, dm_control, never_terminates
from vagram_ray.envs.terminations import termination_function

TASKS = ("cartpole-swingup", "hopper-hop", "walker-walk", "cheetah-run", "humanoid-walk")


@pytest.fixture
def _suite() -> None:
    try:
        dm_control.register("dm_control/hopper-hop-v0")
    except EnvironmentSpecError as error:
        pytest.skip(f"needs the extra dmc: {error}")


def test_an_action_is_repeated_to_the_end_of_the_episode() -> None:
    once = gym.make("Pendulum-v1", max_episode_steps=5)
    repeated = dm_control.ActionRepeat(gym.make("Pendulum-v1", max_episode_steps=5), 2)
    once.reset(seed=3), repeated.reset(seed=3)
    for action, singles in ((0.5, 2), (-1.0, 2), (2.0, 1)):
        taken = [once.step(np.array([action], np.float32)) for _ in range(singles)]
        obs, reward, terminated, truncated, _ = repeated.step(np.array([action], np.float32))
        np.testing.assert_array_equal(obs, taken[-1][0])
        assert reward == pytest.approx(sum(float(each[1]) for each in taken))
        assert (terminated, truncated) == (False, singles == 1)
    assert repeated.dt == pytest.approx(0.1)


def test_tasks_of_the_suite_never_terminate_but_for_lqr() -> None:
    for task in TASKS:
        assert termination_function(f"dm_control/{task}-v0") is never_terminates
    with pytest.raises(EnvironmentSpecError, match="no termination function is known"):
        termination_function("dm_control/lqr-lqr_2_1-v0")


@pytest.mark.parametrize("count", [0, 1.5, True, "2", 1001])
def test_a_count_that_is_none_is_refused(count: Any) -> None:
    with pytest.raises(EnvironmentSpecError, match=r"action_repeat=.* must be a whole number from 1 to 1,000"):
        dm_control.action_repeat({"action_repeat": count})


def test_a_missing_package_is_named_with_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "dm_control.suite", None)
    with pytest.raises(EnvironmentSpecError, match=r"needs dm_control and shimmy .*pip install 'vagram_ray\[dmc\]'"):
        EnvironmentSpec("dm_control/hopper-hop-v0").validate()


@pytest.mark.usefixtures("_suite")
@pytest.mark.parametrize("task", TASKS)
def test_a_task_is_the_suites_with_two_controls_per_step(task: str) -> None:
    from dm_control import suite

    spec = EnvironmentSpec(f"dm_control/{task}-v0")
    env = spec.make(0)
    env.reset(seed=7)
    domain, name = task.split("-")
    own = suite.load(domain, name)
    own.task._random.seed(7)
    time_step = own.reset()
    generator = np.random.default_rng(0)
    for _ in range(499):
        action = generator.uniform(-1, 1, env.action_space.shape)
        obs, reward, terminated, truncated, _ = env.step(action)
        rewards = []
        for _ in range(2):
            time_step = own.step(action)
            rewards.append(time_step.reward)
        parts = [np.ravel(time_step.observation[key]) for key in sorted(time_step.observation)]
        np.testing.assert_array_equal(obs, np.concatenate(parts))
        assert reward == pytest.approx(sum(rewards)) and not (terminated or truncated)
    assert env.step(action)[2:4] == (False, True)
    assert spec.max_episode_steps == 500 and spec.dimensions()[0] == len(obs)
    own.close()


@pytest.mark.usefixtures("_suite")
def test_episodes_after_a_restored_state_are_those_that_would_have_come() -> None:
    spec = EnvironmentSpec("dm_control/walker-walk-v0", env_kwargs={"max_episode_steps": 30})
    envs, restored = SeedVectorEnv(spec, (0, 1)), SeedVectorEnv(spec, (0, 1))
    envs.reset()
    for _ in range(70):
        envs.step(np.full((2, 6), 0.3, np.float32))
    restored.set_state(json.loads(json.dumps(envs.get_state())))
    np.testing.assert_array_equal(envs.reset(), restored.reset())
    for _ in range(70):
        one, other = (each.step(np.full((2, 6), -0.2, np.float32)) for each in (envs, restored))
        np.testing.assert_array_equal(one.obs, other.obs)
        np.testing.assert_array_equal(one.reward, other.reward)
    assert torch.is_tensor(spec.termination()(torch.zeros(2, 24), torch.zeros(2, 6), torch.zeros(2, 24)))
