"""The summary of a sweep: the final return of every cell over its seeds, and which seeds are missing.

The final return of a seed is the mean of ``eval/episode_return`` over the evaluations in the last tenth of the
epochs, at least the last one that took place. A seed has one only when its trial went through all epochs and its
numbers stayed finite. Every other seed is named, and the sweep is then not complete. It counts as the worst final
return of its cell, but for a pending one, which is left out (:class:`vagram_ray.records.cells.CellResult`).

A trial that a scheduler or a stopper has ended is at its end there: the final returns of its seeds are of the last
tenth of the epochs that it did. They are named as such, and nothing is missing.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Mapping
from typing import Any

from rich import box
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from vagram_ray.files import write_atomically
from vagram_ray.records.cells import CellResult
from vagram_ray.records.fit_limit import fit_limit_warning, shares_at_limit
from vagram_ray.records.folder import SUMMARY_CSV, SUMMARY_MARKDOWN
from vagram_ray.records.results import SweepResults
from vagram_ray.records.seed_statistics import MIN_SEEDS
from vagram_ray.records.task_line import task_line
from vagram_ray.records.terminal import FirstThatFits, TaskLine, axis_names, short_name, short_title
from vagram_ray.records.trials import final_window
from vagram_ray.text import csv_value, format_duration, format_number, format_seeds, markdown_row, markdown_text, plural

FEW_SEEDS = f"Intervals of fewer than {MIN_SEEDS} seeds are too narrow: they decide nothing."


def definition(info: Mapping[str, Any]) -> str:
    """One sentence on what a final return is in a sweep, by the content of its ``sweep.json``."""
    epochs, metric = info["epochs"], info["return_metric"]
    first = epochs - final_window(epochs) + 1
    where = f"epoch {first}" if first == epochs else f"epochs {first}-{epochs}"
    what = "evaluations" if metric.startswith("eval/") else "values"
    return (
        f"The final return of a seed is the mean of its {what} of {metric} in the last tenth of the epochs, "
        f"here {where}."
    )


def verdict(results: SweepResults) -> str:
    """One sentence on completeness."""
    cells = results.cells
    total = sum(len(cell.seeds) for cell in cells)
    there = sum(len(cell.final_returns) for cell in cells)
    stopped = sum(len(cell.stopped) for cell in cells)
    if not results.complete:
        return f"NOT COMPLETE: {there} of {total} seeds came to their end, counted over all cells."
    if results.ended_by:
        return (
            f"{results.ended_by} ended the sweep: {there - stopped} of {total} seeds had come to their last epoch, "
            f"{stopped} count with what they had reached."
        )
    who = " and ".join(dict.fromkeys(cell.stopped_by for cell in cells if cell.stopped_by))
    how = f", {stopped} of {total} early, stopped by {who}" if stopped else f" ({total} in all)"
    return f"Complete: every seed of {plural(len(cells), 'cell')} came to its end{how}."


def warnings(results: SweepResults) -> Iterator[str]:
    """One sentence per cell whose model fits reach their limit too often."""
    for index, label in enumerate(results.labels):
        records = (record for trial in results.cell_trials(index) for record in trial.records)
        if warning := fit_limit_warning(label, shares_at_limit(records)):
            yield warning


def render_summary(results: SweepResults) -> RenderableType:
    """The end table for the terminal."""
    return FirstThatFits(_end_table(results), _end_table(results, short=True))


def _end_table(results: SweepResults, short: bool = False) -> Table:
    axes = axis_names(cell.axes for cell in results.cells)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    table.title = f"Final return ({results.info['return_metric']})"
    table.title_justify, table.title_style = "left", "bold"
    table.add_column(short_title(axes) if short else "cell", overflow="fold")
    for column in ("IQM", "95 % interval", "mean +- s.e.", "seeds"):
        table.add_column(column, justify="right", no_wrap=True)
    for cell in results.cells:
        seeds = Text(cell.counts, style="red" if cell.missing else "")
        iqm, interval, mean = _numbers(cell)
        of_few = "dim" if cell.statistics.count < MIN_SEEDS else ""
        name = short_name(cell.label, cell.axes, axes) if short else cell.label
        table.add_row(name, iqm, Text(interval, style=of_few), mean, seeds)
    return table


def print_summary(results: SweepResults, console: Console, *, failed: bool = False) -> None:
    """What was run, the end table, the verdict, and every seed that is missing, counts as the worst or early."""
    console.print(TaskLine(task_line(results.info)))
    if replaced := results.info.get("replaced_task"):
        console.print(Text(replaced, style="yellow"))
    console.print()
    console.print(render_summary(results))
    console.print(Text(definition(results.info), style="dim"))
    if _few_seeds(results):
        console.print(Text(FEW_SEEDS, style="dim"))
    console.print()
    console.print(Text(verdict(results), style="green" if results.complete and not failed else "red"))
    for cell in results.cells:
        for text, style in ((cell.missing_in_words, "red"), (cell.notes, "yellow")):
            if text:
                console.print(Text(f"  {cell.label}: {text}", style=style), soft_wrap=True)
    for warning in warnings(results):
        console.print(Text(warning, style="yellow"), soft_wrap=True)


def _few_seeds(results: SweepResults) -> bool:
    return any(1 < cell.statistics.count < MIN_SEEDS for cell in results.cells)


def write_summary(results: SweepResults) -> None:
    """``summary.csv`` and ``summary.md`` in the sweep's folder."""
    write_atomically(results.folder / SUMMARY_CSV, summary_csv(results))
    write_atomically(results.folder / SUMMARY_MARKDOWN, summary_markdown(results))


def summary_csv(results: SweepResults) -> str:
    """One row per cell, full precision, empty where there are too few seeds."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    statistics = ("iqm", "low_95", "high_95", "mean", "standard_error")
    writer.writerow(["cell", *statistics, "num_seeds", "num_planned", "missing", "counted_as_worst", "notes", "task"])
    for index, cell in enumerate(results.cells):
        s = cell.statistics
        numbers = ["" if math.isnan(x) else repr(x) for x in (s.iqm, s.low, s.high, s.mean, s.standard_error)]
        seeds = [len(cell.final_returns), len(cell.seeds), cell.missing_in_words, format_seeds(cell.worst)]
        task = csv_value(task_line(results.info, [index]))
        writer.writerow([csv_value(cell.label), *numbers, *seeds, cell.notes, task])
    return buffer.getvalue()


def summary_markdown(results: SweepResults) -> str:
    """The end table as Markdown, with where its numbers come from."""
    info, cells = results.info, results.cells
    told = [text for text in (task_line(info), info.get("replaced_task")) if text]
    lines = [f"# {results.name}", "", *(line for text in told for line in (markdown_text(text), ""))]
    lines += [verdict(results), "", f"Final `{info['return_metric']}`:", ""]
    noted = any(cell.notes for cell in cells)
    header = ["cell", "IQM", "95 % interval", "mean +- s.e.", "seeds", "missing", *(["notes"] if noted else [])]
    lines += [markdown_row(header), markdown_row(["---"] + ["---:"] * 4 + ["---"] * (len(header) - 5))]
    for cell in cells:
        notes = [cell.notes] if noted else []
        lines.append(markdown_row([cell.label, *_numbers(cell), cell.counts, cell.missing_in_words, *notes]))
    told = [line for warning in warnings(results) for line in ("", warning)]
    few = [FEW_SEEDS, ""] if _few_seeds(results) else []
    return "\n".join([*lines, *told, "", definition(info), "", *few, *_origin(info)]) + "\n"


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


def _numbers(cell: CellResult) -> list[str]:
    s = cell.statistics
    interval = "-" if math.isnan(s.low) else f"[{format_number(s.low)}, {format_number(s.high)}]"
    error = "" if math.isnan(s.standard_error) else f" +- {format_number(s.standard_error)}"
    return [format_number(s.iqm), interval, format_number(s.mean) + error]
