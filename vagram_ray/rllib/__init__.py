"""MBPO with a value-aware model loss for RLlib; importing this package registers ``"MBPO"`` with Ray Tune."""

from ray.tune import register_trainable

from vagram_ray.rllib.algorithm import MBPO
from vagram_ray.rllib.config import MBPOConfig
from vagram_ray.rllib.extensions import ExtensionError, load_extensions
from vagram_ray.rllib.presets import laptop_settings, published_settings, smoke_settings
from vagram_ray.rllib.rl_module import MBPORLModule

register_trainable("MBPO", MBPO)

__all__ = [
    "MBPO",
    "ExtensionError",
    "MBPOConfig",
    "MBPORLModule",
    "laptop_settings",
    "load_extensions",
    "published_settings",
    "smoke_settings",
]
