"""The distractor processes against their equations, written out by hand."""

import json
import math

import gymnasium as gym
import numpy as np
import pytest

from vagram_ray.envs import DistractorObservation, EnvironmentSpec, EnvironmentSpecError


def pendulum(num_distractors, **arguments):
    return DistractorObservation(gym.make("Pendulum-v1"), num_distractors, **arguments)


def roll(env, steps, seed=None):
    """Distractors, float64, of the first observation and of the `steps` that follow."""
    env.reset(seed=seed)
    states = [env.distractors]
    for _ in range(steps):
        env.step(np.zeros(1, dtype=np.float32))
        states.append(env.distractors)
    return np.array(states)


def test_paper_process_is_equation_18_step_by_step():
    env = pendulum(3, seed=7)
    matrix, start = env.constants["A"].tolist(), env.constants["d_0"].tolist()
    seen = roll(env, 30, seed=1)
    d = start
    for t in range(31):
        np.testing.assert_allclose(seen[t], d, rtol=0, atol=1e-9)
        d = [d[i] + math.sin(sum(matrix[i][j] * seen[t][j] for j in range(3))) for i in range(3)]


def test_paper_process_starts_every_episode_at_the_same_state():
    env = pendulum(4, seed=3)
    first, second = roll(env, 5, seed=1), roll(env, 5)
    np.testing.assert_array_equal(first, second)
    assert not np.array_equal(first[0], first[1])


def test_published_process_step_by_step_with_its_reset_per_component():
    env = pendulum(4, process="published", seed=5)
    linear, sine, restart = (env.constants[name] for name in ("L", "B", "r"))
    assert sine.min() >= 0
    seen = roll(env, 100, seed=1)
    restarted_alone = 0
    for t in range(100):
        for i in range(4):
            carried = [sum(linear[k, j] * seen[t, j] for j in range(4)) for k in range(4)]
            moved = carried[i] + 0.1 * math.sin(sum(sine[i, k] * carried[k] for k in range(4)))
            expected = restart[i] if abs(moved) > 20 else moved
            assert seen[t + 1, i] == pytest.approx(expected, rel=1e-6, abs=1e-6)
        at_restart = seen[t + 1] == restart
        restarted_alone += at_restart.any() and not at_restart.all()
    assert restarted_alone > 0, "the run never reset one component and kept another: it does not test the reset"


def test_published_process_draws_a_new_start_each_episode_of_which_one_step_is_seen_first():
    env = pendulum(2, process="published", seed=5)
    linear, sine = env.constants["L"], env.constants["B"]
    env.reset(seed=9)
    before = env.get_generator_state()["episode_generator"]
    generator = np.random.default_rng()
    generator.bit_generator.state = before
    start = 0.1 * generator.standard_normal(2)
    env.reset()
    np.testing.assert_allclose(env.distractors, linear @ start + 0.1 * np.sin(sine @ (linear @ start)), atol=1e-12)
    first = env.distractors
    env.reset()
    assert not np.array_equal(env.distractors, first)


def test_constants_have_the_scales_of_the_published_code():
    constants = pendulum(60, process="published").constants
    assert constants["L"].std() == pytest.approx(1.0, abs=0.05)
    assert np.sqrt(constants["B"]).mean() == pytest.approx(10 * math.sqrt(2 / math.pi), rel=0.05)
    assert pendulum(60).constants["A"].std() == pytest.approx(1.0, abs=0.05)


@pytest.mark.parametrize("process", ["paper", "published"])
def test_same_seed_same_numbers_other_seed_others(process):
    spec = EnvironmentSpec("Pendulum-v1", 3, process)

    def observations(seed):
        env = spec.make(seed)
        return np.array([env.reset()[0], *(env.step(np.ones(1, dtype=np.float32))[0] for _ in range(20))])

    np.testing.assert_array_equal(observations(4), observations(4))
    assert not np.allclose(observations(4)[0], observations(5)[0])


@pytest.mark.parametrize("process", ["paper", "published"])
def test_training_and_evaluation_share_the_process_but_not_the_episodes(process):
    spec = EnvironmentSpec("Pendulum-v1", 3, process)
    training, evaluation = spec.make(2), spec.make(2, evaluation=True)
    for name, value in training.constants.items():
        np.testing.assert_array_equal(value, evaluation.constants[name])
    first, second = training.reset()[0], evaluation.reset()[0]
    assert not np.array_equal(first[:3], second[:3])
    assert np.array_equal(first[3:], second[3:]) == (process == "paper")


def test_distractors_leave_the_environment_alone():
    bare, with_distractors = EnvironmentSpec("Pendulum-v1").make(6), EnvironmentSpec("Pendulum-v1", 5).make(6)
    expected, seen = bare.reset()[0], with_distractors.reset()[0]
    assert seen.shape == (8,) and seen.dtype == np.float32
    np.testing.assert_array_equal(seen[:3], expected)
    for _ in range(20):
        action = np.array([0.3], dtype=np.float32)
        expected, seen = bare.step(action), with_distractors.step(action)
        np.testing.assert_array_equal(seen[0][:3], expected[0])
        assert seen[1:4] == expected[1:4]


def test_no_distractors_is_the_identity():
    env, bare = pendulum(0), gym.make("Pendulum-v1")
    assert env.observation_space == bare.observation_space
    np.testing.assert_array_equal(env.reset(seed=1)[0], bare.reset(seed=1)[0])
    action = np.ones(1, dtype=np.float32)
    np.testing.assert_array_equal(env.step(action)[0], bare.step(action)[0])


def test_observation_keeps_the_data_type_and_stays_in_its_space():
    for env_id, dtype in (("Pendulum-v1", np.float32), ("Hopper-v4", np.float64)):
        env = EnvironmentSpec(env_id, 2).make(0)
        obs = env.reset()[0]
        assert obs.dtype == env.observation_space.dtype == dtype
        assert env.observation_space.contains(obs)


@pytest.mark.parametrize("process", ["paper", "published"])
@pytest.mark.parametrize("num_distractors", [0, 3])
def test_state_survives_json_and_goes_on_exactly(process, num_distractors):
    env = pendulum(num_distractors, process=process, seed=1)
    roll(env, 7, seed=1)
    state = json.loads(json.dumps(env.get_generator_state()))
    copy = pendulum(num_distractors, process=process, seed=99)
    copy.set_generator_state(state)
    np.testing.assert_array_equal(copy.distractors, env.distractors)
    np.testing.assert_array_equal(roll(copy, 9), roll(env, 9))


def test_state_of_another_process_is_refused():
    state = pendulum(3).get_generator_state()
    for other in (pendulum(2), pendulum(3, process="published")):
        with pytest.raises(EnvironmentSpecError, match="same num_distractors and distractor_process"):
            other.set_generator_state(state)


@pytest.mark.parametrize("bad", [-1, 1.5, "3", True, None])
def test_bad_numbers_of_distractors_are_refused(bad):
    with pytest.raises(EnvironmentSpecError, match="must be an integer >= 0"):
        pendulum(bad)


def test_unknown_process_and_observations_that_are_not_flat_are_refused():
    with pytest.raises(EnvironmentSpecError, match=r"'papers' is unknown.*'paper', 'published'"):
        pendulum(1, process="papers")
    with pytest.raises(EnvironmentSpecError, match="flat Box"):
        DistractorObservation(gym.make("Taxi-v3"), 1)
