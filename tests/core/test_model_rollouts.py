import torch

from tests.core.toy import never, small_settings
from vagram_ray.core.actor_critic import SquashedGaussianActor
from vagram_ray.core.dynamics import DynamicsEnsemble
from vagram_ray.core.model_losses import Prediction
from vagram_ray.core.model_rollouts import _step, imagine
from vagram_ray.core.random_streams import RandomStreams
from vagram_ray.core.replay import ImaginedBuffer, ReplayBuffer, TransitionLayout

S, D, A = 2, 2, 1
LAYOUT = TransitionLayout(D, A)


def make_parts(**overrides):
    settings = small_settings(**{"model_loss": "mse", "ensemble_size": 4, "num_elites": 3, **overrides})
    streams = RandomStreams([0, 1], "init")
    dynamics = DynamicsEnsemble(settings, S, D, A, streams)
    actor = SquashedGaussianActor(S, D, A, (8,))
    replay = ReplayBuffer(S, 100, LAYOUT)
    for value in range(20):
        column = torch.full((S,), float(value)).numpy()
        obs = torch.tensor([[value, 1.0]] * S).numpy()
        replay.add(obs, column[:, None] * 0, column, obs, column > 1e9)
    return dynamics, actor, replay, ImaginedBuffer(S, 500, LAYOUT)


def counting_dynamics(dynamics):
    """Replaces the prediction: s' = s + 1 in the first dimension, reward = s."""

    def predict_with(networks, obs, action):
        delta = torch.zeros_like(obs)
        delta[..., 0] = 1.0
        return Prediction(delta, obs[..., 0], None)

    dynamics.predict_with = predict_with
    return dynamics


def run(dynamics, actor, replay, imagined, termination=never, num_rollouts=10, rollout_length=3):
    return imagine(
        dynamics,
        actor,
        termination,
        replay,
        imagined,
        num_rollouts=num_rollouts,
        rollout_length=rollout_length,
        streams=RandomStreams([0, 1], "rollout"),
    )


def stored(imagined, seed):
    return LAYOUT.split(imagined._rows[seed, : imagined.sizes[seed]])


def test_rollouts_follow_the_model_from_real_states():
    dynamics, actor, replay, imagined = make_parts()
    run(counting_dynamics(dynamics), actor, replay, imagined)
    assert imagined.sizes.tolist() == [30, 30]
    rows = stored(imagined, 0)
    torch.testing.assert_close(rows.next_obs[:, 0], rows.obs[:, 0] + 1)
    torch.testing.assert_close(rows.reward, rows.obs[:, 0])
    starts = rows.obs[:10, 0]
    assert set(starts.tolist()) <= set(range(20))
    assert torch.equal(rows.obs[10:20, 0], starts + 1)  # the second imagined step goes on where the first ended
    assert (rows.terminated == 0).all()


def test_a_terminated_rollout_stores_its_last_transition_and_ends():
    dynamics, actor, replay, imagined = make_parts()
    run(
        counting_dynamics(dynamics),
        actor,
        replay,
        imagined,
        termination=lambda obs, action, next_obs: next_obs[..., 0] >= 10,
        num_rollouts=60,
    )
    for seed in range(S):
        rows = stored(imagined, seed)
        torch.testing.assert_close(rows.terminated, (rows.next_obs[:, 0] >= 10).float())
        starts = rows.obs[:60, 0]
        lengths = torch.where(starts >= 9, 1, torch.clamp(10 - starts, max=3))
        assert len(rows.obs) == int(lengths.sum())


def test_every_row_is_predicted_once_by_one_elite_and_elites_share_the_work():
    dynamics, actor, replay, imagined = make_parts()
    dynamics.elites = torch.tensor([[3, 0, 2], [1, 2, 3]])
    obs, action = torch.randn(S, 12, D), torch.randn(S, 12, A)
    order = RandomStreams([0, 1], "order").permutation(12)
    next_obs, reward, _ = _step(dynamics, dynamics.elite_networks(), obs, action, order, None)
    members = [tensor.unsqueeze(1).expand(-1, 4, -1, -1) for tensor in (obs, action)]
    every = dynamics.predict(*members)
    for seed in range(S):
        for place, row in enumerate(order[seed].tolist()):
            member = dynamics.elites[seed, place // 4]
            torch.testing.assert_close(next_obs[seed, row], obs[seed, row] + every.delta[seed, member, row])
            torch.testing.assert_close(reward[seed, row], every.reward[seed, member, row])


def test_probabilistic_models_are_sampled():
    dynamics, actor, replay, imagined = make_parts(model_loss="nll")
    obs, action = torch.randn(S, 30_000, D), torch.zeros(S, 30_000, A)
    obs[:] = 0.5
    streams = RandomStreams([0, 1], "rollout")
    order, noise = streams.permutation(30_000), streams.normal(30_000, D + 1)
    next_obs, _, _ = _step(dynamics, dynamics.elite_networks(), obs, action, order, noise)
    first_elite = order[0, :10_000]
    members = [tensor[:, :1].unsqueeze(1).expand(-1, 4, -1, -1) for tensor in (obs, action)]
    expected = dynamics.predict(*members)
    deviation = torch.exp(0.5 * expected.log_variance[0, 0, 0, :D])
    sample = next_obs[0, first_elite] - obs[0, first_elite]
    torch.testing.assert_close(sample.std(dim=0), deviation, rtol=0.05, atol=0)
    torch.testing.assert_close(sample.mean(dim=0), expected.delta[0, 0, 0], rtol=0, atol=0.05)


def test_the_noise_of_normalised_targets_is_in_the_environments_units():
    settings = dict(prediction_target="next_obs", normalize_dynamics_targets=True, normalize_reward_targets=True)
    dynamics, _, _, _ = make_parts(model_loss="nll", **settings)
    dynamics.output_mean = torch.tensor([10.0, -2.0, 5.0]).expand(S, 1, 1, -1)
    dynamics.output_std = torch.tensor([0.01, 30.0, 4.0]).expand(S, 1, 1, -1)
    plain, _, _, _ = make_parts(model_loss="nll")  # the same networks, whose outputs are read as they are
    obs, action = torch.full((S, 30_000, D), 0.5), torch.zeros(S, 30_000, A)
    streams = RandomStreams([0, 1], "rollout")
    order, noise = streams.permutation(30_000), streams.normal(30_000, D + 1)
    next_obs, reward, _ = _step(dynamics, dynamics.elite_networks(), obs, action, order, noise)
    rows = order[0, :10_000]  # of the first elite
    sample = torch.cat([next_obs[0, rows], reward[0, rows].unsqueeze(-1)], dim=-1)
    outputs = plain.predict(*(tensor[:, :1].unsqueeze(1).expand(-1, 4, -1, -1) for tensor in (obs, action)))
    mean = torch.cat([outputs.delta[0, 0, 0], outputs.reward[0, 0, :1]])
    deviation = torch.exp(0.5 * outputs.log_variance[0, 0, 0])
    normalised = (sample - torch.tensor([10.0, -2.0, 5.0])) / torch.tensor([0.01, 30.0, 4.0])
    torch.testing.assert_close(normalised.std(dim=0), deviation, rtol=0.05, atol=0)
    torch.testing.assert_close(normalised.mean(dim=0), mean, rtol=0, atol=0.05)


def test_numbers_that_do_not_divide_by_the_elites_are_exact():
    dynamics, actor, replay, imagined = make_parts()
    run(dynamics, actor, replay, imagined, num_rollouts=7, rollout_length=2)
    assert imagined.sizes.tolist() == [14, 14]
