import numpy as np
import pytest
import torch
from torch.distributions import Normal

from tests.core.test_model_fitting import linear_data, make_fit
from vagram_ray.core import model_losses
from vagram_ray.core.model_losses import (
    LossOption,
    Prediction,
    Target,
    get_model_loss,
    model_loss_names,
    register_model_loss,
)

S, E, B, D = 2, 3, 5, 4


def make_pair(seed=0):
    generator = torch.Generator().manual_seed(seed)

    def randn(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    prediction = Prediction(randn(S, E, B, D), randn(S, E, B), randn(S, E, B, D + 1))
    weight = randn(S, E, B, D).square()
    observed = (randn(S, E, B, D), randn(S, E, B, 1), randn(S, E, B, D), randn(S, E, B))
    target = Target(*observed, {"weight": weight}, None, {"state_weight": 1.0, "dimension_power": 0})
    return prediction, target


def test_vagram_equals_equation_7_in_numpy():
    """Eq. 7 per transition: sum_m (dV/ds_m (f_m - s'_m))^2, here averaged over m and over the value estimates."""
    prediction, target = make_pair()
    gradients = torch.randn(S, E, B, 4, D, dtype=torch.float64)  # four value estimates
    target.prepared["weight"] = gradients.square().mean(dim=3)
    loss = get_model_loss("vagram").function(prediction, target)
    g, f, y = gradients.numpy(), prediction.delta.numpy(), target.delta.numpy()
    for index in np.ndindex(S, E, B):
        per_estimate = [sum((g[index][k][m] * (f[index][m] - y[index][m])) ** 2 for m in range(D)) for k in range(4)]
        reward_error = (prediction.reward[index] - target.reward[index]).item() ** 2
        np.testing.assert_allclose(loss[index].item(), np.mean(per_estimate) / D + reward_error, rtol=1e-12)


def test_the_state_weight_scales_the_state_term_alone():
    """state_weight = D^2 is the bound of eq. 7, dim(S) sum_m (...)^2."""
    prediction, target = make_pair()
    loss = get_model_loss("vagram").function
    reward_error = (prediction.reward - target.reward).square()
    state_term = loss(prediction, target) - reward_error
    options = {"state_weight": float(D**2), "dimension_power": 0}
    bound = loss(prediction, target._replace(options=options)) - reward_error
    torch.testing.assert_close(bound, D**2 * state_term)
    error = (prediction.delta - target.delta).square()
    torch.testing.assert_close(bound, D * (target.prepared["weight"] * error).sum(dim=-1))


def test_vagram_with_unit_gradients_is_mse():
    prediction, target = make_pair()
    target.prepared["weight"] = torch.ones(S, E, B, D, dtype=torch.float64)
    torch.testing.assert_close(
        get_model_loss("vagram").function(prediction, target), get_model_loss("mse").function(prediction, target)
    )


def test_vagram_ignores_dimensions_without_value():
    prediction, target = make_pair()
    target.prepared["weight"][..., 2] = 0.0
    changed = prediction._replace(delta=prediction.delta.clone())
    changed.delta[..., 2] += 100.0
    loss = get_model_loss("vagram").function
    assert torch.equal(loss(prediction, target), loss(changed, target))


@pytest.mark.parametrize("name", ["mse", "vagram"])
def test_a_perfect_prediction_has_no_loss(name):
    _, target = make_pair()
    perfect = Prediction(target.delta, target.reward, None)
    assert torch.equal(get_model_loss(name).function(perfect, target), torch.zeros(S, E, B, dtype=torch.float64))


def test_nll_equals_the_normal_distribution():
    prediction, target = make_pair()
    mean = torch.cat([prediction.delta, prediction.reward.unsqueeze(-1)], dim=-1)
    observed = torch.cat([target.delta, target.reward.unsqueeze(-1)], dim=-1)
    expected = -Normal(mean, (0.5 * prediction.log_variance).exp()).log_prob(observed).mean(dim=-1)
    torch.testing.assert_close(get_model_loss("nll").function(prediction, target), expected)


def in_units(target, dynamics=True, reward=True):
    """The target with errors to be measured in units of each seed's own, and these units."""
    sigma = torch.rand(S, 1, 1, D, dtype=torch.float64) + torch.tensor([0.1, 1.0, 10.0, 100.0])
    sigma_r = torch.rand(S, 1, 1, dtype=torch.float64) + 5.0
    units = {"dynamics_unit": sigma if dynamics else None, "reward_unit": sigma_r if reward else None}
    return target._replace(**units), sigma if dynamics else torch.ones(1), sigma_r if reward else torch.ones(1)


UNITS = [(False, True), (True, False), (True, True)]


@pytest.mark.parametrize(("dynamics", "reward"), UNITS)
def test_mse_is_measured_in_the_targets_units(dynamics, reward):
    prediction, target = make_pair()
    target, sigma, sigma_r = in_units(target, dynamics, reward)
    loss = get_model_loss("mse").function(prediction, target)
    f, y = prediction.delta.numpy() / sigma.numpy(), target.delta.numpy() / sigma.numpy()
    reward_error = (prediction.reward.numpy() / sigma_r.numpy() - target.reward.numpy() / sigma_r.numpy()) ** 2
    np.testing.assert_allclose(loss, ((f - y) ** 2).mean(axis=-1) + reward_error, rtol=1e-9)


@pytest.mark.parametrize(("dynamics", "reward"), UNITS)
def test_nll_is_the_density_of_the_normalised_targets(dynamics, reward):
    """Whatever is subtracted from both mean and target: here 3 units."""
    prediction, target = make_pair()
    target, sigma, sigma_r = in_units(target, dynamics, reward)
    unit = torch.cat([sigma.expand(S, 1, 1, D), sigma_r.expand(S, 1, 1).unsqueeze(-1)], dim=-1)
    mean = torch.cat([prediction.delta, prediction.reward.unsqueeze(-1)], dim=-1) / unit - 3.0
    observed = torch.cat([target.delta, target.reward.unsqueeze(-1)], dim=-1) / unit - 3.0
    std = (0.5 * prediction.log_variance).exp() / unit
    expected = -Normal(mean, std).log_prob(observed).mean(dim=-1)
    torch.testing.assert_close(get_model_loss("nll").function(prediction, target), expected)


@pytest.mark.parametrize(("dynamics", "reward"), UNITS)
def test_vagrams_weights_transform_by_the_chain_rule(dynamics, reward):
    """w'_d = (sigma_d / sigma_r)^2 w_d on errors in units of sigma_d, rewards in units of sigma_r, in NumPy."""
    prediction, raw = make_pair()
    raw = raw._replace(options={"state_weight": 2.5, "dimension_power": 0})
    target, sigma, sigma_r = in_units(raw, dynamics, reward)
    loss = get_model_loss("vagram").function(prediction, target)
    weight = (sigma.numpy() / sigma_r.unsqueeze(-1).numpy()) ** 2 * target.prepared["weight"].numpy()
    error = (prediction.delta.numpy() - target.delta.numpy()) / sigma.numpy()
    reward_error = (prediction.reward.numpy() - target.reward.numpy()) / sigma_r.numpy()
    expected = 2.5 * (weight * error**2).mean(axis=-1) + reward_error**2
    np.testing.assert_allclose(loss, expected, rtol=1e-9)
    # So the normalisation divides the loss by sigma_r^2, and that of the dynamics leaves it as it is.
    torch.testing.assert_close(loss, get_model_loss("vagram").function(prediction, raw) / sigma_r.square())


@pytest.mark.parametrize("units", [False, True])
@pytest.mark.parametrize("name", ["mse", "nll", "vagram"])
def test_gradients_equal_finite_differences(name, units):
    prediction, target = make_pair()
    target = in_units(target)[0] if units else target
    loss = get_model_loss(name).function

    def total(delta, reward, log_variance):
        return loss(Prediction(delta, reward, log_variance), target).sum()

    inputs = tuple(tensor.clone().requires_grad_() for tensor in prediction[:3])
    used = inputs if name == "nll" else inputs[:2]

    def of_used(*arguments):
        return total(*arguments, *inputs[len(arguments) :])

    assert torch.autograd.gradcheck(of_used, used)


# -- the reward's weight ---------------------------------------------------------------------------------------------


def terms_in_numpy(prediction, target):
    """Of each output in its unit: squared errors and negative log densities, (S, E, B, D) and (S, E, B)."""
    sigma = 1.0 if target.dynamics_unit is None else target.dynamics_unit.numpy()
    sigma_r = 1.0 if target.reward_unit is None else target.reward_unit.numpy()
    error = (prediction.delta.numpy() - target.delta.numpy()) / sigma
    reward_error = (prediction.reward.numpy() - target.reward.numpy()) / sigma_r
    variance = np.exp(prediction.log_variance.numpy())
    scaled, scaled_r = variance[..., :D] / sigma**2, variance[..., D] / sigma_r**2
    density = 0.5 * (error**2 / scaled + np.log(2 * np.pi * scaled))
    reward_density = 0.5 * (reward_error**2 / scaled_r + np.log(2 * np.pi * scaled_r))
    return error**2, reward_error**2, density, reward_density


@pytest.mark.parametrize(("dynamics", "reward"), [(False, False), *UNITS])
def test_a_fixed_reward_weight_is_the_rewards_part_in_mse_vagram_and_nll(dynamics, reward):
    prediction, target = make_pair()
    target, sigma, sigma_r = in_units(target, dynamics, reward)
    target = target._replace(reward_weight=0.3)
    squared, reward_squared, density, reward_density = terms_in_numpy(prediction, target)
    weight = (sigma.numpy() / sigma_r.unsqueeze(-1).numpy()) ** 2 * target.prepared["weight"].numpy()
    expected = {
        "mse": squared.mean(axis=-1) + 0.3 * reward_squared,
        "vagram": (weight * squared).mean(axis=-1) + 0.3 * reward_squared,
        "nll": density.mean(axis=-1) + 0.3 * reward_density,
    }
    for name, value in expected.items():
        np.testing.assert_allclose(get_model_loss(name).function(prediction, target), value, rtol=1e-9)


def reward_weight_of(loss, setting, values=None, **kind):
    """c_r (S,) as a fit has it, and the fit."""
    data = linear_data(2, 40)
    fit = make_fit(data, [0, 1], model_loss=loss, reward_weight=setting, **kind)
    weight = fit.table.reward_weight
    return None if weight is None else weight.flatten().numpy(), fit


def test_the_settings_give_the_rewards_weight():
    dims = 3
    assert reward_weight_of("vagram", "auto")[0] is None
    np.testing.assert_allclose(reward_weight_of("nll", 2.5)[0], [2.5, 2.5])
    for loss in ("mse", "vagram", "taylor", "itervaml", "cvaml"):
        np.testing.assert_allclose(reward_weight_of(loss, "per_output")[0], 1 / dims, rtol=1e-6)
    assert reward_weight_of("nll", "per_output")[0] is None  # its own definition, 1 / (D + 1) for every output


@pytest.mark.parametrize("normalized", [False, True])
def test_the_mean_value_weight_is_that_of_the_average_dimension(normalized):
    """jax_mbpo: the mean over the D + 1 outputs of w_o e_o^2, the reward's w the mean of the others over the data."""
    kind = dict(normalize_dynamics_targets=normalized, normalize_reward_targets=normalized)
    found, fit = reward_weight_of("vagram", "mean_value_weight", **kind)
    whole = fit.table.whole(None)
    weight = whole.prepared["weight"].squeeze(1).numpy()  # (S, N, D)
    sigma = sigma_r = np.ones((2, 1))
    if normalized:
        sigma, sigma_r = (x.squeeze(1).numpy().std(axis=1) for x in (whole.delta, whole.reward.unsqueeze(-1)))
    mean = (weight * (sigma / sigma_r)[:, None] ** 2).mean(axis=(1, 2))
    np.testing.assert_allclose(found, mean / 3, rtol=1e-4)  # of (1/D) sum over D + 1 outputs


def test_losses_that_compare_values_take_the_rewards_weight():
    for loss in ("taylor", "taylor_hessian", "itervaml", "vaml_sac", "cvaml", "value_weighted"):
        data = linear_data(2, 20)
        own, other = (make_fit(data, [0, 1], model_loss=loss, reward_weight=weight) for weight in ("auto", 5.0))
        index = torch.arange(20).expand(2, 3, -1)
        losses = [fit._losses(fit.cohort, index, fit.streams.fork("x")) for fit in (own, other)]
        target = own.table.target(index, None)
        error = own.dynamics.predict(target.obs, target.action).reward - target.reward
        torch.testing.assert_close(losses[1] - losses[0], 4.0 * error.square(), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("reward_weight", ["auto", 0.7, "per_output"])
@pytest.mark.parametrize("normalized", [False, True])
@pytest.mark.parametrize("name", ["mse", "nll", "vagram", "value_weighted", "value_weighted_published"])
def test_the_weights_known_before_a_fit_are_those_of_the_loss(name, normalized, reward_weight):
    kind = dict(normalize_dynamics_targets=normalized, normalize_reward_targets=normalized)
    fit = make_fit(linear_data(2, 20), [0, 1], model_loss=name, reward_weight=reward_weight, **kind)
    assert get_model_loss(name).family == ("gaussian" if name == "nll" else "squared_error")
    index = torch.stack([torch.randperm(20).expand(3, -1) for _ in range(2)])
    loss = fit._losses(fit.cohort, index, fit.streams).detach().numpy()
    table = np.broadcast_to(fit.output_weights().numpy(), (2, 1, 20, 4))
    weights = np.stack([table[s, 0][index[s].numpy()] for s in range(2)])  # (S, E, B, D + 1)
    target = fit.table.target(index, None)
    prediction = fit.dynamics.predict(target.obs, target.action)
    errors = np.concatenate(
        [
            (prediction.delta - target.delta).detach().numpy(),
            (prediction.reward - target.reward).detach().numpy()[..., None],
        ],
        axis=-1,
    )
    terms = errors**2
    if name == "nll":
        variance = prediction.log_variance.exp().detach().numpy()
        terms = 0.5 * (errors**2 / variance + np.log(2 * np.pi * variance))
        if normalized:
            whole = fit.table.whole(None)
            outputs = torch.cat([whole.delta, whole.reward.unsqueeze(-1)], dim=-1)
            terms = terms - np.log(outputs.numpy().std(axis=2, keepdims=True))
    np.testing.assert_allclose(loss, (weights * terms).sum(axis=-1), rtol=1e-3, atol=1e-4)


def test_losses_that_are_no_sum_over_outputs_have_no_family():
    assert get_model_loss("taylor").family is None
    assert make_fit(linear_data(1, 10), [0], model_loss="taylor").output_weights() is None


def test_state_weight_4_and_dimension_power_2_are_the_papers_sums():
    """Eq. 7 with its sum over dimensions, dim(S), and Appendix E's sum over the four value estimates."""
    prediction, target = make_pair()
    gradients = torch.randn(S, E, B, 4, D, dtype=torch.float64)
    target.prepared["weight"] = gradients.square().mean(dim=3)
    g, error = gradients.numpy(), (prediction.delta - target.delta).numpy()
    expected = (prediction.reward - target.reward).numpy() ** 2
    for index in np.ndindex(S, E, B):
        for k in range(4):
            expected[index] += D * sum((g[index][k][m] * error[index][m]) ** 2 for m in range(D))
    for options in ({"state_weight": 4.0, "dimension_power": 2}, {"state_weight": 4.0 * D**2, "dimension_power": 0}):
        found = get_model_loss("vagram").function(prediction, target._replace(options=options))
        np.testing.assert_allclose(found, expected, rtol=1e-10)


def test_unknown_loss_names_the_value_and_the_choices():
    with pytest.raises(ValueError, match=r"model_loss='vagran' is not registered.*'nll'.*Did you mean 'vagram'"):
        get_model_loss("vagran")


def test_a_registered_loss_is_found_and_can_be_replaced(monkeypatch):
    monkeypatch.setattr(model_losses, "_REGISTRY", dict(model_losses._REGISTRY))

    @register_model_loss("reward_only")
    def reward_only(prediction, target):
        return (prediction.reward - target.reward).square()

    assert get_model_loss("reward_only").function is reward_only
    assert "reward_only" in model_loss_names()


def test_a_loss_of_ones_own_has_options_and_noise(monkeypatch):
    monkeypatch.setattr(model_losses, "_REGISTRY", dict(model_losses._REGISTRY))
    seen = []

    @register_model_loss("noisy", options={"strength": LossOption(2.0)})
    def noisy(prediction, target):
        seen.append((target.options, target.normal(4)))
        return target.options["strength"] * (prediction.delta - target.delta).square().mean(dim=-1)

    make_fit(linear_data(2, 20), [0, 1], model_loss="noisy", model_max_epochs=1).run()
    make_fit(
        linear_data(2, 20), [0, 1], model_loss="noisy", model_loss_options={"strength": 5}, model_max_epochs=1
    ).run()
    assert [options["strength"] for options, _ in seen] == [2.0] * (len(seen) // 2) + [5] * (len(seen) // 2)
    noise = [drawn for _, drawn in seen[: len(seen) // 2]]
    assert torch.equal(noise[0], noise[-1]), "validations draw the same noise"
    assert not torch.equal(noise[0], noise[1]), "the training draws its own"


def test_the_name_of_plain_sac_is_reserved():
    with pytest.raises(ValueError, match="plain SAC"):
        register_model_loss("none")
