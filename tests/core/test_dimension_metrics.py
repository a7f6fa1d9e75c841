import math

import numpy as np
import pytest
import torch

from tests.core.toy import PointEnvs, never, small_agent, small_settings
from vagram_ray.core import dimension_metrics
from vagram_ray.core.dimension_metrics import (
    by_dimension,
    evenly_spaced,
    prediction_metrics,
    sensitivity_shares,
    value_gradient_metrics,
)
from vagram_ray.core.mbpo import MBPOAgent
from vagram_ray.core.model_losses import value_gradient_weights
from vagram_ray.core.random_streams import RandomStreams
from vagram_ray.core.replay import Transitions
from vagram_ray.core.sac import SAC
from vagram_ray.core.value_gradients import ValueEstimates

S, N, D, A = 2, 300, 4, 1


def values_of(num_seeds: int = S, **kwargs: float) -> ValueEstimates:
    return ValueEstimates(SAC(small_settings(), num_seeds, D, A, RandomStreams(range(num_seeds), "init")), **kwargs)


def transitions(next_obs: torch.Tensor) -> Transitions:
    shape = next_obs.shape[:2]
    return Transitions(
        torch.zeros_like(next_obs), torch.zeros(*shape, A), torch.zeros(shape), next_obs, torch.zeros(shape)
    )


def test_weights_are_the_means_of_those_in_the_loss() -> None:
    values, next_obs = values_of(), torch.randn(S, N, D)
    weight = value_gradient_weights(values, transitions(next_obs))["weight"].mean(dim=1)  # as the loss has them
    metrics = value_gradient_metrics(values, next_obs, num_real_dims=3)
    for d in range(D):
        torch.testing.assert_close(metrics[f"weight_dim_{d}"], weight[:, d])
    torch.testing.assert_close(metrics["weight_real"], weight[:, :3].mean(dim=1))
    torch.testing.assert_close(metrics["weight_distractors"], weight[:, 3])


def test_the_distractors_share_is_that_of_the_values_variance_whatever_the_units() -> None:
    """Of a linear value the part of a dimension is the variance that its own term has."""
    states = torch.randn(S, N, D, dtype=torch.float64) * torch.tensor([1.0, 0.1, 50.0, 3.0])
    slopes = torch.tensor([2.0, -30.0, 0.01, 0.5], dtype=torch.float64)
    parts = np.var((slopes * states).numpy(), axis=1)
    shares = sensitivity_shares(slopes.square().expand(S, D), states.var(dim=1, correction=0))
    np.testing.assert_allclose(shares, parts / parts.sum(axis=1, keepdims=True))
    assert sensitivity_shares(torch.ones(1, 2), torch.zeros(1, 2)).isnan().all()
    values, next_obs = values_of(), torch.randn(S, N, D) * torch.tensor([1.0, 2.0, 3.0, 4.0])
    metrics = value_gradient_metrics(values, next_obs, num_real_dims=3)
    weighted = [metrics[f"weight_dim_{d}"].numpy() * next_obs[..., d].numpy().var(axis=1) for d in range(D)]
    np.testing.assert_allclose(metrics["sensitivity_distractors_share"], weighted[3] / sum(weighted), rtol=1e-5)


def test_norm_and_clip_threshold_are_those_of_numpy() -> None:
    values, next_obs = values_of(clip_percentile=80.0), torch.randn(S, N, D)
    norms = np.linalg.norm(values.gradients(next_obs).numpy(), axis=-1)  # (S, K, N)
    metrics = value_gradient_metrics(values, next_obs, num_real_dims=D)
    np.testing.assert_allclose(metrics["value_gradient_norm"], norms.mean(axis=(1, 2)), rtol=1e-5)
    np.testing.assert_allclose(metrics["value_gradient_clip"], np.percentile(norms, 80, axis=2).mean(axis=1), rtol=1e-5)
    assert not any("distractors" in name for name in metrics)


def test_dimensions_that_the_value_ignores_have_no_weight() -> None:
    values = values_of()
    with torch.no_grad():
        for critic in (values.sac.critic, values.sac.target_critic):
            critic.network.views[0][:, 2:D] = 0.0  # the first layer's weights of dimensions 2 and 3
    metrics = value_gradient_metrics(values, torch.randn(S, N, D), num_real_dims=2)
    assert torch.equal(metrics["sensitivity_distractors_share"], torch.zeros(S))
    assert (metrics["weight_real"] > 0).all()


def test_a_cohorts_seed_has_the_numbers_it_has_alone() -> None:
    values, next_obs = values_of(), torch.randn(S, N, D)
    both = value_gradient_metrics(values, next_obs, num_real_dims=2)
    alone = value_gradient_metrics(values.select_seeds(torch.tensor([1])), next_obs[1:], num_real_dims=2)
    for name, value in alone.items():
        torch.testing.assert_close(both[name][1:], value)


def fitted_agent() -> MBPOAgent:
    agent = small_agent()
    envs = PointEnvs(agent.seeds)
    for _ in range(2):
        agent.train_epoch(envs)
    return agent


def test_unexplained_is_the_error_over_the_variance_of_the_change() -> None:
    agent = fitted_agent()
    data = agent.replay.layout.split(agent.replay.rows)
    held_out = torch.stack([torch.arange(0, 100, 2), torch.arange(1, 100, 2)])
    metrics = prediction_metrics(agent.dynamics, data, held_out, num_real_dims=1)
    for seed in range(S):
        obs, action, next_obs = (c[seed, held_out[seed]] for c in (data.obs, data.action, data.next_obs))
        members = agent.dynamics.ensemble_size
        inputs = [column.expand(S, members, -1, -1) for column in (obs, action)]
        predicted = agent.dynamics.predict(*inputs).delta[seed, agent.dynamics.elites[seed]].detach().numpy()
        change = (next_obs - obs).numpy()
        expected = ((predicted - change) ** 2).mean(axis=(0, 1))[0] / change[:, 0].var()
        assert metrics["unexplained_dim_0"][seed].item() == pytest.approx(expected, rel=1e-4)
        of_reward = agent.dynamics.predict(*inputs).reward[seed, agent.dynamics.elites[seed]].detach().numpy()
        observed = data.reward[seed, held_out[seed]].numpy()
        expected = ((of_reward - observed) ** 2).mean() / observed.var()
        assert metrics["unexplained_reward"][seed].item() == pytest.approx(expected, rel=1e-4)
    assert (metrics["unexplained_real"] < 1).all()  # better than the mean change
    assert metrics["unexplained_distractors"].isnan().all()  # the toy's second dimension is constant


def test_many_dimensions_are_not_listed_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dimension_metrics, "MAX_LISTED_DIMENSIONS", 3)
    assert set(by_dimension("x", torch.ones(S, 3), 2)) == {"x_real", "x_distractors", "x_dim_0", "x_dim_1", "x_dim_2"}
    assert set(by_dimension("x", torch.ones(S, 4), 2)) == {"x_real", "x_distractors"}


def test_means_leave_out_dimensions_without_a_value() -> None:
    values = torch.tensor([[1.0, math.nan, 3.0, math.nan]])
    metrics = by_dimension("x", values, 3)
    assert metrics["x_real"].item() == 2.0
    assert metrics["x_distractors"].isnan().all()


def test_the_sample_is_all_rows_or_evenly_spaced_ones() -> None:
    assert evenly_spaced(5, "cpu").tolist() == [0, 1, 2, 3, 4]
    index = evenly_spaced(1_000_003, "cpu")
    assert (len(index), index[0], index[-1]) == (dimension_metrics.SAMPLE_SIZE, 0, 1_000_002)
    steps = index.diff()
    assert steps.max() - steps.min() <= 1


@pytest.mark.parametrize("model_loss", ["vagram", "nll", "mse"])
def test_training_reports_them_for_every_loss(model_loss: str) -> None:
    agent = MBPOAgent(
        small_settings(model_loss=model_loss), seeds=(0, 1), obs_dim=2, action_dim=1, termination=never, num_real_dims=1
    )
    metrics = agent.train_epoch(PointEnvs(agent.seeds))
    for name in ("value_gradient_norm", "value_gradient_clip", "weight_real", "weight_distractors", "weight_dim_1"):
        assert (metrics[f"model/{name}"] > 0).all(), name
    assert (metrics["model/sensitivity_distractors_share"] == 0).all()  # dimension 1 never varies, whatever its weight
    assert np.isfinite(metrics["model/unexplained_real"]).all()
    assert np.isfinite(metrics["model/unexplained_reward"]).all()
    assert set(np.unique(metrics["model/fit_limit_reached"])) <= {0.0, 1.0}


def test_measuring_changes_nothing_in_training(monkeypatch: pytest.MonkeyPatch) -> None:
    measured = fitted_agent()
    for name in ("value_gradient_metrics", "prediction_metrics"):
        monkeypatch.setattr(f"vagram_ray.core.mbpo.{name}", lambda *args: {})
    plain = fitted_agent()
    assert_equal(plain.state_dict(), measured.state_dict())


def assert_equal(left: object, right: object) -> None:
    """Nested containers with the same tensors, bit for bit."""
    if isinstance(left, dict):
        assert isinstance(right, dict) and left.keys() == right.keys()
        for key in left:
            assert_equal(left[key], right[key])
    elif isinstance(left, (list, tuple)):
        assert isinstance(right, (list, tuple)) and len(left) == len(right)
        for ours, theirs in zip(left, right, strict=True):
            assert_equal(ours, theirs)
    elif isinstance(left, torch.Tensor):
        assert isinstance(right, torch.Tensor) and torch.equal(left, right)
    else:
        assert left == right
