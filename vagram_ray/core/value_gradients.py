"""The value function of the current critics, and its sensitivity to the state: what value-aware losses need.

The value estimates are V_k(s') = Q_k(s', tanh(mean(s'))) for the K = 4 action-value functions (two critics,
two targets). VaGraM's gradients dV_k/ds' take the action as a constant, as in the published code. Losses that
evaluate V_k at a prediction are differentiated through the action too, so that their gradient is exact.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor

from vagram_ray.core.actor_critic import ActorCritic, FixedActorCritic
from vagram_ray.core.networks import constant_weights
from vagram_ray.core.seed_selection import copy_of_seeds


class ValueEstimateSettings(Protocol):
    """The hyperparameters of value estimates, as ``MBPOSettings`` has them."""

    @property
    def value_gradient_clip_percentile(self) -> float:
        """See ``ValueEstimates``."""

    @property
    def weight_terminal(self) -> Literal["gradient", "mean"]:
        """See ``ValueEstimates``."""


@dataclass(frozen=True)
class ValueEstimates:
    """The current value functions of a cohort, held fixed while a model is fitted.

    Args:
        sac: The agent whose critics estimate the value.
        clip_percentile: Percentile over the data of a value estimate's gradient norms, to which longer
            gradients are shortened (the paper's Appendix E: 95).
        chunk_size: States of a seed evaluated at a time, to bound memory.
        weight_terminal: ``"gradient"``, or ``"mean"``: transitions that end an episode have no part in the percentile,
            and the mean of the others' weights. The value of their successor is never used, as gamma (1 - d) V is 0.
    """

    sac: ActorCritic
    clip_percentile: float = 95.0
    chunk_size: int = 8192
    weight_terminal: Literal["gradient", "mean"] = "gradient"

    @classmethod
    def of_settings(cls, sac: ActorCritic, settings: ValueEstimateSettings) -> ValueEstimates:
        """The value functions of an agent with these hyperparameters."""
        return cls(sac, settings.value_gradient_clip_percentile, weight_terminal=settings.weight_terminal)

    def values(self, obs: Tensor) -> Tensor:
        """V_k (S, K, ...) at obs (S, ..., D), differentiable in obs. The networks' weights are constants."""
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

    def clipped_gradients(self, obs: Tensor, terminated: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Gradients (S, K, N, D) with norms clipped at the percentile, and the thresholds (S, K).

        Args:
            obs: Successors (S, N, D).
            terminated: 1 where the transition ended an episode, (S, N), used with ``weight_terminal="mean"`` alone.
        """
        return self.clip_gradients(self.gradients(obs), terminated)

    def clip_gradients(self, gradients: Tensor, terminated: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The same for gradients (S, K, N, D) that are known."""
        return clip_gradient_norms(gradients, self.clip_percentile, self._counted(terminated))

    def weights(self, clipped: Tensor, terminated: Tensor | None = None) -> Tensor:
        """(1/K) sum_k (dV_k/ds'_d)^2 of clipped gradients (S, K, N, D), (S, N, D).

        With ``weight_terminal="mean"``, transitions that ended an episode have the mean of the seed's others, per
        dimension. A seed that has no others keeps its own.
        """
        weight = clipped.square().mean(dim=1)
        counted = self._counted(terminated)
        if counted is None:
            return weight
        share = counted.unsqueeze(-1).to(weight.dtype)
        mean = (weight * share).sum(dim=1, keepdim=True) / share.sum(dim=1, keepdim=True)
        return torch.where(counted.unsqueeze(-1), weight, mean)

    def _counted(self, terminated: Tensor | None) -> Tensor | None:
        """Which transitions (S, N) percentile and means are of. None is all."""
        if terminated is None or self.weight_terminal == "gradient":
            return None
        going_on = terminated == 0
        return going_on | ~going_on.any(dim=1, keepdim=True)  # all of a seed that has nothing else

    def clip(self, magnitudes: Tensor) -> Tensor:
        """Magnitudes (S, N), none larger than their percentile over the data."""
        return torch.minimum(magnitudes, norm_percentile(magnitudes, self.clip_percentile).unsqueeze(-1))

    def select_seeds(self, index: Tensor) -> ValueEstimates:
        """The value functions of the seeds at ``index`` (M,), copied."""
        actor = self.sac.actor.select_seeds(index)
        critic = self.sac.critic.select_seeds(index, actor.scale)
        target_critic = self.sac.target_critic.select_seeds(index, actor.scale)
        networks = FixedActorCritic(actor, critic, target_critic, self.sac.alpha[index])
        return copy_of_seeds(self, index, sac=networks)

    def _of_rows(self, function: Callable[..., Tensor], *columns: Tensor) -> Tensor:
        """Apply ``function`` to columns (S, ..., width) as rows (S, n, width), in chunks: (S, K, ...)."""
        chunks = zip(*(column.flatten(1, -2).split(self.chunk_size, dim=1) for column in columns), strict=True)
        with constant_weights(self.sac.actor.network, self.sac.critic.network, self.sac.target_critic.network):
            rows = torch.cat([function(*chunk) for chunk in chunks], dim=2)
        values: Tensor = rows.unflatten(2, columns[0].shape[1:-1])
        return values

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


def clip_gradient_norms(gradients: Tensor, percentile: float, counted: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Shorten gradients (S, K, N, D) to the percentile of the L2 norms over the N transitions, per seed and estimate.

    Args:
        gradients: All of them are shortened.
        percentile: From 0 to 100.
        counted: Which transitions (S, N) the percentile is of, at least one per seed. None is all.

    Returns:
        Clipped gradients (S, K, N, D) and the thresholds (S, K).
    """
    norms = gradients.norm(dim=-1)
    threshold = norm_percentile(norms, percentile, counted)
    factor = (threshold.unsqueeze(-1) / norms.clamp_min(torch.finfo(norms.dtype).tiny)).clamp_max(1.0)
    return gradients * factor.unsqueeze(-1), threshold


def norm_percentile(norms: Tensor, percentile: float, counted: Tensor | None = None) -> Tensor:
    """Percentile over the last axis with linear interpolation, (..., N) -> (...). torch.quantile has a size limit.

    ``counted`` (S, N) leaves out entries of norms (S, K, N).
    """
    if counted is not None:
        return _percentile_of_some(norms, percentile, counted.unsqueeze(1))
    ordered = norms.sort(dim=-1).values
    rank = percentile / 100.0 * (norms.shape[-1] - 1)
    lower = int(rank)
    upper = min(lower + 1, norms.shape[-1] - 1)
    return torch.lerp(ordered[..., lower], ordered[..., upper], rank - lower)


def _percentile_of_some(norms: Tensor, percentile: float, counted: Tensor) -> Tensor:
    """The same where each seed counts another number of entries: the others are sorted behind them."""
    ordered = norms.masked_fill(~counted, torch.inf).sort(dim=-1).values
    last = counted.sum(dim=-1, keepdim=True) - 1
    rank = percentile / 100.0 * last.to(torch.float64)
    lower = rank.floor().long()
    upper = torch.minimum(lower + 1, last)
    lower, upper = (index.expand(*norms.shape[:-1], 1) for index in (lower, upper))
    share = (rank - rank.floor()).to(norms.dtype)
    return torch.lerp(ordered.gather(-1, lower), ordered.gather(-1, upper), share.expand(lower.shape)).squeeze(-1)
