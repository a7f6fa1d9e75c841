"""The value function of the current critics, and its sensitivity to the state: what value-aware losses need.

The value estimates are V_k(s') = Q_k(s', tanh(mean(s'))) for the K = 4 action-value functions (two critics,
two targets). VaGraM's gradients dV_k/ds' take the action as a constant, as in the published code; losses that
evaluate V_k at a prediction are differentiated through the action too, so that their gradient is exact.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from vagram_ray.core.networks import constant_weights
from vagram_ray.core.sac import SAC, SquashedGaussianActor, TwinCritic


class ActorCritic(NamedTuple):
    """The part of ``SAC`` that value estimates are made of, for some of its seeds."""

    actor: SquashedGaussianActor
    critic: TwinCritic
    target_critic: TwinCritic
    alpha: Tensor  # (S, 1)


@dataclass(frozen=True)
class ValueEstimates:
    """The current value functions of a cohort, held fixed while a model is fitted.

    Args:
        sac: The agent whose critics estimate the value.
        clip_percentile: Percentile over the data of a value estimate's gradient norms, to which longer
            gradients are shortened (the paper's Appendix E: 95).
        chunk_size: States of a seed evaluated at a time, to bound memory.
    """

    sac: SAC | ActorCritic
    clip_percentile: float = 95.0
    chunk_size: int = 8192

    def values(self, obs: Tensor) -> Tensor:
        """V_k (S, K, ...) at obs (S, ..., D); differentiable in obs, the networks' weights are constants."""
        return self._of_rows(lambda rows: self._action_values(rows, self.sac.actor.mean_action(rows)), obs)

    def soft_values(self, obs: Tensor, noise: Tensor) -> Tensor:
        """Q_k(s, a) - alpha log pi(a|s), (S, K, ...), differentiable as ``values``.

        Args:
            obs: States (S, ..., D).
            noise: Standard normal (S, ..., A), of which the policy makes the actions a.
        """

        def of_rows(rows: Tensor, row_noise: Tensor) -> Tensor:
            action, log_prob = self.sac.actor.sample(rows, row_noise)
            return self._action_values(rows, action) - (self.sac.alpha * log_prob).unsqueeze(1)

        return self._of_rows(of_rows, obs, noise)

    def gradients(self, obs: Tensor) -> Tensor:
        """dV_k/ds (S, K, N, D) at obs (S, N, D), not clipped."""
        return torch.cat([self._chunk_gradients(chunk) for chunk in obs.split(self.chunk_size, dim=1)], dim=2)

    def clipped_gradients(self, obs: Tensor) -> tuple[Tensor, Tensor]:
        """Gradients (S, K, N, D) with norms clipped at the percentile, and the thresholds (S, K)."""
        return clip_gradient_norms(self.gradients(obs), self.clip_percentile)

    def clip(self, magnitudes: Tensor) -> Tensor:
        """Magnitudes (S, N), none larger than their percentile over the data."""
        return torch.minimum(magnitudes, norm_percentile(magnitudes, self.clip_percentile).unsqueeze(-1))

    def select_seeds(self, index: Tensor) -> ValueEstimates:
        """The value functions of the seeds at ``index`` (M,), copied."""
        actor = self.sac.actor.select_seeds(index.tolist())
        critic = self.sac.critic.select_seeds(index, actor.scale)
        target_critic = self.sac.target_critic.select_seeds(index, actor.scale)
        return replace(self, sac=ActorCritic(actor, critic, target_critic, self.sac.alpha[index]))

    def _of_rows(self, function: Callable[..., Tensor], *columns: Tensor) -> Tensor:
        """What ``function`` makes of columns (S, ..., width) as rows (S, n, width), in chunks: (S, K, ...)."""
        chunks = zip(*(column.flatten(1, -2).split(self.chunk_size, dim=1) for column in columns), strict=True)
        with constant_weights(self.sac.actor.network, self.sac.critic.network, self.sac.target_critic.network):
            values = torch.cat([function(*chunk) for chunk in chunks], dim=2)
        return values.unflatten(2, columns[0].shape[1:-1])

    def _action_values(self, obs: Tensor, action: Tensor) -> Tensor:
        return torch.cat([critic(obs, action) for critic in (self.sac.critic, self.sac.target_critic)], dim=1)

    def _chunk_gradients(self, obs: Tensor) -> Tensor:
        with torch.no_grad():
            action = self.sac.actor.mean_action(obs)
        gradients: list[Tensor] = []
        for critic in (self.sac.critic, self.sac.target_critic):
            # A copy of the observations per critic: one backward pass then gives each critic its own gradient.
            own_obs = obs.detach().unsqueeze(1).repeat(1, 2, 1, 1).requires_grad_()
            gradients += torch.autograd.grad(critic.values_at(own_obs, action).sum(), own_obs)
        return torch.cat(gradients, dim=1)


def clip_gradient_norms(gradients: Tensor, percentile: float) -> tuple[Tensor, Tensor]:
    """Shorten gradients (S, K, N, D) to the percentile of the L2 norms over the N transitions, per seed and estimate.

    Returns:
        Clipped gradients (S, K, N, D) and the thresholds (S, K).
    """
    norms = gradients.norm(dim=-1)
    threshold = norm_percentile(norms, percentile)
    factor = (threshold.unsqueeze(-1) / norms.clamp_min(torch.finfo(norms.dtype).tiny)).clamp_max(1.0)
    return gradients * factor.unsqueeze(-1), threshold


def norm_percentile(norms: Tensor, percentile: float) -> Tensor:
    """Percentile over the last axis with linear interpolation, (..., N) -> (...); torch.quantile has a size limit."""
    ordered = norms.sort(dim=-1).values
    rank = percentile / 100.0 * (norms.shape[-1] - 1)
    lower = int(rank)
    upper = min(lower + 1, norms.shape[-1] - 1)
    return torch.lerp(ordered[..., lower], ordered[..., upper], rank - lower)
