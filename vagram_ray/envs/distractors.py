"""Observation dimensions that have nothing to do with the task (Voelcker et al., 2022, section 5.2)."""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping
from typing import Any, Literal, TypeAlias, get_args

import gymnasium as gym
import numpy as np

from vagram_ray.envs.errors import EnvironmentSpecError

DistractorProcess: TypeAlias = Literal["paper", "published", "drift"]
DISTRACTOR_PROCESSES: tuple[str, ...] = get_args(DistractorProcess)
"""Names of the distractor processes."""

DistractorScale: TypeAlias = Literal["deviation", "variance"]
DISTRACTOR_SCALES: tuple[str, ...] = get_args(DistractorScale)
"""Meaning of the second argument of the paper's N(0, 10) and N(0, 0.1)."""

DistractorReset: TypeAlias = Literal["component", "vector"]
DISTRACTOR_RESETS: tuple[str, ...] = get_args(DistractorReset)
"""The part of the state that goes back to the start in eq. 18: each component by itself, or the whole vector."""

# Marks that keep the random streams drawn from one seed apart.
_PROCESS_STREAM = 0x0D15
_EPISODE_STREAM = 0x0E15

_PAPER_SINE_SCALE = 10.0
_PAPER_START_SCALE = 0.1
_PAPER_LIMIT = 20.0

_PUBLISHED_START_SCALE = 0.1
_PUBLISHED_SINE_SCALE = 10.0
_PUBLISHED_SINE_GAIN = 0.1
_PUBLISHED_LIMIT = 20.0


MAX_DISTRACTORS = 2_000
"""The process has a square matrix of that size. The paper goes to 15."""


def check_distractors(num_distractors: Any, process: Any, scale: Any = "deviation", reset: Any = "component") -> int:
    """Return `num_distractors` as an int.

    Raises:
        EnvironmentSpecError: `num_distractors` is no integer >= 0, or one of the others is unknown.
    """
    for name, value, known in (
        ("distractor_process", process, DISTRACTOR_PROCESSES),
        ("distractor_scale", scale, DISTRACTOR_SCALES),
        ("distractor_reset", reset, DISTRACTOR_RESETS),
    ):
        if value not in known:
            raise EnvironmentSpecError(f"{name}={value!r} is unknown: choose one of {', '.join(map(repr, known))}")
    try:
        count = -1 if isinstance(num_distractors, bool) else operator.index(num_distractors)
    except TypeError:
        count = -1
    if count < 0:
        raise EnvironmentSpecError(f"num_distractors={num_distractors!r} must be an integer >= 0 (0: no distractors)")
    if count > MAX_DISTRACTORS:
        raise EnvironmentSpecError(f"num_distractors={num_distractors!r} must be at most {MAX_DISTRACTORS:,}")
    return count


def distractor_settings_without_effect(settings: Mapping[str, Any]) -> frozenset[str]:
    """Names of the distractors' settings that change no number, given all of them by name.

    Without distractors no process matters, and `distractor_scale` and `distractor_reset` speak of eq. 18 alone.
    """
    readings = frozenset({"distractor_scale", "distractor_reset"})
    if settings.get("num_distractors", 0) == 0:
        return readings | {"distractor_process"}
    return readings if settings.get("distractor_process", "paper") != "paper" else frozenset()


def current_distractor_settings(saved: Mapping[str, Any]) -> dict[str, Any]:
    """Settings out of a checkpoint or a sweep's folder, in today's names.

    Versions without `distractor_scale` had under the name ``"paper"`` what is ``"drift"`` now. What they wrote is
    of that process. Settings without distractors are the same under either name.
    """
    if "distractor_scale" in saved or "num_distractors" not in saved:
        return dict(saved)
    current = {**saved, "distractor_scale": "deviation", "distractor_reset": "component"}
    if saved["num_distractors"] != 0 and saved.get("distractor_process", "paper") == "paper":
        current["distractor_process"] = "drift"
    return current


class DistractorObservation(gym.Wrapper):
    """Appends `num_distractors` dimensions to a flat Box observation, moved by a process of their own.

    The process sees neither observation nor action. With n distractors and state s (n):

    ``"paper"`` (Voelcker et al., 2022, eq. 18 in Appendix E)::

        f(s) = s + sin(A s) where |f(s)| < 20, else s_0.   Every episode starts at s_0

    The entries of A (n, n) are drawn from N(0, 10) and those of s_0 (n) from N(0, 0.1), once: no reset draws them
    anew. The text leaves two things open, and each is an option. The defaults are what the code published with the
    paper does in its own process, which has the same three numbers.

    - `scale`: 10 and 0.1 are standard deviations (``"deviation"``, the default, also what PyTorch's and NumPy's
      ``normal`` take) or variances (``"variance"``).
    - `reset`: each component is compared with 20 and goes back to its own start (``"component"``, the default), or
      the whole vector goes back to s_0 where its Euclidean norm is not below 20 (``"vector"``).

    ``"published"`` (the code published with the paper)::

        c = L s,   f(s) = c + 0.1 sin(B c),   then component i becomes r_i wherever |f_i(s)| > 20

    with L (n, n) and r (n) standard normal and the entries of B (n, n) squares of normal numbers of standard
    deviation 10, all drawn once. Each episode draws a start from a normal of standard deviation 0.1 and takes
    one step of the process before the first observation.

    ``"drift"`` (no source: earlier versions had it in place of eq. 18)::

        f(d) = d + sin(A d),   the same d_0 in every episode

    with the entries of A (n, n) and d_0 (n) standard normal, drawn once. There is no limit, and d drifts away.

    What is drawn once depends on `seed` alone, so training and evaluation environments of a seed share it. The
    starts of the ``"published"`` process come from a generator that ``reset(seed=...)`` seeds, as it does the
    environment's. The process runs in float64. Observations are float32 where the environment's are, else float64.
    """

    def __init__(
        self,
        env: gym.Env,
        num_distractors: int,
        *,
        process: DistractorProcess = "paper",
        scale: DistractorScale = "deviation",
        reset: DistractorReset = "component",
        seed: int = 0,
    ) -> None:
        """Wrap `env`.

        Args:
            env: an environment with a flat Box observation space.
            num_distractors: n >= 0. With 0 the wrapper changes no number.
            process: ``"paper"``, ``"published"`` or ``"drift"``.
            scale: ``"deviation"`` or ``"variance"``, of the ``"paper"`` process alone.
            reset: ``"component"`` or ``"vector"``, of the ``"paper"`` process alone.
            seed: integer >= 0, decides what is drawn once.

        Raises:
            EnvironmentSpecError: a bad argument, or observations that are not a flat Box.
        """
        super().__init__(env)
        self.num_distractors = check_distractors(num_distractors, process, scale, reset)
        self.process: DistractorProcess = process
        self._scale, self._reset_reading = scale, reset
        space = env.observation_space
        if not isinstance(space, gym.spaces.Box) or len(space.shape) != 1:
            raise EnvironmentSpecError(
                f"distractors need a flat Box observation, not {space}: "
                "flatten it first with gymnasium.wrappers.FlattenObservation"
            )
        # Anything but a float would cut the distractors to whole numbers.
        dtype: type[np.floating] = np.float32 if space.dtype == np.float32 else np.float64
        unbounded = np.full(self.num_distractors, np.inf, dtype=dtype)
        self.observation_space = gym.spaces.Box(
            np.concatenate([space.low.astype(dtype), -unbounded]),
            np.concatenate([space.high.astype(dtype), unbounded]),
            dtype=dtype,
        )
        self._constants = self._draw_constants(np.random.default_rng([seed, _PROCESS_STREAM]))
        self._episode_generator = np.random.default_rng()
        self._state = np.zeros(self.num_distractors)

    @property
    def distractors(self) -> np.ndarray:
        """The distractors of the last observation, (n,) float64 (a copy)."""
        return self._state.copy()

    @property
    def constants(self) -> dict[str, np.ndarray]:
        """Constants by their names in the equations: "A", "s_0", or "L", "B", "r", or "A", "d_0" (copies)."""
        return {name: value.copy() for name, value in self._constants.items()}

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict]:
        """Start an episode of the environment and of the distractors. `seed` restarts both random streams."""
        if seed is not None:
            self._episode_generator = np.random.default_rng([seed, _EPISODE_STREAM])
        obs, info = self.env.reset(seed=seed, options=options)
        if self.process == "paper":
            self._state = self._constants["s_0"].copy()
        elif self.process == "drift":
            self._state = self._constants["d_0"].copy()
        else:
            start = self._episode_generator.normal(0.0, _PUBLISHED_START_SCALE, self.num_distractors)
            self._state = self._successor(start)
        return self._append(obs), info

    def step(self, action: Any) -> tuple[np.ndarray, Any, bool, bool, dict]:
        """Step the environment and, independently of it, the distractors."""
        obs, reward, terminated, truncated, info = self.env.step(action)
        self._state = self._successor(self._state)
        return self._append(obs), reward, terminated, truncated, info

    def get_generator_state(self) -> dict[str, Any]:
        """Everything random here as a dict that JSON can hold: generator, constants, distractors of now."""
        return {
            "episode_generator": self._episode_generator.bit_generator.state,
            "constants": {name: value.tolist() for name, value in self._constants.items()},
            "distractors": self._state.tolist(),
        }

    def set_generator_state(self, state: dict[str, Any]) -> None:
        """Take over what `get_generator_state` of a wrapper with the same arguments returned.

        Raises:
            EnvironmentSpecError: the state belongs to another process or number of distractors.
        """
        constants = {name: np.asarray(value, dtype=np.float64) for name, value in state["constants"].items()}
        mine = {name: value.shape for name, value in self._constants.items()}
        theirs = {name: value.shape for name, value in constants.items()}
        # Lists lose the shape (0, 0) of an empty matrix. There is nothing to compare then but the names.
        if mine.keys() != theirs.keys() or (self.num_distractors and mine != theirs):
            raise EnvironmentSpecError(
                f"the saved distractor state has {theirs}, this environment has {mine}: "
                "restore it with the same num_distractors and distractor_process"
            )
        self._constants = {name: value.reshape(mine[name]) for name, value in constants.items()}
        self._state = np.asarray(state["distractors"], dtype=np.float64)
        self._episode_generator.bit_generator.state = state["episode_generator"]

    def _draw_constants(self, generator: np.random.Generator) -> dict[str, np.ndarray]:
        n = self.num_distractors
        if self.process == "paper":
            as_deviation = math.sqrt if self._scale == "variance" else float
            sine, start = as_deviation(_PAPER_SINE_SCALE), as_deviation(_PAPER_START_SCALE)
            return {"A": generator.normal(0.0, sine, (n, n)), "s_0": generator.normal(0.0, start, n)}
        if self.process == "drift":
            return {"A": generator.standard_normal((n, n)), "d_0": generator.standard_normal(n)}
        return {
            "L": generator.standard_normal((n, n)),
            "B": generator.normal(0.0, _PUBLISHED_SINE_SCALE, (n, n)) ** 2,
            "r": generator.standard_normal(n),
        }

    def _successor(self, state: np.ndarray) -> np.ndarray:
        if self.process in ("paper", "drift"):
            moved = state + np.sin(self._constants["A"] @ state)
            return moved if self.process == "drift" else self._within_limit(moved)
        moved = self._constants["L"] @ state
        moved = moved + _PUBLISHED_SINE_GAIN * np.sin(self._constants["B"] @ moved)
        return np.where(np.abs(moved) > _PUBLISHED_LIMIT, self._constants["r"], moved)

    def _within_limit(self, moved: np.ndarray) -> np.ndarray:
        """The two cases of eq. 18."""
        if self._reset_reading == "vector":
            return moved if np.linalg.norm(moved) < _PAPER_LIMIT else self._constants["s_0"].copy()
        return np.where(np.abs(moved) < _PAPER_LIMIT, moved, self._constants["s_0"])

    def _append(self, obs: np.ndarray) -> np.ndarray:
        return np.concatenate([obs, self._state]).astype(self.observation_space.dtype)
