"""A SAC update built like the published code's, to be timed beside ours.

Structure after pairlab/vagram at cc7e2e4, whose SAC is that of pytorch_sac: a ``nn.Linear`` network for the policy and
two in one critic module, ``torch.distributions``, one backward pass per loss, ``torch.optim.Adam`` with its defaults
for each of critic, actor and temperature, and targets that follow parameter by parameter. Written from that
description; its logging is left out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributions import Normal, TanhTransform, TransformedDistribution

from vagram_ray.core.replay import Transitions


def mlp(sizes: Sequence[int]) -> nn.Sequential:
    """ReLU network."""
    layers: list[nn.Module] = []
    for fan_in, fan_out in zip(sizes[:-1], sizes[1:], strict=True):
        layers += [nn.Linear(fan_in, fan_out), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


class TwoCritics(nn.Module):
    """Two networks of (obs, action)."""

    def __init__(self, sizes: Sequence[int]) -> None:
        super().__init__()
        self.first, self.second = mlp(sizes), mlp(sizes)

    def forward(self, obs: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
        """Values (B, 1) of both."""
        joint = torch.cat([obs, action], dim=-1)
        return self.first(joint), self.second(joint)


class PublishedSAC:
    """One seed's networks, optimisers and update."""

    def __init__(self, obs_dim: int, action_dim: int, hidden: Sequence[int]) -> None:
        self.actor = mlp((obs_dim, *hidden, 2 * action_dim))
        self.critic, self.target = (TwoCritics((obs_dim + action_dim, *hidden, 1)) for _ in range(2))
        self.target.load_state_dict(self.critic.state_dict())
        self.log_alpha = torch.tensor(math.log(0.1), requires_grad=True)
        self.target_entropy, self.gamma, self.tau = -float(action_dim), 0.99, 0.005
        self.actor_optimizer = torch.optim.Adam(self.actor.parameters(), lr=3e-4)
        self.critic_optimizer = torch.optim.Adam(self.critic.parameters(), lr=3e-4)
        self.alpha_optimizer = torch.optim.Adam([self.log_alpha], lr=3e-4)

    def policy(self, obs: Tensor) -> TransformedDistribution:
        """pi(. | obs)."""
        mean, raw = self.actor(obs).chunk(2, dim=-1)
        log_std = -5.0 + 3.5 * (torch.tanh(raw) + 1.0)
        return TransformedDistribution(Normal(mean, log_std.exp()), [TanhTransform(cache_size=1)])

    def update(self, batch: Transitions) -> None:
        """Critics, actor, temperature and targets, once each; columns are (B, ...)."""
        self._update_critics(batch)
        self._update_actor_and_temperature(batch.obs)
        for own, target in zip(self.critic.parameters(), self.target.parameters(), strict=True):
            target.data.copy_(self.tau * own.data + (1.0 - self.tau) * target.data)

    def _update_critics(self, batch: Transitions) -> None:
        policy = self.policy(batch.next_obs)
        next_action = policy.rsample()
        log_prob = policy.log_prob(next_action).sum(-1, keepdim=True)
        value = torch.min(*self.target(batch.next_obs, next_action)) - self.log_alpha.exp().detach() * log_prob
        target = (batch.reward[:, None] + self.gamma * (1.0 - batch.terminated[:, None]) * value).detach()
        first, second = self.critic(batch.obs, batch.action)
        loss = F.mse_loss(first, target) + F.mse_loss(second, target)
        self.critic_optimizer.zero_grad()
        loss.backward()
        self.critic_optimizer.step()

    def _update_actor_and_temperature(self, obs: Tensor) -> None:
        policy = self.policy(obs)
        action = policy.rsample()
        log_prob = policy.log_prob(action).sum(-1, keepdim=True)
        loss = (self.log_alpha.exp().detach() * log_prob - torch.min(*self.critic(obs, action))).mean()
        self.actor_optimizer.zero_grad()
        loss.backward()
        self.actor_optimizer.step()
        self.alpha_optimizer.zero_grad()
        (self.log_alpha.exp() * (-log_prob - self.target_entropy).detach()).mean().backward()
        self.alpha_optimizer.step()
