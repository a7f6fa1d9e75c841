"""Small models fitted to value functions that change: the experiment of the paper's Figure 2."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from vagram_ray.core.random_streams import RandomStreams
from vagram_ray.core.replay import Transitions
from vagram_ray.core.value_gradients import ValueEstimates
from vagram_ray.studies.losses_on_data import LossOnData, take_rows
from vagram_ray.studies.small_models import PredictionTarget, SmallModels

MODELS: dict[str, tuple[int, ...]] = {"linear": (), "1x16": (16,)}
"""Hidden layers of the models by name."""
VALUE_ERROR = "itervaml"
"""The registered loss that measures: <(V_k(f) - V_k(s'))^2>, the mean over the K value estimates."""
HELD_OUT_FRACTION = 0.2


@dataclass(frozen=True)
class Fit:
    """What to fit and how.

    Attributes:
        model: One of ``MODELS``.
        loss: Name of a registered loss.
        options: Its constants that differ from the defaults.
        lr: Step size of Adam.
        prediction_target: What the network's output means, see ``SmallModels``.
        steps_per_value: Gradient steps before the value function changes.
        evaluate_every: Gradient steps between two evaluations.
        batch_size: Transitions per gradient step and seed.
    """

    model: str
    loss: str
    options: Mapping[str, float]
    lr: float
    prediction_target: PredictionTarget = "delta"
    steps_per_value: int = 1000
    evaluate_every: int = 100
    batch_size: int = 256


@dataclass(frozen=True)
class ErrorCurve:
    """Held-out value error of one fit under the value function of the moment.

    Attributes:
        fit: What was fitted.
        seeds: S of them.
        value: Which value function, from 0, (T,).
        step: Gradient steps since the value function changed, (T,). 0 is before the first step under it.
        error: Squared value error, mean over the held-out transitions, (S, T).
    """

    fit: Fit
    seeds: tuple[int, ...]
    value: np.ndarray
    step: np.ndarray
    error: np.ndarray

    @property
    def total_steps(self) -> np.ndarray:
        """Gradient steps since the start, (T,)."""
        return self.value * self.fit.steps_per_value + self.step

    def after_change(self) -> np.ndarray:
        """Error just after each change of the value function, before any step under it, (S, changes)."""
        return self.error[:, (self.step == 0) & (self.value > 0)]

    def at_end(self) -> np.ndarray:
        """Error after the last step under each value function, (S, number of value functions)."""
        return self.error[:, self.step == self.fit.steps_per_value]


@dataclass(frozen=True)
class Split:
    """Transitions of each seed to fit to, and others to measure on."""

    train: Transitions
    held_out: Transitions


def split_transitions(data: Transitions, seeds: Sequence[int]) -> Split:
    """Hold out a random fifth of each seed's transitions (S, N, ...)."""
    size = data.obs.shape[1]
    order = RandomStreams(seeds, "study-split").permutation(size)
    num_held_out = max(1, int(size * HELD_OUT_FRACTION))
    return Split(take_rows(data, order[:, num_held_out:]), take_rows(data, order[:, :num_held_out]))


def fit_while_values_change(
    fit: Fit, split: Split, values: Sequence[ValueEstimates], seeds: Sequence[int]
) -> ErrorCurve:
    """Fit one model per seed, with the loss under each of the value functions in turn.

    Weights and Adam's moments go on from one value function to the next, as in MBPO. Every fit of a seed starts from
    the same weights and sees the same minibatches, whatever its loss.
    """
    init = RandomStreams(seeds, f"study-init-{fit.model}")
    models = SmallModels(MODELS[fit.model], split.train, fit.lr, fit.prediction_target, init)
    batches = RandomStreams(seeds, "study-batches")
    train_size = split.train.obs.shape[1]
    loss = LossOnData(fit.loss, split.train, fit.options)
    measure = LossOnData(VALUE_ERROR, split.held_out)
    whose, when, errors = [], [], []
    for number, current in enumerate(values):
        loss.use(current)
        measure.use(current)
        for step in range(fit.steps_per_value + 1):
            if step % fit.evaluate_every == 0 or step == fit.steps_per_value:
                whose.append(number)
                when.append(step)
                errors.append(_held_out_error(models, measure, split.held_out))
            if step < fit.steps_per_value:
                models.descend(_mean_loss(models, loss, batches.integers(train_size, fit.batch_size)))
    error = torch.stack(errors, dim=1).to(torch.float64).numpy()
    return ErrorCurve(fit, tuple(seeds), np.array(whose), np.array(when), error)


@torch.no_grad()
def value_variance(values: ValueEstimates, data: Transitions) -> np.ndarray:
    """Variance over the data of V_k(s'), mean over the estimates, (S,): the error of a prediction of no use at all."""
    return values.values(data.next_obs).var(dim=-1, correction=0).mean(dim=1).numpy()


def _mean_loss(models: SmallModels, loss: LossOnData, index: Tensor) -> Tensor:
    target = loss.target(index)
    return loss.of_change(models.change(target.obs, target.action), target).mean(dim=1)


@torch.no_grad()
def _held_out_error(models: SmallModels, measure: LossOnData, held_out: Transitions) -> Tensor:
    num_seeds, size = held_out.reward.shape
    return _mean_loss(models, measure, torch.arange(size).expand(num_seeds, size))
