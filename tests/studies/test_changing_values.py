"""Fits under changing value functions: against least squares, against NumPy, and cohorts against single seeds."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from vagram_ray.core.random_streams import RandomStreams
from vagram_ray.core.replay import Transitions
from vagram_ray.studies.changing_values import (
    MODELS,
    Fit,
    fit_while_values_change,
    split_transitions,
    value_variance,
)
from vagram_ray.studies.losses_on_data import LossOnData, take_rows
from vagram_ray.studies.small_models import SmallModels


def quick(model="1x16", loss="mse", lr=1e-2, **changes):
    return Fit(model, loss, {}, lr, **({"steps_per_value": 6, "evaluate_every": 4, "batch_size": 8} | changes))


def test_held_out_transitions_are_no_training_transitions(small_run):
    data = small_run((3, 5), 3).data
    numbered = data._replace(reward=torch.arange(150.0).expand(2, -1))
    split = split_transitions(numbered, (3, 5))
    assert (split.train.reward.shape, split.held_out.reward.shape) == ((2, 120), (2, 30))
    for seed in range(2):
        both = torch.cat([split.train.reward[seed], split.held_out.reward[seed]])
        assert sorted(both.tolist()) == list(range(150))
        rows = split.held_out.reward[seed].long()
        torch.testing.assert_close(split.held_out.next_obs[seed], data.next_obs[seed, rows])
    assert split.held_out.reward[0].tolist() != split.held_out.reward[1].tolist()


def test_the_linear_model_finds_the_least_squares_solution(small_run):
    data = small_run((3, 5), 3).data
    models = SmallModels(MODELS["linear"], data, 3e-2, "delta", RandomStreams((3, 5), "init"))
    loss = LossOnData("mse", data)
    loss.use(small_run((3, 5), 3).values[0])
    target = loss.target(torch.arange(150).expand(2, -1))
    for _ in range(600):
        models.descend(loss.of_change(models.change(target.obs, target.action), target).mean(dim=1))
    found = models.change(target.obs, target.action).squeeze(1).detach()
    for seed in range(2):
        design = torch.cat([data.obs[seed], data.action[seed], torch.ones(150, 1)], dim=-1).double().numpy()
        change = (data.next_obs - data.obs)[seed].double().numpy()
        expected = design @ np.linalg.lstsq(design, change, rcond=None)[0]
        np.testing.assert_allclose(found[seed], expected, atol=2e-3)


def numpy_value_error(values, predicted, observed, seed, num_seeds):
    """Mean over estimates and transitions of the squared difference of values, with NumPy's arithmetic."""

    def of(obs):
        rows = torch.as_tensor(np.asarray(obs), dtype=torch.float32).expand(num_seeds, -1, -1)
        return values.values(rows)[seed].detach().double().numpy()

    return np.mean((of(predicted) - of(observed)) ** 2)


def test_the_error_is_that_of_the_current_value_function_on_held_out_states(small_run):
    run = small_run((3, 5), 3)
    split = split_transitions(run.data, run.seeds)
    curve = fit_while_values_change(quick(), split, run.values, run.seeds)
    # Before the first step nothing is fitted: the same weights, built again, predict what the curve starts from.
    models = SmallModels(MODELS["1x16"], split.train, 1e-2, "delta", RandomStreams(run.seeds, "study-init-1x16"))
    held_out = split.held_out
    change = models.change(held_out.obs.unsqueeze(1), held_out.action.unsqueeze(1)).squeeze(1).detach()
    for seed in range(2):
        predicted = (held_out.obs + change)[seed]
        expected = numpy_value_error(run.values[0], predicted, held_out.next_obs[seed], seed, 2)
        assert curve.error[seed, 0] == pytest.approx(expected, rel=1e-3)


def test_a_curve_knows_where_the_value_function_changed(small_run):
    run = small_run((3, 5), 3)
    curve = fit_while_values_change(quick(), split_transitions(run.data, run.seeds), run.values, run.seeds)
    assert curve.value.tolist() == [0] * 3 + [1] * 3 + [2] * 3
    assert curve.step.tolist() == [0, 4, 6] * 3
    assert curve.total_steps.tolist() == [0, 4, 6, 6, 10, 12, 12, 16, 18]
    np.testing.assert_array_equal(curve.at_end(), curve.error[:, [2, 5, 8]])
    np.testing.assert_array_equal(curve.after_change(), curve.error[:, [3, 6]])
    # The same weights before and after a change, another value function: the error jumps.
    assert (curve.error[:, 2] != curve.error[:, 3]).all()


@pytest.mark.parametrize("target", ["delta", "next_obs"])
@pytest.mark.parametrize("model", list(MODELS))
def test_fits_of_all_losses_start_from_the_same_weights(small_run, model, target):
    run = small_run((3, 5), 3)
    split = split_transitions(run.data, run.seeds)
    curves = [
        fit_while_values_change(quick(model, loss, prediction_target=target), split, run.values[:1], run.seeds)
        for loss in ("itervaml", "mse", "vagram")
    ]
    np.testing.assert_array_equal(curves[0].error[:, 0], curves[1].error[:, 0])
    np.testing.assert_array_equal(curves[0].error[:, 0], curves[2].error[:, 0])
    assert not np.array_equal(curves[1].error[:, -1], curves[2].error[:, -1])


@pytest.mark.parametrize("loss", ["itervaml", "mse", "vagram"])
def test_every_loss_lowers_the_value_error(small_run, loss):
    run = small_run((3, 5), 3)
    split = split_transitions(run.data, run.seeds)
    fit = quick(loss=loss, steps_per_value=200, evaluate_every=200, batch_size=64)
    curve = fit_while_values_change(fit, split, run.values[-1:], run.seeds)
    assert (curve.error[:, -1] < 0.5 * curve.error[:, 0]).all()


def test_a_seed_alone_gives_its_numbers_in_a_cohort(small_run):
    run = small_run((3, 5), 3)
    together = fit_while_values_change(quick(), split_transitions(run.data, run.seeds), run.values, run.seeds)
    second = torch.tensor([1])
    data = Transitions(*(column[1:] for column in run.data))
    values = [value.select_seeds(second) for value in run.values]
    alone = fit_while_values_change(quick(), split_transitions(data, (5,)), values, (5,))
    np.testing.assert_allclose(alone.error[0], together.error[1], rtol=1e-3)


def test_a_direct_model_predicts_the_state_itself(small_run):
    data = small_run((3, 5), 3).data
    change, direct = (
        SmallModels((), data, 1e-3, kind, RandomStreams((3, 5), "init")) for kind in ("delta", "next_obs")
    )
    obs, action = data.obs.unsqueeze(1), data.action.unsqueeze(1)
    torch.testing.assert_close(direct.change(obs, action) + obs, change.change(obs, action))


def test_the_variance_is_that_of_the_values(small_run):
    run = small_run((3, 5), 3)
    expected = run.values[0].values(run.data.next_obs).detach().double().numpy().var(axis=-1).mean(axis=1)
    np.testing.assert_allclose(value_variance(run.values[0], run.data), expected, rtol=1e-4)


def test_the_reward_takes_no_part_in_a_loss(small_run):
    run = small_run((3, 5), 3)
    rows = take_rows(run.data, torch.arange(10).expand(2, -1))
    losses = []
    for reward in (rows.reward, rows.reward + 5.0):
        loss = LossOnData("mse", rows._replace(reward=reward))
        loss.use(run.values[0])
        target = loss.target(torch.arange(10).expand(2, -1))
        losses.append(loss.of_change(torch.zeros_like(target.delta), target))
    torch.testing.assert_close(losses[0], losses[1])
    torch.testing.assert_close(losses[0], (rows.next_obs - rows.obs).square().mean(dim=-1))
