"""What is printed when a sweep has ended."""

from __future__ import annotations

import shlex
from pathlib import Path

from rich.console import Console
from rich.text import Text

from vagram_ray.sweep.results import RECORDS_FOLDER, RESULTS_FILE, SWEEP_FILE
from vagram_ray.sweep.run import Outcome
from vagram_ray.sweep.storage import SweepStorage, short_path
from vagram_ray.sweep.summary import SUMMARY_CSV, SUMMARY_MARKDOWN, SUMMARY_MODULE, SweepSummary, print_summary
from vagram_ray.sweep.text import format_duration, plural


def print_closing(summary: SweepSummary, outcome: Outcome, storage: SweepStorage, console: Console) -> None:
    """Summary table, what failed, how long it took, and where everything lies."""
    console.print()
    print_summary(summary, console, failed=bool(outcome.failed))
    if outcome.interrupted:
        _print_recipe(storage, console)
    for name, path in outcome.failed.items():
        reason = last_line(path)
        console.print(Text(f"The trial {name} failed{f' ({reason})' if reason else ''}:", style="red"), soft_wrap=True)
        console.print(Text(f"  {short_path(path)}", style="red"), soft_wrap=True)
    console.print(f"Wall time: {format_duration(outcome.seconds)}")
    console.print()
    for title, place in _places(outcome, storage):
        # Never wrapped: paths and commands are there to be copied.
        console.print(Text.assemble((f"{title:<9}", "dim"), place), soft_wrap=True)


def _print_recipe(storage: SweepStorage, console: Console) -> None:
    """How an interrupted sweep goes on: lines that are there to be copied, hence never wrapped."""
    where = f"{storage.tune_path.rstrip('/')}/{storage.name}"
    console.print(Text("The sweep was interrupted. To go on from its last checkpoints, run in Python:", style="red"))
    console.print("  from ray import tune")
    console.print("  from vagram_ray.rllib import MBPO")
    console.print(f"  tune.Tuner.restore({where!r}, trainable=MBPO).fit()", soft_wrap=True)
    console.print(Text("and then, to bring results and summary up to date, in the shell:", style="red"))
    console.print(f"  {shlex.join(['python', '-m', SUMMARY_MODULE, storage.shown])}", soft_wrap=True)


def _places(outcome: Outcome, storage: SweepStorage) -> list[tuple[str, str]]:
    folder = storage.shown
    trials = f"{storage.location.rstrip('/')}/{storage.name}" if storage.is_remote else folder
    places = [
        ("summary", f"{folder}/{SUMMARY_MARKDOWN}, {SUMMARY_CSV}"),
        ("results", f"{folder}/{RESULTS_FILE} (a row per seed and epoch), {RECORDS_FOLDER}/, {SWEEP_FILE}"),
        ("trials", f"{trials}/*,seeds=*/ (checkpoints and logs)"),
    ]
    if outcome.offline_runs:
        runs = short_path(outcome.offline_runs[0].parent)
        places += [
            ("W&B", f"{plural(len(outcome.offline_runs), 'offline run')} in {runs}"),
            ("", f"to upload:    wandb sync {runs}/offline-run-*"),
            ("", f"to browse:    wandb beta leet {runs}"),
        ]
    return places


def last_line(path: str) -> str:
    """The last line of a trial's error file, which names the exception; empty if the file is not here."""
    try:
        lines = Path(path).read_text(errors="replace").split("\n")
    except OSError:
        return ""
    return next((line.strip() for line in reversed(lines) if line.strip()), "")
