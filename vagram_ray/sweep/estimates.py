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

from vagram_ray.core.settings import MBPOSettings

if TYPE_CHECKING:
    from vagram_ray.rllib import MBPOConfig

FLOAT_BYTES = 4
CHECKPOINTS_KEPT = 2
PROCESS_BYTES = 600 * 2**20
"""Memory of a trial's process with PyTorch and RLlib imported and nothing learned."""
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
class Workload:
    """What a cell's configuration asks for, as far as it costs anything."""

    settings: MBPOSettings
    env_id: str
    obs_dim: int
    action_dim: int
    evaluation_interval: int | None
    evaluation_episodes: int
    max_episode_steps: int

    @classmethod
    def of(cls, config: MBPOConfig) -> Workload:
        """The workload of a configuration without search spaces."""
        import gymnasium as gym

        spec = config.environment_spec()
        obs_dim, action_dim = spec.dimensions()
        registered = gym.registry.get(spec.env_id.rpartition(":")[2])
        steps = dict(spec.env_kwargs).get("max_episode_steps") or (registered and registered.max_episode_steps)
        return cls(
            settings=config.to_settings(),
            env_id=spec.env_id,
            obs_dim=obs_dim,
            action_dim=action_dim,
            evaluation_interval=config.evaluation_interval,
            evaluation_episodes=config.evaluation_duration if isinstance(config.evaluation_duration, int) else 10,
            max_episode_steps=steps or 1000,
        )

    @property
    def transition_floats(self) -> int:
        """Floats of one stored transition: obs, action, reward, next_obs, terminated."""
        return 2 * self.obs_dim + self.action_dim + 2

    @property
    def actor_sizes(self) -> tuple[int, ...]:
        """Layer widths of the actor, from input to output."""
        return (self.obs_dim, *self.settings.actor_hidden_sizes, 2 * self.action_dim)

    @property
    def critic_sizes(self) -> tuple[int, ...]:
        """Layer widths of one critic."""
        return (self.obs_dim + self.action_dim, *self.settings.critic_hidden_sizes, 1)

    @property
    def model_sizes(self) -> tuple[int, ...]:
        """Layer widths of one ensemble member."""
        settings = self.settings
        outputs = (self.obs_dim + 1) * (2 if settings.has_variance_head else 1)
        return (self.obs_dim + self.action_dim, *[settings.hidden_size] * settings.num_layers, outputs)


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


def parameters(sizes: Sequence[int]) -> int:
    """Weights and biases of a multilayer perceptron."""
    return sum((inputs + 1) * outputs for inputs, outputs in zip(sizes[:-1], sizes[1:], strict=True))


def real_transitions(settings: MBPOSettings, epochs: int) -> int:
    """Real transitions per seed that the buffer holds after ``epochs``."""
    collected = settings.num_steps_sampled_before_learning_starts + epochs * settings.epoch_length
    return min(settings.replay_capacity, collected)


def imagined_transitions(settings: MBPOSettings, epochs: int) -> int:
    """Largest capacity per seed of the imagined buffer within ``epochs``."""
    if not settings.model_based:
        return 0
    fits = math.ceil(settings.epoch_length / settings.model_train_freq)
    rollouts = fits * (settings.rollouts_per_step * settings.model_train_freq + settings.num_elites)
    longest = max(settings.rollout_length_at(0), settings.rollout_length_at(epochs - 1))
    return rollouts * longest * settings.imagined_epochs_retained


def network_floats(workload: Workload) -> int:
    """Floats per seed of weights, gradients and Adam's two moments; targets have weights alone."""
    settings = workload.settings
    floats = 4 * parameters(workload.actor_sizes) + 2 * 5 * parameters(workload.critic_sizes)
    if settings.model_based:
        # Best weights of each member during a fit, and the elites' copies during rollouts, on top.
        copies = 5 * settings.ensemble_size + settings.num_elites
        floats += copies * parameters(workload.model_sizes)
    return floats


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
    """Peak at the end: buffers and a copy of the larger for a checkpoint, networks, a fit's tables, the process."""
    settings = workload.settings
    real = real_transitions(settings, epochs)
    allocated = min(settings.replay_capacity, 1024 * 2 ** max(0, math.ceil(math.log2(real / 1024)))) if real else 0
    imagined = imagined_transitions(settings, epochs)
    per_seed = (allocated + imagined + max(real, imagined)) * workload.transition_floats * FLOAT_BYTES
    per_seed += network_floats(workload) * FLOAT_BYTES
    if settings.model_based:
        columns = 2 * workload.obs_dim + workload.action_dim + 1
        if settings.model_loss != "nll":  # weights per dimension, and four value gradients while they are made
            columns += 9 * workload.obs_dim
        # Bootstrap indices, the shuffled order and what it is sorted by, for each member.
        per_seed += real * (columns * FLOAT_BYTES + settings.ensemble_size * 28)
    return PROCESS_BYTES + num_seeds * per_seed


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
