"""Running a planned sweep with Ray Tune."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from vagram_ray.files import write_atomically
from vagram_ray.records.folder import RESULTS_FILE, SWEEP_FILE, SWEEP_FILE_COPY, RecordWriter, SweepFolder
from vagram_ray.records.launches import (
    COMPLETE,
    INCOMPLETE,
    INTERRUPTED,
    begin_launch,
    end_launch,
    going_on_command,
    now,
    total_seconds,
)
from vagram_ray.records.results import SweepResults
from vagram_ray.sweep.plan.content import plan_content, rewrite_plan
from vagram_ray.sweep.plan.machine import describe_machine, git_commit, versions
from vagram_ray.sweep.plan.plan import SweepPlan
from vagram_ray.sweep.plan.tuning import Decisions
from vagram_ray.sweep.resume.continuation import Continuation
from vagram_ray.sweep.run.faults import Faults
from vagram_ray.sweep.run.interruption import ENDING, TRIALS_RUN, Interruption
from vagram_ray.sweep.run.local_ray import RayLostError, RayWatch, keep_ray_files
from vagram_ray.sweep.storage.folder import SweepStorage
from vagram_ray.sweep.storage.remote import DriverFiles
from vagram_ray.sweep.view.progress import FAILED, ProgressView, SweepProgress
from vagram_ray.sweep.wandb.offline import offline_runs
from vagram_ray.sweep.wandb.supervisor import Supervisor

if TYPE_CHECKING:
    from ray.tune import TuneError
    from ray.tune.logger import LoggerCallback

    from vagram_ray.sweep.run.loggers import TrialLoggers


@dataclass(frozen=True)
class WandbChoice:
    """How Weights & Biases is used: the settled mode and the project."""

    mode: str
    project: str


@dataclass(frozen=True)
class Source:
    """Where a sweep comes from."""

    content: bytes | None
    """Of the sweep file or script, kept as a copy with the results; None in a notebook."""
    command: str
    """What runs it, and goes on with it."""


@dataclass(frozen=True)
class Outcome:
    """How a run ended."""

    seconds: float
    failed: dict[str, str]
    """Path of the error file of each failed trial, by name."""
    interrupted: bool
    offline_runs: tuple[Path, ...]
    launches: int = 1
    """How often the sweep has been launched, this time included."""
    total_seconds: float = 0.0
    """Wall time of all launches."""
    command: str = ""
    """What goes on with the sweep."""
    reasons: Mapping[str, str] = field(default_factory=dict)
    """Why each failed trial did, in a few words, by name."""
    unwritten: str = ""
    """A sentence about what the disk did not take; empty if there is nothing."""
    ray_lost: bool = False
    """Whether Ray itself has died."""


def run_sweep(
    continuation: Continuation,
    storage: SweepStorage,
    wandb: WandbChoice,
    source: Source,
    console: Console,
    interruption: Interruption | None = None,
    loggers: Sequence[LoggerCallback] = (),
) -> Outcome:
    """Run the trials that are still to be run. Writes the sweep's records as they come.

    Ray has to be there already, unless nothing is to be run. The sweep's folder is there, and locked by this process.

    Args:
        continuation: The whole sweep and how far it has come.
        storage: Where results go.
        wandb: Mode and project.
        source: The sweep file and the command.
        console: Where progress is shown.
        interruption: Tells of signals; without it there are none.
        loggers: Of Tune, which write further files of each trial.
    """
    todo, interruption = continuation.todo, interruption or Interruption()
    interruption.note_signals(TRIALS_RUN if todo else ENDING)
    if todo:
        _begin(continuation, storage, wandb, source)
    logging.raiseExceptions = False  # a full disk is told of once, not for every line of a log
    started = time.monotonic()
    copying = DriverFiles(storage).uploading() if storage.is_remote else contextlib.nullcontext()
    with copying, ProgressView(_progress(continuation, storage), console) as view:
        run = _Run(continuation, storage, view, interruption, _start_wandb(storage, wandb))
        ray_lost = bool(todo) and not run.fit(loggers)
        interruption.note_signals(ENDING)
        run.writer.flush()
    seconds = time.monotonic() - started if todo else None
    if run.faults.happened:
        keep_ray_files()
    run.write_end(seconds)
    run.finish_wandb(console)
    return run.outcome(seconds or 0.0, ray_lost=ray_lost)


class _Run:
    """One launch: its parts, and what has become of the trials.

    Args:
        continuation: The whole sweep and how far it has come.
        storage: Where results go.
        view: Shows progress.
        interruption: Tells of signals.
        follower: Logs to Weights & Biases, if that is wanted.
    """

    def __init__(
        self,
        continuation: Continuation,
        storage: SweepStorage,
        view: ProgressView,
        interruption: Interruption,
        follower: Supervisor | None,
    ) -> None:
        self._continuation, self._storage, self._view = continuation, storage, view
        self._interruption, self._follower = interruption, follower
        self._folder, self._decisions = SweepFolder(storage.folder), Decisions()
        self.faults, self.writer = Faults(storage.folder), RecordWriter(storage.folder, view.warn)

    def fit(self, loggers: Sequence[LoggerCallback]) -> bool:
        """Run the trials. Returns whether Ray is alive at the end."""
        from ray.tune import TuneError

        from vagram_ray.sweep.run.callbacks import FollowTrials
        from vagram_ray.sweep.run.trials import TrialQueue, run_trials

        plan, todo, view = self._continuation.plan, self._continuation.todo, self._view
        for trial in todo:  # what it has done before counts: it did fit into memory
            self.faults.progressed(trial.name, self._continuation.epochs_done(trial))
        queue = TrialQueue(plan, [trial.name for trial in todo], self._storage, self.faults, self._replanned, view.warn)
        command = going_on_command(self._folder.read().get("launches", ()))
        with RayWatch(plan.machine.local, view.warn, command) as watch:
            further = self._trial_loggers(loggers) if loggers else None
            callback = FollowTrials(queue, self.faults, self.writer, view, watch, self._decisions, further)
            try:
                run_trials(queue, [callback], self._interruption, self._decisions, self._continuation.history)
            except RayLostError:
                return False
            except TuneError as error:
                view.warn(f"Tune cannot go on ({last_line(error)}).")
        return True

    def write_end(self, seconds: float | None) -> None:
        """Write how the launch ended, and the table of results. ``seconds`` is None where nothing was to be run."""
        results, stopped_by = SweepResults.load(self._storage.folder), self._decisions.ended_by
        complete = not self._failed and (bool(stopped_by) or results.complete)
        ended = INTERRUPTED if self._interruption.happened else COMPLETE if complete else INCOMPLETE
        self.writer.attempt(SWEEP_FILE, lambda: end_launch(self._folder, seconds, ended, self._failed, stopped_by))
        self.writer.attempt(RESULTS_FILE, results.write_csv)

    def finish_wandb(self, console: Console) -> None:
        """Wait until W&B has what the records have, as far as that can be."""
        if self._follower is not None:
            self._follower.finish(
                interrupted=self._interruption.happened,
                say=lambda sentence: console.print(sentence, soft_wrap=True),
                stopped=lambda: self._interruption.happened,
            )

    def outcome(self, seconds: float, *, ray_lost: bool) -> Outcome:
        """How the launch ended."""
        launches, sweep_id = self._folder.read().get("launches", ()), self._continuation.sweep_id
        return Outcome(
            seconds=seconds,
            failed=self._failed,
            interrupted=self._interruption.happened,
            offline_runs=() if self._follower is None else tuple(offline_runs(self._storage.folder, sweep_id)),
            launches=len(launches),
            total_seconds=total_seconds(launches),
            command=going_on_command(launches),
            ray_lost=ray_lost,
            reasons={name: self.faults.reason(name) for name in self._failed},
            unwritten=self.writer.describe_unwritten(),
        )

    @property
    def _failed(self) -> dict[str, str]:
        """Path of the error file of each trial that has failed for good, by name."""
        trials = self._view.progress.trials
        return {name: trial.error_path for name, trial in trials.items() if trial.status == FAILED}

    def _replanned(self, plan: SweepPlan, running: Collection[str]) -> None:
        """A pack was divided, a searcher has suggested a cell, or a trial gets a whole GPU."""
        self._view.progress.replanned(plan)
        self.writer.attempt(SWEEP_FILE, lambda: rewrite_plan(self._folder, plan, running))

    def _trial_loggers(self, loggers: Sequence[LoggerCallback]) -> TrialLoggers:
        from vagram_ray.sweep.run.loggers import TrialLoggers

        def axes(name: str) -> Mapping[str, Any]:
            return self._view.progress.trials[name].plan.cell.axes

        done = {name: reached.epochs for name, reached in self._continuation.trials.items()}
        return TrialLoggers(loggers, self._storage.folder, axes, done, self._view.warn)


def _begin(continuation: Continuation, storage: SweepStorage, wandb: WandbChoice, source: Source) -> None:
    """Write the copy of the sweep file, and ``sweep.json``."""
    plan, before = continuation.plan, continuation.recorded
    uri = storage.uri if storage.is_remote else None
    details = _details(plan, wandb, source.command, storage.name)
    try:
        if source.content is not None:
            write_atomically(storage.folder / SWEEP_FILE_COPY, source.content)
        running = [trial.name for trial in continuation.todo]
        content = plan_content(plan, running, before.resources if before else None)
        folder = SweepFolder(storage.folder)
        begin_launch(folder, content, continuation.sweep_id, details, recorded=before, storage=uri)
    except OSError as error:
        raise storage.not_writable(error) from error


def _progress(continuation: Continuation, storage: SweepStorage) -> SweepProgress:
    """Of the whole sweep: what earlier launches have recorded counts from the start."""
    progress = SweepProgress(continuation.plan)
    for trial in continuation.plan.trials:
        if epochs := continuation.epochs_done(trial):
            progress.restored(trial.name, SweepFolder(storage.folder).records(trial.name)[:epochs])
        if continuation.reached(trial).died_in is not None:
            progress.finished(trial.name)
    return progress


def last_line(error: TuneError) -> str:
    """What went wrong: Tune puts the text of a whole traceback into its error, whose last line says it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1].rstrip(".") if lines else type(error).__name__


def _start_wandb(storage: SweepStorage, wandb: WandbChoice) -> Supervisor | None:
    if wandb.mode == "disabled":
        return None
    supervisor = Supervisor(storage.folder, wandb.project, wandb.mode)
    supervisor.start()
    return supervisor


def _details(plan: SweepPlan, wandb: WandbChoice, command: str, name: str) -> dict[str, Any]:
    return {
        "command": command,
        "started": now(),
        "git_commit": git_commit(),
        "versions": versions(),
        "machine": describe_machine(plan.machine),
        "wandb": {"mode": wandb.mode, "project": wandb.project, "name": name},
    }
