"""Each value-aware loss against NumPy, finite differences and its theory, and at work in a fit and in an epoch."""

import itertools

import numpy as np
import pytest
import torch
from scipy.stats import norm

from tests.core.test_model_fitting import linear_data, make_fit
from tests.core.toy import PointEnvs, small_agent, small_settings
from vagram_ray.core.model_losses import Prediction, Target, get_model_loss, model_loss_names
from vagram_ray.core.random_streams import RandomStreams
from vagram_ray.core.replay import Transitions
from vagram_ray.core.sac import SAC
from vagram_ray.core.value_gradients import ValueEstimates, norm_percentile

S, E, B, D, A, K = 2, 3, 5, 6, 2, 4
VALUE_WEIGHTED = ["value_weighted", "value_weighted_published"]
NEW_LOSSES = ["taylor", "taylor_hessian", "itervaml", "vaml_sac", "cvaml", *VALUE_WEIGHTED]
OPTIONS = {"hessian_weight": 0.7, "mse_weight": 0.3, "action_samples": 3, "model_samples": 3, "nll_weight": 0.2}


def randn(*shape):
    return torch.randn(*shape, dtype=torch.float64)


@pytest.fixture(scope="module")
def values():
    """Value estimates in double precision: all four different, with two temperatures."""
    settings = small_settings(actor_hidden_sizes=(8, 7), critic_hidden_sizes=(9, 8))
    torch.manual_seed(1)
    sac = SAC(settings, S, D, A, RandomStreams([0, 1], "init"))
    for module in (sac.actor, sac.critic, sac.target_critic):
        with torch.no_grad():
            module.network.flat += 0.1 * torch.randn_like(module.network.flat)
        module.double()
    sac.log_alpha = torch.tensor([[-1.0], [-2.0]], dtype=torch.float64)
    return ValueEstimates(sac, clip_percentile=80.0)


class FixedNoise:
    """The same numbers at every call, as finite differences need them; None asks for zeros."""

    def __init__(self, seed=7):
        self.seed = seed

    def normal(self, *shape):
        if self.seed is None:
            return torch.zeros(S, *shape, dtype=torch.float64)
        generator = torch.Generator().manual_seed(self.seed)
        return torch.randn(S, *shape, generator=generator, dtype=torch.float64)


def prepared_rows(name, values, target):
    """What the loss's ``prepare`` finds out about the rows of a target, taken as the whole data."""
    prepare = get_model_loss(name).prepare
    if prepare is None:
        return {}
    obs, action, reward = (column.flatten(1, 2) for column in (target.obs, target.action, target.reward))
    data = Transitions(obs, action, reward, obs + target.delta.flatten(1, 2), torch.zeros_like(reward))
    return {key: table.unflatten(1, (E, B)) for key, table in prepare(values, data).items()}


def make_pair(name, values, options=OPTIONS, noise=7):
    prediction = Prediction(randn(S, E, B, D), randn(S, E, B), randn(S, E, B, D + 1))
    observed = [randn(S, E, B, D), randn(S, E, B, A), randn(S, E, B, D), randn(S, E, B)]
    loss = get_model_loss(name)
    target = Target(*observed, {}, values, loss.resolve_options(options), FixedNoise(noise))
    return prediction, target._replace(prepared=prepared_rows(name, values, target))


def in_units(target, kind):
    """The target with errors to be measured in units of each seed's own: "none", "dynamics", "reward" or "both"."""
    sigma = torch.rand(S, 1, 1, D, dtype=torch.float64) + torch.tensor([0.1, 0.3, 1.0, 1.0, 3.0, 10.0])
    sigma_r = torch.rand(S, 1, 1, dtype=torch.float64) + 2.0
    return target._replace(
        dynamics_unit=sigma if kind in ("dynamics", "both") else None,
        reward_unit=sigma_r if kind in ("reward", "both") else None,
    )


UNITS = ["none", "dynamics", "reward", "both"]


def numpy_units(target, index):
    """sigma_d (D,) and sigma_r of the transition at ``index``, 1 where there is none."""
    sigma = np.ones(D) if target.dynamics_unit is None else target.dynamics_unit[index[0], 0, 0].numpy()
    return sigma, 1.0 if target.reward_unit is None else target.reward_unit[index[0], 0, 0].item()


def state_term(name, prediction, target):
    """The loss of a prediction whose reward is right."""
    return get_model_loss(name).function(prediction._replace(reward=target.reward), target)


# -- against NumPy -----------------------------------------------------------------------------------------------


def layers(network, row):
    return [view[row].detach().numpy() for view in network.views]


def perceptron(weights, x):
    for layer in range(0, len(weights) - 2, 2):
        x = np.maximum(x @ weights[layer] + weights[layer + 1][0], 0.0)
    return x @ weights[-2] + weights[-1][0]


def numpy_values(values, seed, state, noise=None):
    """The K values of one state in plain NumPy; with noise, those of its action less alpha log pi."""
    sac = values.sac
    mean, raw = np.split(perceptron(layers(sac.actor.network, seed), state), 2)
    action, penalty = np.tanh(mean), 0.0
    if noise is not None:
        std = np.exp(-5.0 + 3.5 * (np.tanh(raw) + 1.0))
        action = np.tanh(mean + std * noise)
        log_prob = norm.logpdf(noise).sum() - np.log(std).sum() - np.log(1.0 - action**2).sum()
        penalty = sac.alpha[seed].item() * log_prob
    joint = np.concatenate([state, action])
    critics = [(sac.critic, 0), (sac.critic, 1), (sac.target_critic, 0), (sac.target_critic, 1)]
    return np.array([perceptron(layers(c.network, 2 * seed + k), joint)[0] for c, k in critics]) - penalty


def numpy_gradients(values, seed, state, step=1e-6):
    """dV_k/ds (K, D) with the action held, by differences of the NumPy networks."""
    sac = values.sac
    action = np.tanh(np.split(perceptron(layers(sac.actor.network, seed), state), 2)[0])

    def at(shifted):
        joint = np.concatenate([shifted, action])
        critics = [(sac.critic, 0), (sac.critic, 1), (sac.target_critic, 0), (sac.target_critic, 1)]
        return np.array([perceptron(layers(c.network, 2 * seed + k), joint)[0] for c, k in critics])

    shifts = step * np.eye(D)
    return np.stack([(at(state + shift) - at(state - shift)) / (2 * step) for shift in shifts], axis=1)


def numpy_clipped_gradients(values, observed):
    """(S, E, B, K, D), clipped over the seed's rows at the 80th percentile."""
    raw = np.stack(
        [[[numpy_gradients(values, s, observed[s, e, b]) for b in range(B)] for e in range(E)] for s in range(S)]
    )
    norms = np.linalg.norm(raw, axis=-1)
    limit = np.percentile(norms.reshape(S, E * B, K), 80.0, axis=1)[:, None, None]
    return raw * np.minimum(1.0, limit / norms)[..., None]


def numpy_state_term(name, index, values, prediction, target, gradients, noise):
    """The state term of one transition, from the equations in docs/losses.md."""
    seed, s = index[0], target.obs[index].numpy()
    f, observed = s + prediction.delta[index].numpy(), s + target.delta[index].numpy()
    sigma, sigma_r = numpy_units(target, index)
    error = (f - observed) / sigma
    mse = (error**2).mean()
    if name in ("taylor", "taylor_hessian"):
        first_order = np.mean([(gradients[index][k] * sigma / sigma_r @ error) ** 2 for k in range(K)])
        return first_order + (OPTIONS["hessian_weight"] * np.linalg.norm(error) ** 4 if name != "taylor" else 0.0)
    if name == "itervaml":
        change = (numpy_values(values, seed, f) - numpy_values(values, seed, observed)) / sigma_r
        return np.mean(change**2) + OPTIONS["mse_weight"] * mse
    if name == "vaml_sac":
        pairs = [(numpy_values(values, seed, f, x), numpy_values(values, seed, observed, x)) for x in noise]
        change = np.mean([at_f - at_observed for at_f, at_observed in pairs], axis=0) / sigma_r
        return np.mean(change**2) + OPTIONS["mse_weight"] * mse
    assert name == "cvaml"
    std = np.exp(0.5 * prediction.log_variance[index].numpy())
    errors = [
        (numpy_values(values, seed, f + std[:D] * x) - numpy_values(values, seed, observed)) / sigma_r for x in noise
    ]  # samples of (K,)
    pairs = [np.mean(a * b) for a, b in itertools.permutations(errors, 2)]
    unit = np.append(sigma, sigma_r)
    mean = np.append(prediction.delta[index].numpy(), prediction.reward[index].item()) / unit
    seen = np.append(target.delta[index].numpy(), target.reward[index].item()) / unit
    return np.mean(pairs) - OPTIONS["nll_weight"] * norm.logpdf(seen, mean, std / unit).mean()


@pytest.mark.parametrize("units", UNITS)
@pytest.mark.parametrize("name", ["taylor", "taylor_hessian", "itervaml", "vaml_sac", "cvaml"])
def test_the_loss_equals_its_equation_in_numpy(name, units, values):
    prediction, target = make_pair(name, values)
    target = in_units(target, units)
    loss = get_model_loss(name).function(prediction, target)
    samples, width = (OPTIONS["action_samples"], A) if name == "vaml_sac" else (OPTIONS["model_samples"], D)
    noise = FixedNoise().normal(E, B, samples, width).numpy()
    gradients = numpy_clipped_gradients(values, (target.obs + target.delta).numpy())
    for index in np.ndindex(S, E, B):
        expected = numpy_state_term(name, index, values, prediction, target, gradients, noise[index])
        expected += (prediction.reward[index] - target.reward[index]).item() ** 2 / numpy_units(target, index)[1] ** 2
        np.testing.assert_allclose(loss[index].item(), expected, rtol=1e-6)


@pytest.mark.parametrize("units", UNITS)
@pytest.mark.parametrize("name", VALUE_WEIGHTED)
def test_value_weighted_losses_equal_their_equation_in_numpy(name, units, values):
    prediction, target = make_pair(name, values)
    target = in_units(target, units)
    loss = get_model_loss(name).function(prediction, target)
    observed = (target.obs + target.delta).numpy()
    magnitude = np.array([np.abs(numpy_values(values, i[0], observed[i])).mean() for i in np.ndindex(S, E, B)])
    magnitude = magnitude.reshape(S, E * B)
    if name == "value_weighted":
        inverse = 1.0 / magnitude
        weight = np.minimum(inverse, np.percentile(inverse, 80.0, axis=1, keepdims=True))
    else:
        weight = magnitude / magnitude.sum(axis=1, keepdims=True) / K  # the published weights of one batch
    weight /= weight.mean(axis=1, keepdims=True)
    per_seed = [numpy_units(target, (seed,)) for seed in range(S)]
    sigma, sigma_r = (np.stack(parts) for parts in zip(*per_seed, strict=True))
    state = (((prediction.delta - target.delta).numpy() / sigma[:, None, None]) ** 2).mean(axis=-1)
    reward_error = (prediction.reward - target.reward).numpy() / sigma_r[:, None, None]
    expected = weight.reshape(S, E, B) * state + reward_error**2
    np.testing.assert_allclose(loss.numpy(), expected, rtol=1e-6)


# -- gradients ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("units", ["none", "both"])
@pytest.mark.parametrize("name", NEW_LOSSES)
def test_gradients_equal_finite_differences(name, units, values):
    prediction, target = make_pair(name, values)
    target = in_units(target, units)
    probabilistic = get_model_loss(name).probabilistic

    def total(*arguments):
        return get_model_loss(name).function(Prediction(*arguments, *([None] * (3 - len(arguments)))), target).sum()

    used = prediction[:3] if probabilistic else prediction[:2]
    assert torch.autograd.gradcheck(total, tuple(tensor.clone().requires_grad_() for tensor in used))


@pytest.mark.parametrize("name", NEW_LOSSES)
def test_gradients_reach_the_prediction_and_neither_critics_nor_policy(name, values):
    prediction, target = make_pair(name, values)
    leaf = prediction.delta.clone().requires_grad_()
    get_model_loss(name).function(prediction._replace(delta=leaf), target).sum().backward()
    assert (leaf.grad != 0).any(dim=-1).all()
    for module in (values.sac.actor, values.sac.critic, values.sac.target_critic):
        assert all(view.grad is None and view.requires_grad for view in module.network.views)
        assert module.network.flat.grad is None


# -- theory ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NEW_LOSSES)
def test_a_perfect_prediction_has_no_loss(name, values):
    _, target = make_pair(name, values, {**OPTIONS, "nll_weight": 0.0})
    certain = torch.full((S, E, B, D + 1), -60.0, dtype=torch.float64)
    loss = get_model_loss(name).function(Prediction(target.delta, target.reward, certain), target)
    torch.testing.assert_close(loss, torch.zeros_like(loss), atol=1e-20, rtol=0)


def test_vagram_bounds_taylor(values):
    """Cauchy-Schwarz: (sum_d x_d)^2 <= D sum_d x_d^2, so D vagram >= taylor / D; equal if all x_d are."""
    prediction, target = make_pair("taylor", values)
    gradient = target.prepared["gradient"]
    options = {"state_weight": 1.0, "dimension_power": 0}
    weighted = target._replace(prepared={"weight": gradient.square().mean(dim=-2)}, options=options)
    vagram, taylor = state_term("vagram", prediction, weighted), state_term("taylor", prediction, target)
    assert (D * vagram >= taylor / D).all()
    aligned = prediction._replace(delta=target.delta + 1.0 / gradient[..., 0, :])
    single = target._replace(prepared={"gradient": gradient[..., :1, :]})
    weighted = target._replace(prepared={"weight": gradient[..., 0, :].square()}, options=options)
    torch.testing.assert_close(D * state_term("vagram", aligned, weighted), state_term("taylor", aligned, single) / D)


def test_taylor_is_flat_on_the_plane_orthogonal_to_the_gradients(values):
    prediction, target = make_pair("taylor", values)
    gradient = target.prepared["gradient"]  # K = 4 gradients in D = 6 dimensions leave a plane
    orthogonal = torch.linalg.svd(gradient).Vh[..., -1, :]
    for delta in (prediction.delta, target.delta):
        moved = prediction._replace(delta=delta + 100.0 * orthogonal)
        torch.testing.assert_close(
            state_term("taylor", moved, target), state_term("taylor", prediction._replace(delta=delta), target)
        )
        bounded = target._replace(options={"hessian_weight": 0.1})
        assert (state_term("taylor_hessian", moved, bounded) > 1e6).all()


class QuadraticValues:
    """V(s) = s H s / 2 + b s, the same for every estimate."""

    def __init__(self, curvature=1.0):
        basis = torch.linalg.qr(randn(D, D)).Q
        self.hessian = basis @ torch.diag(curvature * torch.linspace(-1, 1, D, dtype=torch.float64)) @ basis.T
        self.slope = randn(D)

    def values(self, obs):
        value = 0.5 * torch.einsum("...i,ij,...j->...", obs, self.hessian, obs) + obs @ self.slope
        return value.unsqueeze(1).expand(-1, K, *[-1] * (obs.dim() - 2))

    def clipped_gradients(self, obs):
        return (obs @ self.hessian + self.slope).unsqueeze(1).expand(-1, K, -1, -1), None


def test_taylor_hessian_bounds_the_error_of_the_value():
    values = QuadraticValues(curvature=3.0)
    options = {"hessian_weight": 3.0**2 / 4}
    prediction, target = make_pair("taylor_hessian", values, options)
    bound = 2.0 * state_term("taylor_hessian", prediction, target)
    exact = target._replace(prepared=prepared_rows("itervaml", values, target), options={"mse_weight": 0.0})
    assert (bound >= state_term("itervaml", prediction, exact)).all()


def test_taylor_is_the_first_order_of_itervaml():
    values = QuadraticValues()
    prediction, target = make_pair("taylor", values)
    near = prediction._replace(delta=target.delta + 1e-5 * prediction.delta)
    exact = target._replace(prepared=prepared_rows("itervaml", values, target), options={"mse_weight": 0.0})
    torch.testing.assert_close(
        state_term("taylor", near, target), state_term("itervaml", near, exact), rtol=1e-2, atol=1e-16
    )


def test_vaml_sac_without_entropy_and_noise_is_itervaml(values):
    hot = values.sac.log_alpha
    values.sac.log_alpha = torch.full_like(hot, -torch.inf)
    try:
        prediction, target = make_pair("vaml_sac", values, noise=None)
        plain = target._replace(prepared=prepared_rows("itervaml", values, target))
        torch.testing.assert_close(
            state_term("vaml_sac", prediction, target), state_term("itervaml", prediction, plain)
        )
    finally:
        values.sac.log_alpha = hot


def test_vaml_sac_approaches_the_expected_soft_values_from_above(values):
    """The mean of a square exceeds the square of the mean by the variance, which more samples of the action lower."""
    means = []
    for samples in (1, 4, 400):
        torch.manual_seed(0)
        prediction, target = make_pair("vaml_sac", values, {"action_samples": samples})
        draws = [
            state_term("vaml_sac", prediction, target._replace(streams=FixedNoise(seed))).mean().item()
            for seed in range(max(1, 400 // samples))
        ]
        means.append(np.mean(draws))
    assert means[0] > means[1] > means[2]


def test_cvaml_has_no_bias_and_its_uncorrected_form_has():
    """For V(s) = b s the expectation is known: (b (f - s'))^2, whatever the predicted variance."""
    values = QuadraticValues(curvature=0.0)
    prediction, target = make_pair("cvaml", values, {"nll_weight": 0.0, "model_samples": 2})
    expected = ((prediction.delta - target.delta) @ values.slope).square()
    draws, uncorrected = [], []
    for seed in range(4000):
        noisy = target._replace(streams=FixedNoise(seed))
        draws.append(state_term("cvaml", prediction, noisy))
        error = (prediction.delta - target.delta).unsqueeze(-2) + (
            torch.exp(0.5 * prediction.log_variance[..., :D]).unsqueeze(-2) * FixedNoise(seed).normal(E, B, 2, D)
        )
        uncorrected.append((error @ values.slope).mean(dim=-1).square())
    draws, uncorrected = torch.stack(draws), torch.stack(uncorrected)
    standard_error = draws.std(dim=0) / len(draws) ** 0.5
    assert ((draws.mean(dim=0) - expected).abs() < 4.5 * standard_error).all()
    variance = (torch.exp(prediction.log_variance[..., :D]) * values.slope.square()).sum(dim=-1)
    torch.testing.assert_close(uncorrected.mean(dim=0), expected + variance / 2, rtol=0.3, atol=0.1)


class ConstantValue:
    """V = -7 everywhere."""

    clip_percentile = 95.0

    def values(self, obs):
        return torch.full((obs.shape[0], K, *obs.shape[1:-1]), -7.0, dtype=obs.dtype)

    def clip(self, magnitudes):
        return torch.minimum(magnitudes, norm_percentile(magnitudes, 95.0).unsqueeze(-1))


@pytest.mark.parametrize("name", VALUE_WEIGHTED)
def test_value_weighting_by_a_constant_value_is_mse(name):
    prediction, target = make_pair(name, ConstantValue())
    torch.testing.assert_close(
        get_model_loss(name).function(prediction, target), get_model_loss("mse").function(prediction, target)
    )


def test_values_near_zero_do_not_take_all_the_weight():
    class OneZero(ConstantValue):
        def values(self, obs):
            value = super().values(obs).clone()
            value[:, :, 0] = 0.0
            return value

    obs = randn(S, 40, D)
    weight = get_model_loss("value_weighted").prepare(OneZero(), Transitions(obs, obs, obs[..., 0], obs, obs[..., 0]))[
        "weight"
    ]
    torch.testing.assert_close(weight, torch.ones_like(weight))


# -- normalised targets ------------------------------------------------------------------------------------------


class RescaledValues:
    """The value functions of the same task told in other units: V'(s') = V(sigma s') / sigma_r."""

    def __init__(self, values, sigma, sigma_r):
        self.raw, self.sigma, self.sigma_r = values, sigma, sigma_r  # sigma (S, 1, 1, D), sigma_r (S, 1, 1)

    def _in_raw_units(self, obs):
        return obs * self.sigma.reshape(S, *[1] * (obs.dim() - 2), D)

    def _in_rewards(self, values):
        return values / self.sigma_r.reshape(S, *[1] * (values.dim() - 1))

    def values(self, obs):
        return self._in_rewards(self.raw.values(self._in_raw_units(obs)))

    def soft_values(self, obs, noise):
        return self._in_rewards(self.raw.soft_values(self._in_raw_units(obs), noise))

    def clipped_gradients(self, obs, terminated=None):
        gradients, _ = self.raw.clipped_gradients(self._in_raw_units(obs))
        return self._in_rewards(gradients * self.sigma), None

    def weights(self, clipped, terminated):
        return self.raw.weights(clipped, terminated)

    def clip(self, magnitudes):
        return self.raw.clip(magnitudes)


@pytest.mark.parametrize("name", ["mse", "nll", "vagram", *NEW_LOSSES])
def test_a_loss_of_normalised_targets_is_that_of_the_task_in_these_units(name, values):
    prediction, target = make_pair(name, values)
    target = in_units(target, "both")
    sigma, sigma_r = target.dynamics_unit, target.reward_unit
    rescaled_values = RescaledValues(values, sigma, sigma_r)
    units = torch.cat([sigma, sigma_r.unsqueeze(-1)], dim=-1)
    rescaled_prediction = Prediction(
        prediction.delta / sigma, prediction.reward / sigma_r, prediction.log_variance - 2 * units.log()
    )
    rescaled = target._replace(
        obs=target.obs / sigma,
        delta=target.delta / sigma,
        reward=target.reward / sigma_r,
        values=rescaled_values,
        dynamics_unit=None,
        reward_unit=None,
    )
    rescaled = rescaled._replace(prepared=prepared_rows(name, rescaled_values, rescaled))
    function = get_model_loss(name).function
    torch.testing.assert_close(function(prediction, target), function(rescaled_prediction, rescaled))


@pytest.mark.parametrize("name", ["vagram", "taylor", "itervaml", "vaml_sac"])
def test_what_the_value_measures_does_not_depend_on_the_unit_of_the_state(name, values):
    prediction, target = make_pair(name, values, {})
    raw = state_term(name, prediction, target)
    torch.testing.assert_close(state_term(name, prediction, in_units(target, "dynamics")), raw)
    both = in_units(target, "both")
    torch.testing.assert_close(state_term(name, prediction, both), raw / both.reward_unit.square())


# -- at work -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NEW_LOSSES)
def test_a_fit_lowers_the_loss_on_held_out_transitions(name):
    fit = make_fit(linear_data(2, 200), [0, 1], model_loss=name, model_max_epochs=8, model_lr=1e-2)
    before = fit._validate(fit.cohort)
    assert torch.equal(before, fit._validate(fit.cohort)), "validations of the same weights differ"
    metrics = fit.run()
    assert all(metric.isfinite().all() for metric in metrics.values())
    assert (metrics["validation_loss"] < 0.5 * before.mean(dim=1)).all()


@pytest.mark.parametrize("name", NEW_LOSSES)
def test_a_seed_in_a_cohort_is_fitted_as_it_would_be_alone(name):
    seeds, data = [3, 8, 5], linear_data(3, 60, noise=0.3)
    overrides = dict(model_loss=name, model_patience=1, model_lr=1e-2, model_loss_options={"mse_weight": 0.01})
    cohort = make_fit(data, seeds, **overrides)
    metrics = cohort.run()
    assert len(set(metrics["fit_epochs"].tolist())) > 1, "the seeds should stop at different epochs here"
    for position, seed in enumerate(seeds):
        alone = make_fit(Transitions(*(column[[position]] for column in data)), [seed], **overrides)
        assert alone.run()["fit_epochs"].item() == metrics["fit_epochs"][position].item()
        torch.testing.assert_close(
            cohort.dynamics.member_rows()[position], alone.dynamics.member_rows()[0], atol=1e-4, rtol=1e-3
        )
        next_draw = cohort.streams.select_seeds(torch.tensor([position])).uniform(3)
        torch.testing.assert_close(next_draw, alone.streams.uniform(3))


@pytest.mark.parametrize("name", ["itervaml", "vaml_sac", "cvaml"])
def test_selected_seeds_keep_their_values_and_their_noise(name):
    fit = make_fit(linear_data(3, 60), [3, 8, 5], model_loss=name)
    fit.cohort.values.sac.log_alpha.copy_(torch.tensor([[-3.0], [-1.0], [1.0]]))
    index = torch.tensor([2, 0])
    torch.testing.assert_close(fit._validate(fit.cohort.select_seeds(index)), fit._validate(fit.cohort)[index])


@pytest.mark.parametrize("name", NEW_LOSSES)
def test_an_agent_trains_with_the_loss(name):
    agent = small_agent(
        model_loss=name,
        epoch_length=20,
        num_steps_sampled_before_learning_starts=40,
        model_max_epochs=2,
        model_loss_options={"mse_weight": 0.01},
    )
    metrics = agent.train_epoch(PointEnvs((0, 1)))
    assert not agent.failed.any()
    del metrics["model/unexplained_dim_1"]  # the point's second dimension is constant
    assert all(np.isfinite(metrics[key]).all() for key in metrics if key.startswith(("model/", "sac/")))


def test_all_losses_of_the_paper_are_registered():
    assert {"nll", "mse", "vagram", *NEW_LOSSES} <= set(model_loss_names())
