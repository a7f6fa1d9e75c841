"""SAC on Pendulum, and its value functions along the way: what both studies start from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from vagram_ray.commands import InputError
from vagram_ray.core.evaluation import evaluate
from vagram_ray.core.mbpo import MBPOAgent
from vagram_ray.core.replay import Transitions
from vagram_ray.core.settings import MBPOSettings
from vagram_ray.core.value_gradients import ValueEstimates
from vagram_ray.envs import EnvironmentSpec, SeedVectorEnv

PENDULUM = "Pendulum-v1"
EVALUATION_EPISODES = 5

EpochReport = Callable[[int, int, np.ndarray], None]
"""Called with the epochs done, the epochs asked for, and the training returns of the last one, (S,)."""


def sac_settings(hidden_size: int = 64, learning_rate: float = 1e-3, utd_ratio: int = 10) -> MBPOSettings:
    """SAC in epochs of 200 steps. With the defaults it learns to swing the pendulum up within 3,000 steps.

    Updates are eager: ``"auto"`` would give other numbers where a compiled library lies.

    Args:
        hidden_size: Width of the two hidden layers of actor and critics.
        learning_rate: Step size of actor, critics and temperature.
        utd_ratio: Gradient updates per environment step.
    """
    return MBPOSettings(
        model_loss="none",
        actor_hidden_sizes=(hidden_size, hidden_size),
        critic_hidden_sizes=(hidden_size, hidden_size),
        normalize_observations=True,
        actor_lr=learning_rate,
        critic_lr=learning_rate,
        alpha_lr=learning_rate,
        train_batch_size_per_learner=128,
        utd_ratio=utd_ratio,
        epoch_length=200,
        num_steps_sampled_before_learning_starts=400,
        execution="eager",
    )


def epochs_of(steps: int, settings: MBPOSettings) -> int:
    """Epochs that come to ``steps`` environment steps with the warm-up.

    Raises:
        InputError: They are not whole.
    """
    warm_up, length = settings.num_steps_sampled_before_learning_starts, settings.epoch_length
    epochs = max(1, round((steps - warm_up) / length))
    if steps != warm_up + epochs * length:
        raise InputError(
            f"--steps {steps} is not usable: SAC takes {warm_up} warm-up steps and then epochs of {length}; "
            f"the nearest number is {warm_up + epochs * length}."
        )
    return epochs


@dataclass(frozen=True)
class SACRun:
    """A finished SAC run of a cohort.

    Attributes:
        seeds: S of them.
        values: The value functions after each epoch, each a copy (actor, critics, targets and the scaling of
            observations) that no later training changes.
        value_env_steps: Environment steps per seed, warm-up included, that each of ``values`` has learned from.
        data: All real transitions in order of arrival, (S, N, ...).
        returns: Mean undiscounted return of the last policy over ``episodes`` evaluation episodes, (S,).
        episodes: Their number.
    """

    seeds: tuple[int, ...]
    values: list[ValueEstimates]
    value_env_steps: list[int]
    data: Transitions
    returns: np.ndarray
    episodes: int = EVALUATION_EPISODES

    @property
    def env_steps(self) -> int:
        """N, the environment steps per seed, warm-up included."""
        return self.value_env_steps[-1]


def train_sac(seeds: Sequence[int], epochs: int, settings: MBPOSettings, on_epoch: EpochReport | None = None) -> SACRun:
    """Train SAC on Pendulum for ``epochs`` epochs after its warm-up. Equal arguments give equal numbers.

    Raises:
        InputError: The numbers of a seed did not stay finite.
    """
    spec = EnvironmentSpec(PENDULUM)
    obs_dim, action_dim = spec.dimensions()
    envs = SeedVectorEnv(spec, seeds)
    agent = MBPOAgent(settings, seeds=seeds, obs_dim=obs_dim, action_dim=action_dim, termination=None)
    every_seed = torch.arange(len(agent.seeds))
    values, steps = [], []
    for epoch in range(epochs):
        metrics = agent.train_epoch(envs)
        if agent.failed.any():
            broken = [seed for seed, failed in zip(agent.seeds, agent.failed, strict=True) if failed]
            raise InputError(f"SAC's numbers did not stay finite for seeds {broken}: leave these seeds out.")
        current = ValueEstimates.of_settings(agent.sac, settings)
        values.append(current.select_seeds(every_seed))
        steps.append(agent.env_steps)
        if on_epoch is not None:
            on_epoch(epoch + 1, epochs, metrics["train/episode_return"])
    evaluation = SeedVectorEnv(spec, seeds, evaluation=True)
    statistics = evaluate(lambda obs: agent.act(obs, deterministic=True), evaluation, EVALUATION_EPISODES)
    for environments in (envs, evaluation):
        environments.close()
    data = agent.replay.layout.split(agent.replay.rows.clone())
    return SACRun(agent.seeds, values, steps, data, statistics.returns.mean(axis=1))
