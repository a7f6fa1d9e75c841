"""The learned model beside the real environment: open-loop predictions from several states of played episodes.

From a start state s_0 of a real episode each elite member of the model predicts on its own, fed with its own
predictions and the actions that were really taken: f_{h+1} = f_h + delta_e(f_h, a_h), f_0 = s_0. With w the weights of
VaGraM at the real next states (squared value gradients of the critics, Voelcker et al. 2022, eq. 7), over M starts
and E members:

    error      e_d(h)^2 = 1/(M E) sum_{i,e} (f_{i,h,e,d} - s_{i,h,d})^2
    change     c_d(h)^2 = 1/M sum_i (s_{i,h,d} - s_{i,0,d})^2
    weighted   v_d(h)   = 1/(M E) sum_{i,e} w_{i,h,d} (f_{i,h,e,d} - s_{i,h,d})^2

e_d / c_d is the relative error: 0 is exact, and 1 is as good as predicting that nothing changes, which is what a model
does that has learned nothing about a dimension. Nothing is fed back from the real environment, so errors add up:
training imagines ``rollout_length`` steps only, often a single one, which is h = 1 here.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from vagram_ray.core.dimension_metrics import sensitivity_shares
from vagram_ray.core.dynamics import DynamicsEnsemble
from vagram_ray.core.value_gradients import ValueEstimates
from vagram_ray.play.episodes import Episode

DEFAULT_HORIZON = 25
MAX_STARTS = 100
"""Start states over which errors are averaged."""
MIN_DEVIATION = 1e-6
"""Dimensions that deviate or change less count as constant (as in the model's normaliser)."""
REWARD = "reward"


class Forecast(NamedTuple):
    """Open-loop predictions of each elite member."""

    states: np.ndarray  # (E, M, H, D) float64
    rewards: np.ndarray  # (E, M, H)


class DimensionError(NamedTuple):
    """One line of the table."""

    name: str
    is_distractor: bool
    one_step: float
    """Relative error after one step."""
    horizon: float
    """Relative error over the whole horizon: the root of summed squared errors by the root of summed changes."""
    sensitivity: float
    """Share of the value's sensitivity that lies in this dimension (``core.dimension_metrics.sensitivity_shares``)."""
    weighted_one_step: float
    """Share of the value-weighted error after one step, sum_d v_d(1)."""
    weighted_horizon: float
    """Share of the value-weighted error over the whole horizon."""


@dataclass(frozen=True)
class ModelView:
    """What the model predicted and what happened, or NaN after the end of an episode.

    M starts, H steps, E elite members, D dimensions. Results of methods have the reward as one more dimension, D + 1,
    where they say so. It has no weight.

    Attributes:
        names: Of the D dimensions.
        num_distractors: How many of the last dimensions are distractors.
        starts: (M, 2), episode and step of each start state.
        first: (M, D), the start states.
        real: (M, H, D), the real states after 1 to H steps.
        real_reward: (M, H).
        forecast: The predictions of the same.
        weights: (M, H, D), VaGraM's weights at the real states.
        deviation: (D,), standard deviation over the played episodes, or 0 where constant.
    """

    names: tuple[str, ...]
    num_distractors: int
    starts: np.ndarray
    first: np.ndarray
    real: np.ndarray
    real_reward: np.ndarray
    forecast: Forecast
    weights: np.ndarray
    deviation: np.ndarray

    @property
    def is_distractor(self) -> np.ndarray:
        """(D,) bool."""
        return np.arange(len(self.names)) >= len(self.names) - self.num_distractors

    @property
    def horizon(self) -> int:
        """H."""
        return self.real.shape[1]

    @property
    def counts(self) -> np.ndarray:
        """(H,), starts whose episode still goes on."""
        return np.isfinite(self.real[..., 0]).sum(axis=0)

    @cached_property
    def squared_error(self) -> np.ndarray:
        """(M, H, D + 1), mean over the members: NaN after the end of an episode, infinite where a prediction is NaN."""
        with np.errstate(over="ignore", invalid="ignore"):
            states = np.square(self.forecast.states - self.real).mean(axis=0)
            rewards = np.square(self.forecast.rewards - self.real_reward).mean(axis=0)
        return self._where_alive(states, rewards)

    @property
    def weighted_error(self) -> np.ndarray:
        """(M, H, D), squared errors times VaGraM's weights."""
        return self.weights * self.squared_error[..., :-1]

    @property
    def change(self) -> np.ndarray:
        """c_d(h), (H, D)."""
        return np.sqrt(np.nanmean(np.square(self.real - self.first[:, None]), axis=0))

    @property
    def error(self) -> np.ndarray:
        """e_d(h), (H, D + 1), in the environment's units."""
        return np.sqrt(np.nanmean(self.squared_error, axis=0))

    @property
    def relative_error(self) -> np.ndarray:
        """e_d(h) / c_d(h), (H, D), or NaN where nothing changes."""
        return relative(self.error[:, :-1], self.change)

    @property
    def spread(self) -> np.ndarray:
        """Standard deviation of the members about their mean, (H, D + 1), root mean square over starts."""
        with np.errstate(over="ignore", invalid="ignore"):
            states, rewards = (np.square(part.std(axis=0)) for part in self.forecast)
        return np.sqrt(np.nanmean(self._where_alive(states, rewards), axis=0))

    def _where_alive(self, states: np.ndarray, rewards: np.ndarray) -> np.ndarray:
        """States (M, H, D) and rewards (M, H) as one, or NaN after an episode's end and nowhere else."""
        both = np.nan_to_num(np.concatenate([states, rewards[..., None]], axis=-1), nan=np.inf, posinf=np.inf)
        return np.where(np.isfinite(self.real[..., :1]), both, np.nan)

    def summary(self) -> list[DimensionError]:
        """One line per dimension, in order."""
        squared_error, squared_change = np.square(self.error[:, :-1]), np.square(self.change)
        horizon = relative(np.sqrt(squared_error.sum(axis=0)), np.sqrt(squared_change.sum(axis=0)))
        weight, variance = np.nanmean(self.weights, axis=(0, 1)), np.square(self.deviation)
        sensitivity = sensitivity_shares(torch.from_numpy(weight)[None], torch.from_numpy(variance)[None])[0].numpy()
        weighted = np.nanmean(self.weighted_error, axis=0)
        columns = (
            self.relative_error[0], horizon, sensitivity, shares(weighted[0]), shares(weighted.sum(axis=0))
        )  # fmt: skip
        return [
            DimensionError(name, bool(distractor), *(float(column[d]) for column in columns))
            for d, (name, distractor) in enumerate(zip(self.names, self.is_distractor, strict=True))
        ]

    def csv_text(self) -> str:
        """One row per dimension and step ahead, the reward's last, empty where a number is not defined."""
        per_dimension = {
            "error": self.error,
            "change": self.change,
            "relative_error": self.relative_error,
            "spread": self.spread,
            "weight": np.nanmean(self.weights, axis=0),
            "weighted_error": np.nanmean(self.weighted_error, axis=0),
        }
        buffer = io.StringIO()
        writer = csv.writer(buffer, lineterminator="\n")
        writer.writerow(["dimension", "name", "distractor", "step", "num_starts", *per_dimension])
        flags = [*self.is_distractor.astype(int).tolist(), 0]
        for d, name in enumerate((*self.names, REWARD)):
            for h in range(self.horizon):
                numbers = [column[h, d] if d < column.shape[1] else np.nan for column in per_dimension.values()]
                shown = [repr(float(number)) if np.isfinite(number) else "" for number in numbers]
                writer.writerow([d, name, flags[d], h + 1, self.counts[h], *shown])
        return buffer.getvalue()


def relative(error: np.ndarray, change: np.ndarray) -> np.ndarray:
    """error / change, or NaN where nothing changes."""
    return np.where(change > MIN_DEVIATION, error / np.maximum(change, MIN_DEVIATION), np.nan)


def shares(values: np.ndarray) -> np.ndarray:
    """Values (D,) as parts of their sum, or NaN when there is nothing to share out."""
    total = values.sum()
    return values / total if total > 0 and np.isfinite(total) else np.full_like(values, np.nan)


def view_model(
    dynamics: DynamicsEnsemble,
    values: ValueEstimates,
    episodes: Sequence[Episode],
    names: Sequence[str],
    num_distractors: int,
    *,
    horizon: int = DEFAULT_HORIZON,
    max_starts: int = MAX_STARTS,
) -> ModelView:
    """Play the model beside real episodes.

    Args:
        dynamics: The model of one seed.
        values: The value functions of the same seed.
        episodes: What really happened.
        names: Of the D dimensions.
        num_distractors: How many of the last are distractors.
        horizon: Steps ahead, fewer if no episode is as long.
        max_starts: Start states, spread evenly over the played episodes.
    """
    horizon = min(horizon, max(map(len, episodes)))
    starts = choose_starts([len(episode) for episode in episodes], horizon, max_starts)
    horizon = min(horizon, max(len(episodes[e]) - t for e, t in starts))
    weights = value_weights(values, [episode.obs[1:] for episode in episodes])
    actions = _windows([episode.actions for episode in episodes], starts, horizon)
    first = np.stack([episodes[e].obs[t] for e, t in starts])
    played = np.concatenate([episode.obs for episode in episodes]).astype(np.float64)
    deviation = played.std(axis=0)
    return ModelView(
        names=tuple(names),
        num_distractors=num_distractors,
        starts=starts,
        first=first.astype(np.float64),
        real=_windows([episode.obs[1:] for episode in episodes], starts, horizon),
        real_reward=_windows([episode.rewards for episode in episodes], starts, horizon),
        forecast=open_loop(dynamics, first, np.nan_to_num(actions)),
        weights=_windows(weights, starts, horizon),
        deviation=np.where(deviation < MIN_DEVIATION, 0.0, deviation),
    )


def choose_starts(lengths: Sequence[int], horizon: int, max_starts: int) -> np.ndarray:
    """Episode and step (M, 2) of the start states, in order.

    Possible are the steps with a whole horizon before the end of their episode, or half of the episode where that
    is less.
    """
    last = [length - min(horizon, -(-length // 2)) for length in lengths]
    possible = [(e, t) for e, latest in enumerate(last) for t in range(latest + 1)]
    chosen = np.linspace(0, len(possible) - 1, min(max_starts, len(possible))).round().astype(int)
    return np.array(possible)[chosen]


@torch.no_grad()
def open_loop(dynamics: DynamicsEnsemble, obs: np.ndarray, actions: np.ndarray) -> Forecast:
    """Predictions of each elite from obs (M, D) with actions (M, H, A), none of them sampled (the heads' means)."""
    networks = dynamics.elite_networks()
    num_elites = networks.num_networks
    state = torch.as_tensor(obs, dtype=torch.float32).expand(1, num_elites, *obs.shape)
    states: list[Tensor] = []
    rewards: list[Tensor] = []
    for action in torch.as_tensor(actions, dtype=torch.float32).unbind(dim=1):
        prediction = dynamics.predict_with(networks, state, action.expand(1, num_elites, *action.shape))
        state = state + prediction.delta
        states.append(state[0])
        rewards.append(prediction.reward[0])
    return Forecast(torch.stack(states, dim=2).double().numpy(), torch.stack(rewards, dim=2).double().numpy())


def value_weights(values: ValueEstimates, next_obs: Sequence[np.ndarray]) -> list[np.ndarray]:
    """VaGraM's weights at next observations, one array (T, D) per episode. Gradients are clipped over all of them."""
    rows = torch.from_numpy(np.concatenate(next_obs)).unsqueeze(0)
    gradients, _ = values.clipped_gradients(rows)
    weights = gradients.square().mean(dim=1)[0].double().numpy()
    return np.split(weights, np.cumsum([len(part) for part in next_obs])[:-1])


def _windows(series: Sequence[np.ndarray], starts: np.ndarray, length: int) -> np.ndarray:
    """``length`` rows of each start's episode from its step on, (M, length, ...) float64, filled up with NaN."""
    first = series[0]
    windows = np.full((len(starts), length, *first.shape[1:]), np.nan)
    for window, (episode, step) in zip(windows, starts, strict=True):
        part = series[episode][step : step + length]
        window[: len(part)] = part
    return windows
