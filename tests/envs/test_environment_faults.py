"""Environments that return what they must not, cannot end, or draw random numbers in their own way."""

import json
import random
import warnings

import gymnasium as gym
import numpy as np
import pytest

from vagram_ray.envs import (
    EnvironmentSpec,
    EnvironmentSpecError,
    SeedVectorEnv,
    never_terminates,
    register_termination,
    seed_vector,
)
from vagram_ray.envs.errors import EnvironmentReturnError
from vagram_ray.envs.spaces import ActionRange, check_spaces

ID = "Faulty-v0"


class Faulty(gym.Env):
    """Returns `values[name]` in the place of what is right, from step `at` on."""

    observation_space = gym.spaces.Box(-np.inf, np.inf, (3,), np.float32)
    action_space = gym.spaces.Box(-1, 1, (1,), np.float32)

    def __init__(self, at=1, only=None, result=None, first=None, **values):
        self.at, self.only, self.result, self.first, self.values = at, only, result, first, values
        self.steps, self.draw = 0, 0.0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        if seed is not None:
            self.draw = self.np_random.random()
        return (np.full(3, self.draw, np.float32), {}) if self.first is None else self.first

    def step(self, action):
        self.steps += 1
        right = {"obs": np.full(3, self.draw, np.float32), "reward": 0.5, "terminated": False, "truncated": False}
        if self.steps >= self.at:
            if self.result is not None:
                return self.result
            right |= self.values
        return (*right.values(), {})


@pytest.fixture(autouse=True)
def _registered():
    gym.register(ID, entry_point=Faulty, max_episode_steps=20)
    gym.register("Endless-v0", entry_point=Faulty)
    yield
    del gym.registry[ID], gym.registry["Endless-v0"]


NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"reward": np.array([0.5], np.float32)}, ["the reward [0.5]", "one number is wanted"]),
        ({"reward": "0.5"}, ["the reward '0.5'", "one number"]),
        ({"reward": None}, ["the reward None", "finite"]),
        ({"reward": NAN}, ["the reward nan", "finite"]),
        ({"reward": -INF}, ["the reward -inf", "finite"]),
        ({"reward": 1e39}, ["the reward 1e+39", "finite float32"]),
        ({"obs": np.array([0, NAN, 0], np.float32)}, ["nan in dimension 1", "finite"]),
        ({"obs": np.array([0, 0, 1e39])}, ["1e+39 in dimension 2", "finite float32"]),
        ({"obs": [0.0, None, 0.0]}, ["nan in dimension 1"]),
        ({"obs": None}, ["the observation None", "shape (3,)"]),
        ({"obs": np.zeros((3, 1), np.float32)}, ["shape (3, 1)", "shape (3,) is wanted"]),
        ({"obs": np.zeros(1, np.float32)}, ["shape (1,)", "observation_space"]),
        ({"obs": {"a": 1}}, ["the observation {'a': 1}"]),
        ({"obs": np.array([1j, 2, 3])}, ["1j", "3 real numbers are wanted"]),
        ({"obs": np.ma.array([1.0, 2.0, 3.0], mask=[0, 1, 0])}, ["[1.0, None, 3.0]", "3 real numbers"]),
        ({"reward": 1 + 2j}, ["the reward (1+2j)", "one number is wanted"]),
        ({"reward": np.ma.masked}, ["the reward", "one number is wanted"]),
        ({"terminated": None}, ["terminated=None", "True or False"]),
        ({"truncated": np.array([True])}, ["truncated=[True]"]),
        ({"first": np.zeros(3, np.float32)}, ["[0.0, 0.0, 0.0] from reset", "(observation, info) is wanted"]),
        ({"first": (np.full(3, NAN, np.float32), {})}, ["nan in dimension 0, nan in dimension 1"]),
        ({"result": (np.zeros(3, np.float32), 0.0, False, {})}, ["unpack", "step must return (observation, reward"]),
    ],
)
def test_what_the_first_step_shows_is_refused(values, words):
    with pytest.raises(EnvironmentSpecError) as caught:
        EnvironmentSpec(ID, env_kwargs=values, kwargs_name="env_config").validate()
    for word in [repr(ID), *words]:
        assert word in str(caught.value)
    assert "env_kwargs" not in str(caught.value) and "\n" not in str(caught.value)


def test_an_old_step_without_a_time_limit_and_an_old_reset_without_a_seed():
    with pytest.raises(EnvironmentSpecError, match=r"a tuple of 4 from step, but \(observation, reward, terminated"):
        EnvironmentSpec("Endless-v0", env_kwargs={"result": (np.zeros(3), 0.0, False, {})}).validate()

    class OldReset(Faulty):
        def reset(self):
            return np.zeros(3)

    gym.registry[ID].entry_point = OldReset
    with pytest.raises(EnvironmentSpecError, match="its reset must take seed=None and options=None") as caught:
        EnvironmentSpec(ID).validate()
    assert "env_kwargs" not in str(caught.value)


def envs_with_a_fault(seeds=(4, 7), env_id=ID, at=3, evaluation=False, **values):
    """A cohort whose first environment goes wrong at its step `at`."""
    envs = SeedVectorEnv(EnvironmentSpec(env_id), seeds, evaluation=evaluation)
    vars(envs._envs[0].unwrapped).update(at=at, values=values, steps=0)
    return envs


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"reward": NAN}, "the reward nan"),
        ({"reward": None}, "the reward None"),
        ({"reward": 1e39}, r"the reward 1e\+39"),
        ({"obs": np.array([0, INF, 0], np.float32)}, "inf in dimension 1"),
    ],
)
def test_a_number_that_is_not_finite_is_told_with_seed_and_step_and_stops_no_neighbour(values, words):
    envs, sound = envs_with_a_fault(**values), SeedVectorEnv(EnvironmentSpec(ID), (4, 7))
    envs.reset(), sound.reset()
    zeros = np.zeros((2, 1))
    for _ in range(2):
        envs.step(zeros), sound.step(zeros)
    assert envs.faults == {}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="overflow")
        with pytest.warns(RuntimeWarning, match=f"'Faulty-v0', seed 4, training step 3, returned .*{words}"):
            step = envs.step(zeros)
    assert list(envs.faults) == [0] and "finite" in envs.faults[0]
    assert not np.isfinite([*step.next_obs[0], step.reward[0]]).all()
    for mine, its in zip(step, sound.step(zeros), strict=True):
        np.testing.assert_array_equal(mine[1], its[1])
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="overflow")
        warnings.filterwarnings("error", message="environment")  # told once
        envs.step(zeros)
    restored = SeedVectorEnv(EnvironmentSpec(ID), (4, 7))
    restored.set_state(json.loads(json.dumps(envs.get_state())))
    assert restored.faults == envs.faults and restored.get_state() == envs.get_state()


def test_large_finite_numbers_are_no_fault():
    envs = envs_with_a_fault(obs=np.full(3, 3e38, np.float32), reward=-3e38)
    envs.reset()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(4):
            step = envs.step(np.zeros((2, 1)))
    assert step.reward[0] == np.float32(-3e38) and envs.faults == {}


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"obs": None}, "the observation None"),
        ({"obs": np.zeros(1, np.float32)}, r"shape \(1,\) from step, but shape \(3,\)"),
        ({"reward": np.zeros(1)}, r"the reward \[0.0\]"),
        ({"truncated": None}, "truncated=None"),
    ],
)
def test_a_wrong_form_in_the_midst_of_training_is_an_error(values, words):
    envs = envs_with_a_fault(**values)
    envs.reset(), envs.step(np.zeros((2, 1))), envs.step(np.zeros((2, 1)))
    with pytest.raises(EnvironmentReturnError, match=f"'Faulty-v0', seed 4, training step 3, returned .*{words}"):
        envs.step(np.zeros((2, 1)))


def test_an_error_of_the_environment_says_where_it_was():
    envs = envs_with_a_fault()
    envs._envs[0].unwrapped.result = (1, 2)
    envs.reset(), envs.step(np.zeros((2, 1))), envs.step(np.zeros((2, 1)))
    with pytest.raises(ValueError, match="unpack") as caught:
        envs.step(np.zeros((2, 1)))
    assert caught.value.__notes__ == ["Raised by environment 'Faulty-v0', seed 4, training step 3, in step."]


# -- episodes without an end --------------------------------------------------------------------------------


@pytest.mark.parametrize("env_id", ["HalfCheetah-v4", "Pendulum-v1"])
def test_gymnasiums_endless_environments_without_a_time_limit_are_refused(env_id):
    spec = EnvironmentSpec(env_id, env_kwargs={"max_episode_steps": -1}, kwargs_name="env_config")
    with pytest.raises(EnvironmentSpecError, match=r"cannot end: .*env_config=\{'max_episode_steps': 1000\}"):
        spec.validate()


def test_others_without_a_time_limit_may_end_by_themselves():
    register_termination("Endless-v0", never_terminates)
    EnvironmentSpec("Endless-v0").validate()
    assert "no time limit: evaluation episodes that do not end are cut after 10,000 steps" in str(
        EnvironmentSpec("Endless-v0").notes()
    )
    assert EnvironmentSpec("Hopper-v4", env_kwargs={"max_episode_steps": -1}).notes() == []
    EnvironmentSpec("Hopper-v4", env_kwargs={"max_episode_steps": -1}).validate()


def test_evaluation_without_a_time_limit_is_cut_and_says_so(monkeypatch):
    monkeypatch.setattr(seed_vector, "EVALUATION_STEP_LIMIT", 5)
    envs = SeedVectorEnv(EnvironmentSpec("Endless-v0"), (3,), evaluation=True)
    envs.reset()
    flags = []
    with pytest.warns(RuntimeWarning, match="seed 3, evaluation step 5: .*within 5 steps.*max_episode_steps") as caught:
        for _ in range(11):
            flags.append(bool(envs.step(np.zeros((1, 1))).truncated[0]))
    assert [i + 1 for i, flag in enumerate(flags) if flag] == [5, 10] and len(caught) == 1
    for unlimited in (SeedVectorEnv(EnvironmentSpec("Endless-v0"), (3,)),
                      SeedVectorEnv(EnvironmentSpec(ID), (3,), evaluation=True)):  # fmt: skip
        unlimited.reset()
        assert not any(unlimited.step(np.zeros((1, 1))).truncated[0] for _ in range(11))


# -- random generators --------------------------------------------------------------------------------------


def drawing(make, main=True):
    """An environment whose numbers come from ``make(seed)``, as np_random or as another attribute."""

    class Drawing(Faulty):
        def reset(self, *, seed=None, options=None):
            if main:
                if seed is not None:
                    self._np_random = make(seed)
            else:
                gym.Env.reset(self, seed=seed)
                if seed is not None:
                    self.own = make(seed)
            return self._draw(), {}

        def step(self, action):
            return self._draw(), 0.0, False, False, {}

        def _draw(self):
            source = self._np_random if main else self.own
            if isinstance(source, random.Random):
                return np.float32([source.gauss(0, 1) for _ in range(3)])
            return source.normal(size=3).astype(np.float32)

    return Drawing


@pytest.mark.parametrize("main", [True, False])
@pytest.mark.parametrize(
    "make",
    [
        np.random.RandomState,
        lambda seed: np.random.RandomState(np.random.PCG64(seed)),
        random.Random,
        np.random.default_rng,
        lambda seed: np.random.Generator(np.random.Philox(seed)),
    ],
)
def test_every_kind_of_generator_goes_on_bit_for_bit(make, main):
    gym.registry[ID].entry_point = drawing(make, main)
    one, other = (SeedVectorEnv(EnvironmentSpec(ID), (0, 5)) for _ in range(2))
    one.reset()
    for _ in range(7):  # an odd number of normal draws: half of a pair is kept for the next
        one.step(np.zeros((2, 1)))
    other.set_state(json.loads(json.dumps(one.get_state())))
    np.testing.assert_array_equal(one.reset(), other.reset())
    for _ in range(25):
        np.testing.assert_array_equal(one.step(np.zeros((2, 1))).obs, other.step(np.zeros((2, 1))).obs)


@pytest.mark.parametrize("found", [None, random.SystemRandom(), random, 3, np.random.mtrand._rand, random._inst])
def test_generators_that_cannot_be_saved_are_refused(found):
    class Foreign(Faulty):
        np_random = found

        def reset(self, *, seed=None, options=None):
            return np.zeros(3, np.float32), {}

    gym.registry[ID].entry_point = Foreign
    with pytest.raises(EnvironmentSpecError, match=r"'Faulty-v0' (has np_random=|draws from the process's global)"):
        EnvironmentSpec(ID).validate()

    class WithMethods(Foreign):
        def get_generator_state(self):
            return {"count": self.steps}

        def set_generator_state(self, state):
            self.steps = state["count"]

    gym.registry[ID].entry_point = WithMethods
    envs = SeedVectorEnv(EnvironmentSpec(ID), (0,))
    envs.reset(), envs.step(np.zeros((1, 1)))
    envs.set_state(json.loads(json.dumps(envs.get_state())))
    assert envs.get_state()["environments"][0]["layers"][-1] == {"count": 1}


# -- spaces -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("low", "high", "dtype"),
    [(0, 1, np.int32), (-3, 3, np.int64), (0, 255, np.uint8), (-100, 120, np.int8), (2, 2, np.int16), (0, 1, np.bool_)],
)
def test_each_whole_number_has_an_equal_share_of_the_actions(low, high, dtype):
    space = gym.spaces.Box(low, high, (1,), dtype)
    count = high - low + 1
    middles = (np.arange(count * 100) + 0.5) / (count * 100) * 2 - 1
    taken = ActionRange(space).rescale(middles[:, None])
    assert taken.dtype == space.dtype
    numbers, shares = np.unique(taken.astype(int), return_counts=True)
    np.testing.assert_array_equal(numbers, np.arange(low, high + 1))
    np.testing.assert_array_equal(shares, 100)
    ends = ActionRange(space).rescale(np.array([[-1.0], [1.0], [-9.0], [9.0]]))[:, 0].astype(int)
    assert ends.tolist() == [low, high, low, high]


def faulty_with(**spaces):
    env = Faulty()
    vars(env).update(spaces)
    return env


@pytest.mark.parametrize(
    ("low", "high", "dtype"),
    [
        (-1e38, 1e38, np.float32),
        (-1, np.finfo(np.float32).max, np.float32),
        (np.finfo(np.float64).min, np.finfo(np.float64).max, np.float64),
        (-1e308, 0, np.float64),
        (-65504, 65504, np.float16),
        (np.iinfo(np.int32).min, np.iinfo(np.int32).max, np.int32),
        (np.iinfo(np.int64).min, np.iinfo(np.int64).max, np.int64),
    ],
)
def test_bounds_that_stand_for_infinity_are_refused(low, high, dtype):
    with pytest.raises(EnvironmentSpecError, match=r"too large to be meant.*bounds below"):
        check_spaces("Some-v0", faulty_with(action_space=gym.spaces.Box(low, high, (1,), dtype)))


def test_large_bounds_that_are_meant_are_kept_and_empty_spaces_refused():
    check_spaces("Some-v0", faulty_with(action_space=gym.spaces.Box(-1e9, 1e9, (1,), np.float32)))
    empty = gym.spaces.Box(-1, 1, (0,), np.float32)
    with pytest.raises(EnvironmentSpecError, match=r"observation space .* which is empty"):
        check_spaces("Some-v0", faulty_with(observation_space=empty))
    with pytest.raises(EnvironmentSpecError, match=r"action space .* which is empty"):
        check_spaces("Some-v0", faulty_with(action_space=empty))


def test_observations_bounded_by_the_largest_float64_make_no_noise():
    space = gym.spaces.Box(-1.7e308, 1.7e308, (3,), np.float64)
    gym.registry[ID].entry_point = lambda: faulty_with(observation_space=space)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.isinf(SeedVectorEnv(EnvironmentSpec(ID), (0,)).observation_space.low).all()
