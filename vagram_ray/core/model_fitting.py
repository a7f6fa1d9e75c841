"""Fitting the dynamics ensemble to the real transitions (Algorithm 1, "train model").

Much is as in MBPO and mbrl-lib, and docs/paper_differences.md has what is not. Each fit continues from the last one's
weights and Adam state, draws a new validation split and a new bootstrap sample per member, and stops a seed when no
member has improved for ``model_patience`` epochs. A seed that has stopped leaves the working set: it costs nothing,
and its random streams and optimiser stand still, so that its numbers do not depend on how long its neighbours go on.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from vagram_ray.core.dynamics import DynamicsEnsemble
from vagram_ray.core.execution import FitEpochs, Library
from vagram_ray.core.graphs import Recorder, RepeatedWork
from vagram_ray.core.model_losses import (
    ModelLoss,
    Target,
    delta_mse,
    get_model_loss,
    output_errors,
    output_units,
    termination_cross_entropy,
)
from vagram_ray.core.networks import StackedAdam
from vagram_ray.core.random_streams import RandomStreams
from vagram_ray.core.replay import Transitions, gather_rows
from vagram_ray.core.seed_selection import copy_of_seeds
from vagram_ray.core.settings import MBPOSettings
from vagram_ray.core.value_gradients import ValueEstimates

EVALUATION_CHUNK = 4096
"""Validation transitions per member evaluated at a time, to bound memory."""
MIN_MINIBATCHES = 8
"""Minibatches per fit epoch from which on recording them is worth its time (some working sets last one epoch)."""


class RegressionTable:
    """The fit's data as one wide table, gathered by index: obs | action | delta | reward | terminated | prepared.

    Args:
        data: Real transitions (S, N, ...).
        prepared: Tables (S, N, ...) of the loss's ``prepare`` function.

    Attributes:
        reward_weight: c_r of the targets, (S, 1, 1). None is the loss's own.
    """

    reward_weight: Tensor | None = None

    def __init__(self, data: Transitions, prepared: dict[str, Tensor]) -> None:
        columns = [data.obs, data.action, data.next_obs - data.obs]
        columns += [data.reward.unsqueeze(-1), data.terminated.unsqueeze(-1).to(data.obs.dtype)]
        self._shapes = {name: table.shape[2:] for name, table in prepared.items()}
        columns += [table.flatten(2) if table.dim() > 2 else table.unsqueeze(-1) for table in prepared.values()]
        self._widths = [column.shape[-1] for column in columns]
        self._rows = torch.cat(columns, dim=-1)

    @property
    def size(self) -> int:
        """N."""
        return self._rows.shape[1]

    def select_seeds(self, index: Tensor) -> RegressionTable:
        """The table of some of the seeds."""
        return copy_of_seeds(self, index, ("_rows", "reward_weight"))

    def target(self, index: Tensor, values: ValueEstimates) -> Target:
        """The rows at ``index`` (S, E, B)."""
        return self._target(gather_rows(self._rows, index), values)

    def whole(self, values: ValueEstimates) -> Target:
        """All rows as one member's batch, (S, 1, N, ...), not copied."""
        return self._target(self._rows.unsqueeze(1), values)

    def _target(self, rows: Tensor, values: ValueEstimates) -> Target:
        obs, action, delta, reward, terminated, *extra = rows.split(self._widths, dim=-1)
        prepared = {
            name: column.reshape(*rows.shape[:-1], *shape)
            for (name, shape), column in zip(self._shapes.items(), extra, strict=True)
        }
        return Target(
            *(obs, action, delta, reward.squeeze(-1), prepared, values),
            terminated=terminated.squeeze(-1),
            reward_weight=self.reward_weight,
        )


@dataclass(frozen=True)
class Split:
    """Which rows a seed's members train on and validate on."""

    train: Tensor  # (S, E, N_train): a bootstrap sample per member
    validation: Tensor  # (S, N_validation): the same rows for all members

    def select_seeds(self, index: Tensor) -> Split:
        """The split of some of the seeds."""
        return copy_of_seeds(self, index, ("train", "validation"))


def split_and_bootstrap(size: int, members: int, validation_fraction: float, streams: RandomStreams) -> Split:
    """Hold out a random part of the rows and draw each member's bootstrap sample, with replacement, from the rest."""
    num_validation = min(max(1, int(size * validation_fraction)), size - 1)
    order = streams.permutation(size)
    validation, rest = order[:, :num_validation], order[:, num_validation:]
    draws = streams.integers(rest.shape[1], members, rest.shape[1])
    train = torch.gather(rest.unsqueeze(1).expand_as(draws), 2, draws)
    return Split(train, validation)


class ModelFit:
    """One fit of the ensembles of a cohort. Call ``run`` once.

    Args:
        dynamics: The ensembles, updated in place.
        optimizer: Their Adam, updated in place.
        data: All real transitions (S, N, ...), N at least 2.
        values: Current value estimates, for value-aware losses.
        settings: Hyperparameters.
        streams: Random streams of the fit.
        recorder: Records what a minibatch does, to issue it at once for the next ones. None does not.
        library: Computes epochs of losses that it knows. None leaves all to autograd.
    """

    def __init__(
        self,
        dynamics: DynamicsEnsemble,
        optimizer: StackedAdam,
        data: Transitions,
        values: ValueEstimates,
        settings: MBPOSettings,
        streams: RandomStreams,
        recorder: Recorder | None = None,
        library: Library | None = None,
    ) -> None:
        self.dynamics, self.optimizer, self.settings = dynamics, optimizer, settings
        self.loss: ModelLoss = get_model_loss(settings.model_loss)
        self.options = self.loss.resolve_options(settings.model_loss_options)
        self.streams = streams
        dynamics.fit_normalizer(data.obs, data.action)
        dynamics.fit_target_normalizer(data)
        prepared = self.loss.prepare(values, data) if self.loss.prepare else {}
        self.table = RegressionTable(data, prepared)
        self.table.reward_weight = self._reward_weight(values)
        self.split = split_and_bootstrap(self.table.size, dynamics.ensemble_size, settings.validation_fraction, streams)
        many = self.split.train.shape[-1] >= MIN_MINIBATCHES * settings.model_batch_size
        self.cohort = _WorkingSet(
            dynamics,
            optimizer,
            self.table,
            self.split,
            values,
            streams,
            streams.fork("validate"),
            recorder if many else None,
        )
        if self.loss.family == "gaussian":
            self._total_weight = self._sum_of_weights()
        weights = self.output_weights() if library is not None else None
        if library is not None and weights is not None:
            self.cohort.native = library.fit(dynamics, self.loss, self._all_targets(values), weights)

    def _sum_of_weights(self) -> Tensor:
        """Mean over the transitions of the sum of the outputs' weights, (S, 1)."""
        weights = self.output_weights()
        assert weights is not None
        return weights.sum(dim=-1).mean(dim=(1, 2)).expand(self.dynamics.num_seeds).unsqueeze(1)

    def output_weights(self) -> Tensor | None:
        """The loss's weights of the D + 1 outputs for all transitions, (S, 1, N, D + 1). Axes of equal ones may be 1.

        They stay the same throughout the fit. None if the loss is no weighted sum over outputs (``ModelLoss.family``).
        """
        if self.loss.output_weights is None:
            return None
        return self.loss.output_weights(self._all_targets(self.cohort.values))

    def _all_targets(self, values: ValueEstimates) -> Target:
        return self._with_constants(self.table.whole(values), self.dynamics)

    def _reward_weight(self, values: ValueEstimates) -> Tensor | None:
        """c_r (S, 1, 1) of the setting ``reward_weight``. None is the loss's own.

        The average dimension's weight is the mean over data and dimensions of the weights on errors in the target's
        units, as w_d / D in ``vagram``, of which the reward's squared error in its units gets one.
        """
        setting, dynamics = self.settings.reward_weight, self.dynamics
        if setting == "auto" or (setting == "per_output" and self.loss.family == "gaussian"):
            return None
        ones = dynamics.input_mean.new_ones(dynamics.num_seeds, 1, 1)
        if setting == "per_output":
            return ones / dynamics.obs_dim
        if setting != "mean_value_weight":
            return ones * setting
        assert self.loss.output_weights is not None  # the settings refuse losses without value weights
        target = self._all_targets(values)
        weights = self.loss.output_weights(target)[..., : dynamics.obs_dim]
        if target.dynamics_unit is not None:
            weights = weights * target.dynamics_unit.square()
        return ones * weights.mean(dim=(1, 2, 3)).view(-1, 1, 1)

    def run(self) -> dict[str, Tensor]:
        """Fit until every seed has stopped. Leaves each member at its best weights and sets the elites.

        Returns:
            Metrics (S,): losses of the elites, number of fit epochs, whether the limit ended the fit.
        """
        dynamics, settings = self.dynamics, self.settings
        num_seeds, device = dynamics.num_seeds, dynamics.network.flat.device
        best_loss = self._validate(self.cohort)  # of what early stopping looks at
        best_weights = dynamics.member_rows().clone()
        stale = torch.zeros(num_seeds, dtype=torch.int64, device=device)
        epochs = torch.zeros(num_seeds, dtype=torch.int64, device=device)
        train_loss = torch.full((num_seeds,), torch.nan, device=device)
        active = torch.arange(num_seeds, device=device)
        work = self.cohort
        while len(active):
            train_loss[active] = self._train_epoch(work)
            epochs[active] += 1
            current = self._validate(work)
            improved = self._improvement(best_loss, current, active) > settings.model_improvement_threshold
            best_loss[active] = torch.where(improved, current, best_loss[active])
            best_weights[active] = torch.where(
                improved.unsqueeze(-1), work.dynamics.member_rows(), best_weights[active]
            )
            stale[active] = torch.where(improved.any(dim=1), 0, stale[active] + 1)
            going_on = stale[active] < settings.model_patience
            if settings.model_max_epochs is not None:
                going_on &= epochs[active] < settings.model_max_epochs
            if not bool(going_on.all()):  # the fit's one host synchronisation per epoch
                self._retire(work, active, ~going_on)
                active = active[going_on]
                if len(active):
                    work = work.select_seeds(going_on.nonzero().flatten())
        dynamics.member_rows().copy_(best_weights)
        dynamics.set_elites(best_loss)
        cut_short = (stale < settings.model_patience).to(train_loss.dtype)  # patience would have gone on
        return self._metrics(best_loss, train_loss) | {"fit_epochs": epochs, "fit_limit_reached": cut_short}

    def _improvement(self, best: Tensor, current: Tensor, seeds: Tensor) -> Tensor:
        """By what share the current weights of the seeds (M,) are better than their best so far, (M, E).

        For squared errors it is the decrease over the best. A log-likelihood has no zero: its value depends on the
        targets' units, and near 0 the smallest decrease would count. With variances that fit, it is half the logarithm
        of the squared error plus a constant, so twice its decrease, per unit of weight, is the same share.
        """
        decrease = best[seeds] - current
        if self.settings.early_stopping_metric == "loss" and self.loss.family == "gaussian":
            return 2.0 * decrease / self._total_weight[seeds]
        return decrease / best[seeds].abs()

    def _retire(self, work: _WorkingSet, active: Tensor, stopped: Tensor) -> None:
        """Write the optimiser state of the seeds that stop back to the whole cohort."""
        position = stopped.nonzero().flatten()
        self.optimizer.write_seeds(active[position], work.optimizer.select_seeds(position, work.rows(position)))

    def _train_epoch(self, work: _WorkingSet) -> Tensor:
        """One pass over each member's bootstrap sample in a new order. Returns the mean loss (S,)."""
        train = work.split.train
        members, length = train.shape[1:]
        order = work.streams.uniform(members, length).argsort(dim=-1)
        shuffled = torch.gather(train, 2, order)
        if work.native:
            sums = work.native.train(work.dynamics, work.optimizer, shuffled, self.settings.model_batch_size)
            return sums.mean(dim=1) / length
        work.loss_sum.zero_()
        minibatch = functools.partial(self._minibatch, work)
        for index in shuffled.split(self.settings.model_batch_size, dim=-1):
            work.repeat(index.shape, minibatch, index)
        return work.loss_sum.mean(dim=1) / length

    def _minibatch(self, work: _WorkingSet, index: Tensor) -> None:
        """One gradient step on the rows at ``index`` (S, E, B)."""
        loss = self._losses(work, index, work.streams).mean(dim=-1)
        objective = loss
        if work.dynamics.probabilistic:
            objective = loss + work.dynamics.variance_bound_penalty()
        work.optimizer.step(_gradients(objective.sum(), work.dynamics.network.views))
        work.loss_sum.add_(loss.detach(), alpha=index.shape[-1])

    @torch.no_grad()
    def _validate(self, work: _WorkingSet) -> Tensor:
        """Each member's mean on its seed's validation rows of what early stopping looks at, (S, E)."""
        if self.settings.early_stopping_metric == "loss":
            return self._validation_loss(work)
        if work.native:
            return work.native.mean_squared_error(work.dynamics, work.split.validation)
        return work.mean_over_validation_rows(lambda index: self._squared_errors(work, index))

    def _validation_loss(self, work: _WorkingSet) -> Tensor:
        """Each member's mean loss on its seed's validation rows, (S, E), always with the same noise."""
        if work.native:
            return work.native.mean_loss(work.dynamics, work.split.validation)
        streams = work.validation_streams.fork("pass")
        return work.mean_over_validation_rows(lambda index: self._losses(work, index, streams))

    def _losses(self, work: _WorkingSet, index: Tensor, streams: RandomStreams) -> Tensor:
        """The loss of each of the rows at ``index``, (S, E, B)."""
        target = self._with_constants(work.table.target(index, work.values), work.dynamics, streams)
        prediction = work.dynamics.predict(target.obs, target.action)
        loss = self.loss.function(prediction, target)
        return loss + termination_cross_entropy(prediction, target) if work.dynamics.learns_termination else loss

    def _squared_errors(self, work: _WorkingSet, index: Tensor) -> Tensor:
        """(1/(D+1)) sum_o (f_o - y_o)^2 / sigma_o^2 of the rows at ``index``, y = (s' - s, r), (S, E, B)."""
        target = self._with_constants(work.table.target(index, work.values), work.dynamics)
        errors = output_errors(work.dynamics.predict(target.obs, target.action), target)
        return (errors / output_units(target)).square().mean(dim=-1)

    def _with_constants(
        self, target: Target, dynamics: DynamicsEnsemble, streams: RandomStreams | None = None
    ) -> Target:
        return target._replace(
            options=self.options,
            streams=streams,
            dynamics_unit=dynamics.dynamics_unit,
            reward_unit=dynamics.reward_unit,
        )

    @torch.no_grad()
    def _metrics(self, best: Tensor, train_loss: Tensor) -> dict[str, Tensor]:
        """Metrics of the fit. The unweighted error in the environment's units makes different losses comparable."""

        def unweighted_error(index: Tensor) -> Tensor:
            target = self.table.target(index, self.cohort.values)
            return delta_mse(self.dynamics.predict(target.obs, target.action), target)

        loss = best if self.settings.early_stopping_metric == "loss" else self._validation_loss(self.cohort)
        if self.cohort.native:
            squared_error = self.cohort.native.mean_delta_mse(self.dynamics, self.split.validation)
        else:
            squared_error = self.cohort.mean_over_validation_rows(unweighted_error)
        elites = self.dynamics.elites
        return {
            "validation_loss": loss.gather(1, elites).mean(dim=1),
            "validation_delta_mse": squared_error.gather(1, elites).mean(dim=1),
            "train_loss": train_loss,
        }


class _WorkingSet:
    """The part of a fit that goes on when some seeds have stopped."""

    def __init__(
        self,
        dynamics: DynamicsEnsemble,
        optimizer: StackedAdam,
        table: RegressionTable,
        split: Split,
        values: ValueEstimates,
        streams: RandomStreams,
        validation_streams: RandomStreams,
        recorder: Recorder | None,
    ) -> None:
        self.dynamics, self.optimizer, self.table, self.split = dynamics, optimizer, table, split
        self.values, self.streams, self.validation_streams = values, streams, validation_streams
        self.recorder, self.repeat = recorder, RepeatedWork(recorder, streams)
        self.native: FitEpochs | None = None
        self.loss_sum = torch.zeros(split.train.shape[:2], device=split.train.device)  # of an epoch so far, (S, E)

    def rows(self, index: Tensor) -> Tensor:
        """Copies of the network rows of the seeds at ``index``, as their optimiser wants them."""
        return self.dynamics.member_rows()[index].flatten(0, 1)

    def mean_over_validation_rows(self, measure: Callable[[Tensor], Tensor]) -> Tensor:
        """Mean (S, E) of what ``measure`` makes (S, E, B) of row indices (S, E, B), in chunks."""
        rows = self.split.validation.unsqueeze(1).expand(-1, self.dynamics.ensemble_size, -1)
        total = torch.zeros(rows.shape[:2], device=rows.device)
        for index in rows.split(EVALUATION_CHUNK, dim=-1):
            total += measure(index).sum(dim=-1)
        return total / rows.shape[-1]

    def select_seeds(self, index: Tensor) -> _WorkingSet:
        """Copies for the seeds at ``index``."""
        dynamics, streams = self.dynamics.select_seeds(index), self.streams.select_seeds(index)
        return copy_of_seeds(
            self,
            index,
            ("table", "split", "values", "validation_streams", "loss_sum", "native"),
            dynamics=dynamics,
            optimizer=self.optimizer.select_seeds(index, dynamics.network.flat),
            streams=streams,
            repeat=RepeatedWork(self.recorder, streams),
        )


def _gradients(objective: Tensor, weights: list[Tensor]) -> list[Tensor]:
    """Gradients of all weights, zeros for those that a loss leaves out (a variance head under a plain MSE)."""
    gradients = torch.autograd.grad(objective, weights, allow_unused=True)
    return [torch.zeros_like(w) if g is None else g for g, w in zip(gradients, weights, strict=True)]
