"""A task small enough to reason about: move a point on a line to the origin."""

from __future__ import annotations

import numpy as np
import torch

from vagram_ray.core.environments import EnvStep
from vagram_ray.core.mbpo import MBPOAgent
from vagram_ray.core.settings import MBPOSettings


class PointEnvs:
    """x' = clip(x + 0.2 a, -1, 1), reward -x'^2, episodes of ``horizon`` steps; terminated at |x'| = 1 if ``cliff``."""

    obs_dim, action_dim = 2, 1  # (x, constant)

    def __init__(self, seeds, horizon=20, cliff=False):
        self.num_seeds = len(seeds)
        self.horizon, self.cliff = horizon, cliff
        self.generators = [np.random.default_rng(seed) for seed in seeds]

    def _obs(self):
        return np.stack([self.x, np.ones_like(self.x)], axis=1).astype(np.float32)

    def _start(self, seed):
        self.x[seed] = self.generators[seed].uniform(-0.8, 0.8)
        self.t[seed] = 0

    def reset(self):
        self.x, self.t = np.zeros(self.num_seeds), np.zeros(self.num_seeds, dtype=int)
        for seed in range(self.num_seeds):
            self._start(seed)
        return self._obs()

    def step(self, actions, active=None):
        active = np.ones(self.num_seeds, dtype=bool) if active is None else active
        self.x = np.where(active, np.clip(self.x + 0.2 * actions[:, 0], -1, 1), self.x)
        self.t = self.t + active
        reward = np.where(active, -(self.x**2), 0.0).astype(np.float32)
        next_obs = self._obs()
        terminated = active & (np.abs(self.x) >= 1) & self.cliff
        truncated = active & ~terminated & (self.t >= self.horizon)
        for seed in np.flatnonzero(terminated | truncated):
            self._start(seed)
        return EnvStep(next_obs, self._obs(), reward, terminated, truncated)


def cliff_termination(obs, action, next_obs):
    return next_obs[..., 0].abs() >= 1


def never(obs, action, next_obs):
    return torch.zeros(next_obs.shape[:-1], dtype=torch.bool, device=next_obs.device)


SMALL = dict(
    actor_hidden_sizes=(32, 32),
    critic_hidden_sizes=(32, 32),
    actor_lr=3e-3,
    critic_lr=3e-3,
    train_batch_size_per_learner=64,
    num_layers=2,
    hidden_size=16,
    ensemble_size=3,
    num_elites=2,
    model_patience=3,
    model_batch_size=32,
    model_lr=3e-3,
    epoch_length=60,
    num_steps_sampled_before_learning_starts=100,
    utd_ratio=2,
    model_train_freq=20,
    rollouts_per_step=5,
    real_ratio=(0, 2, 1.0, 0.1),
)


def small_settings(**overrides) -> MBPOSettings:
    return MBPOSettings(**{"execution": "eager", **SMALL, **overrides})


def small_agent(seeds=(0, 1), device="cpu", **overrides) -> MBPOAgent:
    settings = small_settings(**overrides)
    return MBPOAgent(settings, seeds=seeds, obs_dim=2, action_dim=1, termination=never, device=device)
