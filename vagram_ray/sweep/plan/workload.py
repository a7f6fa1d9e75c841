"""What a cell's configuration asks for, in numbers that memory, disk and time are estimated from."""

from __future__ import annotations

import contextlib
import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from vagram_ray.core.settings import MODEL_SETTINGS, MBPOSettings

if TYPE_CHECKING:
    from vagram_ray.envs import EnvironmentSpec
    from vagram_ray.rllib import MBPOConfig

FLOAT_BYTES = 4
WITHOUT_EFFECT = frozenset((
    "gamma", "actor_lr", "critic_lr", "alpha_lr", "initial_alpha", "target_entropy", "tau",
    "model_lr", "model_weight_decay", "model_improvement_threshold",
    "epoch_length", "num_steps_sampled_before_learning_starts", "explore", "utd_ratio", "model_train_freq",
    "rollouts_per_step", "rollout_length", "real_ratio", "imagined_epochs_retained", "replay_capacity",
))  # fmt: skip
"""Settings that change no cost of one piece of work: constants, and how often or how long something is done."""


@dataclass(frozen=True)
class Costs:
    """Seconds of a core for pieces of work of one seed."""

    env_step_s: float
    """One environment step: act, step, store."""
    sac_update_s: float
    """One SAC update with its batch."""
    fit_row_s: float = 0.0
    """One model fit, per stored transition."""
    imagined_s: float = 0.0
    """One imagined step of one rollout."""


@dataclass(frozen=True)
class Workload:
    """What a cell's configuration asks for, as far as it costs anything."""

    settings: MBPOSettings
    environment: EnvironmentSpec | None
    """None where nothing is to be run."""
    obs_dim: int
    action_dim: int
    evaluation_interval: int | None
    evaluation_episodes: int
    max_episode_steps: int
    checkpoints_kept: int | str = 2
    request: Mapping[str, float] = field(default_factory=dict)
    """Resources that a trial asks Ray for by its configuration, custom ones among them."""
    costs: Costs | None = None
    """What its work costs, where that was measured."""

    @classmethod
    def of(cls, config: MBPOConfig) -> Workload:
        """The workload of a configuration without search spaces."""
        spec = config.environment_spec()
        obs_dim, action_dim = spec.dimensions()
        return cls(
            settings=config.to_settings(),
            environment=spec,
            obs_dim=obs_dim,
            action_dim=action_dim,
            evaluation_interval=config.evaluation_interval,
            evaluation_episodes=config.evaluation_duration if isinstance(config.evaluation_duration, int) else 10,
            max_episode_steps=spec.max_episode_steps or 1000,
            checkpoints_kept=config.checkpoints_kept,
            request=_request(config),
        )

    @property
    def warmup_steps(self) -> int:
        """Environment steps per seed before learning starts."""
        return self.settings.num_steps_sampled_before_learning_starts

    def env_steps(self, epochs: int) -> int:
        """Environment steps per seed of a run."""
        return self.warmup_steps + epochs * self.settings.epoch_length

    @property
    def sizes(self) -> list[Any]:
        """All that decides what a piece of its work costs: workloads with equal ones cost the same per piece."""
        unused = WITHOUT_EFFECT if self.settings.model_based else WITHOUT_EFFECT | (MODEL_SETTINGS - {"model_loss"})
        settings = {name: value for name, value in asdict(self.settings).items() if name not in unused}
        spec = self.environment
        environment = asdict(replace(spec, creator=None)) if spec is not None else {}  # its name stands for it
        return [settings, environment, self.obs_dim, self.action_dim]

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
        outputs = (self.obs_dim + 1) * (2 if settings.has_variance_head else 1) + (settings.termination == "learned")
        return (self.obs_dim + self.action_dim, *[settings.hidden_size] * settings.num_layers, outputs)

    @property
    def ensemble_parameters(self) -> int:
        """Weights and biases of all ensemble members, the bounds of their variances among them, or 0 for plain SAC."""
        if not self.settings.model_based:
            return 0
        bounds = 2 * (self.obs_dim + 1) if self.settings.has_variance_head else 0
        return self.settings.ensemble_size * (parameters(self.model_sizes) + bounds)


def _request(config: MBPOConfig) -> dict[str, float]:
    algorithm: Any = config.algo_class
    with quiet_ray():
        request = algorithm.default_resource_request(config.to_dict()).required_resources
    return {kind: float(amount) for kind, amount in request.items()}


@contextlib.contextmanager
def quiet_ray() -> Iterator[None]:
    """Without RLlib's hints while it validates: they would stand between the lines of the plan."""
    logger = logging.getLogger("ray")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


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
