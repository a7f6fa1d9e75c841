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
    target = Target(*observed, {"weight": weight}, None, {"state_weight": 1.0})
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
    bound = loss(prediction, target._replace(options={"state_weight": float(D**2)})) - reward_error
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
    raw = raw._replace(options={"state_weight": 2.5})
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

    inputs = tuple(tensor.clone().requires_grad_() for tensor in prediction)
    used = inputs if name == "nll" else inputs[:2]

    def of_used(*arguments):
        return total(*arguments, *inputs[len(arguments) :])

    assert torch.autograd.gradcheck(of_used, used)


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
