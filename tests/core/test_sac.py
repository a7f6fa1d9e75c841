import math

import numpy as np
import torch
from torch.distributions import Independent, Normal, TanhTransform, TransformedDistribution

from tests.core.toy import small_settings
from vagram_ray.core.actor_critic import SquashedGaussianActor
from vagram_ray.core.random_streams import RandomStreams
from vagram_ray.core.replay import Transitions
from vagram_ray.core.sac import SAC
from vagram_ray.core.sac_losses import critic_loss

S, B, D, A = 2, 5, 3, 2


def make_sac(seeds=(0, 1), **overrides):
    return SAC(small_settings(**overrides), len(seeds), D, A, RandomStreams(seeds, "init"))


def make_batch(seed=0, num_seeds=S, batch=B):
    generator = torch.Generator().manual_seed(seed)

    def randn(*shape):
        return torch.randn(*shape, generator=generator)

    return Transitions(
        obs=randn(num_seeds, batch, D),
        action=torch.tanh(randn(num_seeds, batch, A)),
        reward=randn(num_seeds, batch),
        next_obs=randn(num_seeds, batch, D),
        terminated=(randn(num_seeds, batch) > 0).float(),
    )


def test_log_density_equals_the_transformed_distribution():
    sac = make_sac()
    obs, noise = torch.randn(S, B, D), torch.randn(S, B, A)
    action, log_prob = sac.actor.sample(obs, noise)
    mean, log_std = sac.actor.distribution(obs)
    base = Normal(mean, log_std.exp())
    squashed = Independent(TransformedDistribution(base, [TanhTransform(cache_size=1)]), 1)
    torch.testing.assert_close(log_prob, squashed.log_prob(action), atol=1e-4, rtol=1e-4)


def test_log_density_is_finite_for_extreme_actions():
    sac = make_sac()
    _, log_prob = sac.actor.sample(torch.randn(S, B, D), torch.full((S, B, A), 50.0))
    assert log_prob.isfinite().all()


def test_critic_loss_equals_the_bellman_error_written_out():
    sac, batch, noise = make_sac(gamma=0.9), make_batch(), torch.randn(S, B, A)
    loss, _ = critic_loss(sac, batch, noise, 0.9)
    next_action, log_prob = sac.actor.sample(batch.next_obs, noise)
    q_next = sac.target_critic(batch.next_obs, next_action).detach().numpy()
    q = sac.critic(batch.obs, batch.action).detach().numpy()
    expected = np.zeros(S)
    for s in range(S):
        for k in range(2):
            for i in range(B):
                soft_value = min(q_next[s, 0, i], q_next[s, 1, i]) - 0.1 * log_prob[s, i].item()
                target = batch.reward[s, i].item() + 0.9 * (1 - batch.terminated[s, i].item()) * soft_value
                expected[s] += (q[s, k, i] - target) ** 2 / B
    np.testing.assert_allclose(loss.detach().numpy(), expected, rtol=1e-4)


def test_a_terminal_transition_does_not_bootstrap_and_another_does():
    sac, batch, noise = make_sac(), make_batch(), torch.randn(S, B, A)
    terminal = batch._replace(terminated=torch.ones(S, B))
    changed = terminal._replace(next_obs=terminal.next_obs + 1)
    assert torch.equal(critic_loss(sac, terminal, noise, 0.9)[0], critic_loss(sac, changed, noise, 0.9)[0])
    going_on = batch._replace(terminated=torch.zeros(S, B))
    changed = going_on._replace(next_obs=going_on.next_obs + 1)
    assert not torch.allclose(critic_loss(sac, going_on, noise, 0.9)[0], critic_loss(sac, changed, noise, 0.9)[0])


def test_temperature_follows_the_entropy_surplus():
    sac = make_sac(target_entropy=1e3, alpha_lr=0.1)  # never reached: the temperature rises
    before = sac.log_alpha.clone()
    sac.update(make_batch(), torch.randn(S, B, 2 * A))
    torch.testing.assert_close(sac.log_alpha, before + 0.1, atol=1e-5, rtol=0)  # Adam's first step is lr
    assert math.isclose(sac.alpha[0].item(), 0.1 * math.exp(0.1), rel_tol=1e-4)


def test_without_a_step_size_the_temperature_stays():
    sac = make_sac(target_entropy=1e3, alpha_lr=0, initial_alpha=0.2)
    before = sac.log_alpha.clone()
    for _ in range(3):
        metrics = sac.update(make_batch(), torch.randn(S, B, 2 * A))
    assert torch.equal(sac.log_alpha, before)
    torch.testing.assert_close(metrics["alpha"], torch.full((S,), 0.2))


def test_automatic_target_entropy_is_minus_the_action_dimension():
    assert make_sac().target_entropy == -A


def test_targets_move_by_tau_at_their_period():
    sac = make_sac(tau=0.25, target_update_period=2)
    initial = sac.target_critic.network.flat.detach().clone()
    sac.update(make_batch(), torch.randn(S, B, 2 * A))
    assert torch.equal(sac.target_critic.network.flat, initial)
    sac.update(make_batch(1), torch.randn(S, B, 2 * A))
    expected = 0.75 * initial + 0.25 * sac.critic.network.flat.detach()
    torch.testing.assert_close(sac.target_critic.network.flat.detach(), expected)


def test_actor_moves_only_at_its_period():
    sac = make_sac(actor_update_period=3)
    changed = []
    for step in range(6):
        before = sac.actor.flat.detach().clone()
        sac.update(make_batch(step), torch.randn(S, B, 2 * A))
        changed.append(not torch.equal(before, sac.actor.flat))
    assert changed == [True, False, False, True, False, False]


def test_actor_update_leaves_the_critic_alone():
    sac = make_sac(critic_lr=1e-12)
    before = sac.critic.network.flat.detach().clone()
    sac.update(make_batch(), torch.randn(S, B, 2 * A))
    torch.testing.assert_close(sac.critic.network.flat.detach(), before, atol=1e-10, rtol=0)


def test_a_seed_in_a_cohort_equals_the_same_seed_alone():
    cohort, alone = make_sac(seeds=(4, 9)), make_sac(seeds=(9,))
    for step in range(10):
        batch, noise = make_batch(step), torch.randn(S, B, 2 * A)
        cohort.update(batch, noise)
        alone.update(Transitions(*(column[1:] for column in batch)), noise[1:])
    torch.testing.assert_close(cohort.actor.flat[1], alone.actor.flat[0], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(cohort.critic.network.flat[2:], alone.critic.network.flat, atol=1e-5, rtol=1e-4)


def test_nan_in_one_seed_never_touches_another():
    sac, clean = make_sac(), make_sac()
    batch, noise = make_batch(), torch.randn(S, B, 2 * A)
    poisoned = batch._replace(reward=batch.reward.clone())
    poisoned.reward[0] = float("nan")
    sac.update(poisoned, noise)
    clean.update(batch, noise)
    assert sac.critic.network.flat[:2].isnan().any()
    assert torch.equal(sac.critic.network.flat[2:], clean.critic.network.flat[2:])
    assert torch.equal(sac.actor.flat[1], clean.actor.flat[1])


def test_normalized_observations_are_standardised_and_constant_ones_kept():
    actor = SquashedGaussianActor(1, 2, 1, (8,), normalize_observations=True)
    data = torch.stack([torch.linspace(-3, 5, 100), torch.full((100,), 7.0)], dim=-1).unsqueeze(0)
    actor.scale.fit(data)
    scaled = actor.scale(data)
    torch.testing.assert_close(scaled[..., 0].std(correction=0), torch.tensor(1.0))
    torch.testing.assert_close(scaled[..., 0].mean(), torch.tensor(0.0), atol=1e-6, rtol=0)
    torch.testing.assert_close(scaled[..., 1], torch.zeros(1, 100))


def test_selecting_seeds_copies_the_policy():
    sac = make_sac(normalize_observations=True)
    obs = torch.randn(S, B, D)
    sac.actor.scale.fit(torch.randn(S, 50, D) * 3)
    chosen = sac.actor.select_seeds(torch.tensor([1]))
    torch.testing.assert_close(chosen.mean_action(obs[1:]), sac.actor.mean_action(obs)[1:])
    with torch.no_grad():
        chosen.flat.zero_()
    assert not torch.equal(sac.actor.flat[1], chosen.flat[0])
