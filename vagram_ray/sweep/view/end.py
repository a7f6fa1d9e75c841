"""What is printed when a sweep has ended."""

from __future__ import annotations

import math
import shlex
from pathlib import Path

from rich.console import Console
from rich.text import Text

from vagram_ray.records.folder import RECORDS_FOLDER, RESULTS_FILE, SUMMARY_CSV, SUMMARY_MARKDOWN, SWEEP_FILE
from vagram_ray.records.results import SweepResults
from vagram_ray.records.summary import print_summary
from vagram_ray.sweep.run.run import Outcome
from vagram_ray.sweep.storage.folder import SweepStorage
from vagram_ray.text import format_duration, plural, short_path


def print_closing(results: SweepResults, outcome: Outcome, storage: SweepStorage, console: Console) -> None:
    """Summary table, what failed, how long it took, and where everything lies."""
    console.print()
    print_summary(results, console, failed=bool(outcome.failed))
    for name, path in outcome.failed.items():
        reason = outcome.reasons.get(name) or last_line(path)
        console.print(Text(f"The trial {name} failed{f' ({reason})' if reason else ''}:", style="red"), soft_wrap=True)
        console.print(Text(f"  {short_path(path)}", style="red"), soft_wrap=True)
    if outcome.unwritten:
        console.print(Text(outcome.unwritten, style="red"), soft_wrap=True)
    _print_way_on(results, outcome, console)
    console.print(_wall_time(outcome))
    console.print()
    for title, place in [*_places(outcome, storage), *_next_commands(results, storage)]:
        # Never wrapped: paths and commands are there to be copied.
        console.print(Text.assemble((f"{title:<9}", "dim"), place), soft_wrap=True)


def _print_way_on(results: SweepResults, outcome: Outcome, console: Console) -> None:
    """How a sweep goes on that has not come to its end: a line that is there to be copied, hence never wrapped."""
    if not results.unfinished:
        return
    how = "The sweep was interrupted. Run" if outcome.interrupted else "Run"
    what = "to go on" if outcome.interrupted or not outcome.failed else "to try what failed once more"
    console.print(Text(f"{how} the same command again {what}:", style="red"), soft_wrap=True)
    console.print(f"  {outcome.command}", soft_wrap=True)


def _wall_time(outcome: Outcome) -> str:
    own = f"Wall time: {format_duration(outcome.seconds or outcome.total_seconds)}"
    if outcome.launches <= 1:
        return own
    total = f"{format_duration(outcome.total_seconds)} over {outcome.launches} launches"
    return f"{own}; {total}" if outcome.seconds else f"Wall time: {total}"


def _places(outcome: Outcome, storage: SweepStorage) -> list[tuple[str, str]]:
    folder = storage.shown
    trials = storage.trial_folder("*,seeds=*") if storage.is_remote else f"{folder}/*,seeds=*"
    places = [
        ("summary", f"{folder}/{SUMMARY_MARKDOWN}, {SUMMARY_CSV}"),
        ("results", f"{folder}/{RESULTS_FILE} (a row per seed and epoch), {RECORDS_FOLDER}/, {SWEEP_FILE}"),
        ("trials", f"{trials} (checkpoints and logs)"),
    ]
    if outcome.offline_runs:
        runs = short_path(outcome.offline_runs[0].parent)
        places += [
            ("W&B", f"{plural(len(outcome.offline_runs), 'offline run')} in {runs}"),
            ("", f"to upload:    wandb sync {runs}/offline-run-*"),
            ("", f"to browse:    wandb beta leet {runs}"),
        ]
    return places


def _next_commands(results: SweepResults, storage: SweepStorage) -> list[tuple[str, str]]:
    """Commands to run next: the report, and the best cell's policy, none without a return."""
    cells = [cell for cell in results.cells if math.isfinite(cell.statistics.iqm)]
    if not cells:
        return []
    best = max(cells, key=lambda cell: cell.statistics.iqm)
    choice = ["--cell", best.label] if len(results.cells) > 1 else []
    return [
        ("next", f"the answer:   {shlex.join(['python', '-m', 'vagram_ray.report', storage.shown])}"),
        ("", f"a policy:     {shlex.join(['python', '-m', 'vagram_ray.play', storage.shown, *choice])}"),
    ]


def last_line(path: str) -> str:
    """The last line of a trial's error file, which names the exception, empty if the file is not here."""
    try:
        lines = Path(path).read_text(errors="replace").split("\n")
    except OSError:
        return ""
    return next((line.strip() for line in reversed(lines) if line.strip()), "")
