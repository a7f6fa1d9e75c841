"""The shared groups of hyperparameters."""

from __future__ import annotations

import pytest

from vagram_ray.rllib import MBPOConfig, laptop_settings, published_settings, smoke_settings

TASKS = ["Hopper-v4", "Walker2d-v4", "HalfCheetah-v4", "Ant-v4", "Pendulum-v1", "ContinuousCartPole-v0"]


@pytest.mark.parametrize("task", TASKS)
def test_every_task_has_settings_that_work(task: str) -> None:
    MBPOConfig().environment(task).training(**published_settings(task)).validate()


def test_the_published_values_of_hopper() -> None:
    settings = MBPOConfig().environment("Hopper-v4").training(**published_settings("Hopper")).to_settings()
    assert (settings.utd_ratio, settings.critic_lr, settings.actor_lr, settings.target_entropy) == (20, 3e-4, 3e-5, -1)
    assert (settings.target_update_period, settings.model_lr, settings.model_weight_decay) == (4, 1e-3, 5e-5)
    assert (settings.rollout_length, settings.real_ratio) == ((20, 150, 1, 5), (0, 20, 1.0, 0.05))
    assert (settings.gamma, settings.tau, settings.initial_alpha, settings.validation_fraction) == (
        0.99,
        0.005,
        0.1,
        0.2,
    )


def test_distractors_change_rollouts_and_mix_alone() -> None:
    plain, distracted = published_settings("Hopper"), published_settings("Hopper", distractors=True)
    assert {key for key in plain if plain[key] != distracted[key]} == {"rollout_length", "real_ratio"}
    assert (distracted["rollout_length"], distracted["real_ratio"]) == ((20, 150, 1, 1), (0, 50, 1.0, 0.05))


def test_an_unknown_task_is_refused_with_the_closest() -> None:
    with pytest.raises(ValueError, match=r"task='Hoper-v4' has no published settings.*Did you mean 'Hopper'\?"):
        published_settings("Hoper-v4")


@pytest.mark.parametrize("settings", [laptop_settings(), smoke_settings()])
def test_small_settings_work_on_top_of_every_published_one(settings: dict) -> None:
    for task in TASKS:
        changed = {**published_settings(task), **settings}
        changed.pop("evaluation_duration")
        MBPOConfig().environment(task).training(**changed).to_settings()
