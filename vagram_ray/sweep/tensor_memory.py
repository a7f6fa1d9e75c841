"""Bytes of a cohort's tensors, counted from the code in ``core`` before anything runs.

What stays (networks with their optimisers, both buffers) and, on top, the phase that needs most for a moment. Each
function below adds up what is alive at one such moment; ``python -m benchmarks.memory`` holds the sum against tensors
that are counted while cohorts run.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

from vagram_ray.core.dimension_metrics import SAMPLE_SIZE
from vagram_ray.core.model_fitting import EVALUATION_CHUNK
from vagram_ray.core.model_rollouts import CHUNK_ELEMENTS
from vagram_ray.core.value_gradients import ValueEstimates
from vagram_ray.sweep.workload import (
    FLOAT_BYTES,
    Workload,
    allocated_transitions,
    imagined_transitions,
    parameters,
    real_transitions,
)

INDEX_BYTES = 8
VALUE_CHUNK = ValueEstimates.chunk_size
VALUE_ESTIMATES = 4
"""K: two critics and their targets."""
_NO_VALUES = ("nll", "mse")
"""Losses that never look at the value function."""
_WEIGHTS = ("value_weighted", "value_weighted_published")
"""Losses that prepare one number per transition."""
_GRADIENTS = ("vagram", "taylor", "taylor_hessian")
"""Losses that prepare value gradients; all others (one's own too) are taken to evaluate values in every minibatch."""


@dataclass(frozen=True)
class TensorMemory:
    """Bytes of a cohort's tensors."""

    networks: int
    """Weights, gradients and Adam's moments of actor, critics and model."""
    buffers: int
    """Real and imagined transitions."""
    phases: dict[str, int]
    """What is there for a moment only, by phase of the algorithm."""
    minibatch: int = 0
    """Of the fit's phase: what one minibatch takes."""

    @property
    def total(self) -> int:
        """With the phase that needs most."""
        return self.networks + self.buffers + max(self.phases.values())


def tensor_memory(workload: Workload, num_seeds: int, epochs: int) -> TensorMemory:
    """Peak of a cohort within ``epochs`` epochs.

    Args:
        workload: What it does.
        num_seeds: S.
        epochs: Its length.
    """
    settings, row = workload.settings, workload.transition_floats * FLOAT_BYTES
    real, imagined = real_transitions(settings, epochs), imagined_transitions(settings, epochs)
    count = _Cohort(workload, num_seeds, real)
    # Transitions are copied to be saved, or when they have been read.
    copies = num_seeds * max(real * (row + INDEX_BYTES), imagined * row)
    phases = {"updates": count.updates(), "copies of buffers": copies}
    if settings.rollout_length_at(0) != settings.rollout_length_at(max(0, epochs - 1)):
        phases["longer rollouts"] = num_seeds * imagined * (row + 2 * INDEX_BYTES)
    if settings.model_based and real:
        phases |= {"preparing a fit": count.preparation(), "fit": count.fit(), "metrics of a fit": count.metrics()}
        phases["rollouts"] = count.rollouts()
    return TensorMemory(
        networks=num_seeds * network_floats(workload) * FLOAT_BYTES,
        buffers=num_seeds * (allocated_transitions(settings, real) + imagined) * row,
        phases=phases,
        minibatch=num_seeds * count.minibatch() if settings.model_based and real else 0,
    )


def network_floats(workload: Workload) -> int:
    """Floats per seed of weights, gradients and Adam's two moments; target critics have weights alone."""
    settings = workload.settings
    floats = 4 * parameters(workload.actor_sizes) + (2 * 4 + 2) * parameters(workload.critic_sizes)
    if settings.model_based:
        floats += 4 * settings.ensemble_size * model_parameters(workload)
    return floats


def model_parameters(workload: Workload) -> int:
    """Of one ensemble member; the bounds of its variances are among them."""
    bounds = 2 * (workload.obs_dim + 1) if workload.settings.has_variance_head else 0
    return parameters(workload.model_sizes) + bounds


# -- passes through networks, in floats per sample beside inputs and outputs -----------------------------------------


def evaluated(sizes: Sequence[int]) -> int:
    """Two layers at a time."""
    hidden = sizes[1:-1]
    return max(map(sum, itertools.pairwise(hidden)), default=hidden[0])


def differentiated(sizes: Sequence[int], kept: int, passing: int) -> int:
    """``kept`` times all hidden layers for the way back, and ``passing`` times the widest on it."""
    return kept * sum(sizes[1:-1]) + passing * max(sizes[1:-1])


@dataclass(frozen=True)
class _Cohort:
    """Bytes at the largest moment of each phase, on top of networks and buffers."""

    workload: Workload
    num_seeds: int
    rows: int
    """Real transitions per seed."""

    # -- SAC -----------------------------------------------------------------------------------------------------

    def updates(self) -> int:
        """All batches of one environment step, and one update."""
        work, settings = self.workload, self.workload.settings
        drawn = settings.utd_ratio * settings.batch_size
        batches = drawn * (FLOAT_BYTES * (2 * work.transition_floats + 2 * work.action_dim) + 2 * INDEX_BYTES)
        # Of both critics and the actor; of what an update computes beside, a few columns as wide as a transition.
        floats = 2 * differentiated(work.critic_sizes, 1, 1) + differentiated(work.actor_sizes, 1, 0)
        update = settings.batch_size * FLOAT_BYTES * (floats + 5 * work.transition_floats)
        return self.num_seeds * (batches + update)

    # -- the model's fit -------------------------------------------------------------------------------------------

    @property
    def table(self) -> int:
        """A fit's data as one table, each member's bootstrap sample and the validation rows, per seed."""
        settings = self.workload.settings
        return self.rows * (
            self.table_floats * FLOAT_BYTES + INDEX_BYTES
        ) + settings.ensemble_size * self.train_rows * (INDEX_BYTES)

    @property
    def validation_rows(self) -> int:
        """Held out, per seed."""
        return max(1, int(self.rows * self.workload.settings.validation_fraction))

    @property
    def train_rows(self) -> int:
        """Of each member's bootstrap sample."""
        return self.rows - self.validation_rows

    @property
    def table_floats(self) -> int:
        """Columns: observation, action, its change, reward, and what the loss prepares."""
        return 2 * self.workload.obs_dim + self.workload.action_dim + 1 + self.prepared_floats

    @property
    def prepared_floats(self) -> int:
        """Columns that the loss prepares."""
        loss, obs_dim = self.workload.settings.model_loss, self.workload.obs_dim
        if loss in _NO_VALUES or loss == "vaml_sac":
            return 0
        if loss in _WEIGHTS:
            return 1
        if loss == "vagram":
            return obs_dim
        return VALUE_ESTIMATES * obs_dim if loss in _GRADIENTS else VALUE_ESTIMATES

    def preparation(self) -> int:
        """What the loss prepares, the table made of it, and the bootstrap samples."""
        settings, obs_dim = self.workload.settings, self.workload.obs_dim
        # A table that is no plain column is copied to lie beside the others.
        prepared = (2 if settings.model_loss in ("taylor", "taylor_hessian") else 1) * self.prepared_floats
        table = self.num_seeds * self.rows * FLOAT_BYTES * (self.table_floats + prepared + obs_dim)
        # Drawn positions and what is there, for every member, before and while the positions go.
        split = self.num_seeds * (
            self.table + settings.ensemble_size * self.train_rows * INDEX_BYTES + self.rows * INDEX_BYTES
        )
        return max(table, split, self.value_preparation())

    def value_preparation(self) -> int:
        """Value gradients or values of all rows."""
        loss, obs_dim = self.workload.settings.model_loss, self.workload.obs_dim
        if loss in _NO_VALUES or loss == "vaml_sac":
            return 0
        rows, chunk = self.num_seeds * self.rows, self.num_seeds * min(self.rows, VALUE_CHUNK)
        estimates = rows * VALUE_ESTIMATES * FLOAT_BYTES
        if loss not in _GRADIENTS:
            return 2 * estimates + chunk * FLOAT_BYTES * self.evaluated_values()
        gradients = estimates * obs_dim
        # A second copy while the chunks are joined, clipped or squared; beside it norms and by what they are scaled, or
        # the weights that the squares average to.
        beside = max(2 * estimates, rows * obs_dim * FLOAT_BYTES if loss == "vagram" else 0)
        return max(2 * gradients + beside, gradients + chunk * FLOAT_BYTES * self.differentiated_values())

    def evaluated_values(self) -> int:
        """Floats per state of its values: inputs of a pair of critics, and their layers."""
        work = self.workload
        critics, actor = 2 * evaluated(work.critic_sizes), evaluated(work.actor_sizes)
        joint = 3 * (work.obs_dim + work.action_dim)
        return max(actor, joint + critics) + 4 * work.action_dim + 2 * VALUE_ESTIMATES

    def differentiated_values(self) -> int:
        """Floats per state of its value gradients: of one pair of critics at a time."""
        work = self.workload
        passing = 4 if work.settings.normalize_features else 2
        critics = 2 * differentiated(work.critic_sizes, 1, passing)
        actor = evaluated(work.actor_sizes)
        inputs = 2 * (work.obs_dim + work.action_dim) + 6 * work.obs_dim + work.action_dim
        return max(actor, inputs + critics)

    def fit(self) -> int:
        """The largest moment of a fit.

        When a seed's members have stopped, the others' tables, networks and optimisers are copied, and the last copy
        goes only when the new one is there; no minibatch is alive then. It is still there when all seeds are validated
        at the end.
        """
        model = self.workload.settings.ensemble_size * model_parameters(self.workload) * FLOAT_BYTES
        copied = self.table + self.copied_networks()
        order = self.workload.settings.ensemble_size * self.train_rows * 2 * INDEX_BYTES
        step = max(order + self.minibatch(), self.validation(), 2 * model)
        seeds, one_less, two_less = self.num_seeds, max(0, self.num_seeds - 1), max(0, self.num_seeds - 2)
        moments = (
            seeds * (self.table + step),
            seeds * self.table + one_less * (copied + step),
            seeds * self.table + (one_less + two_less) * copied,
            seeds * (self.table + self.validation()) + one_less * copied,
        )
        return max(moments) + seeds * model  # the best weights so far

    def copied_networks(self) -> int:
        """What a working set has for itself of model, optimiser, policy and critics, per seed."""
        floats = 4 * self.workload.settings.ensemble_size * model_parameters(self.workload)
        floats += parameters(self.workload.actor_sizes) + VALUE_ESTIMATES * parameters(self.workload.critic_sizes)
        return floats * FLOAT_BYTES

    def minibatch(self) -> int:
        """A minibatch of every member, forwards and backwards, per seed."""
        work, settings = self.workload, self.workload.settings
        samples = settings.ensemble_size * min(settings.model_batch_size, self.train_rows)
        # SiLU keeps what goes into it beside what comes out.
        floats = differentiated(work.model_sizes, 2, 2) + self.table_floats + work.model_sizes[0]
        floats += 4 * work.model_sizes[-1] + 4 * (work.obs_dim + 1)
        gradient = settings.ensemble_size * model_parameters(work) * FLOAT_BYTES
        return samples * floats * FLOAT_BYTES + gradient + self.loss_values(samples, differentiated=True)

    def validation(self) -> int:
        """A chunk of validation rows of every member, forwards, per seed."""
        work, settings = self.workload, self.workload.settings
        samples = settings.ensemble_size * min(EVALUATION_CHUNK, self.validation_rows)
        inputs = self.table_floats + work.model_sizes[0] + work.model_sizes[-1]
        layers = evaluated(work.model_sizes)
        losses = 2 * work.model_sizes[-1] + 2 * (work.obs_dim + 1)
        passing = max(layers, losses) * FLOAT_BYTES
        return samples * (inputs * FLOAT_BYTES + passing) + self.loss_values(samples, differentiated=False)

    def loss_values(self, samples: int, *, differentiated: bool) -> int:
        """The values of a minibatch's predictions, for losses that compare values, per seed."""
        work, settings = self.workload, self.workload.settings
        if settings.model_loss in (*_NO_VALUES, *_GRADIENTS, *_WEIGHTS):
            return 0
        options = dict(settings.model_loss_options)
        drawn = {"cvaml": options.get("model_samples", 4), "vaml_sac": options.get("action_samples", 1)}
        rows = samples * int(drawn.get(settings.model_loss, 1))
        beside = rows * FLOAT_BYTES * (3 * work.obs_dim + 2 * VALUE_ESTIMATES)
        if not differentiated:  # chunk by chunk, with nothing left of the last one but its values
            return beside + min(rows, VALUE_CHUNK) * self.evaluated_values() * FLOAT_BYTES
        return beside + rows * self.kept_values() * FLOAT_BYTES

    def kept_values(self) -> int:
        """Floats per state of all values with what their differentiation needs."""
        work = self.workload
        critics = VALUE_ESTIMATES * differentiated(work.critic_sizes, 1, 0) + 3 * max(work.critic_sizes[1:-1])
        return critics + differentiated(work.actor_sizes, 1, 0) + VALUE_ESTIMATES * work.critic_sizes[0]

    def metrics(self) -> int:
        """The fit's tables, and a sample of rows with its value gradients or through the elites."""
        work, rows = self.workload, min(self.rows, SAMPLE_SIZE)
        gradients = self.differentiated_values() + 2 * VALUE_ESTIMATES * work.obs_dim
        elites = work.settings.num_elites * (
            evaluated(work.model_sizes) + 2 * sum(work.model_sizes[:: len(work.model_sizes) - 1])
        )
        model = work.settings.num_elites * model_parameters(work) * FLOAT_BYTES
        return self.num_seeds * (self.table + model + rows * FLOAT_BYTES * max(gradients, elites))

    # -- rollouts --------------------------------------------------------------------------------------------------

    def rollouts(self) -> int:
        """The fit's tables, which stay meanwhile, the rows, copies of the elites, and one chunk or what is added."""
        work, settings = self.workload, self.workload.settings
        elites = settings.num_elites
        rows = math.ceil(settings.rollouts_per_step * settings.model_train_freq / elites) * elites
        noise = work.obs_dim + 1 if settings.has_variance_head else 0
        # Where they start, whole rows of the buffer, their order, noise and actions; next observation and reward.
        start = FLOAT_BYTES * (work.transition_floats + 2 * work.action_dim + noise) + 2 * INDEX_BYTES + 1
        step = FLOAT_BYTES * (work.obs_dim + 1)
        added = step + FLOAT_BYTES * (work.transition_floats + 2) + 2 * INDEX_BYTES
        samples = self.num_seeds * rows
        # Beside a chunk's inputs what the last chunk's prediction has left.
        left = work.model_sizes[-1] + work.obs_dim + 1 + noise
        model = self._chunk(work.model_sizes, samples, work.obs_dim + work.action_dim, left)
        actor = self._chunk(work.actor_sizes, samples, 0, 0)
        moments = (
            samples * (start + added),
            samples * (start + step) + model,
            samples * start + actor,
            samples * (start + step + FLOAT_BYTES + 2 * INDEX_BYTES) + self.disagreement(rows),
        )
        networks = elites * model_parameters(work) * FLOAT_BYTES
        return self.num_seeds * (self.table + networks) + max(moments)

    def disagreement(self, rows: int) -> int:
        """One chunk of the rows through all elites, and the value's gradients where they lead on average."""
        work, kind, elites = self.workload, self.workload.settings.rollout_truncation, self.workload.settings.num_elites
        if kind == "schedule":
            return 0
        by_value = kind == "value_disagreement"
        width = max(elites * max(work.model_sizes[1:]), 2 * max(work.critic_sizes[1:]) if by_value else work.obs_dim)
        chunk = min(rows, max(1, CHUNK_ELEMENTS // (self.num_seeds * width)))
        layers = max(2 * work.model_sizes[-1], evaluated(work.model_sizes))
        predictions = work.model_sizes[0] + elites * (work.model_sizes[0] + work.model_sizes[-1] + layers)
        gradients = self.differentiated_values() + (elites + VALUE_ESTIMATES) * work.obs_dim if by_value else 0
        return self.num_seeds * chunk * (FLOAT_BYTES * max(predictions, gradients) + INDEX_BYTES)

    def _chunk(self, sizes: Sequence[int], samples: int, beside: int, left: int) -> int:
        """One chunk of the rollouts through a network: so many samples that the widest layer fills it."""
        chunk = min(samples, math.ceil(CHUNK_ELEMENTS / max(sizes[1:])))
        beside += left if chunk < samples else 0
        layers = max(2 * sizes[-1], evaluated(sizes))
        return chunk * (FLOAT_BYTES * (beside + sizes[0] + sizes[-1] + layers) + INDEX_BYTES)
