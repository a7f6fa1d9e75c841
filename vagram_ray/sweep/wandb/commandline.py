"""The command line of ``python -m vagram_ray.sweep.wandb``."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from vagram_ray.commands import SETTINGS, Command, InputError, make_console, version_option
from vagram_ray.records.errors import SweepError
from vagram_ray.records.folder import SweepFolder
from vagram_ray.sweep.wandb.mode import check_project, prepare_wandb
from vagram_ray.sweep.wandb.supervisor import Supervisor
from vagram_ray.text import short_path


@click.command(cls=Command, context_settings=SETTINGS)
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "--wandb", "mode", type=click.Choice(["online", "offline", "auto"]), default="auto", show_default=True,
    help="auto is online when you are logged in and offline otherwise.",
)  # fmt: skip
@click.option("--wandb-project", "project", metavar="[ENTITY/]PROJECT", help="Default: that of the sweep.")
@version_option()
def main(folder: Path, mode: str, project: str | None) -> None:
    """Bring Weights & Biases up to date with a sweep's FOLDER, here or on a machine that has a network.

    Exit status: 0 when W&B has everything, 1 when it lacks something, 2 for input that cannot work.
    """
    folder = folder.resolve()
    try:
        info = SweepFolder(folder, repr(short_path(folder))).read()
        recorded = info.get("wandb") or {}
        project = check_project(project or str(recorded.get("project") or "vagram_ray"))
        settled = prepare_wandb(mode, folder)
    except (SweepError, FileNotFoundError, ValueError) as error:
        raise InputError(str(error)) from error
    if settled == "disabled":
        raise InputError("W&B is disabled (WANDB_MODE or `wandb disabled`): use --wandb online or offline.")
    console = make_console()
    supervisor = Supervisor(folder, project, settled)
    supervisor.start()
    lacking = supervisor.finish(say=lambda sentence: console.print(sentence, soft_wrap=True))
    if not lacking:
        where = f"project {project}" if settled == "online" else f"offline, in {short_path(folder / 'wandb')}"
        console.print(f"W&B has everything that {short_path(folder)} holds ({where}).", soft_wrap=True)
    sys.exit(1 if lacking else 0)
