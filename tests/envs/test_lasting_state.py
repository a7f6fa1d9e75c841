"""State that a reset does not clear: saved where it can be, named where it cannot."""

import importlib
import json
import random
from collections import deque
from functools import partial

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import wrappers

from vagram_ray.envs import EnvironmentSpec, SeedVectorEnv
from vagram_ray.envs.generators import layers

ID = "Wrapped-v0"


def register(*made):
    """An environment of these wrappers, from the innermost outwards, around Pendulum."""

    def entry_point():
        env = gym.make("Pendulum-v1", max_episode_steps=7)
        for make in made:
            env = make(env)
        return env

    gym.registry.pop(ID, None)
    gym.register(ID, entry_point=entry_point)
    return EnvironmentSpec(ID)


@pytest.fixture(autouse=True)
def _unregistered():
    yield
    gym.registry.pop(ID, None)


class Curriculum(gym.Wrapper):
    """Rewards grow with the number of episodes and of steps; the weights of the two drift."""

    def __init__(self, env):
        super().__init__(env)
        self.episodes, self.weights = 0, np.zeros(2, np.float32)

    def reset(self, **kwargs):
        self.episodes += 1
        return self.env.reset(**kwargs)

    def step(self, action):
        obs, reward, *ends = self.env.step(action)
        self.weights += np.float32([0.1, 0.3])
        return obs, reward + self.episodes * float(self.weights.sum()), *ends


class SavedCurriculum(Curriculum):
    def get_state(self):
        return {"episodes": self.episodes, "weights": self.weights}

    def set_state(self, state):
        self.episodes, self.weights = state["episodes"], np.float32(state["weights"])


class FrozenNormalizer(wrappers.NormalizeObservation):
    """A subclass, with state of its own that is no use to anyone."""


STATEFUL = {
    "NormalizeObservation": [wrappers.NormalizeObservation],
    "NormalizeReward": [wrappers.NormalizeReward],
    "FrameStackObservation": [partial(wrappers.FrameStackObservation, stack_size=3), wrappers.FlattenObservation],
    "TimeAwareObservation": [wrappers.TimeAwareObservation],
    "DelayObservation": [partial(wrappers.DelayObservation, delay=2)],
    "MaxAndSkipObservation": [partial(wrappers.MaxAndSkipObservation, skip=2)],
    "StickyAction": [partial(wrappers.StickyAction, repeat_action_probability=0.5)],
    "RecordEpisodeStatistics": [wrappers.RecordEpisodeStatistics],
    "several": [wrappers.NormalizeReward, SavedCurriculum, FrozenNormalizer, wrappers.RecordEpisodeStatistics],
    "one's own": [SavedCurriculum],
}


def play(envs, steps=23):
    """Everything that the environments return."""
    actions = np.random.default_rng(0).uniform(-1, 1, (steps, envs.num_seeds, envs.action_dim))
    return [envs.reset(), *(part for action in actions for part in envs.step(action))]


@pytest.mark.parametrize("made", STATEFUL.values(), ids=STATEFUL)
def test_wrappers_go_on_bit_for_bit(made):
    spec = register(*made)
    one, other = (SeedVectorEnv(spec, (0, 5)) for _ in range(2))
    play(one)
    other.set_state(json.loads(json.dumps(one.get_state())))
    for _ in range(2):
        for mine, its in zip(play(one), play(other), strict=True):
            np.testing.assert_array_equal(mine, its)
    assert spec.notes() == []


def test_every_stateful_wrapper_of_gymnasium_is_tried():
    """Those for images, rendering and whole vectors aside, and those that keep nothing of an episode."""
    files = [
        importlib.import_module(f"gymnasium.wrappers.stateful_{kind}") for kind in ("action", "observation", "reward")
    ]
    found = [
        name for file in files for name, kind in vars(file).items() if getattr(kind, "__module__", "") == file.__name__
    ]
    assert found and set(found) <= set(STATEFUL)


def test_statistics_of_episodes_go_on():
    spec = register(wrappers.RecordEpisodeStatistics)
    one, other = (SeedVectorEnv(spec, (0,)) for _ in range(2))
    play(one)
    other.set_state(json.loads(json.dumps(one.get_state())))
    mine, its = (
        next(layer for layer in layers(envs._envs[0]) if isinstance(layer, wrappers.RecordEpisodeStatistics))
        for envs in (one, other)
    )
    assert its.episode_count == mine.episode_count == 3
    for name in ("return_queue", "length_queue", "time_queue"):
        assert getattr(its, name) == getattr(mine, name) and getattr(its, name).maxlen == 100
    assert list(its.length_queue) == [7, 7, 7]


# -- what is left -------------------------------------------------------------------------------------------


class Keeps(gym.Wrapper):
    """Keeps whatever `attribute` makes; `change` changes it in each step."""

    def __init__(self, env, attribute, change):
        super().__init__(env)
        self.kept, self.change = attribute(), change

    def step(self, action):
        changed = self.change(self.kept)
        self.kept = self.kept if changed is None else changed
        return self.env.step(action)


class Thing:
    def __init__(self):
        self.inner = {"count": [0]}

    def count(self):
        self.inner["count"][0] += 1


@pytest.mark.parametrize(
    ("attribute", "change"),
    [
        (int, lambda kept: kept + 1),
        (lambda: np.zeros(2), lambda kept: kept + 1),
        (lambda: np.zeros(2), lambda kept: np.add(kept, 1, out=kept)),
        (lambda: deque(maxlen=2), lambda kept: kept.append(len(kept) + sum(kept))),
        (list, lambda kept: kept.append(1)),
        (dict, lambda kept: kept.update({len(kept): 1})),
        (set, lambda kept: kept.add(len(kept))),
        (Thing, lambda kept: kept.count()),
        (lambda: wrappers.utils.RunningMeanStd(), lambda kept: kept.update(np.ones(1))),
    ],
)
def test_what_outlasts_a_reset_and_is_not_saved_is_named(attribute, change):
    spec = register(partial(Keeps, attribute=attribute, change=change), wrappers.NormalizeObservation)
    (said,) = spec.notes()
    assert "'Wrapped-v0' keeps state that checkpoints lack (Keeps.kept)" in said
    assert "get_state() and set_state(state)" in said and "\n" not in said


def test_state_of_the_environment_itself_and_of_several_layers_is_named():
    class Own(type(gym.make("Pendulum-v1").unwrapped)):
        visits = 0

        def reset(self, **kwargs):
            self.visits += 1
            return super().reset(**kwargs)

    gym.register(ID, entry_point=lambda: Curriculum(Own()), max_episode_steps=7)
    assert "(Curriculum.episodes, Curriculum.weights, Own.visits)" in EnvironmentSpec(ID).notes()[0]


def test_random_numbers_from_elsewhere_are_named():
    class Elsewhere(gym.Wrapper):
        def reset(self, **kwargs):
            self.wind = np.random.normal()
            return self.env.reset(**kwargs)

    assert "Elsewhere.wind), or draws random numbers from elsewhere" in register(Elsewhere).notes()[0]


def nested(env):
    env.unwrapped.simulator = Thing()
    env.unwrapped.simulator.generator = np.random.RandomState(3)
    return env.unwrapped.simulator.generator.random


@pytest.mark.parametrize(
    ("draw_from", "name"),
    [
        (lambda env: np.random.random, "numpy.random"),
        (lambda env: random.random, "random"),
        (nested, "PendulumEnv.simulator"),
        (lambda env: env.unwrapped.action_space.sample, "PendulumEnv.action_space"),
    ],
)
def test_generators_that_are_not_saved_and_used_in_steps_are_named(draw_from, name):
    class Draws(gym.Wrapper):
        def __init__(self, env):
            super().__init__(env)
            self.draw = draw_from(env)

        def step(self, action):
            obs, reward, *ends = self.env.step(action)
            return obs, reward + float(np.sum(self.draw())), *ends

    (said,) = register(Draws).notes()
    assert f"checkpoints lack ({name}), or draws random numbers from elsewhere than self.np_random" in said


def test_a_generator_that_other_objects_hold_too_is_saved():
    class Shares(gym.Wrapper):
        def reset(self, **options):
            returned = self.env.reset(**options)
            self.simulator = Thing()
            self.simulator.generator = self.np_random
            return returned

        def step(self, action):
            self.simulator.generator.normal()
            return self.env.step(action)

    assert register(Shares).notes() == []


def test_methods_of_other_arguments_and_states_that_json_cannot_hold_are_no_way_to_save():
    class LikeMujoco(Curriculum):
        def get_state(self):
            return self.weights

        def set_state(self, position, velocity):
            raise AssertionError

    class Unheld(Curriculum):
        def get_state(self):
            return {"object": self}

        def set_state(self, state):
            raise AssertionError

    assert "LikeMujoco.episodes" in register(LikeMujoco).notes()[0]
    spec = register(Unheld)
    assert "(Unheld.get_state() (JSON cannot hold what it returns))" in spec.notes()[0]
    one, other = (SeedVectorEnv(spec, (0,)) for _ in range(2))
    other.set_state(json.loads(json.dumps(one.get_state())))


def test_a_checkpoint_of_an_earlier_version_lacks_these_states_and_is_taken():
    spec = register(wrappers.NormalizeObservation)
    one, other = (SeedVectorEnv(spec, (0,)) for _ in range(2))
    state = one.get_state()
    del state["lasting"]
    other.set_state(state)
    assert other.reset().shape == (1, 3)


MUJOCO = ("Ant", "HalfCheetah", "Hopper", "Humanoid", "InvertedPendulum", "Pusher", "Reacher", "Swimmer", "Walker2d")


@pytest.mark.parametrize(
    "env_id",
    ["Pendulum-v1", "ContinuousCartPole-v0", "MountainCarContinuous-v0", "Hopper-v4", *(f"{n}-v5" for n in MUJOCO)],
)
def test_nothing_is_said_of_environments_without_such_state(env_id):
    assert EnvironmentSpec(env_id).notes() == []
