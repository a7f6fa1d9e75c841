"""The gradients of SAC's losses, derived by hand.

``SAC.critic_loss`` and ``SAC.actor_loss`` define what is minimised; these functions give exactly their gradients
(a test holds both equal) without the bookkeeping of automatic differentiation, which at this field's network
sizes is a good part of an update's time (``docs/performance.md``).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from vagram_ray.core.replay import Transitions

if TYPE_CHECKING:
    from vagram_ray.core.sac import SAC


@torch.no_grad()
def critic_gradients(
    sac: SAC, batch: Transitions, noise: Tensor, weight_gradients: Sequence[Tensor]
) -> tuple[Tensor, Tensor]:
    """Write the gradient of ``SAC.critic_loss`` into ``weight_gradients``.

    Returns:
        Loss (S,) and mean value (S,), as ``SAC.critic_loss``.
    """
    target = sac.bellman_target(batch, noise)
    joint = sac.critic.joint_input(batch.obs, batch.action)
    outputs, tape = sac.critic.network.forward_with_tape(joint)
    values = outputs.view(sac.num_seeds, 2, -1)
    error = values - target.unsqueeze(1)
    # d/dQ of the mean over B of (Q - y)^2
    sac.critic.network.backward(tape, (error * (2.0 / error.shape[-1])).view_as(outputs), weight_gradients)
    return error.square().mean(dim=-1).sum(dim=-1), values.mean(dim=(1, 2))


@torch.no_grad()
def actor_gradients(sac: SAC, obs: Tensor, noise: Tensor, weight_gradients: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Write the gradient of ``SAC.actor_loss`` into ``weight_gradients``.

    With u = mean + std n and a = tanh(u), log pi is -sum(log std + log(1 - a^2)) + const, hence
    d log pi / du = 2 a and d log pi / d log std = 2 a std n - 1.

    Returns:
        Loss (S,) and mean entropy estimate (S,), as ``SAC.actor_loss``.
    """
    actor, batch_size = sac.actor, obs.shape[1]
    outputs, tape = actor.network.forward_with_tape(actor.scale(obs))
    policy = actor.squash(outputs, noise)
    values, value_gradient = _least_value_and_gradient(sac, obs, policy.action)

    alpha = sac.alpha.unsqueeze(-1)  # (S, 1, 1)
    pre_squash_gradient = (2.0 * alpha * policy.action - value_gradient * (1.0 - policy.action.square())) / batch_size
    log_std_gradient = pre_squash_gradient * policy.std * noise - alpha / batch_size
    gradient = torch.cat([pre_squash_gradient, log_std_gradient * policy.log_std_slope], dim=-1)
    actor.network.backward(tape, gradient, weight_gradients)
    loss = (sac.alpha * policy.log_prob - values).mean(dim=-1)
    return loss, -policy.log_prob.mean(dim=-1)


def _least_value_and_gradient(sac: SAC, obs: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
    """min_k Q_k(s, a) (S, B) and its gradient with respect to the action (S, B, A)."""
    network = sac.critic.network
    outputs, tape = network.forward_with_tape(sac.critic.joint_input(obs, action))
    least, index = outputs.view(sac.num_seeds, 2, -1).min(dim=1)
    chosen = torch.zeros(sac.num_seeds, 2, obs.shape[1], device=obs.device, dtype=obs.dtype)
    chosen.scatter_(1, index.unsqueeze(1), 1.0)
    first_layer_gradient = network.backward(tape, chosen.view_as(outputs), None)
    action_weight = network.views[0][:, obs.shape[-1] :]  # the first layer's rows that the action enters by
    both = torch.bmm(first_layer_gradient, action_weight.transpose(1, 2))
    return least, both.unflatten(0, (sac.num_seeds, 2)).sum(dim=1)
