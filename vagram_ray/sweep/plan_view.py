"""The plan of a sweep as a table on the terminal."""

from __future__ import annotations

from dataclasses import dataclass

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from vagram_ray.sweep.plan import SweepPlan
from vagram_ray.sweep.text import format_bytes, format_duration, format_seeds, plural

MAX_ROWS = 40


@dataclass(frozen=True)
class Surroundings:
    """What the plan says about where results go; ``free_disk`` is ``None`` where it cannot be told."""

    folder: str
    wandb: str
    free_disk: int | None = None


def render_plan(plan: SweepPlan, surroundings: Surroundings) -> RenderableType:
    """Headline, table of cells, and what the whole sweep needs."""
    parts: list[RenderableType] = [_headline(plan)]
    if plan.description:
        parts.append(Text(plan.description, style="italic"))
    parts += ["", _cell_table(plan)]
    parts.append(Text("env steps of one seed; memory and time of one trial; disk of all trials of the cell", "dim"))
    parts += ["", _totals(plan, surroundings)]
    parts += [Text(f"Note: {warning}", style="yellow") for warning in plan_warnings(plan, surroundings)]
    return Group(*parts)


def plan_warnings(plan: SweepPlan, surroundings: Surroundings) -> list[str]:
    """Sentences about needs that this machine may not meet."""
    warnings = []
    memory = plan.machine.memory_bytes
    if memory is not None and plan.memory_bytes > 0.9 * memory:
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
    return warnings


def _headline(plan: SweepPlan) -> Text:
    shape = f"{plural(len(plan.cells), 'cell')} x {plural(len(plan.seeds), 'seed')} x {plural(plan.epochs, 'epoch')}"
    return Text.assemble((plan.name, "bold"), f" at scale {plan.scale}: {shape}" if plan.scale else f": {shape}")


def _cell_table(plan: SweepPlan) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    table.add_column("cell", overflow="fold")
    for column in ("env steps", "trials", "seeds each", "memory", "disk", "time"):
        table.add_column(column, justify="right")
    for cell in plan.cells[:MAX_ROWS]:
        trials = plan.cell_trials(cell)
        steps = plan.warmup_steps[cell.index] + plan.epochs * plan.epoch_steps[cell.index]
        table.add_row(
            cell.label,
            f"{steps:,}",
            str(len(trials)),
            " ".join(dict.fromkeys(str(len(trial.seeds)) for trial in trials)),
            format_bytes(max(trial.estimate.memory_bytes for trial in trials)),
            format_bytes(sum(trial.estimate.disk_bytes for trial in trials)),
            format_duration(max(trial.estimate.seconds for trial in trials)),
        )
    if len(plan.cells) > MAX_ROWS:
        table.add_row(f"... and {len(plan.cells) - MAX_ROWS} more", *[""] * 6)
    return table


def _totals(plan: SweepPlan, surroundings: Surroundings) -> Table:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim")
    grid.add_column(overflow="fold")
    each = " + ".join(f"{amount:g} {kind}" for kind, amount in plan.resources.items() if amount)
    memory = plan.machine.memory_bytes
    free = surroundings.free_disk
    grid.add_row("machine", _machine(plan))
    grid.add_row("trials", f"{len(plan.trials)}, {plan.slots} at a time, each with {each}")
    grid.add_row("seeds", format_seeds(plan.seeds))
    grid.add_row("checkpoints", f"every {plural(plan.checkpoint_every, 'epoch')} and at the end; the last two are kept")
    of_memory = f" of {format_bytes(memory)}" if memory is not None else ""
    grid.add_row("memory", f"about {format_bytes(plan.memory_bytes)}{of_memory} with {plan.slots} at a time")
    grid.add_row("disk", f"about {format_bytes(plan.disk_bytes)}" + (f" of {format_bytes(free)} free" if free else ""))
    grid.add_row("time", f"about {format_duration(plan.seconds)} (an estimate, within a factor of two on a quiet CPU)")
    grid.add_row("results", surroundings.folder)
    grid.add_row("W&B", surroundings.wandb)
    return grid


def _machine(plan: SweepPlan) -> str:
    machine = plan.machine
    parts = [machine.description, plural(machine.cpus, "CPU core" if machine.local else "CPU")]
    if machine.gpus:
        parts.append(plural(machine.gpus, "GPU"))
    return ", ".join(parts)
