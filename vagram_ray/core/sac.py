"""Soft actor-critic (Haarnoja et al., 2018, "Soft Actor-Critic Algorithms and Applications"), for a cohort of seeds.

Losses are means over the batch and then sums over seeds, so that one backward pass serves all seeds and their
gradients never mix.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vagram_ray.core.networks import StackedAdam, StackedMLP, orthogonal_init
from vagram_ray.core.random_streams import RandomStreams
from vagram_ray.core.replay import Transitions
from vagram_ray.core.sac_gradients import CompiledGradients, actor_gradients, critic_gradients
from vagram_ray.core.settings import MBPOSettings

LOG_STD_MIN, LOG_STD_MAX = -5.0, 2.0
"""Range of the policy's log standard deviation before squashing (the published code's)."""
LOG_STD_HALF_RANGE = 0.5 * (LOG_STD_MAX - LOG_STD_MIN)
_LOG_DENSITY_CONSTANT = 0.5 * math.log(2 * math.pi) + 2.0 * math.log(2.0)


class ObservationScale(nn.Module):
    """Per-seed mean and deviation with which observations enter the networks; the identity by default."""

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
            # A constant dimension carries no information; dividing by its rounding noise would invent some.
            self.obs_std.copy_(torch.where(deviation < 1e-6, 1.0, deviation))


class PolicySample(NamedTuple):
    """Actions of the squashed Gaussian and what its gradient needs."""

    action: Tensor  # (S, B, A) in [-1, 1]
    log_prob: Tensor  # (S, B)
    std: Tensor  # (S, B, A), before squashing
    bounded: Tensor  # (S, B, A) in [-1, 1], of which log std is a linear function


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

    log_std_half_range = LOG_STD_HALF_RANGE

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
        return mean, LOG_STD_MIN + LOG_STD_HALF_RANGE * (torch.tanh(raw) + 1.0)

    def mean_action(self, obs: Tensor) -> Tensor:
        """The deterministic policy's actions (S, B, A) in [-1, 1]."""
        return torch.tanh(self.distribution(obs)[0])

    def sample(self, obs: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Actions (S, B, A) in [-1, 1] and their log density (S, B), for standard normal ``noise`` (S, B, A)."""
        policy = self.squash(self.network(self.scale(obs)), noise)
        return policy.action, policy.log_prob

    def squash(self, outputs: Tensor, noise: Tensor) -> PolicySample:
        """The sample that ``noise`` (S, B, A) makes of the network's outputs (S, B, 2 A)."""
        mean, raw = outputs.chunk(2, dim=-1)
        bounded = torch.tanh(raw.contiguous())  # on a strided view it takes four times as long
        log_std = LOG_STD_MIN + LOG_STD_HALF_RANGE * (bounded + 1.0)
        std = log_std.exp()
        pre_squash = torch.addcmul(mean, std, noise)
        # -log pi = log std + n^2 / 2 + log(1 - tanh(u)^2) + const per dimension, and the third term is
        # 2 (log 2 - u - softplus(-2 u)), a form that neither overflows nor cancels for large |u|.
        squash = F.softplus(-2.0 * pre_squash).add_(pre_squash)
        surprise = torch.addcmul(log_std, noise, noise, value=0.5).sub_(squash, alpha=2.0).sum(dim=-1)
        log_prob = -self.action_dim * _LOG_DENSITY_CONSTANT - surprise
        return PolicySample(torch.tanh(pre_squash), log_prob, std, bounded)

    def select_seeds(self, index: Sequence[int]) -> SquashedGaussianActor:
        """A copy of the actor with the seeds at ``index`` alone."""
        position = torch.as_tensor(list(index), device=self.flat.device)
        selected = SquashedGaussianActor.__new__(SquashedGaussianActor)
        nn.Module.__init__(selected)
        selected.num_seeds, selected.action_dim = len(position), self.action_dim
        selected.network = self.network.select_networks(position)
        obs_dim = self.scale.obs_mean.shape[-1]
        selected.scale = ObservationScale(len(position), obs_dim, self.scale.enabled, self.flat.device)
        selected.scale.obs_mean.copy_(self.scale.obs_mean[position])
        selected.scale.obs_std.copy_(self.scale.obs_std[position])
        return selected


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
        device: torch.device | str = "cpu",
    ) -> None:
        super().__init__()
        self.num_seeds = num_seeds
        self.scale = scale
        self.network = StackedMLP(
            2 * num_seeds,
            (obs_dim + action_dim, *hidden_sizes, 1),
            normalize_features=normalize_features,
            device=device,
        )

    def forward(self, obs: Tensor, action: Tensor) -> Tensor:
        """Both critics' values (S, 2, B) of obs (S, B, D) and action (S, B, A)."""
        return self.network(self.joint_input(obs, action)).view(self.num_seeds, 2, -1)

    def joint_input(self, obs: Tensor, action: Tensor) -> Tensor:
        """What both networks of each seed see of obs (S, B, D) and action (S, B, A): (S, B, D + A)."""
        return torch.cat([self.scale(obs), action], dim=-1)

    def values_at(self, obs: Tensor, action: Tensor) -> Tensor:
        """Values (S, 2, B) where each critic has its own obs (S, 2, B, D); action (S, B, A) is shared."""
        scaled = torch.stack([self.scale(obs[:, 0]), self.scale(obs[:, 1])], dim=1)
        shared = action.unsqueeze(1).expand(-1, 2, -1, -1)
        return self.network(torch.cat([scaled, shared], dim=-1).flatten(0, 1)).view(self.num_seeds, 2, -1)

    def select_seeds(self, index: Tensor, scale: ObservationScale) -> TwinCritic:
        """A copy of the critics of the seeds at ``index``, with the ``scale`` of the same selection of the actor."""
        selected = TwinCritic.__new__(TwinCritic)
        nn.Module.__init__(selected)
        selected.num_seeds, selected.scale = len(index), scale
        selected.network = self.network.select_networks((2 * index[:, None] + index.new_tensor([0, 1])).flatten())
        return selected


class SAC:
    """Actor, twin critics with targets and temperature of a cohort, and their gradient update.

    Args:
        settings: Hyperparameters.
        num_seeds: S.
        obs_dim: D.
        action_dim: A.
        init_streams: Per-seed generators for the initial weights.
        device: Where everything lives.
        actor: Use this module's parameters in place instead of creating an actor.
    """

    def __init__(
        self,
        settings: MBPOSettings,
        num_seeds: int,
        obs_dim: int,
        action_dim: int,
        init_streams: RandomStreams,
        device: torch.device | str = "cpu",
        actor: SquashedGaussianActor | None = None,
    ) -> None:
        self.settings = settings
        self.num_seeds = num_seeds
        self.actor = actor or SquashedGaussianActor(
            num_seeds,
            obs_dim,
            action_dim,
            settings.actor_hidden_sizes,
            normalize_features=settings.normalize_features,
            normalize_observations=settings.normalize_observations,
            device=device,
        )
        self.critic, self.target_critic = (
            TwinCritic(
                num_seeds,
                obs_dim,
                action_dim,
                settings.critic_hidden_sizes,
                scale=self.actor.scale,
                normalize_features=settings.normalize_features,
                device=device,
            )
            for _ in range(2)
        )
        self.actor.network.initialize(orthogonal_init, init_streams.generators)
        self.critic.network.initialize(orthogonal_init, init_streams.generators)
        with torch.no_grad():
            self.target_critic.network.flat.copy_(self.critic.network.flat)
        self.log_alpha = torch.full((num_seeds, 1), math.log(settings.initial_alpha), device=device)
        entropy = settings.target_entropy
        self.target_entropy = -float(action_dim) if isinstance(entropy, str) else float(entropy)
        self.actor_optimizer = StackedAdam(self.actor.flat, num_seeds, settings.actor_lr)
        self.critic_optimizer = StackedAdam(self.critic.network.flat, num_seeds, settings.critic_lr)
        self.alpha_optimizer = StackedAdam(self.log_alpha, num_seeds, settings.alpha_lr)
        self._actor_gradient = self.actor.network.split(self.actor_optimizer.gradient)
        self._critic_gradient = self.critic.network.split(self.critic_optimizer.gradient)
        compiled = CompiledGradients(self) if settings.compile == "default" else None
        self._write_actor_gradients = compiled.actor if compiled else actor_gradients
        self._write_critic_gradients = compiled.critic if compiled else critic_gradients
        self.num_updates = 0

    @property
    def alpha(self) -> Tensor:
        """Temperature (S, 1)."""
        return self.log_alpha.exp()

    @property
    def phase(self) -> int:
        """Where the next update stands in the periods of actor and targets: updates of equal phase do the same."""
        return self.num_updates % math.lcm(self.settings.actor_update_period, self.settings.target_update_period)

    def critic_loss(self, batch: Transitions, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Squared Bellman error, mean over the batch and summed over both critics, (S,), and mean value (S,).

        ``sac_gradients.critic_gradients`` is its derivative.
        """
        values = self.critic(batch.obs, batch.action)
        error = values - self.bellman_target(batch, noise).unsqueeze(1)
        return error.square().mean(dim=-1).sum(dim=-1), values.detach().mean(dim=(1, 2))

    @torch.no_grad()
    def bellman_target(self, batch: Transitions, noise: Tensor) -> Tensor:
        """r + gamma (1 - terminated) (min_k Q'_k(s', a') - alpha log pi(a' | s')), a' ~ pi(s'), shape (S, B)."""
        next_action, next_log_prob = self.actor.sample(batch.next_obs, noise)
        first, second = self.target_critic(batch.next_obs, next_action).unbind(dim=1)
        next_value = torch.minimum(first, second) - self.alpha * next_log_prob
        return batch.reward + self.settings.gamma * (1.0 - batch.terminated) * next_value

    def actor_loss(self, obs: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """alpha log pi(a | s) - min_k Q_k(s, a), mean over the batch, (S,), and the mean entropy estimate (S,).

        ``sac_gradients.actor_gradients`` is its derivative.
        """
        action, log_prob = self.actor.sample(obs, noise)
        value = self.critic(obs, action).amin(dim=1)
        return (self.alpha * log_prob - value).mean(dim=-1), -log_prob.detach().mean(dim=-1)

    def update(self, batch: Transitions, noise: Tensor) -> dict[str, Tensor]:
        """One gradient update on ``batch`` (S, B, ...) with standard normal ``noise`` (S, B, 2 A).

        Returns:
            Metrics, each (S,) and on the device.
        """
        settings = self.settings
        next_noise, actor_noise = noise.chunk(2, dim=-1)
        critic_loss, value = self._write_critic_gradients(self, batch, next_noise, self._critic_gradient)
        self.critic_optimizer.step()
        metrics = {"critic_loss": critic_loss, "value": value}
        if self.num_updates % settings.actor_update_period == 0:
            metrics |= self._update_actor_and_temperature(batch.obs, actor_noise)
        self.num_updates += 1
        if self.num_updates % settings.target_update_period == 0:
            with torch.no_grad():
                self.target_critic.network.flat.lerp_(self.critic.network.flat, settings.tau)
        return metrics

    def _update_actor_and_temperature(self, obs: Tensor, noise: Tensor) -> dict[str, Tensor]:
        actor_loss, entropy = self._write_actor_gradients(self, obs, noise, self._actor_gradient)
        self.actor_optimizer.step()
        # d/d(log alpha) of E[-alpha log pi - alpha H]: written out, it needs no graph.
        surplus = entropy.unsqueeze(1) - self.target_entropy
        self.alpha_optimizer.step([self.alpha * surplus])
        return {"actor_loss": actor_loss, "entropy": entropy, "alpha": self.alpha.squeeze(1)}

    def freeze(self, seed: int) -> None:
        """Stop updating one seed of the cohort."""
        for optimizer in (self.actor_optimizer, self.critic_optimizer, self.alpha_optimizer):
            optimizer.freeze(seed)

    def state_dict(self) -> dict[str, Any]:
        """Networks, temperature, optimisers and the update count."""
        return {
            "actor": self.actor.state_dict(),
            "critic": self.critic.network.flat.detach(),
            "target_critic": self.target_critic.network.flat.detach(),
            "log_alpha": self.log_alpha,
            "actor_optimizer": self.actor_optimizer.state_dict(),
            "critic_optimizer": self.critic_optimizer.state_dict(),
            "alpha_optimizer": self.alpha_optimizer.state_dict(),
            "num_updates": self.num_updates,
        }

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a saved state, in place."""
        self.actor.load_state_dict(state["actor"])
        self.critic.network.flat.copy_(state["critic"])
        self.target_critic.network.flat.copy_(state["target_critic"])
        self.log_alpha.copy_(state["log_alpha"])
        for name in ("actor_optimizer", "critic_optimizer", "alpha_optimizer"):
            getattr(self, name).load_state_dict(state[name])
        self.num_updates = int(state["num_updates"])
