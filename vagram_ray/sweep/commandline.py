"""The command line of ``python -m vagram_ray.sweep``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource
from click.shell_completion import CompletionItem
from rich.console import Console

from vagram_ray.commands import SETTINGS, Command, FiniteRange, exact_command, make_console, version_option
from vagram_ray.sweep.launch import launch
from vagram_ray.sweep.plan.overrides import parse_assignments, parse_seeds
from vagram_ray.sweep.request import Request
from vagram_ray.sweep.spec import SweepError
from vagram_ray.sweep.storage.folder import DEFAULT_STORAGE
from vagram_ray.sweep.sweep_file import copy_sweep_file, describe_sweep_file, find_sweep_file, packaged_sweeps

NEXT_STEPS = """\
vagram-sweep runs a sweep: every combination of its axes with every seed.

  vagram-sweep --list                           the paper's experiments, which come with the package
  vagram-sweep distractors --dry-run            the plan of one: cells, trials, memory, disk, time
  vagram-sweep distractors --scale smoke        run it small (two minutes); laptop is the default, paper the full size
  vagram-sweep --copy distractors my_sweep.py   write one out, to edit
  vagram-sweep my_sweep.py                      run a file of your own
  vagram-sweep --help                           every option

Then `vagram-report results/NAME` writes figures and the answer in words, and `vagram-play results/NAME/TRIAL` shows a
policy.
"""


class SweepFile(click.ParamType):
    """An argument that names a sweep file, by its path or by the name of a packaged one."""

    name = "sweep file"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """The file's path."""
        return value if isinstance(value, Path) else find_sweep_file(value)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Names of packaged sweeps that go on like this, and then files."""
        names = [name for name in packaged_sweeps() if name.startswith(incomplete)]
        items = [CompletionItem(name, help=describe_sweep_file(packaged_sweeps()[name])) for name in names]
        return items or [CompletionItem(incomplete, type="file")]


def _seeds(context: click.Context, parameter: click.Parameter, value: str | None) -> tuple[int, ...] | None:
    return None if value is None else parse_seeds(value)


def _wandb_artifacts(context: click.Context, parameter: click.Parameter, value: str | None) -> tuple[str, ...]:
    from vagram_ray.sweep.wandb.mode import parse_artifacts

    try:
        return () if value is None else parse_artifacts(value)
    except ValueError as error:
        raise SweepError(str(error)) from error


_COUNT = click.IntRange(min=1)


@click.command(cls=Command, context_settings=SETTINGS)
@click.argument("config_file", metavar="CONFIG.py|NAME", type=SweepFile(), required=False)
@click.option("--list", "listed", is_flag=True, help="Show the packaged sweeps, and stop.")
@click.option(
    "--copy", nargs=2, type=(str, click.Path(path_type=Path)), metavar="NAME FOLDER|FILE",
    help="Write a packaged sweep file out to edit it, and stop.",
)  # fmt: skip
@click.option(
    "--scale", metavar="SCALE",
    help="A scale of the sweep file; those of the package have smoke, laptop, paper, some also workstation. "
    "The default is laptop.",
)  # fmt: skip
@click.option("--seeds", callback=_seeds, metavar="SEEDS", help="A number of seeds (8), a range (0-7) or a list (3,5).")
@click.option("--epochs", type=_COUNT, metavar="N", help="Training iterations of every trial.")
@click.option("--seeds-per-trial", type=_COUNT, metavar="N", help="Seeds trained together; chosen by default.")
@click.option(
    "--set", "assignments", multiple=True, metavar="KEY=VALUE",
    help="Change a key of MBPOConfig; KEY=grid(A,B) makes an axis of it. May be given several times.",
)  # fmt: skip
@click.option(
    "--from", "source", metavar="CHECKPOINT",
    help="Start all trials with the networks of this checkpoint, or of a trial's newest.",
)  # fmt: skip
@click.option(
    "--from-parts", "source_parts", metavar="PARTS",
    help="What to take over --from: some of actor,critics,model,normalizer,buffer; all but the last by default.",
)  # fmt: skip
@click.option("--name", metavar="NAME", help="Name of the results folder; the default is that of sweep and scale.")
@click.option("--restart", is_flag=True, help="Start anew; a sweep that is there is kept under another name.")
@click.option("--storage", default=DEFAULT_STORAGE, show_default=True, help="Directory or URI for all results.")
@click.option(
    "--address", envvar="RAY_ADDRESS", metavar="ADDRESS",
    help="Connect to this Ray (auto, HOST:PORT), or start one (local); by default the cluster that this machine is a "
    "node of, if it is one of any.",
)  # fmt: skip
@click.option("--max-concurrent", type=_COUNT, metavar="N", help="At most so many trials at a time.")
@click.option("--checkpoint-every", type=_COUNT, metavar="N", help="Epochs between checkpoints; by time by default.")
@click.option(
    "--wandb", type=click.Choice(["online", "offline", "disabled", "auto"]), default="auto", show_default=True,
    help="Weights & Biases; auto is online when you are logged in and offline otherwise.",
)  # fmt: skip
@click.option(
    "--wandb-project", default="vagram_ray", show_default=True, metavar="[ENTITY/]PROJECT",
    help="Project in Weights & Biases.",
)  # fmt: skip
@click.option(
    "--wandb-artifacts", callback=_wandb_artifacts, metavar="KINDS",
    help="Hand these to Weights & Biases at the end: some of figures,video,checkpoint, or all.",
)  # fmt: skip
@click.option(
    "--log", type=click.Choice(["tensorboard", "csv", "json"]), multiple=True,
    help="Write these files of each trial too. May be given several times.",
)  # fmt: skip
@click.option("--dry-run", is_flag=True, help="Print the plan and stop.")
@click.option("--gpus", type=_COUNT, metavar="N", help="Plan for N GPUs that are not there yet.")
@click.option(
    "--gpu-memory", type=FiniteRange(min=0, min_open=True), default=80.0, show_default=True, metavar="GIB",
    help="Memory of each of the --gpus.",
)  # fmt: skip
@version_option()
@click.pass_context
def main(context: click.Context, /, listed: bool, copy: tuple[str, Path] | None, **options: Any) -> None:
    """Run the sweep that CONFIG.py defines, or a packaged one by its NAME; the same command again goes on with it.

    Exit status: 0 when every seed came to its end, 1 when some did not, 2 for input that cannot work.
    """
    console = make_console()
    if listed:
        _list_sweeps(console)
    elif copy is not None:
        target = copy_sweep_file(*copy)
        console.print(f"Wrote {target}. Edit it, and run it with: vagram-sweep {target}", soft_wrap=True)
    elif options["config_file"] is not None:
        assignments = parse_assignments(options.pop("assignments"))
        request = Request(**options, assignments=assignments, command=exact_command("vagram_ray.sweep"))
        sys.exit(launch(request, console))
    elif any(context.get_parameter_source(name) is ParameterSource.COMMANDLINE for name in options):
        raise SweepError("CONFIG.py is missing: give a sweep file, or the name of a packaged one (--list shows them).")
    else:
        console.print(NEXT_STEPS, soft_wrap=True, end="")


def _list_sweeps(console: Console) -> None:
    sweeps = packaged_sweeps()
    width = max(map(len, sweeps), default=0)
    for name, file in sweeps.items():
        console.print(f"{name:{width}}  {describe_sweep_file(file)}", soft_wrap=True)
