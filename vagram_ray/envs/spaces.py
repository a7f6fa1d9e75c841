"""Which spaces can be used, and how actions in [-1, 1] become those of an environment."""

from __future__ import annotations

import gymnasium as gym
import numpy as np

from vagram_ray.envs.cartpole import CARTPOLE_ID
from vagram_ray.envs.errors import EnvironmentSpecError

LARGEST_BOUND = 1e15
"""From here on, or from the largest number of the bound's own type, a bound of actions is taken for "no bound"."""
LARGEST_INTEGER_BOUND = 2**31 - 1
"""The same for whole numbers."""


def check_spaces(env_id: str, env: gym.Env) -> tuple[gym.spaces.Box, gym.spaces.Box]:
    """Spaces of observations and actions.

    Raises:
        EnvironmentSpecError: They are not flat Boxes, they are empty, or actions are not bounded.
    """
    observation_space, action_space = env.observation_space, env.action_space
    has_actions = f"environment {env_id!r} has the action space {action_space}"
    if not isinstance(action_space, gym.spaces.Box):
        other = f"use {CARTPOLE_ID!r}" if env_id.startswith("CartPole-") else "choose one with a Box action space"
        raise EnvironmentSpecError(f"{has_actions}, but actions must be continuous here: {other}")
    if len(action_space.shape) != 1 or not action_space.is_bounded("both"):
        raise EnvironmentSpecError(
            f"{has_actions}, which must be flat and bounded on both sides, because actions in [-1, 1] are rescaled to "
            "it: wrap it in a registered environment that is"
        )
    if action_space.shape[0] == 0:
        raise EnvironmentSpecError(f"{has_actions}, which is empty: at least one action is needed")
    largest = _largest_bound(action_space)
    if np.abs([action_space.low.astype(np.float64), action_space.high.astype(np.float64)]).max() >= largest:
        raise EnvironmentSpecError(
            f"{has_actions}, whose bounds are too large to be meant: actions in [-1, 1] are rescaled to them, so give "
            f"bounds below {largest:g} that actions really reach"
        )
    if not isinstance(observation_space, gym.spaces.Box) or len(observation_space.shape) != 1:
        raise EnvironmentSpecError(
            f"environment {env_id!r} has the observation space {observation_space}, but a flat Box is needed: "
            "register a version wrapped in gymnasium.wrappers.FlattenObservation"
        )
    if observation_space.shape[0] == 0:
        raise EnvironmentSpecError(
            f"environment {env_id!r} has the observation space {observation_space}, which is empty: at least one "
            "number has to be observed"
        )
    return observation_space, action_space


def middle_action(space: gym.spaces.Box) -> np.ndarray:
    """The action in the middle of the range (whole numbers: next to it)."""
    return ((space.low.astype(np.float64) + space.high.astype(np.float64)) / 2).astype(space.dtype)


class ActionRange:
    """Rescales actions from [-1, 1] to the range of a Box.

    Numbers outside are clipped. In a Box of whole numbers each of them has an equal share of [-1, 1].
    """

    def __init__(self, space: gym.spaces.Box) -> None:
        """For actions (..., A) of `space`, a bounded Box (A,)."""
        self._low, self._high = space.low.astype(np.float64), space.high.astype(np.float64)
        self._dtype = np.dtype(space.dtype)
        self._whole = _is_whole(space)
        self._range = self._high - self._low + (1.0 if self._whole else 0.0)

    def rescale(self, actions: np.ndarray) -> np.ndarray:
        """Actions (..., A) in the environment's range and data type."""
        # For so few numbers np.clip costs three times what the two functions cost that it stands for.
        share = (np.minimum(np.maximum(actions, -1.0), 1.0).astype(np.float64) + 1.0) / 2.0
        scaled = self._low + share * self._range
        if self._whole:
            scaled = np.floor(scaled)
        return np.minimum(np.maximum(scaled, self._low), self._high).astype(self._dtype)


def _is_whole(space: gym.spaces.Box) -> bool:
    return np.dtype(space.dtype).kind in "iub"


def _largest_bound(space: gym.spaces.Box) -> float:
    if _is_whole(space):
        return float(LARGEST_INTEGER_BOUND)
    return min(LARGEST_BOUND, float(np.finfo(space.dtype).max))
