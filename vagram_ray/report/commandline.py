"""The command line of ``python -m vagram_ray.report``."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from vagram_ray.commands import INTERRUPTED, SETTINGS, Command, InputError, check_output, make_console, not_writable
from vagram_ray.records.folder import SWEEP_FILE
from vagram_ray.report.curves import Comparison, with_reference
from vagram_ray.report.merging import load_comparison
from vagram_ray.text import plural, short_path

REPORT_FOLDER = "report"


@click.command(cls=Command, context_settings=SETTINGS)
@click.argument("sources", metavar="PATH [MORE...]", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--output", metavar="DIR", type=click.Path(path_type=Path),
    help="Folder of the report; the default is PATH/report, or a folder report beside the first of several PATHs.",
)  # fmt: skip
@click.option("--watch", is_flag=True, help="Show the progress of a running sweep until it ends, then report.")
@click.option(
    "--metric", "metrics", metavar="NAME", multiple=True,
    help="Draw this metric too, such as model/validation_loss. May be given several times.",
)  # fmt: skip
@click.option(
    "--reference", metavar="NAME",
    help="The method that the others are held against; the default is vagram, else the first.",
)  # fmt: skip
@click.option(
    "--margin", metavar="RETURN", type=click.FloatRange(min=0, min_open=True),
    help="Differences up to this count as none in tests of equivalence; the default is a tenth of the panel's way.",
)  # fmt: skip
@click.option("--wandb", metavar="ENTITY/PROJECT", help="Also build a Weights & Biases workspace with the same panels.")
def main(**options: Any) -> None:
    """Write the report of sweeps: the answer in words, tables, figures and one HTML page.

    A PATH is the folder of a sweep, a CSV file in the long format, a folder of mbrl-lib's results, or the folder of a
    Tune experiment. A search is ranked. Several PATHs become one report. The sweep may still be running.

    Exit status: 0 when the report is written, 2 for input that cannot work, 130 after Ctrl-C.
    """
    console = make_console()
    try:
        report(console=console, **options)
    except KeyboardInterrupt:
        console.print("Interrupted; what is watched goes on.")
        sys.exit(INTERRUPTED)
    sys.exit(0)


def report(
    sources: Sequence[Path],
    output: Path | None,
    watch: bool,
    metrics: Sequence[str],
    reference: str | None,
    margin: float | None,
    wandb: str | None,
    console: Console,
) -> Path:
    """Write a report. Returns the path of its page.

    Raises:
        InputError: The input cannot work, or the folder cannot be written.
    """
    folder = output or default_output(sources)
    if wandb is not None:
        from vagram_ray.report.wandb_workspace import check_ready

        check_ready(wandb)
    if watch:
        _watch(sources, console)
    check_output(folder)
    comparison = load_comparison(sources)
    if len(sources) == 1 and comparison.experiments[0].search and reference is None and not metrics and wandb is None:
        return _report_search(comparison, folder, console)
    comparison = replace(with_reference(comparison, reference), margin=margin)
    if wandb is not None:
        from vagram_ray.report.wandb_workspace import check_logged

        check_logged(comparison)
    from vagram_ray.records.tables import write_tables
    from vagram_ray.report.figures import check_metrics, draw_figures
    from vagram_ray.report.page import write_page
    from vagram_ray.report.tables import report_tables
    from vagram_ray.report.text import task_lines
    from vagram_ray.report.verdict import verdict

    check_metrics(comparison, metrics)
    task = task_lines(comparison)
    console.print("\n".join(task), style="bold")
    for line in dict.fromkeys(facts.replaced_task for facts in comparison.experiments if facts.replaced_task):
        console.print(line, style="yellow")
    console.print()
    _print_answer(verdict(comparison), console)
    try:
        with console.status("Drawing ...") if console.is_terminal else contextlib.nullcontext():
            tables = write_tables(report_tables(comparison), folder, " | ".join(task))
            figures = draw_figures(comparison, folder, metrics)
            page = write_page(comparison, figures, folder)
    except OSError as error:
        raise not_writable(folder, error) from error
    _print_places(folder, page, len(figures), tables, console)
    if wandb is not None:
        _build_workspace(comparison, wandb, console)
    return page


def _report_search(comparison: Comparison, folder: Path, console: Console) -> Path:
    """Write the report of a search."""
    from vagram_ray.report.search import Search
    from vagram_ray.report.search_page import print_answer, write_search

    search = Search(comparison)
    try:
        with console.status("Drawing ...") if console.is_terminal else contextlib.nullcontext():
            page, figures, tables, sentences = write_search(search, folder)
    except OSError as error:
        raise not_writable(folder, error) from error
    print_answer(search, sentences, console)
    _print_places(folder, page, len(figures), tables, console)
    return page


def default_output(sources: Sequence[Path]) -> Path:
    """``PATH/report`` for one folder, else a folder ``report`` beside the first source."""
    first = sources[0]
    return first / REPORT_FOLDER if len(sources) == 1 and first.is_dir() else first.parent / REPORT_FOLDER


def _watch(sources: Sequence[Path], console: Console) -> None:
    from vagram_ray.report.watch import watch_sweep

    if len(sources) > 1:
        raise InputError(f"--watch shows one sweep, and {len(sources)} were named; give one folder.")
    named = sources[0]
    watch_sweep(named.parent if named.name == SWEEP_FILE else named, console)
    console.print()


def _print_answer(sentences: Sequence[str], console: Console) -> None:
    answer = Table.grid(padding=(0, 1))
    for sentence in sentences:
        answer.add_row("-", Text(sentence))
    console.print(answer)
    console.print()


def _print_places(folder: Path, page: Path, figures: int, tables: Sequence[Path], console: Console) -> None:
    kinds = ", ".join(f"*{suffix}" for suffix in sorted({path.suffix for path in tables}))
    places = {
        "report": short_path(page),
        "figures": f"{short_path(folder)}/*.png, *.pdf ({plural(figures, 'figure')})",
        "tables": f"{short_path(folder)}/{kinds}",
    }
    for title, place in places.items():
        console.print(f"{title:<9}{place}", soft_wrap=True)  # never wrapped: paths are there to be copied


def _build_workspace(comparison: Comparison, target: str, console: Console) -> None:
    from vagram_ray.report.wandb_workspace import build_workspace

    console.print(f"{'W&B':<9}{build_workspace(comparison, target, console)}", soft_wrap=True)
