"""One environment per seed, stepped together, in this process or in several."""

from __future__ import annotations

import contextlib
import operator
import os
import warnings
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import gymnasium as gym
import numpy as np

from vagram_ray.core.environments import EnvStep
from vagram_ray.envs.distractors import current_distractor_settings, distractor_settings_without_effect
from vagram_ray.envs.errors import EnvironmentSpecError
from vagram_ray.envs.spec import EnvironmentSpec, check_seed
from vagram_ray.envs.step_group import StepArrays, StepGroup
from vagram_ray.envs.worker_process import SharedStep
from vagram_ray.envs.workers import StepWorker, close_all, kill_all, step_memory


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
        num_workers: how many processes step them, this one included.
    """

    def __init__(
        self, spec: EnvironmentSpec, seeds: Sequence[int], *, evaluation: bool = False, num_workers: int = 1
    ) -> None:
        """Make and seed the environments; call `reset` before the first `step`.

        Args:
            spec: what environment.
            seeds: its seeds.
            evaluation: whether these are evaluation environments.
            num_workers: processes that step them at the same time, this one included; each has an equal share of
                the seeds, so more than there are seeds change nothing. The numbers are the same with any.

        Raises:
            EnvironmentSpecError: no seeds, a seed that is no integer >= 0, `num_workers` no integer >= 1, or a spec
                that `validate` refuses or that cannot be made in another process.
            EnvironmentWorkerError: a worker process has ended before it was ready.
        """
        if len(seeds) == 0:
            raise EnvironmentSpecError("seeds=() names no seed: give at least one integer >= 0")
        self.spec = spec
        self.seeds = tuple(check_seed(seed) for seed in seeds)
        self.evaluation = evaluation
        spec.validate()
        shares = np.array_split(np.arange(len(self.seeds)), min(check_num_workers(num_workers), len(self.seeds)))
        self._rows = [slice(int(share[0]), int(share[-1]) + 1) for share in shares]
        self._group = StepGroup(spec, self.seeds[self._rows[0]], evaluation=evaluation)
        self._envs = self._group.envs
        observation_space, action_space = self._envs[0].observation_space, self._envs[0].action_space
        assert isinstance(observation_space, gym.spaces.Box) and isinstance(action_space, gym.spaces.Box)
        self._low, self._high = action_space.low.astype(np.float64), action_space.high.astype(np.float64)
        self._range = self._high - self._low
        self._action_dtype = np.dtype(action_space.dtype)
        self.num_workers = len(self._rows)
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
        self._workers: list[StepWorker] = []
        # Also when nobody calls close(), and when this process ends.
        self._end_workers = weakref.finalize(self, close_all, self._workers, os.getpid())
        if self.num_workers > 1:
            self._start_workers()

    def reset(self) -> np.ndarray:
        """Start a new episode in every environment; its first observations, (S, D) float32.

        The streams of episodes were seeded from (seed, evaluation) at construction and go on from where they are.
        """
        with self.guard():
            self._obs = np.concatenate(self._everywhere("reset", self._group.reset))
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
            EnvironmentWorkerError: a worker process has ended.
        """
        if self._obs is None:
            raise RuntimeError("step() was called without a running episode: call reset() first")
        stepped = self._checked_active(active)
        scaled = self._rescale(np.asarray(actions), stepped)
        reward = np.zeros(self.num_seeds, dtype=np.float32)
        terminated, truncated = np.zeros((2, self.num_seeds), dtype=bool)
        out = StepArrays(self._obs.copy(), self._obs.copy(), reward, terminated, truncated)
        with self.guard():
            if self._workers:
                self._step_everywhere(scaled, stepped, out)
            else:
                self._group.step(scaled, stepped, out)
        self._obs = out.obs.copy()
        return EnvStep(*out)

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
            "environments": [
                env for states in self._everywhere("get", self._group.get_generator_states) for env in states
            ],
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
        shares = [(state["environments"][rows],) for rows in self._rows]
        self._everywhere("set", self._group.set_generator_states, shares)
        self._obs = None

    def close(self) -> None:
        """Close every environment and end the workers; nothing can be stepped afterwards."""
        if not self._closed:
            self._closed = True
            self._obs = None
            self._end_workers()
            self._group.close()

    def kill_workers(self) -> None:
        """End the worker processes at once, also one whose environment hangs; those at work print their stacks."""
        kill_all(self._workers)

    @contextlib.contextmanager
    def _exchange(self) -> Iterator[None]:
        """Close everything when an exchange with the workers breaks off: answers would not fit the next question."""
        if self._closed and self._workers:
            raise RuntimeError(
                "the environments are closed, by close() or because a step was interrupted: make them again"
            )
        try:
            yield
        except BaseException:
            self.close()
            raise

    def _start_workers(self) -> None:
        with self._exchange(), step_memory() as memory:
            self._shared = SharedStep(memory, self.num_seeds, self.obs_dim, self.action_dim, self._action_dtype)
            for rows in self._rows[1:]:
                self._workers.append(StepWorker(self.spec, self.seeds, rows, memory, evaluation=self.evaluation))
            for worker in self._workers:
                worker.wait_until_ready()

    def _step_everywhere(self, actions: np.ndarray, active: np.ndarray, out: StepArrays) -> None:
        shared, mine, others = self._shared, self._rows[0], slice(self._rows[1].start, None)
        shared.actions[:], shared.active[:] = actions, active
        busy = [worker for worker in self._workers if active[worker.rows].any()]
        errors: list[Exception] = []
        with self._exchange():
            for worker in busy:
                worker.start_step()
            with _collected(errors):
                self._group.step(actions[mine], active[mine], out.rows(mine))
            for worker in busy:
                with _collected(errors):
                    worker.finish_step()
        _raise_first(errors)
        stepped = active[others]
        for ours, theirs in zip(out, shared.out, strict=True):
            ours[others][stepped] = theirs[others][stepped]

    def _everywhere(self, command: str, here: Callable[..., Any], shares: Sequence[tuple] = ()) -> list[Any]:
        """What a command returns in this process and in each worker; `shares` holds each one's arguments."""
        shares = shares or [()] * len(self._rows)
        errors: list[Exception] = []
        results = []
        with self._exchange() if self._workers else contextlib.nullcontext():
            for worker, arguments in zip(self._workers, shares[1:], strict=True):
                worker.send(command, *arguments)
            with _collected(errors):
                results.append(here(*shares[0]))
            for worker in self._workers:
                with _collected(errors):
                    results.append(worker.receive())
        _raise_first(errors)
        return results

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


def check_num_workers(num_workers: Any, name: str = "num_workers") -> int:
    """Return `num_workers` as an int; a message calls it `name`.

    Raises:
        EnvironmentSpecError: it is no integer >= 1.
    """
    try:
        value = 0 if isinstance(num_workers, bool) else operator.index(num_workers)
    except TypeError:
        value = 0
    if value < 1:
        raise EnvironmentSpecError(
            f"{name}={num_workers!r} must be an integer >= 1 (1: all environments step in one process)"
        )
    return value


def _with_effect(description: dict[str, Any]) -> dict[str, Any]:
    unused = distractor_settings_without_effect(description)
    return {name: value for name, value in description.items() if name not in unused}


@contextlib.contextmanager
def _collected(errors: list[Exception]) -> Iterator[None]:
    """Keep an error for later, when every worker has answered."""
    try:
        yield
    except Exception as error:
        errors.append(error)


def _raise_first(errors: list[Exception]) -> None:
    if errors:
        raise errors[0]
