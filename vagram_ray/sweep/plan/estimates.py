"""What a trial will need: memory, disk and time, estimated from its settings.

The time is a sum of measured costs (``vagram_ray.sweep.plan.probe``), each times how often its work is done. Three
things are assumed: a model fit takes ``model_patience + EXTRA_FIT_EPOCHS`` fit epochs (early stopping decides in the
end), evaluation episodes run to their time limit, and trials do not disturb each other.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

from vagram_ray.checkpoint.segments import SEGMENT_BYTES
from vagram_ray.core.allocator import KEEP_BELOW_BYTES
from vagram_ray.sweep.plan.costs import Costs
from vagram_ray.sweep.plan.tensor_memory import TensorMemory, tensor_memory
from vagram_ray.sweep.plan.workload import FLOAT_BYTES, Workload, imagined_transitions, parameters, real_transitions

CHECKPOINTS_KEPT = 2
PROCESS_BYTES = 560 * 2**20
"""Memory of a trial's process beside its tensors: PyTorch, RLlib, their libraries' buffers, what is kept for later."""
RESULT_BYTES = 25_000
"""Tune's and our own records of one training iteration."""
START_SECONDS = 12.0
"""Starting a trial's process and importing RLlib in it."""
EXTRA_FIT_EPOCHS = 5
"""Assumed fit epochs of the model beyond its patience: fits begin where the last one has ended, and most improve for a
few epochs only."""


@dataclass(frozen=True)
class TrialEstimate:
    """Needs of one trial over its whole length."""

    memory_bytes: int
    disk_bytes: int
    seconds: float
    """NaN where no costs are known."""
    epoch_ends: tuple[float, ...] = ()
    """Seconds at the end of each epoch, counted from the start of the first; empty where no costs are known."""

    def seconds_between(self, first: int, last: int, epochs: int) -> float:
        """Of ``epochs`` epochs, those from number ``first`` up to ``last``; all alike where no more is known."""
        if not self.epoch_ends:
            return self.seconds * (last - first) / epochs
        begin, end = ((self.epoch_ends[number - 1] if number else 0.0) for number in (first, last))
        return end - begin


def estimate_trial(workload: Workload, num_seeds: int, epochs: int, costs: Costs | None) -> TrialEstimate:
    """Memory at the end of the run, kept checkpoints on disk, and wall time of one trial."""
    seconds = epoch_seconds(workload, num_seeds, epochs, costs) if costs is not None else ()
    return TrialEstimate(
        memory_bytes=memory_bytes(workload, num_seeds, epochs),
        disk_bytes=disk_bytes(workload, num_seeds, epochs),
        seconds=START_SECONDS + sum(seconds) if seconds else math.nan,
        epoch_ends=tuple(itertools.accumulate(seconds)),
    )


# -- memory and disk -------------------------------------------------------------------------------------------


def checkpoint_bytes(workload: Workload, num_seeds: int, epochs: int) -> int:
    """What a checkpoint at the end of the run has for itself: networks, their Adam and the imagined buffer."""
    settings = workload.settings
    floats = 3 * parameters(workload.actor_sizes) + 2 * 4 * parameters(workload.critic_sizes)
    if settings.model_based:
        floats += 3 * settings.ensemble_size * parameters(workload.model_sizes)
        floats += imagined_transitions(settings, epochs) * workload.transition_floats
    return num_seeds * floats * FLOAT_BYTES


def disk_bytes(workload: Workload, num_seeds: int, epochs: int) -> int:
    """Most that one trial has on disk: its checkpoints and the one being written, the real buffer, the results.

    Checkpoints share the segments of the real buffer; while small ones are merged the disk holds them twice.
    """
    real = num_seeds * real_transitions(workload.settings, epochs) * workload.transition_floats * FLOAT_BYTES
    return (CHECKPOINTS_KEPT + 1) * checkpoint_bytes(workload, num_seeds, epochs) + 2 * real + epochs * RESULT_BYTES


def memory_bytes(workload: Workload, num_seeds: int, epochs: int) -> int:
    """Peak of a trial on a CPU like this one: the process, its tensors, and in the end a checkpoint of them."""
    settings, row = workload.settings, workload.transition_floats * FLOAT_BYTES
    tensors = tensor_memory(workload, num_seeds, epochs)
    # A file is made as bytes, twice. Real transitions are copied for that, the new ones and with them segments that
    # are still small.
    segments = 2 * SEGMENT_BYTES + num_seeds * settings.epoch_length * row
    real = min(num_seeds * real_transitions(settings, epochs) * row, segments)
    checkpoint = max(2 * num_seeds * imagined_transitions(settings, epochs) * row, 3 * real)
    return PROCESS_BYTES + resident_bytes(tensors, checkpoint)


def resident_bytes(tensors: TensorMemory, *phases: int) -> int:
    """What tensors take of a process's memory, with further phases: at their peak, and what other phases have left.

    Freed blocks stay with the process (``core.allocator``), in a heap that other phases only partly reuse. How much
    that is has been measured to be at most what the phase with the second largest need takes.
    """
    second, largest = sorted((0, *tensors.phases.values(), *phases))[-2:]
    return tensors.networks + tensors.buffers + largest + min(second, KEEP_BELOW_BYTES)


# -- time ------------------------------------------------------------------------------------------------------


def epoch_seconds(workload: Workload, num_seeds: int, epochs: int, costs: Costs) -> tuple[float, ...]:
    """Seconds of each epoch of a cohort, the first with the warm-up."""
    settings, own = workload.settings, costs.of(num_seeds)
    steps = float(settings.epoch_length)
    if workload.evaluation_interval:  # averaged over the epochs between two evaluations
        steps += workload.evaluation_episodes * workload.max_episode_steps / workload.evaluation_interval
    constant = steps * own.env_step_s + settings.epoch_length * settings.utd_ratio * own.sac_update_s
    seconds = [constant] * epochs
    if settings.model_based:
        seconds = [constant + _model_seconds(workload, epoch, own) for epoch in range(epochs)]
    seconds[0] += settings.num_steps_sampled_before_learning_starts * own.env_step_s
    return tuple(seconds)


def environment_seconds(workload: Workload, num_seeds: int, epochs: int, costs: Costs) -> float:
    """Of all epochs, those in which environments step: with a GPU, the part that a core works."""
    nothing_else = Costs(costs.num_seeds, costs.env_step_s, 0.0)
    return sum(epoch_seconds(workload, num_seeds, epochs, nothing_else))


def _model_seconds(workload: Workload, epoch: int, costs: Costs) -> float:
    """Model fits and imagined rollouts of one epoch."""
    settings = workload.settings
    fits = math.ceil(settings.epoch_length / settings.model_train_freq)
    rows = real_transitions(settings, epoch) + settings.epoch_length / 2
    fit_epochs = settings.model_patience + EXTRA_FIT_EPOCHS
    fit_epochs = min(fit_epochs, settings.model_max_epochs or fit_epochs)
    fit = costs.fit_s + rows * (costs.fit_row_s + fit_epochs * costs.fit_epoch_row_s)
    rollouts = settings.rollouts_per_step * settings.model_train_freq * settings.rollout_length_at(epoch)
    return fits * (fit + rollouts * costs.imagined_s)
