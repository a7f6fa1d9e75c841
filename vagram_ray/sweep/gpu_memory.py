"""What a trial will need of a GPU's memory, estimated from its settings before it runs.

The tensors are counted from the code in ``core``: what stays (networks, their optimisers, both buffers) and, on top,
the phase that needs most for a moment. A test runs cohorts on the CPU, adds up the tensors that are alive at each
operation and holds the largest sum against this estimate. What a process takes before it has any tensor is not
measured by this project (``PROCESS_BYTES``).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from vagram_ray.core.dimension_metrics import SAMPLE_SIZE
from vagram_ray.core.model_fitting import EVALUATION_CHUNK
from vagram_ray.core.model_rollouts import CHUNK_ELEMENTS
from vagram_ray.core.settings import MBPOSettings
from vagram_ray.core.value_gradients import ValueEstimates
from vagram_ray.sweep.estimates import FLOAT_BYTES, Workload, imagined_transitions, parameters, real_transitions

PROCESS_BYTES = 800 * 2**20
"""CUDA's context, PyTorch's kernels and cuBLAS' workspace: users of PyTorch report 400 to 700 MiB on recent GPUs."""
INDEX_BYTES = 8
SORT_BYTES = 32
"""Of one number that is sorted for a shuffled order: key, sorted key, position, and the sort's own workspace."""
VALUE_CHUNK = ValueEstimates.chunk_size
VALUE_ESTIMATES = 4
"""K: two critics and their targets."""
_NO_VALUES = ("nll", "mse")
"""Losses that never look at the value function."""
_VALUES_BEFORE_THE_FIT = ("vagram", "taylor", "taylor_hessian", "value_weighted", "value_weighted_published")
"""Losses that look at it once, for a table; all others (one's own too) are taken to do so in every minibatch."""


@dataclass(frozen=True)
class GpuMemory:
    """Bytes of one trial on its GPU."""

    process: int
    """Before it has any tensor."""
    networks: int
    """Weights, gradients and Adam's moments of actor, critics and model."""
    buffers: int
    """Real and imagined transitions."""
    phases: dict[str, int]
    """What is there for a moment only, by phase of the algorithm."""

    @property
    def total(self) -> int:
        """With the phase that needs most."""
        return self.process + self.networks + self.buffers + max(self.phases.values())


def gpu_memory(workload: Workload, num_seeds: int, epochs: int) -> GpuMemory:
    """Peak of a cohort of ``num_seeds`` seeds within ``epochs`` epochs."""
    settings = workload.settings
    row = workload.transition_floats * FLOAT_BYTES
    real, imagined = real_transitions(settings, epochs), imagined_transitions(settings, epochs)
    allocated = allocated_transitions(settings, real)
    phases = {
        "updates": num_seeds * _update_bytes(workload),
        # Growing, saving or reading the real buffer makes a copy of it. The imagined one has a new size as rollouts
        # get longer; when it is read, there are what is read, a copy, and the buffer of a new agent.
        "buffer copies": num_seeds
        * max(
            allocated * row, imagined * (row + 2 * INDEX_BYTES), (imagined + imagined_transitions(settings, 1)) * row
        ),
    }
    if settings.model_based and real:
        phases["fit"] = _fit_bytes(workload, num_seeds, real)
        rows = min(real, SAMPLE_SIZE)
        gradients = _value_bytes(workload, rows, differentiated=True) + rows * VALUE_ESTIMATES * workload.obs_dim * 8
        phases["metrics of a fit"] = num_seeds * (_table_bytes(workload, real) + gradients)
        phases["rollouts"] = _rollout_bytes(workload, num_seeds)
    return GpuMemory(
        process=PROCESS_BYTES,
        networks=num_seeds * _network_floats(workload) * FLOAT_BYTES,
        buffers=num_seeds * (allocated + imagined) * row,
        phases=phases,
    )


def allocated_transitions(settings: MBPOSettings, stored: int) -> int:
    """Rows that the real buffer has allocated when it holds ``stored``: 1024 doubled, at most the capacity."""
    doublings = max(0, math.ceil(math.log2(max(1, stored) / 1024)))
    return min(settings.replay_capacity, 1024 * 2**doublings)


def _network_floats(workload: Workload) -> int:
    """Floats per seed of weights, gradients and Adam's two moments; target critics have weights alone."""
    settings = workload.settings
    floats = 4 * parameters(workload.actor_sizes) + (2 * 4 + 2) * parameters(workload.critic_sizes)
    if settings.model_based:
        floats += 4 * settings.ensemble_size * parameters(workload.model_sizes)
    return floats


def _pass_floats(sizes: Sequence[int], *, differentiated: bool) -> int:
    """Floats per sample of a pass through a network: all layers, and what the widest has beside its output."""
    return sum(sizes) + (3 if differentiated else 1) * max(sizes)


def _value_bytes(workload: Workload, rows: int, *, differentiated: bool) -> int:
    """Of both critics of a pair evaluated at so many rows, after the policy's action."""
    critic = _pass_floats(workload.critic_sizes, differentiated=differentiated)
    actor = _pass_floats(workload.actor_sizes, differentiated=differentiated)
    return rows * FLOAT_BYTES * (2 * critic + actor + 4 * workload.obs_dim)


# -- SAC ---------------------------------------------------------------------------------------------------------


def _update_bytes(workload: Workload) -> int:
    """Per seed: all batches of one environment step, and one update."""
    settings = workload.settings
    drawn = settings.utd_ratio * settings.batch_size
    batches = drawn * (FLOAT_BYTES * (2 * workload.transition_floats + 2 * workload.action_dim) + 3 * INDEX_BYTES)
    return batches + 2 * _value_bytes(workload, settings.batch_size, differentiated=True)


# -- the model ---------------------------------------------------------------------------------------------------


def _fit_bytes(workload: Workload, num_seeds: int, rows: int) -> int:
    """The largest moment of a fit on ``rows`` transitions per seed.

    When a seed's members have stopped, the others' tables, networks and optimisers are copied, and the last copy goes
    only when the new one is there; no minibatch is alive then.
    """
    settings = workload.settings
    table = _table_bytes(workload, rows)
    copied = table + _copied_network_bytes(workload)
    minibatch = max(_minibatch_bytes(workload), _validation_bytes(workload, rows))
    order = round(settings.ensemble_size * rows * (1 - settings.validation_fraction)) * SORT_BYTES
    one_less, two_less = max(0, num_seeds - 1), max(0, num_seeds - 2)
    moments = (
        num_seeds * _preparation_bytes(workload, rows),
        num_seeds * (table + order + minibatch),
        num_seeds * table + one_less * (copied + order + minibatch),
        num_seeds * table + (one_less + two_less) * copied,
    )
    # The best weights so far and the copies that are made to replace some of them.
    best = num_seeds * 3 * settings.ensemble_size * parameters(workload.model_sizes) * FLOAT_BYTES
    return max(moments) + best


def _table_bytes(workload: Workload, rows: int) -> int:
    """Per seed: a fit's data as one table, each member's bootstrap sample and the validation rows."""
    settings = workload.settings
    indices = settings.ensemble_size * (1 - settings.validation_fraction) + settings.validation_fraction
    return rows * (_table_floats(workload) * FLOAT_BYTES + math.ceil(indices * INDEX_BYTES))


def _table_floats(workload: Workload) -> int:
    """Columns: observation, action, its change, reward, and what the loss prepares."""
    return 2 * workload.obs_dim + workload.action_dim + 1 + _prepared_floats(workload)


def _prepared_floats(workload: Workload) -> int:
    loss = workload.settings.model_loss
    if loss in _NO_VALUES:
        return 0
    return workload.obs_dim if loss == "vagram" else VALUE_ESTIMATES * workload.obs_dim


def _preparation_bytes(workload: Workload, rows: int) -> int:
    """Per seed: the value gradients of all rows, twice while their chunks are joined or clipped, and the table."""
    table = rows * FLOAT_BYTES * (_table_floats(workload) + _prepared_floats(workload) + 2 * workload.obs_dim)
    if workload.settings.model_loss in _NO_VALUES:
        return table
    gradients = rows * VALUE_ESTIMATES * (2 * workload.obs_dim * FLOAT_BYTES + 3 * INDEX_BYTES)
    return max(table, gradients + _value_bytes(workload, min(rows, VALUE_CHUNK), differentiated=True))


def _copied_network_bytes(workload: Workload) -> int:
    """Per seed: what a working set has for itself of model, optimiser, policy and critics."""
    floats = 4 * workload.settings.ensemble_size * parameters(workload.model_sizes)
    floats += parameters(workload.actor_sizes) + VALUE_ESTIMATES * parameters(workload.critic_sizes)
    return floats * FLOAT_BYTES


def _minibatch_bytes(workload: Workload) -> int:
    """Per seed: a minibatch of every member, forwards and backwards, and the gradient before it is joined."""
    settings = workload.settings
    samples = settings.ensemble_size * settings.model_batch_size
    # SiLU keeps what goes into it beside what comes out.
    layers = 2 * sum(workload.model_sizes) + 3 * max(workload.model_sizes)
    floats = layers + 2 * _table_floats(workload) + 8 * (workload.obs_dim + 1)
    gradient = settings.ensemble_size * parameters(workload.model_sizes) * FLOAT_BYTES
    return samples * floats * FLOAT_BYTES + gradient + _loss_value_bytes(workload, samples, differentiated=True)


def _validation_bytes(workload: Workload, rows: int) -> int:
    """Per seed: a chunk of validation rows of every member, forwards."""
    settings = workload.settings
    held_out = min(EVALUATION_CHUNK, math.ceil(rows * settings.validation_fraction))
    samples = settings.ensemble_size * held_out
    floats = _pass_floats(workload.model_sizes, differentiated=False)
    floats += 2 * _table_floats(workload) + 6 * (workload.obs_dim + 1)
    return samples * floats * FLOAT_BYTES + _loss_value_bytes(workload, samples, differentiated=False)


def _loss_value_bytes(workload: Workload, samples: int, *, differentiated: bool) -> int:
    """Per seed: the values of a minibatch's predictions, for losses that compare values."""
    settings = workload.settings
    if settings.model_loss in (*_NO_VALUES, *_VALUES_BEFORE_THE_FIT):
        return 0
    options = dict(settings.model_loss_options)
    drawn = {"cvaml": options.get("model_samples", 4), "vaml_sac": options.get("action_samples", 1)}
    rows = samples * int(drawn.get(settings.model_loss, 1))
    if not differentiated:  # chunk by chunk, with nothing left of the last one but its values
        return _value_bytes(workload, min(rows, VALUE_CHUNK), differentiated=False) + rows * 8 * FLOAT_BYTES
    return 2 * _value_bytes(workload, rows, differentiated=True)  # critics and targets stay for the way back


def _rollout_bytes(workload: Workload, num_seeds: int) -> int:
    """Of all seeds: the rollouts' rows, one chunk's activations, and copies of the elites."""
    settings = workload.settings
    rollouts = settings.rollouts_per_step * settings.model_train_freq + settings.num_elites
    obs_dim, action_dim = workload.obs_dim, workload.action_dim
    floats = 7 * (obs_dim + 1) + 5 * action_dim + 2 * workload.transition_floats
    rows = num_seeds * rollouts * (floats * FLOAT_BYTES + 8 * INDEX_BYTES)
    elites = num_seeds * settings.num_elites * parameters(workload.model_sizes) * FLOAT_BYTES
    chunks = [_chunk_bytes(sizes, num_seeds * rollouts) for sizes in (workload.model_sizes, workload.actor_sizes)]
    return rows + elites + max(chunks)


def _chunk_bytes(sizes: Sequence[int], samples: int) -> int:
    """One chunk of the rollouts through a network, forwards: so many samples that the widest layer fills it."""
    chunk = min(samples, math.ceil(CHUNK_ELEMENTS / max(sizes[1:])))
    return 2 * chunk * _pass_floats(sizes, differentiated=False) * FLOAT_BYTES
