"""``python -m vagram_ray``: the version, and which commands there are."""

from __future__ import annotations

import click

from vagram_ray.commands import SETTINGS, Command, version_option, version_text

COMMANDS = """
  python -m vagram_ray.sweep                    run experiments, or vagram-sweep
  python -m vagram_ray.report                   figures, tables and the answer in words, or vagram-report
  python -m vagram_ray.play                     a policy's returns and film, or vagram-play
  python -m vagram_ray.play.export              an agent as a small folder to share
  python -m vagram_ray.studies.loss_landscape   Figure 1 of the paper
  python -m vagram_ray.studies.value_error      Figure 2

Each takes --help."""


@click.command(cls=Command, context_settings=SETTINGS)
@version_option()
def main() -> None:
    """Show the version, and which commands there are."""
    click.echo(version_text())
    click.echo(COMMANDS)


if __name__ == "__main__":
    main(prog_name="python -m vagram_ray")
