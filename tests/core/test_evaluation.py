import numpy as np
import pytest

from vagram_ray.core.environments import EnvStep
from vagram_ray.core.evaluation import evaluate


class Countdown:
    """Seed s runs through episodes of the given lengths; every step of seed s pays s + 1."""

    obs_dim = action_dim = 1

    def __init__(self, lengths):
        self.lengths = lengths
        self.num_seeds = len(lengths)
        self.steps = np.zeros(self.num_seeds, dtype=int)

    def reset(self):
        self.episode = np.zeros(self.num_seeds, dtype=int)
        self.t = np.zeros(self.num_seeds, dtype=int)
        return np.zeros((self.num_seeds, 1), dtype=np.float32)

    def step(self, actions, active=None):
        done = np.zeros(self.num_seeds, dtype=bool)
        for seed in np.flatnonzero(active):
            self.steps[seed] += 1
            self.t[seed] += 1
            if self.t[seed] == self.lengths[seed][self.episode[seed]]:
                done[seed], self.t[seed] = True, 0
                self.episode[seed] += 1
        obs = np.zeros((self.num_seeds, 1), dtype=np.float32)
        reward = np.where(active, np.arange(self.num_seeds) + 1.0, 0.0)
        truncated = done & (np.arange(self.num_seeds) == 0)
        return EnvStep(obs, obs, reward, done & ~truncated, truncated)


def test_every_seed_has_exactly_its_first_whole_episodes():
    envs = Countdown([[3, 50, 99], [1, 1, 1], [7, 2, 99]])
    statistics = evaluate(lambda obs: obs, envs, 2)
    assert statistics.lengths.tolist() == [[3, 50], [1, 1], [7, 2]]
    assert statistics.returns.tolist() == [[3, 50], [2, 2], [21, 6]]
    assert envs.steps.tolist() == [53, 2, 9]  # nobody steps beyond its own episodes


def test_no_episodes_are_refused():
    with pytest.raises(ValueError, match="episodes_per_seed=0"):
        evaluate(lambda obs: obs, Countdown([[1]]), 0)
