"""A configuration small enough that an epoch takes a tenth of a second."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from vagram_ray.rllib import MBPO, MBPOConfig


def tiny_config(env: str = "Pendulum-v1", **training: Any) -> MBPOConfig:
    return (
        MBPOConfig()
        .environment(env)
        .training(
            **{
                "num_layers": 2,
                "hidden_size": 16,
                "ensemble_size": 3,
                "num_elites": 2,
                "model_max_epochs": 3,
                "model_batch_size": 32,
                "actor_hidden_sizes": (32, 32),
                "critic_hidden_sizes": (32, 32),
                "train_batch_size_per_learner": 32,
                "utd_ratio": 1,
                "epoch_length": 60,
                "num_steps_sampled_before_learning_starts": 50,
                "model_train_freq": 30,
                "rollouts_per_step": 4,
                "real_ratio": (0, 0, 0.5, 0.5),
                **training,
            }
        )
        .evaluation(evaluation_duration=2)
    )


@pytest.fixture
def make_config() -> Callable[..., MBPOConfig]:
    return tiny_config


@pytest.fixture
def build(ray_session: None) -> Iterator[Callable[[MBPOConfig], MBPO]]:
    """Builds algorithms and stops them after the test."""
    built: list[MBPO] = []

    def build_algo(config: MBPOConfig) -> MBPO:
        built.append(config.build_algo())
        return built[-1]

    yield build_algo
    for algo in built:
        algo.stop()
