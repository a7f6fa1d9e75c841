"""One environment per seed, stepped one after the other in the process that trains."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import gymnasium as gym
import numpy as np

from vagram_ray.core.environments import EnvStep
from vagram_ray.envs.distractors import current_distractor_settings, distractor_settings_without_effect
from vagram_ray.envs.errors import EnvironmentReturnError, EnvironmentSpecError
from vagram_ray.envs.generators import get_generator_states, layers, set_generator_states
from vagram_ray.envs.lasting_state import get_lasting_states, set_lasting_states
from vagram_ray.envs.returned import not_finite, wrong_reset, wrong_step
from vagram_ray.envs.spaces import ActionRange
from vagram_ray.envs.spec import EVALUATION_STEP_LIMIT, EnvironmentSpec, check_seed

# Kinds that need no closer look, which costs as much as a step of a small environment.
_USUAL_REWARDS = frozenset({float, int, np.float64, np.float32, np.int64, np.int32})
_USUAL_FLAGS = frozenset({bool, np.bool_})


class SeedVectorEnv:
    """The environments of a cohort: environment i belongs to seed i and has random generators of its own.

    No environment knows of the others: those of a cohort give the numbers that they would give alone.
    Actions are in [-1, 1] and are rescaled to each environment's range here, the only place that does so. When an
    episode ends the next one starts in the same step (same-step autoreset). The true last observation is in
    `EnvStep.next_obs`. An episode that fails on its very last step may be both terminated and truncated.

    A number that is not finite in float32 is passed on, and what the environment returned is said in a warning and in
    `faults`. The others go on. Evaluation episodes of an environment without Gymnasium's time limit are truncated
    after `EVALUATION_STEP_LIMIT` steps, with a warning.

    Attributes:
        spec: what environment.
        seeds: its seeds, S of them.
        evaluation: whether these are the evaluation environments of the seeds.
        num_seeds: S.
        obs_dim: D, distractors included.
        action_dim: A.
        observation_space: Box (D,) float32, of one environment.
        action_space: Box (A,) float32 of [-1, 1], of one environment.
        guard: makes the context in which environments step and reset, none by default.
        faults: position of a seed to a sentence on the first number from its environment that was not finite.
    """

    def __init__(
        self,
        spec: EnvironmentSpec,
        seeds: Sequence[int],
        *,
        evaluation: bool = False,
        episodes: int | None = None,
        lasting: Sequence[dict[str, Any] | None] | None = None,
    ) -> None:
        """Make and seed the environments. Call `reset` before the first `step`.

        Args:
            spec: what environment.
            seeds: its seeds.
            evaluation: whether these are evaluation environments.
            episodes: see `EnvironmentSpec.make`.
            lasting: see `EnvironmentSpec.make`.

        Raises:
            EnvironmentSpecError: no seeds, a seed that is no integer >= 0, or a spec that `validate` refuses.
        """
        if len(seeds) == 0:
            raise EnvironmentSpecError("seeds=() names no seed: give at least one integer >= 0")
        self.spec = spec
        self.seeds = tuple(check_seed(seed) for seed in seeds)
        self.evaluation = evaluation
        spec.validate()
        self._envs = [spec.make(seed, evaluation=evaluation, episodes=episodes, lasting=lasting) for seed in self.seeds]
        observation_space, action_space = self._envs[0].observation_space, self._envs[0].action_space
        assert isinstance(observation_space, gym.spaces.Box) and isinstance(action_space, gym.spaces.Box)
        self._action_range = ActionRange(action_space)
        self.num_seeds = len(self.seeds)
        self.obs_dim = observation_space.shape[0]
        self.action_dim = action_space.shape[0]
        with np.errstate(over="ignore"):  # float64's largest values are bounds as good as infinity
            low, high = observation_space.low.astype(np.float32), observation_space.high.astype(np.float32)
        self.observation_space = gym.spaces.Box(low, high, dtype=np.float32)
        self.action_space = gym.spaces.Box(-1.0, 1.0, shape=(self.action_dim,), dtype=np.float32)
        self.guard: Callable[[], AbstractContextManager[None]] = nullcontext
        self.faults: dict[int, str] = {}
        self._obs: np.ndarray | None = None
        self._obs_shape = (self.obs_dim,)
        self._steps = [0] * self.num_seeds
        limited = any(isinstance(layer, gym.wrappers.TimeLimit) for layer in layers(self._envs[0]))
        self._step_limit = EVALUATION_STEP_LIMIT if evaluation and not limited else None
        self._episode_ends = [0] * self.num_seeds  # the step at which `_step_limit` cuts the episode
        self._told_of_limit = False
        self._closed = False

    def reset(self) -> np.ndarray:
        """Start a new episode in every environment. Returns its first observations, (S, D) float32.

        The streams of episodes were seeded from (seed, evaluation) at construction and go on from where they are.
        """
        self._obs = np.zeros((self.num_seeds, self.obs_dim), dtype=np.float32)
        with self.guard():
            for i in range(self.num_seeds):
                self._obs[i] = self._reset_one(i)
        return self._obs.copy()

    def step(self, actions: np.ndarray, active: np.ndarray | None = None) -> EnvStep:
        """Step the environments once.

        Args:
            actions: (S, A) in [-1, 1]. Numbers outside are clipped. An action that is not finite becomes the
                middle of the range, with a warning, so that one seed's NaN cannot stop its neighbours.
            active: (S,) bool, which environments to step, all when None. The others report zero reward, no
                end, and their last observation as `next_obs` and `obs`.

        Raises:
            RuntimeError: no `reset` since construction or `set_state`.
            ValueError: `actions` or `active` has a wrong shape.
            EnvironmentReturnError: an environment returned something of another form than it declares.
        """
        if self._obs is None:
            raise RuntimeError("step() was called without a running episode: call reset() first")
        stepped = self._checked_active(active)
        scaled = self._rescale(np.asarray(actions), stepped)
        reward = np.zeros(self.num_seeds, dtype=np.float32)
        terminated, truncated = np.zeros((2, self.num_seeds), dtype=bool)
        next_obs, obs = self._obs.copy(), self._obs.copy()
        returned: list[Any] = [None] * self.num_seeds
        with self.guard():
            for i in np.flatnonzero(stepped).tolist():
                result = returned[i] = self._step_one(i, scaled[i])
                next_obs[i], reward[i], terminated[i], truncated[i], _ = result
                if self._step_limit is not None and not terminated[i] and not truncated[i]:
                    truncated[i] = self._reached_limit(i)
                obs[i] = self._reset_one(i) if terminated[i] or truncated[i] else next_obs[i]
        # Python's sum of so few numbers is faster than NumPy's, and sums of float32 numbers cannot overflow in it.
        if not math.isfinite(sum(next_obs.ravel().tolist()) + sum(reward.tolist())):
            for i in np.flatnonzero(stepped).tolist():
                self._note_fault(i, not_finite(*returned[i][:2]))
        self._obs = obs.copy()
        return EnvStep(next_obs, obs, reward, terminated, truncated)

    def get_state(self) -> dict[str, Any]:
        """What outlasts a reset, as a dict that JSON can hold: random generators, and what wrappers keep.

        Episodes that are under way are not part of it: an instance that takes the state goes on exactly as
        this one does after the next `reset` of both. Covered are the environment's ``np_random``, generators that
        are attributes of the environment or of a wrapper (NumPy's two kinds and ``random.Random``), every one
        of them with ``get_generator_state`` and ``set_generator_state``, Gymnasium's own wrappers, and every layer
        with ``get_state`` and ``set_state``. `EnvironmentSpec.notes` names what else was seen.
        """
        return {
            "spec": self._description(),
            "seeds": list(self.seeds),
            "environments": [get_generator_states(env) for env in self._envs],
            "lasting": [get_lasting_states(env) for env in self._envs],
            "steps": list(self._steps),
            "faults": [[position, text] for position, text in self.faults.items()],
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Take over what `get_state` returned. `reset` must follow.

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
            set_generator_states(env, its_state)
        for env, its_state in zip(self._envs, state.get("lasting", ()), strict=False):  # earlier versions saved none
            set_lasting_states(env, its_state)
        self._steps = list(state.get("steps", [0] * self.num_seeds))  # earlier versions did not count
        self.faults = {int(position): str(text) for position, text in state.get("faults", ())}
        self._obs = None

    def close(self) -> None:
        """Close every environment. Nothing can be stepped afterwards."""
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
        return self._action_range.rescale(actions)

    def _step_one(self, i: int, action: np.ndarray) -> Any:
        """What environment i returns, of the right form."""
        self._steps[i] += 1
        try:
            result = self._envs[i].step(action)
        except Exception as error:
            error.add_note(f"Raised by {self._who(i)}, in step.")
            raise
        usual = (
            type(result) is tuple
            and len(result) == 5
            and type(result[0]) is np.ndarray
            and result[0].shape == self._obs_shape
            and type(result[1]) in _USUAL_REWARDS
            and type(result[2]) in _USUAL_FLAGS
            and type(result[3]) in _USUAL_FLAGS
        )
        if not usual and (problem := wrong_step(result, self._obs_shape)):
            raise EnvironmentReturnError(f"{self._who(i)}, {problem}")
        return result

    def _reset_one(self, i: int) -> np.ndarray:
        """The first observation of environment i's next episode, (D,) float32."""
        try:
            result = self._envs[i].reset()
        except Exception as error:
            error.add_note(f"Raised by {self._who(i)}, in the reset after it.")
            raise
        usual = type(result) is tuple and len(result) == 2 and type(result[0]) is np.ndarray
        if (not usual or result[0].shape != self._obs_shape) and (problem := wrong_reset(result, self._obs_shape)):
            raise EnvironmentReturnError(f"{self._who(i)}, {problem}")
        obs = np.asarray(result[0], dtype=np.float32)
        if not math.isfinite(np.vdot(obs, obs)):
            self._note_fault(i, not_finite(result[0]))
        if self._step_limit is not None:
            self._episode_ends[i] = self._steps[i] + self._step_limit
        return obs

    def _reached_limit(self, i: int) -> bool:
        reached = self._steps[i] >= self._episode_ends[i]
        if reached and not self._told_of_limit:
            self._told_of_limit = True
            warnings.warn(
                f"{self._who(i)}: the episode did not end within {self._step_limit:,} steps and is cut there, as those "
                "that follow will be: give the environment a max_episode_steps",
                RuntimeWarning,
                stacklevel=4,
            )
        return reached

    def _note_fault(self, i: int, problem: str | None) -> None:
        if problem is None or i in self.faults:
            return
        self.faults[i] = f"{self._who(i)}, {problem}"
        warnings.warn(f"{self.faults[i]}; this seed is lost", RuntimeWarning, stacklevel=4)

    def _who(self, i: int) -> str:
        kind = "evaluation" if self.evaluation else "training"
        return f"environment {self.spec.env_id!r}, seed {self.seeds[i]}, {kind} step {self._steps[i]}"


def _with_effect(description: dict[str, Any]) -> dict[str, Any]:
    unused = distractor_settings_without_effect(description)
    return {name: value for name, value in description.items() if name not in unused}
