"""Running a planned sweep with Ray Tune."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import shutil
import socket
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console

from vagram_ray.commands import exact_command
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
from vagram_ray.records.results import RESULTS_FILE, SWEEP_FILE, SweepResults, read_info, read_records, rewrite_plan
from vagram_ray.records.summary import summarize_sweep
from vagram_ray.records.writer import RecordWriter
from vagram_ray.sweep.plan.machine import Machine, describe_machine, git_commit, versions
from vagram_ray.sweep.plan.plan import CellNamer, SweepPlan
from vagram_ray.sweep.resume.continuation import Continuation
from vagram_ray.sweep.run.faults import Faults
from vagram_ray.sweep.run.interruption import Interruption, spared_from_hangup, stop_on_signals
from vagram_ray.sweep.run.local_ray import remove_files_at_exit
from vagram_ray.sweep.spec import SweepError, describe
from vagram_ray.sweep.storage.folder import SweepStorage
from vagram_ray.sweep.storage.remote import DriverFiles
from vagram_ray.sweep.view.progress import FAILED, ProgressView, SweepProgress

OBJECT_STORE_BYTES = 256 * 2**20
"""Ray's shared memory on a local start: trials pass no large objects, and Ray's default is a third of the memory."""
SWEEP_FILE_COPY = "sweep_file.py"


@dataclass(frozen=True)
class WandbChoice:
    """How Weights & Biases is used: the settled mode and the project."""

    mode: str
    project: str


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
    exit_status: int = 0
    """128 and the number of the signal that stopped the sweep; 0 without one."""


def connect_to_ray(address: str | None, machine: Machine | None = None) -> None:
    """Connect to a running Ray at ``address``, or start one embedded in this process with the machine's resources.

    Raises:
        SweepError: There is no Ray at the address.
    """
    import ray

    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # or Ray warns about its future at every start
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address is None:
        assert machine is not None
        # Without its control process, Ray would wait for a minute before it gives up.
        os.environ.setdefault("RAY_gcs_rpc_server_reconnect_timeout_s", "20")
        # Ray's own logs, in its temporary folder: half a gigabyte each and five old ones of it by default.
        os.environ.setdefault("RAY_ROTATION_MAX_BYTES", str(16 * 2**20))
        os.environ.setdefault("RAY_ROTATION_BACKUP_COUNT", "1")
        try:
            with spared_from_hangup():
                ray.init(
                    "local",
                    num_cpus=machine.cpus,
                    num_gpus=machine.gpus,
                    include_dashboard=False,
                    object_store_memory=OBJECT_STORE_BYTES,
                    **quiet,
                )
        except Exception as error:  # a bare one where its processes do not answer in time
            reason = describe(error).rstrip(".")
            raise SweepError(
                f"Ray cannot be started on this machine ({reason}); it needs room for its files in RAY_TMPDIR "
                f"({os.environ.get('RAY_TMPDIR', '/tmp')}) and some memory."
            ) from error
        return
    try:
        _check_reachable(address)
        ray.init(address, **quiet)
    except Exception as error:  # Ray raises a different class for every way of not getting through
        reason = describe(error).rstrip(".")
        raise SweepError(
            f"There is no Ray at --address {address!r} ({reason}); start it with `ray start --head`, or leave "
            "--address (and RAY_ADDRESS) away to run on this machine."
        ) from error


def _check_reachable(address: str) -> None:
    """Try the port first: Ray itself goes on for minutes."""
    endpoint = re.fullmatch(r"(?:ray://)?(?P<host>[^:/]+):(?P<port>\d+)", address)
    if endpoint:
        socket.create_connection((endpoint["host"], int(endpoint["port"])), timeout=10).close()


def run_sweep(
    continuation: Continuation, storage: SweepStorage, wandb: WandbChoice, source: Path, console: Console
) -> Outcome:
    """Run the trials that are still to be run. Writes the sweep's records as they come.

    Ray has to be there already, unless nothing is to be run. The sweep's folder is there, and locked by this process.

    Args:
        continuation: The whole sweep and how far it has come.
        storage: Where results go.
        wandb: Mode and project.
        source: The sweep file, kept as a copy with the results.
        console: Where progress is shown.
    """
    todo = continuation.todo
    if todo:
        _begin(continuation, storage, wandb, source)
    logging.raiseExceptions = False  # a full disk is told of once, not for every line of a log
    progress = _progress(continuation, storage)
    started = time.monotonic()
    copying = DriverFiles(storage).uploading() if storage.is_remote else contextlib.nullcontext()
    with copying, ProgressView(progress, console) as view, stop_on_signals(console) as interruption:
        seed_runs = _seed_runs(continuation, storage, wandb)
        faults, writer = Faults(storage.folder), RecordWriter(storage.folder, view.warn)
        if todo:
            _fit(continuation, storage, view, seed_runs, interruption, faults, writer)
        if seed_runs is not None:
            seed_runs.finish_all()
        writer.flush()
    seconds = time.monotonic() - started if todo else None
    if todo and continuation.plan.machine.local and not faults.happened:
        remove_files_at_exit()  # otherwise they may tell more
    failed = {name: trial.error_path for name, trial in progress.trials.items() if trial.status == FAILED}
    results = SweepResults.load(storage.folder)
    complete = not failed and summarize_sweep(results).complete
    ended = INTERRUPTED if interruption.happened else COMPLETE if complete else INCOMPLETE
    writer.attempt(SWEEP_FILE, lambda: end_launch(storage.folder, seconds, ended, failed))
    writer.attempt(RESULTS_FILE, results.write_csv)
    # Trials that ended in an earlier launch may have been logged in part only; who stops a sweep need not wait for it.
    if seed_runs is not None and not interruption.happened:
        seed_runs.refill(failed, say=lambda sentence: console.print(sentence, soft_wrap=True))
    launches = read_info(storage.folder).get("launches", ())
    return Outcome(
        seconds=seconds or 0.0,
        failed=failed,
        interrupted=interruption.happened,
        offline_runs=tuple(seed_runs.offline_runs()) if seed_runs is not None else (),
        launches=len(launches),
        total_seconds=total_seconds(launches),
        command=going_on_command(launches),
        exit_status=interruption.exit_status,
        reasons={name: faults.reason(name) for name in failed},
        unwritten=writer.describe_unwritten(),
    )


def _begin(continuation: Continuation, storage: SweepStorage, wandb: WandbChoice, source: Path) -> None:
    """Write ``sweep.json`` and the copy of the sweep file."""
    plan, before = continuation.plan, continuation.recorded
    uri = storage.uri if storage.is_remote else None
    details = _details(plan, wandb)
    try:
        running = [trial.name for trial in continuation.todo]
        begin_launch(
            storage.folder, plan, continuation.sweep_id, details, recorded=before, running=running, storage=uri
        )
        shutil.copyfile(source, storage.folder / SWEEP_FILE_COPY)
    except OSError as error:
        raise storage.not_writable(error) from error


def _progress(continuation: Continuation, storage: SweepStorage) -> SweepProgress:
    """Of the whole sweep: what earlier launches have recorded counts from the start."""
    progress = SweepProgress(continuation.plan)
    for trial in continuation.plan.trials:
        if epochs := continuation.epochs_done(trial):
            progress.restored(trial.name, read_records(storage.folder, trial.name)[:epochs])
    return progress


def _fit(
    continuation: Continuation,
    storage: SweepStorage,
    view: ProgressView,
    seed_runs: Any,
    interruption: Interruption,
    faults: Faults,
    writer: RecordWriter,
) -> None:
    """Run the trials."""
    from vagram_ray.sweep.run.callbacks import RecordResults, ShowProgress
    from vagram_ray.sweep.run.trials import run_trials

    def replanned(plan: SweepPlan, running: Collection[str]) -> None:
        view.progress.replanned(plan)
        writer.attempt(SWEEP_FILE, lambda: rewrite_plan(storage.folder, plan, running))

    callbacks: list[Any] = [RecordResults(writer), ShowProgress(view.progress, view, faults)]
    names = [trial.name for trial in continuation.todo]
    for trial in continuation.todo:  # what it has done before counts: it did fit into memory
        faults.progressed(trial.name, continuation.epochs_done(trial))
    callbacks += [seed_runs] if seed_runs is not None else []
    run_trials(continuation.plan, names, storage, callbacks, faults, interruption, replanned, view.warn)


def _seed_runs(continuation: Continuation, storage: SweepStorage, wandb: WandbChoice) -> Any:
    if wandb.mode == "disabled":
        return None
    from vagram_ray.sweep.wandb.logging import WandbSeedRuns

    plan = continuation.plan
    return WandbSeedRuns(
        project=wandb.project,
        sweep_name=storage.name,
        sweep_id=continuation.sweep_id,
        tags=[plan.name, *([plan.scale] if plan.scale else [])],
        mode=wandb.mode,
        directory=storage.folder,
        cell_of=CellNamer.of(plan.cells),
    )


def _details(plan: SweepPlan, wandb: WandbChoice) -> dict[str, Any]:
    return {
        "command": exact_command("vagram_ray.sweep"),
        "started": now(),
        "git_commit": git_commit(),
        "versions": versions(),
        "machine": describe_machine(plan.machine),
        "wandb": {"mode": wandb.mode, "project": wandb.project},
    }
