"""What environment to train in: an id, its arguments and its distractors, checked and made in one place."""

from __future__ import annotations

import difflib
import importlib
import inspect
import operator
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import gymnasium as gym
import numpy as np

from vagram_ray.envs.cartpole import CARTPOLE_ID
from vagram_ray.envs.distractors import (
    DistractorObservation,
    DistractorProcess,
    DistractorReset,
    DistractorScale,
    check_distractors,
)
from vagram_ray.envs.errors import EnvironmentSpecError

# An environment can be made without PyTorch.
if TYPE_CHECKING:
    from torch import Tensor

    from vagram_ray.core.environments import TerminationFn

_OLD_MUJOCO = re.compile(r"(?P<name>\w+)-v[0-3]")
_UNEXPECTED_ARGUMENT = re.compile(r"unexpected keyword argument '(?P<name>\w+)'")


@dataclass(frozen=True)
class EnvironmentSpec:
    """One environment, up to its seed. Nothing is checked before `validate` or `make`.

    Attributes:
        env_id: Gymnasium id with its version, such as ``"Hopper-v4"``; ``"package.module:Id-v0"`` imports the
            module first.
        num_distractors: distractor dimensions appended to the observation, >= 0.
        distractor_process: ``"paper"`` (eq. 18), ``"published"`` or ``"drift"``, see `DistractorObservation`.
        env_kwargs: keyword arguments for ``gymnasium.make``.
        distractor_scale: whether the paper's N(0, 10) gives a ``"deviation"`` or a ``"variance"``.
        distractor_reset: whether eq. 18 resets each ``"component"`` or the whole ``"vector"``.
    """

    env_id: str
    num_distractors: int = 0
    distractor_process: DistractorProcess = "paper"
    env_kwargs: Mapping[str, Any] = field(default_factory=dict, hash=False)
    distractor_scale: DistractorScale = "deviation"
    distractor_reset: DistractorReset = "component"

    def make(self, seed: int, *, evaluation: bool = False) -> gym.Env:
        """Make and seed one environment; call ``reset()``, without a seed, to start its first episode.

        Actions are in the environment's own range (`SeedVectorEnv` takes [-1, 1]).

        Args:
            seed: integer >= 0. It alone decides the distractors' process.
            evaluation: with `seed`, decides the stream of episodes.

        Raises:
            EnvironmentSpecError: the environment cannot be made as asked.
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
        env.reset(seed=_episode_seed(seed, evaluation))
        return env

    def validate(self) -> None:
        """Check everything that can be checked before training, by making the environment and stepping it once.

        Raises:
            EnvironmentSpecError: unknown id, bad distractors or arguments, a discrete or unbounded action
                space, observations that are not a flat Box.
        """
        env = self._make_base()
        try:
            _check_spaces(self.env_id, env)
            self._try_step(env)
        finally:
            env.close()

    def dimensions(self) -> tuple[int, int]:
        """Dimensions of an observation (distractors included) and of an action.

        Raises:
            EnvironmentSpecError: as `validate`.
        """
        env = self._make_base()
        try:
            observation_space, action_space = _check_spaces(self.env_id, env)
        finally:
            env.close()
        return observation_space.shape[0] + int(self.num_distractors), action_space.shape[0]

    def termination(self) -> TerminationFn:
        """The termination function over full observations, distractors included (they are cut off).

        Raises:
            EnvironmentSpecError: none is registered for the id; the message says how to. The function itself
                raises it when a registered one returns anything but one bool per transition.
        """
        count = self._checked_distractors()
        _check_id(self.env_id)
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
            raise EnvironmentSpecError(f"env_kwargs={self.env_kwargs!r} must map argument names to values")
        registered = gym.registry.get(self.env_id.rpartition(":")[2])
        return {**(registered.kwargs if registered else {}), **self.env_kwargs}

    def _make_base(self) -> gym.Env:
        self._checked_distractors()
        _check_id(self.env_id)
        keywords = self._keywords()
        try:
            with _no_deprecation_notes(self.env_id):
                # Gymnasium's checker runs at every first step of every environment; `validate` does its work.
                return gym.make(self.env_id, **{"disable_env_checker": True, **keywords})
        except Exception as error:
            raise EnvironmentSpecError(_why_not_made(self.env_id, error)) from error

    def _try_step(self, env: gym.Env) -> None:
        """One step in the middle of the action range: arguments of a wrong kind show only here."""
        space = env.action_space
        assert isinstance(space, gym.spaces.Box)
        try:
            env.reset(seed=0)
            obs = env.step(((space.low + space.high) / 2).astype(space.dtype))[0]
        except Exception as error:
            raise EnvironmentSpecError(
                f"environment {self.env_id!r} with env_kwargs={dict(self.env_kwargs)} fails at its first step "
                f"({_first_line(error)}): check the values of env_kwargs"
            ) from error
        if np.shape(obs) != env.observation_space.shape:
            raise EnvironmentSpecError(
                f"environment {self.env_id!r} returns observations of shape {np.shape(obs)} and declares "
                f"{env.observation_space.shape}: correct its observation_space"
            )


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

    Gymnasium warns at each v4 id that v5 exists; v4 is chosen on purpose (v5 changed the rewards). MuJoCo warns, each
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
    if module:
        try:
            importlib.import_module(module)
        except Exception as error:
            raise EnvironmentSpecError(
                f"environment {env_id!r} needs the module {module!r}, whose import fails: {_first_line(error)}"
            ) from error
    successor = _successor_of_gone(name)
    if successor:
        raise EnvironmentSpecError(f"environment {env_id!r} is gone from Gymnasium: use its successor {successor!r}")
    if name in gym.registry:
        return
    usable = [key for key in gym.registry if not _successor_of_gone(key)]
    versions = sorted(key for key in usable if re.fullmatch(re.escape(name) + r"-v\d+", key))
    close = versions or difflib.get_close_matches(name, usable, n=3)
    hint = f"did you mean {' or '.join(close)}? Otherwise " if close else ""
    raise EnvironmentSpecError(
        f"environment {env_id!r} is not registered with Gymnasium: {hint}register it with gymnasium.register first"
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


def _check_spaces(env_id: str, env: gym.Env) -> tuple[gym.spaces.Box, gym.spaces.Box]:
    observation_space, action_space = env.observation_space, env.action_space
    if not isinstance(action_space, gym.spaces.Box):
        other = f"use {CARTPOLE_ID!r}" if env_id.startswith("CartPole-") else "choose one with a Box action space"
        raise EnvironmentSpecError(
            f"environment {env_id!r} has the action space {action_space}, but actions must be continuous here: {other}"
        )
    if len(action_space.shape) != 1 or not action_space.is_bounded("both"):
        raise EnvironmentSpecError(
            f"environment {env_id!r} has the action space {action_space}, which must be flat and bounded on both "
            "sides, because actions in [-1, 1] are rescaled to it: wrap it in a registered environment that is"
        )
    if not isinstance(observation_space, gym.spaces.Box) or len(observation_space.shape) != 1:
        raise EnvironmentSpecError(
            f"environment {env_id!r} has the observation space {observation_space}, but a flat Box is needed: "
            "register a version wrapped in gymnasium.wrappers.FlattenObservation"
        )
    return observation_space, action_space


def _why_not_made(env_id: str, error: Exception) -> str:
    unexpected = _UNEXPECTED_ARGUMENT.search(str(error))
    if isinstance(error, TypeError) and unexpected:
        known = _argument_names(env_id)
        accepted = f"it accepts {', '.join(known)}" if known else "see its documentation for what it accepts"
        return f"environment {env_id!r} has no argument {unexpected['name']!r} (from env_kwargs): {accepted}"
    if isinstance(error, ImportError | gym.error.DependencyNotInstalled):
        return (
            f"environment {env_id!r} needs a package that is missing or of another version ({_first_line(error)}): "
            "install it (for MuJoCo environments: pip install 'gymnasium[mujoco]')"
        )
    return f"environment {env_id!r} could not be made ({type(error).__name__}: {_first_line(error)}): check env_kwargs"


def _argument_names(env_id: str) -> list[str]:
    """Names of the arguments of an environment's class, or none if they cannot be read."""
    try:
        entry_point = gym.spec(env_id.rpartition(":")[2]).entry_point
        creator = gym.envs.registration.load_env_creator(entry_point) if isinstance(entry_point, str) else entry_point
        parameters = inspect.signature(creator).parameters.values()  # type: ignore[arg-type]
    except (ImportError, AttributeError, TypeError, ValueError, gym.error.Error):
        return []
    named = [p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    return [*named, "max_episode_steps"]


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
