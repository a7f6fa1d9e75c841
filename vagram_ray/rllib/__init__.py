"""MBPO with a value-aware model loss for RLlib. Importing this package registers ``"MBPO"`` with Ray Tune."""

from ray.tune import register_trainable

from vagram_ray.rllib.algorithm import MBPO
from vagram_ray.rllib.config import MBPOConfig
from vagram_ray.rllib.extensions import ExtensionError, load_extensions
from vagram_ray.rllib.presets import (
    dmc_settings,
    janner_settings,
    laptop_settings,
    mbrl_lib_settings,
    published_settings,
    smoke_settings,
    workstation_settings,
)
from vagram_ray.rllib.rl_module import MBPORLModule

register_trainable("MBPO", MBPO)

__all__ = [
    "MBPO",
    "ExtensionError",
    "MBPOConfig",
    "MBPORLModule",
    "dmc_settings",
    "janner_settings",
    "laptop_settings",
    "load_extensions",
    "mbrl_lib_settings",
    "published_settings",
    "smoke_settings",
    "workstation_settings",
]
