"""The command line of ``python -m vagram_ray.sweep``."""

from __future__ import annotations

import os
import sys
from contextlib import nullcontext, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource
from rich.console import Console

from vagram_ray.commands import SETTINGS, Command, FiniteRange, make_console, version_option
from vagram_ray.sweep.packaged import SweepFile, copy_sweep_file, describe_sweep_file, packaged_sweeps
from vagram_ray.sweep.plan.overrides import apply_overrides, parse_assignments, parse_seeds, select_variants
from vagram_ray.sweep.spec import DEFAULT_SCALE, Sweep, SweepError, check_name, load_sweep_file
from vagram_ray.sweep.storage.folder import DEFAULT_STORAGE, SweepStorage

if TYPE_CHECKING:
    from vagram_ray.rllib import MBPOConfig
    from vagram_ray.sweep.plan.machine import Machine
    from vagram_ray.sweep.plan.plan import SweepPlan
    from vagram_ray.sweep.resume.continuation import Continuation
    from vagram_ray.sweep.run.interruption import Interruption
    from vagram_ray.sweep.run.ray_address import RayPlace
    from vagram_ray.sweep.run.run import Outcome, WandbChoice
    from vagram_ray.sweep.storage.lock import DriverLock

COMPLETE, INCOMPLETE = 0, 1
NEXT_STEPS = """\
vagram-sweep runs a sweep: every combination of its axes with every seed.

  vagram-sweep --list                           the paper's experiments, which come with the package
  vagram-sweep distractors --dry-run            the plan of one: cells, trials, memory, disk, time
  vagram-sweep distractors --scale smoke        run it small (two minutes); laptop is the default, paper the full size
  vagram-sweep --copy distractors my_sweep.py   write one out, to edit
  vagram-sweep my_sweep.py                      run a file of your own
  vagram-sweep --help                           every option

Then `vagram-report results/NAME` writes figures and the answer in words, and `vagram-play results/NAME/TRIAL` shows a
policy.
"""


@dataclass(frozen=True)
class Request:
    """What the command line asks for."""

    config_file: Path
    scale: str | None
    seeds: tuple[int, ...] | None
    epochs: int | None
    seeds_per_trial: int | None
    checkpoint_every: int | None
    assignments: tuple[str, ...]
    source: str | None
    source_parts: str | None
    name: str | None
    restart: bool
    storage: str
    address: str | None
    max_concurrent: int | None
    wandb: str
    wandb_project: str
    wandb_artifacts: tuple[str, ...]
    dry_run: bool
    gpus: int | None
    gpu_memory: float


def _seeds(context: click.Context, parameter: click.Parameter, value: str | None) -> tuple[int, ...] | None:
    return None if value is None else parse_seeds(value)


def _wandb_project(context: click.Context, parameter: click.Parameter, value: str) -> str:
    from vagram_ray.sweep.wandb.mode import check_project

    try:
        return check_project(value)
    except ValueError as error:
        raise SweepError(str(error)) from error


def _wandb_artifacts(context: click.Context, parameter: click.Parameter, value: str | None) -> tuple[str, ...]:
    from vagram_ray.sweep.wandb.mode import parse_artifacts

    try:
        return () if value is None else parse_artifacts(value)
    except ValueError as error:
        raise SweepError(str(error)) from error


_COUNT = click.IntRange(min=1)


@click.command(cls=Command, context_settings=SETTINGS)
@click.argument("config_file", metavar="CONFIG.py|NAME", type=SweepFile(), required=False)
@click.option("--list", "listed", is_flag=True, help="Show the packaged sweeps, and stop.")
@click.option(
    "--copy", nargs=2, type=(str, click.Path(path_type=Path)), metavar="NAME FOLDER|FILE",
    help="Write a packaged sweep file out to edit it, and stop.",
)  # fmt: skip
@click.option(
    "--scale", metavar="SCALE",
    help="A scale of the sweep file; those of the package have smoke, laptop, paper, some also workstation. "
    "The default is laptop.",
)  # fmt: skip
@click.option("--seeds", callback=_seeds, metavar="SEEDS", help="A number of seeds (8), a range (0-7) or a list (3,5).")
@click.option("--epochs", type=_COUNT, metavar="N", help="Training iterations of every trial.")
@click.option("--seeds-per-trial", type=_COUNT, metavar="N", help="Seeds trained together; chosen by default.")
@click.option(
    "--set", "assignments", multiple=True, metavar="KEY=VALUE",
    help="Change a key of MBPOConfig; KEY=grid(A,B) makes an axis of it. May be given several times.",
)  # fmt: skip
@click.option(
    "--from", "source", metavar="CHECKPOINT",
    help="Start all trials with the networks of this checkpoint, or of a trial's newest.",
)  # fmt: skip
@click.option(
    "--from-parts", "source_parts", metavar="PARTS",
    help="What to take over --from: some of actor,critics,model,normalizer,buffer; all but the last by default.",
)  # fmt: skip
@click.option("--name", metavar="NAME", help="Name of the results folder; the default is that of sweep and scale.")
@click.option("--restart", is_flag=True, help="Start anew; a sweep that is there is kept under another name.")
@click.option("--storage", default=DEFAULT_STORAGE, show_default=True, help="Directory or URI for all results.")
@click.option(
    "--address", envvar="RAY_ADDRESS", metavar="ADDRESS",
    help="Connect to this Ray (auto, HOST:PORT), or start one (local); by default the cluster that this machine is a "
    "node of, if it is one of any.",
)  # fmt: skip
@click.option("--max-concurrent", type=_COUNT, metavar="N", help="At most so many trials at a time.")
@click.option("--checkpoint-every", type=_COUNT, metavar="N", help="Epochs between checkpoints; by time by default.")
@click.option(
    "--wandb", type=click.Choice(["online", "offline", "disabled", "auto"]), default="auto", show_default=True,
    help="Weights & Biases; auto is online when you are logged in and offline otherwise.",
)  # fmt: skip
@click.option(
    "--wandb-project", callback=_wandb_project, default="vagram_ray", show_default=True, metavar="[ENTITY/]PROJECT",
    help="Project in Weights & Biases.",
)  # fmt: skip
@click.option(
    "--wandb-artifacts", callback=_wandb_artifacts, metavar="KINDS",
    help="Hand these to Weights & Biases at the end: some of figures,video,checkpoint, or all.",
)  # fmt: skip
@click.option("--dry-run", is_flag=True, help="Print the plan and stop.")
@click.option("--gpus", type=_COUNT, metavar="N", help="Plan for N GPUs that are not there yet.")
@click.option(
    "--gpu-memory", type=FiniteRange(min=0, min_open=True), default=80.0, show_default=True, metavar="GIB",
    help="Memory of each of the --gpus.",
)  # fmt: skip
@version_option()
@click.pass_context
def main(context: click.Context, /, listed: bool, copy: tuple[str, Path] | None, **options: Any) -> None:
    """Run the sweep that CONFIG.py defines, or a packaged one by its NAME; the same command again goes on with it.

    Exit status: 0 when every seed came to its end, 1 when some did not, 2 for input that cannot work.
    """
    console = make_console()
    if listed:
        _list_sweeps(console)
    elif copy is not None:
        target = copy_sweep_file(*copy)
        console.print(f"Wrote {target}. Edit it, and run it with: vagram-sweep {target}", soft_wrap=True)
    elif options["config_file"] is not None:
        sys.exit(launch(Request(**options), console))
    elif any(context.get_parameter_source(name) is ParameterSource.COMMANDLINE for name in options):
        raise SweepError("CONFIG.py is missing: give a sweep file, or the name of a packaged one (--list shows them).")
    else:
        console.print(NEXT_STEPS, soft_wrap=True, end="")


def _list_sweeps(console: Console) -> None:
    sweeps = packaged_sweeps()
    width = max(map(len, sweeps), default=0)
    for name, file in sweeps.items():
        console.print(f"{name:{width}}  {describe_sweep_file(file)}", soft_wrap=True)


def launch(request: Request, console: Console) -> int:
    """Plan and run a sweep; returns the exit status.

    Raises:
        SweepError: The input cannot work.
        SystemExit: A signal has come before anything was running.
    """
    from vagram_ray.sweep.run.interruption import stop_on_signals

    # Of processes that died the views tell in a line; Ray, which reads this when it is imported, in a paragraph.
    os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", ".")
    with stop_on_signals(console) as interruption:
        status, ray_lost = _launch(request, console, interruption)
        if ray_lost:  # Ray would wait for itself at the end
            sys.stdout.flush()
            os._exit(interruption.exit_status or status)
        return interruption.exit_status or status


def _launch(request: Request, console: Console, interruption: Interruption) -> tuple[int, bool]:
    """Exit status, and whether Ray has died."""
    from vagram_ray.sweep.plan.plan import check_gpu_memory
    from vagram_ray.sweep.plan.task import replaced_task
    from vagram_ray.sweep.resume.continuation import continue_sweep
    from vagram_ray.sweep.run.ray_address import find_ray
    from vagram_ray.sweep.run.ray_files import prepare_ray_files
    from vagram_ray.sweep.storage.lock import DriverLock

    sweep = load_sweep_file(request.config_file)
    sized, scale_overrides = _sized(sweep, request)
    variants, assignments = select_variants(sized.variants, parse_assignments(request.assignments))
    assignments |= _started_from(request)
    sized = replace(sized, variants=variants)
    config = _configured(sized, scale_overrides, assignments, request)
    storage = SweepStorage(request.storage, request.name or default_name(sweep.name, _scale(sweep, request)))
    _check_name(storage.name)
    storage.check(console.print)
    wandb_mode = _wandb_mode(request, storage)
    place = find_ray(request.address)
    request = replace(request, address=place.address)
    if request.address is None and not request.dry_run:
        prepare_ray_files()
    with nullcontext() if request.dry_run else DriverLock(storage, console.print) as lock:
        plan, machine = _plan(sized, config, {**scale_overrides, **assignments}, request, interruption)
        plan = replace(plan, replaced=replaced_task(sweep, plan))
        per_trial = request.seeds_per_trial
        shared = request.restart and _shared(plan, request, storage, lock)  # before the earlier sweep is set aside
        continuation = continue_sweep(plan, storage, lock, restart=request.restart, seeds_per_trial=per_trial)
        check_gpu_memory(continuation.plan, continuation.todo)
        if continuation.todo and not request.restart:
            shared = _shared(continuation.plan, request, storage, lock)
        _show_plan(continuation, storage, wandb_mode, request, place, shared, console)
        if not continuation.todo:
            console.print("Every trial has come to its end: nothing is left to run.")
        if request.dry_run:
            return COMPLETE, False

        from vagram_ray.sweep.run.local_ray import connect_to_ray
        from vagram_ray.sweep.run.run import WandbChoice, run_sweep

        if request.address is None and continuation.todo:
            connect_to_ray(None, machine, interruption)
        choice = WandbChoice(wandb_mode, request.wandb_project)
        outcome = run_sweep(continuation, storage, choice, request.config_file, console, interruption)
        return _finish(storage, outcome, console, choice, request.wandb_artifacts), outcome.ray_lost


def default_name(sweep_name: str, scale: str) -> str:
    """Name of a sweep's results that the command line does not name: the same command has the same."""
    return f"{sweep_name}-{scale}" if scale else sweep_name


def _scale(sweep: Sweep, request: Request) -> str:
    return "" if request.scale is None and not sweep.scales else request.scale or DEFAULT_SCALE


def _sized(sweep: Sweep, request: Request) -> tuple[Sweep, dict[str, Any]]:
    sized, overrides = sweep.at_scale(request.scale)
    asked = {key: getattr(request, key) for key in ("seeds", "epochs", "checkpoint_every")}
    try:
        return replace(sized, **{key: value for key, value in asked.items() if value is not None}), dict(overrides)
    except ValueError as error:
        raise SweepError(f"--{str(error).replace('checkpoint_every', 'checkpoint-every')}") from error


def _configured(
    sweep: Sweep, scale_overrides: dict[str, Any], assignments: dict[str, Any], request: Request
) -> MBPOConfig:
    from vagram_ray.sweep.plan.plan import resolve_extensions

    config = apply_overrides(sweep.config, scale_overrides, source="The override of the scale")
    config = resolve_extensions(config, request.config_file.parent)  # the file speaks of its own surroundings,
    config = apply_overrides(config, assignments, source="--set")
    return resolve_extensions(config, Path.cwd()) if "extensions" in assignments else config  # the user of theirs


def _started_from(request: Request) -> dict[str, Any]:
    """``--from`` and ``--from-parts`` as keys of the configuration, which a sweep's records hold."""
    if request.source is None:
        if request.source_parts is not None:
            raise SweepError(f"--from-parts {request.source_parts} needs --from CHECKPOINT.")
        return {}
    from vagram_ray.checkpoint import CheckpointError
    from vagram_ray.rllib.initialization import find_source

    try:
        found: dict[str, Any] = {"initial_checkpoint": find_source(request.source)}
    except CheckpointError as error:
        raise SweepError(f"--from: {str(error).removeprefix('initialize_from: ')}") from error
    if request.source_parts is not None:
        found["initial_parts"] = tuple(part.strip() for part in request.source_parts.split(","))
    return found


def _check_name(name: str) -> None:
    try:
        check_name(name)
    except ValueError as error:
        raise SweepError(f"--{error}") from error


def _wandb_mode(request: Request, storage: SweepStorage) -> str:
    from vagram_ray.sweep.wandb.mode import prepare_wandb

    try:
        mode = prepare_wandb(request.wandb, storage.folder)
    except ValueError as error:
        raise SweepError(str(error)) from error
    if request.wandb_artifacts and mode == "disabled":
        raise SweepError("--wandb-artifacts needs W&B, which is disabled: use --wandb offline or online.")
    return mode


def _plan(
    sweep: Sweep, config: MBPOConfig, overrides: dict[str, Any], request: Request, interruption: Interruption
) -> tuple[SweepPlan, Machine]:
    from vagram_ray.sweep.plan.plan import make_plan
    from vagram_ray.sweep.plan.probe import Prober

    machine = _machine(request, interruption)
    prober = Prober(machine, config.extensions)
    plan = make_plan(
        sweep,
        config,
        machine,
        scale=_scale(sweep, request),
        seeds_per_trial=request.seeds_per_trial,
        max_concurrent=request.max_concurrent,
        measure=prober,
        overrides=overrides,
    )
    return replace(plan, assumption=prober.note), machine


def _machine(request: Request, interruption: Interruption) -> Machine:
    """What the sweep is planned for; connects to Ray where an address is given."""
    from vagram_ray.sweep.plan.machine import assumed_machine, cluster_machine, local_machine

    if request.gpus is not None and request.address is None and not request.dry_run:
        raise SweepError(
            f"--gpus {request.gpus} plans for GPUs that are not there: add --dry-run to see the plan, or --address of "
            "a cluster that starts machines when trials ask for them."
        )
    if request.address is not None:
        from vagram_ray.sweep.run.local_ray import connect_to_ray

        connect_to_ray(request.address, interruption=interruption)
    if request.gpus is not None:
        machine = assumed_machine(request.gpus, request.gpu_memory)
        return (
            machine
            if request.address is None
            else replace(machine, nodes=max(cluster_machine().nodes, 1 + request.gpus))
        )
    return local_machine() if request.address is None else cluster_machine()


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
    from vagram_ray.records.summary import summarize_sweep, write_summary
    from vagram_ray.sweep.storage.remote import upload_all
    from vagram_ray.sweep.view.end import print_closing

    results = SweepResults.load(storage.folder)
    summary = summarize_sweep(results)
    with suppress(OSError):  # the disk is full or read-only: what it did not take is told below
        write_summary(summary, results)
    upload_all(storage)
    print_closing(summary, outcome, storage, console)
    if outcome.interrupted:
        return INCOMPLETE
    if wandb_artifacts:
        from vagram_ray.sweep.wandb.supervisor import hand_over_artifacts
        from vagram_ray.sweep.wandb.target import Target

        hand_over_artifacts(Target(storage.folder, wandb.project, storage.name), wandb_artifacts, console)
        upload_all(storage)  # the figures and films that were made
    return COMPLETE if summary.complete and not outcome.failed and not outcome.unwritten else INCOMPLETE
