"""Figures, films and checkpoints in the sweep's own W&B run, with the real wandb; a slow test makes them for real."""

from __future__ import annotations

import base64
import io
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import wandb
from pyarrow.fs import LocalFileSystem
from rich.console import Console

from tests.sweep.wandb_files import OfflineRun
from tests.sweep.wandb_support import own_home  # noqa: F401
from tests.sweep.wandb_sweep import own_run
from vagram_ray.checkpoint import CheckpointHistory
from vagram_ray.records.folder import SweepFolder
from vagram_ray.sweep.plan.content import plan_content
from vagram_ray.sweep.plan.plan import SweepPlan
from vagram_ray.sweep.wandb import artifacts as wandb_artifacts
from vagram_ray.sweep.wandb.artifacts import hand_over_artifacts, log_artifacts
from vagram_ray.sweep.wandb.cursor import CURSOR_FILE
from vagram_ray.sweep.wandb.mode import ARTIFACTS
from vagram_ray.sweep.wandb.supervisor import Supervisor

pytestmark = pytest.mark.ci

ROOT = Path(__file__).resolve().parents[2]
ONE_PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
SEEDS = (0, 1, 2)
CHECKPOINT_FILES = ["agent.safetensors", "config.json", "imagined.safetensors", "manifest.json", "state.json"]


class NoTransitions:
    """A real buffer with nothing in it."""

    size = num_added = 0

    def arrivals(self, first: int, last: int) -> torch.Tensor:
        return torch.zeros(last - first, 1, 1)


def write_checkpoints(folder: Path) -> None:
    """Two whole checkpoints, and a newer one whose process was killed on an earlier system."""
    history = CheckpointHistory(LocalFileSystem(), str(folder))
    for epoch in (1, 2):
        history.write(epoch, {"epoch": epoch}, {"agent": {"weight": torch.zeros(2)}}, NoTransitions())
    (folder / "replay").mkdir(exist_ok=True)
    (folder / "replay" / "000000.bin").write_bytes(b"transitions")
    shutil.copytree(folder / "checkpoint_000002", folder / "checkpoint_000003")
    (folder / "checkpoint_000003" / "manifest.json").unlink()


@pytest.fixture
def sweep(tmp_path: Path, make_plan_of: Callable[..., SweepPlan], make_result: Callable[..., dict[str, Any]]) -> Path:
    """The folder of a finished sweep of two cells, logged to W&B offline; seed 1 has the middle return."""
    folder = tmp_path / "sweep"
    plan = make_plan_of({"model_loss=vagram": [SEEDS], "model_loss=nll": [SEEDS]}, epochs=2)
    SweepFolder(folder).write(plan_content(plan) | {"command": "the command", "wandb": {"name": "distractors"}})
    for planned in plan.trials:
        for epoch in (1, 2):
            SweepFolder(folder).append(planned.name, make_result(epoch, {0: 0.0, 1: 10.0, 2: 30.0}))
        write_checkpoints(folder / planned.name)
    supervisor = Supervisor(folder, "p", "offline")
    supervisor.start()
    assert supervisor.finish() == 0
    return folder


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """Instead of running report and play: what they were asked, and files where they would put theirs."""
    asked: list[tuple[str, ...]] = []

    def run(*command: str) -> str:
        asked.append(command)
        if command[0] == "vagram_ray.report":
            folder = Path(command[command.index("--output") + 1])
            folder.mkdir()
            for name in ("final_returns", "learning_curves_iqm"):
                (folder / f"{name}.png").write_bytes(ONE_PIXEL)
                (folder / f"{name}.pdf").write_bytes(b"%PDF")
        elif "model_loss=nll" in command:
            return "there is no screen"
        else:
            Path(command[command.index("--video") + 1]).write_bytes(b"mp4")
        return ""

    monkeypatch.setattr(wandb_artifacts, "_run", run)
    return asked


def log(folder: Path, kinds: tuple[str, ...] = ARTIFACTS) -> str:
    told: list[str] = []
    log_artifacts(folder, "p", kinds, told.append)
    return "\n".join(told)


def sweep_runs(folder: Path) -> list[OfflineRun]:
    """The pieces of the sweep's own run, oldest first."""
    return own_run(folder)


def test_files_go_into_the_sweeps_own_run(sweep: Path, commands: list[tuple[str, ...]]) -> None:
    told = log(sweep)
    summary, own = sweep_runs(sweep)
    assert (own.run_id, own.name, own.tags, own.job_type) == (summary.run_id, "distractors", summary.tags, "sweep")
    assert own.exit_code == 0
    logged = {key: value for row in own.history for key, value in row.items()}
    media = {key.rpartition("/")[0]: value for key, value in logged.items() if key.endswith("/_type")}
    assert media == {
        "figures/final_returns": "image-file",
        "figures/learning_curves_iqm": "image-file",
        "videos/model_loss=vagram, seed 1": "video-file",
    }
    assert {name: sorted(files) for name, files in own.artifacts.items()} == {
        "distractors-figures": [
            "final_returns.pdf", "final_returns.png", "learning_curves_iqm.pdf", "learning_curves_iqm.png"
        ],
        "distractors-video": ["0-model_loss-vagram-seed1.mp4"],
        "distractors-checkpoint": [
            f"model_loss={loss},seeds=0-1-2/checkpoint_000002/{name}"
            for loss in ("nll", "vagram")
            for name in CHECKPOINT_FILES
        ],
    }  # fmt: skip
    for files in own.artifacts.values():
        for path in files.values():
            assert path.is_relative_to(sweep), "wandb made a copy elsewhere"
    for name, path in own.artifacts["distractors-checkpoint"].items():
        assert path == sweep / name
    assert "no video of model_loss=nll (there is no screen)" in told
    assert "figures, video, checkpoint in the run" in told
    assert ("vagram_ray.play", str(sweep), "--cell", "model_loss=vagram", "--seed", "1") == commands[1][:6]


def test_only_what_is_asked_for_is_made(sweep: Path, commands: list[tuple[str, ...]]) -> None:
    log(sweep, ("checkpoint",))
    assert commands == []
    assert list(sweep_runs(sweep)[1].artifacts) == ["distractors-checkpoint"]
    assert sweep_runs(sweep)[1].history == []


def test_what_is_missing_or_breaks_costs_a_sentence(
    sweep: Path, commands: list[tuple[str, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    (sweep / "model_loss=nll,seeds=0-1-2").rename(sweep / "elsewhere")
    told = log(sweep, ("checkpoint",))
    assert "1 trial left no whole checkpoint in" in told

    def fail(*args: Any, **kwargs: Any) -> None:
        raise SystemExit("the connection is lost\nand more")

    with monkeypatch.context() as patch:
        patch.setattr(wandb, "init", fail)
        assert "the artifacts are not logged (the connection is lost)" in log(sweep)
    (sweep / CURSOR_FILE).unlink()
    console = Console(width=200, record=True, file=io.StringIO())
    hand_over_artifacts(sweep, "p", ("figures",), console)  # in a process of its own
    assert "W&B: no artifacts are logged" in console.export_text()
    assert "no artifacts are logged, because the sweep's own run could not be written" in log(sweep)


def test_a_command_that_fails_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = wandb_artifacts._run("vagram_ray.report", "no such folder")
    assert problem.startswith("vagram_ray.report: There is no file or folder 'no such folder'")
    monkeypatch.setattr(wandb_artifacts, "COMMAND_LIMIT_S", 0.01)
    assert "timed out" in wandb_artifacts._run("vagram_ray.report", "no such folder")


@pytest.mark.slow
def test_a_sweep_hands_over_all_artifacts(tmp_path: Path) -> None:
    sweep_file = tmp_path / "tiny.py"
    sweep_file.write_text(
        "from vagram_ray.rllib import MBPOConfig\n"
        "from vagram_ray.sweep import Sweep\n"
        "from tests.sweep.conftest import small_config\n"
        "SWEEP = Sweep(name='tiny', config=small_config(model_loss='vagram'), seeds=2, epochs=2)\n"
    )
    ended = subprocess.run(
        [sys.executable, "-m", "vagram_ray.sweep", str(sweep_file), "--wandb", "offline", "--wandb-artifacts", "all",
         "--wandb-project", "team/tiny", "--name", "tiny", "--storage", str(tmp_path)],
        cwd=ROOT, capture_output=True, text=True, timeout=900,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stdout + ended.stderr
    summary, own = sweep_runs(tmp_path / "tiny")
    assert summary.project == own.project == "tiny"
    assert summary.summary["complete"] is True
    trials = [path.name for path in (tmp_path / "tiny").iterdir() if "seeds=" in path.name]
    checkpoints = [name for name in own.artifacts["tiny-checkpoint"] if name.endswith("/agent.safetensors")]
    (film,) = (path for files in own.artifacts.values() for path in files.values() if path.suffix == ".mp4")
    assert len(checkpoints) == len(trials)
    assert film.stat().st_size > 1000
    assert {path.suffix for path in own.artifacts["tiny-figures"].values()} == {".png", ".pdf"}
    num_media = sum(key.endswith("/_type") for row in own.history for key in row)
    assert num_media == len(own.artifacts["tiny-figures"]) // 2 + 1
