"""An environment in Gymnasium's wrappers with state, and in one with state of its own; importing registers it."""

import gymnasium as gym
from gymnasium.wrappers import NormalizeObservation, NormalizeReward

from vagram_ray.envs import never_terminates, register_termination

ID = "tests.rllib.wrapped:WrappedPendulum-v0"
NAME = ID.rpartition(":")[2]


class Curriculum(gym.Wrapper):
    """Rewards grow with the number of episodes."""

    def __init__(self, env: gym.Env):
        super().__init__(env)
        self.episodes = 0

    def reset(self, **kwargs):
        self.episodes += 1
        return self.env.reset(**kwargs)

    def step(self, action):
        obs, reward, *ends = self.env.step(action)
        return obs, reward + self.episodes, *ends

    def get_state(self):
        return {"episodes": self.episodes}

    def set_state(self, state):
        self.episodes = state["episodes"]


def make() -> gym.Env:
    return NormalizeObservation(NormalizeReward(Curriculum(gym.make("Pendulum-v1").unwrapped)))


if NAME not in gym.registry:
    gym.register(NAME, entry_point=make)
    register_termination(NAME, never_terminates)
