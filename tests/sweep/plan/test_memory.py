"""The estimate of memory, against tensors that are counted while a cohort runs, and against sums by hand."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.tensor_counter import TensorCounter, run_cohort
from vagram_ray.core.settings import MBPOSettings
from vagram_ray.sweep.plan.memory import CUDA_BYTES, gpu_bytes, tensor_bytes
from vagram_ray.sweep.plan.workload import Workload

SMALL: dict[str, Any] = {
    "execution": "eager",  # native code has no tensors that could be counted
    "actor_hidden_sizes": (64, 64),
    "critic_hidden_sizes": (64, 64),
    "hidden_size": 32,
    "num_layers": 2,
    "ensemble_size": 3,
    "num_elites": 2,
    "model_max_epochs": 2,
    "model_patience": 1,
    "epoch_length": 50,
    "model_train_freq": 50,
    "rollouts_per_step": 4,
    "rollout_length": (0, 100, 1, 1),
    "utd_ratio": 2,
    "num_steps_sampled_before_learning_starts": 0,
}


def workload(settings: MBPOSettings, obs_dim: int = 11, action_dim: int = 3) -> Workload:
    return Workload(settings, None, obs_dim, action_dim, None, 1, 1000)


@pytest.mark.parametrize(
    ("num_seeds", "stored", "changes"),
    [
        (3, 2048, {"model_loss": "vagram"}),
        (2, 1024, {"model_loss": "cvaml"}),
        (2, 2048, {"model_loss": "taylor"}),
        (3, 4096, {"model_loss": "none"}),
        (4, 20_000, {"model_loss": "vagram", "hidden_size": 8, "model_batch_size": 2048}),  # the fit's tables
        (3, 1024, {"model_loss": "mse", "rollouts_per_step": 200}),  # the rollouts
        (2, 1024, {"model_loss": "mse", "critic_hidden_sizes": (512, 512), "actor_hidden_sizes": (512, 512)}),
    ],
)
def test_a_cohort_has_at_most_the_estimated_tensors_and_not_a_multiple(
    num_seeds: int, stored: int, changes: dict[str, Any]
) -> None:
    settings = MBPOSettings(**{**SMALL, **changes, "replay_capacity": stored})
    with TensorCounter() as counter:
        run_cohort(settings, num_seeds, stored, 11, 3)
    estimated = tensor_bytes(workload(settings), num_seeds, epochs=10**6)
    little = CUDA_BYTES / 50  # what does not count beside a process
    assert counter.peak - little <= estimated < 3 * counter.peak + little


def test_plain_sac_by_hand() -> None:
    settings = MBPOSettings(model_loss="none", actor_hidden_sizes=(4,), critic_hidden_sizes=(5,), epoch_length=100,
                            num_steps_sampled_before_learning_starts=0, utd_ratio=1,
                            train_batch_size_per_learner=1)  # fmt: skip
    actor, critic, row = 3 * 4 + 4 + 4 * 2 + 2, 4 * 5 + 5 + 5 + 1, 4 * (2 * 3 + 1 + 2)
    networks = 4 * (4 * actor + 10 * critic)
    buffers = 4000 * row + 2000 * (row + 16)  # twice as many rows at most, and a copy of them, by position
    update = 2 * (row + 8) + 4 * (4 * (4 + 5 + 1) + (3 + 4 + 2) + 5 * 9)
    assert tensor_bytes(workload(settings, obs_dim=3, action_dim=1), 2, 20) == 2 * (networks + buffers + update)


@given(
    seeds=st.integers(1, 16),
    epochs=st.integers(1, 300),
    loss=st.sampled_from(["vagram", "nll", "itervaml", "none"]),
    obs_dim=st.integers(1, 100),
)
def test_more_of_anything_never_needs_less(seeds: int, epochs: int, loss: str, obs_dim: int) -> None:
    settings = MBPOSettings(model_loss=loss, rollout_length=(20, 150, 1, 25))
    base = gpu_bytes(workload(settings, obs_dim), seeds, epochs)
    assert gpu_bytes(workload(settings, obs_dim), seeds + 1, epochs) > base > CUDA_BYTES
    assert gpu_bytes(workload(settings, obs_dim), seeds, epochs + 1) >= base
    assert gpu_bytes(workload(settings, obs_dim + 1), seeds, epochs) > base
