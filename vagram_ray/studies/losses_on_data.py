"""A registered model loss over fixed transitions, for value functions that change."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from vagram_ray.core.model_fitting import RegressionTable
from vagram_ray.core.model_losses import Prediction, Target, get_model_loss
from vagram_ray.core.replay import Transitions
from vagram_ray.core.value_gradients import ValueEstimates


class LossOnData:
    """The loss of a model's predictions for some of the transitions. Call ``use`` first.

    The state alone is predicted here: a prediction takes its reward from the target, so that the reward's error is 0.

    Args:
        name: Of a registered loss for deterministic models.
        data: Transitions (S, N, ...).
        options: Constants of the loss that differ from its defaults.

    Raises:
        ValueError: There is no such loss, or an option cannot be.
    """

    def __init__(self, name: str, data: Transitions, options: Mapping[str, float] | None = None) -> None:
        self._loss, self._data = get_model_loss(name), data
        self._options = self._loss.resolve_options(options or {})

    def use(self, values: ValueEstimates) -> None:
        """Take the loss under these value functions from now on."""
        prepared = self._loss.prepare(values, self._data) if self._loss.prepare else {}
        self._values, self._table = values, RegressionTable(self._data, prepared)

    def target(self, index: Tensor) -> Target:
        """The observed transitions at ``index`` (S, B), as a target (S, 1, B, ...)."""
        return self._table.target(index.unsqueeze(1), self._values)._replace(options=self._options)

    def of_change(self, delta: Tensor, target: Target) -> Tensor:
        """Loss (S, B) of predicting the change ``delta`` (S, 1, B, D)."""
        return self._loss.function(Prediction(delta, target.reward, None), target).squeeze(1)


def take_rows(data: Transitions, index: Tensor) -> Transitions:
    """The transitions of each seed at its own ``index`` (S, B): (S, B, ...)."""
    seeds = torch.arange(index.shape[0]).unsqueeze(1)
    return Transitions(*(column[seeds, index] for column in data))
