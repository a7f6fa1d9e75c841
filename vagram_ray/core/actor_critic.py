"""Networks of actor and critics, for a cohort of seeds (Haarnoja et al., 2018, "Soft Actor-Critic").

What they are trained for is in ``sac_losses``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vagram_ray.core.networks import StackedMLP
from vagram_ray.core.seed_selection import copy_of_seeds

LOG_STD_MIN, LOG_STD_MAX = -5.0, 2.0
"""Range of the policy's log standard deviation before squashing (the published code's)."""
LOG_STD_HALF_RANGE = 0.5 * (LOG_STD_MAX - LOG_STD_MIN)
_LOG_DENSITY_CONSTANT = 0.5 * math.log(2 * math.pi) + 2.0 * math.log(2.0)


class ObservationScale(nn.Module):
    """Per-seed mean and deviation with which observations enter the networks, the identity by default."""

    def __init__(self, num_seeds: int, obs_dim: int, enabled: bool, device: torch.device | str = "cpu") -> None:
        super().__init__()
        self.enabled = enabled
        self.obs_mean: Tensor
        self.obs_std: Tensor
        self.register_buffer("obs_mean", torch.zeros(num_seeds, 1, obs_dim, device=device))
        self.register_buffer("obs_std", torch.ones(num_seeds, 1, obs_dim, device=device))

    def forward(self, obs: Tensor) -> Tensor:
        """Scaled observations, shape (S, B, D) as given."""
        return (obs - self.obs_mean) / self.obs_std if self.enabled else obs

    @torch.no_grad()
    def fit(self, obs: Tensor) -> None:
        """Take mean and deviation from observations (S, N, D)."""
        if self.enabled:
            deviation, mean = torch.std_mean(obs, dim=1, keepdim=True, correction=0)
            self.obs_mean.copy_(mean)
            # A constant dimension carries no information. Dividing by its rounding noise would invent some.
            self.obs_std.copy_(torch.where(deviation < 1e-6, 1.0, deviation))

    def select_seeds(self, index: Tensor) -> ObservationScale:
        """A copy of the scale of the seeds at ``index`` (M,)."""
        return copy_of_seeds(self, index, ("obs_mean", "obs_std"))


class SquashedGaussianActor(nn.Module):
    """Policy a = tanh(mean(s) + std(s) * noise), one network per seed.

    Args:
        num_seeds: S.
        obs_dim: D.
        action_dim: A.
        hidden_sizes: Widths of the hidden layers.
        normalize_features: Scale the last hidden features to unit L2 norm.
        normalize_observations: Standardise observations with ``scale``.
        device: Where the parameters live.
    """

    def __init__(
        self,
        num_seeds: int,
        obs_dim: int,
        action_dim: int,
        hidden_sizes: Sequence[int],
        *,
        normalize_features: bool = False,
        normalize_observations: bool = False,
        device: torch.device | str = "cpu",
    ) -> None:
        super().__init__()
        self.num_seeds, self.action_dim = num_seeds, action_dim
        self.network = StackedMLP(
            num_seeds,
            (obs_dim, *hidden_sizes, 2 * action_dim),
            normalize_features=normalize_features,
            device=device,
        )
        self.scale = ObservationScale(num_seeds, obs_dim, normalize_observations, device)

    @property
    def flat(self) -> nn.Parameter:
        """All weights (S, P), seed s in row s."""
        return self.network.flat

    def distribution(self, obs: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log standard deviation (S, B, A) of the Gaussian before squashing, for obs (S, B, D)."""
        mean, raw = self.network(self.scale(obs)).chunk(2, dim=-1)
        bounded = torch.tanh(raw.contiguous())  # on a strided view it takes four times as long
        return mean, LOG_STD_MIN + LOG_STD_HALF_RANGE * (bounded + 1.0)

    def mean_action(self, obs: Tensor) -> Tensor:
        """The deterministic policy's actions (S, B, A) in [-1, 1]."""
        return torch.tanh(self.distribution(obs)[0])

    def sample(self, obs: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Actions (S, B, A) in [-1, 1] and their log density (S, B), for standard normal ``noise`` (S, B, A)."""
        mean, log_std = self.distribution(obs)
        pre_squash = torch.addcmul(mean, log_std.exp(), noise)
        # -log pi = log std + n^2 / 2 + log(1 - tanh(u)^2) + const per dimension, and the third term is
        # 2 (log 2 - u - softplus(-2 u)), a form that neither overflows nor cancels for large |u|.
        squash = F.softplus(-2.0 * pre_squash) + pre_squash
        surprise = (log_std + 0.5 * noise.square() - 2.0 * squash).sum(dim=-1)
        return torch.tanh(pre_squash), -self.action_dim * _LOG_DENSITY_CONSTANT - surprise

    def select_seeds(self, index: Tensor) -> SquashedGaussianActor:
        """A copy of the actor with the seeds at ``index`` (M,) alone."""
        network = self.network.select_networks(index)
        return copy_of_seeds(self, index, ("scale",), num_seeds=len(index), network=network)


class TwinCritic(nn.Module):
    """Two action-value networks per seed, evaluated as one stack of 2 S.

    ``scale`` is the actor's: both see observations in the same units.
    """

    def __init__(
        self,
        num_seeds: int,
        obs_dim: int,
        action_dim: int,
        hidden_sizes: Sequence[int],
        *,
        scale: ObservationScale,
        normalize_features: bool = False,
        layer_norm: bool = False,
        device: torch.device | str = "cpu",
    ) -> None:
        super().__init__()
        self.num_seeds = num_seeds
        self.scale = scale
        self.network = StackedMLP(
            2 * num_seeds,
            (obs_dim + action_dim, *hidden_sizes, 1),
            normalize_features=normalize_features,
            layer_norm=layer_norm,
            device=device,
        )

    def forward(self, obs: Tensor, action: Tensor) -> Tensor:
        """Both critics' values (S, 2, B) of obs (S, B, D) and action (S, B, A)."""
        return self.network.forward(torch.cat([self.scale(obs), action], dim=-1)).view(self.num_seeds, 2, -1)

    def values_at(self, obs: Tensor, action: Tensor) -> Tensor:
        """Values (S, 2, B) where each critic has its own obs (S, 2, B, D). Action (S, B, A) is shared."""
        scaled = torch.stack([self.scale(obs[:, 0]), self.scale(obs[:, 1])], dim=1)
        shared = action.unsqueeze(1).expand(-1, 2, -1, -1)
        return self.network.forward(torch.cat([scaled, shared], dim=-1).flatten(0, 1)).view(self.num_seeds, 2, -1)

    def select_seeds(self, index: Tensor, scale: ObservationScale) -> TwinCritic:
        """A copy of the critics of the seeds at ``index``, with the ``scale`` of the same selection of the actor."""
        network = self.network.select_networks((2 * index[:, None] + index.new_tensor([0, 1])).flatten())
        return copy_of_seeds(self, index, num_seeds=len(index), scale=scale, network=network)


class ActorCritic(Protocol):
    """The networks that losses and value estimates need. ``SAC`` has them."""

    @property
    def actor(self) -> SquashedGaussianActor:
        """The policy."""

    @property
    def critic(self) -> TwinCritic:
        """Two action-value functions per seed."""

    @property
    def target_critic(self) -> TwinCritic:
        """Their slowly moving averages."""

    @property
    def alpha(self) -> Tensor:
        """Temperature (S, 1)."""


class FixedActorCritic(NamedTuple):
    """An actor with critics that nobody trains."""

    actor: SquashedGaussianActor
    critic: TwinCritic
    target_critic: TwinCritic
    alpha: Tensor  # (S, 1)
