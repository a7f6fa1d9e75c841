"""EnvironmentSpec: what it makes and what it refuses, in one sentence each."""

import pickle
import warnings

import gymnasium as gym
import numpy as np
import pytest

from vagram_ray.envs import EnvironmentSpec, EnvironmentSpecError


class NoBounds(gym.Env):
    """Actions without limits."""

    observation_space = gym.spaces.Box(-1, 1, (2,))
    action_space = gym.spaces.Box(-np.inf, np.inf, (1,))


class Image(gym.Env):
    """Observations that are not flat."""

    observation_space = gym.spaces.Box(0, 255, (4, 4, 3), dtype=np.uint8)
    action_space = gym.spaces.Box(-1, 1, (1,))


@pytest.fixture(autouse=True, scope="module")
def _registered():
    gym.register("NoBounds-v0", entry_point=NoBounds)
    gym.register("Image-v0", entry_point=Image)
    yield
    del gym.registry["NoBounds-v0"], gym.registry["Image-v0"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"env_id": "Hopper-v2"}, ["'Hopper-v2' is gone from Gymnasium", "'Hopper-v4'"]),
        ({"env_id": "HalfCheetah-v3"}, ["gone from Gymnasium", "'HalfCheetah-v4'"]),
        ({"env_id": "InvertedPendulum-v1"}, ["gone from Gymnasium", "'InvertedPendulum-v4'"]),
        ({"env_id": "Hoper-v4"}, ["'Hoper-v4' is not registered", "Hopper-v4"]),
        ({"env_id": "Hopper"}, ["'Hopper' is not registered", "did you mean Hopper-v4 or Hopper-v5?"]),
        ({"env_id": "Hopper-v9"}, ["'Hopper-v9' is not registered", "Hopper-v"]),
        ({"env_id": "Pendulum-v0"}, ["'Pendulum-v0' is not registered", "Pendulum-v1"]),
        ({"env_id": "Qzxj-v0"}, ["'Qzxj-v0' is not registered", "gymnasium.register"]),
        ({"env_id": "no_such_module:Env-v0"}, ["needs the module 'no_such_module'"]),
        ({"env_id": ""}, ["env_id='' must be the id"]),
        ({"env_id": None}, ["env_id=None must be the id"]),
        ({"env_id": "CartPole-v1"}, ["Discrete(2)", "continuous", "'ContinuousCartPole-v0'"]),
        ({"env_id": "Taxi-v3"}, ["Discrete(6)", "continuous"]),
        ({"env_id": "NoBounds-v0"}, ["bounded on both sides"]),
        ({"env_id": "Image-v0"}, ["flat Box is needed", "FlattenObservation"]),
        ({"env_id": "Hopper-v4", "num_distractors": -1}, ["num_distractors=-1", ">= 0"]),
        ({"env_id": "Hopper-v4", "num_distractors": 2.5}, ["num_distractors=2.5", "integer"]),
        ({"env_id": "Hopper-v4", "distractor_process": "linear"}, ["'linear' is unknown", "'published'"]),
        ({"env_id": "Pendulum-v1", "env_kwargs": {"gravity": 9}}, ["no argument 'gravity'", "it accepts", "g, "]),
        ({"env_id": "Hopper-v4", "env_kwargs": {"x": 9}}, ["no argument 'x'", "healthy_z_range", "max_episode_steps"]),
        ({"env_id": "Hopper-v4", "env_kwargs": {"frame_skip": 9}}, ["could not be made", "frame_skip"]),
        ({"env_id": "Hopper-v4", "env_kwargs": {"healthy_z_range": 3}}, ["fails at its first step", "env_kwargs"]),
        ({"env_id": "Hopper-v4", "env_kwargs": [1]}, ["env_kwargs=[1] must map"]),
        ({"env_id": "Pusher-v4"}, ["'Pusher-v4' needs a package", "mujoco<3", "use 'Pusher-v5'"]),
    ],
)
def test_refusals_name_the_value_and_the_way_out(arguments, words):
    with pytest.raises(EnvironmentSpecError) as caught:
        EnvironmentSpec(**arguments).validate()
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message, message


@pytest.mark.parametrize("env_id", ["Hopper-v4", "Hopper-v5", "Pendulum-v1", "ContinuousCartPole-v0", "Ant-v4"])
def test_good_specs_pass(env_id):
    EnvironmentSpec(env_id, 3).validate()


def test_dimensions_include_the_distractors():
    assert EnvironmentSpec("Hopper-v4").dimensions() == (11, 3)
    assert EnvironmentSpec("Hopper-v4", 15, distractor_reset="vector").dimensions() == (26, 3)
    assert EnvironmentSpec("Hopper-v4", 15, "published").dimensions() == (26, 3)
    assert EnvironmentSpec("Ant-v4", env_kwargs={"use_contact_forces": True}).dimensions() == (111, 8)
    with pytest.raises(EnvironmentSpecError):
        EnvironmentSpec("CartPole-v1").dimensions()


def test_env_kwargs_reach_the_environment():
    env = EnvironmentSpec("Pendulum-v1", env_kwargs={"g": 3.0, "max_episode_steps": 7}).make(0)
    assert env.unwrapped.g == 3.0
    env.reset()
    assert [env.step(np.zeros(1, dtype=np.float32))[3] for _ in range(7)] == [False] * 6 + [True]


def test_make_is_seeded_by_seed_and_evaluation():
    spec = EnvironmentSpec("Pendulum-v1")
    first = {(s, e): tuple(spec.make(s, evaluation=e).reset()[0]) for s in (0, 1) for e in (False, True)}
    assert len(set(first.values())) == 4
    assert first[1, True] == tuple(spec.make(1, evaluation=True).reset()[0])
    for bad in (-1, 0.5, "a", None):
        with pytest.raises(EnvironmentSpecError, match="must be an integer >= 0"):
            spec.make(bad)


def test_an_environment_in_a_module_is_imported_by_its_id():
    spec = EnvironmentSpec("vagram_ray.envs:ContinuousCartPole-v0")
    spec.validate()
    assert callable(spec.termination())


def test_v4_is_silent_and_warning_filters_are_left_alone():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        filters = list(warnings.filters)
        EnvironmentSpec("Hopper-v4", 2).make(0)
        EnvironmentSpec("Hopper-v4", 2).validate()
        assert warnings.filters == filters
        assert [str(warning.message) for warning in caught] == []
        gym.make("Hopper-v4")
    assert any("out of date" in str(warning.message) for warning in caught)


def test_specs_compare_hash_and_pickle():
    spec = EnvironmentSpec("Hopper-v4", 5, env_kwargs={"healthy_z_range": [0.7, 2.0]})
    assert pickle.loads(pickle.dumps(spec)) == spec
    assert hash(spec) == hash(EnvironmentSpec("Hopper-v4", 5)) and spec != EnvironmentSpec("Hopper-v4", 5)
    assert callable(pickle.loads(pickle.dumps(spec.termination())))


def test_making_a_mujoco_environment_writes_nothing_to_the_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    EnvironmentSpec("HalfCheetah-v4").make(0).close()
    assert capfd.readouterr() == ("", "")
