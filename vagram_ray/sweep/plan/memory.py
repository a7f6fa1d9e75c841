"""What a trial needs of memory and disk, from its settings alone, before anything runs.

An upper estimate: of tensors up to 2.5 times what running cohorts held (``python -m benchmarks.memory``), of a process
less, as most of a small one is not tensors. It decides a trial's share of a GPU and what the plan says. A pack that
still does not fit is divided when it runs.
"""

from __future__ import annotations

import math

from vagram_ray.checkpoint.history import Kept
from vagram_ray.checkpoint.segments import SEGMENT_BYTES
from vagram_ray.core.model_fitting import EVALUATION_CHUNK
from vagram_ray.core.model_losses import get_model_loss
from vagram_ray.core.model_rollouts import CHUNK_ELEMENTS
from vagram_ray.sweep.plan.workload import (
    FLOAT_BYTES,
    Workload,
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


def tensor_bytes(workload: Workload, num_seeds: int, epochs: int) -> int:
    """Peak of a cohort's tensors within ``epochs`` epochs.

    These are networks and buffers, the batches of updates, and the largest of three: a copy of a buffer, a model fit,
    imagined rollouts.
    """
    settings, row = workload.settings, workload.transition_floats * FLOAT_BYTES
    real, imagined = real_transitions(settings, epochs), imagined_transitions(settings, epochs)
    allocated = min(settings.replay_capacity, 2 * real)  # the buffer doubles
    kept = network_floats(workload) * FLOAT_BYTES + (allocated + imagined) * row
    work = [max(real, imagined) * (row + 2 * INDEX_BYTES)]
    if settings.model_based and real:
        work += [_fit(workload, real), _rollouts(workload)]
    return num_seeds * (kept + _updates(workload) + max(work))


def network_floats(workload: Workload) -> int:
    """Floats per seed of weights, gradients and Adam's two moments. Target critics have weights alone."""
    actor, critic = parameters(workload.actor_sizes), parameters(workload.critic_sizes)
    return 4 * actor + (2 * 4 + 2) * critic + 4 * workload.ensemble_parameters


def _updates(workload: Workload) -> int:
    """All batches of an environment step, and the activations of one update."""
    settings = workload.settings
    batches = settings.utd_ratio * 2 * (workload.transition_floats * FLOAT_BYTES + INDEX_BYTES)
    activations = 4 * sum(workload.critic_sizes) + sum(workload.actor_sizes) + 5 * workload.transition_floats
    return settings.train_batch_size_per_learner * (batches + activations * FLOAT_BYTES)


def _fit(workload: Workload, rows: int) -> int:
    """Copies of the fit's table and of the model, a chunk of rows in all members, and one in the critics."""
    settings, loss = workload.settings, get_model_loss(workload.settings.model_loss)
    columns = workload.transition_floats + (3 * workload.obs_dim if loss.prepare is not None else 0)
    table = rows * (columns * FLOAT_BYTES + (settings.ensemble_size + 1) * INDEX_BYTES)
    values = VALUES * max(workload.critic_sizes)
    per_sample = 3 * max(workload.model_sizes) + 2 * workload.transition_floats + (values if loss.family is None else 0)
    chunk = min(rows, EVALUATION_CHUNK) * (settings.ensemble_size * per_sample + 4 * values)
    return 3 * table + (chunk + 8 * workload.ensemble_parameters) * FLOAT_BYTES


def _rollouts(workload: Workload) -> int:
    """Imagined transitions on their way to the buffer, and a chunk of them in a network."""
    samples = workload.settings.rollouts_per_step * workload.settings.model_train_freq
    chunk = min(samples * max(workload.model_sizes), CHUNK_ELEMENTS)
    return (samples * 5 * workload.transition_floats + 4 * chunk) * FLOAT_BYTES


# -- of a GPU, of a process, on disk ---------------------------------------------------------------------------------


def gpu_bytes(workload: Workload, num_seeds: int, epochs: int) -> int:
    """Peak of a trial on its GPU."""
    return CUDA_BYTES + tensor_bytes(workload, num_seeds, epochs)


def memory_bytes(workload: Workload, num_seeds: int, epochs: int) -> int:
    """Peak of a trial on a CPU: the process, its tensors, and a checkpoint of the buffers as bytes."""
    settings, row = workload.settings, workload.transition_floats * FLOAT_BYTES
    real = num_seeds * real_transitions(settings, epochs) * row
    imagined = num_seeds * imagined_transitions(settings, epochs) * row
    return PROCESS_BYTES + tensor_bytes(workload, num_seeds, epochs) + 3 * min(real, 2 * SEGMENT_BYTES) + imagined


def checkpoint_bytes(workload: Workload, num_seeds: int, epochs: int) -> int:
    """What a checkpoint at the end of the run has for itself: networks, their Adam and the imagined buffer."""
    floats = 3 * parameters(workload.actor_sizes) + 2 * 4 * parameters(workload.critic_sizes)
    floats += 3 * workload.ensemble_parameters
    floats += imagined_transitions(workload.settings, epochs) * workload.transition_floats
    return num_seeds * floats * FLOAT_BYTES


def disk_bytes(workload: Workload, num_seeds: int, epochs: int, checkpoint_every: int | None = None) -> int:
    """Most that one trial has on disk: its checkpoints and the one being written, the real buffer, the results.

    Checkpoints share the segments of the real buffer. Small ones are merged into one of twice their size, and stay
    where a checkpoint that holds them does.
    """
    kept = Kept.of(workload.checkpoints_kept).most(epochs, checkpoint_every)
    real = num_seeds * real_transitions(workload.settings, epochs) * workload.transition_floats * FLOAT_BYTES
    copies = 1 + min(kept, math.ceil(math.log2(epochs + 1)))
    return (kept + 1) * checkpoint_bytes(workload, num_seeds, epochs) + copies * real + epochs * RESULT_BYTES
