"""A sweep of two cells and two seeds that is played, not trained: its records, and its results as Tune hands them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.sweep.conftest import plan_of, result_of
from tests.sweep.wandb_support import HOOK, Trial, callback
from vagram_ray.records.folder import SweepFolder, whole_epochs
from vagram_ray.sweep.plan.content import plan_content
from vagram_ray.sweep.wandb.logging import WandbSeedRuns
from vagram_ray.sweep.wandb.reader import OfflineRun, WandbFileError, read_offline_run

LOSSES, SEEDS = ("vagram", "nll"), (0, 1)


class PlayedSweep:
    """Writes ``sweep.json`` and plays epochs of its trials. Whoever makes it plays another launch."""

    def __init__(self, directory: Path, epochs: int = 5, launch: str = "ab123") -> None:
        self.directory, self.epochs = directory, epochs
        plan = plan_of({f"model_loss={loss}": [SEEDS] for loss in LOSSES}, epochs=epochs)
        SweepFolder(directory).write(
            plan_content(plan) | {"sweep_id": "f00d", "command": "python -m vagram_ray.sweep x.py"}
        )
        self.trials = [
            Trial(f"{launch}_0000{planned.index}", {"seeds": SEEDS, **planned.cell.axes}, planned.name)
            for planned in plan.trials
        ]

    def callback(self, mode: str = "offline", **changes: Any) -> WandbSeedRuns:
        """W&B's callback, as the sweep makes it."""
        return callback(
            self.directory, mode=mode, cell_of=lambda config: f"model_loss={config['model_loss']}", **changes
        )

    def result(self, trial: Trial, epoch: int) -> dict[str, Any]:
        """The result of an epoch, the same however often it is computed."""
        cell = self.trials.index(trial)
        return result_of(epoch, {seed: 100.0 * cell + 10.0 * seed + epoch for seed in SEEDS})

    def play(self, runs: WandbSeedRuns | None, trial: Trial, first: int, last: int, *, complete: bool = False) -> None:
        """Epochs ``first`` to ``last`` of a trial are trained and recorded; ``runs`` is told, if there is W&B."""
        if runs is not None:
            runs.on_trial_start(**HOOK, trial=trial)
        for epoch in range(first, last + 1):
            result = self.result(trial, epoch)
            SweepFolder(self.directory).append(trial.name, result)
            if runs is not None:
                runs.on_trial_result(**HOOK, trial=trial, result=result)
        if complete and runs is not None:
            runs.on_trial_complete(**HOOK, trial=trial)

    def epochs_done(self, trial: Trial) -> int:
        """Epochs of which there is a record."""
        return whole_epochs(SweepFolder(self.directory).records(trial.name))

    @property
    def steps(self) -> list[int]:
        """``env_steps`` of all epochs."""
        return [result_of(epoch, {})["env_steps"] for epoch in range(1, self.epochs + 1)]


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
