"""Whole episodes of a policy, recorded step by step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from rich import box
from rich.table import Table
from rich.text import Text

from vagram_ray.core.environments import SeedEnvironments
from vagram_ray.text import format_number

Policy = Callable[[np.ndarray], np.ndarray]
"""Observations (1, D) to actions (1, A) in [-1, 1]."""


@dataclass(frozen=True)
class Episode:
    """One episode of T steps.

    Attributes:
        obs: (T + 1, D) float32, the last observation included.
        actions: (T, A) float32 in [-1, 1].
        rewards: (T,) float32.
        terminated: It ended in a terminal state (otherwise: by its time limit).
    """

    obs: np.ndarray
    actions: np.ndarray
    rewards: np.ndarray
    terminated: bool

    def __len__(self) -> int:
        return len(self.rewards)

    @property
    def episode_return(self) -> float:
        """Undiscounted sum of the rewards."""
        return float(self.returns_so_far[-1])

    @property
    def returns_so_far(self) -> np.ndarray:
        """(T + 1,) float64, the return before the first step, after it, and so on."""
        return np.concatenate([[0.0], self.rewards.astype(np.float64).cumsum()])


def play_episodes(act: Policy, envs: SeedEnvironments, num_episodes: int) -> list[Episode]:
    """Play whole episodes in the one environment of ``envs``.

    Args:
        act: The policy.
        envs: An environment of a single seed, reset here.
        num_episodes: At least 1.
    """
    obs = envs.reset()
    episodes = []
    for _ in range(num_episodes):
        episode, obs = _play_one(act, envs, obs)
        episodes.append(episode)
    return episodes


def _play_one(act: Policy, envs: SeedEnvironments, obs: np.ndarray) -> tuple[Episode, np.ndarray]:
    observed, actions, rewards = [obs[0]], [], []
    while True:
        action = np.asarray(act(obs), dtype=np.float32)
        step = envs.step(action)
        observed.append(step.next_obs[0])
        actions.append(action[0])
        rewards.append(step.reward[0])
        obs = step.obs
        if step.terminated[0] or step.truncated[0]:
            episode = Episode(np.stack(observed), np.stack(actions), np.asarray(rewards), bool(step.terminated[0]))
            return episode, obs


def episode_table(episodes: Sequence[Episode], title: str) -> Table:
    """Return, length and end of each episode, and the means."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, show_footer=True)
    table.title, table.title_justify, table.title_style = Text(title), "left", "bold"
    returns = np.array([episode.episode_return for episode in episodes])
    lengths = np.array([len(episode) for episode in episodes])
    table.add_column("episode", footer="mean", justify="right")
    table.add_column("return", footer=format_return(float(returns.mean())), justify="right")
    table.add_column("length", footer=format_number(float(lengths.mean())), justify="right")
    table.add_column("ended by", footer="")
    for number, episode in enumerate(episodes, start=1):
        end = "terminal state" if episode.terminated else "time limit"
        table.add_row(str(number), format_return(episode.episode_return), str(len(episode)), end)
    return table


def format_return(value: float) -> str:
    """One decimal: ``-151.3``."""
    return f"{value:,.1f}"
