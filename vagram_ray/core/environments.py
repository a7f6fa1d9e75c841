"""The environments that the method needs: one batched step over all seeds, and a termination function.

The method never sees a simulator. It talks to a :class:`SeedEnvironments`, which holds one environment
per seed, and to a :data:`TerminationFn`, which tells for imagined transitions whether they end an episode.
Shapes below: S seeds, D observation dimensions, A action dimensions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol, TypeAlias

import numpy as np
from torch import Tensor

TerminationFn: TypeAlias = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Maps observations (..., D), actions (..., A) in [-1, 1] and next observations (..., D) to a boolean tensor (...).

True where the transition ends the episode for good (a fall, not a time limit).
"""


class EnvStep(NamedTuple):
    """Result of one step of all environments.

    Attributes:
        next_obs: (S, D) float32, the true successor of each observation, also at the end of an episode.
        obs: (S, D) float32, what to act on next: `next_obs`, or the first observation of the next episode
            where one has just ended (same-step autoreset).
        reward: (S,) float32.
        terminated: (S,) bool, the episode ended in a terminal state: nothing follows, its value is zero.
        truncated: (S,) bool, the episode was cut by a time limit: the successor still has a value.
    """

    next_obs: np.ndarray
    obs: np.ndarray
    reward: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray


class SeedEnvironments(Protocol):
    """One environment per seed, stepped together.

    Attributes:
        num_seeds: S, the number of environments.
        obs_dim: D, the dimensions of one observation.
        action_dim: A, the dimensions of one action.
    """

    num_seeds: int
    obs_dim: int
    action_dim: int

    def reset(self) -> np.ndarray:
        """Start a new episode in every environment and return its first observations, (S, D) float32."""
        ...

    def step(self, actions: np.ndarray, active: np.ndarray | None = None) -> EnvStep:
        """Step the environments once.

        Args:
            actions: (S, A) in [-1, 1]. Each environment rescales them to its own range.
            active: (S,) bool, the environments to step, all when None. The others report zero reward,
                no end, and their last observation as both `next_obs` and `obs`.
        """
        ...
