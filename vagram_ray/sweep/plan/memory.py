"""What a trial needs of memory and disk, from its settings alone, before anything runs.

A trial's tensors are its networks, its buffers, and what the phase with the largest need holds beside them. Four phases
are counted, each by its largest tensors. The sum was at least what running cohorts held and at most a quarter more
(``python -m benchmarks.memory``). It decides a trial's share of a GPU and what the plan says. A pack that still does
not fit is divided when it runs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from vagram_ray.checkpoint.history import Kept
from vagram_ray.checkpoint.segments import SEGMENT_BYTES
from vagram_ray.core.allocator import KEEP_BELOW_BYTES
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
VALUES = 4
"""K: two critics and their targets."""
PROCESS_BYTES = 560 * 2**20
"""A trial's process beside its tensors: PyTorch, RLlib, their libraries' buffers, what is kept for later."""
RESULT_BYTES = 25_000
"""Tune's and our own records of one training iteration."""
CUDA_BYTES = 800 * 2**20
"""CUDA's context, PyTorch's kernels and cuBLAS' workspace. Users of PyTorch report 400 to 700 MiB on recent GPUs. This
project has not measured it."""
SORT_BYTES = 16
"""A GPU's sort of a shuffled order takes so much per number beside its tensors: copies of key and position."""


@dataclass(frozen=True)
class TensorMemory:
    """Bytes of a cohort's tensors."""

    networks: int
    """Weights, gradients and Adam's moments of actor, critics and model."""
    buffers: int
    """Real and imagined transitions."""
    phases: dict[str, int]
    """What each phase of the algorithm holds beside them at its largest moment."""

    @property
    def total(self) -> int:
        """With the phase that needs most."""
        return self.networks + self.buffers + max(self.phases.values())


def tensor_memory(workload: Workload, num_seeds: int, epochs: int) -> TensorMemory:
    """Peak of a cohort of ``num_seeds`` seeds within ``epochs`` epochs."""
    settings, row = workload.settings, workload.transition_floats * FLOAT_BYTES
    real, imagined = real_transitions(settings, epochs), imagined_transitions(settings, epochs)
    grows = settings.rollout_length_at(0) != settings.rollout_length_at(max(0, epochs - 1))
    # Transitions are copied to be saved, or when the imagined buffer is enlarged.
    copied = max(real * (row + INDEX_BYTES), imagined * (row + 2 * INDEX_BYTES * grows))
    phases = {"updates": num_seeds * _updates(workload), "copies of buffers": num_seeds * copied}
    if settings.model_based and real:
        phases |= _model_phases(workload, num_seeds, real)
    return TensorMemory(
        networks=num_seeds * network_floats(workload) * FLOAT_BYTES,
        buffers=num_seeds * (allocated_transitions(settings, real) + imagined) * row,
        phases=phases,
    )


def network_floats(workload: Workload) -> int:
    """Floats per seed of weights, gradients and Adam's two moments. Target critics have weights alone."""
    actor, critic = parameters(workload.actor_sizes), parameters(workload.critic_sizes)
    return 4 * actor + (2 * 4 + 2) * critic + 4 * workload.ensemble_parameters


def _updates(workload: Workload) -> int:
    """All batches of an environment step, and one update, per seed."""
    settings, floats = workload.settings, workload.transition_floats + workload.action_dim
    critics, actor = workload.critic_sizes[1:-1], workload.actor_sizes[1:-1]
    batches = settings.utd_ratio * settings.train_batch_size_per_learner * 2 * (floats * FLOAT_BYTES + INDEX_BYTES)
    activations = 2 * (sum(critics) + max(critics)) + sum(actor) + 5 * workload.transition_floats
    return batches + settings.train_batch_size_per_learner * activations * FLOAT_BYTES


def _model_phases(workload: Workload, num_seeds: int, rows: int) -> dict[str, int]:
    """Phases around a model fit on ``rows`` transitions per seed."""
    settings, obs_dim = workload.settings, workload.obs_dim
    members = settings.ensemble_size
    trained = rows - max(1, int(rows * settings.validation_fraction))
    prepared, gradients = _prepared_floats(workload)
    columns = _table_floats(workload)
    # The table, and the positions of each member's bootstrap sample in it.
    table = rows * columns * FLOAT_BYTES + (rows + members * trained) * INDEX_BYTES
    preparing = max(
        FLOAT_BYTES * rows * (columns + 2 * prepared + obs_dim),
        table + members * rows * INDEX_BYTES,
        FLOAT_BYTES * _preparing_values(workload, rows, prepared, gradients),
    )
    return {
        "preparing a fit": num_seeds * preparing,
        "fit": _fit(workload, num_seeds, table, trained, rows - trained),
        "metrics of a fit": num_seeds * (table + min(rows, SAMPLE_SIZE) * FLOAT_BYTES * _metrics_floats(workload)),
        "rollouts": num_seeds * table + _rollouts(workload, num_seeds),
    }


def _table_floats(workload: Workload) -> int:
    """Columns of a fit's table: observation, action, change, reward, and what the loss prepares."""
    return 2 * workload.obs_dim + workload.action_dim + 1 + _prepared_floats(workload)[0]


def _prepared_floats(workload: Workload) -> tuple[int, int]:
    """Columns that the loss prepares for a fit, and value gradients that it computes for them, per transition."""
    loss, obs_dim = workload.settings.model_loss, workload.obs_dim
    if loss in ("nll", "mse", "vaml_sac"):
        return 0, 0
    if loss == "vagram":
        return obs_dim, VALUES * obs_dim
    if loss in ("taylor", "taylor_hessian"):
        return VALUES * obs_dim, VALUES * obs_dim
    return (1 if loss in _WEIGHTED else VALUES), 0


def _preparing_values(workload: Workload, rows: int, prepared: int, gradients: int) -> int:
    """Floats per seed of all rows' values or value gradients, and a chunk of rows in the critics."""
    chunk = min(rows, ValueEstimates.chunk_size)
    if not gradients:
        return 2 * VALUES * rows + chunk * _evaluated_floats(workload) if prepared else 0
    averages = workload.obs_dim if prepared == workload.obs_dim else 0
    clipping = rows * (2 * gradients + max(2 * VALUES, averages))
    return max(clipping, rows * gradients + chunk * _value_floats(workload))


_WEIGHTED = ("value_weighted", "value_weighted_published")


def _value_floats(workload: Workload) -> int:
    """Floats per state of a pair of critics' values, kept for their gradients."""
    critics, passing = workload.critic_sizes[1:-1], 4 if workload.settings.normalize_features else 2
    inputs = 9 * workload.obs_dim + 3 * workload.action_dim
    return inputs + 2 * (sum(critics) + passing * max(critics))


def _metrics_floats(workload: Workload) -> int:
    """Floats per state of the metrics of a fit: value gradients, or predictions of the elites."""
    sizes, elites = workload.model_sizes, workload.settings.num_elites
    predictions = elites * (3 * max(sizes[1:-1]) + 2 * (sizes[0] + sizes[-1]))
    return max(_value_floats(workload) + 2 * VALUES * workload.obs_dim, predictions)


def _evaluated_floats(workload: Workload) -> int:
    """Floats per state of a pair of critics' values alone."""
    sizes = workload.critic_sizes
    return 3 * sizes[0] + 6 * max(sizes[1:-1])


def _fit(workload: Workload, num_seeds: int, table: int, trained: int, validated: int) -> int:
    """The largest moment of a fit.

    When a seed's members have stopped, the others' tables and networks are copied, and the last copy goes only when
    the new one is there. No minibatch is alive then.
    """
    settings, sizes = workload.settings, workload.model_sizes
    members, hidden, outputs = settings.ensemble_size, sizes[1:-1], sizes[-1]
    model = workload.ensemble_parameters * FLOAT_BYTES
    policy = parameters(workload.actor_sizes) + VALUES * parameters(workload.critic_sizes)
    copied = table + 4 * model + policy * FLOAT_BYTES
    columns = sizes[0] + _table_floats(workload)
    step = members * trained * 2 * INDEX_BYTES + _minibatch(workload, trained)
    samples = members * min(EVALUATION_CHUNK, validated)
    validation = FLOAT_BYTES * samples * (3 * max(hidden) + columns + 3 * outputs)
    if states := _states_per_sample(workload):
        chunk = min(states * samples, ValueEstimates.chunk_size) * _evaluated_floats(workload)
        validation += FLOAT_BYTES * (states * samples * (3 * workload.obs_dim + 2 * VALUES) + chunk)
    step, others = max(step, validation, 2 * model), num_seeds - 1
    return num_seeds * (table + model) + max(num_seeds * step + others * copied, (2 * others - 1) * copied)


def _minibatch(workload: Workload, rows: int) -> int:
    """A minibatch of every member, forwards and backwards, per seed, of ``rows`` transitions if there are no more."""
    settings, sizes = workload.settings, workload.model_sizes
    samples = settings.ensemble_size * min(settings.model_batch_size, rows)
    # SiLU keeps what goes into it beside what comes out.
    floats = 2 * (sum(sizes[1:-1]) + max(sizes[1:-1])) + 6 * sizes[-1] + sizes[0] + _table_floats(workload)
    return FLOAT_BYTES * (samples * (floats + _minibatch_values(workload)) + workload.ensemble_parameters)


def _minibatch_values(workload: Workload) -> int:
    """Floats per sample of the values of predictions, for losses that compare values."""
    critics, actor = workload.critic_sizes, workload.actor_sizes[1:-1]
    layers = VALUES * (sum(critics[1:-1]) + critics[0]) + 3 * max(critics[1:-1]) + sum(actor)
    return _states_per_sample(workload) * (layers + 3 * workload.obs_dim + 2 * VALUES)


def _states_per_sample(workload: Workload) -> int:
    """States per sample whose values a loss evaluates in a minibatch. One's own losses are taken to do so."""
    settings = workload.settings
    if settings.model_loss in ("nll", "mse", "vagram", "taylor", "taylor_hessian", *_WEIGHTED):
        return 0
    drawn = {"cvaml": ("model_samples", 4), "vaml_sac": ("action_samples", 1)}.get(settings.model_loss, ("", 1))
    return int(dict(settings.model_loss_options).get(*drawn))


def _rollouts(workload: Workload, num_seeds: int) -> int:
    """Imagined rollouts with what they add to the buffer, and a chunk of them in a network, beside the fit's tables."""
    settings, work, sizes = workload.settings, workload, workload.model_sizes
    samples = num_seeds * settings.rollouts_per_step * settings.model_train_freq
    start = work.transition_floats + 2 * work.action_dim + 2 * work.obs_dim
    added = work.transition_floats + 2 * INDEX_BYTES // FLOAT_BYTES
    moments = max(samples * added, _chunk_floats(sizes, samples), _chunk_floats(work.actor_sizes, samples))
    elites = num_seeds * settings.num_elites * workload.ensemble_parameters // settings.ensemble_size
    return samples * 2 * INDEX_BYTES + FLOAT_BYTES * (samples * (start + work.obs_dim + 3) + elites + moments)


def _chunk_floats(sizes: tuple[int, ...], samples: int) -> int:
    """Of so many samples that the widest layer fills a chunk: two hidden layers, inputs, outputs."""
    hidden = sorted(sizes[1:-1])
    rows = min(samples, math.ceil(CHUNK_ELEMENTS / max(sizes[1:])))
    return rows * (max(sum(hidden[-2:]) + hidden[-1], 2 * sizes[-1]) + sizes[0] + 2 * sizes[-1])


# -- of a GPU, of a process, on disk ---------------------------------------------------------------------------------


def gpu_bytes(workload: Workload, num_seeds: int, epochs: int) -> int:
    """Peak of a trial on its GPU: CUDA's own memory, the tensors, and what operations keep for themselves."""
    settings, tensors = workload.settings, tensor_memory(workload, num_seeds, epochs)
    workspace = 0
    if settings.model_based:
        rows = settings.ensemble_size * real_transitions(settings, epochs) * (1 - settings.validation_fraction)
        workspace += round(num_seeds * rows * SORT_BYTES)
    if settings.execution == "cuda_graphs":  # recorded work keeps its memory while it is not replayed
        workspace += num_seeds * max(_updates(workload), _minibatch(workload, settings.model_batch_size))
    return CUDA_BYTES + tensors.total + workspace


def checkpoint_bytes(workload: Workload, num_seeds: int, epochs: int) -> int:
    """What a checkpoint at the end of the run has for itself: networks, their Adam and the imagined buffer."""
    floats = 3 * parameters(workload.actor_sizes) + 2 * 4 * parameters(workload.critic_sizes)
    if workload.settings.model_based:
        floats += 3 * workload.settings.ensemble_size * parameters(workload.model_sizes)
        floats += imagined_transitions(workload.settings, epochs) * workload.transition_floats
    return num_seeds * floats * FLOAT_BYTES


def disk_bytes(workload: Workload, num_seeds: int, epochs: int, checkpoint_every: int | None = None) -> int:
    """Most that one trial has on disk: its checkpoints and the one being written, the real buffer, the results.

    Checkpoints share the segments of the real buffer. Small ones are merged into one of twice their size, and stay
    where a checkpoint that holds them does: with few checkpoints the disk has them twice, with many each size.
    """
    kept = Kept.of(workload.checkpoints_kept).most(epochs, checkpoint_every)
    real = num_seeds * real_transitions(workload.settings, epochs) * workload.transition_floats * FLOAT_BYTES
    copies = 1 + min(kept, math.ceil(math.log2(epochs + 1))) if kept > 3 else 2
    return (kept + 1) * checkpoint_bytes(workload, num_seeds, epochs) + copies * real + epochs * RESULT_BYTES


def memory_bytes(workload: Workload, num_seeds: int, epochs: int) -> int:
    """Peak of a trial on a CPU: the process, its tensors, and in the end a checkpoint of them."""
    settings, row = workload.settings, workload.transition_floats * FLOAT_BYTES
    # A file is made as bytes, twice. Real transitions are copied for that, the new ones and with them segments that
    # are still small.
    segments = 2 * SEGMENT_BYTES + num_seeds * settings.epoch_length * row
    real = min(num_seeds * real_transitions(settings, epochs) * row, segments)
    checkpoint = max(2 * num_seeds * imagined_transitions(settings, epochs) * row, 3 * real)
    return PROCESS_BYTES + resident_bytes(tensor_memory(workload, num_seeds, epochs), checkpoint)


def resident_bytes(tensors: TensorMemory, *phases: int) -> int:
    """What tensors take of a process's memory, with further phases: at their peak, and what other phases have left.

    Freed blocks stay with the process (``core.allocator``), in a heap that other phases only partly reuse. At most what
    the phase with the second largest need takes was seen to stay.
    """
    second, largest = sorted((0, *tensors.phases.values(), *phases))[-2:]
    return tensors.networks + tensors.buffers + largest + min(second, KEEP_BELOW_BYTES)
