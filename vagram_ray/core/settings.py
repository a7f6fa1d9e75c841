"""Every hyperparameter of MBPO with a value-aware model loss: one dataclass, the one source of defaults.

``MBPOConfig`` (the RLlib face) takes its fields, defaults and checks from here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Literal

from vagram_ray.core.model_losses import check_option_names, get_model_loss

EXECUTIONS = ("auto", "eager", "native", "cuda_graphs")
REWARD_WEIGHTS = ("auto", "per_output", "mean_value_weight")
TRUNCATION_CHOICES = ("schedule", "disagreement", "value_disagreement")

Schedule = tuple[float, float, float, float]
"""``(first_epoch, last_epoch, first_value, last_value)``: linear between the epochs, constant outside."""


class SettingsError(ValueError):
    """A hyperparameter has a value that cannot work; the message names it and the way out."""


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
    """Hyperparameters of one cohort; the same for each of its seeds.

    Step sizes are Adam's. "Epoch" is ``epoch_length`` environment steps per seed; schedules count
    epochs from the start of learning. Defaults follow the paper's Appendix E where it gives a value,
    and MBPO (Janner et al., 2019) otherwise.
    """

    # Soft actor-critic
    gamma: float = 0.99
    """Discount factor."""
    batch_size: int = 256
    """Transitions per SAC update (``train_batch_size_per_learner`` in RLlib's words)."""
    actor_hidden_sizes: tuple[int, ...] = (256, 256)
    """Widths of the actor's hidden layers."""
    critic_hidden_sizes: tuple[int, ...] = (256, 256)
    """Widths of the hidden layers of each of the two critics."""
    normalize_features: bool = False
    """Scale the last hidden features of actor and critics to unit L2 norm."""
    normalize_observations: bool = False
    """Feed actor and critics observations standardised by the real buffer's mean and deviation."""
    actor_lr: float = 3e-4
    """Step size of the actor."""
    critic_lr: float = 3e-4
    """Step size of the critics."""
    alpha_lr: float = 3e-4
    """Step size of the temperature; 0 keeps it at ``initial_alpha``."""
    initial_alpha: float = 0.1
    """Temperature at the start."""
    target_entropy: float | Literal["auto"] = "auto"
    """Entropy in nats that the temperature aims at; ``"auto"`` is minus the action dimension."""
    tau: float = 0.005
    """Share of the critics that the targets take over at each target update."""
    actor_update_period: int = 1
    """Critic updates per update of actor and temperature."""
    target_update_period: int = 1
    """Critic updates per update of the target critics."""

    # Dynamics ensemble
    model_loss: str = "vagram"
    """Name of a registered model loss, or ``"none"`` for plain SAC without a model."""
    model_loss_options: Mapping[str, float] = field(default_factory=dict)
    """Constants of the loss that differ from its defaults, by name; those of other losses have no effect."""
    reward_weight: float | Literal["auto", "per_output", "mean_value_weight"] = "auto"
    """Weight of the reward's term beside the mean over the state's D dimensions, in every loss. ``"auto"`` is the
    loss's own (1, per output for ``nll``), ``"per_output"`` 1/D, ``"mean_value_weight"`` the average dimension's."""
    weight_terminal: Literal["gradient", "mean"] = "gradient"
    """VaGraM's weights of transitions that end an episode: their gradients, or the mean of the other transitions'."""
    num_layers: int = 4
    """Hidden layers of each ensemble member."""
    hidden_size: int = 200
    """Width of those hidden layers."""
    ensemble_size: int = 7
    """Ensemble members."""
    num_elites: int = 5
    """Members with the lowest validation loss that imagine transitions."""
    probabilistic: bool | Literal["auto"] = "auto"
    """Gaussian heads (mean and log-variance) or a mean alone; ``"auto"`` is what the loss needs."""
    prediction_target: Literal["delta", "next_obs"] = "delta"
    """What the networks predict of the next observation s': its change s' - s, or s' itself."""
    normalize_dynamics_targets: bool = False
    """Fit that target per dimension around its mean over the real buffer, in units of its deviation."""
    normalize_reward_targets: bool = False
    """Fit the reward around its mean over the real buffer, in units of its deviation."""
    model_lr: float = 1e-3
    """Step size of the dynamics model."""
    model_weight_decay: float = 5e-5
    """L2 penalty factor of the dynamics model's Adam."""
    model_batch_size: int = 256
    """Transitions per model minibatch and member."""
    model_patience: int = 5
    """Fit epochs without improvement of any member after which a seed's fit stops."""
    model_max_epochs: int | None = None
    """Limit on fit epochs; ``None`` leaves it to the patience."""
    model_improvement_threshold: float = 0.01
    """Relative decrease of a member's held-out error that counts as improvement (docs/losses.md, "Early stopping")."""
    early_stopping_metric: Literal["loss", "squared_error"] = "loss"
    """What early stopping and the choice of elites look at: the loss, or the squared error of all outputs (MBPO)."""
    validation_fraction: float = 0.2
    """Share of the real transitions held out for early stopping and the choice of elites."""
    value_gradient_clip_percentile: float = 95.0
    """Percentile of the L2 norms over the data at which value gradients are clipped; 100 is off."""

    # Model-based policy optimisation
    epoch_length: int = 1000
    """Environment steps per seed in one epoch, which is one RLlib training iteration."""
    num_steps_sampled_before_learning_starts: int = 5000
    """Warm-up steps per seed with uniformly random actions, taken before the first epoch."""
    explore: Literal["sample", "mean"] = "sample"
    """Action in the real environment: a sample of the policy, or its mean as in the published code."""
    utd_ratio: int = 20
    """SAC updates per environment step."""
    model_train_freq: int = 250
    """Environment steps between two fits of the model, each followed by new rollouts."""
    rollouts_per_step: int = 400
    """Imagined rollouts per environment step (started ``model_train_freq`` at a time)."""
    rollout_length: Schedule = (20, 150, 1, 1)
    """Schedule of the number of imagined steps per rollout (rounded down)."""
    rollout_truncation: Literal["schedule", "disagreement", "value_disagreement"] = "schedule"
    """Where rollouts end: after ``rollout_length`` steps, or before, where the elites disagree about the next state
    (as MACURA), each dimension by its own scale or weighted by the value gradient (docs/rollouts.md)."""
    rollout_truncation_quantile: float = 0.95
    """zeta: the threshold is this quantile of the disagreement over all rollouts' first steps (MACURA: 0.95)."""
    rollout_truncation_factor: float = 1.0
    """xi: times this factor, at least 1 (MACURA tunes it per task)."""
    real_ratio: Schedule = (0, 40, 1.0, 0.05)
    """Schedule of the share of real transitions in each SAC batch (0 to 95 % imagined by default)."""
    imagined_epochs_retained: int = 1
    """Epochs of imagined transitions that are kept."""
    replay_capacity: int = 1_000_000
    """Largest number of real transitions kept per seed; the oldest go first."""

    # Execution: how, not what
    execution: Literal["auto", "eager", "native", "cuda_graphs"] = "auto"
    """``"eager"`` is PyTorch, operation by operation; ``"native"`` a library that is compiled for this CPU;
    ``"cuda_graphs"`` records the updates and issues them whole (GPUs); ``"auto"`` is ``"native"`` on a CPU where that
    pays, ``"eager"`` otherwise. The numbers are the same but for rounding."""

    def __post_init__(self) -> None:
        for name, schedule in (("rollout_length", self.rollout_length), ("real_ratio", self.real_ratio)):
            object.__setattr__(self, name, _check_schedule(name, schedule))
        for name in ("actor_hidden_sizes", "critic_hidden_sizes"):
            object.__setattr__(self, name, _check_sizes(name, getattr(self, name)))
        object.__setattr__(self, "model_loss_options", _check_options(self.model_loss_options))
        self._check_numbers()
        self._check_combinations()

    @property
    def model_based(self) -> bool:
        """Whether a dynamics model is learned at all."""
        return self.model_loss != "none"

    @property
    def has_variance_head(self) -> bool:
        """Whether the dynamics model predicts a log-variance beside the mean."""
        if self.probabilistic == "auto":
            return self.model_based and get_model_loss(self.model_loss).probabilistic
        return self.probabilistic

    def rollout_length_at(self, epoch: int) -> int:
        """Imagined steps per rollout during ``epoch``."""
        return int(schedule_value(self.rollout_length, epoch))

    def real_ratio_at(self, epoch: int) -> float:
        """Share of real transitions in each SAC batch during ``epoch`` (1 without a model)."""
        return schedule_value(self.real_ratio, epoch) if self.model_based else 1.0

    def _check_numbers(self) -> None:
        for name in _POSITIVE_INTEGERS:
            value = getattr(self, name)
            _require(_is_integer(value) and value >= 1, name, value, "needs a whole number of at least 1")
        for name in _POSITIVE_NUMBERS:
            value = getattr(self, name)
            _require(_is_number(value) and value > 0, name, value, "needs a number above 0")
        for name in _NON_NEGATIVE_NUMBERS:
            value = getattr(self, name)
            _require(_is_number(value) and value >= 0, name, value, "needs a number of at least 0")
        for name in _BOOLEANS:
            value = getattr(self, name)
            _require(isinstance(value, bool), name, value, "needs True or False")
        _require(_is_number(self.gamma) and 0 <= self.gamma <= 1, "gamma", self.gamma, "lies between 0 and 1")
        _require(_is_number(self.tau) and 0 < self.tau <= 1, "tau", self.tau, "lies above 0 and up to 1")
        warmup = self.num_steps_sampled_before_learning_starts
        _require(
            _is_integer(warmup) and warmup >= 0,
            "num_steps_sampled_before_learning_starts",
            warmup,
            "needs a whole number of at least 0",
        )
        fraction = self.validation_fraction
        _require(
            _is_number(fraction) and 0 < fraction < 1, "validation_fraction", fraction, "lies strictly between 0 and 1"
        )
        percentile = self.value_gradient_clip_percentile
        _require(
            _is_number(percentile) and 0 < percentile <= 100,
            "value_gradient_clip_percentile",
            percentile,
            "lies above 0 and up to 100 (100 switches clipping off)",
        )

        quantile, factor = self.rollout_truncation_quantile, self.rollout_truncation_factor
        _require(
            _is_number(quantile) and 0 < quantile <= 1,
            "rollout_truncation_quantile",
            quantile,
            "lies above 0 and up to 1",
        )
        _require(
            _is_number(factor) and factor >= 1,
            "rollout_truncation_factor",
            factor,
            "needs a number of at least 1, so that some transitions are always stored; for fewer of them lower "
            "rollout_truncation_quantile",
        )

    def _check_combinations(self) -> None:
        _require(self.explore in ("sample", "mean"), "explore", self.explore, "is 'sample' or 'mean'")
        entropy = self.target_entropy
        _require(entropy == "auto" or _is_number(entropy), "target_entropy", entropy, "is a number or 'auto'")
        _require(
            self.probabilistic in (True, False, "auto"), "probabilistic", self.probabilistic, "is True, False or 'auto'"
        )
        choices = f"is {', '.join(map(repr, EXECUTIONS[:-1]))} or {EXECUTIONS[-1]!r}"
        _require(self.execution in EXECUTIONS, "execution", self.execution, choices)
        target = self.prediction_target
        _require(target in ("delta", "next_obs"), "prediction_target", target, "is 'delta' or 'next_obs'")
        truncation = self.rollout_truncation
        _require(
            truncation in TRUNCATION_CHOICES,
            "rollout_truncation",
            truncation,
            "is 'schedule', 'disagreement' or 'value_disagreement'",
        )
        _require(
            truncation == "schedule" or self.num_elites >= 2 or not self.model_based,
            "rollout_truncation",
            truncation,
            f"measures how far the elites are apart, but num_elites={self.num_elites!r}; raise it to at least 2",
        )
        _require(
            self.num_elites <= self.ensemble_size,
            "num_elites",
            self.num_elites,
            f"cannot be above ensemble_size={self.ensemble_size}; lower it or raise ensemble_size",
        )
        metric = self.early_stopping_metric
        _require(
            metric in ("loss", "squared_error"), "early_stopping_metric", metric, "is 'loss' or 'squared_error'"
        )
        terminal = self.weight_terminal
        _require(terminal in ("gradient", "mean"), "weight_terminal", terminal, "is 'gradient' or 'mean'")
        weight = self.reward_weight
        _require(
            weight in REWARD_WEIGHTS if isinstance(weight, str) else _is_number(weight) and weight >= 0,
            "reward_weight",
            weight,
            "is 'auto', 'per_output', 'mean_value_weight' or a number of at least 0",
        )
        limit = self.model_max_epochs
        _require(
            limit is None or (_is_integer(limit) and limit >= 1),
            "model_max_epochs",
            limit,
            "needs a whole number of at least 1, or None for no limit",
        )
        for value in self.rollout_length[2:]:
            _require(value >= 1, "rollout_length", self.rollout_length, "needs lengths of at least 1")
        for value in self.real_ratio[2:]:
            _require(0 <= value <= 1, "real_ratio", self.real_ratio, "needs shares between 0 and 1")
        if self.model_based:
            loss = get_model_loss(self.model_loss)
            loss.resolve_options(self.model_loss_options)
            _require(
                self.reward_weight != "mean_value_weight" or loss.has_value_weights,
                "reward_weight",
                "mean_value_weight",
                f"is the mean of value weights, which model_loss={self.model_loss!r} does not have; use a number, "
                "'per_output' or 'auto'",
            )
            _require(
                not (loss.probabilistic and self.probabilistic is False),
                "probabilistic",
                False,
                f"contradicts model_loss={self.model_loss!r}, which needs a predicted variance; leave it at 'auto'",
            )

    @classmethod
    def field_names(cls) -> tuple[str, ...]:
        """Names of all hyperparameters, in the order of definition."""
        return tuple(field.name for field in fields(cls))


MODEL_SETTINGS = frozenset(
    (
        "model_loss",
        "model_loss_options",
        "reward_weight",
        "weight_terminal",
        "num_layers",
        "hidden_size",
        "ensemble_size",
        "num_elites",
        "probabilistic",
        "prediction_target",
        "normalize_dynamics_targets",
        "normalize_reward_targets",
        "model_lr",
        "model_weight_decay",
        "model_batch_size",
        "model_patience",
        "model_max_epochs",
        "model_improvement_threshold",
        "early_stopping_metric",
        "validation_fraction",
        "value_gradient_clip_percentile",
        "model_train_freq",
        "rollouts_per_step",
        "rollout_length",
        "rollout_truncation",
        "rollout_truncation_quantile",
        "rollout_truncation_factor",
        "real_ratio",
        "imagined_epochs_retained",
    )
)
"""Hyperparameters that speak of the model and its data alone: with ``model_loss="none"`` they change nothing."""

EXECUTION_SETTINGS = frozenset(("execution", "compile"))
"""Settings that say how a run is executed: they change its numbers by rounding alone, as another machine does.
``compile`` is what ``execution`` was called before; configurations that were kept may hold it."""

_POSITIVE_INTEGERS = (
    "batch_size",
    "actor_update_period",
    "target_update_period",
    "num_layers",
    "hidden_size",
    "ensemble_size",
    "num_elites",
    "model_batch_size",
    "model_patience",
    "epoch_length",
    "utd_ratio",
    "model_train_freq",
    "rollouts_per_step",
    "imagined_epochs_retained",
    "replay_capacity",
)
_POSITIVE_NUMBERS = ("actor_lr", "critic_lr", "initial_alpha", "model_lr")
_NON_NEGATIVE_NUMBERS = ("alpha_lr", "model_weight_decay", "model_improvement_threshold")
_BOOLEANS = (
    "normalize_features",
    "normalize_observations",
    "normalize_dynamics_targets",
    "normalize_reward_targets",
)


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _require(condition: bool, name: str, value: Any, rule: str) -> None:
    if not condition:
        raise SettingsError(f"{name}={value!r} is not usable: {name} {rule}.")


def _check_sizes(name: str, sizes: Any) -> tuple[int, ...]:
    valid = isinstance(sizes, Sequence) and not isinstance(sizes, str) and len(sizes) > 0
    valid = valid and all(_is_integer(size) and size >= 1 for size in sizes)
    _require(valid, name, sizes, "needs one positive whole number per hidden layer, for example (256, 256)")
    return tuple(sizes)


def _check_options(options: Any) -> dict[str, float]:
    valid = isinstance(options, Mapping)
    _require(valid, "model_loss_options", options, "needs numbers by name, for example {'mse_weight': 0.01}")
    check_option_names(options)
    return dict(options)


def _check_schedule(name: str, schedule: Any) -> Schedule:
    valid = isinstance(schedule, Sequence) and not isinstance(schedule, str) and len(schedule) == 4
    valid = valid and all(_is_number(value) for value in schedule) and schedule[0] <= schedule[1]
    _require(valid, name, schedule, "needs (first_epoch, last_epoch, first_value, last_value) with first <= last epoch")
    first_epoch, last_epoch, first_value, last_value = schedule
    return (first_epoch, last_epoch, first_value, last_value)
