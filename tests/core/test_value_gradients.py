import dataclasses

import numpy as np
import pytest
import torch

from tests.core.toy import small_settings
from vagram_ray.core.model_losses import value_gradient_weights
from vagram_ray.core.random_streams import RandomStreams
from vagram_ray.core.replay import Transitions
from vagram_ray.core.sac import SAC
from vagram_ray.core.sac_losses import bellman_target
from vagram_ray.core.value_gradients import ValueEstimates, clip_gradient_norms, norm_percentile

S, N, D, A = 2, 7, 3, 2


def make_values(normalize_observations=False, critic_layer_norm=False, **kwargs):
    settings = small_settings(
        normalize_features=True, normalize_observations=normalize_observations, critic_layer_norm=critic_layer_norm
    )
    sac = SAC(settings, S, D, A, RandomStreams([0, 1], "init"))
    with torch.no_grad():  # targets that differ from the critics
        sac.target_critic.network.flat += 0.05 * torch.randn(sac.target_critic.network.flat.shape)
        sac.actor.scale.fit(torch.randn(S, 50, D) * 4 + 1)
    for module in (sac.actor, sac.critic, sac.target_critic):
        module.double()
    return ValueEstimates(sac, **kwargs)


@pytest.mark.parametrize("normalize_observations, critic_layer_norm", [(False, False), (True, False), (False, True)])
def test_gradients_equal_finite_differences_with_the_action_held_constant(normalize_observations, critic_layer_norm):
    values = make_values(normalize_observations, critic_layer_norm)
    obs = torch.randn(S, N, D, dtype=torch.float64)
    gradients = values.gradients(obs)
    action = values.sac.actor.mean_action(obs).detach()
    step = 1e-6
    for d in range(D):
        shift = torch.zeros(D, dtype=torch.float64)
        shift[d] = step
        for group, critic in enumerate((values.sac.critic, values.sac.target_critic)):
            difference = (critic(obs + shift, action) - critic(obs - shift, action)) / (2 * step)
            torch.testing.assert_close(
                gradients[:, 2 * group : 2 * group + 2, :, d], difference.detach(), atol=1e-6, rtol=1e-5
            )


def test_chunks_make_no_difference():
    obs = torch.randn(S, N, D, dtype=torch.float64)
    whole = make_values(chunk_size=100)
    pieces = ValueEstimates(whole.sac, chunk_size=3)
    torch.testing.assert_close(pieces.gradients(obs), whole.gradients(obs))


def test_values_are_the_four_critics_at_the_mean_action():
    values = make_values()
    obs = torch.randn(S, N, D, dtype=torch.float64)
    action = values.sac.actor.mean_action(obs)
    expected = torch.cat([values.sac.critic(obs, action), values.sac.target_critic(obs, action)], dim=1)
    torch.testing.assert_close(values.values(obs), expected)


def test_soft_values_add_the_entropy_of_sacs_own_bellman_target():
    values = make_values()
    obs, noise = torch.randn(S, N, D, dtype=torch.float64), torch.randn(S, N, A, dtype=torch.float64)
    zeros = torch.zeros(S, N, dtype=torch.float64)
    target = bellman_target(values.sac, Transitions(obs, noise, zeros, obs, zeros), noise, 0.9)
    torch.testing.assert_close(0.9 * values.soft_values(obs, noise)[:, 2:].amin(dim=1), target)


def test_values_of_states_with_more_axes_are_those_of_the_states():
    values = make_values(chunk_size=4)
    obs, noise = torch.randn(S, 2, 3, D, dtype=torch.float64), torch.randn(S, 2, 3, A, dtype=torch.float64)
    assert values.values(obs).shape == values.soft_values(obs, noise).shape == (S, 4, 2, 3)
    torch.testing.assert_close(values.values(obs)[..., 1, 2], values.values(obs[:, 1, 2:])[..., 0])
    torch.testing.assert_close(
        values.soft_values(obs, noise)[..., 1, 2], values.soft_values(obs[:, 1, 2:], noise[:, 1, 2:])[..., 0]
    )


@pytest.mark.parametrize("normalize_observations", [False, True])
def test_selected_seeds_keep_their_values(normalize_observations):
    values = make_values(normalize_observations)
    values.sac.log_alpha = torch.tensor([[-1.0], [0.5]], dtype=torch.float64)
    obs, noise = torch.randn(S, N, D, dtype=torch.float64), torch.randn(S, N, A, dtype=torch.float64)
    index = torch.tensor([1])
    selected = values.select_seeds(index)
    torch.testing.assert_close(selected.values(obs[index]), values.values(obs)[index])
    torch.testing.assert_close(selected.soft_values(obs[index], noise[index]), values.soft_values(obs, noise)[index])
    torch.testing.assert_close(selected.gradients(obs[index]), values.gradients(obs)[index])


@pytest.mark.parametrize("percentile", [50.0, 95.0, 100.0])
def test_clipping_equals_numpys_percentile(percentile):
    gradients = torch.randn(S, 4, 40, D, dtype=torch.float64)
    clipped, threshold = clip_gradient_norms(gradients, percentile)
    norms = np.linalg.norm(gradients.numpy(), axis=-1)
    expected_threshold = np.percentile(norms, percentile, axis=-1)
    np.testing.assert_allclose(threshold.numpy(), expected_threshold, rtol=1e-6)
    for s in range(S):
        for k in range(4):
            for i in range(40):
                factor = min(1.0, expected_threshold[s, k] / norms[s, k, i])
                np.testing.assert_allclose(clipped[s, k, i].numpy(), factor * gradients[s, k, i].numpy(), rtol=1e-6)


def test_zero_gradients_stay_zero():
    clipped, _ = clip_gradient_norms(torch.zeros(1, 4, 5, D), 95.0)
    assert torch.equal(clipped, torch.zeros(1, 4, 5, D))


def test_percentile_of_a_single_value():
    assert norm_percentile(torch.tensor([[3.0]]), 95.0).item() == 3.0


def test_weights_are_the_mean_squared_clipped_gradients():
    values = make_values(clip_percentile=80.0)
    next_obs = torch.randn(S, N, D, dtype=torch.float64)
    data = Transitions(next_obs, next_obs[..., :A], next_obs[..., 0], next_obs, next_obs[..., 0])
    weight = value_gradient_weights(values, data)["weight"]
    raw = values.gradients(next_obs).numpy()
    expected = np.zeros((S, N, D))
    for s in range(S):
        for k in range(4):
            norms = np.linalg.norm(raw[s, k], axis=-1)
            limit = np.percentile(norms, 80.0)
            for i in range(N):
                expected[s, i] += (raw[s, k, i] * min(1.0, limit / norms[i])) ** 2 / 4
    np.testing.assert_allclose(weight.numpy(), expected, rtol=1e-6)


def test_the_mean_weight_of_terminal_transitions_in_numpy():
    """Percentile and mean are of the seed's other transitions, of which each seed has another number."""
    values = make_values(clip_percentile=80.0)
    values = dataclasses.replace(values, weight_terminal="mean")
    next_obs = torch.randn(S, N, D, dtype=torch.float64)
    terminated = torch.zeros(S, N, dtype=torch.float64)
    for seed in range(S):
        terminated[seed, : 3 + 2 * seed] = 1.0
    data = Transitions(next_obs, next_obs[..., :A], next_obs[..., 0], next_obs, terminated)
    weight = value_gradient_weights(values, data)["weight"]
    raw = values.gradients(next_obs).numpy()
    for s in range(S):
        going_on = np.flatnonzero(terminated[s].numpy() == 0)
        expected = np.zeros((N, D))
        for k in range(4):
            norms = np.linalg.norm(raw[s, k], axis=-1)
            limit = np.percentile(norms[going_on], 80.0)
            for i in going_on:
                expected[i] += (raw[s, k, i] * min(1.0, limit / norms[i])) ** 2 / 4
        expected[terminated[s].numpy() == 1] = expected[going_on].mean(axis=0)
        np.testing.assert_allclose(weight[s].numpy(), expected, rtol=1e-6)


def test_terminal_transitions_alone_keep_their_gradients():
    values, next_obs = make_values(clip_percentile=80.0), torch.randn(S, N, D, dtype=torch.float64)
    data = Transitions(next_obs, next_obs, next_obs[..., 0], next_obs, torch.ones(S, N))
    own = value_gradient_weights(values, data)["weight"]
    mean = value_gradient_weights(dataclasses.replace(values, weight_terminal="mean"), data)["weight"]
    torch.testing.assert_close(mean, own)
