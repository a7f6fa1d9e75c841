"""The compiled model fit against autograd, against equations in float64 NumPy, and against itself."""

import numpy as np
import pytest
import torch

from tests.core.toy import small_settings
from vagram_ray.core.dynamics import DynamicsEnsemble
from vagram_ray.core.fast.library import find_library
from vagram_ray.core.fast.model import can_fit
from vagram_ray.core.model_fitting import ModelFit
from vagram_ray.core.model_losses import get_model_loss
from vagram_ray.core.networks import StackedAdam
from vagram_ray.core.random_streams import RandomStreams
from vagram_ray.core.replay import Transitions
from vagram_ray.core.sac import SAC
from vagram_ray.core.value_gradients import ValueEstimates

LIBRARY, _ = find_library(may_compile=True)
pytestmark = pytest.mark.usefixtures("native_library")  # which skips them where there is none

D, A = 3, 2
LOSSES = ("mse", "nll", "vagram")
NORMALIZED = dict(normalize_dynamics_targets=True, normalize_reward_targets=True)


def transitions(num_seeds, size, dims=D, seed=0):
    """Transitions whose dimensions have different sizes, and an offset."""
    generator = torch.Generator().manual_seed(seed)
    obs = torch.randn(num_seeds, size, dims, generator=generator) * torch.linspace(0.3, 2.0, dims) + 0.7
    action = torch.rand(num_seeds, size, A, generator=generator) * 2 - 1
    change = 0.3 * obs.roll(1, -1) * action[..., :1] + 0.05 * torch.randn(num_seeds, size, dims, generator=generator)
    return Transitions(obs, action, 2 * obs[..., 0] - action[..., 1], obs + change, torch.zeros(num_seeds, size))


def make_fit(data, seeds, native, **overrides):
    defaults = dict(hidden_size=20, num_layers=2, model_patience=3, model_batch_size=32, model_loss="mse")
    settings = small_settings(**{**defaults, **overrides})
    dims, init = data.obs.shape[-1], RandomStreams(seeds, "init")
    sac = SAC(settings, len(seeds), dims, A, init)
    dynamics = DynamicsEnsemble(settings, len(seeds), dims, A, init)
    optimizer = StackedAdam(dynamics.network.flat, len(seeds), settings.model_lr, settings.model_weight_decay)
    streams, library = RandomStreams(seeds, "fit"), LIBRARY if native else None
    return ModelFit(dynamics, optimizer, data, ValueEstimates(sac), settings, streams, library=library)


def both_fits(size, seeds=(0, 1), dims=D, **overrides):
    data = transitions(len(seeds), size, dims)
    native, eager = (make_fit(data, seeds, native, **overrides) for native in (True, False))
    assert native.cohort.native is not None and eager.cohort.native is None
    return native, eager


def assert_same_state(native, eager, rtol=1e-5, atol=1e-6):
    torch.testing.assert_close(native.dynamics.network.flat, eager.dynamics.network.flat, rtol=rtol, atol=atol)
    for name in ("exp_avg", "exp_avg_sq", "step_count"):
        ours, theirs = getattr(native.optimizer, name), getattr(eager.optimizer, name)
        torch.testing.assert_close(ours, theirs, rtol=10 * rtol, atol=atol)


VARIANTS = {
    "plain": {},
    "next_obs": dict(prediction_target="next_obs"),
    "normalized": NORMALIZED,
    "dynamics_normalized": dict(normalize_dynamics_targets=True),
    "next_obs_normalized": dict(prediction_target="next_obs", **NORMALIZED),
    "reward_weight": dict(reward_weight=0.3, normalize_reward_targets=True),
    "weight_decay": dict(model_weight_decay=0.1),
    "odd_widths": dict(hidden_size=13, num_layers=3),
    "wide": dict(hidden_size=70, num_layers=1),
}


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("loss", LOSSES)
def test_one_step_is_that_of_autograd(loss, variant):
    native, eager = both_fits(40, model_loss=loss, **VARIANTS[variant])  # 32 rows to train on: one minibatch
    assert native.split.train.shape[-1] == 32
    ours, theirs = native._train_epoch(native.cohort), eager._train_epoch(eager.cohort)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)
    # Adam's first step is that of the gradient's sign, so that the first moments are what tells gradients apart.
    scale = eager.optimizer.exp_avg.abs().amax().item()
    torch.testing.assert_close(native.optimizer.exp_avg, eager.optimizer.exp_avg, rtol=1e-5, atol=2e-6 * scale)
    assert_same_state(native, eager, atol=1e-6 if loss != "nll" else 2e-6)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("loss", LOSSES)
def test_validation_is_that_of_autograd(loss, variant):
    native, eager = both_fits(900, model_loss=loss, **VARIANTS[variant])
    torch.testing.assert_close(native._validate(native.cohort), eager._validate(eager.cohort), rtol=1e-5, atol=1e-6)
    scores = torch.rand(2, native.dynamics.ensemble_size)
    for fit in (native, eager):
        fit.dynamics.set_elites(scores)
    ours, theirs = (fit._metrics(scores, scores[:, 0]) for fit in (native, eager))
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("loss", LOSSES)
def test_squared_errors_for_early_stopping_are_those_of_the_readable_path(loss):
    native, eager = both_fits(100, model_loss=loss, early_stopping_metric="squared_error", **NORMALIZED)
    torch.testing.assert_close(native._validate(native.cohort), eager._validate(eager.cohort), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("batch, size", [(32, 100), (1, 8), (7, 23), (500, 60)])
@pytest.mark.parametrize("loss", LOSSES)
def test_epochs_with_smaller_last_minibatches(loss, batch, size):
    native, eager = both_fits(size, model_loss=loss, model_batch_size=batch, model_weight_decay=1e-3)
    for _ in range(3):
        ours, theirs = native._train_epoch(native.cohort), eager._train_epoch(eager.cohort)
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
    assert native.optimizer.step_count.equal(eager.optimizer.step_count)
    torch.testing.assert_close(native.dynamics.network.flat, eager.dynamics.network.flat, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize("loss", LOSSES)
def test_the_smallest_buffers(loss, size):
    native, eager = both_fits(size, model_loss=loss, model_max_epochs=2)
    ours, theirs = native.run(), eager.run()
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("loss", LOSSES)
def test_whole_fits_are_close(loss):
    native, eager = both_fits(300, model_loss=loss, model_max_epochs=6, model_patience=6)
    ours, theirs = native.run(), eager.run()
    assert ours["fit_epochs"].equal(theirs["fit_epochs"])
    for name in ("validation_loss", "validation_delta_mse", "train_loss"):
        torch.testing.assert_close(ours[name], theirs[name], rtol=2e-3, atol=2e-3)
    assert native.dynamics.elites.equal(eager.dynamics.elites)


@pytest.mark.parametrize("loss", LOSSES)
def test_many_dimensions(loss):
    native, eager = both_fits(60, dims=19, model_loss=loss, **NORMALIZED)
    for _ in range(2):
        native._train_epoch(native.cohort), eager._train_epoch(eager.cohort)
    torch.testing.assert_close(native.dynamics.network.flat, eager.dynamics.network.flat, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("loss", LOSSES)
def test_a_seed_has_the_same_numbers_alone_and_in_a_cohort(loss):
    seeds = [3, 5, 8]
    data = transitions(3, 120)
    together = make_fit(data, seeds, True, model_loss=loss, model_max_epochs=8)
    metrics = together.run()
    for position, seed in enumerate(seeds):
        own_data = Transitions(*(column[position : position + 1] for column in data))
        alone = make_fit(own_data, [seed], True, model_loss=loss, model_max_epochs=8)
        own = alone.run()
        assert alone.dynamics.member_rows()[0].equal(together.dynamics.member_rows()[position])
        assert alone.optimizer.exp_avg_sq[0].equal(together.optimizer.exp_avg_sq[position])
        for name in own:
            assert own[name][0] == metrics[name][position]


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("column", ["obs", "reward"])
def test_nan_in_the_data_leads_to_nan_in_this_seed_alone(loss, column):
    data = transitions(2, 60)
    getattr(data, column)[1, 7] = torch.nan
    native, eager = (make_fit(data, [0, 1], native, model_loss=loss, model_max_epochs=2) for native in (True, False))
    ours, theirs = native.run(), eager.run()
    assert theirs["train_loss"].isnan().tolist() == ours["train_loss"].isnan().tolist() == [False, True]
    for name in ours:
        assert ours[name].isnan().equal(theirs[name].isnan())


@pytest.mark.parametrize("loss", LOSSES)
def test_nan_in_the_weights_is_seen(loss):
    for position in (0, -1):  # a weight, a bias or bound
        native, _ = both_fits(60, seeds=(0,), model_loss=loss)
        native.dynamics.member_rows()[0, 0, position] = torch.nan
        validation = native._validate(native.cohort)
        assert validation[0].isnan().tolist() == [True] + [False] * (native.dynamics.ensemble_size - 1)


def test_a_frozen_seed_keeps_its_parameters():
    native, eager = both_fits(60)
    before = native.dynamics.member_rows().clone()
    for fit in (native, eager):
        fit.optimizer.freeze(0)
    ours, theirs = native._train_epoch(native.cohort), eager._train_epoch(eager.cohort)
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
    after = native.dynamics.member_rows()
    assert after[0].equal(before[0]) and not after[1].equal(before[1])
    assert native.optimizer.step_count.tolist() == [0.0, 2.0]


def test_other_losses_are_left_to_autograd():
    fit = make_fit(transitions(1, 60), [0], True, model_loss="itervaml")
    assert fit.cohort.native is None
    assert not can_fit(fit.dynamics, get_model_loss("itervaml"))


# -- independent of the project's own losses: the likelihood in float64 NumPy, its gradient by finite differences -----


def objective_in_numpy(parameters, sizes, inputs, targets, weights):
    """PETS' likelihood with soft bounds and its penalty for one member, from the equations, in float64."""
    position, hidden = 0, inputs
    for layer, (fan_in, fan_out) in enumerate(zip(sizes[:-1], sizes[1:], strict=True)):
        weight = parameters[position : position + fan_in * fan_out].reshape(fan_in, fan_out)
        bias = parameters[position + fan_in * fan_out : position + (fan_in + 1) * fan_out]
        position += (fan_in + 1) * fan_out
        hidden = hidden @ weight + bias
        if layer < len(sizes) - 2:
            hidden = hidden / (1.0 + np.exp(-hidden))
    outputs = sizes[-1] // 2
    mean, raw = hidden[:, :outputs], hidden[:, outputs:]
    upper, lower = parameters[position : position + outputs], parameters[position + outputs :]
    log_variance = upper - np.log1p(np.exp(upper - raw))
    log_variance = lower + np.log1p(np.exp(log_variance - lower))
    density = 0.5 * ((mean - targets) ** 2 * np.exp(-log_variance) + log_variance + np.log(2 * np.pi))
    penalty = 0.01 * np.maximum(upper - lower, 0.0).sum()
    return (weights * density).sum(axis=1).mean(), penalty


@pytest.mark.parametrize("targets", ["delta", "next_obs"])
def test_the_likelihoods_gradient_is_that_of_finite_differences(targets):
    data = transitions(1, 50)
    fit = make_fit(
        data,
        [0],
        True,
        model_loss="nll",
        hidden_size=6,
        prediction_target=targets,
        model_batch_size=64,
        model_weight_decay=0.0,
    )
    dynamics, rows = fit.dynamics, fit.split.train[0].numpy()
    dynamics.network.extras[0].data.fill_(-1.0)  # where the bounds are felt
    dynamics.network.extras[1].data.fill_(-2.0)
    start = dynamics.member_rows()[0].double().numpy().copy()
    loss = fit._train_epoch(fit.cohort)

    obs, action, next_obs = (column[0].double().numpy() for column in (data.obs, data.action, data.next_obs))
    inputs = np.concatenate([obs, action], axis=1)
    inputs = (inputs - inputs.mean(axis=0)) / inputs.std(axis=0)
    wanted = np.concatenate([next_obs if targets == "next_obs" else next_obs - obs, data.reward[0, :, None]], axis=1)
    sizes = (D + A, 6, 6, 2 * (D + 1))
    gradient = fit.optimizer.exp_avg[0].view(dynamics.ensemble_size, -1).double().numpy() / 0.1  # of the first step
    losses = []
    for member, own in enumerate(rows):

        def objective(parameters, own=own):
            return objective_in_numpy(parameters, sizes, inputs[own], wanted[own], 1.0 / (D + 1))

        losses.append(objective(start[member])[0])
        for position in range(start.shape[1]):
            shift = np.zeros(start.shape[1])
            shift[position] = 1e-6
            slope = (sum(objective(start[member] + shift)) - sum(objective(start[member] - shift))) / 2e-6
            assert gradient[member, position] == pytest.approx(slope, rel=2e-5, abs=2e-6)
    assert loss.item() == pytest.approx(np.mean(losses), rel=1e-5)
