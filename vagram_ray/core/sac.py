"""Soft actor-critic (Haarnoja et al., 2018, "Soft Actor-Critic Algorithms and Applications"), for a cohort of seeds.

``sac_losses`` says what is minimised. Here are the steps that do it.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from vagram_ray.core import sac_losses
from vagram_ray.core.actor_critic import SquashedGaussianActor, TwinCritic
from vagram_ray.core.networks import StackedAdam, constant_weights, orthogonal_init
from vagram_ray.core.random_streams import RandomStreams
from vagram_ray.core.replay import Transitions
from vagram_ray.core.settings import MBPOSettings


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
                layer_norm=settings.critic_layer_norm,
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
        self.num_updates = 0

    @property
    def alpha(self) -> Tensor:
        """Temperature (S, 1)."""
        return self.log_alpha.exp()

    @property
    def phase(self) -> int:
        """Position in the update cycle. Updates in the same position do the same operations."""
        return self.num_updates % math.lcm(self.settings.actor_update_period, self.settings.target_update_period)

    def update(self, batch: Transitions, noise: Tensor) -> dict[str, Tensor]:
        """One gradient update on ``batch`` (S, B, ...) with standard normal ``noise`` (S, B, 2 A).

        Returns:
            Metrics, each (S,) and on the device.
        """
        settings = self.settings
        next_noise, actor_noise = noise.chunk(2, dim=-1)
        critic_loss, value = sac_losses.critic_loss(self, batch, next_noise, settings.gamma)
        self.critic_optimizer.step(torch.autograd.grad(critic_loss.sum(), self.critic.network.views))
        metrics = {"critic_loss": critic_loss.detach(), "value": value}
        if self.num_updates % settings.actor_update_period == 0:
            metrics |= self._update_actor_and_temperature(batch.obs, actor_noise)
        self.num_updates += 1
        if self.num_updates % settings.target_update_period == 0:
            with torch.no_grad():
                self.target_critic.network.flat.lerp_(self.critic.network.flat, settings.tau)
        return metrics

    def _update_actor_and_temperature(self, obs: Tensor, noise: Tensor) -> dict[str, Tensor]:
        with constant_weights(self.critic.network):
            actor_loss, entropy = sac_losses.actor_loss(self, obs, noise)
            self.actor_optimizer.step(torch.autograd.grad(actor_loss.sum(), self.actor.network.views))
        # d/d(log alpha) of E[-alpha log pi - alpha H]: written out, it needs no graph.
        surplus = entropy.unsqueeze(1) - self.target_entropy
        self.alpha_optimizer.step([self.alpha * surplus])
        return {"actor_loss": actor_loss.detach(), "entropy": entropy, "alpha": self.alpha.squeeze(1)}

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
