"""Source of an extension: a Pendulum that goes wrong on cue, in a trial's process only.

Environment variables say how: ``FAULT`` (``hang``, ``raise``, ``nan``, ``memory``), ``FAULT_STEP`` (which step of the
process), ``FAULT_ONCE`` (a file: nothing happens when it is there, and it is made), ``FAULT_TRIAL`` (a part of the
trial's name), ``FAULT_SEEDS`` (more seeds than these do not fit into memory).
"""

import os
import time
from pathlib import Path

import numpy as np
from gymnasium.envs.classic_control.pendulum import PendulumEnv

from vagram_ray.envs import SeedVectorEnv

FAULT = os.environ.get("FAULT", "")
STEP = int(os.environ.get("FAULT_STEP", "900"))

steps = 0
own_step, own_vector_init = PendulumEnv.step, SeedVectorEnv.__init__
poisoned = []


def applies():
    return "TUNE_ORIG_WORKING_DIR" in os.environ and os.environ.get("FAULT_TRIAL", "") in os.getcwd()


def happens():
    if marker := os.environ.get("FAULT_ONCE"):
        try:
            Path(marker).touch(exist_ok=False)
        except FileExistsError:
            return False
    return True


def step(self, action):
    global steps
    steps += applies()
    if steps == STEP and applies() and FAULT in ("hang", "raise") and happens():
        if FAULT == "raise":
            raise RuntimeError("the simulator has lost its licence")
        while True:
            time.sleep(1)
    obs, reward, terminated, truncated, info = own_step(self, action)
    if steps > STEP and any(self is env for env in poisoned):
        obs = np.full_like(obs, np.nan)
    return obs, reward, terminated, truncated, info


def vector_init(self, spec, seeds, *, evaluation=False, **more):
    if FAULT == "memory" and applies() and len(seeds) > int(os.environ["FAULT_SEEDS"]):
        import torch

        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has a total ...")
    own_vector_init(self, spec, seeds, evaluation=evaluation, **more)
    if FAULT == "nan" and applies() and not evaluation:
        poisoned.append(self._envs[1].unwrapped)


PendulumEnv.step, SeedVectorEnv.__init__ = step, vector_init
