"""The gradients of SAC's losses, derived by hand.

``sac_losses`` defines what is minimised. ``critic_gradients`` and ``actor_gradients`` give
exactly their gradients (a test holds both equal) without the bookkeeping of automatic differentiation, which at this
field's network sizes is a good part of an update's time (``docs/performance.md``).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from vagram_ray.core.actor_critic import ActorCritic, TwinCritic
from vagram_ray.core.replay import Transitions
from vagram_ray.core.sac_losses import bellman_target

_tanh_backward = torch.ops.aten.tanh_backward


@torch.no_grad()
def critic_gradients(
    networks: ActorCritic, batch: Transitions, noise: Tensor, gamma: float, weight_gradients: Sequence[Tensor]
) -> tuple[Tensor, Tensor]:
    """Write the gradient of ``sac_losses.critic_loss`` into ``weight_gradients``.

    Returns:
        Loss (S,) and mean value (S,), as ``sac_losses.critic_loss``.
    """
    target = bellman_target(networks, batch, noise, gamma)
    joint = networks.critic.joint_input(batch.obs, batch.action)
    outputs, tape = networks.critic.network.forward_with_tape(joint)
    values = outputs.view(networks.critic.num_seeds, 2, -1)
    error = values - target.unsqueeze(1)
    # d/dQ of the mean over B of (Q - y)^2
    networks.critic.network.backward(tape, (error * (2.0 / error.shape[-1])).view_as(outputs), weight_gradients)
    return error.square().sum(dim=(1, 2)) / error.shape[-1], values.mean(dim=(1, 2))


@torch.no_grad()
def actor_gradients(
    networks: ActorCritic, obs: Tensor, noise: Tensor, weight_gradients: Sequence[Tensor]
) -> tuple[Tensor, Tensor]:
    """Write the gradient of ``sac_losses.actor_loss`` into ``weight_gradients``.

    With u = mean + std n and a = tanh(u), log pi is -sum(log std + log(1 - a^2)) + const, hence
    d log pi / du = 2 a and d log pi / d log std = 2 a std n - 1.

    Returns:
        Loss (S,) and mean entropy estimate (S,), as ``sac_losses.actor_loss``.
    """
    actor, alpha, batch_size = networks.actor, networks.alpha, obs.shape[1]
    outputs, tape = actor.network.forward_with_tape(actor.scale(obs))
    policy = actor.squash(outputs, noise)
    values, value_gradient = _least_value_and_gradient(networks.critic, obs, policy.action)

    share = (alpha / batch_size).unsqueeze(-1)  # of each transition in the entropy's term, (S, 1, 1)
    # tanh_backward(g, y) is g (1 - y^2)
    by_pre_squash = _tanh_backward(value_gradient, policy.action).mul_(-1.0 / batch_size)
    by_pre_squash.addcmul_(policy.action, share, value=2.0)
    by_log_std = (by_pre_squash * policy.std).mul_(noise).sub_(share)
    by_bounded = _tanh_backward(by_log_std, policy.bounded).mul_(actor.log_std_half_range)
    actor.network.backward(tape, torch.cat([by_pre_squash, by_bounded], dim=-1), weight_gradients)
    entropy = -policy.log_prob.mean(dim=-1)
    return -alpha.squeeze(1) * entropy - values.mean(dim=-1), entropy


def _least_value_and_gradient(critic: TwinCritic, obs: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
    """min_k Q_k(s, a) (S, B) and its gradient with respect to the action (S, B, A)."""
    network, obs_dim = critic.network, obs.shape[-1]
    outputs, tape = network.forward_with_tape(critic.joint_input(obs, action))
    values = outputs.view(critic.num_seeds, 2, -1)
    first, second = values.unbind(dim=1)
    chosen = torch.empty_like(values)  # 1 for the critic that is the minimum, 0 for the other
    torch.le(first, second, out=chosen[:, 0])
    torch.gt(first, second, out=chosen[:, 1])
    gradient = network.backward(tape, chosen.view_as(outputs), None, slice(obs_dim, obs_dim + action.shape[-1]))
    assert gradient is not None
    return torch.minimum(first, second), gradient[0::2] + gradient[1::2]
