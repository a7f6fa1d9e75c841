"""What a sweep found: the final return of every cell over its seeds, and which seeds are missing.

The final return of a seed is the mean of ``eval/episode_return`` over the evaluations in the last tenth of the
epochs, at least the last one that took place. A seed has one only when its trial went through all epochs and its
numbers stayed finite. Every other seed is named, and the sweep is then not complete. It counts as the worst final
return of its cell, but for a seed whose trial may still report, which is left out (:func:`is_pending`).

A trial that a scheduler or a stopper has ended is at its end there: the final returns of its seeds are of the last
tenth of the epochs that it did. They are named as such, and nothing is missing.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rich import box
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from vagram_ray.files import write_atomically
from vagram_ray.records.fit_limit import fit_limit_warning, shares_at_limit
from vagram_ray.records.folder import SUMMARY_CSV, SUMMARY_MARKDOWN, epoch_of_death
from vagram_ray.records.recorded import cell_axes
from vagram_ray.records.results import SweepResults, TrialRecords, final_window
from vagram_ray.records.seed_statistics import MIN_SEEDS, SeedStatistics, counted_returns, summarize
from vagram_ray.records.task_line import task_line
from vagram_ray.records.terminal import FirstThatFits, TaskLine, axis_names, short_name, short_title
from vagram_ray.text import csv_value, format_duration, format_number, format_seeds, markdown_row, markdown_text, plural

FEW_SEEDS = f"Intervals of fewer than {MIN_SEEDS} seeds are too narrow: they decide nothing."


@dataclass(frozen=True)
class CellSummary:
    """Final returns of one cell."""

    label: str
    returns: Mapping[int, float]
    """Final return by seed, of the seeds that came to their end."""
    missing: Mapping[int, str]
    """Why a seed has no final return, by seed."""
    statistics: SeedStatistics
    """Over ``returns`` and, with the worst of them, the ``lost`` seeds."""
    early: Mapping[int, int] = field(default_factory=dict)
    """The epoch of the value used, by seed, where it lies before the last tenth."""
    axes: Mapping[str, Any] = field(default_factory=dict)
    task: str = ""
    """What this cell ran, in one line."""
    lost: tuple[int, ...] = ()
    """The missing seeds that will get no final return in this launch. The others are pending."""
    stopped: Mapping[int, int] = field(default_factory=dict)
    """The last epoch, by seed, of those that a scheduler or stopper has ended before the sweep's last."""
    stopped_by: str = ""
    """Which one; empty where none did."""
    not_begun: tuple[int, ...] = ()
    """The missing seeds whose trials had not reported when a stopper ended the whole sweep: none of them is lost."""

    @property
    def worst(self) -> tuple[int, ...]:
        """The seeds that count as the worst of the cell: the lost ones, if any seed came to its end."""
        return self.lost if self.returns else ()

    @property
    def num_seeds(self) -> int:
        """Seeds that were planned."""
        return len(self.returns) + len(self.missing)


@dataclass(frozen=True)
class SweepSummary:
    """All cells of a sweep."""

    name: str
    return_metric: str
    epochs: int
    cells: tuple[CellSummary, ...]
    task: str = ""
    """What was run, in one line (``records.task_line``)."""
    replaced_task: str = ""
    """The task that the sweep's scale ran in place of the experiment's own, in one line; empty if it did not."""
    unfinished: int = 0
    """Trials that lack epochs and have a seed left: running the sweep's command again goes on with them."""
    warnings: tuple[str, ...] = ()
    """One sentence per cell whose model fits reach their limit too often."""
    ended_by: str = ""
    """The stopper that ended the whole sweep; empty where none did."""

    @property
    def complete(self) -> bool:
        """Whether every planned seed of every cell counts; those of a search's stopped trials do."""
        return not any(set(cell.missing) - set(cell.not_begun) for cell in self.cells)

    @property
    def definition(self) -> str:
        """One sentence on what a final return is here."""
        first = self.epochs - final_window(self.epochs) + 1
        where = f"epoch {first}" if first == self.epochs else f"epochs {first}-{self.epochs}"
        what = "evaluations" if self.return_metric.startswith("eval/") else "values"
        return (
            f"The final return of a seed is the mean of its {what} of {self.return_metric} in the last tenth of the "
            f"epochs, here {where}."
        )

    @property
    def verdict(self) -> str:
        """One sentence on completeness."""
        total = sum(cell.num_seeds for cell in self.cells)
        there = sum(len(cell.returns) for cell in self.cells)
        stopped = sum(len(cell.stopped) for cell in self.cells)
        if self.complete and self.ended_by:
            return (
                f"{self.ended_by} ended the sweep: {there - stopped} of {total} seeds had come to their last epoch, "
                f"{stopped} count with what they had reached."
            )
        if self.complete:
            who = " and ".join(dict.fromkeys(cell.stopped_by for cell in self.cells if cell.stopped_by))
            how = f", {stopped} of {total} early, stopped by {who}" if stopped else f" ({total} in all)"
            return f"Complete: every seed of {plural(len(self.cells), 'cell')} came to its end{how}."
        return f"NOT COMPLETE: {there} of {total} seeds came to their end, counted over all cells."


def summarize_sweep(results: SweepResults, *, ended: bool | None = None) -> SweepSummary:
    """Summary of a sweep's folder, finished or not.

    Args:
        results: The sweep.
        ended: Whether the trials of the newest launch have ended, so that no seed is pending. By default what
            ``sweep.json`` says, which is written a little later than they end.
    """
    metric, epochs = results.info["return_metric"], results.info["epochs"]
    over = results.ended if ended is None else ended
    ended_by = results.ended_by if over else ""
    cells = tuple(_summarize_cell(results, cell, over, ended_by) for cell in range(len(results.labels)))
    unfinished = sum(trial.unfinished(epochs) and not epoch_of_death(trial.records) for trial in results.trials)
    warnings = tuple(filter(None, (_fit_limit(results, index, label) for index, label in enumerate(results.labels))))
    name = results.info.get("name") or results.folder.resolve().name
    return SweepSummary(
        name,
        metric,
        epochs,
        cells,
        task=task_line(results.info),
        replaced_task=results.info.get("replaced_task", ""),
        unfinished=unfinished,
        warnings=warnings,
        ended_by=ended_by,
    )


def _summarize_cell(results: SweepResults, cell: int, over: bool, ended_by: str) -> CellSummary:
    """One cell; ``over``: whether its trials have ended, ``ended_by``: the stopper that ended the sweep, or empty."""
    metric, epochs = results.info["return_metric"], results.info["epochs"]
    returns: dict[int, float] = {}
    missing: dict[int, str] = {}
    early: dict[int, int] = {}
    lost: list[int] = []
    stopped: dict[int, int] = {}
    not_begun: list[int] = []
    names: dict[str, None] = {}
    for trial in map(results.at_the_end, results.cell_trials(cell)):
        end = trial.last_epoch(epochs)
        for seed in trial.seeds:
            value, problem = trial.final_return(seed, metric, epochs)
            if problem:
                missing[seed] = problem
                if ended_by and not trial.records and not trial.damage:
                    not_begun.append(seed)
                elif not is_pending(trial, seed, epochs, over):
                    lost.append(seed)
                continue
            returns[seed] = value
            last = int(trial.series(seed, metric)[0][-1])
            if end < epochs:
                stopped[seed] = end
                names[trial.stopped_by] = None
            if last <= end - final_window(end):
                early[seed] = last
    return CellSummary(
        label=results.labels[cell],
        returns=returns,
        missing=missing,
        statistics=summarize(list(counted_returns(returns, lost).values())),
        early=early,
        axes=cell_axes(results.info, cell),
        task=task_line(results.info, [cell]),
        lost=tuple(sorted(lost)),
        stopped=stopped,
        stopped_by=" and ".join(names),
        not_begun=tuple(sorted(not_begun)),
    )


def _fit_limit(results: SweepResults, cell: int, label: str) -> str:
    records = (record for trial in results.cell_trials(cell) for record in trial.records)
    return fit_limit_warning(label, shares_at_limit(records))


def is_pending(trial: TrialRecords, seed: int, epochs: int, ended: bool) -> bool:
    """Whether a seed without a final return may still get one: the launch runs, and so does its trial, without NaN.

    Args:
        trial: The records of the seed's trial.
        seed: The seed.
        epochs: Epochs of every trial.
        ended: Whether the newest launch has ended.
    """
    return not ended and trial.failed_at(seed) is None and trial.epochs_done < trial.last_epoch(epochs)


def render_summary(summary: SweepSummary) -> RenderableType:
    """The end table for the terminal."""
    return FirstThatFits(_end_table(summary), _end_table(summary, short=True))


def _end_table(summary: SweepSummary, short: bool = False) -> Table:
    axes = axis_names(cell.axes for cell in summary.cells)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    table.title, table.title_justify, table.title_style = f"Final return ({summary.return_metric})", "left", "bold"
    table.add_column(short_title(axes) if short else "cell", overflow="fold")
    for column in ("IQM", "95 % interval", "mean +- s.e.", "seeds"):
        table.add_column(column, justify="right", no_wrap=True)
    for cell in summary.cells:
        seeds = Text(f"{len(cell.returns)}/{cell.num_seeds}", style="red" if cell.missing else "")
        iqm, interval, mean = _numbers(cell)
        of_few = "dim" if cell.statistics.count < MIN_SEEDS else ""
        name = short_name(cell.label, cell.axes, axes) if short else cell.label
        table.add_row(name, iqm, Text(interval, style=of_few), mean, seeds)
    return table


def print_summary(summary: SweepSummary, console: Console, *, failed: bool = False) -> None:
    """What was run, the end table, the verdict, and every seed that is missing, counts as the worst or early."""
    console.print(TaskLine(summary.task))
    if summary.replaced_task:
        console.print(Text(summary.replaced_task, style="yellow"))
    console.print()
    console.print(render_summary(summary))
    console.print(Text(summary.definition, style="dim"))
    if any(1 < cell.statistics.count < MIN_SEEDS for cell in summary.cells):
        console.print(Text(FEW_SEEDS, style="dim"))
    console.print()
    console.print(Text(summary.verdict, style="green" if summary.complete and not failed else "red"))
    for cell in summary.cells:
        for text, style in ((describe_missing(cell), "red"), (describe_notes(cell), "yellow")):
            if text:
                console.print(Text(f"  {cell.label}: {text}", style=style), soft_wrap=True)
    for warning in summary.warnings:
        console.print(Text(warning, style="yellow"), soft_wrap=True)


def describe_missing(cell: CellSummary) -> str:
    """``seeds 2,5 became NaN in epoch 7; seed 6 never reported``."""
    return _by_reason(cell.missing)


def describe_early(cell: CellSummary) -> str:
    """``seed 3 counts with its last value, of epoch 5``."""
    return _by_reason({seed: f"counts with the last value, of epoch {epoch}" for seed, epoch in cell.early.items()})


def describe_worst(cell: CellSummary) -> str:
    """``seeds 2,5 count as the worst final return of the cell, -144``."""
    if not cell.worst:
        return ""
    seeds = f"seed {cell.worst[0]} counts" if len(cell.worst) == 1 else f"seeds {format_seeds(cell.worst)} count"
    return f"{seeds} as the worst final return of the cell, {format_number(min(cell.returns.values()))}"


def describe_stopped(cell: CellSummary) -> str:
    """``stopped by AsyncHyperBandScheduler after epoch 3``."""
    if not cell.stopped:
        return ""
    epochs = sorted(set(cell.stopped.values()))
    return f"stopped by {cell.stopped_by} after epoch {' and '.join(map(str, epochs))}"


def describe_notes(cell: CellSummary) -> str:
    """What there is to know of the seeds that count."""
    return "; ".join(text for text in (describe_stopped(cell), describe_worst(cell), describe_early(cell)) if text)


def _by_reason(reasons: Mapping[int, str]) -> str:
    by_reason: dict[str, list[int]] = {}
    for seed, reason in reasons.items():
        by_reason.setdefault(reason, []).append(seed)
    parts = (f"{'seeds' if len(s) > 1 else 'seed'} {format_seeds(sorted(s))} {r}" for r, s in by_reason.items())
    return "; ".join(parts)


def write_summary(summary: SweepSummary, results: SweepResults) -> None:
    """``summary.csv`` and ``summary.md`` in the sweep's folder."""
    write_atomically(results.folder / SUMMARY_CSV, summary_csv(summary))
    write_atomically(results.folder / SUMMARY_MARKDOWN, summary_markdown(summary, results.info))


def summary_csv(summary: SweepSummary) -> str:
    """One row per cell, full precision, empty where there are too few seeds."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    statistics = ("iqm", "low_95", "high_95", "mean", "standard_error")
    writer.writerow(["cell", *statistics, "num_seeds", "num_planned", "missing", "counted_as_worst", "notes", "task"])
    for cell in summary.cells:
        s = cell.statistics
        numbers = ["" if math.isnan(x) else repr(x) for x in (s.iqm, s.low, s.high, s.mean, s.standard_error)]
        seeds = [len(cell.returns), cell.num_seeds, describe_missing(cell), format_seeds(cell.worst)]
        task = csv_value(cell.task)
        writer.writerow([csv_value(cell.label), *numbers, *seeds, describe_notes(cell), task])
    return buffer.getvalue()


def summary_markdown(summary: SweepSummary, info: Mapping[str, Any]) -> str:
    """The end table as Markdown, with where its numbers come from: ``info`` is the content of ``sweep.json``."""
    told = [text for text in (summary.task, summary.replaced_task) if text]
    lines = [f"# {summary.name}", "", *(line for text in told for line in (markdown_text(text), ""))]
    lines += [summary.verdict, "", f"Final `{summary.return_metric}`:", ""]
    noted = any(describe_notes(cell) for cell in summary.cells)
    header = ["cell", "IQM", "95 % interval", "mean +- s.e.", "seeds", "missing", *(["notes"] if noted else [])]
    lines += [markdown_row(header), markdown_row(["---"] + ["---:"] * 4 + ["---"] * (len(header) - 5))]
    for cell in summary.cells:
        seeds = f"{len(cell.returns)}/{cell.num_seeds}"
        notes = [describe_notes(cell)] if noted else []
        lines.append(markdown_row([cell.label, *_numbers(cell), seeds, describe_missing(cell), *notes]))
    warnings = [line for warning in summary.warnings for line in ("", warning)]
    few = [FEW_SEEDS, ""] if any(1 < cell.statistics.count < MIN_SEEDS for cell in summary.cells) else []
    return "\n".join([*lines, *warnings, "", summary.definition, "", *few, *_origin(info)]) + "\n"


def _origin(info: Mapping[str, Any]) -> list[str]:
    machine = info.get("machine", {})
    parts = [
        machine.get("processor"),
        *(f"{machine[kind]} {kind[:-1].upper()}s" for kind in ("cpus", "gpus") if kind in machine),
    ]
    seconds = info.get("wall_time_s")
    until = " (until it was interrupted)" if info.get("interrupted") else ""
    launches = len(info.get("launches", ()))
    until = f" in {launches} launches{until}" if launches > 1 else until
    rows = {
        "Command": f"`{info['command']}`" if "command" in info else None,
        "Seeds": format_seeds(info["seeds"]),
        "Epochs": info["epochs"],
        "Machine": ", ".join(part for part in parts if part) or None,
        "Wall time": None if seconds is None else format_duration(seconds) + until,
        "Started": info.get("started"),
        "Commit": info.get("git_commit"),
    }
    return [f"- {title}: {value}" for title, value in rows.items() if value is not None]


def _numbers(cell: CellSummary) -> list[str]:
    s = cell.statistics
    interval = "-" if math.isnan(s.low) else f"[{format_number(s.low)}, {format_number(s.high)}]"
    error = "" if math.isnan(s.standard_error) else f" +- {format_number(s.standard_error)}"
    return [format_number(s.iqm), interval, format_number(s.mean) + error]
