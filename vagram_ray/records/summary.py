"""The summary of a sweep: the final return of every cell over its seeds, and which seeds are missing.

The final return of a seed is the mean of ``eval/episode_return`` over the evaluations in the last tenth of the
epochs, at least the last one that took place. A seed has one only when its trial went through all epochs and its
numbers stayed finite. Every other seed is named, and the sweep is then not complete. It counts as the worst final
return of its cell, but for a pending one, which is left out (:class:`vagram_ray.records.cells.CellResult`).

A trial that a scheduler or a stopper has ended is at its end there: the final returns of its seeds are of the last
tenth of the epochs that it did. They are named as such, and nothing is missing.
"""

from __future__ import annotations

from collections.abc import Iterator

from rich import box
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from vagram_ray.files import write_atomically
from vagram_ray.records.fit_limit import fit_limit_warning, shares_at_limit
from vagram_ray.records.folder import SUMMARY_CSV, SUMMARY_MARKDOWN
from vagram_ray.records.origin import definition, origin
from vagram_ray.records.results import SweepResults
from vagram_ray.records.seed_statistics import MIN_SEEDS
from vagram_ray.records.tables import (
    FINAL_NUMERIC,
    ReportTable,
    Row,
    csv_text,
    final_row,
    make_table,
    markdown,
    without_empty,
)
from vagram_ray.records.task_line import task_line
from vagram_ray.records.terminal import FirstThatFits, TaskLine, axis_names, short_name, short_title
from vagram_ray.text import markdown_text, plural

FEW_SEEDS = f"Intervals of fewer than {MIN_SEEDS} seeds are too narrow: they decide nothing."


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
    for column in FINAL_NUMERIC:
        table.add_column(column, justify="right", no_wrap=True)
    for cell in results.cells:
        _, shown = final_row(cell)
        iqm, interval, mean, seeds = (shown[name] for name in FINAL_NUMERIC)
        of_few = "dim" if cell.statistics.count < MIN_SEEDS else ""
        name = short_name(cell.label, cell.axes, axes) if short else cell.label
        red = "red" if cell.missing else ""
        table.add_row(name, iqm, Text(interval, style=of_few), mean, Text(seeds, style=red))
    return table


def print_summary(results: SweepResults, console: Console, *, failed: bool = False) -> None:
    """What was run, the end table, the verdict, and every seed that is missing, counts as the worst or early."""
    console.print(TaskLine(task_line(results.info)))
    if replaced := results.info.get("replaced_task"):
        console.print(Text(replaced, style="yellow"))
    console.print()
    console.print(render_summary(results))
    console.print(Text(f"Final return: {definition(results.info)}.", style="dim"))
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
    return csv_text(summary_table(results))


def summary_table(results: SweepResults) -> ReportTable:
    """The end table: a row per cell."""

    def rows() -> Iterator[Row]:
        for index, cell in enumerate(results.cells):
            data, text = final_row(cell)
            yield {"cell": cell.label, **data, "task": task_line(results.info, [index])}, {"cell": cell.label, **text}

    return make_table("summary", f"Final return: {definition(results.info)}", rows(), FINAL_NUMERIC)


def summary_markdown(results: SweepResults) -> str:
    """The end table as Markdown, with where its numbers come from."""
    told = [task_line(results.info), results.info.get("replaced_task")]
    parts = [f"# {results.name}", *(markdown_text(text) for text in told if text), verdict(results)]
    table = markdown(without_empty(summary_table(results), "notes")).strip()
    parts += [table, *warnings(results)]
    shown = {
        title: f"`{text}`" if title == "Command" else markdown_text(text) for title, text in origin(results).items()
    }
    facts = [f"- {title}: {text}" for title, text in shown.items()]
    return "\n\n".join([*parts, *([FEW_SEEDS] if _few_seeds(results) else []), "\n".join(facts)]) + "\n"
