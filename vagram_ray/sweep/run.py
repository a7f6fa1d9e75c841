"""Running a planned sweep with Ray Tune."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import shutil
import signal
import socket
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console

from vagram_ray.commands import exact_command
from vagram_ray.sweep.machine import Machine, describe_machine, git_commit, versions
from vagram_ray.sweep.plan import CellNamer, SweepPlan
from vagram_ray.sweep.progress import FAILED, ProgressView, SweepProgress
from vagram_ray.sweep.results import SweepResults, complete_sweep_file, write_sweep_file
from vagram_ray.sweep.spec import SWEEP_MODULE, SweepError, describe
from vagram_ray.sweep.storage import SweepStorage

OBJECT_STORE_BYTES = 256 * 2**20
"""Ray's shared memory on a local start: trials pass no large objects, and Ray's default is a third of the memory."""
MAX_FAILURES = 2
"""Times a failed trial is started again from its last checkpoint."""
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
        ray.init(
            "local",
            num_cpus=machine.cpus,
            num_gpus=machine.gpus,
            include_dashboard=False,
            object_store_memory=OBJECT_STORE_BYTES,
            **quiet,
        )
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
    plan: SweepPlan, storage: SweepStorage, wandb: WandbChoice, source: Path, console: Console, sweep_name: str
) -> Outcome:
    """Run all trials; Ray has to be there already. Writes the sweep's records as they come.

    Args:
        plan: What to run.
        storage: Where results go; its folder is created here.
        wandb: Mode and project.
        source: The sweep file, kept as a copy with the results.
        console: Where progress is shown.
        sweep_name: The sweep's own name, a tag in W&B beside the run's.
    """
    storage.create()
    shutil.copyfile(source, storage.folder / SWEEP_FILE_COPY)
    write_sweep_file(storage.folder, plan, _details(plan, wandb))
    progress = SweepProgress(plan)
    started = time.monotonic()
    with ProgressView(progress, console) as view, _stop_on_interrupt(console) as interruption:
        seed_runs = _seed_runs(plan, storage, wandb, sweep_name)
        _fit(plan, storage, progress, view, seed_runs)
        if seed_runs is not None:
            seed_runs.finish_all()
    seconds = time.monotonic() - started
    failed = {name: trial.error_path for name, trial in progress.trials.items() if trial.status == FAILED}
    end = {"wall_time_s": round(seconds, 1), "interrupted": interruption.happened, "failed_trials": failed}
    complete_sweep_file(storage.folder, end)
    SweepResults.load(storage.folder).write_csv()
    return Outcome(
        seconds=seconds,
        failed=failed,
        interrupted=interruption.happened,
        offline_runs=tuple(seed_runs.offline_runs()) if seed_runs is not None else (),
    )


def _fit(plan: SweepPlan, storage: SweepStorage, progress: SweepProgress, view: ProgressView, seed_runs: Any) -> None:
    import ray
    from ray import tune
    from ray.tune.logger import JsonLoggerCallback

    from vagram_ray.sweep.callbacks import RecordResults, ShowProgress
    from vagram_ray.sweep.search import PlannedTrials, TrialNamer

    if SWEEP_MODULE in sys.modules:  # classes of the sweep file travel to the trials by value
        ray.cloudpickle.register_pickle_by_value(sys.modules[SWEEP_MODULE])
    os.environ["RAY_AIR_NEW_OUTPUT"] = "0"  # the newer output prints a banner even when asked to be silent
    # Tune's progress.csv lacks the evaluations; result.json is what its ResultGrid reads.
    os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] = "1"
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # it repeats what the views and the summary say
    callbacks = [RecordResults(storage.folder), ShowProgress(progress, view), JsonLoggerCallback()]
    namer = TrialNamer(plan)
    algorithm: Any = plan.config.algo_class
    tuner = tune.Tuner(
        algorithm,
        param_space=plan.base_parameters(),
        tune_config=tune.TuneConfig(
            search_alg=PlannedTrials([trial.parameters for trial in plan.trials]),
            num_samples=len(plan.trials),
            # All trials wait in Tune's queue from the start, so that an autoscaler sees what is wanted.
            max_concurrent_trials=plan.max_concurrent or len(plan.trials),
            trial_name_creator=namer,
            trial_dirname_creator=namer,
        ),
        run_config=tune.RunConfig(
            name=storage.name,
            storage_path=storage.tune_path,
            stop={"training_iteration": plan.epochs},
            checkpoint_config=tune.CheckpointConfig(
                num_to_keep=2, checkpoint_frequency=plan.checkpoint_every, checkpoint_at_end=True
            ),
            failure_config=tune.FailureConfig(max_failures=MAX_FAILURES),
            callbacks=callbacks + ([seed_runs] if seed_runs is not None else []),
            log_to_file=True,
            sync_config=tune.SyncConfig(sync_artifacts=True),  # what trials print lies beside their results
            verbose=0,
        ),
    )
    tuner.fit()


def _seed_runs(plan: SweepPlan, storage: SweepStorage, wandb: WandbChoice, sweep_name: str) -> Any:
    if wandb.mode == "disabled":
        return None
    from vagram_ray.sweep.wandb_logging import WandbSeedRuns

    return WandbSeedRuns(
        project=wandb.project,
        sweep_name=storage.name,
        tags=[sweep_name, *([plan.scale] if plan.scale else [])],
        mode=wandb.mode,
        directory=storage.folder,
        cell_of=CellNamer.of(plan.cells),
    )


def _details(plan: SweepPlan, wandb: WandbChoice) -> dict[str, Any]:
    return {
        "command": exact_command("vagram_ray.sweep"),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "git_commit": git_commit(),
        "versions": versions(),
        "machine": describe_machine(plan.machine),
        "wandb": {"mode": wandb.mode, "project": wandb.project},
    }


@dataclass
class _Interruption:
    happened: bool = False


@contextlib.contextmanager
def _stop_on_interrupt(console: Console) -> Iterator[_Interruption]:
    """The first Ctrl-C ends the sweep in order, the second at once.

    Tune has the same logic, with a log message in its own words; it also listens to SIGUSR1, which is used here.
    """
    interruption = _Interruption()

    def on_interrupt(signal_number: int, frame: Any) -> None:
        if interruption.happened:
            raise KeyboardInterrupt
        interruption.happened = True
        console.print("Stopping the trials; press Ctrl-C again to leave at once.")
        os.kill(os.getpid(), signal.SIGUSR1)

    os.environ["TUNE_DISABLE_SIGINT_HANDLER"] = "1"
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGUSR1)
    # Until Tune listens to SIGUSR1 itself, its default action would end this process without a word.
    signal.signal(signal.SIGUSR1, signal.default_int_handler)
    signal.signal(signal.SIGINT, on_interrupt)
    try:
        yield interruption
    finally:
        signal.signal(signal.SIGINT, before[0])
        signal.signal(signal.SIGUSR1, before[1])
