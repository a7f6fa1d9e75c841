"""The value-aware model losses beside ``vagram``, one small function each. The page docs/losses.md compares them.

In the equations f is the predicted and s' the observed successor of (s, a), V_k the K = 4 value estimates,
g_k = dV_k/ds' the gradients at s', clipped as VaGraM's, and <x_k> the mean over k. "The paper" is Voelcker et
al. (ICLR 2022). State terms that compare values (``taylor``, ``itervaml``, ``vaml_sac``, ``cvaml``) are squared
differences of values, the same number whatever D. Those that weight dimensions or transitions are means over
dimensions, as ``vagram``. The reward's squared error is added to each, with weight 1 as the equations have it unless
the setting ``reward_weight`` says otherwise.

With normalised targets an equation holds in their units (see ``model_losses``): f - s' is (f - s')_d / sigma_d
outside of V, where V and its gradients are involved the term is the same number over sigma_r^2, and constants such
as lambda and M are constants of these units.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vagram_ray.core.model_losses import (
    LossOption,
    Prediction,
    Target,
    dynamics_error,
    dynamics_mse,
    in_reward_units,
    nll,
    register_model_loss,
    reward_error,
    weighted_squared_error,
    with_reward_weight,
)
from vagram_ray.core.replay import Transitions
from vagram_ray.core.value_gradients import ValueEstimates

MSE_WEIGHT = {"mse_weight": LossOption(0.0)}
"""lambda of an added lambda (1/D) |f - s'|^2. The paper's IterVAML has 0.01 (Appendix D.1)."""


# -- the value function to first order ---------------------------------------------------------------------------


def value_gradient_table(values: ValueEstimates, data: Transitions) -> dict[str, Tensor]:
    """Clipped value gradients at the observed successors, (S, N, K, D)."""
    gradients, _ = values.clipped_gradients(data.next_obs)
    return {"gradient": gradients.transpose(1, 2)}


@register_model_loss("taylor", prepare=value_gradient_table)
def taylor(prediction: Prediction, target: Target) -> Tensor:
    """Squared first-order change of the value, eq. 5 and 6 of the paper, averaged over the value estimates.

    < (g_k . (f - s'))^2 > + (r_hat - r)^2

    The scale is the paper's. By the Cauchy-Schwarz inequality the state term is at most D^2 times that of
    ``vagram``. It vanishes on the whole subspace orthogonal to the gradients, the spurious minima of Appendix B.
    """
    error = (prediction.delta - target.delta).unsqueeze(-2)  # (S, E, B, 1, D)
    change = (target.prepared["gradient"] * error).sum(dim=-1)  # (S, E, B, K)
    return in_reward_units(change.square().mean(dim=-1), target) + reward_error(prediction, target)


@register_model_loss("taylor_hessian", prepare=value_gradient_table, options={"hessian_weight": LossOption(1.0)})
def taylor_hessian(prediction: Prediction, target: Target) -> Tensor:
    """``taylor`` with a bound on what the first order leaves out: half of eq. 12 in Appendix A of the paper.

    < (g_k . (f - s'))^2 > + c |f - s'|^4 + (r_hat - r)^2,  c the option ``hessian_weight``

    c is the square of the paper's M, which bounds the remainder by M |f - s'|^2 and is left to be tuned there. The
    default of 1 is ours. Where the Hessian of V has norms of at most H, M = H / 2 does, so twice the state term bounds
    (V(f) - V(s'))^2 if c >= H^2 / 4 (and no gradient is clipped).
    """
    square_distance = dynamics_error(prediction, target).square().sum(dim=-1)
    return taylor(prediction, target) + target.options["hessian_weight"] * square_distance.square()


# -- the value function at the prediction ------------------------------------------------------------------------


@torch.no_grad()
def observed_values(values: ValueEstimates, data: Transitions) -> dict[str, Tensor]:
    """V_k at the observed successors, (S, N, K)."""
    return {"value": values.values(data.next_obs).transpose(1, 2)}


@register_model_loss("itervaml", prepare=observed_values, options=MSE_WEIGHT)
def itervaml(prediction: Prediction, target: Target) -> Tensor:
    """Squared error of the value, IterVAML (Farahmand, NeurIPS 2018) for the current value estimates.

    < (V_k(f) - V_k(s'))^2 > + lambda (1/D) |f - s'|^2 + (r_hat - r)^2,  lambda the option ``mse_weight``

    The scale is the paper's, which uses lambda = 0.01 (Appendix D.1). For a probabilistic model f is the mean.
    """
    observed = target.prepared["value"].movedim(-1, 1)  # (S, K, E, B)
    change = target.values.values(target.obs + prediction.delta) - observed
    return _squared_change(change, target) + _weighted_mse(prediction, target) + reward_error(prediction, target)


@register_model_loss("vaml_sac", options={**MSE_WEIGHT, "action_samples": LossOption(1, minimum=1)})
def vaml_sac(prediction: Prediction, target: Target) -> Tensor:
    """``itervaml`` for the soft value that SAC maximises, after Appendix C of the paper.

    < (1/n sum_i [V_k(f, x_i) - V_k(s', x_i)])^2 > + lambda (1/D) |f - s'|^2 + (r_hat - r)^2,
    V_k(s, x) = Q_k(s, a) - alpha log pi(a|s),  a = tanh(mean(s) + std(s) x),  x_i ~ N(0, I)

    Both successors get the same noise x_i, new for each transition and minibatch: the loss is 0 at f = s', and
    an upper bound in expectation of the squared difference of the expected soft values, equal to it for many
    samples. n is the option ``action_samples`` (1 by default, as SAC itself), lambda ``mse_weight``.
    """
    noise = target.normal(*target.delta.shape[1:-1], int(target.options["action_samples"]), target.action.shape[-1])

    def soft_values(next_obs: Tensor) -> Tensor:  # (S, E, B, D) -> (S, K, E, B)
        repeated = next_obs.unsqueeze(-2).expand(*noise.shape[:-1], -1)
        return target.values.soft_values(repeated, noise).mean(dim=-1)

    with torch.no_grad():
        observed = soft_values(target.obs + target.delta)
    change = soft_values(target.obs + prediction.delta) - observed
    return _squared_change(change, target) + _weighted_mse(prediction, target) + reward_error(prediction, target)


@register_model_loss(
    "cvaml",
    prepare=observed_values,
    probabilistic=True,
    options={"model_samples": LossOption(4, minimum=2), "nll_weight": LossOption(0.01)},
)
def cvaml(prediction: Prediction, target: Target) -> Tensor:
    """Calibrated value-aware loss of Voelcker et al. (ICML 2025, arXiv 2505.22772) for a Gaussian model.

    < (mean_i v_ki - V_k(s'))^2 - var_i(v_ki) / m > + lambda nll + (r_hat - r)^2,
    v_ki = V_k(f + std x_i),  x_i ~ N(0, I),  i = 1 .. m,  var with the divisor m - 1

    The square of a sample mean exceeds the square of the expectation by the variance of the value over m: without
    the correction a model would pay for being stochastic, and the loss prefer a variance too small. With it the
    state term is an unbiased estimate of (E V_k(f) - V_k(s'))^2, the same as the mean of
    (v_ki - V_k(s')) (v_kj - V_k(s')) over the pairs i != j. Single values may be negative. This is the paper's
    one-step, unbootstrapped case (its m = 1, b = 0). m here is the option ``model_samples``.

    The value leaves variances undetermined where it is linear, and those of the reward always. A likelihood with
    the small weight lambda, the option ``nll_weight``, determines them. It is ours, and minimal at the same model
    where that is Gaussian. ``reward_weight`` leaves it as it is, and weights the squared error of the reward.
    """
    assert prediction.log_variance is not None  # the settings refuse cvaml without a variance head
    samples, obs_dim = int(target.options["model_samples"]), target.delta.shape[-1]
    noise = target.normal(*target.delta.shape[1:-1], samples, obs_dim)
    std = torch.exp(0.5 * prediction.log_variance[..., :obs_dim])
    next_obs = (target.obs + prediction.delta).unsqueeze(-2) + std.unsqueeze(-2) * noise  # (S, E, B, m, D)
    error = target.values.values(next_obs) - target.prepared["value"].movedim(-1, 1).unsqueeze(-1)  # (S, K, E, B, m)
    calibrated = error.mean(dim=-1).square() - error.var(dim=-1, correction=1) / samples
    likelihood = target.options["nll_weight"] * nll(prediction, target._replace(reward_weight=None))
    return in_reward_units(calibrated.mean(dim=1), target) + likelihood + reward_error(prediction, target)


def _squared_change(change: Tensor, target: Target) -> Tensor:
    """<change_k^2> of values (S, K, E, B), in the rewards' units."""
    return in_reward_units(change.square().mean(dim=1), target)


def _weighted_mse(prediction: Prediction, target: Target) -> Tensor:
    return target.options["mse_weight"] * dynamics_mse(prediction, target)


# -- transitions weighted by their value -------------------------------------------------------------------------


@torch.no_grad()
def value_weights(values: ValueEstimates, data: Transitions) -> dict[str, Tensor]:
    """<|V_k(s')|> over its mean over the data, (S, N)."""
    magnitude = values.values(data.next_obs).abs().mean(dim=1)
    return {"weight": magnitude / magnitude.mean(dim=1, keepdim=True)}


@torch.no_grad()
def inverse_value_weights(values: ValueEstimates, data: Transitions) -> dict[str, Tensor]:
    """1 / <|V_k(s')|>, clipped as value gradients are, over its mean over the data, (S, N)."""
    magnitude = values.values(data.next_obs).abs().mean(dim=1)
    # Where the value changes its sign the inverse has no bound: unclipped, a few transitions would be all data.
    inverse = values.clip(magnitude.clamp_min(torch.finfo(magnitude.dtype).eps).reciprocal())
    return {"weight": inverse / inverse.mean(dim=1, keepdim=True)}


def transition_weights(target: Target) -> Tensor:
    """w / (D sigma_d^2) for each dimension, c_r / sigma_r^2 for the reward, (S, E, B, D + 1)."""
    state = target.prepared["weight"].unsqueeze(-1) / target.delta.shape[-1]
    if target.dynamics_unit is not None:
        state = state / target.dynamics_unit.square()
    return with_reward_weight(state.expand(*state.shape[:-1], target.delta.shape[-1]), target)


@register_model_loss("value_weighted", prepare=inverse_value_weights, output_weights=transition_weights)
def value_weighted(prediction: Prediction, target: Target) -> Tensor:
    """Squared error weighted by the inverse of the value, the baseline of Figure 5 as the paper's text has it.

    w (1/D) |f - s'|^2 + (r_hat - r)^2,  w from ``inverse_value_weights``

    The weights average to 1 over the data, which keeps the balance with the reward whatever the size of the value.
    The paper's 1 / V is that times a constant, except where it is clipped.
    """
    return weighted_squared_error(prediction, target, transition_weights(target))


@register_model_loss("value_weighted_published", prepare=value_weights, output_weights=transition_weights)
def value_weighted_published(prediction: Prediction, target: Target) -> Tensor:
    """Squared error weighted by the value, the baseline of Figure 5 as in the published code (pairlab/vagram).

    w (1/D) |f - s'|^2 + (r_hat - r)^2,  w from ``value_weights``

    The published weights are <|V|> over the sum of |V| over the minibatch and the K estimates (and take V at s' - s,
    a slip). Theirs average to 1 / (K B), which all but removes the state from the loss. These average to 1.
    """
    return value_weighted(prediction, target)
