"""``python -m vagram_ray.sweep.summary FOLDER``: ``results.csv`` and the summaries of a sweep anew from its records.

It does what the end of a sweep does, for a sweep whose process was killed. Exit status: 0 when every seed came to its
end, 1 when some did not, 2 when there is no such sweep.
"""

from __future__ import annotations

import sys
from pathlib import Path

import click
from rich.console import Console

from vagram_ray.commands import SETTINGS, Command
from vagram_ray.records.errors import SweepError
from vagram_ray.records.results import SweepResults
from vagram_ray.records.summary import print_summary, write_summary
from vagram_ray.text import reason


@click.command(cls=Command, context_settings=SETTINGS)
@click.argument("folder", type=click.Path(path_type=Path))
def main(folder: Path) -> None:
    """Write results.csv, summary.csv and summary.md of the sweep in FOLDER anew from its records.

    Exit status: 0 when every seed came to its end, 1 when some did not, 2 when there is no such sweep.
    """
    try:
        results = SweepResults.load(folder)
    except FileNotFoundError as error:
        raise SweepError(str(error)) from error
    try:
        results.write_csv()
        write_summary(results)
    except OSError as error:
        raise SweepError(f"The summary cannot be written to {str(folder)!r} ({reason(error)}).") from error
    print_summary(results, Console(highlight=False, markup=False, emoji=False))
    sys.exit(0 if results.complete else 1)


if __name__ == "__main__":
    main(prog_name="python -m vagram_ray.sweep.summary")
