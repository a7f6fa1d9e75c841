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


# Eq. 18 by hand: A = [[0.1, 0.2], [0.3, -0.4]], s_0 = (18.5, 1.0).
#   A s_0 = (2.05, 5.15)            s_0 + sin = (19.387362, 0.094233)      both |.| < 20: taken
#   A s_1 = (1.957583, 5.778515)    s_1 + sin = (20.313488, -0.389285)     20.313 is not below 20
# Component by component the first goes back to 18.5 and the second goes on, so
#   A s_2 = (1.772143, 5.705714)    s_2 + sin = (19.479798, -0.935192)
# As a vector, whose length is 20.317, both go back: s_2 = s_0, and s_3 = s_1.
BY_HAND = {
    "component": [[18.5, 1.0], [19.387362, 0.094233], [18.5, -0.389285], [19.479798, -0.935192]],
    "vector": [[18.5, 1.0], [19.387362, 0.094233], [18.5, 1.0], [19.387362, 0.094233]],
}


def with_constants(env, matrix, start, state=None):
    """The wrapper with these constants of eq. 18 in the place of those that were drawn."""
    saved = env.get_generator_state()
    saved |= {"constants": {"A": matrix, "s_0": start}, "distractors": start if state is None else state}
    env.set_generator_state(saved)
    return env


@pytest.mark.parametrize("scale", ["deviation", "variance"])
@pytest.mark.parametrize("reset", ["component", "vector"])
def test_equation_18_by_hand_for_three_steps_across_a_reset(reset, scale):
    env = with_constants(pendulum(2, reset=reset, scale=scale), [[0.1, 0.2], [0.3, -0.4]], [18.5, 1.0])
    np.testing.assert_allclose(roll(env, 3, seed=1), BY_HAND[reset], rtol=0, atol=1e-6)
    np.testing.assert_allclose(roll(env, 3), BY_HAND[reset], rtol=0, atol=1e-6)  # every episode starts at s_0


def test_readings_of_a_reset_differ_where_only_the_whole_vector_is_long():
    """|(15, 15)| = 21.2 while both components are below 20; with A = 0 nothing moves."""
    zero, start = [[0.0, 0.0], [0.0, 0.0]], [0.1, -0.2]
    for reset, expected in (("component", [15.0, 15.0]), ("vector", start)):
        env = pendulum(2, reset=reset)
        env.reset(seed=1)
        with_constants(env, zero, start, state=[15.0, 15.0])
        env.step(np.zeros(1, dtype=np.float32))
        np.testing.assert_array_equal(env.distractors, expected)


@pytest.mark.parametrize("reset", ["component", "vector"])
@pytest.mark.parametrize(("state", "expected"), [(20.0, 0.1), (-20.0, 0.1), (19.999, 19.999), (-19.999, -19.999)])
def test_twenty_itself_is_not_below_twenty(reset, state, expected):
    env = pendulum(1, reset=reset)
    env.reset(seed=1)
    with_constants(env, [[0.0]], [0.1], state=[state])
    env.step(np.zeros(1, dtype=np.float32))
    assert env.distractors.tolist() == [expected]


@pytest.mark.parametrize(("scale", "sine", "start"), [("deviation", 10.0, 0.1), ("variance", 3.16228, 0.316228)])
def test_entries_of_equation_18_are_normal_with_the_stated_spread(scale, sine, start):
    constants = pendulum(400, scale=scale, seed=2).constants
    assert set(constants) == {"A", "s_0"} and constants["A"].shape == (400, 400)
    assert constants["A"].std() == pytest.approx(sine, rel=0.01)
    assert abs(constants["A"].mean()) < 0.01 * sine
    assert (np.abs(constants["A"]) > 2 * sine).mean() == pytest.approx(0.0455, abs=0.003)  # a normal's tails
    assert constants["s_0"].std() == pytest.approx(start, rel=0.15)


def test_deviations_and_components_are_the_defaults():
    default, stated = pendulum(3, seed=4), pendulum(3, scale="deviation", reset="component", seed=4)
    other = pendulum(3, scale="variance", seed=4)
    np.testing.assert_array_equal(default.constants["A"], stated.constants["A"])
    np.testing.assert_allclose(default.constants["A"], np.sqrt(10) * other.constants["A"])
    np.testing.assert_array_equal(roll(default, 300, seed=1), roll(stated, 300, seed=1))


def test_no_reset_draws_the_fixed_parts_anew():
    env = pendulum(3, seed=5)
    before = env.constants
    for seed in (1, None, 2):
        roll(env, 5, seed=seed)
    assert env.constants.keys() == before.keys()
    for name, value in before.items():
        np.testing.assert_array_equal(env.constants[name], value)
    np.testing.assert_array_equal(env.get_generator_state()["constants"]["s_0"], before["s_0"])


def resets_per_1000_steps(num_distractors, reset, seeds=20):
    """Mean over systems of how many components (or whole vectors) go back to their start in 1,000 steps."""
    counts = []
    for seed in range(seeds):
        env = pendulum(num_distractors, reset=reset, seed=seed)
        at_start = roll(env, 1000, seed=1)[1:] == env.constants["s_0"]
        counts.append(at_start.sum() if reset == "component" else at_start.all(axis=1).sum())
    return np.mean(counts)


@pytest.mark.parametrize(("num_distractors", "expected"), [(5, 5), (10, 11), (15, 16)])
def test_resets_are_as_frequent_as_in_independent_runs_of_the_equation(num_distractors, expected):
    """5, 11 and 16 are counts of single components. Whole vectors come to about 6, 13 and 20 resets of all of them."""
    assert resets_per_1000_steps(num_distractors, "component") == pytest.approx(expected, rel=0.25)


def test_whole_vectors_leave_the_ball_more_often_than_single_components_leave_the_interval():
    assert resets_per_1000_steps(15, "vector") == pytest.approx(20, rel=0.25)


def test_distractors_never_pass_20_in_absolute_value():
    for reset in ("component", "vector"):
        assert np.abs(roll(pendulum(10, reset=reset, seed=8), 2000, seed=1)).max() < 20


def test_drift_is_the_sine_without_a_limit_and_has_kept_its_numbers():
    """The numbers are those of the versions that called this process "paper"."""
    env = pendulum(2, process="drift", seed=7)
    matrix, start = env.constants["A"].tolist(), env.constants["d_0"].tolist()
    np.testing.assert_allclose(matrix, [[0.88318436, -0.39854818], [0.02073209, -0.5404618]], rtol=0, atol=1e-8)
    np.testing.assert_allclose(start, [0.61000376, 3.43929871], rtol=0, atol=1e-8)
    seen = roll(env, 40, seed=1)
    np.testing.assert_allclose(seen[40], [-3.61977978, -0.1388546], rtol=0, atol=1e-7)
    d = start
    for t in range(41):
        np.testing.assert_allclose(seen[t], d, rtol=0, atol=1e-9)
        d = [d[i] + math.sin(sum(matrix[i][j] * seen[t][j] for j in range(2))) for i in range(2)]
    assert max(np.abs(roll(pendulum(10, process="drift", seed=seed), 1000)).max() for seed in range(3)) > 20


@pytest.mark.parametrize("process", ["paper", "drift"])
def test_processes_with_a_fixed_start_begin_every_episode_there(process):
    env = pendulum(4, process=process, seed=3)
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
    assert pendulum(60, process="drift").constants["A"].std() == pytest.approx(1.0, abs=0.05)


@pytest.mark.parametrize("process", ["paper", "published", "drift"])
def test_same_seed_same_numbers_other_seed_others(process):
    spec = EnvironmentSpec("Pendulum-v1", 3, process)

    def observations(seed):
        env = spec.make(seed)
        return np.array([env.reset()[0], *(env.step(np.ones(1, dtype=np.float32))[0] for _ in range(20))])

    np.testing.assert_array_equal(observations(4), observations(4))
    assert not np.allclose(observations(4)[0], observations(5)[0])


@pytest.mark.parametrize("process", ["paper", "published", "drift"])
def test_training_and_evaluation_share_the_process_but_not_the_episodes(process):
    spec = EnvironmentSpec("Pendulum-v1", 3, process)
    training, evaluation = spec.make(2), spec.make(2, evaluation=True)
    for name, value in training.constants.items():
        np.testing.assert_array_equal(value, evaluation.constants[name])
    first, second = training.reset()[0], evaluation.reset()[0]
    assert not np.array_equal(first[:3], second[:3])
    assert np.array_equal(first[3:], second[3:]) == (process != "published")


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


@pytest.mark.parametrize("process", ["paper", "published", "drift"])
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
    for other in (pendulum(2), pendulum(3, process="published"), pendulum(3, process="drift")):
        with pytest.raises(EnvironmentSpecError, match="same num_distractors and distractor_process"):
            other.set_generator_state(state)


@pytest.mark.parametrize("bad", [-1, 1.5, "3", True, None])
def test_bad_numbers_of_distractors_are_refused(bad):
    with pytest.raises(EnvironmentSpecError, match="must be an integer >= 0"):
        pendulum(bad)


def test_unknown_process_and_observations_that_are_not_flat_are_refused():
    with pytest.raises(EnvironmentSpecError, match=r"'papers' is unknown.*'paper', 'published', 'drift'"):
        pendulum(1, process="papers")
    with pytest.raises(EnvironmentSpecError, match=r"distractor_scale='std' is unknown.*'deviation', 'variance'"):
        pendulum(1, scale="std")
    with pytest.raises(EnvironmentSpecError, match=r"distractor_reset='all' is unknown.*'component', 'vector'"):
        EnvironmentSpec("Pendulum-v1", 1, distractor_reset="all").validate()
    with pytest.raises(EnvironmentSpecError, match="flat Box"):
        DistractorObservation(gym.make("Taxi-v3"), 1)
