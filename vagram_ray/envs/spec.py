"""What environment to train in: an id, its arguments and its distractors, checked and made in one place."""

from __future__ import annotations

import importlib
import operator
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import gymnasium as gym
import numpy as np

from vagram_ray.envs import dm_control
from vagram_ray.envs.distractors import (
    DistractorObservation,
    DistractorProcess,
    DistractorReset,
    DistractorScale,
    check_distractors,
)
from vagram_ray.envs.errors import EnvironmentSpecError
from vagram_ray.envs.generators import layers, why_not_saved
from vagram_ray.envs.lasting_state import set_lasting_states, unsaved_state
from vagram_ray.envs.not_made import UNEXPECTED_ARGUMENT, why_not_created, why_not_made
from vagram_ray.envs.returned import RESET_FORM, STEP_FORM, describe, not_finite, wrong_reset, wrong_step
from vagram_ray.envs.spaces import check_spaces, middle_action
from vagram_ray.text import did_you_mean, first_line

# An environment can be made without PyTorch.
if TYPE_CHECKING:
    from torch import Tensor

    from vagram_ray.core.environments import TerminationFn

EVALUATION_STEP_LIMIT = 10_000
"""Steps after which an evaluation episode is cut (truncated) in an environment without a time limit."""
_OLD_MUJOCO = re.compile(r"(?P<name>\w+)-v[0-3]")


@dataclass(frozen=True)
class EnvironmentSpec:
    """One environment, up to its seed. Nothing is checked before `validate` or `make`.

    Attributes:
        env_id: Gymnasium id with its version, such as ``"Hopper-v4"``. ``"package.module:Id-v0"`` imports the
            module first. With a `creator`, what the environment is called.
        num_distractors: distractor dimensions appended to the observation, >= 0.
        distractor_process: ``"paper"`` (eq. 18), ``"published"`` or ``"drift"``, see `DistractorObservation`.
        env_kwargs: keyword arguments for ``gymnasium.make``, or the `creator`'s one argument.
        distractor_scale: whether the paper's N(0, 10) gives a ``"deviation"`` or a ``"variance"``.
        distractor_reset: whether eq. 18 resets each ``"component"`` or the whole ``"vector"``.
        kwargs_name: what messages call `env_kwargs`, where users know it by another name.
        creator: makes the environment in the place of ``gymnasium.make``.
    """

    env_id: str
    num_distractors: int = 0
    distractor_process: DistractorProcess = "paper"
    env_kwargs: Mapping[str, Any] = field(default_factory=dict, hash=False)
    distractor_scale: DistractorScale = "deviation"
    distractor_reset: DistractorReset = "component"
    kwargs_name: str = field(default="env_kwargs", compare=False, repr=False)
    creator: Callable[[Mapping[str, Any]], Any] | None = field(default=None, compare=False, repr=False)

    def make(
        self,
        seed: int,
        *,
        evaluation: bool = False,
        episodes: int | None = None,
        lasting: Sequence[dict[str, Any] | None] | None = None,
    ) -> gym.Env:
        """Make and seed one environment. Call ``reset()``, without a seed, to start its first episode.

        Actions are in the environment's own range (`SeedVectorEnv` takes [-1, 1]).

        Args:
            seed: integer >= 0. It alone decides the distractors' process.
            evaluation: with `seed`, decides the stream of episodes.
            episodes: another seed, whose stream of episodes it is to have.
            lasting: what wrappers kept from episode to episode, as ``get_lasting_states`` gave it.

        Raises:
            EnvironmentSpecError: the environment cannot be made as asked, or `lasting` is of other wrappers.
        """
        seed = check_seed(seed)
        env = self._make_base()
        if self.num_distractors:
            env = DistractorObservation(
                env,
                self.num_distractors,
                process=self.distractor_process,
                scale=self.distractor_scale,
                reset=self.distractor_reset,
                seed=seed,
            )
        env.reset(seed=_episode_seed(seed if episodes is None else check_seed(episodes), evaluation))
        if lasting is not None:
            self._take_over(env, lasting)
        return env

    def _take_over(self, env: gym.Env, lasting: Sequence[dict[str, Any] | None]) -> None:
        try:
            set_lasting_states(env, lasting)
        except Exception as error:  # a wrapper's own set_state may raise anything
            raise EnvironmentSpecError(
                f"environment {self.env_id!r} cannot take over what its wrappers kept ({type(error).__name__}: "
                f"{first_line(error)}): make it with the wrappers that it had"
            ) from error

    def validate(self) -> None:
        """Check everything that can be checked before training, by making the environment and stepping it once.

        Raises:
            EnvironmentSpecError: unknown id, bad distractors or arguments, a discrete or unbounded action
                space, observations that are not a flat Box, a `reset` or `step` that returns another form than
                Gymnasium's or numbers that are not finite, random generators that cannot be saved, episodes of
                one of Gymnasium's environments that cannot end.
        """
        env = self._make_base()
        try:
            check_spaces(self.env_id, env)
            self._try_step(env)
            self._check_generators_and_limit(env)
        finally:
            env.close()

    def dimensions(self) -> tuple[int, int]:
        """Dimensions of an observation (distractors included) and of an action.

        Raises:
            EnvironmentSpecError: as `validate`.
        """
        env = self._make_base()
        try:
            observation_space, action_space = check_spaces(self.env_id, env)
        finally:
            env.close()
        return observation_space.shape[0] + int(self.num_distractors), action_space.shape[0]

    def notes(self) -> list[str]:
        """Sentences on what works otherwise than may be expected: state that checkpoints lack, episodes without end.

        Raises:
            EnvironmentSpecError: as `validate`.
        """
        env = self._make_base()
        try:
            self._try_step(env)
            return [*self._note_endless(env), *self._note_unsaved(env)]
        finally:
            env.close()

    def _note_endless(self, env: gym.Env) -> Iterator[str]:
        from vagram_ray.envs.terminations import never_terminates, termination_function

        try:
            terminates = termination_function(self.env_id, self._keywords()) is not never_terminates
        except EnvironmentSpecError:  # nothing is known about it
            terminates = False
        if not terminates and not _has_time_limit(env):
            way_out = f"give it a max_episode_steps in {self.kwargs_name}"
            if self.creator is not None:  # Gymnasium does not put its time limit around it
                way_out = "put gymnasium.wrappers.TimeLimit around it, unless it truncates them itself"
            yield (
                f"environment {self.env_id!r} has no time limit: evaluation episodes that do not end are cut after "
                f"{EVALUATION_STEP_LIMIT:,} steps; {way_out}."
            )

    def _note_unsaved(self, env: gym.Env) -> Iterator[str]:
        try:
            names = unsaved_state(env)
        except Exception:  # it does not get through a second episode: training says so
            return
        if names:
            yield (
                f"environment {self.env_id!r} keeps state that checkpoints lack ({', '.join(names)}), or draws random "
                "numbers from elsewhere than self.np_random: what goes on from a checkpoint will differ from an "
                "undisturbed run; give it get_state() and set_state(state), or clear it in reset."
            )

    def termination(self) -> TerminationFn:
        """The termination function over full observations, distractors included (they are cut off).

        Raises:
            EnvironmentSpecError: none is registered for the id. The message says how to. The function itself
                raises it when a registered one returns anything but one bool per transition.
        """
        count = self._checked_distractors()
        self._check_id()
        from vagram_ray.envs.terminations import termination_function

        fn = termination_function(self.env_id, self._keywords())
        return partial(_terminates_without_distractors, fn, count, self.env_id)

    def _checked_distractors(self) -> int:
        return check_distractors(
            self.num_distractors, self.distractor_process, self.distractor_scale, self.distractor_reset
        )

    def _keywords(self) -> dict[str, Any]:
        """`env_kwargs` over the arguments the id was registered with."""
        if not isinstance(self.env_kwargs, Mapping) or not all(isinstance(key, str) for key in self.env_kwargs):
            raise EnvironmentSpecError(f"{self.kwargs_name}={self.env_kwargs!r} must map argument names to values")
        registered = self._registered()
        return {**(registered.kwargs if registered else {}), **self.env_kwargs}

    def _registered(self) -> Any:
        """What Gymnasium knows of the id, None if nothing."""
        return None if self.creator is not None else gym.registry.get(self.env_id.rpartition(":")[2])

    def _check_id(self) -> None:
        if self.creator is None:
            _check_id(self.env_id)

    def _create(self, creator: Callable[[Mapping[str, Any]], Any], config: Mapping[str, Any]) -> gym.Env:
        try:
            env = creator(config)
        except Exception as error:
            raise EnvironmentSpecError(why_not_created(self.env_id, error, self.kwargs_name)) from error
        if not isinstance(env, gym.Env):
            raise EnvironmentSpecError(
                f"environment {self.env_id!r} made {describe(env)}, but a gymnasium.Env is wanted: derive its class "
                "from it, and let a function return one"
            )
        return env

    @property
    def max_episode_steps(self) -> int | None:
        """Gymnasium's time limit, as far as it is known without making the environment."""
        registered = self._registered()
        if self.creator is None and dm_control.is_dm_control(self.env_id):
            return dm_control.episode_steps(self.env_kwargs)
        steps = self.env_kwargs.get("max_episode_steps") or (registered and registered.max_episode_steps)
        return steps if isinstance(steps, int) else None

    def _make_base(self) -> gym.Env:
        self._checked_distractors()
        self._check_id()
        keywords = self._keywords()
        if self.creator is not None:
            return self._create(self.creator, keywords)
        try:
            with _no_deprecation_notes(self.env_id):
                if dm_control.is_dm_control(self.env_id):
                    return dm_control.make(self.env_id, keywords)
                # Gymnasium's checker runs at every first step of every environment. `validate` does its work.
                return gym.make(self.env_id, **{"disable_env_checker": True, **keywords})
        except Exception as error:
            raise EnvironmentSpecError(why_not_made(self.env_id, error, self.kwargs_name)) from error

    def _try_step(self, env: gym.Env) -> None:
        """One step in the middle of the action range: arguments of a wrong kind show only here."""
        space, shape = env.action_space, env.observation_space.shape
        assert isinstance(space, gym.spaces.Box) and shape is not None
        problem: str | None
        try:
            result = env.reset(seed=0)
            problem = wrong_reset(result, shape) or not_finite(result[0])
            if problem is None:
                step: Any = env.step(middle_action(space))
                problem = wrong_step(step, shape) or not_finite(*step[:2])
        except Exception as error:
            raise EnvironmentSpecError(self._why_it_fails(error)) from error
        if problem:
            raise EnvironmentSpecError(f"environment {self.env_id!r} {problem} (seed 0, first step): correct it")

    def _why_it_fails(self, error: Exception) -> str:
        line = first_line(error)
        unexpected = UNEXPECTED_ARGUMENT.search(line)
        if unexpected and unexpected["name"] in ("seed", "options"):
            way_out = f"its reset must take seed=None and options=None and return {RESET_FORM}"
        elif "values to unpack" in line:
            way_out = f"its step must return {STEP_FORM}, its reset {RESET_FORM}"
        elif self.env_kwargs:
            way_out = f"check the values of {self.kwargs_name}"
        else:
            way_out = "correct the environment"
        given = f" with {self.kwargs_name}={dict(self.env_kwargs)}" if self.env_kwargs else ""
        return f"environment {self.env_id!r}{given} fails at its first step ({type(error).__name__}: {line}): {way_out}"

    def _check_generators_and_limit(self, env: gym.Env) -> None:
        problem = why_not_saved(env)
        if problem:
            raise EnvironmentSpecError(f"environment {self.env_id!r} {problem}")
        if not _has_time_limit(env) and self._is_known_endless():
            raise EnvironmentSpecError(
                f"environment {self.env_id!r} has no time limit and never terminates, so that its episodes cannot end: "
                f"give it one, for example {self.kwargs_name}={{'max_episode_steps': 1000}}"
            )

    def _is_known_endless(self) -> bool:
        """Whether this is an environment of Gymnasium that never terminates (others may truncate by themselves)."""
        registered = self._registered()
        if registered is None or not str(registered.entry_point).startswith("gymnasium.envs."):
            return False
        from vagram_ray.envs.terminations import never_terminates, termination_function

        try:
            return termination_function(self.env_id, self._keywords()) is never_terminates
        except EnvironmentSpecError:
            return False  # nothing is known about it


def check_seed(seed: Any) -> int:
    """Return `seed` as an int.

    Raises:
        EnvironmentSpecError: it is no integer >= 0.
    """
    try:
        value = -1 if isinstance(seed, bool) else operator.index(seed)
    except TypeError:
        value = -1
    if value < 0:
        raise EnvironmentSpecError(f"seed={seed!r} must be an integer >= 0")
    return value


def _has_time_limit(env: gym.Env) -> bool:
    return any(isinstance(layer, gym.wrappers.TimeLimit) for layer in layers(env))


def _episode_seed(seed: int, evaluation: bool) -> int:
    """The seed of an environment's episodes: training and evaluation get independent streams."""
    return int(np.random.SeedSequence([seed, int(evaluation)]).generate_state(1)[0])


def _terminates_without_distractors(
    fn: TerminationFn, num_distractors: int, env_id: str, obs: Tensor, action: Tensor, next_obs: Tensor
) -> Tensor:
    import torch

    base_dim = next_obs.shape[-1] - num_distractors
    done = fn(obs[..., :base_dim], action, next_obs[..., :base_dim])
    # A result of shape (..., 1) or of floats would broadcast silently to nonsense later.
    if done.dtype != torch.bool or done.shape != next_obs.shape[:-1]:
        raise EnvironmentSpecError(
            f"the termination function of {env_id!r} returned {done.dtype} of shape {tuple(done.shape)}: "
            f"it must return torch.bool of shape {tuple(next_obs.shape[:-1])}, one value per transition"
        )
    return done


@contextmanager
def _no_deprecation_notes(env_id: str) -> Iterator[None]:
    """Without what users can do nothing about.

    Gymnasium warns at each v4 id that v5 exists. V4 is chosen on purpose (v5 changed the rewards). MuJoCo warns, each
    time one of them is made, of an attribute in Gymnasium's own model files.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*is out of date", category=DeprecationWarning)
        if not _is_mujoco(env_id):
            yield
            return
        import mujoco

        handler = mujoco.get_mju_user_warning()
        mujoco.set_mju_user_warning(_warn_unless_settotalmass)
        try:
            yield
        finally:
            mujoco.set_mju_user_warning(handler)


def _warn_unless_settotalmass(text: str) -> None:
    if "'settotalmass'" not in text:
        warnings.warn(text, stacklevel=2)


def _is_mujoco(env_id: str) -> bool:
    registered = gym.registry.get(env_id)
    return registered is not None and str(registered.entry_point).startswith("gymnasium.envs.mujoco")


def _check_id(env_id: Any) -> None:
    """Refuse ids that Gymnasium does not know, and those it knows only to say that they are gone."""
    if not isinstance(env_id, str) or not env_id:
        raise EnvironmentSpecError(f"env_id={env_id!r} must be the id of a Gymnasium environment, such as 'Hopper-v4'")
    module, _, name = env_id.rpartition(":")
    if dm_control.is_dm_control(env_id):
        dm_control.register(env_id)
    if module:
        try:
            importlib.import_module(module)
        except Exception as error:
            raise EnvironmentSpecError(
                f"environment {env_id!r} needs the module {module!r}, whose import fails: {first_line(error)}"
            ) from error
    successor = _successor_of_gone(name)
    if successor:
        raise EnvironmentSpecError(f"environment {env_id!r} is gone from Gymnasium: use its successor {successor!r}")
    if name in gym.registry:
        return
    usable = [key for key in gym.registry if not _successor_of_gone(key)]
    versions = sorted(key for key in usable if re.fullmatch(re.escape(name) + r"-v\d+", key))
    hint = f"did you mean {' or '.join(versions)}?" if versions else did_you_mean(name, usable)
    hint += " Otherwise " if hint else ""
    raise EnvironmentSpecError(
        f"environment {env_id!r} is not registered with Gymnasium: {hint}register it with gymnasium.register first, or "
        "give its class"
    )


def _successor_of_gone(name: str) -> str | None:
    """The id that took over from an old MuJoCo environment, or None if `name` is not one.

    Gymnasium keeps some of the old ids registered, only to raise an ImportError when they are made.
    """
    old = _OLD_MUJOCO.fullmatch(name)
    successor = gym.registry.get(f"{old['name']}-v4") if old else None
    if successor and _is_mujoco(successor.id):
        return successor.id
    return None
