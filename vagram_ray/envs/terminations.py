"""Which imagined transitions end an episode: termination functions in PyTorch, looked up by environment id.

The functions restate, over observations, what Gymnasium's environments decide from the simulator's state.
Their limits, and the arguments that move them, are those of Gymnasium 1.2 (``gymnasium/envs/mujoco``).
Shapes: observations (..., D), actions (..., A), result bool (...).
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TypeAlias

import torch
from torch import Tensor

from vagram_ray.core.environments import TerminationFn
from vagram_ray.envs.dm_control import never_ends_by_itself
from vagram_ray.envs.errors import EnvironmentSpecError
from vagram_ray.envs.naming import Environment, environment_name, is_in_file

Range: TypeAlias = tuple[float, float]
"""A lower and an upper limit."""

TerminationBuilder: TypeAlias = Callable[[Mapping[str, Any]], TerminationFn]
"""Makes the termination function of an environment that was made with these `env_kwargs`."""

CARTPOLE_POSITION_LIMIT = 2.4
"""Metres."""
CARTPOLE_ANGLE_LIMIT = 12 * 2 * math.pi / 360
"""Radians."""
PENDULUM_ANGLE_LIMIT = 0.2
"""Radians; InvertedPendulum."""
POLE_LENGTH, TIP_HEIGHT_LIMIT = 0.6, 1.0
"""Metres; InvertedDoublePendulum."""
CAR_GOAL = 0.45
"""Position; MountainCarContinuous."""


def never_terminates(obs: Tensor, action: Tensor, next_obs: Tensor) -> Tensor:
    """For environments whose episodes end by truncation only."""
    return torch.zeros(next_obs.shape[:-1], dtype=torch.bool, device=next_obs.device)


def hopper_terminates(
    obs: Tensor,
    action: Tensor,
    next_obs: Tensor,
    *,
    hidden: int = 1,
    z_range: Range = (0.7, math.inf),
    angle_range: Range = (-0.2, 0.2),
    state_range: Range = (-100.0, 100.0),
) -> Tensor:
    """Hopper: height, torso angle, or any other state out of its open range.

    The environment looks at unclipped velocities and observes them clipped to +-10, so its limit of 100 on
    velocities cannot be seen here (in practice height or angle fails first).

    Args:
        obs: unused.
        action: unused.
        next_obs: (..., D), decides.
        hidden: position dimensions that the observation leaves out (1: x; 0: none).
        z_range: healthy heights in metres.
        angle_range: healthy torso angles in radians.
        state_range: healthy range of the torso angle, joints and velocities.
    """
    height = 1 - hidden
    healthy = _inside(next_obs[..., height], z_range) & _inside(next_obs[..., height + 1], angle_range)
    return ~(healthy & _inside(next_obs[..., height + 1 :], state_range).all(-1))


def walker2d_terminates(
    obs: Tensor,
    action: Tensor,
    next_obs: Tensor,
    *,
    hidden: int = 1,
    z_range: Range = (0.8, 2.0),
    angle_range: Range = (-1.0, 1.0),
) -> Tensor:
    """Walker2d: height (m) or torso angle (rad) out of its open range; `hidden` as for Hopper."""
    height = 1 - hidden
    return ~(_inside(next_obs[..., height], z_range) & _inside(next_obs[..., height + 1], angle_range))


def ant_terminates(
    obs: Tensor, action: Tensor, next_obs: Tensor, *, hidden: int = 2, z_range: Range = (0.2, 1.0)
) -> Tensor:
    """Ant: height (m) out of its closed range, or anything not finite; `hidden` position dimensions (2: x, y).

    Contact forces, where they are observed, follow the state and change nothing.
    """
    height = next_obs[..., 2 - hidden]
    return ~((height >= z_range[0]) & (height <= z_range[1]) & torch.isfinite(next_obs).all(-1))


def humanoid_terminates(
    obs: Tensor, action: Tensor, next_obs: Tensor, *, hidden: int = 2, z_range: Range = (1.0, 2.0)
) -> Tensor:
    """Humanoid: height (m) out of its open range; `hidden` position dimensions (2: x, y)."""
    return ~_inside(next_obs[..., 2 - hidden], z_range)


def inverted_pendulum_terminates(obs: Tensor, action: Tensor, next_obs: Tensor) -> Tensor:
    """InvertedPendulum: the pole more than 0.2 rad from upright, or anything not finite."""
    return (next_obs[..., 1].abs() > PENDULUM_ANGLE_LIMIT) | ~torch.isfinite(next_obs).all(-1)


def inverted_double_pendulum_terminates(obs: Tensor, action: Tensor, next_obs: Tensor) -> Tensor:
    """InvertedDoublePendulum: the tip of the two poles, of 0.6 m each, not above 1 m.

    The tip's height is that of the observed angles: sines in dimensions 1 and 2, cosines in 3 and 4, the second angle
    relative to the first. The simulator's own is of the last stage of its integrator and may differ by a millimetre.
    """
    first_sine, second_sine, first_cosine, second_cosine = next_obs[..., 1:5].unbind(dim=-1)
    sum_cosine = first_cosine * second_cosine - first_sine * second_sine
    return ~(POLE_LENGTH * (first_cosine + sum_cosine) > TIP_HEIGHT_LIMIT)


def mountain_car_terminates(obs: Tensor, action: Tensor, next_obs: Tensor, *, goal_velocity: float = 0.0) -> Tensor:
    """MountainCarContinuous: the car at 0.45 or beyond, not slower than `goal_velocity`."""
    return (next_obs[..., 0] >= CAR_GOAL) & (next_obs[..., 1] >= goal_velocity)


def cartpole_terminates(obs: Tensor, action: Tensor, next_obs: Tensor) -> Tensor:
    """Cartpole: the cart beyond 2.4 m or the pole beyond 12 degrees."""
    return (next_obs[..., 0].abs() > CARTPOLE_POSITION_LIMIT) | (next_obs[..., 2].abs() > CARTPOLE_ANGLE_LIMIT)


def _inside(value: Tensor, limits: Range) -> Tensor:
    """Elementwise: strictly between the limits (NaN is not)."""
    return (value > limits[0]) & (value < limits[1])


def _fixed(fn: TerminationFn) -> TerminationBuilder:
    """A builder for a termination that no argument of the environment moves."""
    return partial(_return_function, fn)


def _return_function(fn: TerminationFn, env_kwargs: Mapping[str, Any]) -> TerminationFn:
    return fn


def _healthy(fn: Callable[..., Tensor], hidden: int, **ranges: str) -> TerminationBuilder:
    """A builder for a MuJoCo environment that terminates when unhealthy.

    Args:
        fn: the termination function, with keywords `hidden` and those of `ranges`.
        hidden: position dimensions left out of the observation by default.
        ranges: keyword of `fn` -> argument of the environment that sets it.
    """
    return partial(_build_healthy, fn, hidden, ranges)


def _build_healthy(
    fn: Callable[..., Tensor], hidden: int, ranges: Mapping[str, str], env_kwargs: Mapping[str, Any]
) -> TerminationFn:
    if not env_kwargs.get("terminate_when_unhealthy", True):
        return never_terminates
    keywords: dict[str, Any] = {
        keyword: _checked_range(argument, env_kwargs[argument])
        for keyword, argument in ranges.items()
        if argument in env_kwargs
    }
    excluded = env_kwargs.get("exclude_current_positions_from_observation", True)
    return partial(fn, hidden=hidden if excluded else 0, **keywords)


def _mountain_car(env_kwargs: Mapping[str, Any]) -> TerminationFn:
    return partial(mountain_car_terminates, goal_velocity=float(env_kwargs.get("goal_velocity", 0.0)))


def _checked_range(argument: str, value: Any) -> Range:
    try:
        low, high = (float(limit) for limit in value)
    except (TypeError, ValueError):
        raise EnvironmentSpecError(f"{argument}={value!r} must be two numbers, the lower and the upper limit") from None
    return low, high


_HOPPER = _healthy(
    hopper_terminates,
    1,
    z_range="healthy_z_range",
    angle_range="healthy_angle_range",
    state_range="healthy_state_range",
)
_WALKER2D = _healthy(walker2d_terminates, 1, z_range="healthy_z_range", angle_range="healthy_angle_range")
_ANT = _healthy(ant_terminates, 2, z_range="healthy_z_range")
_HUMANOID = _healthy(humanoid_terminates, 2, z_range="healthy_z_range")
_NEVER = _fixed(never_terminates)

_MUJOCO_BUILDERS: dict[str, TerminationBuilder] = {
    "Hopper": _HOPPER,
    "Walker2d": _WALKER2D,
    "Ant": _ANT,
    "Humanoid": _HUMANOID,
    "InvertedDoublePendulum": _fixed(inverted_double_pendulum_terminates),
    "InvertedPendulum": _fixed(inverted_pendulum_terminates),
    "HalfCheetah": _NEVER,
    "HumanoidStandup": _NEVER,
    "Pusher": _NEVER,
    "Reacher": _NEVER,
    "Swimmer": _NEVER,
}

_BUILDERS: dict[str, TerminationBuilder] = {
    **{f"{name}-v{version}": builder for name, builder in _MUJOCO_BUILDERS.items() for version in (4, 5)},
    "ContinuousCartPole-v0": _fixed(cartpole_terminates),
    "MountainCarContinuous-v0": _mountain_car,
    "Pendulum-v1": _NEVER,
}


def _without_module(env_id: str) -> str:
    """Gymnasium's "package.module:Id-v0" names the environment "Id-v0"."""
    return env_id if is_in_file(env_id) else env_id.rpartition(":")[2]


def register_termination(env: Environment, fn: TerminationFn) -> None:
    """Say which transitions end an episode of an environment.

    A registered function replaces ours of the same id. It is called as it is, whatever `env_kwargs` the
    environment has.

    Args:
        env: the exact Gymnasium id, version included, or what ``MBPOConfig.environment`` is given: a class, a
            function, or a name of ``ray.tune.register_env``.
        fn: maps obs (..., D), action (..., A) in [-1, 1] and next_obs (..., D), all without distractors, to a
            bool tensor (...). Use `never_terminates` for episodes that end by truncation only.

    Raises:
        EnvironmentSpecError: `env` has no name or `fn` cannot be called.
    """
    env_id = environment_name(env)
    if not env_id:
        raise EnvironmentSpecError(f"env={env!r} must be the id of a Gymnasium environment, such as 'Hopper-v4'")
    if not callable(fn):
        raise EnvironmentSpecError(f"the termination function of {env_id!r} must be callable, not {fn!r}")
    _BUILDERS[_without_module(env_id)] = _fixed(fn)


def termination_function(env_id: str, env_kwargs: Mapping[str, Any] | None = None) -> TerminationFn:
    """The termination function over the observations of ``gymnasium.make(env_id, **env_kwargs)``.

    Raises:
        EnvironmentSpecError: no function is known for the id, or a limit among `env_kwargs` is no pair of numbers.
    """
    builder = _BUILDERS.get(_without_module(env_id))
    if builder is None and never_ends_by_itself(env_id):
        builder = _NEVER
    if builder is None:
        close = difflib.get_close_matches(env_id, _BUILDERS, n=3)
        hint = f" (known: {', '.join(close)})" if close else ""
        raise EnvironmentSpecError(
            f"no termination function is known for environment {env_id!r}{hint}: register one with "
            f"vagram_ray.envs.terminations.register_termination({env_id!r}, fn), where fn(obs, action, next_obs) "
            "gives a bool tensor, or never_terminates if its episodes only end by truncation, or set "
            "termination='learned'"
        )
    return builder(env_kwargs or {})
