"""Memory, disk and time against sums done by hand."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest

from vagram_ray.core.allocator import KEEP_BELOW_BYTES
from vagram_ray.core.settings import MBPOSettings
from vagram_ray.sweep import estimates, tensor_memory
from vagram_ray.sweep.estimates import Speed
from vagram_ray.sweep.workload import Workload, imagined_transitions, parameters, real_transitions

SETTINGS = MBPOSettings(
    model_loss="mse",
    actor_hidden_sizes=(4,),
    critic_hidden_sizes=(5,),
    num_layers=2,
    hidden_size=6,
    ensemble_size=3,
    num_elites=2,
    epoch_length=100,
    num_steps_sampled_before_learning_starts=50,
    model_train_freq=40,
    rollouts_per_step=2,
    rollout_length=(0, 4, 1, 3),
    imagined_epochs_retained=2,
    replay_capacity=300,
    utd_ratio=10,
    batch_size=32,
)


def workload(settings: MBPOSettings = SETTINGS) -> Workload:
    return Workload(settings, "X-v0", obs_dim=3, action_dim=1, evaluation_interval=2, evaluation_episodes=5,
                    max_episode_steps=200)  # fmt: skip


def test_sizes_follow_from_dimensions() -> None:
    work = workload()
    assert work.transition_floats == 2 * 3 + 1 + 2
    assert work.actor_sizes == (3, 4, 2)
    assert work.critic_sizes == (4, 5, 1)
    assert work.model_sizes == (4, 6, 6, 4)
    probabilistic = MBPOSettings(model_loss="nll", num_layers=1, hidden_size=6)
    assert workload(probabilistic).model_sizes == (4, 6, 8)
    assert parameters((3, 4, 2)) == 3 * 4 + 4 + 4 * 2 + 2


def test_buffers_hold_what_the_schedules_allow() -> None:
    assert real_transitions(SETTINGS, epochs=2) == 250
    assert real_transitions(SETTINGS, epochs=9) == 300  # the capacity
    # 3 fits per epoch, each 2 x 40 rollouts and one more per elite; longest rollout 2 in epochs 0 to 2; 2 epochs kept.
    assert imagined_transitions(SETTINGS, epochs=3) == 3 * (80 + 2) * 2 * 2
    assert imagined_transitions(MBPOSettings(model_loss="none"), epochs=3) == 0


def test_disk_by_hand() -> None:
    actor, critic, model = 3 * 4 + 4 + 4 * 2 + 2, 4 * 5 + 5 + 5 + 1, (4 * 6 + 6) + (6 * 6 + 6) + (6 * 4 + 4)
    assert tensor_memory.network_floats(workload()) == 4 * actor + 2 * 5 * critic + 4 * 3 * model
    real, imagined = 250, 3 * 82 * 1 * 2
    checkpoint = 2 * (imagined * 9 + 3 * actor + 2 * 4 * critic + 3 * 3 * model) * 4
    assert estimates.checkpoint_bytes(workload(), num_seeds=2, epochs=2) == checkpoint
    whole = estimates.estimate_trial(workload(), 2, 2, Speed(1e10, 1e-6, 1e-9, 1e-4))
    assert whole.disk_bytes == 3 * checkpoint + 2 * (2 * real * 9 * 4) + 2 * estimates.RESULT_BYTES


def test_memory_is_the_process_its_tensors_and_a_checkpoint_in_bytes() -> None:
    plain = dataclasses.replace(SETTINGS, model_loss="none", replay_capacity=10**6, epoch_length=20_000)
    tensors = tensor_memory.tensor_memory(workload(plain), 2, 2)
    checkpoint = 3 * 2 * (2 * 20_000 + 50) * 9 * 4  # all that is stored is copied, and twice made into bytes
    assert checkpoint > max(tensors.phases.values())
    assert estimates.memory_bytes(workload(plain), 2, 2) == (
        estimates.PROCESS_BYTES + tensors.networks + tensors.buffers + checkpoint + max(tensors.phases.values())
    )


def test_freed_memory_that_stays_with_a_process_is_counted_up_to_a_limit() -> None:
    limit = KEEP_BELOW_BYTES
    tensors = tensor_memory.TensorMemory(1000, 100, {"a": 10 * limit, "b": 7})
    assert estimates.resident_bytes(tensors) == 1100 + 10 * limit + 7
    assert estimates.resident_bytes(tensors, 2 * limit) == 1100 + 10 * limit + limit


def test_time_counts_steps_updates_and_evaluations() -> None:
    # With free arithmetic, calls and activations only the environment costs anything.
    env_only = Speed(flops_per_s=1e30, call_s=0.0, activation_s=0.0, env_step_s=1e-3)
    steps = 50 + 2 * (100 + 5 * 200 / 2)
    assert estimates.trial_seconds(workload(), 3, 2, env_only) == pytest.approx(3 * steps * 1e-3)
    # With free environments plain SAC costs its calls: 350 an update, 60 an action.
    calls_only = Speed(flops_per_s=1e30, call_s=1e-6, activation_s=0.0, env_step_s=0.0)
    sac = MBPOSettings(model_loss="none", epoch_length=100, utd_ratio=10, num_steps_sampled_before_learning_starts=0)
    expected = 1000 * 350e-6 + (100 + 500) * 60e-6
    assert estimates.trial_seconds(workload(sac), 4, 1, calls_only) == pytest.approx(expected)


def test_time_of_updates_is_their_arithmetic() -> None:
    sac = MBPOSettings(
        model_loss="none", epoch_length=1, utd_ratio=1, batch_size=8, actor_hidden_sizes=(4,), critic_hidden_sizes=(5,),
        num_steps_sampled_before_learning_starts=0,
    )  # fmt: skip
    actor, critic = 2 * (3 * 4 + 4 * 2), 2 * (4 * 5 + 5 * 1)
    flops = 8 * 2 * (actor + 2 * critic + 3 * 2 * critic + 3 * actor + 4 * critic)
    arithmetic = Speed(flops_per_s=1.0, call_s=0.0, activation_s=0.0, env_step_s=0.0)
    seconds = estimates.trial_seconds(workload(sac), 2, 1, arithmetic)
    assert seconds == pytest.approx(flops / estimates.MATMUL_EFFICIENCY)


def test_more_of_everything_takes_longer_and_more_memory() -> None:
    speed = Speed(1e11, 2e-6, 2e-10, 1e-4)
    base = estimates.estimate_trial(workload(), 2, 2, speed)
    for more in (
        estimates.estimate_trial(workload(), 3, 2, speed),
        estimates.estimate_trial(workload(), 2, 3, speed),
    ):
        assert more.seconds > base.seconds
        assert more.memory_bytes > base.memory_bytes
        assert more.disk_bytes > base.disk_bytes


def test_the_workload_is_read_from_a_configuration(make_config: Callable[..., Any]) -> None:
    work = Workload.of(make_config().environment("Pendulum-v1", num_distractors=4))
    assert (work.obs_dim, work.action_dim, work.max_episode_steps, work.evaluation_episodes) == (7, 1, 200, 1)
    shorter = make_config().environment("Pendulum-v1", env_config={"max_episode_steps": 50})
    assert Workload.of(shorter).max_episode_steps == 50


def test_the_machine_is_measured_quickly(make_config: Callable[..., Any]) -> None:
    speed = estimates.measure_speed()
    assert speed.flops_per_s > 1e8
    assert 0 < speed.call_s < 1e-3
    assert 0 < speed.activation_s < 1e-6
    assert 0 < estimates.measure_env_step(make_config()) < 0.1


def test_processes_that_step_environments_are_counted() -> None:
    alone, together = (dataclasses.replace(workload(), env_workers=workers) for workers in (1, 3))
    difference = estimates.memory_bytes(together, 4, 2) - estimates.memory_bytes(alone, 4, 2)
    assert (
        difference == 2 * 2 * estimates.ENV_WORKER_BYTES
    )  # training and evaluation have two each beside the trial's process
    assert estimates.memory_bytes(together, 1, 2) == estimates.memory_bytes(
        alone, 1, 2
    )  # a seed is stepped by one process
