"""Environments that step one after the other in the process that holds them.

A cohort is one such group, or several in processes of their own (`workers`). Nothing here needs PyTorch, which would
cost each of those processes a second to start and 100 MiB.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np

from vagram_ray.envs.spec import EnvironmentSpec


class StepArrays(NamedTuple):
    """Where a step of n environments writes; the fields are those of `EnvStep`."""

    next_obs: np.ndarray
    obs: np.ndarray
    reward: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray

    def rows(self, rows: slice) -> StepArrays:
        """The same memory, of some environments."""
        return StepArrays(*(array[rows] for array in self))


class StepGroup:
    """The environments of some seeds.

    Attributes:
        envs: one per seed, made and seeded.
        seeds: the seeds.
    """

    def __init__(self, spec: EnvironmentSpec, seeds: Sequence[int], *, evaluation: bool) -> None:
        self.seeds = tuple(seeds)
        self.envs = [spec.make(seed, evaluation=evaluation) for seed in self.seeds]

    def reset(self) -> np.ndarray:
        """Start an episode in each environment; first observations (n, D) float32."""
        return np.stack([env.reset()[0] for env in self.envs]).astype(np.float32)

    def step(self, actions: np.ndarray, active: np.ndarray, out: StepArrays) -> None:
        """Step the environments that are `active` (n,) and write their rows of `out`, no others.

        Args:
            actions: (n, A) in the environments' own range.
            active: (n,) bool.
            out: arrays of n rows; `out.obs` gets the first observation of the next episode where one has ended.
        """
        next_obs, obs, reward, terminated, truncated = out
        for i in np.flatnonzero(active).tolist():
            env = self.envs[i]
            next_obs[i], reward[i], terminated[i], truncated[i], _ = env.step(actions[i])
            obs[i] = env.reset()[0] if terminated[i] or truncated[i] else next_obs[i]

    def get_generator_states(self) -> list[dict[str, Any]]:
        """The state of every random generator, a dict per environment that JSON can hold."""
        return [_get_generator_states(env) for env in self.envs]

    def set_generator_states(self, states: Sequence[dict[str, Any]]) -> None:
        """Take over what `get_generator_states` of a group with the same seeds returned."""
        for env, saved in zip(self.envs, states, strict=True):
            _set_generator_states(env, saved)

    def close(self) -> None:
        """Close every environment."""
        for env in self.envs:
            env.close()


def _layers(env: gym.Env) -> Iterator[gym.Env]:
    """The wrappers of an environment from the outermost inwards, then the environment itself."""
    while isinstance(env, gym.Wrapper):
        yield env
        env = env.env
    yield env


def _get_generator_states(env: gym.Env) -> dict[str, Any]:
    wrappers = [_own_method(layer, "get_generator_state") for layer in _layers(env)]
    return {
        "np_random": _plain(env.unwrapped.np_random.bit_generator.state),
        "layers": [None if get is None else _plain(get()) for get in wrappers],
    }


def _set_generator_states(env: gym.Env, state: dict[str, Any]) -> None:
    env.unwrapped.np_random.bit_generator.state = state["np_random"]
    for layer, saved in zip(_layers(env), state["layers"], strict=True):
        set_state = _own_method(layer, "set_generator_state")
        if set_state is not None:
            set_state(saved)


def _own_method(layer: gym.Env, name: str) -> Any:
    """A method of the layer's own class (plain attribute access would find the wrapped environment's too)."""
    return getattr(layer, name) if hasattr(type(layer), name) else None


def _plain(value: Any) -> Any:
    """NumPy values inside dicts as Python's own, so that JSON and ``torch.load(weights_only=True)`` read them."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    return value
