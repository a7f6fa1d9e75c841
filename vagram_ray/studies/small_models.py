"""Dynamics models too small to be exact: a linear map, or one hidden layer, for each seed of a cohort."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from vagram_ray.core.dynamics import NORMALIZER_EPSILON
from vagram_ray.core.networks import StackedAdam, StackedMLP, truncated_normal_init
from vagram_ray.core.random_streams import RandomStreams
from vagram_ray.core.replay import Transitions

PredictionTarget = Literal["delta", "next_obs"]


class SmallModels:
    """One deterministic model of the change s' - s per seed, and its Adam.

    Built as a member of ``DynamicsEnsemble``: SiLU units, standardised inputs, its initialisation. It predicts the
    state alone. Every loss then is its state term, and as Adam does not mind a loss's scale, losses of different
    scales compare. A reward among the outputs would take another share of a small network under each of them.

    Args:
        hidden_sizes: Widths of the hidden layers. None makes the model linear.
        data: What the inputs' mean and deviation are taken from, (S, N, ...).
        lr: Step size of Adam.
        prediction_target: ``"delta"``, the network's output is s' - s, or ``"next_obs"``, it is s'. The linear models
            can be the same functions either way, but the first prediction is near s, or near 0.
        init_streams: Per-seed generators for the initial weights.
    """

    def __init__(
        self,
        hidden_sizes: Sequence[int],
        data: Transitions,
        lr: float,
        prediction_target: PredictionTarget,
        init_streams: RandomStreams,
    ) -> None:
        inputs = torch.cat([data.obs, data.action], dim=-1)
        deviation, self._mean = torch.std_mean(inputs, dim=1, keepdim=True, correction=0)
        self._std = torch.where(deviation < NORMALIZER_EPSILON, 1.0, deviation)
        sizes = (inputs.shape[-1], *hidden_sizes, data.obs.shape[-1])
        self.network = StackedMLP(inputs.shape[0], sizes, activation=F.silu)
        self.network.initialize(truncated_normal_init, init_streams.generators)
        self._prediction_target = prediction_target
        self._adam = StackedAdam(self.network.flat, inputs.shape[0], lr)

    def change(self, obs: Tensor, action: Tensor) -> Tensor:
        """Predicted s' - s, (S, 1, B, D), for obs (S, 1, B, D) and action (S, 1, B, A)."""
        inputs = torch.cat([obs, action], dim=-1).squeeze(1)
        predicted: Tensor = self.network((inputs - self._mean) / self._std).unsqueeze(1)
        return predicted - obs if self._prediction_target == "next_obs" else predicted

    def descend(self, loss: Tensor) -> None:
        """One gradient step of every seed on its own ``loss`` (S,)."""
        self._adam.step(torch.autograd.grad(loss.sum(), self.network.views))
