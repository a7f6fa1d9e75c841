"""Every hyperparameter of MBPO with a value-aware model loss: one dataclass, the one source of defaults.

A setting stands here once, with its type, default, range and group. ``MBPOConfig`` (the RLlib face), checkpoints,
``--set`` and the plan read them from here.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Literal

from vagram_ray.core.model_losses import check_option_names, get_model_loss
from vagram_ray.core.setting_checks import (
    Schedule,
    SettingsError,
    check_fields,
    fields_of_group,
    lasting_fields,
    require,
    setting,
)

__all__ = [
    "EXECUTION_SETTINGS",
    "LASTING_SETTINGS",
    "MODEL_SETTINGS",
    "MBPOSettings",
    "Schedule",
    "SettingsError",
    "schedule_value",
]

_model_setting = functools.partial(setting, group="model")


def schedule_value(schedule: Schedule, epoch: int) -> float:
    """Value of a linear schedule at ``epoch`` (0 is the first epoch of learning)."""
    first_epoch, last_epoch, first_value, last_value = schedule
    if epoch <= first_epoch:
        return float(first_value)
    if epoch >= last_epoch:
        return float(last_value)
    progress = (epoch - first_epoch) / (last_epoch - first_epoch)
    return float(first_value + progress * (last_value - first_value))


@dataclass(frozen=True)
class MBPOSettings:
    """Hyperparameters of one cohort, the same for each of its seeds.

    Step sizes are Adam's. "Epoch" is ``epoch_length`` environment steps per seed. Schedules count
    epochs from the start of learning. Defaults follow the paper's Appendix E where it gives a value,
    and MBPO (Janner et al., 2019) otherwise.
    """

    # Soft actor-critic
    gamma: float = setting(0.99, low=0, high=1)
    """Discount factor."""
    train_batch_size_per_learner: int = setting(256, low=1)
    """Transitions per SAC update and seed."""
    actor_hidden_sizes: tuple[int, ...] = setting((256, 256), lasting=True)
    """Widths of the actor's hidden layers."""
    critic_hidden_sizes: tuple[int, ...] = setting((256, 256), lasting=True)
    """Widths of the hidden layers of each of the two critics."""
    normalize_features: bool = setting(False, lasting=True)
    """Scale the last hidden features of actor and critics to unit L2 norm."""
    critic_layer_norm: bool = setting(False, lasting=True)
    """Normalise the hidden layers of the critics over their units (layer normalisation), against overestimated values
    with many updates per step (Hiraoka et al., 2022, DroQ; Ball et al., 2023, RLPD). Of every agent, plain SAC too."""
    normalize_observations: bool = setting(False, lasting=True)
    """Feed actor and critics observations standardised by the real buffer's mean and deviation."""
    actor_lr: float = setting(3e-4, above=0)
    """Step size of the actor."""
    critic_lr: float = setting(3e-4, above=0)
    """Step size of the critics."""
    alpha_lr: float = setting(3e-4, low=0)
    """Step size of the temperature. 0 keeps it at ``initial_alpha``."""
    initial_alpha: float = setting(0.1, above=0)
    """Temperature at the start."""
    target_entropy: Literal["auto"] | float = "auto"
    """Entropy in nats that the temperature aims at. ``"auto"`` is minus the action dimension."""
    tau: float = setting(0.005, above=0, high=1)
    """Share of the critics that the targets take over at each target update."""
    actor_update_period: int = setting(1, low=1)
    """Critic updates per update of actor and temperature."""
    target_update_period: int = setting(1, low=1)
    """Critic updates per update of the target critics."""

    # Dynamics ensemble
    model_loss: str = _model_setting("vagram")
    """Name of a registered model loss, or ``"none"`` for plain SAC without a model."""
    model_loss_options: Mapping[str, float] = _model_setting({})
    """Constants of the loss that differ from its defaults, by name. Those of other losses have no effect."""
    reward_weight: Literal["auto", "per_output", "mean_value_weight"] | float = _model_setting("auto", low=0)
    """Weight of the reward's term beside the mean over the state's D dimensions, in every loss. ``"auto"`` is the
    loss's own (1, per output for ``nll``), ``"per_output"`` 1/D, ``"mean_value_weight"`` the average dimension's."""
    weight_terminal: Literal["gradient", "mean"] = _model_setting("gradient")
    """VaGraM's weights of transitions that end an episode: their gradients, or the mean of the other transitions'."""
    num_layers: int = _model_setting(4, low=1, lasting=True)
    """Hidden layers of each ensemble member."""
    hidden_size: int = _model_setting(200, low=1, lasting=True)
    """Width of those hidden layers."""
    ensemble_size: int = _model_setting(7, low=1, lasting=True)
    """Ensemble members."""
    num_elites: int = _model_setting(5, low=1, lasting=True)
    """Members with the lowest validation loss that imagine transitions."""
    probabilistic: bool | Literal["auto"] = _model_setting("auto")
    """Gaussian heads (mean and log-variance) or a mean alone: what the loss trains, as ``"auto"`` says. No other
    choice is taken."""
    prediction_target: Literal["delta", "next_obs"] = _model_setting("delta", lasting=True)
    """Prediction of the networks: the change s' - s, or s' itself."""
    normalize_dynamics_targets: bool = _model_setting(False, lasting=True)
    """Fit that target per dimension around its mean over the real buffer, in units of its deviation."""
    normalize_reward_targets: bool = _model_setting(False, lasting=True)
    """Fit the reward around its mean over the real buffer, in units of its deviation."""
    termination: Literal["function", "learned"] = _model_setting("function", lasting=True)
    """What says which imagined transitions end an episode: the environment's termination function, or one more output
    of the networks, fitted by cross-entropy."""
    model_lr: float = _model_setting(1e-3, above=0)
    """Step size of the dynamics model."""
    model_weight_decay: float = _model_setting(5e-5, low=0)
    """L2 penalty factor of the dynamics model's Adam."""
    model_batch_size: int = _model_setting(256, low=1)
    """Transitions per model minibatch and member."""
    model_patience: int = _model_setting(5, low=1)
    """Fit epochs without improvement of any member after which a seed's fit stops."""
    model_max_epochs: int | None = _model_setting(None, low=1, hint=" for no limit")
    """Limit on fit epochs. ``None`` leaves it to the patience."""
    model_improvement_threshold: float = _model_setting(0.01, low=0)
    """Relative decrease of a member's held-out error that counts as improvement (docs/losses.md, "Early stopping")."""
    early_stopping_metric: Literal["loss", "squared_error"] = _model_setting("loss")
    """Metric of early stopping and of the choice of elites: the loss, or the squared error of all outputs (MBPO)."""
    validation_fraction: float = _model_setting(0.2, above=0, below=1)
    """Share of the real transitions held out for early stopping and the choice of elites."""
    value_gradient_clip_percentile: float = _model_setting(95.0, above=0, high=100, hint=" (100 switches clipping off)")
    """Percentile of the L2 norms over the data at which value gradients are clipped. 100 is off."""

    # Model-based policy optimisation
    epoch_length: int = setting(1000, low=1)
    """Environment steps per seed in one epoch, which is one RLlib training iteration."""
    num_steps_sampled_before_learning_starts: int = setting(5000, low=0)
    """Warm-up steps per seed with uniformly random actions, taken before the first epoch."""
    explore: Literal["sample", "mean"] = "sample"
    """Action in the real environment: a sample of the policy, or its mean as in the published code."""
    utd_ratio: int = setting(20, low=1)
    """SAC updates per environment step."""
    model_train_freq: int = _model_setting(250, low=1)
    """Environment steps between two fits of the model, each followed by new rollouts."""
    rollouts_per_step: int = _model_setting(400, low=1)
    """Imagined rollouts per environment step (started ``model_train_freq`` at a time)."""
    rollout_length: Schedule = _model_setting((20, 150, 1, 1), low=1)
    """Schedule of the number of imagined steps per rollout (rounded down)."""
    rollout_truncation: Literal["schedule", "disagreement", "value_disagreement"] = _model_setting("schedule")
    """Where rollouts end: after ``rollout_length`` steps, or before, where the elites disagree about the next state
    (as MACURA), each dimension by its own scale or weighted by the value gradient (docs/rollouts.md)."""
    rollout_truncation_quantile: float = _model_setting(0.95, above=0, high=1)
    """zeta: the threshold is this quantile of the disagreement over all rollouts' first steps (MACURA: 0.95)."""
    rollout_truncation_factor: float = _model_setting(
        1.0, low=1,
        hint=", so that some transitions are always stored; for fewer of them lower rollout_truncation_quantile",
    )  # fmt: skip
    """xi: times this factor, at least 1 (MACURA tunes it per task)."""
    real_ratio: Schedule = _model_setting((0, 40, 1.0, 0.05), low=0, high=1)
    """Schedule of the share of real transitions in each SAC batch (0 to 95 % imagined by default)."""
    imagined_epochs_retained: int = _model_setting(1, low=1)
    """Epochs of imagined transitions that are kept."""
    replay_capacity: int = setting(1_000_000, low=1)
    """Largest number of real transitions kept per seed. The oldest go first."""

    # Execution: how, not what
    execution: Literal["auto", "eager", "native", "cuda_graphs"] = setting("auto", group="execution")
    """``"eager"`` is PyTorch, operation by operation. ``"native"`` is a library that is compiled for this CPU.
    ``"cuda_graphs"`` records the updates and issues them whole (GPUs). ``"auto"`` is ``"native"`` on a CPU where that
    pays, ``"eager"`` otherwise. The numbers are the same but for rounding."""
    matmul_precision: Literal["highest", "high"] = "highest"  # of no group: TF32 is more than another order of sums
    """Of matrix products in training on a GPU: ``"highest"`` is float32, ``"high"`` rounds the factors to TF32 (10 bits
    of mantissa), which tensor cores multiply many times as fast. On a CPU products are float32 always."""

    def __post_init__(self) -> None:
        check_fields(self)
        check_option_names(self.model_loss_options)
        self._check_combinations()

    @property
    def model_based(self) -> bool:
        """Whether a dynamics model is learned at all."""
        return self.model_loss != "none"

    @property
    def needs_termination_function(self) -> bool:
        """Whether imagined transitions need a function of the environment's."""
        return self.model_based and self.termination == "function"

    @property
    def has_variance_head(self) -> bool:
        """Whether the dynamics model predicts a log-variance beside the mean."""
        if self.probabilistic == "auto":
            return self.model_based and get_model_loss(self.model_loss).probabilistic
        return self.probabilistic

    def rollout_length_at(self, epoch: int) -> int:
        """Imagined steps per rollout during ``epoch``."""
        return int(schedule_value(self.rollout_length, epoch) + 1e-9)  # a whole number may be a rounding error below

    def real_ratio_at(self, epoch: int) -> float:
        """Share of real transitions in each SAC batch during ``epoch`` (1 without a model)."""
        return schedule_value(self.real_ratio, epoch) if self.model_based else 1.0

    def _check_combinations(self) -> None:
        require(
            self.num_elites <= self.ensemble_size,
            "num_elites",
            self.num_elites,
            f"cannot be above ensemble_size={self.ensemble_size}; lower it or raise ensemble_size",
        )
        if not self.model_based:
            return
        require(
            self.rollout_truncation == "schedule" or self.num_elites >= 2,
            "rollout_truncation",
            self.rollout_truncation,
            f"measures how far the elites are apart, but num_elites={self.num_elites!r}; raise it to at least 2",
        )
        loss = get_model_loss(self.model_loss)
        loss.resolve_options(self.model_loss_options)
        require(
            self.reward_weight != "mean_value_weight" or loss.has_value_weights,
            "reward_weight",
            self.reward_weight,
            f"is the mean of value weights, which model_loss={self.model_loss!r} does not have; use a number, "
            "'per_output' or 'auto'",
        )
        require(
            not (loss.probabilistic and self.probabilistic is False),
            "probabilistic",
            self.probabilistic,
            f"contradicts model_loss={self.model_loss!r}, which needs a predicted variance; leave it at 'auto'",
        )
        require(
            loss.probabilistic or self.probabilistic is not True,
            "probabilistic",
            self.probabilistic,
            f"asks for a variance that model_loss={self.model_loss!r} does not train; leave it at 'auto'",
        )

    @classmethod
    def field_names(cls) -> tuple[str, ...]:
        """Names of all hyperparameters, in the order of definition."""
        return tuple(field.name for field in fields(cls))


MODEL_SETTINGS = fields_of_group(MBPOSettings, "model")
"""Hyperparameters that speak of the model and its data alone: with ``model_loss="none"`` they change nothing."""

LASTING_SETTINGS = lasting_fields(MBPOSettings)
"""Hyperparameters that networks keep: saved ones do not go on with other values. All others may change in a run."""

EXECUTION_SETTINGS = fields_of_group(MBPOSettings, "execution") | {"compile"}
"""Settings that say how a run is executed: they change its numbers by rounding alone, as another machine does.
``compile`` is what ``execution`` was called before. Configurations that were kept may hold it."""
