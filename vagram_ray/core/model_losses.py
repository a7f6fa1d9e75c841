"""The registry of model losses: one small function each, and the extension point for your own.

A loss maps a prediction and its target to one number per transition, (S, E, B). The fit takes the mean over
the batch and sums over seeds and members. What a loss needs to know about the value function is computed
once per fit by its ``prepare`` function, for the whole buffer, since the critics do not change meanwhile::

    @register_model_loss("reward_only")
    def reward_only(prediction, target):
        return (prediction.reward - target.reward).square()

The paper's three basic losses are here, its other value-aware losses in ``value_aware_losses``.

Predictions and targets are in the environment's units. Where the targets are normalised (docs/losses.md, "Targets"),
the target says in ``dynamics_unit`` and ``reward_unit`` in which units errors are to be measured. ``dynamics_error``,
``reward_error`` and ``in_reward_units`` apply them. With sigma_d and sigma_r these units, every loss here is its
equation with errors e_d / sigma_d, rewards over sigma_r, and, as values are sums of rewards, values over sigma_r.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from vagram_ray.core.random_streams import RandomStreams
from vagram_ray.core.replay import Transitions
from vagram_ray.core.value_gradients import ValueEstimates


class Prediction(NamedTuple):
    """Predictions of the ensemble for a batch, in the environment's units whatever its networks' outputs mean."""

    delta: Tensor  # (S, E, B, D), predicted s' - s
    reward: Tensor  # (S, E, B)
    log_variance: Tensor | None  # (S, E, B, D + 1) of delta and reward, or None without a variance head
    termination_logit: Tensor | None = None  # (S, E, B), or None unless terminations are learned


class Target(NamedTuple):
    """Observed transitions in the environment's units, with the tables of ``prepare``."""

    obs: Tensor  # (S, E, B, D)
    action: Tensor  # (S, E, B, A)
    delta: Tensor  # (S, E, B, D), observed s' - s
    reward: Tensor  # (S, E, B)
    prepared: dict[str, Tensor]  # each (S, E, B, ...): the rows of ``prepare``'s tables
    values: ValueEstimates  # the value functions, for losses that evaluate them at the prediction
    options: Mapping[str, float] = {}  # the loss's constants, all of them
    streams: RandomStreams | None = None  # where ``normal`` draws from
    dynamics_unit: Tensor | None = None  # sigma_d, (S, 1, 1, D): errors of s' in it, None: the environment's
    reward_unit: Tensor | None = None  # sigma_r, (S, 1, 1): errors of rewards and values in it, None: the environment's
    reward_weight: float | Tensor | None = None  # c_r, a number or (S, 1, 1): the reward's weight, None: the loss's own
    terminated: Tensor | None = None  # (S, E, B), 1 where the transition ended its episode for good, 0 elsewhere

    def normal(self, *shape: int) -> Tensor:
        """Standard normal numbers (S, *shape) from the seeds' own streams: new at each minibatch of the training,
        the same at each validation of a fit.
        """
        assert self.streams is not None  # a fit always gives them
        return self.streams.normal(*shape)


LossFunction = Callable[[Prediction, Target], Tensor]
PrepareFunction = Callable[[ValueEstimates, Transitions], dict[str, Tensor]]
OutputWeights = Callable[[Target], Tensor]
"""Weights (S, E, B, D + 1), or what broadcasts to it, of the changes' and the reward's terms. It uses neither
``values`` nor ``streams`` of a target, so that the weights of all transitions are known before a fit starts."""


class LossOption(NamedTuple):
    """A constant of a loss that ``model_loss_options`` may change. It is a whole number if its default is one."""

    default: float
    minimum: float = 0.0


@dataclass(frozen=True)
class ModelLoss:
    """A registered loss.

    Attributes:
        name: What ``model_loss=`` says.
        function: (prediction, target) -> (S, E, B).
        prepare: (value estimates, transitions (S, N, ...)) -> named tables (S, N, width), or None.
        probabilistic: Whether the loss needs a predicted log-variance.
        options: Its constants by name.
        output_weights: The weights of the outputs, for losses that are a weighted sum over the D + 1 outputs:
            ``weighted_squared_error``, or ``weighted_gaussian_nll`` if ``probabilistic``, or None for other losses.
    """

    name: str
    function: LossFunction
    prepare: PrepareFunction | None = None
    probabilistic: bool = False
    options: Mapping[str, LossOption] = field(default_factory=dict)
    output_weights: OutputWeights | None = None

    @property
    def family(self) -> Literal["squared_error", "gaussian"] | None:
        """Which sum over outputs the loss is, or None if it is none, or not known to be one."""
        if self.output_weights is None:
            return None
        return "gaussian" if self.probabilistic else "squared_error"

    @property
    def has_value_weights(self) -> bool:
        """Whether it weights squared errors by what it prepared of the value, for ``reward_weight``."""
        return self.family == "squared_error" and self.prepare is not None

    def resolve_options(self, given: Mapping[str, float]) -> dict[str, float]:
        """All constants of this loss: the given ones, and the defaults of the others.

        Raises:
            ValueError: If a value cannot be. The message names it.
        """
        resolved = {name: given.get(name, option.default) for name, option in self.options.items()}
        for name, value in resolved.items():
            default, minimum = self.options[name]
            kind, types = ("whole number", int) if isinstance(default, int) else ("number", (int, float))
            if not isinstance(value, types) or isinstance(value, bool) or not minimum <= value < math.inf:
                raise ValueError(
                    f"model_loss_options[{name!r}]={value!r} is not usable: {name} of model_loss={self.name!r} "
                    f"needs a {kind} of at least {minimum:g}."
                )
        return resolved


_REGISTRY: dict[str, ModelLoss] = {}
RESERVED_NAME = "none"  # plain SAC, no model


def register_model_loss(
    name: str,
    *,
    prepare: PrepareFunction | None = None,
    probabilistic: bool = False,
    options: Mapping[str, LossOption] | None = None,
    output_weights: OutputWeights | None = None,
) -> Callable[[LossFunction], LossFunction]:
    """Decorator that makes a loss function available as ``model_loss=name``. The arguments are ``ModelLoss``'s.

    Registering the same name again replaces the loss (a sweep file may be imported twice in one process).

    Raises:
        ValueError: If the name is reserved.
    """
    if name == RESERVED_NAME:
        raise ValueError(f"model_loss={name!r} means plain SAC without a model; register the loss under another name.")

    def decorator(function: LossFunction) -> LossFunction:
        _REGISTRY[name] = ModelLoss(name, function, prepare, probabilistic, options or {}, output_weights)
        return function

    return decorator


def model_loss_names() -> list[str]:
    """All names that ``model_loss`` accepts, ``"none"`` included."""
    return [*sorted(_REGISTRY), RESERVED_NAME]


def get_model_loss(name: str) -> ModelLoss:
    """The registered loss of that name.

    Raises:
        ValueError: If there is none. The message lists the names and the closest match.
    """
    if isinstance(name, str) and name in _REGISTRY:
        return _REGISTRY[name]
    close = difflib.get_close_matches(str(name), model_loss_names(), n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    raise ValueError(
        f"model_loss={name!r} is not registered; there are {', '.join(map(repr, model_loss_names()))}.{hint} "
        "A loss of your own is registered with register_model_loss in a file named in `extensions`."
    )


def check_option_names(names: Iterable[str]) -> None:
    """Refuse options that no registered loss has. One mapping may serve a sweep over several losses.

    Raises:
        ValueError: If there is one. The message lists the options and the closest match.
    """
    known: dict[str, list[str]] = {}
    for loss in _REGISTRY.values():
        for option in loss.options:
            known.setdefault(option, []).append(loss.name)
    for name in names:
        if name not in known:
            listed = ", ".join(f"{option!r} ({', '.join(losses)})" for option, losses in sorted(known.items()))
            close = difflib.get_close_matches(str(name), known, n=1)
            hint = f" Did you mean {close[0]!r}?" if close else ""
            raise ValueError(f"model_loss_options has no {name!r}; there are {listed}.{hint}")


def delta_mse(prediction: Prediction, target: Target) -> Tensor:
    """Squared error of the predicted change in the environment's units, averaged over its dimensions, (S, E, B)."""
    return (prediction.delta - target.delta).square().mean(dim=-1)


def dynamics_error(prediction: Prediction, target: Target) -> Tensor:
    """Error (f - s')_d / sigma_d of the predicted successor in the target's units, (S, E, B, D)."""
    error = prediction.delta - target.delta
    return error if target.dynamics_unit is None else error / target.dynamics_unit


def dynamics_mse(prediction: Prediction, target: Target) -> Tensor:
    """Squared error of the predicted successor in the target's units, averaged over its dimensions, (S, E, B)."""
    return dynamics_error(prediction, target).square().mean(dim=-1)


def reward_error(prediction: Prediction, target: Target) -> Tensor:
    """The reward's term c_r (r_hat - r)^2 / sigma_r^2, (S, E, B). c_r is 1 unless ``reward_weight`` says otherwise."""
    square = in_reward_units((prediction.reward - target.reward).square(), target)
    return square if target.reward_weight is None else target.reward_weight * square


def in_reward_units(square: Tensor, target: Target) -> Tensor:
    """Squares (S, E, B) of rewards or values over sigma_r^2, if the target has such a unit."""
    return square if target.reward_unit is None else square / target.reward_unit.square()


def termination_cross_entropy(prediction: Prediction, target: Target) -> Tensor:
    """-t log p - (1 - t) log(1 - p), t 1 for an end and 0 for none, p = 1 / (1 + exp(-logit)), (S, E, B)."""
    assert prediction.termination_logit is not None and target.terminated is not None
    return F.softplus(prediction.termination_logit) - target.terminated * prediction.termination_logit


# -- losses that are a weighted sum over the outputs -------------------------------------------------------------------


def output_errors(prediction: Prediction, target: Target) -> Tensor:
    """e_o: errors of the change's dimensions and of the reward in the environment's units, (S, E, B, D + 1)."""
    reward = prediction.reward - target.reward
    return torch.cat([prediction.delta - target.delta, reward.unsqueeze(-1)], dim=-1)


def output_units(target: Target) -> Tensor:
    """sigma_o of the D + 1 outputs, (S, 1, 1, D + 1), or 1 where an output is in the environment's units."""
    plain = target.delta.new_ones(1)
    dynamics = plain if target.dynamics_unit is None else target.dynamics_unit
    reward = plain if target.reward_unit is None else target.reward_unit
    dims, num_seeds = target.delta.shape[-1], max(len(dynamics), len(reward))
    return torch.cat([dynamics.expand(num_seeds, 1, 1, dims), reward.expand(num_seeds, 1, 1).unsqueeze(-1)], dim=-1)


def weighted_squared_error(prediction: Prediction, target: Target, weights: Tensor) -> Tensor:
    """sum_o w_o e_o^2 over the D + 1 outputs, (S, E, B). Weights are (S, E, B, D + 1) or what broadcasts to it."""
    return (weights * output_errors(prediction, target).square()).sum(dim=-1)


def weighted_gaussian_nll(prediction: Prediction, target: Target, weights: Tensor) -> Tensor:
    """sum_o w_o (0.5 [e_o^2 exp(-l_o) + l_o + log 2 pi] - log sigma_o) over the D + 1 outputs, (S, E, B)."""
    assert prediction.log_variance is not None  # the settings refuse such losses without a variance head
    log_variance = prediction.log_variance
    error = output_errors(prediction, target).square()
    density = 0.5 * (error * torch.exp(-log_variance) + log_variance + math.log(2 * math.pi))
    if target.dynamics_unit is not None or target.reward_unit is not None:
        density = density - output_units(target).log()
    return (weights * density).sum(dim=-1)


def with_reward_weight(state: Tensor, target: Target) -> Tensor:
    """Weights (..., D) of the dimensions' squared errors and that of the reward's, c_r / sigma_r^2, (..., D + 1)."""
    weight = 1.0 if target.reward_weight is None else target.reward_weight
    reward = in_reward_units(state.new_ones(1, 1, 1) * weight, target).unsqueeze(-1)
    leading = np.broadcast_shapes(state.shape[:-1], reward.shape[:-1])  # PyTorch's imports SymPy, which takes a second
    return torch.cat([state.expand(*leading, -1), reward.expand(*leading, 1)], dim=-1)


def equal_weights(target: Target) -> Tensor:
    """1 / (D sigma_d^2) for each dimension, c_r / sigma_r^2 for the reward, (S, 1, 1, D + 1)."""
    state = target.delta.new_full((1, 1, 1, target.delta.shape[-1]), 1.0 / target.delta.shape[-1])
    if target.dynamics_unit is not None:
        state = state / target.dynamics_unit.square()
    return with_reward_weight(state, target)


@register_model_loss("mse", output_weights=equal_weights)
def mse(prediction: Prediction, target: Target) -> Tensor:
    """Squared error of a deterministic model (Appendix F.1 of the paper).

    (1/D) sum_d (f_d - (s' - s)_d)^2 / sigma_d^2 + c_r (r_hat - r)^2 / sigma_r^2,  sigma = 1 unless normalised,
    c_r = 1 unless ``reward_weight`` says otherwise
    """
    return weighted_squared_error(prediction, target, equal_weights(target))


def likelihood_weights(target: Target) -> Tensor:
    """1 / (D + 1) for every output. With a reward weight 1 / D for each dimension and c_r for the reward."""
    dims = target.delta.shape[-1]
    if target.reward_weight is None:
        return target.delta.new_full((1, 1, 1, dims + 1), 1.0 / (dims + 1))
    return with_reward_weight(target.delta.new_full((1, 1, 1, dims), 1.0 / dims), target._replace(reward_unit=None))


@register_model_loss("nll", probabilistic=True, output_weights=likelihood_weights)
def nll(prediction: Prediction, target: Target) -> Tensor:
    """Gaussian negative log-likelihood of delta and reward, the baseline (PETS, MBPO, maximum likelihood).

    (1/(D+1)) sum_o n_o,  n_o = 0.5 [ (f_o - y_o)^2 exp(-l_o) + l_o + log 2 pi ],  l the predicted log-variance,
    y = (s' - s, r). With a reward weight c_r it is (1/D) sum_d n_d + c_r n_r, the sum over d of the state alone.
    ``reward_weight="per_output"`` is the first form, as ``"auto"``: the second with c_r = 1/D is (D + 1) / D times it.

    Normalised targets have the density of y / sigma, so that log sigma_o is subtracted from n_o: the same gradient,
    and a number that does not depend on the environment's units.
    """
    return weighted_gaussian_nll(prediction, target, likelihood_weights(target))


def value_gradient_weights(values: ValueEstimates, data: Transitions) -> dict[str, Tensor]:
    """VaGraM's weights: w[i, d] = (1/K) sum_k (dV_k/ds'_d at s'_i)^2 with clipped gradients, (S, N, D).

    With ``weight_terminal="mean"`` a transition that ends an episode has the mean over the seed's other transitions.
    """
    gradients, _ = values.clipped_gradients(data.next_obs, data.terminated)
    return {"weight": values.weights(gradients, data.terminated)}


def vagram_weights(target: Target) -> Tensor:
    """c D^(p-1) w_d / sigma_r^2 for each dimension, c_r / sigma_r^2 for the reward, (S, E, B, D + 1)."""
    scale = target.options["state_weight"] * float(target.delta.shape[-1]) ** (target.options["dimension_power"] - 1)
    state = scale * target.prepared["weight"]
    if target.reward_unit is not None:
        state = state / target.reward_unit.square().unsqueeze(-1)
    return with_reward_weight(state, target)


@register_model_loss(
    "vagram",
    prepare=value_gradient_weights,
    options={"state_weight": LossOption(1.0), "dimension_power": LossOption(0)},
    output_weights=vagram_weights,
)
def vagram(prediction: Prediction, target: Target) -> Tensor:
    """Value-gradient weighted squared error, eq. 7 of Voelcker et al. (ICLR 2022).

    c D^p (1/D) sum_d w_d (f_d - (s' - s)_d)^2 + c_r (r_hat - r)^2,  w from ``value_gradient_weights``,
    c the option ``state_weight``, 1 by default, p the option ``dimension_power``, 0 by default,
    c_r = 1 unless ``reward_weight`` says otherwise

    The mean over dimensions keeps the balance with the reward independent of D, as the published code does. p = 1 is
    the sum over dimensions, p = 2 the right side of eq. 7, dim(S) times that sum. The paper sums over the K = 4 value
    estimates (Appendix E), and w is their mean: c = 4 gives the sum. So c = 4 with p = 2 is the paper's loss, whatever
    D. Where D is fixed, c = 4 D^2 alone is the same.

    Errors in units of sigma_d and values in units of sigma_r have, by the chain rule, the gradients
    (sigma_d / sigma_r) dV/ds'_d and so the weights w'_d = (sigma_d / sigma_r)^2 w_d. As w'_d (e_d / sigma_d)^2 is
    w_d e_d^2 / sigma_r^2, the loss is that of the environment's units over sigma_r^2, whatever sigma_d: what the
    normalisation changes is the networks' outputs. Gradients are clipped in the environment's units.
    """
    return weighted_squared_error(prediction, target, vagram_weights(target))
