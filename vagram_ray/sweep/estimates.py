"""What a trial will need: memory, disk and time, estimated from its settings.

The time is a cost model, not a measurement: floating-point operations, activations and calls of every phase,
each times a cost that ``measure_speed`` takes on this machine in about half a second. Expect it within a factor
of two on a CPU. It assumes that a model fit takes ``model_patience + 5`` fit epochs (early stopping decides in
the end), that evaluation episodes run to their time limit, and that trials do not disturb each other.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vagram_ray.checkpoint.segments import SEGMENT_BYTES
from vagram_ray.core.allocator import KEEP_BELOW_BYTES
from vagram_ray.sweep.tensor_memory import TensorMemory, tensor_memory
from vagram_ray.sweep.workload import FLOAT_BYTES, Workload, imagined_transitions, parameters, real_transitions

if TYPE_CHECKING:
    from vagram_ray.rllib import MBPOConfig

CHECKPOINTS_KEPT = 2
ENV_WORKER_BYTES = 40 * 2**20
"""Of a process that steps environments."""
PROCESS_BYTES = 560 * 2**20
"""Memory of a trial's process beside its tensors: PyTorch, RLlib, their libraries' buffers, what is kept for later."""
RESULT_BYTES = 25_000
"""Tune's and our own records of one training iteration."""
START_SECONDS = 12.0
"""Starting a trial's process and importing RLlib in it."""
EXTRA_FIT_EPOCHS = 5
"""Assumed fit epochs of the model beyond its patience."""
MATMUL_EFFICIENCY = 0.75
"""Share of the measured matrix-product speed that whole networks reach."""
MAX_EPOCHS_LOOKED_AT = 2000
"""Epochs whose model fits are estimated one by one; of longer runs every so many are looked at."""
SAC_CALLS, FIT_CALLS, ROLLOUT_CALLS, ACT_CALLS = 350, 250, 120, 60
"""PyTorch calls of one SAC update, one model minibatch, one imagined step and one real action."""
SAC_ACTIVATION, FIT_ACTIVATION = 4.0, 20.0
"""Costs of one activation, forwards and backwards, in SiLU evaluations."""


@dataclass(frozen=True)
class Speed:
    """Costs measured on this machine: one thread, or its GPU."""

    flops_per_s: float
    call_s: float
    activation_s: float
    env_step_s: float = 1e-4


@dataclass(frozen=True)
class TrialEstimate:
    """Needs of one trial over its whole length."""

    memory_bytes: int
    disk_bytes: int
    seconds: float


def estimate_trial(workload: Workload, num_seeds: int, epochs: int, speed: Speed) -> TrialEstimate:
    """Memory at the end of the run, kept checkpoints on disk, and wall time of one trial."""
    return TrialEstimate(
        memory_bytes=memory_bytes(workload, num_seeds, epochs),
        disk_bytes=disk_bytes(workload, num_seeds, epochs),
        seconds=START_SECONDS + trial_seconds(workload, num_seeds, epochs, speed),
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
    workers = 2 * (min(workload.env_workers, num_seeds) - 1)  # of training and of evaluation
    return PROCESS_BYTES + workers * ENV_WORKER_BYTES + resident_bytes(tensors, checkpoint)


def resident_bytes(tensors: TensorMemory, *phases: int) -> int:
    """What tensors take of a process's memory, with further phases: at their peak, and what other phases have left.

    Freed blocks stay with the process (``core.allocator``), in a heap that other phases only partly reuse. How much
    that is has been measured to be at most what the phase with the second largest need takes.
    """
    second, largest = sorted((0, *tensors.phases.values(), *phases))[-2:]
    return tensors.networks + tensors.buffers + largest + min(second, KEEP_BELOW_BYTES)


# -- time ------------------------------------------------------------------------------------------------------


def forward_flops(sizes: Sequence[int]) -> float:
    """Floating-point operations of one forward pass for one sample; a backward pass takes twice as many."""
    return 2.0 * sum(inputs * outputs for inputs, outputs in zip(sizes[:-1], sizes[1:], strict=True))


def trial_seconds(workload: Workload, num_seeds: int, epochs: int, speed: Speed) -> float:
    """Wall time of ``epochs`` epochs with ``num_seeds`` seeds, without the start of the process."""
    settings = workload.settings
    total = settings.num_steps_sampled_before_learning_starts * num_seeds * speed.env_step_s
    constant = _stepping_seconds(workload, num_seeds, speed) + _sac_seconds(workload, num_seeds, speed)
    looked_at = range(0, epochs, math.ceil(epochs / MAX_EPOCHS_LOOKED_AT))
    per_epoch = [
        _model_seconds(workload, num_seeds, epoch, speed) if settings.model_based else 0.0 for epoch in looked_at
    ]
    return total + epochs * (constant + sum(per_epoch) / len(per_epoch))


def _stepping_seconds(workload: Workload, num_seeds: int, speed: Speed) -> float:
    """Real steps and, averaged over the epochs between two evaluations, evaluation episodes."""
    steps = float(workload.settings.epoch_length)
    if workload.evaluation_interval:
        steps += workload.evaluation_episodes * workload.max_episode_steps / workload.evaluation_interval
    return steps * (num_seeds * speed.env_step_s + ACT_CALLS * speed.call_s)


def _sac_seconds(workload: Workload, num_seeds: int, speed: Speed) -> float:
    """SAC updates of one epoch."""
    settings = workload.settings
    actor, critic = forward_flops(workload.actor_sizes), forward_flops(workload.critic_sizes)
    share = 1.0 / settings.actor_update_period
    # Critic step: next action, two targets, two critics with gradients; actor step: actor with gradients and two
    # critics differentiated for the action alone.
    flops = actor + 2 * critic + 6 * critic + share * (3 * actor + 4 * critic)
    units = (1 + share) * sum(workload.actor_sizes[1:]) + (4 + 2 * share) * sum(workload.critic_sizes[1:])
    samples = num_seeds * settings.batch_size
    update = (
        samples * flops / (MATMUL_EFFICIENCY * speed.flops_per_s)
        + samples * units * SAC_ACTIVATION * speed.activation_s
        + SAC_CALLS * speed.call_s
    )
    return settings.epoch_length * settings.utd_ratio * update


def _model_seconds(workload: Workload, num_seeds: int, epoch: int, speed: Speed) -> float:
    """Model fits and imagined rollouts of one epoch."""
    settings = workload.settings
    fits = math.ceil(settings.epoch_length / settings.model_train_freq)
    data = real_transitions(settings, epoch) + settings.epoch_length / 2
    fit_epochs = settings.model_patience + EXTRA_FIT_EPOCHS
    fit_epochs = min(fit_epochs, settings.model_max_epochs or fit_epochs)
    held_out = settings.validation_fraction
    flops, units = forward_flops(workload.model_sizes), sum(workload.model_sizes[1:])
    samples = num_seeds * settings.ensemble_size * data
    rate = MATMUL_EFFICIENCY * speed.flops_per_s
    minibatches = math.ceil(data * (1 - held_out) / settings.model_batch_size)
    fit_epoch = (
        samples * flops * (3 * (1 - held_out) + held_out) / rate
        + samples * units * FIT_ACTIVATION * speed.activation_s
        + minibatches * FIT_CALLS * speed.call_s
    )
    length = settings.rollout_length_at(epoch)
    imagined = num_seeds * settings.rollouts_per_step * settings.model_train_freq
    rollout_flops = flops + forward_flops(workload.actor_sizes)
    rollout_units = units + sum(workload.actor_sizes[1:])
    if settings.rollout_truncation != "schedule":  # all elites predict, as long as the rollout goes on
        rollout_flops += settings.num_elites * flops
        rollout_units += settings.num_elites * units
    if settings.rollout_truncation == "value_disagreement":  # four critics forwards and backwards, and the policy
        rollout_flops += 4 * 2 * forward_flops(workload.critic_sizes) + forward_flops(workload.actor_sizes)
        rollout_units += 4 * sum(workload.critic_sizes[1:]) + sum(workload.actor_sizes[1:])
    imagined_step = imagined * (rollout_flops / rate + rollout_units * SAC_ACTIVATION * speed.activation_s)
    imagined_step += ROLLOUT_CALLS * speed.call_s
    return fits * (fit_epochs * fit_epoch + length * imagined_step)


# -- the machine's speed ---------------------------------------------------------------------------------------


def measure_speed(use_gpu: bool = False) -> Speed:
    """Costs of a matrix product, of an activation and of a call; takes less than half a second."""
    import torch

    device = "cuda" if use_gpu and torch.cuda.is_available() else "cpu"
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        size = 256 if device == "cpu" else 2048
        square = torch.randn(size, size, device=device)
        values, tiny = torch.randn(1 << 17, device=device), torch.zeros(8, device=device)
        matmul = _best_seconds(lambda: square @ square, device)
        silu = _best_seconds(lambda: torch.nn.functional.silu(values), device)
        return Speed(
            flops_per_s=2.0 * size**3 / matmul,
            call_s=_best_seconds(lambda: tiny + 1.0, device),
            activation_s=silu / len(values),
        )
    finally:
        torch.set_num_threads(threads)


def measure_env_step(config: MBPOConfig) -> float:
    """Seconds of one environment step, distractors included, over at most 0.2 seconds of random actions."""
    env = config.environment_spec().make(0)
    env.action_space.seed(0)
    try:
        env.reset()
        start, steps = time.perf_counter(), 0
        while steps < 500 and time.perf_counter() - start < 0.2:
            _, _, terminated, truncated, _ = env.step(env.action_space.sample())
            steps += 1
            if terminated or truncated:
                env.reset()
        return (time.perf_counter() - start) / steps
    finally:
        env.close()


def _best_seconds(call: Callable[[], object], device: str, blocks: int = 5, block_s: float = 0.015) -> float:
    """Shortest mean time of a call over a few blocks: what it costs when nothing disturbs it."""
    import torch

    def synchronize() -> None:
        if device == "cuda":
            torch.cuda.synchronize()

    call()
    synchronize()
    best = math.inf
    for _ in range(blocks):
        start, count = time.perf_counter(), 0
        while time.perf_counter() - start < block_s:
            for _ in range(20):
                call()
            count += 20
            synchronize()
        best = min(best, (time.perf_counter() - start) / count)
    return best
