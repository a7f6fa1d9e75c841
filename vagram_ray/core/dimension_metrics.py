"""Which dimensions of the observation matter to the value, and which the model has learned: metrics of a fit.

VaGraM's claim is that a model may ignore dimensions to which the value is insensitive. These numbers show it for any
model loss, dimension by dimension and as means over the real dimensions and over the distractors, which come last in
an observation. They are measured on evenly spaced rows, at most ``SAMPLE_SIZE`` per seed, whatever the buffer's size:
no random number is drawn, and the cost of a fit's metrics is that of a few updates.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vagram_ray.core.dynamics import DynamicsEnsemble
from vagram_ray.core.replay import Transitions
from vagram_ray.core.value_gradients import ValueEstimates

SAMPLE_SIZE = 1024
"""Transitions per seed on which the metrics are measured."""
MAX_LISTED_DIMENSIONS = 64
"""Observations with more dimensions than this are reported by their means alone."""
_CONSTANT = 1e-12
"""Observed changes with a variance below this have nothing that a model could explain."""


def value_gradient_metrics(
    values: ValueEstimates, next_obs: Tensor, num_real_dims: int, terminated: Tensor | None = None
) -> dict[str, Tensor]:
    """Length of the value gradients, where they are clipped, and the weight of each dimension in VaGraM's loss.

    The weight of dimension d is the mean over the sample and the K = 4 value estimates of (dV_k/ds'_d)^2 with clipped
    gradients: w_d of eq. 7 in Voelcker et al. (ICLR 2022), averaged over the transitions.

    Args:
        values: The current value estimates.
        next_obs: Successors (S, N, D) of the real transitions.
        num_real_dims: Leading dimensions that are no distractors, from 1 to D.
        terminated: 1 where they ended an episode, (S, N), for ``weight_terminal="mean"``.

    Returns:
        Metrics (S,) in units of value per unit of observation: ``value_gradient_norm`` (mean L2 norm before
        clipping), ``value_gradient_clip`` (the clip threshold, mean over the K), squared units: ``weight_real``,
        ``weight_distractors`` (means over dimensions) and ``weight_dim_<d>``. Without a unit:
        ``sensitivity_distractors_share``, the distractors' part of :func:`sensitivity_shares`.
    """
    sample = evenly_spaced(next_obs.shape[1], next_obs.device)
    ended = None if terminated is None else terminated[:, sample]
    gradients = values.gradients(next_obs[:, sample])  # (S, K, n, D)
    clipped, threshold = values.clip_gradients(gradients, ended)
    weight = values.weights(clipped, ended).mean(dim=1)
    metrics = {
        "value_gradient_norm": gradients.norm(dim=-1).mean(dim=(1, 2)),
        "value_gradient_clip": threshold.mean(dim=1),
        **by_dimension("weight", weight, num_real_dims),
    }
    if num_real_dims < weight.shape[1]:
        shares = sensitivity_shares(weight, next_obs[:, sample].var(dim=1, correction=0))
        metrics["sensitivity_distractors_share"] = shares[:, num_real_dims:].sum(dim=1)
    return metrics


def sensitivity_shares(weight: Tensor, variance: Tensor) -> Tensor:
    """How much of the value's sensitivity lies in each dimension: w_d var_d over its sum, (S, D).

    To first order (dV/ds_d)^2 var_d is the variance of the value that the dimension's own variation causes. Shares of
    the weights alone would depend on the dimensions' units, these do not.

    Args:
        weight: Mean squared value gradient w_d of each dimension, (S, D).
        variance: Variance of each dimension over the same states, (S, D).

    Returns:
        Shares that sum to 1, or NaN where the value depends on nothing that varies.
    """
    sensitivity = weight * variance
    return sensitivity / sensitivity.sum(dim=1, keepdim=True)


@torch.no_grad()
def prediction_metrics(
    dynamics: DynamicsEnsemble, data: Transitions, held_out: Tensor, num_real_dims: int
) -> dict[str, Tensor]:
    """How much of each dimension's change, and of the reward, the model leaves unexplained on held-out transitions.

    For dimension d: the elites' mean squared error of s'_d - s_d over the variance of s'_d - s_d. For the reward the
    same of r. 0 is a perfect model, 1 is what predicting the mean would reach. Dimensions that never change are left
    out, and a reward that never changes is NaN.

    Args:
        dynamics: The fitted ensembles.
        data: The real transitions (S, N, ...).
        held_out: Indices (S, n) of the fit's validation rows.
        num_real_dims: Leading dimensions that are no distractors, from 1 to D.

    Returns:
        ``unexplained_real``, ``unexplained_distractors``, ``unexplained_dim_<d>``, ``unexplained_reward``, each (S,).
    """
    rows = held_out[:, evenly_spaced(held_out.shape[1], held_out.device)]
    seeds = torch.arange(len(rows), device=rows.device).unsqueeze(1)
    obs, action, reward, next_obs = (column[seeds, rows] for column in data[:4])
    num_elites = dynamics.elites.shape[1]
    of_each_elite = [column.unsqueeze(1).expand(-1, num_elites, -1, -1) for column in (obs, action)]
    predicted = dynamics.predict_with(dynamics.elite_networks(), *of_each_elite)
    share = _unexplained(predicted.delta, next_obs - obs)
    of_reward = _unexplained(predicted.reward.unsqueeze(-1), reward.unsqueeze(-1)).squeeze(-1)
    return {"unexplained_reward": of_reward, **by_dimension("unexplained", share, num_real_dims)}


def _unexplained(predicted: Tensor, observed: Tensor) -> Tensor:
    """Mean squared error of predictions (S, elites, n, C) over the variance of what was observed (S, n, C), (S, C)."""
    error = (predicted - observed.unsqueeze(1)).square().mean(dim=(1, 2))
    variance = observed.var(dim=1, correction=0)
    return torch.where(variance > _CONSTANT, error / variance, torch.nan)


def by_dimension(name: str, values: Tensor, num_real_dims: int) -> dict[str, Tensor]:
    """Means of values (S, D) over the real dimensions and over the distractors, if any, and every dimension's own.

    NaN stands for a dimension without a value. Means leave it out.
    """
    metrics = {f"{name}_real": values[:, :num_real_dims].nanmean(dim=1)}
    if num_real_dims < values.shape[1]:
        metrics[f"{name}_distractors"] = values[:, num_real_dims:].nanmean(dim=1)
    if values.shape[1] <= MAX_LISTED_DIMENSIONS:
        metrics |= {f"{name}_dim_{dimension}": column for dimension, column in enumerate(values.unbind(dim=1))}
    return metrics


def evenly_spaced(size: int, device: torch.device | str) -> Tensor:
    """Indices of at most ``SAMPLE_SIZE`` of ``size`` rows, first and last among them."""
    count = min(size, SAMPLE_SIZE)
    return torch.linspace(0, size - 1, count, dtype=torch.float64, device=device).round().long()
