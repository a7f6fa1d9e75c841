import numpy as np
import pytest
import torch

from tests.core.toy import small_settings
from vagram_ray.core.dynamics import DynamicsEnsemble
from vagram_ray.core.model_fitting import ModelFit, RegressionTable, split_and_bootstrap
from vagram_ray.core.model_losses import Prediction, delta_mse
from vagram_ray.core.networks import StackedAdam
from vagram_ray.core.random_streams import RandomStreams
from vagram_ray.core.replay import Transitions
from vagram_ray.core.sac import SAC
from vagram_ray.core.value_gradients import ValueEstimates

D, A = 3, 1
BOTH_NORMALIZED = dict(normalize_dynamics_targets=True, normalize_reward_targets=True)
OPTIONS = [
    dict(prediction_target="next_obs"),
    dict(normalize_dynamics_targets=True),
    dict(normalize_reward_targets=True),
    dict(prediction_target="next_obs", **BOTH_NORMALIZED),
]


def linear_data(num_seeds, size, noise=0.0, seed=0):
    generator = torch.Generator().manual_seed(seed)
    obs = torch.randn(num_seeds, size, D, generator=generator)
    action = torch.rand(num_seeds, size, A, generator=generator) * 2 - 1
    matrix = torch.tensor([[0.1, 0.2, 0.0], [-0.2, 0.1, 0.0], [0.0, 0.0, -0.3]])
    delta = obs @ matrix.T + 0.5 * action + noise * torch.randn(num_seeds, size, D, generator=generator)
    reward = obs[..., 0] - action[..., 0]
    return Transitions(obs, action, reward, obs + delta, torch.zeros(num_seeds, size))


def make_fit(data, seeds, **overrides):
    defaults = dict(hidden_size=32, model_patience=5, model_batch_size=64, model_loss="mse")
    settings = small_settings(**{**defaults, **overrides})
    init = RandomStreams(seeds, "init")
    sac = SAC(settings, len(seeds), D, A, init)
    dynamics = DynamicsEnsemble(settings, len(seeds), D, A, init)
    optimizer = StackedAdam(dynamics.network.flat, len(seeds), settings.model_lr, settings.model_weight_decay)
    fit = ModelFit(dynamics, optimizer, data, ValueEstimates(sac), settings, RandomStreams(seeds, "fit"))
    return fit


@pytest.mark.parametrize("loss", ["mse", "nll", "vagram"])
def test_a_linear_system_is_learned(loss):
    data = linear_data(2, 600)
    fit = make_fit(data, [0, 1], model_loss=loss)
    metrics = fit.run()
    variance = (data.next_obs - data.obs).var(dim=1).mean(dim=-1)
    # VaGraM may leave alone what the (random) critics do not care for; the others must be right everywhere.
    explained = 1 - metrics["validation_delta_mse"] / variance
    assert (explained > (0.3 if loss == "vagram" else 0.95)).all()
    assert (metrics["fit_epochs"] > 5).all()


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("loss", ["mse", "nll"])
def test_a_linear_system_is_learned_with_each_kind_of_target(loss, options):
    data = linear_data(2, 600)
    fit = make_fit(data, [0, 1], model_loss=loss, **options)
    before = fit.cohort.mean_over_validation_rows(
        lambda index: delta_mse(fit.dynamics.predict(*fit.table.target(index, None)[:2]), fit.table.target(index, None))
    )
    metrics = fit.run()
    variance = (data.next_obs - data.obs).var(dim=1).mean(dim=-1)
    assert (metrics["validation_delta_mse"] < 0.05 * variance).all()
    assert (metrics["validation_delta_mse"] < 0.1 * before.mean(dim=1)).all()


def in_other_units(data, scale, offset, reward_scale, reward_offset):
    """The same transitions, told in other units of the observation and of the reward."""
    obs, next_obs = scale * data.obs + offset, scale * data.next_obs + offset
    return data._replace(obs=obs, next_obs=next_obs, reward=reward_scale * data.reward + reward_offset)


@pytest.mark.parametrize("target", ["delta", "next_obs"])
@pytest.mark.parametrize("loss", ["mse", "nll"])
def test_errors_of_normalised_targets_do_not_depend_on_the_environments_units(loss, target):
    data, losses = linear_data(2, 200), {}
    other = in_other_units(data, torch.tensor([0.3, 5.0, 1.0]), torch.tensor([1.0, 0.0, -4.0]), 9.0, 2.0)
    for normalized in (True, False):
        kind = dict(prediction_target=target, **{name: normalized for name in BOTH_NORMALIZED})
        fits = [make_fit(each, [0, 1], model_loss=loss, **kind) for each in (data, other)]
        losses[normalized] = [fit._validate(fit.cohort) for fit in fits]
    torch.testing.assert_close(*losses[True], rtol=1e-4, atol=1e-4)
    assert ((losses[False][0] - losses[False][1]).abs() > 0.1).all()


@pytest.mark.parametrize("target", ["delta", "next_obs"])
@pytest.mark.parametrize("loss", ["mse", "nll"])
def test_a_fit_of_normalised_targets_does_not_depend_on_the_environments_units(loss, target):
    data = linear_data(2, 200)
    # Powers of two, by which floating-point numbers scale exactly, so that small differences do not grow in the fit.
    other = in_other_units(data, torch.tensor([2.0**-7, 1.0, 2.0**9]), 0.0, 2.0**5, 0.0)
    kind = dict(model_loss=loss, prediction_target=target, model_max_epochs=4, **BOTH_NORMALIZED)
    fits = [make_fit(each, [0, 1], **kind) for each in (data, other)]
    first, second = (fit.run() for fit in fits)
    torch.testing.assert_close(first["validation_loss"], second["validation_loss"], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(fits[0].dynamics.member_rows(), fits[1].dynamics.member_rows(), rtol=1e-3, atol=1e-4)


def test_normalised_targets_make_a_fit_learn_dimensions_and_rewards_of_every_size():
    """Beside a dimension of size 100, an error of all of a dimension of size 0.001 is nothing to a plain MSE."""
    data = in_other_units(linear_data(1, 400), torch.tensor([0.001, 1.0, 100.0]), 0.0, 0.01, 0.0)
    delta, unexplained = (data.next_obs - data.obs).unsqueeze(1), {}
    for normalized in (False, True):
        fit = make_fit(data, [0], model_max_epochs=60, **{name: normalized for name in BOTH_NORMALIZED})
        fit.run()
        columns = [column.unsqueeze(1).expand(-1, 3, -1, -1) for column in (data.obs, data.action)]
        prediction = fit.dynamics.predict(*columns)
        dynamics = (prediction.delta - delta).square().mean(dim=(0, 1, 2)) / delta.var(dim=(0, 1, 2))
        reward = (prediction.reward - data.reward.unsqueeze(1)).square().mean() / data.reward.var()
        unexplained[normalized] = torch.cat([dynamics, reward.view(1)]).detach()
    assert (unexplained[True] < 0.05).all(), unexplained
    assert (unexplained[False][[0, 3]] > 1.0).all(), unexplained  # worse than predicting the mean


def test_vagrams_fit_with_normalised_dynamics_minimises_the_same_loss():
    """Neither what it measures of a prediction nor its weights depend on what the networks' outputs mean."""
    data, tables, losses = linear_data(2, 100), [], []
    for options in ({}, *OPTIONS):
        fit = make_fit(data, [0, 1], model_loss="vagram", **options)
        tables.append(fit.table._rows)
        reward_unit = fit.dynamics.reward_unit
        fit.dynamics.predict = lambda obs, action: Prediction(2 * obs, action[..., 0], None)
        loss = fit._validate(fit.cohort)
        losses.append(loss if reward_unit is None else loss * reward_unit.square().view(2, 1))
    for table, loss in zip(tables, losses, strict=True):
        assert torch.equal(table, tables[0])
        torch.testing.assert_close(loss, losses[0])


def test_validation_rows_are_held_out_and_bootstraps_differ_between_members():
    split = split_and_bootstrap(100, 3, 0.2, RandomStreams([0, 1], "fit"))
    assert split.train.shape == (2, 3, 80)
    assert split.validation.shape == (2, 20)
    for seed in range(2):
        held_out = set(split.validation[seed].tolist())
        drawn = [set(split.train[seed, member].tolist()) for member in range(3)]
        assert all(not held_out & rows for rows in drawn)
        assert drawn[0] != drawn[1]
        assert len(drawn[0]) < 80  # with replacement: about 63 % of the rows


@pytest.mark.parametrize("size", [2, 3])
def test_the_smallest_buffers_can_be_fitted(size):
    metrics = make_fit(linear_data(1, size), [0], model_max_epochs=2).run()
    assert metrics["validation_loss"].isfinite().all()


def test_prepared_tables_stay_with_their_transitions():
    data = linear_data(2, 50)
    weight = data.next_obs * 10  # recognisable: ten times the successor
    table = RegressionTable(data, {"weight": weight, "scalar": data.reward})
    index = torch.randint(50, (2, 3, 7), generator=torch.Generator().manual_seed(0))
    target = table.target(index, None)
    torch.testing.assert_close(target.prepared["weight"], 10 * (target.obs + target.delta))
    torch.testing.assert_close(target.prepared["scalar"], target.reward)
    torch.testing.assert_close(target.obs[1, 2, 3], data.obs[1, index[1, 2, 3]])


def test_members_end_at_their_best_validation_weights():
    data = linear_data(2, 60, noise=0.5)  # little data, much noise: it overfits
    fit = make_fit(data, [0, 1], hidden_size=64, model_lr=1e-2, model_patience=8)
    recorded = []
    validate = fit._validate

    def recording(*args):
        recorded.append(validate(*args))
        return recorded[-1]

    fit._validate = recording
    metrics = fit.run()
    full_size = torch.stack([loss for loss in recorded if loss.shape == recorded[0].shape])
    final = validate(fit.cohort)
    # The improvement threshold of 1 % allows the kept weights to be that much worse than the very best.
    assert (final <= full_size.amin(dim=0) * 1.0102).all()
    elite_loss = final.gather(1, fit.dynamics.elites).mean(dim=1)
    torch.testing.assert_close(metrics["validation_loss"], elite_loss, rtol=1e-4, atol=1e-6)


def test_elites_are_the_members_that_validate_best():
    fit = make_fit(linear_data(2, 50), [0, 1])
    fit.dynamics.set_elites(torch.tensor([[0.3, 0.1, 0.2], [float("nan"), 5.0, 4.0]]))
    assert fit.dynamics.elites.tolist() == [[1, 2], [2, 1]]


def test_the_fit_epoch_limit_holds():
    metrics = make_fit(linear_data(2, 200), [0, 1], model_max_epochs=3).run()
    assert metrics["fit_epochs"].tolist() == [3, 3]


def test_fits_that_the_limit_ended_are_reported():
    """Three epochs end before a patience of five can; a patience of one ends long before a hundred epochs."""
    data = linear_data(2, 100)
    assert make_fit(data, [0, 1], model_max_epochs=3).run()["fit_limit_reached"].tolist() == [1.0, 1.0]
    assert make_fit(data, [0, 1], model_max_epochs=None).run()["fit_limit_reached"].tolist() == [0.0, 0.0]
    # Nothing improves by half: patience ends the fit at the very epoch of the limit.
    at_once = dict(model_patience=2, model_max_epochs=2, model_improvement_threshold=0.5, model_lr=1e-9)
    metrics = make_fit(data, [0, 1], **at_once).run()
    assert metrics["fit_epochs"].tolist() == [2, 2]
    assert metrics["fit_limit_reached"].tolist() == [0.0, 0.0]


@pytest.mark.parametrize("normalized", [False, True])
def test_the_squared_error_that_early_stopping_may_watch(normalized):
    """The mean over the validation rows and the D + 1 outputs, in the networks' units."""
    kind = dict(normalize_dynamics_targets=normalized, normalize_reward_targets=normalized)
    fit = make_fit(linear_data(2, 50), [0, 1], model_loss="nll", early_stopping_metric="squared_error", **kind)
    found = fit._validate(fit.cohort).numpy()
    whole = fit.table.whole(None)
    observed = torch.cat([whole.delta, whole.reward.unsqueeze(-1)], dim=-1).numpy()
    unit = observed.std(axis=2, keepdims=True) if normalized else np.ones((2, 1, 1, 1))
    inputs = [column.expand(-1, 3, -1, -1) for column in (whole.obs, whole.action)]
    predicted = fit.dynamics.predict(*inputs)
    predicted = torch.cat([predicted.delta, predicted.reward.unsqueeze(-1)], dim=-1).detach().numpy()
    squared = ((predicted - observed) / unit) ** 2
    for seed in range(2):
        rows = squared[seed][:, fit.split.validation[seed].numpy()]
        np.testing.assert_allclose(found[seed], rows.mean(axis=(1, 2)), rtol=1e-4)


def test_elites_and_stopping_follow_the_squared_error_and_the_reported_loss_stays_the_loss():
    kind = dict(model_loss="nll", early_stopping_metric="squared_error", model_patience=2)
    fit = make_fit(linear_data(2, 80), [0, 1], **kind)
    metrics = fit.run()
    watched, loss = fit._validate(fit.cohort), fit._validation_loss(fit.cohort)
    assert torch.equal(fit.dynamics.elites, watched.argsort(dim=1)[:, : fit.dynamics.elites.shape[1]])
    torch.testing.assert_close(metrics["validation_loss"], loss.gather(1, fit.dynamics.elites).mean(dim=1))


@pytest.mark.parametrize("reward_weight", ["auto", 2.0])
def test_an_improvement_of_the_likelihood_is_that_of_the_squared_error(reward_weight):
    """Squared errors of all outputs 2 % smaller, variances that fit: 0.5 (log(2 pi v) + 1) each, in NumPy."""
    fit = make_fit(linear_data(2, 20), [0, 1], model_loss="nll", reward_weight=reward_weight)
    weights = np.full(4, 1 / 4) if reward_weight == "auto" else np.array([1 / 3, 1 / 3, 1 / 3, 2.0])
    for scale in (1e-6, 0.058, 1.0, 1e4):  # the loss below, at and above 0
        before, after = (
            (weights * 0.5 * (np.log(2 * np.pi * factor * scale * np.arange(1, 5)) + 1)).sum() for factor in (1.0, 0.98)
        )
        best, current = (torch.full((2, 3), value, dtype=torch.float64) for value in (before, after))
        share = fit._improvement(best, current[1:], torch.tensor([1]))
        np.testing.assert_allclose(share, np.full((1, 3), -np.log(0.98)), rtol=1e-4)  # 0.0202
    squared = make_fit(linear_data(2, 20), [0, 1], model_loss="mse")
    share = squared._improvement(torch.full((2, 3), 3.0), torch.full((1, 3), 2.94), torch.tensor([1]))
    np.testing.assert_allclose(share, np.full((1, 3), 0.02), rtol=1e-4)


@pytest.mark.parametrize("options", [{}, OPTIONS[-1]], ids=["plain", "normalised"])
@pytest.mark.parametrize("loss", ["mse", "nll", "vagram"])
def test_a_seed_in_a_cohort_is_fitted_as_it_would_be_alone(loss, options):
    """Also when its neighbours stop earlier or later: streams, optimiser and weights must not notice."""
    seeds = [3, 8, 5]
    data = linear_data(3, 150, noise=0.1)
    cohort = make_fit(data, seeds, model_loss=loss, model_patience=2, **options)
    metrics = cohort.run()
    assert len(set(metrics["fit_epochs"].tolist())) > 1, "the seeds should stop at different epochs here"
    for position, seed in enumerate(seeds):
        own_data = Transitions(*(c[[position]] for c in data))
        alone = make_fit(own_data, [seed], model_loss=loss, model_patience=2, **options)
        own = alone.run()
        assert own["fit_epochs"].item() == metrics["fit_epochs"][position].item()
        torch.testing.assert_close(
            cohort.dynamics.member_rows()[position], alone.dynamics.member_rows()[0], atol=1e-4, rtol=1e-3
        )
        torch.testing.assert_close(cohort.optimizer.exp_avg[position], alone.optimizer.exp_avg[0], atol=1e-4, rtol=1e-2)
        assert cohort.optimizer.step_count[position] == alone.optimizer.step_count[0]
        next_draw = cohort.streams.select_seeds(torch.tensor([position])).uniform(3)
        torch.testing.assert_close(next_draw, alone.streams.uniform(3))


def test_a_seed_with_nan_data_ends_the_fit_and_spares_its_neighbour():
    data = linear_data(2, 100)
    clean = make_fit(data, [0, 1])
    expected = clean.run()
    data.reward[0, 3] = float("nan")
    poisoned = make_fit(data, [0, 1])
    metrics = poisoned.run()
    torch.testing.assert_close(metrics["validation_loss"][1], expected["validation_loss"][1], rtol=1e-3, atol=1e-5)


class FirstDimensionOnly:
    """Value estimates with gradient 1 in the first dimension and 0 elsewhere."""

    def clipped_gradients(self, obs, terminated):
        gradients = torch.zeros_like(obs).unsqueeze(1)
        gradients[..., 0] = 1.0
        return gradients, torch.ones(obs.shape[0], 1)

    def weights(self, clipped, terminated):
        return clipped.square().mean(dim=1)


def test_value_aware_fit_spends_a_small_model_on_what_matters():
    """Four dimensions, three hard to predict and without value: VaGraM must predict the first better than MSE."""
    generator = torch.Generator().manual_seed(0)
    obs = torch.randn(1, 1000, 4, generator=generator)
    action = torch.rand(1, 1000, 1, generator=generator)
    delta = torch.cat([0.5 * torch.sin(2 * obs[..., :1]), 5 * torch.sin(2 * obs[..., 1:])], dim=-1)
    data = Transitions(obs, action, torch.zeros(1, 1000), obs + delta, torch.zeros(1, 1000))
    error = {}
    for loss in ("mse", "vagram"):
        settings = small_settings(
            model_loss=loss, hidden_size=8, num_layers=1, model_patience=20, model_max_epochs=100, model_batch_size=64
        )
        dynamics = DynamicsEnsemble(settings, 1, 4, 1, RandomStreams([0], "init"))
        optimizer = StackedAdam(dynamics.network.flat, 1, 1e-2)
        ModelFit(dynamics, optimizer, data, FirstDimensionOnly(), settings, RandomStreams([0], "fit")).run()
        members = [column.unsqueeze(1).expand(-1, 3, -1, -1) for column in (obs, action)]
        predicted = dynamics.predict(*members).delta.detach()
        error[loss] = (predicted[..., 0] - delta.unsqueeze(1)[..., 0]).square().mean().item()
    assert error["vagram"] < 0.2 * error["mse"], error


def test_bounds_of_the_variance_pull_at_each_other_until_they_meet():
    """Beyond, the penalty would widen the gap again, and the log-variance with it, where the loss pulls less."""
    dynamics = make_fit(linear_data(1, 20), [0], model_loss="nll").dynamics
    upper, lower = dynamics.network.extras
    with torch.no_grad():
        upper[..., 0], lower[..., 0] = -5.0, -4.9
    pulls = torch.autograd.grad(dynamics.variance_bound_penalty().sum(), [upper, lower])
    for pull, sign in zip(pulls, (1, -1), strict=True):
        torch.testing.assert_close(pull, sign * 0.01 * torch.tensor([0.0, 1.0, 1.0, 1.0]).expand_as(pull))
