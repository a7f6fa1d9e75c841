"""One environment per seed, stepped one after the other in the process that trains."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import gymnasium as gym
import numpy as np

from vagram_ray.core.environments import EnvStep
from vagram_ray.envs.distractors import current_distractor_settings, distractor_settings_without_effect
from vagram_ray.envs.errors import EnvironmentSpecError
from vagram_ray.envs.spec import EnvironmentSpec, check_seed


class SeedVectorEnv:
    """The environments of a cohort: environment i belongs to seed i and has random generators of its own.

    No environment knows of the others: those of a cohort give the numbers that they would give alone.
    Actions are in [-1, 1] and are rescaled to each environment's range here, the only place that does so. When an
    episode ends the next one starts in the same step (same-step autoreset); the true last observation is in
    `EnvStep.next_obs`. An episode that fails on its very last step may be both terminated and truncated.

    Attributes:
        spec: what environment.
        seeds: its seeds, S of them.
        evaluation: whether these are the evaluation environments of the seeds.
        num_seeds: S.
        obs_dim: D, distractors included.
        action_dim: A.
        observation_space: Box (D,) float32, of one environment.
        action_space: Box (A,) float32 of [-1, 1], of one environment.
        guard: makes the context in which environments step and reset; none by default.
    """

    def __init__(self, spec: EnvironmentSpec, seeds: Sequence[int], *, evaluation: bool = False) -> None:
        """Make and seed the environments; call `reset` before the first `step`.

        Args:
            spec: what environment.
            seeds: its seeds.
            evaluation: whether these are evaluation environments.

        Raises:
            EnvironmentSpecError: no seeds, a seed that is no integer >= 0, or a spec that `validate` refuses.
        """
        if len(seeds) == 0:
            raise EnvironmentSpecError("seeds=() names no seed: give at least one integer >= 0")
        self.spec = spec
        self.seeds = tuple(check_seed(seed) for seed in seeds)
        self.evaluation = evaluation
        spec.validate()
        self._envs = [spec.make(seed, evaluation=evaluation) for seed in self.seeds]
        observation_space, action_space = self._envs[0].observation_space, self._envs[0].action_space
        assert isinstance(observation_space, gym.spaces.Box) and isinstance(action_space, gym.spaces.Box)
        self._low, self._high = action_space.low.astype(np.float64), action_space.high.astype(np.float64)
        self._range = self._high - self._low
        self._action_dtype = np.dtype(action_space.dtype)
        self.num_seeds = len(self.seeds)
        self.obs_dim = observation_space.shape[0]
        self.action_dim = action_space.shape[0]
        self.observation_space = gym.spaces.Box(
            observation_space.low.astype(np.float32), observation_space.high.astype(np.float32), dtype=np.float32
        )
        self.action_space = gym.spaces.Box(-1.0, 1.0, shape=(self.action_dim,), dtype=np.float32)
        self.guard: Callable[[], AbstractContextManager[None]] = nullcontext
        self._obs: np.ndarray | None = None
        self._closed = False

    def reset(self) -> np.ndarray:
        """Start a new episode in every environment; its first observations, (S, D) float32.

        The streams of episodes were seeded from (seed, evaluation) at construction and go on from where they are.
        """
        with self.guard():
            self._obs = np.stack([env.reset()[0] for env in self._envs]).astype(np.float32)
        return self._obs.copy()

    def step(self, actions: np.ndarray, active: np.ndarray | None = None) -> EnvStep:
        """Step the environments once.

        Args:
            actions: (S, A) in [-1, 1]; numbers outside are clipped. An action that is not finite becomes the
                middle of the range, with a warning, so that one seed's NaN cannot stop its neighbours.
            active: (S,) bool, which environments to step; all when None. The others report zero reward, no
                end, and their last observation as `next_obs` and `obs`.

        Raises:
            RuntimeError: no `reset` since construction or `set_state`.
            ValueError: `actions` or `active` has a wrong shape.
        """
        if self._obs is None:
            raise RuntimeError("step() was called without a running episode: call reset() first")
        stepped = self._checked_active(active)
        scaled = self._rescale(np.asarray(actions), stepped)
        reward = np.zeros(self.num_seeds, dtype=np.float32)
        terminated, truncated = np.zeros((2, self.num_seeds), dtype=bool)
        next_obs, obs = self._obs.copy(), self._obs.copy()
        with self.guard():
            for i in np.flatnonzero(stepped).tolist():
                env = self._envs[i]
                next_obs[i], reward[i], terminated[i], truncated[i], _ = env.step(scaled[i])
                obs[i] = env.reset()[0] if terminated[i] or truncated[i] else next_obs[i]
        self._obs = obs.copy()
        return EnvStep(next_obs, obs, reward, terminated, truncated)

    def get_state(self) -> dict[str, Any]:
        """The state of every random generator, as a dict that JSON can hold.

        Episodes that are under way are not part of it: an instance that takes the state goes on exactly as
        this one does after the next `reset` of both. Covered are the environment's ``np_random`` and every
        wrapper with ``get_generator_state`` and ``set_generator_state``; an environment that draws its random
        numbers elsewhere is not exact.
        """
        return {
            "spec": self._description(),
            "seeds": list(self.seeds),
            "environments": [_get_generator_states(env) for env in self._envs],
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Take over what `get_state` returned; `reset` must follow.

        Raises:
            EnvironmentSpecError: the state is of other seeds or another environment.
        """
        saved = _with_effect(current_distractor_settings(state["spec"]))
        for name, theirs, mine in (
            ("spec", saved, _with_effect(self._description())),
            ("seeds", state["seeds"], list(self.seeds)),
        ):
            if theirs != mine:
                raise EnvironmentSpecError(
                    f"the saved environments have {name} {theirs}, these have {mine}: restore with the same {name}"
                )
        for env, its_state in zip(self._envs, state["environments"], strict=True):
            _set_generator_states(env, its_state)
        self._obs = None

    def close(self) -> None:
        """Close every environment; nothing can be stepped afterwards."""
        if not self._closed:
            self._closed = True
            self._obs = None
            for env in self._envs:
                env.close()

    def _description(self) -> dict[str, Any]:
        return {
            "env_id": self.spec.env_id,
            "num_distractors": int(self.spec.num_distractors),
            "distractor_process": str(self.spec.distractor_process),
            "distractor_scale": str(self.spec.distractor_scale),
            "distractor_reset": str(self.spec.distractor_reset),
            "evaluation": bool(self.evaluation),
        }

    def _checked_active(self, active: np.ndarray | None) -> np.ndarray:
        if active is None:
            return np.ones(self.num_seeds, dtype=bool)
        mask = np.asarray(active, dtype=bool)
        if mask.shape != (self.num_seeds,):
            raise ValueError(f"active has shape {mask.shape}: it must be ({self.num_seeds},), one bool per seed")
        return mask

    def _rescale(self, actions: np.ndarray, stepped: np.ndarray) -> np.ndarray:
        """Actions (S, A) from [-1, 1] to the range of the environment."""
        if actions.shape != (self.num_seeds, self.action_dim):
            raise ValueError(
                f"actions have shape {actions.shape}: it must be ({self.num_seeds}, {self.action_dim}), a row per seed"
            )
        finite = np.isfinite(actions)
        if not finite.all():
            broken = stepped & ~finite.all(axis=1)
            if broken.any():
                seeds = [seed for seed, is_broken in zip(self.seeds, broken, strict=True) if is_broken]
                warnings.warn(f"seeds {seeds} act with NaN or infinity: replaced by zero", RuntimeWarning, stacklevel=3)
            actions = np.where(finite, actions, 0.0)
        # For so few numbers np.clip costs three times what the two functions cost that it stands for.
        share = (np.minimum(np.maximum(actions, -1.0), 1.0).astype(np.float64) + 1.0) / 2.0
        scaled = np.minimum(np.maximum(self._low + share * self._range, self._low), self._high)
        return scaled.astype(self._action_dtype)


def _with_effect(description: dict[str, Any]) -> dict[str, Any]:
    unused = distractor_settings_without_effect(description)
    return {name: value for name, value in description.items() if name not in unused}


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
