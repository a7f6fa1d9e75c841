"""Whether a loaded library computes what PyTorch does: values, SAC updates and a fit of small networks.

A compiler with an error, or one that was told of another processor, can make a library that computes something else
without failing.
"""

from __future__ import annotations

import ctypes
import functools

import torch
from torch import Tensor

from vagram_ray.core.dynamics import DynamicsEnsemble
from vagram_ray.core.fast.sac import NativeSAC
from vagram_ray.core.fast.values import NativeValues
from vagram_ray.core.model_fitting import ModelFit
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


@functools.cache
def wrong_parts(library: ctypes.CDLL) -> tuple[str, ...]:
    """What the library computes otherwise than PyTorch, in words; tested once per process."""
    parts = {"values of networks": _values, "SAC's updates": _sac_update}
    parts |= {f"fits of {loss!r}": functools.partial(_fit, loss) for loss in LOSSES}
    return tuple(name for name, compute in parts.items() if not _equal(compute(library), compute(None)))


def _equal(ours: list[Tensor], theirs: list[Tensor]) -> bool:
    pairs = zip(ours, theirs, strict=True)
    return all(bool((a - b).abs().max() <= TOLERANCE * b.abs().max()) for a, b in pairs)  # NaN is not equal


def _settings(loss: str = "mse") -> MBPOSettings:
    return MBPOSettings(
        model_loss=loss, actor_hidden_sizes=(WIDTH, WIDTH), critic_hidden_sizes=(WIDTH, WIDTH), hidden_size=WIDTH,
        num_layers=2, ensemble_size=2, num_elites=1, model_batch_size=ROWS, train_batch_size_per_learner=ROWS,
        execution="eager",
    )  # fmt: skip


def _sac(settings: MBPOSettings) -> SAC:
    return SAC(settings, 1, OBS_DIM, ACTION_DIM, RandomStreams([0], "init"))


def _rows(count: int) -> Tensor:
    layout, streams = TransitionLayout(OBS_DIM, ACTION_DIM), RandomStreams([0], "selftest")
    rows = streams.normal(count, layout.width)
    layout.split(rows).action.tanh_()
    rows[..., -1] = (rows[..., -1] > 0.5).float()
    return rows


@torch.no_grad()
def _values(library: ctypes.CDLL | None) -> list[Tensor]:
    network, inputs = _sac(_settings()).critic.network, _rows(ROWS)[..., : OBS_DIM + ACTION_DIM]
    return [network(inputs) if library is None else NativeValues(library)(network, inputs)]


def _sac_update(library: ctypes.CDLL | None) -> list[Tensor]:
    """Gradients (Adam's first moments) of an update."""
    sac, rows = _sac(_settings()), _rows(ROWS)
    noise = RandomStreams([0], "noise").normal(ROWS, 2 * ACTION_DIM)
    if library is None:
        sac.update(TransitionLayout(OBS_DIM, ACTION_DIM).split(rows), noise)
    else:
        NativeSAC(sac, library).updates(0, rows.unsqueeze(1), noise.unsqueeze(1))
    return [optimizer.exp_avg for optimizer in (sac.actor_optimizer, sac.critic_optimizer, sac.alpha_optimizer)]


def _fit(loss: str, library: ctypes.CDLL | None) -> list[Tensor]:
    """Gradients of a minibatch, and the losses."""
    settings, streams = _settings(loss), RandomStreams([0], "init")
    dynamics = DynamicsEnsemble(settings, 1, OBS_DIM, ACTION_DIM, streams)
    optimizer = StackedAdam(dynamics.network.flat, 1, settings.model_lr, settings.model_weight_decay)
    data = TransitionLayout(OBS_DIM, ACTION_DIM).split(_rows(ROWS + ROWS // 4))
    values, fitting = ValueEstimates(_sac(settings)), RandomStreams([0], "fit")
    fit = ModelFit(dynamics, optimizer, data, values, settings, fitting, library=library)
    return [fit._train_epoch(fit.cohort), optimizer.exp_avg, fit._validate(fit.cohort)]
