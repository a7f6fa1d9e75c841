"""Evaluation of a cohort's policies: exactly N whole episodes for every seed."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from vagram_ray.core.environments import SeedEnvironments


class EpisodeStatistics(NamedTuple):
    """Undiscounted returns and lengths of the evaluation episodes."""

    returns: np.ndarray  # (S, N)
    lengths: np.ndarray  # (S, N), environment steps


def evaluate(
    act: Callable[[np.ndarray], np.ndarray], envs: SeedEnvironments, episodes_per_seed: int
) -> EpisodeStatistics:
    """Run the policy until every seed has finished its first N episodes.

    Each seed contributes its first N episodes, however long they take. Stopping at a number of steps instead
    would favour short episodes. Seeds that are done wait without stepping.

    Args:
        act: Observations (S, D) to actions (S, A) in [-1, 1].
        envs: One environment per seed, reset here.
        episodes_per_seed: N, at least 1.
    """
    if episodes_per_seed < 1:
        raise ValueError(f"episodes_per_seed={episodes_per_seed} is not usable: evaluation needs at least 1 episode.")
    returns = np.zeros((envs.num_seeds, episodes_per_seed))
    lengths = np.zeros((envs.num_seeds, episodes_per_seed), dtype=np.int64)
    finished = np.zeros(envs.num_seeds, dtype=np.int64)
    obs = envs.reset()
    while (active := finished < episodes_per_seed).any():
        step = envs.step(act(obs), active)
        seeds = np.flatnonzero(active)
        returns[seeds, finished[seeds]] += step.reward[seeds]
        lengths[seeds, finished[seeds]] += 1
        finished[seeds] += (step.terminated | step.truncated)[seeds]
        obs = step.obs
    return EpisodeStatistics(returns, lengths)
