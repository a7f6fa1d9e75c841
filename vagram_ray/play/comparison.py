"""Several policies in the same episodes: mean return with its interval, one row each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from rich import box
from rich.table import Table
from rich.text import Text
from scipy import stats

from vagram_ray.play.checkpoint import SavedAgent, policy
from vagram_ray.play.episodes import format_return, play_episodes
from vagram_ray.records.seed_statistics import BOOTSTRAP_RESAMPLES, CONFIDENCE
from vagram_ray.text import format_number, short_path


@dataclass(frozen=True)
class Played:
    """A policy and its episodes: returns and lengths, each (N,)."""

    agent: SavedAgent
    returns: np.ndarray
    lengths: np.ndarray

    @property
    def interval(self) -> tuple[float, float]:
        """95 % percentile bootstrap interval of the mean over episodes: the mean where they are alike, NaN of one."""
        if len(self.returns) == 1:
            return float("nan"), float("nan")
        if len(set(self.returns.tolist())) == 1:
            return (float(self.returns[0]),) * 2
        resampled = stats.bootstrap(
            (self.returns,), np.mean, confidence_level=CONFIDENCE, n_resamples=BOOTSTRAP_RESAMPLES, method="percentile",
            rng=np.random.default_rng(0),
        ).confidence_interval  # fmt: skip
        return float(resampled.low), float(resampled.high)


def play_alike(agents: Sequence[SavedAgent], num_episodes: int) -> list[Played]:
    """Play every agent's deterministic policy in its own environment, in the episodes of the first agent's seed.

    Episode i begins in the same state for all whose environments are the same. Distractors are those of each agent's
    own seed: it has learned to live with no others.
    """
    played = []
    for agent in agents:
        with agent.evaluation(episodes=agents[0].seed) as envs:
            episodes = play_episodes(policy(agent.actor()), envs, num_episodes)
        returns, lengths = ([value(own) for own in episodes] for value in (lambda own: own.episode_return, len))
        played.append(Played(agent, np.array(returns), np.array(lengths)))
    return played


def comparison_table(played: Sequence[Played]) -> Table:
    """Where each policy lies, what it is, and its returns, in the order given."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    episodes = len(played[0].returns)
    table.title = Text(f"Deterministic policies, {episodes} episode{'s' if episodes > 1 else ''} each")
    table.title_justify, table.title_style = "left", "bold"
    table.add_column("checkpoint", overflow="fold")
    table.add_column("agent", overflow="fold")
    for name in ("mean return", "95 % interval", "mean length", "episodes"):
        table.add_column(name, justify="right", no_wrap=True)
    for own in played:
        low, high = own.interval
        numbers = (
            format_return(float(own.returns.mean())),
            "-" if np.isnan(low) else f"{format_return(low)} to {format_return(high)}",
            format_number(float(own.lengths.mean())),
        )
        table.add_row(short_path(own.agent.folder), own.agent.title, *numbers, str(len(own.returns)))
    return table


def differing_environments(agents: Sequence[SavedAgent]) -> str:
    """A sentence where returns are of different environments; empty where all are the same."""
    if len({agent.environment for agent in agents}) == 1:
        return ""
    return "the agents' environments differ, each is played in its own: returns of different ones are no comparison."
