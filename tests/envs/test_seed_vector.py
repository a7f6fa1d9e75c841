"""The environments of a cohort: independence, autoreset, rescaling, and exact restoration."""

import json

import gymnasium as gym
import numpy as np
import pytest

from vagram_ray.envs import EnvironmentSpec, EnvironmentSpecError, SeedVectorEnv

HOPPER = EnvironmentSpec("Hopper-v4", num_distractors=5)
HOPPER_PUBLISHED = EnvironmentSpec("Hopper-v4", num_distractors=3, distractor_process="published")
PENDULUM = EnvironmentSpec("Pendulum-v1")
CARTPOLE = EnvironmentSpec("ContinuousCartPole-v0")


def roll(envs, steps, seed=0):
    """Everything that `steps` steps with random actions return, each row of actions from its seed's stream."""
    streams = [np.random.default_rng([seed, s]) for s in envs.seeds]
    trace = [envs.reset()]
    for _ in range(steps):
        step = envs.step(np.stack([stream.uniform(-1, 1, envs.action_dim) for stream in streams]))
        trace.extend(step)
    return trace


def assert_same(first, second):
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one, other)


def test_shapes_data_types_and_spaces():
    envs = SeedVectorEnv(HOPPER, (0, 3))
    assert (envs.num_seeds, envs.obs_dim, envs.action_dim) == (2, 16, 3)
    assert envs.observation_space.shape == (16,) and envs.observation_space.dtype == np.float32
    assert envs.action_space == gym.spaces.Box(-1.0, 1.0, (3,), np.float32)
    obs = envs.reset()
    step = envs.step(np.zeros((2, 3)))
    assert obs.shape == step.next_obs.shape == step.obs.shape == (2, 16)
    assert obs.dtype == step.next_obs.dtype == step.obs.dtype == step.reward.dtype == np.float32
    assert step.terminated.dtype == step.truncated.dtype == bool and step.reward.shape == (2,)


@pytest.mark.parametrize("spec", [HOPPER, HOPPER_PUBLISHED, PENDULUM])
def test_cohort_equals_single_and_other_seeds_change_nothing(spec):
    cohort = roll(SeedVectorEnv(spec, (5, 2, 9)), 150)
    for row, seed in enumerate((5, 2, 9)):
        assert_same([value[[row]] for value in cohort], roll(SeedVectorEnv(spec, (seed,)), 150))
    assert not np.array_equal(cohort[0][0], cohort[0][1])


def test_evaluation_has_other_episodes():
    training, evaluation = SeedVectorEnv(HOPPER, (1,)).reset(), SeedVectorEnv(HOPPER, (1,), evaluation=True).reset()
    assert not np.array_equal(training[:, :11], evaluation[:, :11])
    np.testing.assert_array_equal(training[:, 11:], evaluation[:, 11:])


def test_resets_go_on_with_the_environments_own_stream():
    envs = SeedVectorEnv(PENDULUM, (0,))
    assert not np.array_equal(envs.reset(), envs.reset())


def test_actions_are_rescaled_to_the_whole_range():
    envs = SeedVectorEnv(PENDULUM, (0, 1, 2, 3))
    envs.reset()
    envs.step(np.array([[1.0], [-1.0], [0.25], [7.0]]))
    assert [float(env.unwrapped.last_u) for env in envs._envs] == [2.0, -2.0, 0.5, 2.0]


def test_step_equals_the_bare_environment():
    envs, bare = SeedVectorEnv(PENDULUM, (3,)), PENDULUM.make(3)
    np.testing.assert_array_equal(envs.reset()[0], bare.reset()[0])
    step = envs.step(np.array([[0.5]]))
    obs, reward, *_ = bare.step(np.array([1.0], dtype=np.float32))
    np.testing.assert_array_equal(step.next_obs[0], obs)
    assert step.reward[0] == np.float32(reward)


def test_termination_autoresets_in_the_same_step_and_keeps_the_true_successor():
    envs = SeedVectorEnv(CARTPOLE, (0, 1))
    envs.reset()
    for _ in range(200):
        step = envs.step(np.array([[1.0], [0.0]]))
        if step.terminated[0]:
            break
    assert step.terminated.tolist() == [True, False] and not step.truncated.any()
    assert abs(step.next_obs[0, 2]) > 12 * np.pi / 180
    assert np.abs(step.obs[0]).max() <= 0.05
    np.testing.assert_array_equal(step.next_obs[1], step.obs[1])
    assert step.reward[0] == 1.0
    following = envs.step(np.zeros((2, 1)))
    assert abs(following.next_obs[0, 0] - step.obs[0, 0]) < 0.01


def test_time_limit_is_truncation_not_termination():
    envs = SeedVectorEnv(PENDULUM, (0,))
    envs.reset()
    flags = []
    for _ in range(401):
        step = envs.step(np.zeros((1, 1)))
        flags.append((bool(step.terminated[0]), bool(step.truncated[0])))
        assert np.array_equal(step.obs, step.next_obs) != step.truncated[0]
    assert [i for i, (_, truncated) in enumerate(flags) if truncated] == [199, 399]
    assert not any(terminated for terminated, _ in flags)


def test_inactive_environments_stand_still():
    envs, reference = SeedVectorEnv(HOPPER, (4, 6)), SeedVectorEnv(HOPPER, (6,))
    first, expected = envs.reset(), reference.reset()
    actions = np.full((2, 3), np.nan)
    actions[1] = 0.5
    for _ in range(60):
        step = envs.step(actions, active=np.array([False, True]))
        np.testing.assert_array_equal(step.obs[0], first[0])
        np.testing.assert_array_equal(step.next_obs[0], first[0])
        assert (step.reward[0], step.terminated[0], step.truncated[0]) == (0, False, False)
        assert_same([value[1:] for value in step], reference.step(actions[1:]))
    # Woken up, the first environment goes on from its first observation.
    np.testing.assert_array_equal(SeedVectorEnv(HOPPER, (4,)).reset(), first[:1])
    alone = SeedVectorEnv(HOPPER, (4,))
    alone.reset()
    actions[0] = 0.1
    np.testing.assert_array_equal(envs.step(actions).next_obs[0], alone.step(actions[:1]).next_obs[0])
    assert expected.shape == (1, 16)


def test_an_environment_at_rest_after_an_episodes_end_waits_at_the_next_ones_start():
    envs = SeedVectorEnv(PENDULUM, (0,))
    envs.reset()
    for _ in range(200):
        last = envs.step(np.zeros((1, 1)))
    assert last.truncated[0]
    resting = envs.step(np.zeros((1, 1)), active=np.array([False]))
    np.testing.assert_array_equal(resting.obs, last.obs)
    np.testing.assert_array_equal(resting.next_obs, last.obs)


def test_results_are_the_callers_to_change():
    envs = SeedVectorEnv(PENDULUM, (0,))
    envs.reset()[:] = 99
    step = envs.step(np.zeros((1, 1)))
    step.obs[:] = 99
    step.next_obs[:] = 99
    assert np.abs(envs.step(np.zeros((1, 1)), active=np.array([False])).obs).max() < 99


def test_nan_actions_of_one_seed_do_not_stop_the_others():
    envs, reference = SeedVectorEnv(HOPPER, (1, 2)), SeedVectorEnv(HOPPER, (1, 2))
    envs.reset()
    reference.reset()
    with pytest.warns(RuntimeWarning, match=r"seeds \[1\] act with NaN"):
        step = envs.step(np.array([[np.nan] * 3, [0.2] * 3]))
    assert_same(step, reference.step(np.array([[0.0] * 3, [0.2] * 3])))


@pytest.mark.parametrize("spec", [HOPPER, HOPPER_PUBLISHED, PENDULUM, CARTPOLE])
def test_saved_generators_go_on_exactly_after_the_next_reset(spec):
    original = SeedVectorEnv(spec, (7, 8))
    roll(original, 130)
    state = json.loads(json.dumps(original.get_state()))
    restored = SeedVectorEnv(spec, (7, 8))
    roll(restored, 3)
    restored.set_state(state)
    assert restored.get_state() == original.get_state()
    assert_same(roll(restored, 250, seed=1), roll(original, 250, seed=1))


def test_state_can_be_loaded_as_weights_only(tmp_path):
    torch = pytest.importorskip("torch")
    state = SeedVectorEnv(HOPPER_PUBLISHED, (0,)).get_state()
    torch.save(state, tmp_path / "state.pt")
    assert torch.load(tmp_path / "state.pt", weights_only=True) == state


def test_state_of_other_environments_is_refused():
    state = SeedVectorEnv(PENDULUM, (0, 1)).get_state()
    with pytest.raises(EnvironmentSpecError, match="the saved environments have seeds"):
        SeedVectorEnv(PENDULUM, (1, 0)).set_state(state)
    with pytest.raises(EnvironmentSpecError, match="the saved environments have spec"):
        SeedVectorEnv(PENDULUM, (0, 1), evaluation=True).set_state(state)


def distractor_constants(envs):
    """What each seed's distractors have drawn once, by name."""
    layers = (env["layers"] for env in envs.get_state()["environments"])
    return [next(layer["constants"] for layer in own if layer and "constants" in layer) for own in layers]


@pytest.mark.parametrize("process", ["paper", "published", "drift"])
def test_training_and_evaluation_of_a_seed_share_the_distractors_constants(process):
    spec = EnvironmentSpec("Pendulum-v1", 3, process)
    training, evaluation = SeedVectorEnv(spec, (4, 9)), SeedVectorEnv(spec, (4, 9), evaluation=True)
    shared = distractor_constants(training)
    assert distractor_constants(evaluation) == shared
    assert shared[0] != shared[1]
    start = {"paper": "s_0", "drift": "d_0"}.get(process)
    for envs in (training, evaluation) if start else ():
        np.testing.assert_array_equal(envs.reset()[:, 3:], np.float32([one[start] for one in shared]))


def of_an_earlier_version(state):
    """As it was written before there was a choice of readings."""
    spec = {key: value for key, value in state["spec"].items() if key not in ("distractor_scale", "distractor_reset")}
    spec["distractor_process"] = spec["distractor_process"].replace("drift", "paper")
    return {**state, "spec": spec}


def test_state_of_an_earlier_versions_paper_process_goes_on_as_drift():
    drift = EnvironmentSpec("Pendulum-v1", 3, "drift")
    original = SeedVectorEnv(drift, (4, 9))
    roll(original, 20)
    old = of_an_earlier_version(original.get_state())
    assert old["spec"]["distractor_process"] == "paper"
    with pytest.raises(EnvironmentSpecError, match=r"have spec \{.*'drift'.*these have \{.*'paper'"):
        SeedVectorEnv(EnvironmentSpec("Pendulum-v1", 3), (4, 9)).set_state(old)
    restored = SeedVectorEnv(drift, (4, 9))
    restored.set_state(old)
    assert_same(roll(restored, 250, seed=1), roll(original, 250, seed=1))


@pytest.mark.parametrize("reading", [{"distractor_scale": "variance"}, {"distractor_reset": "vector"}])
def test_state_of_another_reading_of_equation_18_is_refused(reading):
    state = SeedVectorEnv(EnvironmentSpec("Pendulum-v1", 3), (4,)).get_state()
    with pytest.raises(EnvironmentSpecError, match="the saved environments have spec"):
        SeedVectorEnv(EnvironmentSpec("Pendulum-v1", 3, **reading), (4,)).set_state(state)


def test_without_distractors_their_process_makes_no_difference():
    state = SeedVectorEnv(PENDULUM, (0, 1)).get_state()
    for saved in (state, of_an_earlier_version(state)):
        SeedVectorEnv(EnvironmentSpec("Pendulum-v1", 0, "drift", {}, "variance", "vector"), (0, 1)).set_state(saved)


def test_misuse_is_refused_clearly():
    envs = SeedVectorEnv(PENDULUM, (0, 1))
    with pytest.raises(RuntimeError, match="call reset"):
        envs.step(np.zeros((2, 1)))
    envs.reset()
    with pytest.raises(ValueError, match=r"must be \(2, 1\)"):
        envs.step(np.zeros((1, 1)))
    with pytest.raises(ValueError, match=r"must be \(2,\)"):
        envs.step(np.zeros((2, 1)), active=np.array([True]))
    envs.set_state(envs.get_state())
    with pytest.raises(RuntimeError, match="call reset"):
        envs.step(np.zeros((2, 1)))
    envs.close()
    envs.close()
    with pytest.raises(EnvironmentSpecError, match="names no seed"):
        SeedVectorEnv(PENDULUM, ())
    with pytest.raises(EnvironmentSpecError, match="seed=-1"):
        SeedVectorEnv(PENDULUM, (0, -1))
    with pytest.raises(EnvironmentSpecError, match="continuous"):
        SeedVectorEnv(EnvironmentSpec("CartPole-v1"), (0,))
