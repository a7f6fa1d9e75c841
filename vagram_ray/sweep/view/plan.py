"""The plan of a sweep as a table on the terminal."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from vagram_ray.checkpoint.history import Kept
from vagram_ray.records.seed_statistics import fewest_seeds, most_comparisons
from vagram_ray.records.terminal import FirstThatFits, TaskLine, axis_names, short_name, short_title
from vagram_ray.sweep.plan.packing import makespan
from vagram_ray.sweep.plan.plan import SweepPlan, TrialPlan
from vagram_ray.sweep.plan.planned_cells import PlannedCell
from vagram_ray.sweep.plan.tuning import describe_stop, name_of
from vagram_ray.sweep.resume.continuation import Continuation, describe_new
from vagram_ray.text import format_bytes, format_duration, format_seeds, plural, short_path

MAX_ROWS = 40
_COLUMNS = ("env steps", "trials", "seeds each", "memory", "disk", "time")


@dataclass(frozen=True)
class _Layout:
    """What of the table of cells is shown; the first that fits the terminal is taken."""

    axis_names: bool
    """Whether every row repeats the names of the axes; otherwise they stand above the column."""
    left_out: tuple[str, ...] = ()
    """Columns whose sums stand below the table."""


_LAYOUTS = (_Layout(axis_names=True), _Layout(axis_names=False), _Layout(False, ("seeds each", "disk")))


@dataclass(frozen=True)
class Surroundings:
    """What the plan says about where results go; ``free_disk`` is ``None`` where it cannot be told."""

    folder: str
    wandb: str
    free_disk: int | None = None
    ray: str = ""
    """Which Ray runs the trials (``vagram_ray.sweep.run.ray_address``); empty where that goes without saying."""
    shared: bool = False
    """Whether all nodes of the cluster see the folder (``vagram_ray.sweep.storage.shared_storage``)."""


def render_plan(continuation: Continuation, surroundings: Surroundings) -> RenderableType:
    """Headline, table of cells, what the whole sweep needs, and what of it an earlier launch has done."""
    plan = continuation.plan
    parts: list[RenderableType] = [_headline(plan), TaskLine(plan.task)]
    if plan.replaced:
        parts.append(Text(plan.replaced, style="yellow"))
    if plan.description:
        parts.append(Text(plan.description, style="italic"))
    parts += ["", FirstThatFits(*(_cell_table(continuation, layout) for layout in _LAYOUTS))]
    parts.append(Text("env steps of one seed; memory and time of one trial; disk of all trials of the cell", "dim"))
    parts += ["", _totals(continuation, surroundings)]
    parts += [Text(f"Going on: {sentence}") for sentence in describe_new(continuation)]
    notes = [*continuation.notes, *plan_warnings(plan.with_trials(continuation.todo), surroundings)]
    parts += [Text(f"Note: {note}", style="yellow") for note in notes]
    return Group(*parts)


def plan_warnings(plan: SweepPlan, surroundings: Surroundings) -> list[str]:
    """Sentences about needs of these trials that this machine may not meet."""
    warnings = []
    memory = plan.machine.memory_bytes
    if memory is not None and plan.sharing is None and plan.memory_bytes > 0.9 * memory:
        warnings.append(
            f"the trials may need {format_bytes(plan.memory_bytes)} of memory at the end, and there are "
            f"{format_bytes(memory)}; lower --max-concurrent, or give replay_capacity or rollouts_per_step with --set."
        )
    free = surroundings.free_disk
    if free is not None and plan.disk_bytes > 0.9 * free:
        warnings.append(
            f"results and checkpoints may need {format_bytes(plan.disk_bytes)} of disk, and {format_bytes(free)} "
            "are free; choose another --storage."
        )
    on_a_disk = "://" not in surroundings.folder or surroundings.folder.startswith("file://")
    if plan.machine.nodes > 1 and on_a_disk and not surroundings.shared:
        warnings.append(
            f"results go to the directory {surroundings.folder}, and trials may run on "
            f"{plan.machine.nodes} machines: unless all of them share that directory, each keeps its checkpoints to "
            "itself and they are lost with it; give --storage s3://BUCKET/PATH."
        )
    if plan.assumption:
        warnings.append(plan.assumption)
    return [*warnings, *plan.environment_notes]


def _headline(plan: SweepPlan) -> Text:
    samples = plan.samples
    cells = plural(len(plan.cells), "cell") if samples is None else plural(samples.num_samples, "sample")
    shape = f"{cells} x {plural(len(plan.seeds), 'seed')} x {plural(plan.epochs, 'epoch')}"
    return Text.assemble((plan.name, "bold"), f" at scale {plan.scale}: {shape}" if plan.scale else f": {shape}")


def _cell_table(continuation: Continuation, layout: _Layout) -> Table:
    plan, goes_on = continuation.plan, continuation.recorded is not None
    axes = axis_names(cell.axes for cell in plan.cells)
    columns = [*_COLUMNS, *(["so far"] if goes_on else [])]
    shown = [column for column in columns if column not in layout.left_out]
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    table.add_column("cell" if layout.axis_names else short_title(axes), overflow="fold")
    for column in shown:
        title = "GPU memory" if column == "memory" and plan.sharing else column
        table.add_column(title, justify="left" if column == "so far" else "right")
    for cell in plan.cells[:MAX_ROWS]:
        values = _row(continuation, cell)
        name = cell.label if layout.axis_names else short_name(cell.label, cell.axes, axes)
        table.add_row(name, *(values[column] for column in shown))
    if len(plan.cells) > MAX_ROWS:
        table.add_row(f"... and {len(plan.cells) - MAX_ROWS} more")
    return table


def _row(continuation: Continuation, cell: PlannedCell) -> dict[str, str]:
    """What the table says of a cell, by column."""
    plan = continuation.plan
    trials = plan.cell_trials(cell)
    steps = cell.workload.env_steps(plan.epochs)
    return {
        "env steps": f"{steps:,}",
        "trials": str(len(trials)),
        "seeds each": " ".join(dict.fromkeys(str(len(trial.seeds)) for trial in trials)),
        "memory": format_bytes(max(_memory_bytes(plan, trial) for trial in trials)),
        "disk": format_bytes(sum(trial.estimate.disk_bytes for trial in trials)),
        "time": format_duration(max(trial.estimate.seconds for trial in trials)),
        "so far": _so_far(continuation, trials),
    }


def _so_far(continuation: Continuation, trials: Sequence[TrialPlan]) -> str:
    """``finished``, or ``1 finished, 2 going on, 1 new`` where the trials of a cell differ."""
    counts = {state: count for state, count in continuation.counts(trials).items() if count}
    if len(counts) == 1:
        return next(iter(counts))
    return ", ".join(f"{count} {state}" for state, count in counts.items())


def _totals(continuation: Continuation, surroundings: Surroundings) -> Table:
    plan, todo = continuation.plan, continuation.todo
    left = plan.with_trials(todo)
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim")
    grid.add_column(overflow="fold")
    each = " + ".join(f"{amount:g} {kind}" for kind, amount in plan.resources.items() if amount)
    memory = plan.machine.memory_bytes
    free = surroundings.free_disk
    grid.add_row("machine", _machine(plan))
    if surroundings.ray:
        grid.add_row("Ray", surroundings.ray)
    slots = left.slots
    together = f", {slots} at a time, each with {each}" if todo else ""
    more = f", and {plan.to_come} to be suggested" if plan.to_come else ""
    grid.add_row("trials", f"{len(plan.trials)}{more}{together}")
    for title, text in _tuning(plan):
        grid.add_row(title, text)
    if continuation.recorded is not None:
        grid.add_row("so far", _progress(continuation))
    grid.add_row("seeds", _seeds(plan))
    if sources := _sources(plan):
        grid.add_row("starts from", sources)
    grid.add_row("checkpoints", _checkpoints(plan))
    of_memory = f" of {format_bytes(memory)}" if memory is not None else ""
    if todo and plan.sharing is None:
        grid.add_row("memory", f"about {format_bytes(left.memory_bytes)}{of_memory} with {slots} at a time")
    if todo:
        of_free = f" of {format_bytes(free)} free" if free else ""
        grid.add_row("disk", f"about {format_bytes(left.disk_bytes)}{of_free}")
    grid.add_row("time", _time_left(continuation, slots) if todo else "nothing is left to run")
    grid.add_row("results", surroundings.folder)
    grid.add_row("W&B", surroundings.wandb)
    return grid


def _seeds(plan: SweepPlan) -> str:
    """The seeds, and whether they are too few to tell cells apart: each may be compared with one method's."""
    shown, most = format_seeds(plan.seeds), most_comparisons(len(plan.seeds))
    if plan.tuning is not None or len(plan.cells) - 1 <= most:
        return shown
    if not most:
        return f"{shown}: too few to tell cells apart, no difference can be firm with fewer than {fewest_seeds()}"
    enough = fewest_seeds(len(plan.cells) - 1)
    among = f"among more than {plural(most, 'comparison')}"
    return f"{shown}: no difference can be firm {among}; {enough} seeds are enough here"


def _tuning(plan: SweepPlan) -> Iterator[tuple[str, str]]:
    """What decides over the trials, and what cannot be known before."""
    tuning = plan.tuning
    if tuning is None:
        return
    by = f"by {tuning.metric}, mode {tuning.mode}"
    if (samples := tuning.samples) is not None:
        known = f"{len(plan.cells)} of {plural(samples.num_samples, 'sample')} are known"
        yield "search", f"{samples.name}, {by}: {known}, the others are suggested while the sweep runs"
    if tuning.scheduler is not None:
        yield "scheduler", f"{name_of(tuning.scheduler)}, {by}: which trials it stops early is not known"
    if tuning.stop is not None:
        yield "stop", describe_stop(tuning.stop)


def _time_left(continuation: Continuation, slots: int) -> str:
    plan, todo = continuation.plan, continuation.todo
    left = [continuation.seconds_left(trial) for trial in todo]
    if plan.to_come and todo:
        left += [todo[-1].estimate.seconds] * plan.to_come
        slots = max(slots, min(plan.capacity, len(left)))
    known = [seconds for seconds in left if math.isfinite(seconds)]
    if len(known) < len(left):
        others = f"and what {plural(len(left) - len(known), 'trial')} of unmeasured size will take"
        about = format_duration(makespan(known, slots))
        return f"about {about}, {others}" if known else "unknown until the first epochs have run"
    most = "at most about" if plan.tuning is not None and plan.tuning.stops_early else "about"
    return f"{most} {format_duration(makespan(left, slots))} (by measured updates, fits and environment steps)"


def _memory_bytes(plan: SweepPlan, trial: TrialPlan) -> int:
    """Of the GPU where the plan chooses the share of one, else of the machine."""
    if plan.sharing is None:
        return trial.estimate.memory_bytes
    return plan.gpu_bytes(trial.cell.index, len(trial.seeds))


def _progress(continuation: Continuation) -> str:
    """``2 finished, 1 going on, 1 new (since 2026-11-22 12:00, 2 launches)``."""
    recorded, plan = continuation.recorded, continuation.plan
    assert recorded is not None
    counts = ", ".join(f"{count} {state}" for state, count in continuation.counts(plan.trials).items() if count)
    started = str(recorded.launches[0].get("started", ""))[:16].replace("T", " ")
    number = len(recorded.launches)
    launches = plural(number, "launch", "launches")
    return f"{counts} (since {started} UTC, {launches})" if started else f"{counts} ({launches})"


def _sources(plan: SweepPlan) -> str:
    """The checkpoints that trials start from, one a line."""
    found = {cell.settings.get("initial_checkpoint"): cell.settings.get("initial_parts") for cell in plan.cells}
    return "\n".join(f"{short_path(path)} ({', '.join(parts)})" for path, parts in found.items() if path and parts)


def _checkpoints(plan: SweepPlan) -> str:
    by_time = "every minute, or less often where that would take more than 2 % of the time"
    every = by_time if plan.checkpoint_every == "auto" else f"every {plural(plan.checkpoint_every, 'epoch')}"
    kept = plan.config.checkpoints_kept if plan.config is not None else 2
    return f"{every}, and at the end; {Kept.of(kept)} {'is' if kept == 1 else 'are'} kept"


def _machine(plan: SweepPlan) -> str:
    machine = plan.machine
    parts = [machine.description, plural(machine.cpus, "CPU core" if machine.local else "CPU")]
    if machine.gpus:
        parts.append(plural(machine.gpus, "GPU"))
    return ", ".join(parts)
