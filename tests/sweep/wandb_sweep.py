"""A sweep of two cells and two seeds that is played, not trained: its records are written, and W&B follows them."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.sweep.conftest import plan_of, result_of
from tests.sweep.wandb_files import OfflineRun, WandbFileError, read_offline_run
from vagram_ray.records.folder import SweepFolder, whole_epochs
from vagram_ray.sweep.plan.content import plan_content
from vagram_ray.sweep.processes import children_of
from vagram_ray.sweep.wandb.supervisor import Supervisor

LOSSES, SEEDS = ("vagram", "nll"), (0, 1)


class PlayedSweep:
    """Writes ``sweep.json`` and plays epochs of its trials. Whoever makes it plays another launch."""

    def __init__(self, directory: Path, epochs: int = 5, **content: Any) -> None:
        self.directory, self.epochs = directory, epochs
        self.plan = plan_of({f"model_loss={loss}": [SEEDS] for loss in LOSSES}, epochs=epochs)
        known: dict[str, Any] = {"sweep_id": "f00d", "command": "python -m vagram_ray.sweep x.py", "git_commit": "abc"}
        known |= {"wandb": {"name": "distractors"}}
        SweepFolder(directory).write(plan_content(self.plan) | known | content)
        self.trials = [planned.name for planned in self.plan.trials]

    def follow(self, mode: str = "offline", project: str = "p") -> Supervisor:
        """W&B's follower, as the sweep starts it."""
        supervisor = Supervisor(self.directory, project, mode)
        supervisor.start()
        return supervisor

    def catch_up(self, mode: str = "offline", project: str = "p", **options: Any) -> int:
        """What the command of a sweep that has ended does for W&B."""
        return self.follow(mode, project).finish(**options)

    def result(self, trial: str, epoch: int) -> dict[str, Any]:
        """The result of an epoch, the same however often it is computed."""
        cell = self.trials.index(trial)
        return result_of(epoch, {seed: 100.0 * cell + 10.0 * seed + epoch for seed in SEEDS})

    def play(self, trial: str, first: int, last: int) -> None:
        """Epochs ``first`` to ``last`` of a trial are trained and recorded."""
        for epoch in range(first, last + 1):
            SweepFolder(self.directory).append(trial, self.result(trial, epoch))

    def play_all(self) -> None:
        """All epochs of all trials."""
        for trial in self.trials:
            self.play(trial, 1, self.epochs)

    def epochs_done(self, trial: str) -> int:
        """Epochs of which there is a record."""
        return whole_epochs(SweepFolder(self.directory).records(trial))

    @property
    def steps(self) -> list[int]:
        """``env_steps`` of all epochs."""
        return [result_of(epoch, {})["env_steps"] for epoch in range(1, self.epochs + 1)]


def wait_for(condition: Callable[[], Any], timeout_s: float = 120.0) -> Any:
    """Wait until something is so, and return it."""
    deadline = time.monotonic() + timeout_s
    while not (found := condition()):
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.02)
    return found


def processes(pid: int, name: str) -> list[int]:
    """The processes with ``name`` in their command that a process, or one of those it has started, has started."""
    found = []
    for child in children_of(pid):
        try:
            command = Path(f"/proc/{child}/cmdline").read_text()
        except OSError:
            continue
        found += [child] * (name in command) + processes(child, name)
    return found


def own_run(directory: Path) -> list[OfflineRun]:
    """The pieces of the sweep's own offline run, oldest first."""
    return [read_offline_run(folder) for folder in sorted(directory.glob("wandb/offline-run-*-sweep-*"))]


def offline(directory: Path) -> dict[tuple[str, int], list[OfflineRun]]:
    """The offline runs of each cell and seed, oldest first."""
    found: dict[tuple[str, int], list[OfflineRun]] = {}
    for folder in sorted(directory.glob("wandb/offline-run-*")):
        try:
            run = read_offline_run(folder)
        except WandbFileError:  # killed before there was a file, or a header in it
            continue
        if run.job_type == "seed":
            found.setdefault((run.group, run.config["seed"]), []).append(run)
    return found


def all_steps(runs: list[OfflineRun]) -> list[int]:
    """``env_steps`` of all rows of one run, over its files."""
    return [row["env_steps"] for run in runs for row in run.history]
