"""Rollouts that end where the elites disagree: u and its threshold by hand, and what is stored."""

import numpy as np
import pytest
import torch

from tests.core.toy import PointEnvs, never, small_agent, small_settings
from vagram_ray.core import model_rollouts
from vagram_ray.core.dynamics import DynamicsEnsemble
from vagram_ray.core.model_losses import Prediction
from vagram_ray.core.model_rollouts import imagine, make_truncation
from vagram_ray.core.random_streams import RandomStreams
from vagram_ray.core.replay import ImaginedBuffer, ReplayBuffer, TransitionLayout, Transitions
from vagram_ray.core.sac import SAC
from vagram_ray.core.value_gradients import ValueEstimates

S, D, A = 2, 2, 1
LAYOUT = TransitionLayout(D, A)
MODES = ("disagreement", "value_disagreement")
ROLLOUTS = 61


# -- u and the threshold, against NumPy ------------------------------------------------------------------------------


def make_parts(mode, **overrides):
    """Untrained networks in double precision, and transitions whose dimensions have different scales."""
    settings = small_settings(
        **{"model_loss": "mse", "ensemble_size": 4, "num_elites": 3, "rollout_truncation": mode, **overrides}
    )
    streams = RandomStreams([0, 1], "init")
    dynamics, sac = DynamicsEnsemble(settings, S, D, A, streams), SAC(settings, S, D, A, streams)
    with torch.no_grad():
        sac.target_critic.network.flat += 0.05 * torch.randn(sac.target_critic.network.flat.shape)
    for module in (dynamics.network, sac.actor, sac.critic, sac.target_critic):
        module.double()
    dynamics.elites = torch.tensor([[3, 0, 2], [1, 2, 3]])
    obs = torch.randn(S, 50, D, dtype=torch.float64)
    next_obs = obs + torch.randn(S, 50, D, dtype=torch.float64) * torch.tensor([0.1, 30.0])
    nothing = torch.zeros(S, 50, dtype=torch.float64)
    data = Transitions(obs, torch.zeros(S, 50, A, dtype=torch.float64), nothing, next_obs, nothing)
    values = ValueEstimates(sac)
    return dynamics, values, data, make_truncation(settings, values, data)


def elite_changes(dynamics, obs, action):
    """Predicted mean changes of the elites (S, E, n, D) as an array."""
    members = [column.unsqueeze(1).expand(-1, 4, -1, -1) for column in (obs, action)]
    every = dynamics.predict(*members).delta.detach().numpy()
    return np.stack([every[seed, dynamics.elites[seed]] for seed in range(S)])


def squared_value_gradients(values, states, step=1e-6):
    """Mean over the four action values of (dV/ds_d)^2 with the action held, by central differences."""
    states = torch.as_tensor(states)
    action = values.sac.actor.mean_action(states).detach()
    squares = np.zeros(states.shape)
    for d in range(D):
        shift = torch.eye(D, dtype=torch.float64)[d] * step
        for critic in (values.sac.critic, values.sac.target_critic):
            difference = (critic(states + shift, action) - critic(states - shift, action)).detach().numpy() / (2 * step)
            squares[..., d] += (difference**2).sum(axis=1) / 4
    return squares


@pytest.mark.parametrize("loss", ["mse", "nll"])
@pytest.mark.parametrize("mode", MODES)
def test_the_disagreement_is_its_equation(mode, loss):
    dynamics, values, data, truncation = make_parts(mode, model_loss=loss)
    obs, action = torch.randn(S, 9, D, dtype=torch.float64), torch.randn(S, 9, A, dtype=torch.float64)
    everywhere = torch.ones(S, 9, dtype=torch.bool)
    found = truncation.disagreement(dynamics, dynamics.elite_networks(), obs, action, everywhere)
    changes = elite_changes(dynamics, obs, action)
    variance = ((changes - changes.mean(axis=1, keepdims=True)) ** 2).mean(axis=1)
    if mode == "disagreement":
        weights = 1.0 / np.var((data.next_obs - data.obs).numpy(), axis=1, keepdims=True)
    else:
        weights = squared_value_gradients(values, obs.numpy() + changes.mean(axis=1))
    np.testing.assert_allclose(found.numpy(), (weights * variance).sum(axis=2), rtol=1e-5)


@pytest.mark.parametrize(("quantile", "factor"), [(0.95, 1.0), (0.5, 3.0), (1.0, 1.0)])
def test_the_threshold_is_a_multiple_of_a_quantile_of_each_seeds_first_steps(quantile, factor):
    chosen = dict(rollout_truncation_quantile=quantile, rollout_truncation_factor=factor)
    _, _, _, truncation = make_parts("disagreement", **chosen)
    first_steps = torch.rand(S, 37, dtype=torch.float64) * torch.tensor([[1.0], [100.0]])
    expected = factor * np.quantile(first_steps.numpy(), quantile, axis=1)
    np.testing.assert_allclose(truncation.threshold(first_steps).numpy(), expected)


def test_the_scale_of_a_dimension_cancels():
    """In units of a thousandth variances are 10^6 times as large, and weights as much smaller."""
    dynamics, values, data, truncation = make_parts("disagreement")
    scaled = data._replace(obs=data.obs * 1000.0, next_obs=data.next_obs * 1000.0)
    settings = small_settings(rollout_truncation="disagreement")
    weights, other = truncation.weights(data.obs), make_truncation(settings, values, scaled).weights(data.obs)
    torch.testing.assert_close(other, weights / 1e6)


def test_a_dimension_that_never_changes_is_left_out():
    _, values, data, _ = make_parts("disagreement")
    data.next_obs[..., 1] = data.obs[..., 1]
    truncation = make_truncation(small_settings(rollout_truncation="disagreement"), values, data)
    weights = truncation.weights(data.obs)
    assert (weights[..., 1] == 0).all() and (weights[..., 0] > 0).all()


@pytest.mark.parametrize("mode", MODES)
def test_only_needed_rows_are_computed_and_chunks_make_no_difference(mode, monkeypatch):
    dynamics, _, _, truncation = make_parts(mode)
    obs, action = torch.randn(S, 20, D, dtype=torch.float64), torch.randn(S, 20, A, dtype=torch.float64)
    networks, everywhere = dynamics.elite_networks(), torch.ones(S, 20, dtype=torch.bool)
    whole = truncation.disagreement(dynamics, networks, obs, action, everywhere)
    needed = torch.zeros(S, 20, dtype=torch.bool)
    needed[0, [3, 7, 19]] = needed[1, 11] = True
    predict, seen = dynamics.predict_with, []
    monkeypatch.setattr(dynamics, "predict_with", lambda *args: (seen.append(args[1].shape[2]), predict(*args))[1])
    some = truncation.disagreement(dynamics, networks, obs, action, needed)
    assert seen == [3]
    torch.testing.assert_close(some, torch.where(needed, whole, 0.0))
    width = max(3 * 16, truncation.width)
    monkeypatch.setattr(model_rollouts, "CHUNK_ELEMENTS", 7 * S * width)
    torch.testing.assert_close(truncation.disagreement(dynamics, networks, obs, action, everywhere), whole)
    assert seen[1:] == [7, 7, 6]
    nowhere = truncation.disagreement(dynamics, networks, obs, action, torch.zeros_like(needed))
    assert (nowhere == 0).all() and len(seen) == 4


# -- rollouts by hand ------------------------------------------------------------------------------------------------


def disagreeing_dynamics(settings, spread):
    """Three members agree that s_0 grows by 1, and predict changes of s_1 that are ``spread(s_0)`` apart."""
    dynamics = DynamicsEnsemble(settings, S, D, A, RandomStreams([0, 1], "init"))

    def predict_with(networks, obs, action):
        member = torch.arange(3.0).view(1, 3, 1) - 1.0
        delta = torch.stack([torch.ones_like(obs[..., 0]), member * spread(obs[..., 0])], dim=-1)
        log_variance = torch.full((*delta.shape[:-1], D + 1), -40.0) if dynamics.probabilistic else None
        return Prediction(delta, obs[..., 0], log_variance)

    dynamics.predict_with = predict_with
    return dynamics


def roll_out(mode, spread, *, blind_to=(), termination=never, length=3, seeds=(0, 1), **overrides):
    """Transitions that each seed stored, and the metrics; the value does not depend on dimensions ``blind_to``."""
    overrides = {"model_loss": "mse", "num_elites": 3, "rollout_truncation_quantile": 0.5, **overrides}
    settings = small_settings(rollout_truncation=mode, **overrides)
    sac = SAC(settings, S, D, A, RandomStreams([0, 1], "init"))
    with torch.no_grad():
        for critic in (sac.critic, sac.target_critic):
            critic.network.views[0][:, list(blind_to)] = 0.0
    replay, imagined = ReplayBuffer(S, 100, LAYOUT), ImaginedBuffer(S, ROLLOUTS * length, LAYOUT)
    generator = np.random.default_rng(0)
    for s_0 in range(20):
        obs = np.array([[s_0, 1.0]] * S)
        zeros = np.zeros(S)
        replay.add(obs, zeros[:, None], zeros, obs + generator.normal(size=obs.shape), zeros)
    truncation = make_truncation(settings, ValueEstimates(sac), replay.layout.split(replay.rows))
    streams = RandomStreams(list(seeds), "rollout")
    metrics = imagine(
        disagreeing_dynamics(settings, spread), sac.actor, termination, replay, imagined,
        num_rollouts=ROLLOUTS, rollout_length=length, streams=streams, truncation=truncation,
    )  # fmt: skip
    rows = [LAYOUT.split(imagined._rows[seed, : imagined.sizes[seed]]) for seed in range(S)]
    return rows, metrics, streams


def starts_of(seeds=(0, 1)):
    """Where the rollouts start: what is drawn does not depend on the mode, so a run without truncation shows it."""
    rows, _, _ = roll_out("schedule", torch.zeros_like, length=1, seeds=seeds)
    return [row.obs[:, 0].numpy() for row in rows]


def apart_from_12_on(s_0):
    return (s_0 >= 12).float()


@pytest.mark.parametrize("loss", ["mse", "nll"])
@pytest.mark.parametrize(
    ("mode", "blind_to"), [("disagreement", ()), ("disagreement", (1,)), ("value_disagreement", (0,))]
)
def test_rollouts_end_before_the_transition_on_which_the_members_disagree(mode, blind_to, loss):
    """Less than half of the rollouts start where members are apart, so the threshold is 0: none of those is stored."""
    rows, metrics, _ = roll_out(mode, apart_from_12_on, blind_to=blind_to, model_loss=loss)
    for seed, starts in enumerate(starts_of()):
        lengths = np.clip(12 - starts, 0, 3)
        assert (starts >= 12).mean() < 0.5
        assert len(rows[seed].obs) == lengths.sum()
        expected = np.concatenate([starts[lengths > step] + step for step in range(3)])
        np.testing.assert_array_equal(rows[seed].obs[:, 0].numpy(), expected)
        assert (rows[seed].terminated == 0).all(), "a rollout that is cut off has not terminated"
        assert metrics["imagined_rollout_length"][seed] == pytest.approx(lengths.mean())
        assert metrics["truncated_rollouts_share"][seed] == pytest.approx((lengths < 3).mean())
        assert metrics["truncation_threshold"][seed] == 0.0


def test_disagreement_in_a_dimension_that_the_value_ignores_ends_no_rollout():
    rows, metrics, _ = roll_out("value_disagreement", apart_from_12_on, blind_to=(1,))
    assert [len(row.obs) for row in rows] == [3 * ROLLOUTS] * S
    assert metrics["truncated_rollouts_share"].tolist() == [0.0, 0.0]
    assert metrics["imagined_rollout_length"].tolist() == [3.0, 3.0]


def test_a_threshold_between_the_first_steps():
    """var_e = 2/3 (s_0 / 10)^2 grows along the rollout and passes its own 0.8-quantile, taken of the first steps."""
    rows, metrics, _ = roll_out(
        "disagreement", lambda s_0: s_0 / 10.0, rollout_truncation_quantile=0.8, rollout_truncation_factor=1.1, length=6
    )
    changes = np.random.default_rng(0).normal(size=(20, S, D))[:, :, 1]
    for seed, starts in enumerate(starts_of()):
        weight = 1.0 / np.var(changes[:, seed])
        threshold = 1.1 * np.quantile(weight * 2 / 3 * (starts / 10.0) ** 2, 0.8)
        trusted = [weight * 2 / 3 * ((starts + step) / 10.0) ** 2 <= threshold for step in range(6)]
        lengths = np.logical_and.accumulate(trusted).sum(axis=0)
        assert 0 < (lengths == 0).mean() < 0.2 and (lengths == 6).any() and len(set(lengths)) > 3
        assert len(rows[seed].obs) == lengths.sum()
        assert metrics["truncation_threshold"][seed] == pytest.approx(threshold, rel=1e-4)
        assert metrics["truncated_rollouts_share"][seed] == pytest.approx((lengths < 6).mean())
        assert metrics["imagined_rollout_length"][seed] == pytest.approx(lengths.mean())


def test_terminated_rollouts_end_as_before_and_do_not_count_as_truncated():
    def ends_at_10_and_13(obs, action, next_obs):
        return (next_obs[..., 0] == 10) | (next_obs[..., 0] == 13)

    rows, metrics, _ = roll_out("disagreement", apart_from_12_on, termination=ends_at_10_and_13)
    for seed, starts in enumerate(starts_of()):
        until_terminal = np.where(starts < 10, 10 - starts, 99)
        lengths = np.minimum(np.clip(12 - starts, 0, 3), until_terminal)
        assert len(rows[seed].obs) == lengths.sum()
        assert (until_terminal <= 3).any()
        # The step from 12 to 13 would have ended an episode; the members disagree about it, so it is not there.
        np.testing.assert_array_equal(rows[seed].terminated.numpy(), rows[seed].next_obs[:, 0].numpy() == 10)
        truncated = (lengths < 3) & (until_terminal > lengths)
        assert metrics["truncated_rollouts_share"][seed] == pytest.approx(truncated.mean())


@pytest.mark.parametrize("loss", ["mse", "nll"])
@pytest.mark.parametrize("mode", MODES)
def test_a_threshold_that_nothing_exceeds_gives_the_rollouts_of_the_schedule_bit_for_bit(mode, loss):
    chosen = dict(model_loss=loss, rollout_truncation_quantile=1.0, rollout_truncation_factor=1e9)
    scheduled, _, scheduled_streams = roll_out("schedule", lambda s_0: s_0, **chosen)
    rows, metrics, streams = roll_out(mode, lambda s_0: s_0, **chosen)
    assert metrics["truncated_rollouts_share"].tolist() == [0.0, 0.0]
    for one, other in zip(rows, scheduled, strict=True):
        assert all(torch.equal(*columns) for columns in zip(one, other, strict=True))
    _, _, cut_streams = roll_out(mode, apart_from_12_on, **{**chosen, "rollout_truncation_quantile": 0.5})
    for other in (streams, cut_streams):
        states = zip(other.state_dict()["generators"], scheduled_streams.state_dict()["generators"], strict=True)
        assert all(torch.equal(*pair) for pair in states)


# -- whole agents ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", ["vagram", "nll"])
@pytest.mark.parametrize("mode", MODES)
def test_a_seed_in_a_cohort_equals_the_same_seed_alone(mode, loss):
    overrides = dict(
        model_loss=loss, rollout_truncation=mode, rollout_truncation_quantile=0.7, rollout_length=(0, 0, 4, 4),
        epoch_length=21, model_max_epochs=3,
    )  # fmt: skip
    cohort, alone = small_agent((5, 2, 9), **overrides), small_agent((2,), **overrides)
    metrics, own = cohort.train_epoch(PointEnvs([5, 2, 9])), alone.train_epoch(PointEnvs([2]))
    assert cohort.imagined.sizes[1] == alone.imagined.sizes[0]
    size = int(alone.imagined.sizes[0])
    assert 0 < size < alone.imagined.capacity == 2 * 100 * 4
    torch.testing.assert_close(cohort.imagined._rows[1, :size], alone.imagined._rows[0, :size], atol=1e-3, rtol=1e-2)
    for name in ("imagined_rollout_length", "truncated_rollouts_share", "truncation_threshold"):
        np.testing.assert_allclose(metrics[f"model/{name}"][1], own[f"model/{name}"][0], rtol=2e-2, err_msg=name)
    assert own["model/imagined_rollout_length"][0] == pytest.approx(size / 200)
    assert len(set(metrics["model/truncation_threshold"])) == 3
