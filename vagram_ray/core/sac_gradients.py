"""The gradients of SAC's losses, derived by hand, or by automatic differentiation of compiled losses.

``SAC.critic_loss`` and ``SAC.actor_loss`` define what is minimised. ``critic_gradients`` and ``actor_gradients`` give
exactly their gradients (a test holds both equal) without the bookkeeping of automatic differentiation, which at this
field's network sizes is a good part of an update's time (``docs/performance.md``).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from vagram_ray.core.networks import constant_weights
from vagram_ray.core.replay import Transitions

if TYPE_CHECKING:
    from vagram_ray.core.sac import SAC

_tanh_backward = torch.ops.aten.tanh_backward


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
    return error.square().sum(dim=(1, 2)) / error.shape[-1], values.mean(dim=(1, 2))


@torch.no_grad()
def actor_gradients(sac: SAC, obs: Tensor, noise: Tensor, weight_gradients: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Write the gradient of ``SAC.actor_loss`` into ``weight_gradients``.

    With u = mean + std n and a = tanh(u), log pi is -sum(log std + log(1 - a^2)) + const, hence
    d log pi / du = 2 a and d log pi / d log std = 2 a std n - 1.

    Returns:
        Loss (S,) and mean entropy estimate (S,), as ``SAC.actor_loss``.
    """
    actor, alpha, batch_size = sac.actor, sac.alpha, obs.shape[1]
    outputs, tape = actor.network.forward_with_tape(actor.scale(obs))
    policy = actor.squash(outputs, noise)
    values, value_gradient = _least_value_and_gradient(sac, obs, policy.action)

    share = (alpha / batch_size).unsqueeze(-1)  # of each transition in the entropy's term, (S, 1, 1)
    # tanh_backward(g, y) is g (1 - y^2)
    by_pre_squash = _tanh_backward(value_gradient, policy.action).mul_(-1.0 / batch_size)
    by_pre_squash.addcmul_(policy.action, share, value=2.0)
    by_log_std = (by_pre_squash * policy.std).mul_(noise).sub_(share)
    by_bounded = _tanh_backward(by_log_std, policy.bounded).mul_(actor.log_std_half_range)
    actor.network.backward(tape, torch.cat([by_pre_squash, by_bounded], dim=-1), weight_gradients)
    entropy = -policy.log_prob.mean(dim=-1)
    return -alpha.squeeze(1) * entropy - values.mean(dim=-1), entropy


def _least_value_and_gradient(sac: SAC, obs: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
    """min_k Q_k(s, a) (S, B) and its gradient with respect to the action (S, B, A)."""
    network, obs_dim = sac.critic.network, obs.shape[-1]
    outputs, tape = network.forward_with_tape(sac.critic.joint_input(obs, action))
    values = outputs.view(sac.num_seeds, 2, -1)
    first, second = values.unbind(dim=1)
    chosen = torch.empty_like(values)  # 1 for the critic that is the minimum, 0 for the other
    torch.le(first, second, out=chosen[:, 0])
    torch.gt(first, second, out=chosen[:, 1])
    gradient = network.backward(tape, chosen.view_as(outputs), None, slice(obs_dim, obs_dim + action.shape[-1]))
    assert gradient is not None
    return torch.minimum(first, second), gradient[0::2] + gradient[1::2]


class CompiledGradients:
    """The same gradients by automatic differentiation of the losses, which ``torch.compile`` translates.

    The first update waits for the compiler (its cache shortens that of later processes); on a CPU it needs a C++
    compiler to be there.
    """

    def __init__(self, sac: SAC) -> None:
        self._critic_loss = torch.compile(sac.critic_loss, fullgraph=True)
        self._actor_loss = torch.compile(sac.actor_loss, fullgraph=True)

    def critic(
        self, sac: SAC, batch: Transitions, noise: Tensor, weight_gradients: Sequence[Tensor]
    ) -> tuple[Tensor, Tensor]:
        """As ``critic_gradients``."""
        loss, value = self._critic_loss(batch, noise)
        return _differentiated(loss, sac.critic.network.views, weight_gradients), value

    def actor(self, sac: SAC, obs: Tensor, noise: Tensor, weight_gradients: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """As ``actor_gradients``."""
        with constant_weights(sac.critic.network):  # the compiler would differentiate them, too
            loss, entropy = self._actor_loss(obs, noise)
            return _differentiated(loss, sac.actor.network.views, weight_gradients), entropy


def _differentiated(loss: Tensor, weights: Sequence[Tensor], weight_gradients: Sequence[Tensor]) -> Tensor:
    """The loss (S,), without its graph, once its gradients are written."""
    for out, gradient in zip(weight_gradients, torch.autograd.grad(loss.sum(), weights), strict=True):
        out.copy_(gradient)
    return loss.detach()
