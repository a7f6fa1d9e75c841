"""Tasks of dm_control's suite under Shimmy's names (``"dm_control/hopper-hop-v0"``), as MBPO is run on them.

Observations are flattened, each action is taken twice (a usual frame skip in papers on this suite), rewards are added
up, and episodes of 1,000 control steps end by truncation. The packages are the extra ``vagram_ray[dmc]``.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import gymnasium as gym

from vagram_ray.envs.errors import EnvironmentSpecError
from vagram_ray.text import first_line

PREFIX = "dm_control/"
ACTION_REPEAT = 2
"""By default; ``env_config={"action_repeat": N}`` sets another."""
CONTROL_STEPS = 1000
"""Of an episode in the suite."""
_TERMINATING = "dm_control/lqr-"
"""The one domain whose tasks end by themselves."""


class ActionRepeat(gym.Wrapper):
    """Takes each action so many times in a row, to the end of the episode at most, and adds the rewards up."""

    def __init__(self, env: gym.Env, count: int) -> None:
        """Wrap `env`; `count` is at least 1."""
        super().__init__(env)
        self._count = count

    @property
    def dt(self) -> float:
        """Simulated seconds of a step."""
        return self._count * float(self.env.get_wrapper_attr("dt"))

    def step(self, action: Any) -> Any:
        """Step the environment `count` times."""
        total = 0.0
        for _ in range(self._count):
            obs, reward, terminated, truncated, info = self.env.step(action)
            total += float(reward)
            if terminated or truncated:
                break
        return obs, total, terminated, truncated, info


def is_dm_control(env_id: Any) -> bool:
    """Whether an id is of dm_control."""
    return isinstance(env_id, str) and env_id.startswith(PREFIX)


def never_ends_by_itself(env_id: str) -> bool:
    """Whether it is a task of dm_control whose episodes end by truncation alone."""
    return is_dm_control(env_id) and not env_id.startswith(_TERMINATING)


def episode_steps(env_kwargs: Mapping[str, Any]) -> int:
    """Steps of an episode at most."""
    return int(env_kwargs.get("max_episode_steps") or -(-CONTROL_STEPS // action_repeat(env_kwargs)))


def action_repeat(env_kwargs: Mapping[str, Any]) -> int:
    """How often each action is taken.

    Raises:
        EnvironmentSpecError: It is no whole number from 1 on.
    """
    count = env_kwargs.get("action_repeat", ACTION_REPEAT)
    if not isinstance(count, int) or isinstance(count, bool) or not 1 <= count <= CONTROL_STEPS:
        raise EnvironmentSpecError(f"action_repeat={count!r} must be a whole number from 1 to {CONTROL_STEPS:,}")
    return count


def register(env_id: str) -> None:
    """Let Shimmy register its ids with Gymnasium.

    Raises:
        EnvironmentSpecError: A package is missing, or does not work with the others.
    """
    try:
        with warnings.catch_warnings():  # GLFW's, that there is no screen
            warnings.filterwarnings("ignore", message=".*DISPLAY environment variable")
            import dm_control.suite  # noqa: F401  # Shimmy says nothing where it is missing
            import shimmy  # noqa: F401  # registers
    except Exception as error:  # dm_control fails in many ways with a MuJoCo that it does not know
        raise EnvironmentSpecError(
            f"environment {env_id!r} needs dm_control and shimmy ({type(error).__name__}: {first_line(error)}): "
            "pip install 'vagram_ray[dmc]' brings versions that work with each other and with MuJoCo"
        ) from error


def make(env_id: str, keywords: Mapping[str, Any]) -> gym.Env:
    """A task with flat observations and repeated actions.

    Args:
        env_id: its id.
        keywords: Shimmy's, ``action_repeat``, and ``max_episode_steps``, which counts repeated actions as one step.
    """
    count = action_repeat(keywords)
    others = {name: value for name, value in keywords.items() if name not in ("action_repeat", "max_episode_steps")}
    env: gym.Env = gym.make(env_id, **{"disable_env_checker": True, **others})
    env = gym.wrappers.FlattenObservation(ActionRepeat(env, count))
    return gym.wrappers.TimeLimit(env, episode_steps(keywords))
