from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import pytest
import torch

from vagram_ray.core.settings import MBPOSettings
from vagram_ray.studies.sac_run import SACRun, sac_settings, train_sac


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def small_settings(**changes: object) -> MBPOSettings:
    settings = sac_settings(hidden_size=16, utd_ratio=1)
    small = {"epoch_length": 30, "num_steps_sampled_before_learning_starts": 60, "train_batch_size_per_learner": 16}
    return dataclasses.replace(settings, **(small | changes))


@pytest.fixture(scope="session")
def small_run() -> Callable[[Sequence[int], int], SACRun]:
    """Short SAC runs; equal ones are made once."""
    made: dict[tuple[tuple[int, ...], int], SACRun] = {}

    def run(seeds: Sequence[int], epochs: int) -> SACRun:
        key = (tuple(seeds), epochs)
        if key not in made:
            made[key] = train_sac(seeds, epochs, small_settings())
        return made[key]

    return run
