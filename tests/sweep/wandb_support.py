"""What the tests of W&B logging share: a user of its own, trials and results as Tune hands them over, processes.

Whatever the user's own login is, it plays no part: HOME and NETRC point into the test's folder.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import subprocess
import sys
import time  # noqa: F401  # for the scripts
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import wandb

from vagram_ray.sweep.wandb.logging import WandbSeedRuns
from vagram_ray.sweep.wandb.reader import OfflineRun, read_offline_run

KEY = "0123456789" * 4
HOOK: dict[str, Any] = {"iteration": 0, "trials": []}


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No key, no settings and no W&B variable of the user's."""
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("NETRC", str(home / ".netrc"))
    # prepare_wandb sets these; naming them here has monkeypatch take them back afterwards.
    for name in ("WANDB_MODE", "WANDB_DIR", "WANDB_CONSOLE"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
    return home


@pytest.fixture(scope="module", autouse=True)
def wandb_service() -> Iterator[None]:
    """One service process of wandb for all tests here, ended with them."""
    yield
    wandb.teardown()


@dataclass
class Trial:
    """What the callback reads of Tune's ``Trial``."""

    trial_id: str = "ab123_00000"
    config: dict[str, Any] = field(
        default_factory=lambda: {
            "env": "Hopper-v4",
            "num_distractors": 10,
            "model_loss": "vagram",
            "num_layers": 4,
            "hidden_size": 200,
            "seeds": (3, 7),
            "gamma": 0.99,
            "nested": {"lr": 1e-3, "sizes": (64, 64)},
            "callbacks_class": dict,
            "infinite": math.inf,
        }
    )

    name: str = "a-trial"

    def __str__(self) -> str:
        return self.name


def result(env_steps: int, **changes: Any) -> dict[str, Any]:
    """A result of two seeds whose returns are ``env_steps`` + seed; ``changes`` go into seed 3's evaluation."""
    seeds = {
        f"seed_{seed}": {"eval": {"episode_return": float(env_steps + seed)}, "sac": {"alpha": 0.1}, "failed": 0}
        for seed in (3, 7)
    }
    seeds["seed_3"]["eval"] |= changes  # type: ignore[operator]
    return {
        "env_steps": env_steps,
        "training_iteration": env_steps // 1000,
        "seeds": seeds,
        "time": {"epoch_s": 1.5},
        "perf": {"env_steps_per_s": np.float32(2.0)},
        "eval": {"episode_return": -1.0},
        "config": {"not": "logged"},
    }


def callback(directory: Path, **changes: Any) -> WandbSeedRuns:
    """Runs of one sweep: those of another callback are continued."""
    shared = {"project": "p", "sweep_name": "distractors", "directory": directory, "sweep_id": "f00d"}
    return WandbSeedRuns(**{**shared, **changes})


def read(runs: WandbSeedRuns) -> list[OfflineRun]:
    return [read_offline_run(folder) for folder in runs.offline_runs()]


def steps(run: OfflineRun) -> list[int]:
    return [row["env_steps"] for row in run.history]


def by_seed(runs: list[OfflineRun]) -> dict[int, list[OfflineRun]]:
    return {seed: [run for run in runs if run.config["seed"] == seed] for seed in (3, 7)}


def warnings_in(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [
        entry.getMessage()
        for entry in caplog.records
        if entry.levelno >= logging.WARNING and entry.name.startswith("vagram_ray")
    ]


def service_pid(of: int | None = None) -> int:
    """Process id of the wandb service that this process, or process ``of``, has started.

    Raises:
        LookupError: There is none.
    """
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # gone meanwhile
            name, rest = stat.read_text().split("(", 1)[1].rsplit(")", 1)
            if name == "wandb-core" and int(rest.split()[1]) == (of or os.getpid()):
                return int(stat.parent.name)
    raise LookupError("no wandb service process")


class Ended(NamedTuple):
    """How a process ended."""

    returncode: int
    stdout: str
    stderr: str


def in_a_process(script: str, directory: Path, **env: str) -> Ended:
    """Run ``script`` in a process of its own; all of this module is imported there."""
    process = start_process(script, directory, **env)
    try:
        code = process.wait(timeout=240)  # far more than needed: a hang, not a loaded machine, shall end it
    finally:
        process.kill()
    return Ended(code, (directory / "out").read_text(), (directory / "err").read_text())


def start_process(script: str, directory: Path, **env: str) -> subprocess.Popen[bytes]:
    """Start ``script`` in a process of its own; its output goes to the files ``out`` and ``err``."""
    head = (
        "import signal\n"
        "from tests.sweep.wandb_support import *\n"
        "from vagram_ray.sweep.wandb import refill as wandb_refill\n"
        "from vagram_ray.sweep.wandb import service as wandb_service\n"
        "from vagram_ray.sweep.wandb import target as wandb_target\n"
        f"directory = Path({str(directory)!r})\n"
    )
    environ = {name: value for name, value in os.environ.items() if name != "WANDB_SERVICE"}
    # Files, not pipes: a stopped service process would hold a pipe open.
    with open(directory / "out", "w") as out, open(directory / "err", "w") as err:
        return subprocess.Popen(
            [sys.executable, "-c", head + script],
            env={**environ, **env},
            cwd=Path(__file__).parents[2],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
        )
