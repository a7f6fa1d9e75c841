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
from vagram_ray.core.value_gradients import ValueEstimates, clip_gradient_norms

SAMPLE_SIZE = 1024
"""Transitions per seed on which the metrics are measured."""
MAX_LISTED_DIMENSIONS = 64
"""Observations with more dimensions than this are reported by their means alone."""
_CONSTANT = 1e-12
"""Observed changes with a variance below this have nothing that a model could explain."""


def value_gradient_metrics(values: ValueEstimates, next_obs: Tensor, num_real_dims: int) -> dict[str, Tensor]:
    """Length of the value gradients, where they are clipped, and the weight of each dimension in VaGraM's loss.

    The weight of dimension d is the mean over the sample and the K = 4 value estimates of (dV_k/ds'_d)^2 with clipped
    gradients: w_d of eq. 7 in Voelcker et al. (ICLR 2022), averaged over the transitions.

    Args:
        values: The current value estimates.
        next_obs: Successors (S, N, D) of the real transitions.
        num_real_dims: Leading dimensions that are no distractors, from 1 to D.

    Returns:
        Metrics (S,) in units of value per unit of observation: ``value_gradient_norm`` (mean L2 norm before
        clipping), ``value_gradient_clip`` (the clip threshold, mean over the K), squared units: ``weight_real``,
        ``weight_distractors`` (means over dimensions) and ``weight_dim_<d>``; ``weight_distractors_share`` is the
        distractors' share of the sum over all dimensions.
    """
    gradients = values.gradients(next_obs[:, evenly_spaced(next_obs.shape[1], next_obs.device)])  # (S, K, n, D)
    clipped, threshold = clip_gradient_norms(gradients, values.clip_percentile)
    weight = clipped.square().mean(dim=(1, 2))
    metrics = {
        "value_gradient_norm": gradients.norm(dim=-1).mean(dim=(1, 2)),
        "value_gradient_clip": threshold.mean(dim=1),
        **by_dimension("weight", weight, num_real_dims),
    }
    if num_real_dims < weight.shape[1]:
        metrics["weight_distractors_share"] = weight[:, num_real_dims:].sum(dim=1) / weight.sum(dim=1)
    return metrics


@torch.no_grad()
def prediction_metrics(
    dynamics: DynamicsEnsemble, data: Transitions, held_out: Tensor, num_real_dims: int
) -> dict[str, Tensor]:
    """How much of each dimension's change the model leaves unexplained, on transitions it was not trained on.

    For dimension d: the elites' mean squared error of s'_d - s_d over the variance of s'_d - s_d. 0 is a perfect
    model, 1 is what predicting the mean change would reach; dimensions that never change are left out.

    Args:
        dynamics: The fitted ensembles.
        data: The real transitions (S, N, ...).
        held_out: Indices (S, n) of the fit's validation rows.
        num_real_dims: Leading dimensions that are no distractors, from 1 to D.

    Returns:
        ``unexplained_real``, ``unexplained_distractors`` and ``unexplained_dim_<d>``, each (S,).
    """
    rows = held_out[:, evenly_spaced(held_out.shape[1], held_out.device)]
    seeds = torch.arange(len(rows), device=rows.device).unsqueeze(1)
    obs, action, next_obs = (column[seeds, rows] for column in (data.obs, data.action, data.next_obs))
    delta, num_elites = next_obs - obs, dynamics.elites.shape[1]
    of_each_elite = [column.unsqueeze(1).expand(-1, num_elites, -1, -1) for column in (obs, action)]
    predicted = dynamics.predict_with(dynamics.elite_networks(), *of_each_elite).delta
    error = (predicted - delta.unsqueeze(1)).square().mean(dim=(1, 2))  # (S, D)
    variance = delta.var(dim=1, correction=0)
    return by_dimension("unexplained", torch.where(variance > _CONSTANT, error / variance, torch.nan), num_real_dims)


def by_dimension(name: str, values: Tensor, num_real_dims: int) -> dict[str, Tensor]:
    """Means of values (S, D) over the real dimensions and over the distractors, if any, and every dimension's own.

    NaN stands for a dimension without a value; means leave it out.
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
