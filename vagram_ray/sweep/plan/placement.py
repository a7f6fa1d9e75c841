"""``python -m vagram_ray.sweep.plan.placement CONFIG.py ... --gpus 1,8,64``: sweeps on GPUs that are not there yet.

Plans the sweeps and simulates how their trials would share so many GPUs, all waiting in one queue. Nothing is run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vagram_ray.commands import SETTINGS, Command, FiniteRange, make_console
from vagram_ray.sweep.packaged import SweepFile
from vagram_ray.sweep.spec import SweepError, load_sweep_file

if TYPE_CHECKING:
    from rich.console import Console

    from vagram_ray.sweep.plan.gpus import GpuNode
    from vagram_ray.sweep.plan.machine import Machine
    from vagram_ray.sweep.plan.plan import SweepPlan, TrialPlan
    from vagram_ray.sweep.plan.schedule import Schedule


def _counts(context: click.Context, parameter: click.Parameter, value: str) -> tuple[int, ...]:
    try:
        counts = tuple(int(part) for part in value.split(","))
    except ValueError:
        counts = ()
    if not counts or min(counts) < 1:
        raise SweepError(f"--gpus {value!r} is not usable: give numbers of GPUs such as 8, or several: 1,8,64.")
    return counts


@click.command(cls=Command, context_settings=SETTINGS)
@click.argument("files", metavar="[CONFIG.py|NAME ...]", nargs=-1, type=SweepFile())
@click.option("--gpus", callback=_counts, default="1,8,64", show_default=True, metavar="N,...", help="How many GPUs.")
@click.option(
    "--gpu-memory", type=FiniteRange(min=0, min_open=True), default=80.0, show_default=True,
    metavar="GIB", help="Memory of each GPU.",
)  # fmt: skip
@click.option(
    "--cpus-per-gpu", type=FiniteRange(min=0.25), default=8.0, show_default=True, metavar="N",
    help="Cores beside each GPU.",
)  # fmt: skip
@click.option("--scale", default="paper", show_default=True, metavar="SCALE", help="smoke, laptop or paper.")
@click.option(
    "--seeds-per-trial", type=click.IntRange(min=1), metavar="N", help="Seeds trained together; chosen by default."
)
@click.option(
    "--gpu-speed", type=click.Path(path_type=Path), metavar="FILE", help="Times on a GPU as --measure-speed wrote them."
)
@click.option(
    "--measure-speed", type=click.Path(path_type=Path), metavar="FILE",
    help="Time the sizes of these sweeps on this machine's GPU, and stop.",
)  # fmt: skip
def main(
    files: tuple[Path, ...],
    gpus: tuple[int, ...],
    gpu_memory: float,
    cpus_per_gpu: float,
    scale: str,
    seeds_per_trial: int | None,
    gpu_speed: Path | None,
    measure_speed: Path | None,
) -> None:
    """Simulate how the trials of sweeps would share GPUs: makespan and use of the GPUs; nothing is run."""
    from vagram_ray.sweep.plan.cost_source import write_costs
    from vagram_ray.sweep.plan.machine import assumed_machine
    from vagram_ray.sweep.plan.schedule_view import render_schedules, render_sweeps

    console = make_console()
    if not files:
        raise SweepError("CONFIG.py is missing: give sweep files, or names of packaged ones such as distractors.")
    machines = [assumed_machine(count, gpu_memory, cpus_per_gpu) for count in gpus]
    plans = [_plan(file, scale, machines[0], gpu_speed, seeds_per_trial) for file in files]
    if measure_speed is not None:
        console.print(write_costs(plans, measure_speed), soft_wrap=True)
        return
    console.print(render_sweeps(plans))
    console.print()
    schedules = [simulate_plans(plans, machine.gpu_nodes) for machine in machines]
    console.print(f"on GPUs of {gpu_memory:g} GiB with {cpus_per_gpu:g} CPUs each:")
    notes = dict.fromkeys(plan.assumption for plan in plans)
    console.print(render_schedules(schedules, " ".join(notes)))


def simulate_plans(plans: Sequence[SweepPlan], nodes: Sequence[GpuNode]) -> Schedule:
    """The trials of plans for GPUs, all in one queue, on these nodes; shares are chosen for all of them together."""
    from vagram_ray.sweep.plan.schedule import simulate
    from vagram_ray.sweep.plan.schedule_view import job_of

    trials = [(plan, trial) for plan in plans for trial in plan.trials]
    chosen = [plan.sharing for plan in plans if plan.sharing is not None]
    if len(chosen) < len(plans):  # shares of the user's own
        return simulate([job_of(plan, trial) for plan, trial in trials], nodes)
    sharing = replace(chosen[0], nodes=tuple(nodes))
    placements = sharing.place([plan.gpu_bytes(trial.cell.index, len(trial.seeds)) for plan, trial in trials])
    jobs = [job_of(plan, trial, each) for (plan, trial), each in zip(trials, placements, strict=True)]
    return simulate(jobs, nodes, sharing.max_concurrent)


def print_schedule(plan: SweepPlan, todo: Sequence[TrialPlan], console: Console) -> None:
    """How the trials that are still to be run would share the GPUs that a plan assumes; nothing for a plan on CPUs."""
    from vagram_ray.sweep.plan.schedule_view import render_schedules

    if todo and plan.resources["GPU"]:
        rest = plan.only({trial.name for trial in todo})
        console.print(render_schedules([simulate_plans([rest], plan.machine.gpu_nodes)]))
        console.print()


def _plan(
    file: Path, scale: str, machine: Machine, gpu_speed: Path | None, seeds_per_trial: int | None
) -> SweepPlan:
    """The plan of one sweep file, with the times that are known of such GPUs."""
    from vagram_ray.sweep.plan.cost_source import CostSource
    from vagram_ray.sweep.plan.overrides import apply_overrides
    from vagram_ray.sweep.plan.plan import make_plan, resolve_extensions
    from vagram_ray.sweep.plan.shares import check_placement

    sweep = load_sweep_file(file)
    sized, overrides = sweep.at_scale(scale if sweep.scales else None)
    config = apply_overrides(sized.config, overrides, source="The override of the scale")
    config = resolve_extensions(config, file.parent)
    costs = CostSource(machine, config.extensions, gpu_speed)
    plan = make_plan(
        sized,
        config,
        machine,
        scale=scale,
        seeds_per_trial=seeds_per_trial,
        measure=costs,
        overrides=dict(overrides),
    )
    if not plan.resources["GPU"]:
        raise SweepError(f"{str(file)!r} sets num_gpus_per_learner=0 and trains on CPUs: there is nothing to place.")
    check_placement(plan.trials, plan.sharing)
    return replace(plan, assumption=costs.note)


if __name__ == "__main__":
    main(prog_name="python -m vagram_ray.sweep.plan.placement")
