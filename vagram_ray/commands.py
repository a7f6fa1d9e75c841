"""Common to the command lines of all packages: one sentence for bad input, and how output looks."""

from __future__ import annotations

import math
import os
import platform
import shlex
import sys
import tempfile
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from vagram_ray import __version__
from vagram_ray.text import reason

SETTINGS: dict[str, Any] = {"help_option_names": ["-h", "--help"], "max_content_width": 110}
"""Settings of every command's context."""
INTERRUPTED = 130
"""Exit status after Ctrl-C."""
MIN_WIDTH = 100
"""Columns of tables where the output is no terminal."""


class InputError(click.ClickException):
    """Input that cannot work: one sentence that names the value and the way out. Exit status 2."""

    exit_code = 2


class FiniteRange(click.FloatRange):
    """A number within bounds. ``nan`` and ``inf``, which Python reads as numbers, are none."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The number."""
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number.", param, ctx)
        return number


class Command(click.Command):
    """Says what is wrong with the arguments in one sentence, without the lines of usage above it, and hears Ctrl-C."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command. Ctrl-C, unless it has an answer of its own, ends it with a sentence and a status."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            click.echo("Interrupted: the command did not come to its end.", err=True)
            ctx.exit(INTERRUPTED)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the arguments.

        Raises:
            InputError: They cannot be parsed.
        """
        try:
            return super().parse_args(ctx, args)
        except click.UsageError as error:
            raise InputError(f"{error.format_message().rstrip('.')}; --help lists the options.") from error


def version_text() -> str:
    """One line: the version of this package, and of what its numbers depend on most."""
    others = ", ".join(f"{name} {_installed(name)}" for name in ("ray", "torch"))
    return f"vagram_ray {__version__} (Python {platform.python_version()}, {others})"


def _installed(distribution: str) -> str:
    """Version of a distribution, from its metadata: importing it would take seconds."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return "not installed"


def version_option() -> Callable[[Any], Any]:
    """The option ``--version`` of a command."""

    def show(context: click.Context, parameter: click.Parameter, value: bool) -> None:
        if value and not context.resilient_parsing:
            click.echo(version_text())
            context.exit()

    return click.option(
        "--version", is_flag=True, is_eager=True, expose_value=False, callback=show, help="Show the version and stop."
    )


def make_console() -> Console:
    """The console of a command, wide enough for tables where the output goes to a file or a pipe."""
    plain: dict[str, Any] = {"highlight": False, "markup": False, "emoji": False}  # labels may hold any text
    console = Console(**plain)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console = Console(**plain, width=max(MIN_WIDTH, console.width))
    return console


def first_existing(path: Path) -> Path:
    """The path itself, or the nearest of its parents that is there."""
    path = path.absolute()
    while not path.exists() and path != path.parent:
        path = path.parent
    return path


def check_output(folder: Path) -> None:
    """Refuse a folder for results that cannot be made or written, before any work is done. Leaves nothing behind.

    Raises:
        InputError: One sentence with the way out.
    """
    try:
        with tempfile.TemporaryFile(dir=first_existing(folder)):
            pass
    except OSError as error:
        raise not_writable(folder, error) from error


def not_writable(folder: Path, error: OSError) -> InputError:
    """The sentence for a folder of results that cannot be written."""
    return InputError(f"--output {str(folder)!r} cannot be written ({reason(error)}): give a folder that can.")


def exact_command(module: str) -> str:
    """The command that started this process, ready to be pasted."""
    return shlex.join(["python", "-m", module, *sys.argv[1:]])
