"""Simulated schedules as tables on the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from vagram_ray.sweep.plan.estimates import START_SECONDS, environment_seconds
from vagram_ray.sweep.plan.plan import SweepPlan, TrialPlan
from vagram_ray.sweep.plan.schedule import Job, Schedule
from vagram_ray.sweep.plan.shares import Placement
from vagram_ray.text import format_bytes, format_duration


def job_of(plan: SweepPlan, trial: TrialPlan, placement: Placement | None = None) -> Job:
    """A trial of a plan for the GPU as a job of a schedule, with another share than the plan's if one is given.

    All its time but that of environment steps is taken to need the GPU: nobody has measured how much of it the GPU
    computes, so trials that share one cost each other no more than this.
    """
    placement, costs, seconds = placement or trial.placement, plan.costs.get(trial.cell.index), trial.estimate.seconds
    stepping = 0.0
    if costs is not None:
        workload = plan.workloads[trial.cell.index]
        stepping = START_SECONDS + environment_seconds(workload, len(trial.seeds), plan.epochs, costs)
    own = placement.cpus if placement is not None else None
    return Job(
        trial.name,
        seconds,
        seconds - stepping,
        placement.gpus if placement is not None else plan.resources["GPU"],
        plan.resources["CPU"] if own is None else own,
        plan.gpu_bytes(trial.cell.index, len(trial.seeds)),
        placement.kind if placement is not None else None,
    )


def render_schedules(schedules: Sequence[Schedule], assumption: str = "") -> RenderableType:
    """One row per schedule, what the columns mean, and what the times rest on."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for column in ("GPUs", "trials", "shares", "makespan", "longest trial", "needed", "occupied", "memory",
                   "at once"):  # fmt: skip
        table.add_column(column, justify="right", no_wrap=True)
    for schedule in schedules:
        table.add_row(
            f"{schedule.num_gpus:,}",
            f"{len(schedule.runs):,}",
            _range([run.job.gpus for run in schedule.runs]),
            *(_times(schedule) if schedule.timed else ["unknown"] * 5),
            str(schedule.most_together),
        )
    explanation = (
        "shares: of a GPU, that trials ask for; longest trial: beside its neighbors; needed (by all but environment "
        "steps), occupied by a trial, memory: of all GPU time until the end; at once: most trials on one GPU"
    )
    source = f"Simulated: {assumption}" if assumption else "Simulated, with the times of the plan above."
    return Group(table, Text(explanation, "dim"), Text(source, "yellow"))


def _times(schedule: Schedule) -> list[str]:
    """Makespan, longest trial, and shares of all GPU time."""
    longest = max((run.end - run.start for run in schedule.runs), default=0.0)
    shares = [f"{share:.0%}" for share in (schedule.busy, schedule.occupied, schedule.memory)]
    return [format_duration(schedule.makespan), format_duration(longest), *shares]


def render_sweeps(plans: Sequence[SweepPlan]) -> RenderableType:
    """One row per sweep: what its trials need when each has a GPU to itself."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    table.add_column("sweep", overflow="fold")
    for column in ("cells", "seeds", "trials", "most memory", "longest alone", "all alone"):
        table.add_column(column, justify="right", no_wrap=True)
    for plan in plans:
        jobs = [job_of(plan, trial) for trial in plan.trials]
        seconds = [job.seconds for job in jobs]
        table.add_row(
            plan.name,
            str(len(plan.cells)),
            str(len(plan.seeds)),
            str(len(plan.trials)),
            format_bytes(max(job.memory_bytes for job in jobs)),
            format_duration(max(seconds)),
            format_duration(sum(seconds)),
        )
    explanation = "most memory, longest alone: of one trial, with a GPU to itself; all alone: all trials, one by one"
    return Group(table, Text(explanation, "dim"))


def _range(shares: Sequence[float]) -> str:
    least, most = min(shares, default=0.0), max(shares, default=0.0)
    return f"{least:g}" if least == most else f"{least:g} to {most:g}"
