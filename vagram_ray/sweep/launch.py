"""Launching a sweep, for the command and for ``Sweep.run``."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from vagram_ray.sweep.request import Request, asked_sweep, default_name, scale_of
from vagram_ray.sweep.spec import Sweep, SweepError, check_name
from vagram_ray.sweep.storage.folder import SweepStorage
from vagram_ray.sweep.sweep_file import load_sweep_file

if TYPE_CHECKING:
    from ray.tune.logger import LoggerCallback

    from vagram_ray.sweep.plan.machine import Machine
    from vagram_ray.sweep.plan.plan import SweepPlan
    from vagram_ray.sweep.resume.continuation import Continuation
    from vagram_ray.sweep.run.interruption import Interruption
    from vagram_ray.sweep.run.ray_address import RayPlace
    from vagram_ray.sweep.run.run import Outcome, WandbChoice
    from vagram_ray.sweep.storage.lock import DriverLock

COMPLETE, INCOMPLETE = 0, 1


def launch(request: Request, console: Console) -> int:
    """Plan and run a sweep for a command; returns the exit status.

    Raises:
        SweepError: The input cannot work.
        SystemExit: A signal has come before anything was running.
    """
    from vagram_ray.sweep.run.interruption import end_process, stop_on_signals

    # Of processes that died the views tell in a line; Ray, which reads this when it is imported, in a paragraph.
    os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", ".")
    with stop_on_signals(console) as interruption:
        launched = plan_and_run(request, console, interruption)
        if launched.ray_lost:  # Ray would wait for itself at the end
            end_process(lambda: interruption.exit_status or launched.status)
    return interruption.exit_status or launched.status  # read when no signal is noted any more, or one would be lost


@dataclass(frozen=True)
class Launched:
    """How a launch ended."""

    folder: Path
    """Where the records are."""
    status: int = COMPLETE
    ray_lost: bool = False
    """Whether Ray has died."""


def plan_and_run(request: Request, console: Console, interruption: Interruption) -> Launched:
    """Plan what is asked for, and run what of it is still to be run.

    Raises:
        SweepError: The input cannot work.
    """
    from vagram_ray.sweep.plan.plan import check_gpu_memory
    from vagram_ray.sweep.plan.task import replaced_task
    from vagram_ray.sweep.resume.continuation import continue_sweep, set_aside
    from vagram_ray.sweep.run.ray_address import current_ray, find_ray
    from vagram_ray.sweep.run.ray_files import prepare_ray_files
    from vagram_ray.sweep.storage.lock import DriverLock

    sweep = request.sweep or load_sweep_file(request.config_file or "")
    content = request.config_file.read_bytes() if request.config_file is not None else None
    asked, overrides = asked_sweep(sweep, request)
    storage = SweepStorage(request.storage, request.name or default_name(sweep.name, scale_of(sweep, request)))
    _check_name(storage.name)
    storage.check(console.print)
    wandb_mode = _wandb_mode(request, storage)
    loggers = _loggers(request)
    place = (current_ray() if request.sweep is not None else None) or find_ray(request.address)
    request = replace(request, address=place.address)
    if request.address is None and not request.dry_run:
        prepare_ray_files()
    with nullcontext() if request.dry_run else DriverLock(storage, console.print) as lock:
        plan = _plan(asked, overrides, request, interruption)
        plan = replace(plan, replaced=replaced_task(sweep, plan))
        per_trial = request.seeds_per_trial
        continuation = continue_sweep(plan, storage, lock, restart=request.restart, seeds_per_trial=per_trial)
        check_gpu_memory(continuation.plan, continuation.todo)
        shared = bool(continuation.todo) and _shared(continuation.plan, request, storage, lock)
        _show_plan(continuation, storage, wandb_mode, request, place, shared, console)
        if not continuation.todo:
            console.print("Every trial has come to its end: nothing is left to run.")
        if request.dry_run:
            return Launched(storage.folder)

        from vagram_ray.sweep.run.local_ray import connect_to_ray
        from vagram_ray.sweep.run.run import Source, WandbChoice, run_sweep

        if request.address is None and continuation.todo:
            connect_to_ray(None, plan.machine, interruption)
        if continuation.aside is not None and lock is not None:  # now that nothing refuses any more
            set_aside(storage, lock, continuation.aside)
        choice, source = WandbChoice(wandb_mode, request.wandb_project), Source(content, request.command)
        outcome = run_sweep(continuation, storage, choice, source, console, interruption, loggers)
        status = _finish(storage, outcome, console, choice, request.wandb_artifacts)
        return Launched(storage.folder, status, outcome.ray_lost)


def _check_name(name: str) -> None:
    try:
        check_name(name)
    except ValueError as error:
        raise SweepError(f"--{error}") from error


def _wandb_mode(request: Request, storage: SweepStorage) -> str:
    from vagram_ray.sweep.wandb.mode import check_project, prepare_wandb

    try:
        check_project(request.wandb_project)
        mode = prepare_wandb(request.wandb, storage.folder)
    except ValueError as error:
        raise SweepError(str(error)) from error
    if request.wandb_artifacts and mode == "disabled":
        raise SweepError("--wandb-artifacts needs W&B, which is disabled: use --wandb offline or online.")
    return mode


def _loggers(request: Request) -> Sequence[LoggerCallback]:
    if not request.log:
        return ()
    from vagram_ray.sweep.run.loggers import make_loggers

    return make_loggers(request.log)


def _plan(sweep: Sweep, overrides: dict[str, Any], request: Request, interruption: Interruption) -> SweepPlan:
    from vagram_ray.sweep.plan.plan import make_plan
    from vagram_ray.sweep.plan.probe import measure_costs

    machine = _machine(request, interruption)
    return make_plan(
        sweep,
        machine,
        scale=scale_of(sweep, request),
        seeds_per_trial=request.seeds_per_trial,
        max_concurrent=request.max_concurrent,
        measure=partial(measure_costs, machine, sweep.config.extensions),
        overrides=overrides,
    )


def _machine(request: Request, interruption: Interruption) -> Machine:
    """What the sweep is planned for; connects to Ray where an address is given."""
    from vagram_ray.sweep.plan.machine import assumed_machine, cluster_machine, local_machine

    if request.gpus is not None and request.address is None and not request.dry_run:
        raise SweepError(
            f"--gpus {request.gpus} plans for GPUs that are not there: add --dry-run to see the plan, or --address of "
            "a cluster that starts machines when trials ask for them."
        )
    there = None
    if request.address is not None:
        from vagram_ray.sweep.run.local_ray import connect_to_ray

        connect_to_ray(request.address, interruption=interruption)
        there = cluster_machine()
    if request.gpus is None:
        return there or local_machine()
    machine = assumed_machine(request.gpus, request.gpu_memory)
    return machine if there is None else replace(machine, nodes=max(there.nodes, 1 + request.gpus))


def _shared(plan: SweepPlan, request: Request, storage: SweepStorage, lock: DriverLock | None) -> bool:
    """Whether all nodes of the cluster were asked and see the sweep's folder; a dry run makes none, so asks none."""
    from vagram_ray.sweep.storage.shared_storage import shared_by_all

    if lock is None or request.address is None or storage.is_remote:
        return False
    lock.hold()
    return shared_by_all(storage, plan)


def _show_plan(
    continuation: Continuation,
    storage: SweepStorage,
    wandb_mode: str,
    request: Request,
    place: RayPlace,
    shared: bool,
    console: Console,
) -> None:
    from vagram_ray.sweep.view.plan import Surroundings, render_plan

    wandb = "disabled" if wandb_mode == "disabled" else f"{wandb_mode}, project {request.wandb_project}"
    folder = storage.uri if storage.is_remote else storage.shown
    console.print(render_plan(continuation, Surroundings(folder, wandb, storage.free_bytes(), place.shown, shared)))
    console.print()


def _finish(
    storage: SweepStorage, outcome: Outcome, console: Console, wandb: WandbChoice, wandb_artifacts: tuple[str, ...]
) -> int:
    from vagram_ray.records.results import SweepResults
    from vagram_ray.records.summary import write_summary
    from vagram_ray.sweep.storage.remote import upload_all
    from vagram_ray.sweep.view.end import print_closing

    results = SweepResults.load(storage.folder)
    with suppress(OSError):  # the disk is full or read-only: what it did not take is told below
        write_summary(results)
    upload_all(storage)
    print_closing(results, outcome, storage, console)
    if outcome.interrupted:
        return INCOMPLETE
    if wandb_artifacts:
        from vagram_ray.sweep.wandb.artifacts import hand_over_artifacts

        hand_over_artifacts(storage.folder, wandb.project, wandb_artifacts, console)
        upload_all(storage)  # the figures and films that were made
    return COMPLETE if results.complete and not outcome.failed and not outcome.unwritten else INCOMPLETE
