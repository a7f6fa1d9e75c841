"""The compiled updates against ``SAC.update``, which defines what an update is."""

import numpy as np
import pytest
import torch

from vagram_ray.core.fast.sac import NativeSAC
from vagram_ray.core.metrics import MetricSums
from vagram_ray.core.random_streams import RandomStreams
from vagram_ray.core.replay import TransitionLayout
from vagram_ray.core.sac import SAC
from vagram_ray.core.settings import MBPOSettings

CASES = {
    "plain": {},
    "batch of one": {"train_batch_size_per_learner": 1},
    "widths that fill no vector": {
        "actor_hidden_sizes": (20, 13, 7),
        "critic_hidden_sizes": (9,),
        "train_batch_size_per_learner": 33,
    },
    "unit features": {"normalize_features": True},
    "normalised layers": {"critic_layer_norm": True},
    "normalised layers of odd widths, unit features": {
        "critic_layer_norm": True,
        "normalize_features": True,
        "critic_hidden_sizes": (21, 13, 7),
        "train_batch_size_per_learner": 33,
    },
    "standardised observations": {"normalize_observations": True},
    "periods": {"actor_update_period": 2, "target_update_period": 3},
    "own entropy and steps": {"target_entropy": -0.3, "critic_lr": 1e-2, "alpha_lr": 3e-3, "gamma": 0.5, "tau": 0.3},
}


def make(seeds, obs_dim=5, action_dim=2, **changes):
    sizes = {"actor_hidden_sizes": (32, 32), "critic_hidden_sizes": (32, 32), "train_batch_size_per_learner": 16}
    settings = MBPOSettings(**{**sizes, **changes})
    sac = SAC(settings, len(seeds), obs_dim, action_dim, RandomStreams(seeds, "init"))
    if settings.normalize_observations:
        sac.actor.scale.fit(3.0 * RandomStreams(seeds, "observations").normal(50, obs_dim) + 1.0)
    return sac


def draw(sac, seeds, count):
    """Batches (S, count, B, width) and noise (S, count, B, 2 A); a tenth of the transitions are terminal."""
    streams, batch = RandomStreams(seeds, "data"), sac.settings.train_batch_size_per_learner
    layout = TransitionLayout(sac.actor.network.sizes[0], sac.actor.action_dim)
    rows = streams.normal(count, batch, layout.width)
    layout.split(rows).action.tanh_()
    rows[..., -1] = (rows[..., -1] > 1.3).float()
    return layout, rows, streams.normal(count, batch, 2 * sac.actor.action_dim)


def eager_updates(sac, layout, batches, noise):
    sums = MetricSums()
    for batch, its_noise in zip(batches.unbind(dim=1), noise.unbind(dim=1), strict=True):
        sums.add(sac.update(layout.split(batch), its_noise))
    return sums


def tensors(state, prefix=""):
    for name, value in state.items():
        if isinstance(value, dict):
            yield from tensors(value, f"{prefix}{name}/")
        elif isinstance(value, torch.Tensor):
            yield prefix + name, value


@pytest.mark.parametrize("changes", CASES.values(), ids=CASES)
def test_one_update_is_that_of_the_readable_path(native_library, changes):
    seeds = (3, 4)
    readable, native = make(seeds, **changes), make(seeds, **changes)
    layout, batches, noise = draw(readable, seeds, 1)
    expected = eager_updates(readable, layout, batches, noise)
    found = NativeSAC(native, native_library).updates(0, batches, noise)
    moments = dict(tensors(native.state_dict()))
    for name, tensor in tensors(readable.state_dict()):
        if "exp_avg" in name:  # gradients and their squares, which Adam's first step would hide the size of
            tolerance = 2e-5 * float(tensor.abs().max())
            np.testing.assert_allclose(moments[name].numpy(), tensor.numpy(), atol=tolerance, err_msg=name)
    for name, total in expected.sums.items():
        np.testing.assert_allclose(found.sums[name].numpy(), total.numpy(), rtol=1e-4, atol=1e-5, err_msg=name)
    assert found.counts == expected.counts


@pytest.mark.parametrize("changes", CASES.values(), ids=CASES)
def test_many_updates_stay_beside_the_readable_path(native_library, changes):
    seeds = (0,)
    readable, native = make(seeds, **changes), make(seeds, **changes)
    layout, batches, noise = draw(readable, seeds, 12)
    expected = eager_updates(readable, layout, batches, noise)
    updates = NativeSAC(native, native_library)
    found = updates.updates(0, batches[:, :5], noise[:, :5])
    found.add((rest := updates.updates(5, batches[:, 5:], noise[:, 5:])).sums, rest.counts)
    assert found.counts == expected.counts
    # A gradient near zero may have either sign, so that single weights differ by Adam's step size, not by rounding.
    allowed = 4 * max(readable.settings.actor_lr, readable.settings.critic_lr)
    after = dict(tensors(native.state_dict()))
    for name in ("actor/network.flat", "critic", "target_critic", "log_alpha"):
        expected_tensor = dict(tensors(readable.state_dict()))[name]
        np.testing.assert_allclose(after[name].numpy(), expected_tensor.numpy(), atol=allowed, err_msg=name)
        assert float((after[name] - expected_tensor).abs().mean()) < allowed / 50, name
    assert torch.equal(after["critic_optimizer/step_count"], torch.tensor([12.0]))


def test_a_cohort_is_its_seeds_alone_bit_for_bit(native_library):
    together = make((5, 6, 7))
    layout, batches, noise = draw(together, (5, 6, 7), 4)
    NativeSAC(together, native_library).updates(0, batches, noise)
    for position, seed in enumerate((5, 6, 7)):
        alone = make((seed,))
        NativeSAC(alone, native_library).updates(0, batches[position : position + 1], noise[position : position + 1])
        assert torch.equal(alone.actor.flat[0], together.actor.flat[position])
        assert torch.equal(alone.critic.network.flat, together.critic.network.flat[2 * position : 2 * position + 2])


@pytest.mark.parametrize("column", ["obs", "reward", "next_obs", "action"])
def test_nan_in_a_seeds_data_reaches_its_networks_and_no_others(native_library, column):
    sac = make((0, 1))
    layout, batches, noise = draw(sac, (0, 1), 2)
    getattr(layout.split(batches[1]), column)[:] = torch.nan
    NativeSAC(sac, native_library).updates(0, batches, noise)
    assert sac.critic.network.flat[:2].isfinite().all()
    assert not sac.critic.network.flat[2:].isfinite().all()


def test_a_frozen_seed_is_left_alone_and_reports_nothing(native_library):
    sac = make((0, 1))
    layout, batches, noise = draw(sac, (0, 1), 2)
    sac.freeze(0)
    before = sac.critic.network.flat.detach().clone()
    found = NativeSAC(sac, native_library).updates(0, batches, noise)
    assert torch.equal(sac.critic.network.flat[:2], before[:2])
    assert not torch.equal(sac.critic.network.flat[2:], before[2:])
    assert found.sums["critic_loss"].isnan().tolist() == [True, False]
