"""Environments for training: distractors, termination functions, continuous cartpole, one environment per seed.

Importing this package registers ``ContinuousCartPole-v0`` with Gymnasium.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from vagram_ray.envs.cartpole import ContinuousCartPole, register_cartpole
from vagram_ray.envs.distractors import (
    DISTRACTOR_PROCESSES,
    DISTRACTOR_RESETS,
    DISTRACTOR_SCALES,
    DistractorObservation,
    DistractorProcess,
    DistractorReset,
    DistractorScale,
)
from vagram_ray.envs.errors import EnvironmentSpecError
from vagram_ray.envs.spec import EnvironmentSpec

if TYPE_CHECKING:
    from vagram_ray.envs.seed_vector import SeedVectorEnv
    from vagram_ray.envs.terminations import never_terminates, register_termination

register_cartpole()

__all__ = [
    "DISTRACTOR_PROCESSES",
    "DISTRACTOR_RESETS",
    "DISTRACTOR_SCALES",
    "ContinuousCartPole",
    "DistractorObservation",
    "DistractorProcess",
    "DistractorReset",
    "DistractorScale",
    "EnvironmentSpec",
    "EnvironmentSpecError",
    "SeedVectorEnv",
    "never_terminates",
    "register_termination",
]

_NEED_PYTORCH = {
    "SeedVectorEnv": "seed_vector",
    "never_terminates": "terminations",
    "register_termination": "terminations",
}
"""Imported when they are asked for: a specification alone needs no PyTorch."""


def __getattr__(name: str) -> Any:
    if name not in _NEED_PYTORCH:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_NEED_PYTORCH[name]}"), name)
    globals()[name] = value
    return value
