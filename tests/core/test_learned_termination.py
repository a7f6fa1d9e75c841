"""Terminations that the model learns: the cross-entropy, its gradient, what rollouts make of it, and whole agents."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.core.test_mbpo import assert_same_state, saved
from tests.core.test_model_fitting import linear_data, make_fit
from tests.core.test_model_rollouts import make_parts, run, stored
from tests.core.toy import PointEnvs, small_agent
from vagram_ray.core.fast.model import can_fit
from vagram_ray.core.model_fitting import _gradients
from vagram_ray.core.model_losses import Prediction, Target, termination_cross_entropy

LEARNED = dict(termination="learned")


def data_with_ends(num_seeds=2, size=600):
    data = linear_data(num_seeds, size)
    return data._replace(terminated=(data.next_obs[..., 0] > 0.8).float())


def test_the_cross_entropy_is_the_formula():
    generator = np.random.default_rng(0)
    logit, ended = generator.normal(size=(2, 3, 5)) * 3, generator.integers(0, 2, (2, 3, 5)).astype(float)
    nothing = torch.zeros(0)
    prediction = Prediction(nothing, nothing, None, torch.as_tensor(logit))
    target = Target(nothing, nothing, nothing, nothing, {}, None, terminated=torch.as_tensor(ended))
    probability = 1 / (1 + np.exp(-logit))
    expected = -ended * np.log(probability) - (1 - ended) * np.log(1 - probability)
    np.testing.assert_allclose(termination_cross_entropy(prediction, target), expected, rtol=1e-10)


@pytest.mark.parametrize("loss", ["mse", "nll", "vagram"])
def test_the_gradient_is_that_of_the_loss_plus_the_cross_entropy(loss):
    """The output's bias has the mean of p - t; a step of all weights changes the objective as the gradient says."""
    fit = make_fit(data_with_ends(), [0, 1], model_loss=loss, **LEARNED)
    work, index = fit.cohort, fit.split.train[..., :64]
    views = work.dynamics.network.views
    gradients = _gradients(fit._losses(work, index, work.streams).mean(dim=-1).sum(), views)
    target = work.table.target(index, work.values)
    logit = work.dynamics.predict(target.obs, target.action).termination_logit.detach().numpy()
    expected = (1 / (1 + np.exp(-logit)) - target.terminated.numpy()).mean(axis=-1).ravel()
    biases = gradients[2 * work.dynamics.network.num_layers - 1]
    np.testing.assert_allclose(biases.reshape(len(expected), -1)[:, -1], expected, atol=1e-6)
    generator, step = torch.Generator().manual_seed(1), 1e-3
    direction = [torch.randn(view.shape, generator=generator) for view in views]
    objectives = []
    for sign in (1, -1):
        with torch.no_grad():
            for view, change in zip(views, direction, strict=True):
                view.add_(change, alpha=sign * step)
            objectives.append(float(fit._losses(work, index, work.streams).mean(dim=-1).double().sum()))
            for view, change in zip(views, direction, strict=True):
                view.add_(change, alpha=-sign * step)
    along = sum(float((one * other).sum()) for one, other in zip(gradients, direction, strict=True))
    assert (objectives[0] - objectives[1]) / (2 * step) == pytest.approx(along, rel=2e-2)


@pytest.mark.parametrize("loss", ["mse", "nll"])
def test_ends_are_learned(loss):
    data = data_with_ends()
    fit = make_fit(data, [0, 1], model_loss=loss, **LEARNED)
    fit.run()
    obs, action = data.obs.unsqueeze(1), data.action.unsqueeze(1)
    members = fit.dynamics.ensemble_size
    prediction = fit.dynamics.predict(obs.expand(-1, members, -1, -1), action.expand(-1, members, -1, -1))
    right = (prediction.termination_logit > 0) == (data.terminated.unsqueeze(1) > 0)
    assert right.float().mean() > 0.97
    assert data.terminated.mean() > 0.1, "some end"


def test_rollouts_end_where_the_model_gives_that_more_than_a_half():
    dynamics, actor, replay, imagined = make_parts(**LEARNED)

    def predict_with(networks, obs, action):
        delta = torch.zeros_like(obs)
        delta[..., 0] = 1.0
        return Prediction(delta, obs[..., 0], None, obs[..., 0] - 17.5)

    dynamics.predict_with = predict_with
    run(dynamics, actor, replay, imagined, termination=None, num_rollouts=10, rollout_length=4)
    ended = 0
    for seed in range(2):
        rows = stored(imagined, seed)
        np.testing.assert_array_equal(rows.terminated, (rows.obs[:, 0] > 17.5).float())
        assert not (rows.obs[:, 0] > 19.5).any(), "nothing follows an end"
        ended += int(rows.terminated.sum())
    assert ended > 0


@pytest.mark.parametrize("loss", ["vagram", "nll"])
def test_a_seed_in_a_cohort_equals_the_same_seed_alone(loss):
    overrides = dict(model_loss=loss, epoch_length=30, model_max_epochs=3, **LEARNED)
    cohort, alone = small_agent((5, 2), **overrides), small_agent((2,), **overrides)
    cohort.train_epoch(PointEnvs([5, 2], cliff=True))
    alone.train_epoch(PointEnvs([2], cliff=True))
    np.testing.assert_allclose(cohort.actor.flat[1].detach(), alone.actor.flat[0].detach(), atol=1e-4, rtol=1e-3)


def test_n_epochs_a_checkpoint_and_m_epochs_equal_n_plus_m():
    through, envs = small_agent(**LEARNED), PointEnvs([0, 1], cliff=True)
    through.train_epoch(envs)
    state, generators = saved(through), [each.bit_generator.state for each in envs.generators]
    resumed, resumed_envs = small_agent(**LEARNED), PointEnvs([0, 1], cliff=True)
    resumed.load_state_dict(state)
    for generator, before in zip(resumed_envs.generators, generators, strict=True):
        generator.bit_generator.state = before
    through.train_epoch(envs), resumed.train_epoch(resumed_envs)
    assert_same_state(through.state_dict(), resumed.state_dict())


def test_networks_of_the_other_kind_are_refused():
    state = small_agent().state_dict()
    with pytest.raises(ValueError, match=r"termination='function' and cannot go on with termination='learned'"):
        small_agent(**LEARNED).load_state_dict(state)


def test_the_compiled_fit_leaves_it_to_pytorch():
    one, other = (make_fit(data_with_ends(), [0], **options) for options in ({}, LEARNED))
    assert can_fit(one.dynamics, one.loss) and not can_fit(other.dynamics, other.loss)
