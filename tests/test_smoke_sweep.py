"""The smoke scale of the paper's distractor sweep, run as a user runs it: real Hopper through every phase."""

from __future__ import annotations

import csv
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
from pyarrow.fs import LocalFileSystem

from tests.sweep.wandb_files import read_offline_run
from vagram_ray.checkpoint import newest_whole, read_checkpoint
from vagram_ray.play.checkpoint import read_agent

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def sweep_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    storage = tmp_path_factory.mktemp("smoke")
    command = [sys.executable, "-m", "vagram_ray.sweep", "tune_configs/distractors.py", "--scale", "smoke"]
    environment = {**os.environ, "WANDB_MODE": "offline"}
    finished = subprocess.run(
        [*command, "--storage", str(storage), "--name", "smoke"],
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=900,
    )  # fmt: skip
    assert finished.returncode == 0, finished.stdout[-4000:] + finished.stderr[-4000:]
    assert "Complete: every seed" in finished.stdout
    return storage / "smoke"


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "results.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_every_phase_of_the_method_reported(sweep_folder: Path) -> None:
    info = json.loads((sweep_folder / "sweep.json").read_text())
    results = rows(sweep_folder)
    assert len(results) == len(info["cells"]) * len(info["seeds"]) * info["epochs"]
    for row in results:
        for key in (
            "eval/episode_return",
            "train/episode_return",
            "model/validation_loss",
            "model/imagined_reward",
            "sac/critic_loss",
            "sac/real_ratio",
        ):
            assert math.isfinite(float(row[key])), (key, row)
    assert {float(row["sac/real_ratio"]) for row in results} != {1.0}, "no batch had imagined transitions"


def test_every_trial_left_a_checkpoint_of_its_last_epoch(sweep_folder: Path) -> None:
    info = json.loads((sweep_folder / "sweep.json").read_text())
    trials = [path for path in sweep_folder.iterdir() if "seeds=" in path.name]
    assert {trial.name for trial in trials} == {trial["name"] for trial in info["trials"]}
    for trial in trials:
        newest = newest_whole(LocalFileSystem(), str(trial))
        assert newest is not None
        _, state = read_checkpoint(newest)
        assert state["training_iteration"] == info["epochs"]
        assert read_agent(newest.path).actor().flat.isfinite().all()


def test_wandb_has_one_run_per_seed_with_each_step_once(sweep_folder: Path) -> None:
    results = rows(sweep_folder)
    runs = [read_offline_run(file) for file in sorted(sweep_folder.glob("wandb/offline-run-*/*.wandb"))]
    (own,) = (run for run in runs if run.job_type == "sweep")
    assert own.summary["complete"] is True
    runs = [run for run in runs if run.job_type == "seed"]
    steps = sorted({int(row["env_steps"]) for row in results})
    assert len(runs) == len(results) // len(steps)
    for run in runs:
        assert [row["env_steps"] for row in run.history] == steps
        assert run.config["env"] == "Hopper-v4"
