"""What the networks' outputs mean: deltas or successors, in the environment's units or normalised ones."""

import itertools

import numpy as np
import pytest
import torch

from tests.core.toy import small_settings
from vagram_ray.core.dynamics import DynamicsEnsemble
from vagram_ray.core.random_streams import RandomStreams
from vagram_ray.core.replay import Transitions

S, E, N, D, A = 2, 3, 40, 3, 2
KINDS = [
    dict(prediction_target=target, normalize_dynamics_targets=dynamics, normalize_reward_targets=reward)
    for target, dynamics, reward in itertools.product(("delta", "next_obs"), (False, True), (False, True))
]


def make_dynamics(seeds=(0, 1), **overrides):
    settings = small_settings(**{"model_loss": "nll", **overrides})
    dynamics = DynamicsEnsemble(settings, len(seeds), D, A, RandomStreams(seeds, "init"))
    with torch.no_grad():
        dynamics.network.flat += 0.1 * torch.randn_like(dynamics.network.flat)
    return dynamics


def make_data(scale=(1e-3, 1.0, 200.0), offset=(0.0, -5.0, 1000.0)):
    """Two different seeds; dimensions of very different scales."""
    scale, offset = torch.tensor(scale), torch.tensor(offset)
    obs, next_obs = (scale * torch.randn(S, N, D) * torch.tensor([1.0, 3.0]).view(S, 1, 1) + offset for _ in range(2))
    return Transitions(obs, torch.rand(S, N, A), 7 * torch.randn(S, N) + 4, next_obs, torch.zeros(S, N))


def fitted(data, **overrides):
    dynamics = make_dynamics(**overrides)
    dynamics.fit_normalizer(data.obs, data.action)
    dynamics.fit_target_normalizer(data)
    return dynamics


def of_members(*columns):
    return [column.unsqueeze(1).expand(-1, E, -1, -1) for column in columns]


@pytest.mark.parametrize("kind", KINDS)
def test_statistics_of_the_targets_are_each_seeds_own(kind):
    data = make_data()
    dynamics = fitted(data, **kind)
    for seed in range(S):
        target = data.next_obs[seed].double().numpy()
        if kind["prediction_target"] == "delta":
            target = target - data.obs[seed].double().numpy()
        reward = data.reward[seed].double().numpy()
        mean, std = np.append(target.mean(axis=0), reward.mean()), np.append(target.std(axis=0), reward.std())
        off = np.append(np.full(D, not kind["normalize_dynamics_targets"]), not kind["normalize_reward_targets"])
        mean[off], std[off] = 0.0, 1.0
        np.testing.assert_allclose(dynamics.output_mean[seed, 0, 0], mean, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(dynamics.output_std[seed, 0, 0], std, rtol=1e-4)
    assert (dynamics.dynamics_unit is not None) == kind["normalize_dynamics_targets"]
    assert (dynamics.reward_unit is not None) == kind["normalize_reward_targets"]


@pytest.mark.parametrize("kind", KINDS)
def test_predictions_are_in_the_environments_units(kind):
    """From the networks' outputs f and l: y = mean + std f, log-variance l + 2 log std; s' - s is y or y - s."""
    data = make_data()
    dynamics = fitted(data, **kind)
    prediction = dynamics.predict(*of_members(data.obs, data.action))
    plain = make_dynamics(model_loss="nll")
    plain.network.flat.data.copy_(dynamics.network.flat)
    plain.input_mean, plain.input_std = dynamics.input_mean, dynamics.input_std
    outputs = plain.predict(*of_members(data.obs, data.action))
    f = torch.cat([outputs.delta, outputs.reward.unsqueeze(-1)], dim=-1).detach().double().numpy()
    mean, std = dynamics.output_mean.double().numpy(), dynamics.output_std.double().numpy()
    y = mean + std * f
    delta = y[..., :D] - (data.obs.unsqueeze(1).double().numpy() if kind["prediction_target"] == "next_obs" else 0.0)
    np.testing.assert_allclose(prediction.delta.detach(), delta, rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(prediction.reward.detach(), y[..., D], rtol=1e-5, atol=1e-5)
    log_variance = outputs.log_variance.detach().double().numpy() + 2 * np.log(std)
    np.testing.assert_allclose(prediction.log_variance.detach(), log_variance, rtol=1e-5, atol=1e-5)


def test_elites_predict_as_the_ensemble_does():
    data = make_data()
    dynamics = fitted(data, termination="learned", **KINDS[-1])
    dynamics.elites = torch.tensor([[2, 0], [1, 2]])
    every = dynamics.predict(*of_members(data.obs, data.action))
    columns = [column.unsqueeze(1).expand(-1, 2, -1, -1) for column in (data.obs, data.action)]
    elite = dynamics.predict_with(dynamics.elite_networks(), *columns)
    for seed in range(S):
        for own, expected in zip(elite, every, strict=True):
            torch.testing.assert_close(own[seed], expected[seed, dynamics.elites[seed]])


@pytest.mark.parametrize("target", ["delta", "next_obs"])
def test_constant_targets_are_centred_and_not_scaled(target):
    data = make_data()
    data.next_obs[1, :, 1] = data.obs[1, :, 1] = 3.0
    data.reward[0] = -2.0
    kind = dict(prediction_target=target, normalize_dynamics_targets=True, normalize_reward_targets=True)
    dynamics = fitted(data, **kind)
    assert dynamics.output_std[1, 0, 0, 1] == dynamics.output_std[0, 0, 0, D] == 1.0
    assert dynamics.output_mean[1, 0, 0, 1] == (3.0 if target == "next_obs" else 0.0)
    assert dynamics.output_mean[0, 0, 0, D] == -2.0
    prediction = dynamics.predict(*of_members(data.obs, data.action))
    assert all(part.isfinite().all() for part in prediction if part is not None)


def test_new_statistics_leave_the_networks_alone_and_predictions_move_with_the_data():
    """The same networks, on data in other units, make the same predictions in these units."""
    data = make_data(scale=(1.0, 1.0, 1.0), offset=(0.0, 1.0, 2.0))
    scale, offset = torch.tensor([0.01, 3.0, 50.0]), torch.tensor([1.0, 0.0, -20.0])
    other = data._replace(
        obs=scale * data.obs + offset, next_obs=scale * data.next_obs + offset, reward=9 * data.reward + 1
    )
    for target in ("delta", "next_obs"):
        dynamics = fitted(
            data, prediction_target=target, normalize_dynamics_targets=True, normalize_reward_targets=True
        )
        before, weights = dynamics.predict(*of_members(data.obs, data.action)), dynamics.network.flat.detach().clone()
        dynamics.fit_normalizer(other.obs, other.action)
        dynamics.fit_target_normalizer(other)
        after = dynamics.predict(*of_members(other.obs, other.action))
        assert torch.equal(dynamics.network.flat, weights)
        torch.testing.assert_close(after.delta, scale * before.delta, rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(after.reward, 9 * before.reward + 1, rtol=1e-3, atol=1e-3)
        units = 2 * torch.cat([scale, torch.tensor([9.0])]).log()
        torch.testing.assert_close(after.log_variance, before.log_variance + units, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_selected_seeds_keep_their_units(kind):
    data = make_data()
    dynamics = fitted(data, termination="learned", **kind)
    index = torch.tensor([1])
    selected = dynamics.select_seeds(index).predict(*of_members(data.obs[index], data.action[index]))
    every = dynamics.predict(*of_members(data.obs, data.action))
    for own, expected in zip(selected, every, strict=True):
        torch.testing.assert_close(own, expected[index])


@pytest.mark.parametrize("kind", KINDS)
def test_a_restored_ensemble_predicts_the_same(kind):
    data = make_data()
    learned = dict(termination="learned", **kind)
    dynamics, restored = fitted(data, **learned), make_dynamics(**learned)
    restored.load_state_dict(dynamics.state_dict())
    expected, own = (each.predict(*of_members(data.obs, data.action)) for each in (dynamics, restored))
    assert all(torch.equal(a, b) for a, b in zip(own, expected, strict=True))


def test_a_state_of_other_targets_is_refused():
    saved = make_dynamics(prediction_target="next_obs").state_dict()
    message = "fitted with prediction_target='next_obs'.*Restore it with prediction_target='next_obs'"
    with pytest.raises(ValueError, match=message):
        make_dynamics().load_state_dict(saved)
    with pytest.raises(ValueError, match="fitted with normalize_reward_targets=False"):
        make_dynamics(normalize_reward_targets=True).load_state_dict(make_dynamics().state_dict())


def test_a_state_without_a_word_about_targets_is_one_of_plain_targets():
    data = make_data()
    dynamics = fitted(data)
    saved = dynamics.state_dict()
    assert set(saved) == {"flat", "input_mean", "input_std", "elites", "targets"}
    del saved["targets"]
    restored = make_dynamics()
    restored.load_state_dict(saved)
    assert torch.equal(restored.network.flat, dynamics.network.flat)
    with pytest.raises(ValueError, match="fitted with prediction_target='delta'"):
        make_dynamics(prediction_target="next_obs").load_state_dict(saved)
