"""Whether a loaded library computes what PyTorch does: values, a SAC update and a step of fits, for small networks.

A compiler with an error, or one that was told of another processor, can make a library that computes something else
without failing.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from copy import deepcopy

import torch
from torch import Tensor

from vagram_ray.core.dynamics import DynamicsEnsemble
from vagram_ray.core.fast.model import NativeFit
from vagram_ray.core.fast.sac import NativeSAC
from vagram_ray.core.fast.values import NativeValues
from vagram_ray.core.model_losses import Target, get_model_loss
from vagram_ray.core.networks import StackedAdam
from vagram_ray.core.random_streams import RandomStreams
from vagram_ray.core.replay import TransitionLayout
from vagram_ray.core.sac import SAC
from vagram_ray.core.settings import MBPOSettings
from vagram_ray.core.value_gradients import ValueEstimates

OBS_DIM, ACTION_DIM, WIDTH, ROWS = 5, 2, 37, 19  # some tiles, panels and vectors are full, some are not
TOLERANCE = 1e-3
"""Of a result's largest number: more than rounding makes of it, less than a wrong term does."""
LOSSES = ("mse", "nll")  # the compiled fit's two families

Pairs = Iterator[tuple[str, Tensor, Tensor]]
"""Name, the library's numbers and PyTorch's."""


def wrong_parts(library: ctypes.CDLL) -> tuple[str, ...]:
    """Differences between library and PyTorch, in words."""
    agents = [_make_sac(_settings("mse", critic_layer_norm=normalised)) for normalised in (False, True)]
    pairs = [pair for sac in agents for pair in _of_actor_and_critics(library, sac)]
    pairs += [pair for loss in LOSSES for pair in _of_fit(library, agents[0], loss)]
    wrong = (name for name, ours, theirs in pairs if not _equal(ours, theirs))
    return tuple(dict.fromkeys(wrong))


def _equal(ours: Tensor, theirs: Tensor) -> bool:
    return bool((ours - theirs).abs().max() <= TOLERANCE * theirs.abs().max())  # NaN is not equal


def _make_sac(settings: MBPOSettings) -> SAC:
    return SAC(settings, 1, OBS_DIM, ACTION_DIM, RandomStreams([0], "init"))


def _settings(loss: str, critic_layer_norm: bool = False) -> MBPOSettings:
    return MBPOSettings(
        model_loss=loss, critic_layer_norm=critic_layer_norm, actor_hidden_sizes=(WIDTH, WIDTH),
        critic_hidden_sizes=(WIDTH, WIDTH), hidden_size=WIDTH, num_layers=2, ensemble_size=2, num_elites=1,
        train_batch_size_per_learner=ROWS,
    )  # fmt: skip


def _of_actor_and_critics(library: ctypes.CDLL, sac: SAC) -> Pairs:
    """Values, and gradients (Adam's first moments) of an update."""
    rows, noise = _rows(), RandomStreams([0], "noise").normal(ROWS, 2 * ACTION_DIM)
    with torch.no_grad():
        network, inputs = sac.critic.network, rows[..., : OBS_DIM + ACTION_DIM]
        yield "values of networks", NativeValues(library)(network, inputs), network(inputs)
    optimizers, before = (sac.actor_optimizer, sac.critic_optimizer, sac.alpha_optimizer), deepcopy(sac.state_dict())
    sac.update(_layout().split(rows), noise)
    expected = [optimizer.exp_avg.clone() for optimizer in optimizers]
    sac.load_state_dict(before)
    NativeSAC(sac, library).updates(0, rows.unsqueeze(1), noise.unsqueeze(1))
    for optimizer, theirs in zip(optimizers, expected, strict=True):
        yield "SAC's updates", optimizer.exp_avg, theirs


def _of_fit(library: ctypes.CDLL, sac: SAC, loss_name: str) -> Pairs:
    """Losses, and gradients (Adam's first moments) of a minibatch that is the same for all members."""
    name, settings, loss = f"fits of {loss_name!r}", _settings(loss_name), get_model_loss(loss_name)
    dynamics = DynamicsEnsemble(settings, 1, OBS_DIM, ACTION_DIM, RandomStreams([0], "init"))
    optimizer, members = StackedAdam(dynamics.network.flat, 1, settings.model_lr), dynamics.ensemble_size
    data = _layout().split(_rows().unsqueeze(1))
    target = Target(data.obs, data.action, data.next_obs - data.obs, data.reward, {}, ValueEstimates(sac))
    obs, action = (column.expand(-1, members, -1, -1) for column in (data.obs, data.action))
    losses = loss.function(dynamics.predict(obs, action), target).mean(dim=-1)
    objective = losses + dynamics.variance_bound_penalty() if dynamics.probabilistic else losses
    gradients = torch.autograd.grad(objective.sum(), dynamics.network.views)
    assert loss.output_weights is not None  # such are the losses of a family
    fit, index = NativeFit(library, dynamics, loss, target, loss.output_weights(target)), torch.arange(ROWS)
    yield name, fit.mean_loss(dynamics, index.unsqueeze(0)), losses.detach()
    yield name, fit.train(dynamics, optimizer, index.expand(1, members, -1), ROWS) / ROWS, losses.detach()
    expected = torch.cat([gradient.flatten(1) for gradient in gradients], dim=1).view(1, -1)
    yield name, optimizer.exp_avg / (1.0 - 0.9), expected  # beta_1 = 0.9


def _layout() -> TransitionLayout:
    return TransitionLayout(OBS_DIM, ACTION_DIM)


def _rows() -> Tensor:
    """Transitions (1, ROWS, width), some of them terminal."""
    rows = RandomStreams([0], "selftest").normal(ROWS, _layout().width)
    _layout().split(rows).action.tanh_()
    rows[..., -1] = (rows[..., -1] > 0.5).float()
    return rows
