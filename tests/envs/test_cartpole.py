"""Continuous cartpole against Gymnasium's."""

import gymnasium as gym
import numpy as np
import pytest

import vagram_ray.envs  # noqa: F401  (registers the environment)


def test_full_force_is_gymnasiums_cartpole():
    continuous, discrete = gym.make("ContinuousCartPole-v0"), gym.make("CartPole-v1")
    generator = np.random.default_rng(0)
    for episode in range(20):
        np.testing.assert_array_equal(continuous.reset(seed=episode)[0], discrete.reset(seed=episode)[0])
        terminated = False
        while not terminated:
            push = int(generator.integers(2))
            seen = continuous.step(np.array([2.0 * push - 1.0], dtype=np.float32))
            expected = discrete.step(push)
            np.testing.assert_array_equal(seen[0], expected[0])
            assert seen[1:3] == expected[1:3]
            terminated = expected[2]


def test_force_is_proportional_and_clipped():
    def velocity_after(action):
        env = gym.make("ContinuousCartPole-v0").unwrapped
        env.reset(seed=0)
        env.state = np.zeros(4)
        return env.step(np.array([action], dtype=np.float32))[0][1]

    # Upright and at rest, with cart and pole of 1.1 kg in all, the pole of 0.1 kg: F / M (1 + m / (M (4/3 - m / M))).
    acceleration_at_10_newton = 10 / 1.1 * (1 + 0.1 / (1.1 * (4 / 3 - 0.1 / 1.1)))
    assert velocity_after(0.0) == 0.0
    assert velocity_after(1.0) == pytest.approx(0.02 * acceleration_at_10_newton, rel=1e-6)
    assert velocity_after(0.5) == pytest.approx(0.01 * acceleration_at_10_newton, rel=1e-6)
    assert velocity_after(-3.0) == velocity_after(-1.0) == -velocity_after(1.0)


def test_truncates_after_200_steps():
    env = gym.make("ContinuousCartPole-v0")
    env.reset(seed=0)
    for step in range(200):
        env.unwrapped.state = np.zeros(4)
        _, reward, terminated, truncated, _ = env.step(np.zeros(1, dtype=np.float32))
        assert reward == 1.0 and not terminated and truncated == (step == 199)


def test_step_before_reset_is_refused():
    with pytest.raises(RuntimeError, match="call reset"):
        gym.make("ContinuousCartPole-v0").unwrapped.step(np.zeros(1, dtype=np.float32))
