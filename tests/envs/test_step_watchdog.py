"""A simulator that hangs ends its process, also when it never lets go of Python's lock."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

from vagram_ray.envs.step_watchdog import EXIT_STATUS, StepWatchdog

HANGING = """
import re, sys, time
import gymnasium
import numpy as np
from gymnasium.envs.classic_control import PendulumEnv
from vagram_ray.envs import EnvironmentSpec, SeedVectorEnv
from vagram_ray.envs.step_watchdog import StepWatchdog

class Hanging(PendulumEnv):
    def step(self, action):
        if not armed:  # making the environments tries a step
            return super().step(action)
        if HOW == "sleep":
            time.sleep(1000)
        if HOW == "locked":
            re.match("(a+)+$", "a" * 60 + "b")  # one call that never ends and keeps the lock
        while True:
            pass

HOW, armed = sys.argv[1], False
gymnasium.register("Hanging-v0", Hanging, max_episode_steps=10)
envs = SeedVectorEnv(EnvironmentSpec("Hanging-v0"), (0,))
watchdog = StepWatchdog(1.0, sys.__stderr__)
watchdog.GRACE_S = 1.0
envs.guard = watchdog.guard
envs.reset()
armed = True
time.sleep(1.0)  # the watchdog is awake
envs.step(np.zeros((1, 1)))
"""


@pytest.mark.parametrize("how", ["sleep", "loop", "locked"])
def test_a_step_that_never_returns_ends_the_process_with_a_traceback(how):
    ended = subprocess.run([sys.executable, "-c", HANGING, how], capture_output=True, text=True, timeout=300)
    assert ended.returncode == (1 if how == "locked" else EXIT_STATUS), ended.stderr
    assert "in step" in ended.stderr
    if how != "locked":
        assert "exceeded its time limit of 1 s (env_step_time_limit_s)" in ended.stderr


def test_what_is_fast_enough_is_left_alone():
    watchdog = StepWatchdog(0.4, sys.__stderr__)
    for _ in range(8):
        with watchdog.guard():
            time.sleep(0.1)
    time.sleep(0.6)  # nothing is guarded now
    watchdog.stop()
    assert not watchdog._thread.is_alive()
