"""Memory, disk and time against sums done by hand."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import pytest

from vagram_ray.core.settings import MBPOSettings
from vagram_ray.sweep.plan import estimates, memory
from vagram_ray.sweep.plan.workload import Costs, Workload, imagined_transitions, parameters, real_transitions

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
    train_batch_size_per_learner=32,
)


def workload(settings: MBPOSettings = SETTINGS) -> Workload:
    return Workload(settings, None, obs_dim=3, action_dim=1, evaluation_interval=2, evaluation_episodes=5,
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
    assert memory.network_floats(workload()) == 4 * actor + 2 * 5 * critic + 4 * 3 * model
    real, imagined = 250, 3 * 82 * 1 * 2
    checkpoint = 2 * (imagined * 9 + 3 * actor + 2 * 4 * critic + 3 * 3 * model) * 4
    assert memory.checkpoint_bytes(workload(), num_seeds=2, epochs=2) == checkpoint
    whole = estimates.estimate_trial(workload(), 2, 2)
    assert whole.disk_bytes == 3 * checkpoint + 3 * (2 * real * 9 * 4) + 2 * memory.RESULT_BYTES


def test_memory_is_the_process_its_tensors_and_a_checkpoint_in_bytes() -> None:
    row, imagined = 9 * 4, imagined_transitions(SETTINGS, 2)
    assert memory.memory_bytes(workload(), 2, 2) == (
        memory.PROCESS_BYTES + memory.tensor_bytes(workload(), 2, 2) + 3 * 2 * 250 * row + 2 * imagined * row
    )


COSTS = Costs(env_step_s=1e-3, sac_update_s=1e-2, fit_row_s=1e-2, imagined_s=1e-5)


def test_time_is_the_costs_times_how_often_their_work_is_done() -> None:
    # By hand: two epochs of 100 steps with 10 updates, 5 evaluation episodes of 200 steps every other epoch, and 3 fits
    # that see 50 warm-up steps and half of the epoch's; 2 x 40 rollouts.
    steps, updates = 100 + 5 * 200 / 2, 1000
    first, second = (3 * (rows * 1e-2 + 80 * 1e-5) for rows in (100, 200))
    constant = steps * 1e-3 + updates * 1e-2
    seconds = estimates.epoch_seconds(workload(), COSTS, 1, 2)
    assert seconds == pytest.approx((50 * 1e-3 + constant + first, constant + second))
    # Rollouts have two steps from the second epoch on when the schedule says so.
    longer = dataclasses.replace(SETTINGS, rollout_length=(0, 1, 1, 2))
    second = 3 * (200 * 1e-2 + 2 * 80 * 1e-5)
    assert estimates.epoch_seconds(workload(longer), COSTS, 1, 2)[1] == pytest.approx(constant + second)
    assert estimates.epoch_seconds(workload(), COSTS, 3, 2) == pytest.approx([3 * each for each in seconds])
    sac = dataclasses.replace(SETTINGS, model_loss="none")
    assert estimates.epoch_seconds(workload(sac), COSTS, 1, 2)[1] == pytest.approx(constant)


def test_a_fit_has_a_few_epochs_beyond_its_patience_and_at_most_its_limit() -> None:
    assert estimates.assumed_fit_epochs(SETTINGS) == SETTINGS.model_patience + 5
    assert estimates.assumed_fit_epochs(dataclasses.replace(SETTINGS, model_max_epochs=3)) == 3


def test_an_estimate_tells_what_is_left() -> None:
    measured = dataclasses.replace(workload(), costs=COSTS)
    whole = estimates.estimate_trial(measured, 2, 2)
    first, second = estimates.epoch_seconds(workload(), COSTS, 2, 2)
    assert whole.seconds == pytest.approx(estimates.START_SECONDS + first + second)
    assert whole.seconds_between(1, 2) == pytest.approx(second)
    assert whole.seconds_between(0, 1) == pytest.approx(first)
    unknown = estimates.estimate_trial(workload(), 2, 2)
    assert math.isnan(unknown.seconds) and math.isnan(unknown.seconds_between(1, 2))
    assert unknown.memory_bytes == whole.memory_bytes


def test_more_of_everything_takes_longer_and_more_memory() -> None:
    measured = dataclasses.replace(workload(), costs=COSTS)
    base = estimates.estimate_trial(measured, 2, 2)
    for more in (estimates.estimate_trial(measured, 3, 2), estimates.estimate_trial(measured, 2, 3)):
        assert more.seconds > base.seconds
        assert more.memory_bytes > base.memory_bytes
        assert more.disk_bytes > base.disk_bytes


def test_the_workload_is_read_from_a_configuration(make_config: Callable[..., Any]) -> None:
    work = Workload.of(make_config().environment("Pendulum-v1", num_distractors=4))
    assert (work.obs_dim, work.action_dim, work.max_episode_steps, work.evaluation_episodes) == (7, 1, 200, 1)
    shorter = make_config().environment("Pendulum-v1", env_config={"max_episode_steps": 50})
    assert Workload.of(shorter).max_episode_steps == 50
