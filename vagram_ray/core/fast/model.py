"""The dynamics model's fit by the compiled library, for losses that are a weighted sum over the outputs.

Equal to ``model_fitting`` with autograd but for rounding, on the same random numbers.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from vagram_ray.core.dynamics import DynamicsEnsemble
from vagram_ray.core.model_losses import ModelLoss, Target
from vagram_ray.core.networks import StackedAdam
from vagram_ray.core.seed_selection import copy_of_seeds

MAX_LAYERS = 32
"""As in networks.h."""


class _Data(ctypes.Structure):
    """``ModelData`` of model.cpp."""

    _fields_ = [
        *((name, ctypes.c_void_p) for name in ("inputs", "targets", "weights", "sizes")),
        *((name, ctypes.c_int32) for name in ("layers", "outputs", "input_stride", "target_stride", "weight_stride")),
        *((name, ctypes.c_int32) for name in ("variance_head", "gaussian")),
    ]


class _Members(ctypes.Structure):
    """``ModelMembers`` of model.cpp."""

    _fields_ = [
        *((name, ctypes.c_void_p) for name in ("parameters", "first_moment", "second_moment", "steps")),
        *((name, ctypes.c_int32) for name in ("members", "frozen")),
        *((name, ctypes.c_float) for name in ("step_size", "weight_decay")),
    ]


class _Tables(NamedTuple):
    """The data of a fit. Columns are filled up with zeros to whole vectors."""

    inputs: Tensor  # (N, D + A), normalised
    targets: Tensor  # (N, D + 1), in units of the networks' outputs
    weights: Tensor  # (N or 1, D + 1), of squared errors in these units, or of likelihoods


def can_fit(dynamics: DynamicsEnsemble, loss: ModelLoss) -> bool:
    """Whether ``NativeFit`` is for such networks and this loss."""
    flat = dynamics.network.flat
    fits = flat.device.type == "cpu" and flat.dtype == torch.float32 and dynamics.network.num_layers <= MAX_LAYERS
    return fits and loss.family is not None and not dynamics.learns_termination


class NativeFit:
    """The epochs of a fit, computed by the compiled library.

    Args:
        library: Of ``build.load_library``.
        dynamics: The ensembles, their normalisers fitted. ``can_fit`` must be true.
        loss: The loss.
        data: All transitions as one member's batch, (S, 1, N, ...).
        weights: The loss's weights of the outputs, (S or 1, 1, N or 1, D + 1) (``ModelFit.output_weights``).
    """

    def __init__(
        self, library: ctypes.CDLL, dynamics: DynamicsEnsemble, loss: ModelLoss, data: Target, weights: Tensor
    ) -> None:
        self._library, self._gaussian = library, loss.family == "gaussian"
        for structure, size in ((_Data, library.model_data_size()), (_Members, library.model_members_size())):
            assert size == ctypes.sizeof(structure), f"model.cpp expects {size} bytes of {structure.__name__}"
        self._lanes = library.model_lanes()
        sizes = dynamics.network.sizes
        self._sizes = (ctypes.c_int32 * len(sizes))(*sizes)
        inputs = (torch.cat([data.obs, data.action], dim=-1) - dynamics.input_mean) / dynamics.input_std
        successor = data.delta + data.obs if dynamics.prediction_target == "next_obs" else data.delta
        targets = torch.cat([successor, data.reward.unsqueeze(-1)], dim=-1)
        targets = (targets - dynamics.output_mean) / dynamics.output_std
        if not self._gaussian:  # errors in the environment's units are output_std times those of the outputs
            weights = weights * dynamics.output_std.square()
        weights = weights.expand(dynamics.num_seeds, -1, -1, -1)
        padded = [self._padded(table.squeeze(1)) for table in (inputs, targets, weights)]
        self._seeds = [_Tables(*seed) for seed in zip(*padded, strict=True)]

    def select_seeds(self, index: Tensor) -> NativeFit:
        """The same for the seeds at ``index``. They share the tables."""
        return copy_of_seeds(self, index, ("_seeds",))

    def train(self, dynamics: DynamicsEnsemble, optimizer: StackedAdam, index: Tensor, batch: int) -> Tensor:
        """A gradient step of each member for every ``batch`` of its rows at ``index`` (S, E, N_train).

        Returns:
            Losses summed over the rows, each as it was at its step, (S, E).
        """
        index = index.contiguous()
        sums = torch.empty(index.shape[:2])
        updated = optimizer.updated_seeds
        for seed, tables in enumerate(self._seeds):
            data = self._data(dynamics, tables, tables.weights, self._gaussian)
            members = _Members(
                _address(dynamics.member_rows()[seed]),
                *(_address(state[seed]) for state in (optimizer.exp_avg, optimizer.exp_avg_sq, optimizer.step_count)),
                *(dynamics.ensemble_size, seed not in updated, optimizer.lr, optimizer.weight_decay),
            )
            length, size = ctypes.c_int64(index.shape[-1]), ctypes.c_int64(batch)
            self._library.model_train(
                *(ctypes.byref(data), ctypes.byref(members), _address(index[seed]), length, size, _address(sums[seed]))
            )
        return sums

    def mean_loss(self, dynamics: DynamicsEnsemble, index: Tensor) -> Tensor:
        """Each member's mean loss over its seed's rows at ``index`` (S, N_validation), (S, E)."""
        return self._mean(dynamics, index, [tables.weights for tables in self._seeds], self._gaussian)

    def mean_squared_error(self, dynamics: DynamicsEnsemble, index: Tensor) -> Tensor:
        """As ``mean_loss``, of the squared error averaged over the outputs, in the targets' units."""
        outputs = dynamics.obs_dim + 1
        weights = self._padded(torch.full((1, outputs), 1.0 / outputs))
        return self._mean(dynamics, index, [weights] * len(self._seeds), False)

    def mean_delta_mse(self, dynamics: DynamicsEnsemble, index: Tensor) -> Tensor:
        """As ``mean_loss``, of ``model_losses.delta_mse``: in the environment's units, without the reward."""
        variances = dynamics.output_std[:, 0].square() / dynamics.obs_dim
        variances[..., -1] = 0.0
        return self._mean(dynamics, index, list(self._padded(variances)), False)

    def _mean(self, dynamics: DynamicsEnsemble, index: Tensor, weights: Sequence[Tensor], gaussian: bool) -> Tensor:
        index = index.contiguous()
        means = torch.empty(len(index), dynamics.ensemble_size)
        for seed, tables in enumerate(self._seeds):
            data = self._data(dynamics, tables, weights[seed], gaussian)
            members = _Members(parameters=_address(dynamics.member_rows()[seed]), members=dynamics.ensemble_size)
            count = ctypes.c_int64(index.shape[-1])
            self._library.model_evaluate(
                *(ctypes.byref(data), ctypes.byref(members), _address(index[seed]), count, _address(means[seed]))
            )
        return means

    def _data(self, dynamics: DynamicsEnsemble, tables: _Tables, weights: Tensor, gaussian: bool) -> _Data:
        """The structure for a call. What it points to must live until the call is over."""
        return _Data(
            *(_address(table) for table in (tables.inputs, tables.targets, weights)),
            ctypes.addressof(self._sizes),
            len(self._sizes) - 1,
            dynamics.obs_dim + 1,
            tables.inputs.shape[-1],
            tables.targets.shape[-1],
            weights.shape[-1] if len(weights) > 1 else 0,
            dynamics.probabilistic,
            gaussian,
        )

    def _padded(self, table: Tensor) -> Tensor:
        """Columns filled up with zeros to whole vectors of the library."""
        return F.pad(table, (0, -table.shape[-1] % self._lanes)).contiguous()


def _address(tensor: Tensor) -> ctypes.c_void_p:
    return ctypes.c_void_p(tensor.data_ptr())
