"""The losses of soft actor-critic (Haarnoja et al., 2018, "Soft Actor-Critic Algorithms and Applications").

Losses are means over the batch, one per seed, so that a backward pass through their sum serves all seeds and their
gradients never mix.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vagram_ray.core.actor_critic import ActorCritic
from vagram_ray.core.replay import Transitions


def critic_loss(networks: ActorCritic, batch: Transitions, noise: Tensor, gamma: float) -> tuple[Tensor, Tensor]:
    """Squared Bellman error, mean over the batch and summed over both critics, (S,), and mean value (S,).

    Args:
        networks: Actor and critics.
        batch: Transitions (S, B, ...).
        noise: Standard normal (S, B, A), of which the policy makes the next actions.
        gamma: Discount factor.
    """
    values = networks.critic(batch.obs, batch.action)
    error = values - bellman_target(networks, batch, noise, gamma).unsqueeze(1)
    return error.square().mean(dim=-1).sum(dim=-1), values.detach().mean(dim=(1, 2))


@torch.no_grad()
def bellman_target(networks: ActorCritic, batch: Transitions, noise: Tensor, gamma: float) -> Tensor:
    """r + gamma (1 - terminated) (min_k Q'_k(s', a') - alpha log pi(a' | s')), a' ~ pi(s'), shape (S, B)."""
    next_action, next_log_prob = networks.actor.sample(batch.next_obs, noise)
    first, second = networks.target_critic(batch.next_obs, next_action).unbind(dim=1)
    next_value = torch.minimum(first, second) - networks.alpha * next_log_prob
    return batch.reward + gamma * (1.0 - batch.terminated) * next_value


def actor_loss(networks: ActorCritic, obs: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """alpha log pi(a | s) - min_k Q_k(s, a), mean over the batch, (S,), and the mean entropy estimate (S,).

    Args:
        networks: Actor and critics.
        obs: States (S, B, D).
        noise: Standard normal (S, B, A), of which the policy makes the actions.
    """
    action, log_prob = networks.actor.sample(obs, noise)
    value = networks.critic(obs, action).amin(dim=1)
    return (networks.alpha * log_prob - value).mean(dim=-1), -log_prob.detach().mean(dim=-1)
