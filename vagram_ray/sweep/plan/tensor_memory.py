"""Bytes of a cohort's tensors, estimated before anything runs: what stays, and the phase that needs most beside it.

Only what dominates at some size is counted, rather too much than too little: ``python -m benchmarks.memory`` and the
tests hold the sum against tensors that are counted while cohorts run, within 0 to 15 % above them (tests, with tensors
of a few megabytes: 20 %). What is wrong beyond that ends a trial whose pack is then divided.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from vagram_ray.core.dimension_metrics import SAMPLE_SIZE
from vagram_ray.core.model_fitting import EVALUATION_CHUNK
from vagram_ray.core.model_rollouts import CHUNK_ELEMENTS
from vagram_ray.core.value_gradients import ValueEstimates
from vagram_ray.sweep.plan.workload import (
    FLOAT_BYTES,
    Workload,
    allocated_transitions,
    imagined_transitions,
    parameters,
    real_transitions,
)

INDEX_BYTES = 8
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
    cohort = _Cohort(workload, num_seeds, real)
    # Transitions are copied to be saved, or when they have been read.
    copies = num_seeds * max(real * (row + INDEX_BYTES), imagined * row)
    phases = {"updates": cohort.updates(), "copies of buffers": copies}
    if settings.rollout_length_at(0) != settings.rollout_length_at(max(0, epochs - 1)):
        phases["longer rollouts"] = num_seeds * imagined * (row + 2 * INDEX_BYTES)
    if settings.model_based and real:
        phases |= {"preparing a fit": cohort.preparation(), "fit": cohort.fit(), "metrics of a fit": cohort.metrics()}
        phases["rollouts"] = cohort.rollouts()
    return TensorMemory(
        networks=num_seeds * network_floats(workload) * FLOAT_BYTES,
        buffers=num_seeds * (allocated_transitions(settings, real) + imagined) * row,
        phases=phases,
        minibatch=num_seeds * cohort.minibatch() if settings.model_based and real else 0,
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


@dataclass(frozen=True)
class _Cohort:
    """Bytes at the largest moment of each phase, on top of networks and buffers."""

    workload: Workload
    num_seeds: int
    rows: int
    """Real transitions per seed."""

    def updates(self) -> int:
        """All batches of one environment step, and one update."""
        work, settings = self.workload, self.workload.settings
        drawn = settings.utd_ratio * settings.train_batch_size_per_learner
        batches = drawn * (FLOAT_BYTES * (2 * work.transition_floats + 2 * work.action_dim) + 2 * INDEX_BYTES)
        layers = 2 * _kept(work.critic_sizes, 1) + sum(work.actor_sizes[1:-1])
        update = settings.train_batch_size_per_learner * FLOAT_BYTES * (layers + 5 * work.transition_floats)
        return self.num_seeds * (batches + update)

    @property
    def prepared_floats(self) -> int:
        """Columns that the loss prepares for a fit."""
        loss, obs_dim = self.workload.settings.model_loss, self.workload.obs_dim
        if loss in (*_NO_VALUES, "vaml_sac"):
            return 0
        if loss in _WEIGHTS:
            return 1
        if loss == "vagram":
            return obs_dim
        return VALUE_ESTIMATES * obs_dim if loss in _GRADIENTS else VALUE_ESTIMATES

    @property
    def table_floats(self) -> int:
        """Columns of a fit's data: observation, action, its change, reward, and what the loss prepares."""
        return 2 * self.workload.obs_dim + self.workload.action_dim + 1 + self.prepared_floats

    @property
    def train_rows(self) -> int:
        """Of each member's bootstrap sample."""
        return self.rows - max(1, int(self.rows * self.workload.settings.validation_fraction))

    @property
    def table(self) -> int:
        """A fit's data, per seed, and the positions of each member's bootstrap sample in it."""
        positions = self.rows + self.workload.settings.ensemble_size * self.train_rows
        return self.rows * self.table_floats * FLOAT_BYTES + positions * INDEX_BYTES

    @property
    def values(self) -> int:
        """Floats per state of a pair of critics' values, kept for their gradients."""
        work = self.workload
        passing = 4 if work.settings.normalize_features else 2
        inputs = 9 * work.obs_dim + 3 * work.action_dim
        return max(sum(work.actor_sizes[1:-1]), inputs + 2 * _kept(work.critic_sizes, passing))

    @property
    def evaluated_values(self) -> int:
        """Floats per state of a pair of critics' values alone."""
        critic = self.workload.critic_sizes
        inputs = 3 * critic[0] + 4 * self.workload.action_dim + 2 * VALUE_ESTIMATES
        return inputs + 2 * _evaluated(critic)

    def preparation(self) -> int:
        """What the loss prepares of all rows, the table made of it, and the bootstrap samples."""
        settings, obs_dim, rows = self.workload.settings, self.workload.obs_dim, self.num_seeds * self.rows
        copied = 2 if settings.model_loss in ("taylor", "taylor_hessian") else 1  # to lie beside the other columns
        table = rows * FLOAT_BYTES * (self.table_floats + copied * self.prepared_floats + obs_dim)
        positions = settings.ensemble_size * self.train_rows + self.rows
        largest = max(table, self.num_seeds * (self.table + positions * INDEX_BYTES))
        if not self.prepared_floats:
            return largest
        chunk = self.num_seeds * min(self.rows, ValueEstimates.chunk_size) * FLOAT_BYTES
        if settings.model_loss not in _GRADIENTS:
            return max(largest, 2 * rows * VALUE_ESTIMATES * FLOAT_BYTES + chunk * self.evaluated_values)
        # A second copy of the gradients while they are clipped, beside it norms or what they average to.
        gradients = rows * VALUE_ESTIMATES * obs_dim * FLOAT_BYTES
        beside = rows * FLOAT_BYTES * max(2 * VALUE_ESTIMATES, obs_dim if settings.model_loss == "vagram" else 0)
        return max(largest, 2 * gradients + beside, gradients + chunk * self.values)

    def fit(self) -> int:
        """The largest moment of a fit.

        When a seed's members have stopped, the others' tables, networks and optimisers are copied, and the last copy
        goes only when the new one is there; no minibatch is alive then.
        """
        work, seeds = self.workload, self.num_seeds
        model = work.settings.ensemble_size * model_parameters(work)
        networks = 4 * model + parameters(work.actor_sizes) + VALUE_ESTIMATES * parameters(work.critic_sizes)
        copied = self.table + networks * FLOAT_BYTES
        order = work.settings.ensemble_size * self.train_rows * 2 * INDEX_BYTES
        step = max(order + self.minibatch(), self.validation(), 2 * model * FLOAT_BYTES)
        one_less, two_less = max(0, seeds - 1), max(0, seeds - 2)
        moments = (
            seeds * step,
            one_less * (copied + step),
            (one_less + two_less) * copied,
            seeds * self.validation() + one_less * copied,
        )
        return seeds * (self.table + model * FLOAT_BYTES) + max(moments)  # with the best weights so far

    def minibatch(self) -> int:
        """A minibatch of every member, forwards and backwards, per seed."""
        work, settings = self.workload, self.workload.settings
        samples = settings.ensemble_size * min(settings.model_batch_size, self.train_rows)
        # SiLU keeps what goes into it beside what comes out.
        floats = 2 * _kept(work.model_sizes, 1) + self.table_floats + work.model_sizes[0]
        floats += 4 * work.model_sizes[-1] + 4 * (work.obs_dim + 1)
        gradient = settings.ensemble_size * model_parameters(work)
        return (samples * floats + gradient) * FLOAT_BYTES + self.loss_values(samples, differentiated=True)

    def validation(self) -> int:
        """A chunk of validation rows of every member, forwards, per seed."""
        work, settings = self.workload, self.workload.settings
        samples = settings.ensemble_size * min(EVALUATION_CHUNK, self.rows - self.train_rows)
        passing = max(_evaluated(work.model_sizes), 2 * work.model_sizes[-1] + 2 * (work.obs_dim + 1))
        floats = self.table_floats + work.model_sizes[0] + work.model_sizes[-1] + passing
        return samples * floats * FLOAT_BYTES + self.loss_values(samples, differentiated=False)

    def loss_values(self, samples: int, *, differentiated: bool) -> int:
        """The values of predictions, for losses that compare values, per seed; without gradients in chunks."""
        work, settings = self.workload, self.workload.settings
        if settings.model_loss in (*_NO_VALUES, *_GRADIENTS, *_WEIGHTS):
            return 0
        options = dict(settings.model_loss_options)
        drawn = {"cvaml": options.get("model_samples", 4), "vaml_sac": options.get("action_samples", 1)}
        states = samples * int(drawn.get(settings.model_loss, 1))
        beside = states * (3 * work.obs_dim + 2 * VALUE_ESTIMATES)
        if not differentiated:
            return (beside + min(states, ValueEstimates.chunk_size) * self.evaluated_values) * FLOAT_BYTES
        layers = VALUE_ESTIMATES * (sum(work.critic_sizes[1:-1]) + work.critic_sizes[0])
        layers += 3 * max(work.critic_sizes[1:-1]) + sum(work.actor_sizes[1:-1])
        return (beside + states * layers) * FLOAT_BYTES

    def metrics(self) -> int:
        """The fit's tables, and a sample of rows with its value gradients or through the elites."""
        work, elites = self.workload, self.workload.settings.num_elites
        gradients = self.values + 2 * VALUE_ESTIMATES * work.obs_dim
        predictions = elites * (_evaluated(work.model_sizes) + 2 * (work.model_sizes[0] + work.model_sizes[-1]))
        sample = min(self.rows, SAMPLE_SIZE) * max(gradients, predictions)
        return self.num_seeds * (self.table + (elites * model_parameters(work) + sample) * FLOAT_BYTES)

    def rollouts(self) -> int:
        """The fit's tables, which stay meanwhile, copies of the elites, and rollouts with a chunk or what is added."""
        work, settings = self.workload, self.workload.settings
        samples = self.num_seeds * settings.rollouts_per_step * settings.model_train_freq
        noise = work.obs_dim + 1 if settings.has_variance_head else 0
        # Where they start, whole rows of the buffer, their order, noise and actions.
        start = FLOAT_BYTES * (work.transition_floats + 2 * work.action_dim + noise) + 2 * INDEX_BYTES + 1
        step = FLOAT_BYTES * (work.obs_dim + 1)
        added = samples * (step + FLOAT_BYTES * (work.transition_floats + 2) + 2 * INDEX_BYTES)
        left = work.model_sizes[-1] + work.obs_dim + 1 + noise  # of the last chunk's prediction
        model = samples * step + self._chunk(work.model_sizes, samples, work.model_sizes[0], left)
        networks = settings.num_elites * model_parameters(work) * FLOAT_BYTES
        truncation = samples * (step + FLOAT_BYTES + 2 * INDEX_BYTES) + self.disagreement(samples // self.num_seeds)
        moments = max(added, model, self._chunk(work.actor_sizes, samples, 0, 0), truncation)
        return self.num_seeds * (self.table + networks) + samples * start + moments

    def disagreement(self, rows: int) -> int:
        """One chunk of the rows through all elites, and the value's gradients where they lead on average."""
        work, kind, elites = self.workload, self.workload.settings.rollout_truncation, self.workload.settings.num_elites
        if kind == "schedule":
            return 0
        by_value = kind == "value_disagreement"
        width = max(elites * max(work.model_sizes[1:]), 2 * max(work.critic_sizes[1:]) if by_value else work.obs_dim)
        chunk = min(rows, max(1, CHUNK_ELEMENTS // (self.num_seeds * width)))
        layers = max(2 * work.model_sizes[-1], _evaluated(work.model_sizes))
        predictions = work.model_sizes[0] + elites * (work.model_sizes[0] + work.model_sizes[-1] + layers)
        gradients = self.values + (elites + VALUE_ESTIMATES) * work.obs_dim if by_value else 0
        return self.num_seeds * chunk * (FLOAT_BYTES * max(predictions, gradients) + INDEX_BYTES)

    @staticmethod
    def _chunk(sizes: Sequence[int], samples: int, beside: int, left: int) -> int:
        """One chunk of the rollouts through a network: so many samples that the widest layer fills it."""
        chunk = min(samples, math.ceil(CHUNK_ELEMENTS / max(sizes[1:])))
        beside += left if chunk < samples else 0
        floats = beside + sizes[0] + sizes[-1] + max(2 * sizes[-1], _evaluated(sizes))
        return chunk * (FLOAT_BYTES * floats + INDEX_BYTES)


def _evaluated(sizes: Sequence[int]) -> int:
    """Floats per sample of an evaluation: two hidden layers at a time, one of them before and after its activation."""
    hidden = sorted(sizes[1:-1])
    return sum(hidden[-2:]) + hidden[-1]


def _kept(sizes: Sequence[int], passing: int) -> int:
    """Floats per sample of all hidden layers, kept for the way back, and ``passing`` times the widest on it."""
    return sum(sizes[1:-1]) + passing * max(sizes[1:-1])
