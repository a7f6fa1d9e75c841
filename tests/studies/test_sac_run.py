"""The SAC run that the studies start from: its snapshots, its data and its random numbers."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.studies.conftest import small_settings
from vagram_ray.commands import InputError
from vagram_ray.studies.sac_run import epochs_of, sac_settings, train_sac

STATES = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, -3.0], [-1.0, 0.0, 7.0]])


def values_at(estimates, num_seeds):
    return estimates.values(STATES.expand(num_seeds, -1, -1)).detach()


def test_a_snapshot_stays_what_it_was_when_it_was_taken(small_run):
    short, long = small_run((3, 5), 1), small_run((3, 5), 3)
    assert len(long.values) == 3
    torch.testing.assert_close(values_at(long.values[0], 2), values_at(short.values[0], 2), rtol=0, atol=0)
    assert not torch.allclose(values_at(long.values[0], 2), values_at(long.values[2], 2))
    # Targets follow the critics slowly, so the four estimates of a snapshot differ.
    assert values_at(long.values[2], 2).std(dim=1).min() > 1e-4


def test_the_data_are_the_runs_transitions_in_order(small_run):
    run = small_run((3, 5), 3)
    assert run.value_env_steps == [90, 120, 150]
    assert run.env_steps == 150
    assert run.data.obs.shape == (2, 150, 3)
    # One step's successor is the next one's state, but for the resets at the start of learning and of each epoch.
    follows = (run.data.next_obs[:, :-1] == run.data.obs[:, 1:]).all(dim=-1)
    assert (~follows).nonzero()[:, 1].tolist() == [59, 89, 119] * 2
    assert (run.data.reward <= 0).all()


def test_a_seed_alone_gives_its_numbers_in_a_cohort(small_run):
    alone, cohort = small_run((5,), 2), train_sac((3, 5), 2, small_settings())
    torch.testing.assert_close(alone.data.obs[0], cohort.data.obs[1], rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(
        values_at(alone.values[-1], 1)[0], values_at(cohort.values[-1], 2)[1], rtol=1e-2, atol=1e-2
    )


def test_no_compiled_library_changes_the_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    """With one in the cache a seed would have other numbers than without."""
    asked: list[object] = []
    monkeypatch.setattr("vagram_ray.core.fast.library.find_library", lambda *given, **named: asked.append(given))
    train_sac((0,), 1, small_settings())
    assert asked == []


def test_progress_is_reported_and_the_last_policy_evaluated():
    seen = []
    run = train_sac((0,), 2, small_settings(), lambda done, total, returns: seen.append((done, total, returns.shape)))
    assert seen == [(1, 2, (1,)), (2, 2, (1,))]
    assert run.episodes == 5
    assert -2000 < run.returns[0] < 0
    assert np.isfinite(run.returns).all()


def test_seeds_that_break_are_named():
    with pytest.raises(InputError, match=r"seeds \[4\]: leave these seeds out"):
        train_sac((4,), 1, small_settings(critic_lr=1e30))


@pytest.mark.parametrize(("steps", "epochs"), [(600, 1), (3000, 13)])
def test_steps_are_warm_up_and_whole_epochs(steps, epochs):
    assert epochs_of(steps, sac_settings()) == epochs


@pytest.mark.parametrize(("steps", "nearest"), [(1, 600), (400, 600), (3050, 3000), (2990, 3000)])
def test_other_steps_are_refused_with_the_nearest(steps, nearest):
    with pytest.raises(InputError, match=rf"--steps {steps} is not usable.*nearest number is {nearest}\."):
        epochs_of(steps, sac_settings())
