"""A sweep over environments of each kind, from a folder that is not the working directory."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from vagram_ray.records import SweepFolder

pytestmark = pytest.mark.ci

BESIDE = """
import gymnasium

class Short(gymnasium.wrappers.TimeLimit):
    def __init__(self, config):
        super().__init__(gymnasium.make("Pendulum-v1").unwrapped, config["steps"])
"""
SWEEP = """
from ray import tune
from short_environment import Short
from vagram_ray.envs import never_terminates, register_termination
from vagram_ray.rllib import MBPOConfig, smoke_settings
from vagram_ray.sweep import Sweep

class Shorter(Short):
    def nothing(self):
        pass

def make_short(config):
    return Shorter(config)

tune.register_env("registered", lambda config: Shorter(config))
ENVIRONMENTS = [Short, Shorter, make_short, "registered", "short_environment.Short"]
for environment in ENVIRONMENTS[:4]:
    register_termination(environment, never_terminates)
SWEEP = Sweep(
    name="short",
    config=MBPOConfig().environment(tune.grid_search(ENVIRONMENTS), env_config={"steps": 20})
    .training(**{**smoke_settings(), "epoch_length": 40, "num_steps_sampled_before_learning_starts": 40})
    .evaluation(evaluation_duration=1),
    seeds=1, epochs=1,
)
"""
NAMES = ["short_environment.Short", "short.py:Shorter", "short.py:make_short", "registered"]


@pytest.mark.slow
def test_trials_find_environments_of_each_kind(tmp_path: Path) -> None:
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    (folder / "short_environment.py").write_text(BESIDE)
    (folder / "short.py").write_text(SWEEP)
    (tmp_path / "here").mkdir()
    environment = os.environ | {"PYTHONPATH": os.getcwd(), "WANDB_MODE": "disabled"}

    def run(module: str, *arguments: str) -> str:
        command = [sys.executable, "-m", module, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path / "here", env=environment)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    file = str(folder / "short.py")
    run("vagram_ray.sweep", file, "--wandb", "disabled", "--seeds", "1")
    results = tmp_path / "here" / "results" / "short"
    cells = SweepFolder(results).read()["cells"]
    assert [cell["axes"]["env"] for cell in cells] == NAMES  # the class path is the first again
    more = run("vagram_ray.sweep", file, "--wandb", "disabled", "--seeds", "1", "--epochs", "2")
    assert "(4 in all)" in more
    for name in NAMES:
        played = run("vagram_ray.play", str(results), "--cell", name, "--extension", file, "--episodes", "1")
        assert f"on {name}, seed 0" in played and " 20 " in played
