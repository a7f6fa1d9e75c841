"""Environments for training: distractors, termination functions, continuous cartpole, one environment per seed.

Importing this package registers ``ContinuousCartPole-v0`` with Gymnasium.
"""

from vagram_ray.envs.cartpole import ContinuousCartPole, register_cartpole
from vagram_ray.envs.distractors import DISTRACTOR_PROCESSES, DistractorObservation, DistractorProcess
from vagram_ray.envs.errors import EnvironmentSpecError
from vagram_ray.envs.seed_vector import SeedVectorEnv
from vagram_ray.envs.spec import EnvironmentSpec
from vagram_ray.envs.terminations import never_terminates, register_termination

register_cartpole()

__all__ = [
    "DISTRACTOR_PROCESSES",
    "ContinuousCartPole",
    "DistractorObservation",
    "DistractorProcess",
    "EnvironmentSpec",
    "EnvironmentSpecError",
    "SeedVectorEnv",
    "never_terminates",
    "register_termination",
]
