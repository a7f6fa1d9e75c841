"""N epochs, a checkpoint, a new process, M epochs: equal to N + M epochs without a stop, bit for bit."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import pytest
import torch

from tests.rllib import wrapped
from tests.rllib.conftest import tiny_config
from vagram_ray.checkpoint import read_checkpoint
from vagram_ray.checkpoint.files import resolve
from vagram_ray.checkpoint.folder import CheckpointFolder
from vagram_ray.core.model_losses import model_loss_names
from vagram_ray.rllib import MBPO

N, M = 2, 2
TASKS = {"pendulum": ("Pendulum-v1", 0), "hopper": ("Hopper-v4", 3), "wrapped": (wrapped.ID, 2)}
COHORTS = {"one seed": (3,), "four seeds": (3, 0, 11, 7)}
LOSSES = model_loss_names()
CASES = [
    (task, loss, cohort)
    for number, loss in enumerate(LOSSES)
    for task, cohort in zip(("pendulum", "hopper"), reversed(COHORTS) if number % 2 else COHORTS, strict=True)
] + [("wrapped", "vagram", "four seeds")]
"""Every loss with both tasks and both cohorts, every task with both cohorts; not all combinations of the three."""

CONTINUE = """
import json, sys
import ray
import tests.rllib.wrapped
from vagram_ray.rllib import MBPO

folder, epochs = sys.argv[1], int(sys.argv[2])
ray.init("local", num_cpus=1, include_dashboard=False, object_store_memory=100 * 2**20, logging_level="ERROR")
for case in map(str.strip, sys.stdin):
    algo = MBPO.from_checkpoint(f"{folder}/{case}/first")
    results = [algo.train()["seeds"] for _ in range(epochs)]
    algo.save_to_path(f"{folder}/{case}/continued")
    with open(f"{folder}/{case}/results.json", "w") as file:
        json.dump(results, file)
    algo.stop()
ray.shutdown()
"""


def case_name(task: str, loss: str, cohort: str) -> str:
    return f"{task}-{loss}-{len(COHORTS[cohort])}"


@pytest.fixture(scope="module")
def runs(ray_session: None, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, list[Any]]]:
    """Every case trained without a stop here, and from its first checkpoint on in another process, beside this one."""
    folder, straight = tmp_path_factory.mktemp("runs"), {}
    command = [sys.executable, "-c", CONTINUE, str(folder), str(M)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, text=True, bufsize=1) as other:
        assert other.stdin is not None
        try:
            for case in CASES:
                straight[case_name(*case)] = train_case(folder, *case, saved=other.stdin)
            other.stdin.close()
            assert other.wait(600) == 0
        finally:
            other.kill()
    return folder, straight


def train_case(folder: Path, task: str, loss: str, cohort: str, saved: TextIO) -> list[Any]:
    """Train a case without a stop; ``saved`` is told its name when its first checkpoint is there."""
    name, (env, distractors) = case_name(task, loss, cohort), TASKS[task]
    # A ring that has wrapped before the first checkpoint, normalized observations, episodes that end within an epoch.
    config = tiny_config(
        env,
        model_loss=loss,
        seeds=COHORTS[cohort],
        epoch_length=20,
        model_train_freq=10,
        model_max_epochs=2,
        replay_capacity=80,
        normalize_observations=True,
    ).environment(num_distractors=distractors, env_config={"max_episode_steps": 15})
    algo = config.evaluation(evaluation_duration=1).build_algo()
    for _ in range(N):
        algo.train()
    algo.save_to_path(folder / name / "first")
    saved.write(f"{name}\n")
    results = [algo.train()["seeds"] for _ in range(M)]
    algo.save_to_path(folder / name / "straight")
    algo.stop()
    return results


@pytest.mark.parametrize(("task", "loss", "cohort"), CASES, ids=[case_name(*case) for case in CASES])
def test_a_new_process_goes_on_bit_for_bit(runs, task, loss, cohort):
    folder, straight = runs
    name = case_name(task, loss, cohort)
    np.testing.assert_equal(json.loads((folder / name / "results.json").read_text()), straight[name])
    (_, left), (_, right) = (
        read_checkpoint(CheckpointFolder(*resolve(folder / name / which))) for which in ("continued", "straight")
    )
    for state in (left, right):
        del state["time_total_s"]
    assert left["agent"]["replay"]["num_added"] > left["agent"]["replay"]["size"]
    assert_equal_trees(left, right)


def assert_equal_trees(left: Any, right: Any, path: str = "state") -> None:
    assert type(left) is type(right), path
    if isinstance(left, dict):
        assert left.keys() == right.keys(), path
        for key in left:
            assert_equal_trees(left[key], right[key], f"{path}/{key}")
    elif isinstance(left, list):
        assert len(left) == len(right), path
        for index, (one, other) in enumerate(zip(left, right, strict=True)):
            assert_equal_trees(one, other, f"{path}/{index}")
    elif isinstance(left, torch.Tensor):
        assert left.dtype == right.dtype and torch.equal(left, right), path
    else:
        assert left == right, path


def test_the_checkpoint_holds_every_random_stream(runs):
    folder, _ = runs
    _, state = read_checkpoint(CheckpointFolder(*resolve(folder / "hopper-vagram-4" / "first")))
    assert set(state["agent"]["streams"]) == {"init", "warmup", "explore", "sac", "fit", "rollout"}
    assert all(len(own["generators"]) == 4 for own in state["agent"]["streams"].values())
    for which in ("training", "evaluation"):
        assert len(state["environments"][which]["environments"]) == 4
        # Beside the simulator's generator the distractors' own.
        assert any(layer for layer in state["environments"][which]["environments"][0]["layers"])


def test_restoring_needs_no_pickle(runs, monkeypatch):
    import pickle

    import cloudpickle

    def refuse(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("something was unpickled")

    folder, _ = runs
    for module, name in [(pickle, "load"), (pickle, "loads"), (cloudpickle, "load"), (cloudpickle, "loads")]:
        monkeypatch.setattr(module, name, refuse)
    monkeypatch.setattr(torch, "load", refuse)
    algo = MBPO.from_checkpoint(folder / "pendulum-vagram-1" / "first")
    assert algo.training_iteration == N
    algo.stop()
