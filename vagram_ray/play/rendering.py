"""Pictures of an environment without a screen, taken while it is played."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from typing import Any

import gymnasium as gym
import numpy as np

from vagram_ray.commands import InputError
from vagram_ray.envs import EnvironmentSpec, EnvironmentSpecError, SeedVectorEnv
from vagram_ray.text import reason

Look = Callable[[gym.Env, int, float, bool], None]
"""Called with the environment, the steps of its episode, the return so far and whether it has ended: once before an
episode's first step, then after each step."""


def draw_without_screen() -> None:
    """Ask MuJoCo, before it is imported, for a renderer without a screen, and pygame to look for none."""
    for variable, value in (
        ("SDL_VIDEODRIVER", "dummy"),
        ("SDL_AUDIODRIVER", "dummy"),
        ("PYGAME_HIDE_SUPPORT_PROMPT", "1"),
    ):
        os.environ.setdefault(variable, value)
    if sys.platform == "linux":
        os.environ.setdefault("MUJOCO_GL", "egl")


def take_picture(env: gym.Env) -> np.ndarray:
    """A picture of now, (height, width, 3) uint8.

    Raises:
        InputError: The environment draws none here.
    """
    env_id = env.spec.id if env.spec else str(env)
    try:
        picture: Any = env.render()
    except Exception as error:  # each renderer has its own ways to fail
        raise _no_pictures(env_id, error) from error
    if not isinstance(picture, np.ndarray) or picture.ndim != 3 or picture.shape[2] != 3:
        raise InputError(f"environment {env_id!r} draws no pictures; leave --video away.")
    return picture.astype(np.uint8)


class _Watched(gym.Wrapper):
    """Tells of every step of every episode. Of an episode without a step nothing is told."""

    def __init__(self, env: gym.Env, look: Look) -> None:
        super().__init__(env)
        self._look = look

    def reset(self, **options: Any) -> Any:
        self._steps, self._total = 0, 0.0
        return self.env.reset(**options)

    def step(self, action: Any) -> Any:
        if self._steps == 0:
            self._look(self.env, 0, 0.0, False)
        result = self.env.step(action)
        self._steps += 1
        self._total += float(result[1])
        self._look(self.env, self._steps, self._total, bool(result[2] or result[3]))
        return result


@dataclass(frozen=True)
class _WatchedSpec(EnvironmentSpec):
    look: Look = field(default=lambda *_: None, hash=False)

    def make(self, seed: int, **options: Any) -> gym.Env:
        return _Watched(super().make(seed, **options), self.look)


@contextmanager
def watched_environment(
    spec: EnvironmentSpec, seed: int, look: Look, lasting: Sequence[dict[str, Any] | None] | None = None
) -> Iterator[SeedVectorEnv]:
    """The evaluation environment of one seed, which draws pictures and tells ``look`` of its steps.

    Args:
        spec: What environment.
        seed: The seed.
        look: What is told.
        lasting: What its wrappers have kept.

    Raises:
        InputError: It cannot be drawn. The sentence names what to install.
    """
    given = {item.name: getattr(spec, item.name) for item in fields(spec)}
    keywords = {**spec.env_kwargs, "render_mode": "rgb_array"}
    watched = _WatchedSpec(**{**given, "env_kwargs": keywords}, look=look)
    try:
        envs = SeedVectorEnv(watched, (seed,), evaluation=True, lasting=lasting)
    except EnvironmentSpecError as error:
        if "render_mode" in str(error):
            raise InputError(
                f"environment {spec.env_id!r} draws no pictures (it takes no render_mode='rgb_array'); "
                "leave --video away."
            ) from error
        raise _no_pictures(spec.env_id, error) from error
    try:
        yield envs
    finally:
        envs.close()


def step_seconds(env: gym.Env) -> float | None:
    """Simulated seconds per step (MuJoCo's and Pendulum's ``dt``, cartpole's ``tau``), or None if there is neither."""
    for name in ("dt", "tau"):
        value = env.get_wrapper_attr(name) if env.has_wrapper_attr(name) else None
        if isinstance(value, int | float) and value > 0:
            return float(value)
    return None


def _no_pictures(env_id: str, error: BaseException) -> InputError:
    why = f"{type(error).__name__}: {reason(error)}".rstrip(": ")
    return InputError(
        f"environment {env_id!r} cannot be drawn here ({why}; MUJOCO_GL={os.environ.get('MUJOCO_GL', '')}); install "
        "what is missing (Debian and Ubuntu, for MuJoCo: apt-get install libegl1 libgl1-mesa-dri, or libosmesa6 and "
        "MUJOCO_GL=osmesa; for Pendulum and cartpole: pip install 'gymnasium[classic-control]'), or leave --video away."
    )
