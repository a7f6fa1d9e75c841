"""The sensitivity of the value function to the state: what VaGraM weights its model errors with.

The value estimates are V_k(s') = Q_k(s', tanh(mean(s'))) for the K = 4 action-value functions (two critics,
two targets); the action is a constant of the differentiation, as in the published code.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from vagram_ray.core.sac import SAC

NUM_VALUE_ESTIMATES = 4


@dataclass(frozen=True)
class ValueEstimates:
    """The current value functions of a cohort, held fixed while a model is fitted.

    Args:
        sac: The agent whose critics estimate the value.
        clip_percentile: Percentile over the data of a value estimate's gradient norms, to which longer
            gradients are shortened (the paper's Appendix E: 95).
        chunk_size: Transitions differentiated at a time, to bound memory.
    """

    sac: SAC
    clip_percentile: float = 95.0
    chunk_size: int = 8192

    def values(self, obs: Tensor) -> Tensor:
        """V_k (S, K, B) at obs (S, B, D), differentiable in obs with the action held constant."""
        action = self.sac.actor.mean_action(obs).detach()
        return torch.cat([critic(obs, action) for critic in (self.sac.critic, self.sac.target_critic)], dim=1)

    def gradients(self, obs: Tensor) -> Tensor:
        """dV_k/ds (S, K, N, D) at obs (S, N, D), not clipped."""
        return torch.cat([self._chunk_gradients(chunk) for chunk in obs.split(self.chunk_size, dim=1)], dim=2)

    def clipped_gradients(self, obs: Tensor) -> tuple[Tensor, Tensor]:
        """Gradients (S, K, N, D) with norms clipped at the percentile, and the thresholds (S, K)."""
        return clip_gradient_norms(self.gradients(obs), self.clip_percentile)

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
