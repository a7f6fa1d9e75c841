"""Losses of every prediction on Pendulum's plane of (theta, theta_dot): the content of the paper's Figure 1.

Pendulum observes (cos theta, sin theta, theta_dot), and a model predicts observations. The plane holds those of them
that are states. A prediction f on it is compared with the reference s' in the space of observations, where all losses
and gradients of this project live: (V(f) - V(s'))^2 needs f alone, the squared error and VaGraM's weights have the
three observation dimensions. So VaGraM's loss is a convex function of the predicted observation, but on the plane,
which is bent in that space, it need not be: where one of cos theta and sin theta has most of the weight, the other
angle with the same cosine or sine costs less than its surroundings.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from vagram_ray.core.replay import Transitions
from vagram_ray.core.value_gradients import ValueEstimates
from vagram_ray.studies.losses_on_data import LossOnData

MAX_SPEED = 8.0
"""Largest |theta_dot| of Pendulum, rad/s."""
OBS_DIM = 3
CUT_POINTS = 1001

SURFACES: dict[str, tuple[str, Mapping[str, float]]] = {
    "vaml": ("itervaml", {}),
    "mse": ("mse", {}),
    "vagram": ("vagram", {"state_weight": OBS_DIM**2}),  # dim(S) times the sum over dimensions: the bound of eq. 7
    "taylor": ("taylor", {}),
}
"""Registered loss and its constants, by the surface's name."""


class Cut(NamedTuple):
    """Losses along a line through the reference."""

    place: np.ndarray  # (m,), the reference among them
    losses: dict[str, np.ndarray]  # (m,) by the name in ``SURFACES``


@dataclass(frozen=True)
class LossPlane:
    """Value function and losses over the plane.

    Attributes:
        theta: Angles, (n,) in [-pi, pi], 0 upright. The first and the last are the same state.
        theta_dot: Angular velocities, (n,), rad/s.
        reference: (theta, theta_dot) of the observed successor s'.
        value: Mean value estimate, (n, n): rows theta_dot, columns theta.
        losses: Loss of predicting the point when s' was observed, (n, n) by the name in ``SURFACES``.
        along_theta: Losses through the reference at its theta_dot.
        along_theta_dot: Losses through the reference at its theta.
        gradients: dV_k/ds' at s' as VaGraM uses them (clipped), (K, 3).
        clipped: Which of the K gradients were shortened, (K,).
    """

    theta: np.ndarray
    theta_dot: np.ndarray
    reference: tuple[float, float]
    value: np.ndarray
    losses: dict[str, np.ndarray]
    along_theta: Cut
    along_theta_dot: Cut
    gradients: np.ndarray
    clipped: np.ndarray


class ReferenceLosses:
    """Losses of predictions when one state was observed.

    Args:
        values: Value estimates of one seed.
        data: Its real transitions (1, N, ...): value gradients are clipped at a percentile over their successors.
        reference: (theta, theta_dot) of the observed successor s'.
    """

    def __init__(self, values: ValueEstimates, data: Transitions, reference: tuple[float, float]) -> None:
        self.values, self.reference = values, reference
        self._observed = observe(*map(np.array, reference)).reshape(1, 1, OBS_DIM)
        self._data, self._row = _append_stay(data, self._observed), data.obs.shape[1]
        self._losses = {name: LossOnData(loss, self._data, options) for name, (loss, options) in SURFACES.items()}
        for loss in self._losses.values():
            loss.use(values)

    @torch.no_grad()
    def at(self, theta: np.ndarray, theta_dot: np.ndarray) -> dict[str, np.ndarray]:
        """Losses (...) of predicting the states (...), by the name in ``SURFACES``."""
        predicted = observe(theta, theta_dot).reshape(1, -1, OBS_DIM)
        row = torch.full(predicted.shape[:2], self._row)
        change = (predicted - self._observed).unsqueeze(1)
        return {
            name: loss.of_change(change, loss.target(row)).numpy().reshape(theta.shape)
            for name, loss in self._losses.items()
        }

    def gradients(self) -> tuple[np.ndarray, np.ndarray]:
        """Value gradients at the reference as VaGraM uses them (K, 3), and which of them were clipped (K,)."""
        raw = self.values.gradients(self._observed)[0, :, 0]
        used = self.values.clipped_gradients(self._data.next_obs)[0][0, :, self._row]
        return used.numpy(), (used.norm(dim=-1) < raw.norm(dim=-1) * (1 - 1e-5)).numpy()


def observe(theta: np.ndarray, theta_dot: np.ndarray) -> Tensor:
    """Pendulum's observations (..., 3) of angles and angular velocities (...)."""
    return torch.tensor(np.stack([np.cos(theta), np.sin(theta), theta_dot], axis=-1), dtype=torch.float32)


def loss_plane(losses: ReferenceLosses, resolution: int) -> LossPlane:
    """Evaluate value function and losses on a grid of ``resolution`` points in each direction."""
    theta, theta_dot = np.linspace(-np.pi, np.pi, resolution), np.linspace(-MAX_SPEED, MAX_SPEED, resolution)
    grid = np.meshgrid(theta, theta_dot)
    with torch.no_grad():
        value = losses.values.values(observe(*grid).reshape(1, -1, OBS_DIM)).mean(dim=1)
    cut_theta, cut_theta_dot = (
        np.union1d(np.linspace(place[0], place[-1], CUT_POINTS), [here])
        for place, here in zip((theta, theta_dot), losses.reference, strict=True)
    )
    here_theta, here_theta_dot = losses.reference
    return LossPlane(
        theta,
        theta_dot,
        losses.reference,
        value.numpy().reshape(resolution, resolution),
        losses.at(*grid),
        Cut(cut_theta, losses.at(cut_theta, np.full_like(cut_theta, here_theta_dot))),
        Cut(cut_theta_dot, losses.at(np.full_like(cut_theta_dot, here_theta), cut_theta_dot)),
        *losses.gradients(),
    )


def _append_stay(data: Transitions, obs: Tensor) -> Transitions:
    """The data with one more transition, which stays at ``obs`` (1, 1, D)."""
    nothing = torch.zeros(1, 1)
    stay = Transitions(obs, torch.zeros(1, 1, data.action.shape[-1]), nothing, obs, nothing)
    return Transitions(*(torch.cat(columns, dim=1) for columns in zip(data, stay, strict=True)))


@dataclass(frozen=True)
class LowRegion:
    """Where a loss is lowest: the states that a model may predict at little cost.

    Attributes:
        regions: Connected parts of it.
        farthest_theta: Largest angle between one of its states and the reference, rad.
        farthest_theta_dot: Largest difference in angular velocity, rad/s.
    """

    regions: int
    farthest_theta: float
    farthest_theta_dot: float


def low_region(plane: LossPlane, name: str, share: float = 0.05) -> LowRegion:
    """The ``share`` of the plane with the lowest loss. theta = -pi and theta = pi are the same states."""
    loss = plane.losses[name]
    inside = loss <= np.quantile(loss, share)
    labels, count = ndimage.label(inside, structure=np.ones((3, 3)))
    for left, right in zip(labels[:, 0], labels[:, -1], strict=True):
        if left and right and left != right:
            labels[labels == right] = left
            count -= 1
    theta, theta_dot = np.meshgrid(plane.theta, plane.theta_dot)
    turn = np.abs((theta - plane.reference[0] + np.pi) % (2 * np.pi) - np.pi)
    return LowRegion(count, float(turn[inside].max()), float(np.abs(theta_dot - plane.reference[1])[inside].max()))


def share_bounded(plane: LossPlane, name: str) -> float:
    """Share of the plane on which VaGraM's bound (eq. 7) is not below another loss, up to rounding."""
    bound, other = plane.losses["vagram"], plane.losses[name]
    return float((bound >= other * (1 - 1e-4) - 1e-6).mean())
